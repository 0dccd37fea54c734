package suite

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/onsi/gomega"

	"tureen/conformance/media"
	"tureen/conformance/wire"
)

const second = time.Second

// ingest declares the checks of SPEC.md's chapter "Ingest".
func ingest(check declare) {
	check("ING-1", "a publisher is accepted by PUT", func(t *Trial) { accepted(t, first(second)) })
	check("ING-1", "a publisher is accepted by POST", func(t *Trial) { accepted(t, first(second), by("POST")) })

	check("ING-2", "chunks of one byte are accepted", func(t *Trial) {
		accepted(t, first(second), chunks(func() int { return 1 }))
	})
	check("ING-2", "chunks that know nothing of frames, with extensions and trailers, are accepted", func(t *Trial) {
		accepted(t, first(second), chunks(func() int { return 1 + t.Rand.IntN(300) }), func(p *Publisher) {
			p.tail, p.trailer = `;name="va;lue";x`, "X-Checksum: none\r\n"
		})
	})
	check("ING-2", "chunks that arrive in pieces of a few bytes are accepted", func(t *Trial) { accepted(t, first(second), torn) })
	check("ING-2", "a body of more than a megabyte in one chunk is accepted", func(t *Trial) {
		accepted(t, media.Joined(media.Padded(first(second), 20_000)))
	})

	check("ING-3", "a body of fixed length is accepted", func(t *Trial) { accepted(t, first(second), fixed) })
	check("ING-3", "a body of fixed length is accepted by POST", func(t *Trial) { accepted(t, first(second), fixed, by("POST")) })

	check("ING-4", "an empty chunked body is refused with 400", func(t *Trial) { refusesEmpty(t, "Transfer-Encoding: chunked", "0\r\n\r\n") })
	check("ING-4", "a body of Content-Length 0 is refused with 400", func(t *Trial) { refusesEmpty(t, "Content-Length: 0", "") })

	check("ING-5", "a refused publisher that asks gets its status and no 100 Continue", refusedAsking)
	check("ING-5", "an accepted publisher that asks gets 100 Continue", acceptedAsking)
	check("ING-5", "a refused publisher that stalls can read its status", func(t *Trial) { refusedEarly(t, nil) })
	check("ING-5", "a refused publisher that sends slowly can read its status", func(t *Trial) {
		refusedEarly(t, func(c *wire.Conn) error {
			time.Sleep(50 * time.Millisecond) // the pace of a thin uplink: 20 KB/s
			return c.Chunk(make([]byte, 1000), "")
		})
	})
	check("ING-5", "a refused publisher that floods can read its status", func(t *Trial) {
		block := make([]byte, 64<<10)
		refusedEarly(t, func(c *wire.Conn) error { return c.Chunk(block, "") })
	})
	check("ING-5", "the status of a body that turns out bad can be read while it goes on", refusedMeanwhile)

	for _, declared := range []string{"video/mp4", "application/x-www-form-urlencoded", "text/plain; charset=utf-8", "garbage", ""} {
		check("ING-6", fmt.Sprintf("WebM is recognised under the Content-Type %q", declared), func(t *Trial) {
			accepted(t, first(second), func(p *Publisher) {
				p.fields = nil
				if declared != "" {
					p.fields = []string{"Content-Type: " + declared}
				}
			})
		})
	}

	for _, coding := range codings {
		check("ING-7", "WebM is understood with "+coding.what, func(t *Trial) { understood(t, coding) })
	}
	check("ING-7", "encrypted tracks are refused with 415", func(t *Trial) {
		p := t.Publish(t.ID(), fixture("ebml-encrypted"), flood)
		t.Expect(p.Answer(5*second).Status).To(gomega.Equal(415), "the status")
	})
	check("ING-7", "a second EBML header is taken as the publisher's return", secondDocument, feature("resume"))

	check("ING-9", "a second publisher gets 409 with Retry-After, and the first goes on untouched", conflict)
	check("ING-9", "a publisher that fell silent gives way and gets 408", givesWay, limit(30*second))
	check("ING-9", "a publisher that was silent for a second doesn't give way", holdsOn)

	check("ING-10", "the summary tells what was taken", summarised)
	check("ING-10", "a body that ends clean in the middle of a frame is truncated, and that frame dropped", truncated)
	check("ING-10", "the 200 comes when every frame was handed on", handedOn)

	check("ING-11", "a short text is refused with 415", func(t *Trial) {
		unrecognised(t, media.Raw("a text", []byte(strings.Repeat("This is no media. ", 40))))
	})
	check("ING-11", "random bytes are refused with 415", func(t *Trial) { unrecognised(t, fixture("bad-random")) })
	check("ING-11", "random bytes without end are refused with 415 within 5 s of the first 1 MiB", endlessNoise)

	check("ING-12", "a body that breaks off inside its headers is refused with 400", func(t *Trial) {
		p := t.Publish(t.ID(), fixture("bad-cut-in-header"))
		t.Expect(p.Answer(5*second).Status).To(gomega.Equal(400), "the status")
	})
	check("ING-12", "garbage is answered with 400, and the frames before it reach the viewers", garbage)

	check("ING-13", "a publisher that sends nothing for the idle time gets 408", idle, limit(40*second))
	check("ING-13", "a publisher that sends something within the idle time goes on", notIdle, limit(40*second))

	check("ING-14", "a file that is sent at once plays in real time", paced)
	check("ING-14", "a publisher that catches up after a stall isn't held back", catchesUp)
	check("ING-14", "a jump ahead in the timestamps is closed", func(t *Trial) { jumps(t, 5*second) })
	check("ING-14", "a step back in the timestamps is closed", func(t *Trial) { jumps(t, -700*time.Millisecond) })

	check("ING-15", "after a reset in the middle of a body the id can be published to within a second", resetInside)

	check("ING-16", "parts that follow one another are one body", parts)
	check("ING-16", "a gap or an overlap between parts gets 416", func(t *Trial) { misplaced(t) })
	check("ING-16", "a first part that isn't continued ends the stream within 2 s", unmarked)
	check("ING-16", "a malformed Content-Range is refused with 400", malformedRange)
}

// accepted: the publisher gets 200 and a summary, a viewer gets the frames.
func accepted(t *Trial, s *media.Source, modes ...mode) {
	summary, view := t.Whole(s, modes...)
	t.Expect(summary.Bytes).NotTo(gomega.BeNil(), "bytes in the summary")
	t.Expect(*summary.Bytes).To(gomega.Equal(int64(s.Size())), "bytes of the body that were taken")
	t.Comes(view, s)
}

func refusesEmpty(t *Trial, framing, body string) {
	for _, method := range []string{"PUT", "POST"} {
		a := t.Exchange(wire.Request{Method: method, Path: path(t.ID()), Fields: []string{framing}}, []byte(body))
		t.Expect(a.Status).To(gomega.Equal(400), "the status of %s with %s and nothing in it", method, framing)
	}
}

// refusal is a request that is refused before its body.
type refusal struct {
	method, path string
	want         int
}

// refusals are requests that are refused, of several kinds. The conflict's publisher goes on for as long as the check.
func refusals(t *Trial) []refusal {
	taken := t.Publish(t.ID(), first(9*second))
	t.Join(taken.ID).Watching(tolerance)
	return []refusal{
		{"PUT", path(taken.ID), 409},
		{"POST", path(taken.ID), 409},
		{"PUT", path(t.ID() + "%2F"), 400},
		{"DELETE", path(t.ID()), 405},
		{"PUT", "/nothing/" + t.ID(), 404},
	}
}

func refusedAsking(t *Trial) {
	for _, r := range refusals(t) {
		c := t.Dial()
		t.Given.Expect(c.Send(wire.Request{
			Method: r.method, Path: r.path, Fields: []string{"Transfer-Encoding: chunked", "Expect: 100-continue"},
		})).To(gomega.Succeed())
		c.SetReadDeadline(time.Now().Add(2 * second))
		a, err := c.ReadResponse()
		t.Expect(err).NotTo(gomega.HaveOccurred(), "the first answer to %s %s with Expect: 100-continue", r.method, r.path)
		t.Expect(a.Status).To(gomega.Equal(r.want), "the first status of %s %s with Expect: 100-continue", r.method, r.path)
		c.Close()
	}
}

func acceptedAsking(t *Trial) {
	s := first(second)
	p := t.Publish(t.ID(), s, expecting)
	p.await(tolerance, "100 Continue", func() bool { return len(p.interim) > 0 || p.answered != nil })
	t.Expect(p.Interim()).To(gomega.Equal([]int{100}), "interim answers to a publisher with Expect: 100-continue")
	p.Accepted(s.Duration + tolerance)
}

// refusedEarly: whatever a refused publisher sends, it gets its status within 1 s and the connection's end within 2 s.
func refusedEarly(t *Trial, feed func(*wire.Conn) error) {
	for _, r := range refusals(t) {
		c := t.Dial()
		t.Given.Expect(c.Send(wire.Request{Method: r.method, Path: r.path, Fields: []string{"Transfer-Encoding: chunked"}})).To(gomega.Succeed())
		t.readsRefusal(c, r, second, feed)
		c.Close()
	}
}

// readsRefusal reads a final status that comes before the body's end, and awaits the connection's end.
func (t *Trial) readsRefusal(c *wire.Conn, r refusal, bound time.Duration, feed func(*wire.Conn) error) {
	asked := time.Now()
	if feed != nil {
		go func() {
			for feed(c) == nil { // until the connection ends, which it does with the check at the latest
			}
		}()
	}
	c.SetReadDeadline(asked.Add(bound + 2*second))
	a, err := c.ReadResponse()
	t.Expect(err).NotTo(gomega.HaveOccurred(), "the status of %s %s while its body is under way", r.method, r.path)
	t.Expect(a.Status).To(gomega.Equal(r.want), "the status of %s %s while its body is under way", r.method, r.path)
	t.InTime(a.At.Sub(asked), bound, fmt.Sprintf("the status of %s %s while its body was under way", r.method, r.path))
	c.SetReadDeadline(a.At.Add(4 * second))
	closed, _ := c.AwaitClose() // a reset after the status was read is as good
	t.InTime(closed.Sub(a.At), 2*second, fmt.Sprintf("closing the connection after the status of %s %s", r.method, r.path))
}

// refusedMeanwhile: a body is recognised as nothing while it goes on.
func refusedMeanwhile(t *Trial) {
	c := t.Dial()
	r := refusal{"PUT", path(t.ID()), 415}
	t.Given.Expect(c.Send(wire.Request{Method: r.method, Path: r.path, Fields: []string{"Transfer-Encoding: chunked"}})).To(gomega.Succeed())
	noise := make([]byte, 100_000)
	for i := range noise {
		noise[i] = byte(t.Rand.Uint32())
	}
	t.readsRefusal(c, r, 7*second, func(c *wire.Conn) error {
		time.Sleep(20 * time.Millisecond) // 5 MB/s
		return c.Chunk(noise, "")
	})
}

// coding is a way to write the same frames.
type coding struct {
	clip, what string
}

var codings = []coding{
	{"ebml-known-sizes", "known sizes of Segment and Clusters"},
	{"ebml-unknown-1", "unknown sizes coded in 1 byte"},
	{"ebml-unknown-2", "unknown sizes coded in 2 bytes"},
	{"ebml-unknown-3", "unknown sizes coded in 3 bytes"},
	{"ebml-unknown-4", "unknown sizes coded in 4 bytes"},
	{"ebml-unknown-5", "unknown sizes coded in 5 bytes"},
	{"ebml-unknown-6", "unknown sizes coded in 6 bytes"},
	{"ebml-unknown-7", "unknown sizes coded in 7 bytes"},
	{"ebml-unknown-8", "unknown sizes coded in 8 bytes"},
	{"ebml-unknown-sizes", "Clusters of known and unknown size in turn"},
	{"ebml-long-sizes", "every size coded in 8 bytes"},
	{"ebml-lacing-xiph", "Xiph lacing"},
	{"ebml-lacing-ebml", "EBML lacing"},
	{"ebml-lacing-fixed", "fixed-size lacing"},
	{"ebml-blockgroups", "BlockGroups"},
	{"ebml-blockadditions", "BlockAdditions"},
	{"ebml-crc32-void-unknown", "CRC-32, Void and unknown elements everywhere"},
	{"ebml-header-stripping", "header stripping"},
	{"ebml-zlib", "zlib compression"},
	{"ebml-first-timestamp-10h", "timestamps that begin at 10 hours"},
	{"ebml-scale", "timestamps in units of 100 µs"},
}

func understood(t *Trial, c coding) {
	s := fixture(c.clip)
	_, view := t.Whole(s, flood) // so that order is no question of when something arrives
	if err := whole(view, s, unannounced(s)); err != nil {
		t.Fail("%s (fixture %s): %v%s", c.what, c.clip, err, faults(view, ""))
	}
}

// secondDocument: the viewer goes on in the same body with the second document's frames.
func secondDocument(t *Trial) {
	s := fixture("ebml-two-documents")
	_, view := t.Whole(s)
	t.Keeps(view, "WAT-2")
	for _, kind := range []string{video, audio} {
		if _, err := matched(view, s, kind); err != nil {
			t.Fail("over two documents in one body: %v", err)
		}
		t.Expect(len(view.Of(kind))).To(gomega.BeNumerically(">=", len(s.Of(kind))-4), "frames of %s over both documents", kind)
	}
}

// conflict: the second is refused, the first's viewer gets every frame.
func conflict(t *Trial) {
	s := first(3 * second)
	p, v := t.Live(s)
	for _, method := range []string{"PUT", "POST"} {
		other := t.Publish(p.ID, first(second), by(method))
		a := other.Answer(tolerance)
		t.Expect(a.Status).To(gomega.Equal(409), "the status of a second publisher by %s", method)
		t.Expect(a.Header.Get("Retry-After")).To(gomega.MatchRegexp(`^[0-9]+$|GMT$`), "Retry-After of the 409")
	}
	p.Accepted(s.Duration + tolerance)
	view := v.AwaitEnd(tolerance)
	if err := whole(view, s, 0); err != nil {
		t.Fail("the first publisher's viewer was disturbed: %v", err)
	}
}

// silence is how long a publisher may send nothing before it gives way.
const silence = 2 * second

func givesWay(t *Trial) {
	if t.Times.Idle < silence+second {
		t.Skip("the target's idle time of %v ends a silent publisher before it can give way; start it with 4s or more", t.Times.Idle)
	}
	p, _ := t.Live(first(5*second), until(second))
	p.AwaitSent(second)
	t.After(silence + 300*time.Millisecond)
	s := first(second)
	next := t.Publish(p.ID, s)
	t.Expect(p.Answer(tolerance).Status).To(gomega.Equal(408), "the status of the publisher that fell silent")
	next.Accepted(s.Duration + tolerance)
}

func holdsOn(t *Trial) {
	p, _ := t.Live(first(5*second), until(second))
	p.AwaitSent(second)
	t.After(second)
	a := t.Publish(p.ID, first(second)).Answer(tolerance)
	t.Expect(a.Status).To(gomega.Equal(409), "the status of a second publisher when the first has been silent for 1 s")
	p.Finish()
	p.Accepted(tolerance)
}

func summarised(t *Trial) {
	s := first(2 * second)
	p := t.Publish(t.ID(), s, chunks(func() int { return 100 }))
	sum := p.Accepted(s.Duration + tolerance)
	for name, there := range map[string]bool{
		"sessionid": sum.SessionID != nil, "bytes": sum.Bytes != nil, "duration_ms": sum.DurationMS != nil,
		"truncated": sum.Truncated != nil, "tracks": len(sum.Tracks) > 0,
	} {
		t.Expect(there).To(gomega.BeTrue(), "the summary has %s", name)
	}
	t.Expect(*sum.SessionID).To(gomega.Equal(p.ID), "sessionid")
	t.Expect(*sum.Bytes).To(gomega.Equal(int64(s.Size())), "bytes, without the transfer coding")
	t.Expect(*sum.DurationMS).To(gomega.BeNumerically("~", s.Duration.Milliseconds(), 60), "duration_ms")
	t.Expect(*sum.Truncated).To(gomega.BeFalse(), "truncated")
	kinds := []string{}
	for _, track := range sum.Tracks {
		kinds = append(kinds, track.Kind+" "+track.InputCodec+" "+track.OutputCodec)
	}
	t.Expect(kinds).To(gomega.ConsistOf("video vp8 vp8", "audio vorbis vorbis"), "tracks, by kind, input_codec and output_codec")
}

func truncated(t *Trial) {
	s := fixture("bad-cut-in-block")
	sum, view := t.Whole(s)
	t.Expect(sum.Truncated).To(gomega.HaveValue(gomega.BeTrue()), "truncated")
	if err := whole(view, s, 0); err != nil {
		t.Fail("the frames before the cut: %v", err)
	}
}

// handedOn: when the publisher is told, the viewer has, or is about to get, the last frame.
func handedOn(t *Trial) {
	s := first(3 * second)
	p, v := t.Live(s, flood)
	a := p.Answer(s.Duration + tolerance)
	view := v.AwaitEnd(tolerance)
	t.Expect(a.Status).To(gomega.Equal(200), "the status")
	t.Comes(view, s)
	last := view.Blocks[len(view.Blocks)-1]
	t.InTime(last.Arrived.Sub(a.At), 200*time.Millisecond, "the last frame's arrival after the publisher's 200")
}

func unrecognised(t *Trial, s *media.Source) {
	p := t.Publish(t.ID(), s, flood)
	a := p.Answer(7 * second)
	t.Expect(a.Status).To(gomega.Equal(415), "the status")
	t.InTime(a.At.Sub(p.AwaitBegun()), 5*second, "the 415 after the body's end")
}

// AwaitBegun is when the first piece was sent.
func (p *Publisher) AwaitBegun() time.Time {
	p.await(tolerance, "the first piece's way out", func() bool { return len(p.sent) > 0 || p.written != nil })
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.sent) == 0 {
		return time.Now()
	}
	return p.sent[0]
}

func endlessNoise(t *Trial) {
	c := t.Dial()
	t.Given.Expect(c.Send(wire.Request{Method: "PUT", Path: path(t.ID()), Fields: []string{"Transfer-Encoding: chunked"}})).To(gomega.Succeed())
	noise := make([]byte, 64<<10)
	for i := range noise {
		noise[i] = byte(t.Rand.Uint32())
	}
	asked := time.Now()
	go func() {
		for c.Chunk(noise, "") == nil {
			time.Sleep(30 * time.Millisecond) // 2 MB/s
		}
	}()
	c.SetReadDeadline(asked.Add(8 * second))
	a, err := c.ReadResponse()
	t.Expect(err).NotTo(gomega.HaveOccurred(), "the status of random bytes without end")
	t.Expect(a.Status).To(gomega.Equal(415), "the status")
	t.InTime(a.At.Sub(asked), 5*second+second/2, "the 415 after the first 1 MiB, which took 0.5 s,")
}

func garbage(t *Trial) {
	s := fixture("bad-garbage-after-3s")
	p, v := t.Live(s)
	a := p.Answer(s.Duration + 5*second)
	t.Expect(a.Status).To(gomega.Equal(400), "the status of a body that turns to garbage after 3 s")
	view, _ := v.wait(tolerance, allOf(s))
	if err := whole(view, s, 0); err != nil {
		t.Fail("the frames before the garbage: %v", err)
	}
}

func idle(t *Trial) {
	p, _ := t.Live(first(3*second), until(second))
	quiet := p.AwaitSent(second)
	a := p.Answer(t.Times.Idle + tolerance)
	t.Expect(a.Status).To(gomega.Equal(408), "the status of a publisher that sends nothing")
	took := a.At.Sub(quiet)
	t.Expect(took).To(gomega.BeNumerically(">=", t.Times.Idle-100*time.Millisecond), "the silence after which 408 came, with an idle time of %v", t.Times.Idle)
	t.InTime(took, t.Times.Idle+second, "the 408 of a silent publisher")
}

func notIdle(t *Trial) {
	s := first(3 * second)
	p, v := t.Live(s, until(second))
	p.AwaitSent(second)
	for i := range 2 { // together longer than the idle time, each for itself not
		t.After(t.Times.Idle * 6 / 10)
		p.Continue(second+time.Duration(i+1)*second/2, true)
	}
	p.AwaitSent(2 * second)
	p.Finish()
	p.Accepted(tolerance)
	t.Expect(len(v.AwaitEnd(tolerance).Of(video))).To(gomega.BeNumerically(">=", 58), "pictures of 2 s of media, sent with pauses")
}

// paced: nothing comes more than 1 s and 2 ‰ early.
func paced(t *Trial) {
	s := media.Fixture("webm-load")
	p, v := t.Live(s, flood)
	began := time.Now()
	a := p.Answer(s.Duration + tolerance)
	view := v.AwaitEnd(tolerance)
	t.Expect(a.Status).To(gomega.Equal(200), "the status")
	t.Comes(view, s)
	zero, worst := view.Blocks[0], time.Duration(0)
	what := ""
	for _, b := range view.Blocks {
		at, due := b.Arrived.Sub(zero.Arrived), b.Time-zero.Time
		if early := due - at - at/500; early > worst {
			worst = early
			what = fmt.Sprintf("the %s block of %v came %v after the first one, which is %v early", b.Kind, due, at, early)
		}
	}
	if worst > second && worst < second+second/4 { // which is what a first frame can be late on a busy machine
		t.FailUnlessHeld(jitter, "%s", what)
	}
	if worst > second {
		t.Fail("%s", what)
	}
	t.Expect(a.At.Sub(began)).To(gomega.BeNumerically(">=", s.Duration-second), "the time to the 200 for %v of media", s.Duration)
	t.InTime(a.At.Sub(began), s.Duration+second, fmt.Sprintf("the 200 for %v of media", s.Duration))
}

// stall is longer than any allowance that could hide that a target holds back what is overdue.
const stall = 1800 * time.Millisecond

func catchesUp(t *Trial) {
	s := first(5 * second)
	p, v := t.Live(s, until(second))
	p.AwaitSent(second)
	t.After(stall)
	p.Continue(forever, false)
	p.Accepted(s.Duration + tolerance)
	view := v.AwaitEnd(tolerance)
	m, err := matched(view, s, video)
	t.Expect(err).NotTo(gomega.HaveOccurred(), "the viewer's pictures")
	for i, lag := range lags(m, p.SentAt()) {
		t.InTime(lag, stall/2, fmt.Sprintf("picture %d, sent in haste after a stall of %v,", m.first+i, stall))
	}
}

// maxFrame is more than one frame's length of the plain clip and less than two jumps could hide.
const maxFrame = 80 * time.Millisecond

func jumps(t *Trial, by time.Duration) {
	s := media.Jump(first(3*second), 3*second/2, by)
	_, view := t.Whole(s)
	t.Keeps(view, "WAT-5")
	for _, kind := range []string{video, audio} {
		if _, err := matched(view, s, kind); err != nil {
			t.Fail("over a jump of %v: %v", by, err)
		}
		t.Expect(len(view.Of(kind))).To(gomega.BeNumerically(">=", len(s.Of(kind))-2), "frames of %s over a jump of %v", kind, by)
		blocks := view.Of(kind)
		for i := 1; i < len(blocks); i++ {
			if gap := blocks[i].Time - blocks[i-1].Time; gap > maxFrame {
				t.Fail("over a jump of %v, %s frame %d follows the one before it by %v in the output", by, kind, i, gap)
			}
		}
	}
}

func resetInside(t *Trial) {
	p, _ := t.Live(first(4*second), until(second))
	p.AwaitSent(second)
	p.Break()
	s := first(second)
	t.Return(p.ID, s).Accepted(s.Duration + tolerance)
}

// part sends one part of a body and returns the answer. Content range may be empty.
func (t *Trial) part(c *wire.Conn, id, contentRange string, data []byte) Answered {
	fields := []string{"Content-Type: video/webm", fmt.Sprintf("Content-Length: %d", len(data))}
	if contentRange != "" {
		fields = append(fields, "Content-Range: "+contentRange)
	}
	t.Given.Expect(c.Send(wire.Request{Method: "PUT", Path: path(id), Fields: fields, Body: "part"})).To(gomega.Succeed())
	t.Given.Expect(c.Write(data)).To(gomega.Succeed())
	c.SetReadDeadline(time.Now().Add(2 * tolerance))
	a, err := c.ReadResponse()
	t.Expect(err).NotTo(gomega.HaveOccurred(), "the answer to a part")
	body := c.Body(a, "PUT")
	text := make([]byte, 4096)
	n := 0
	for err == nil && n < len(text) {
		var k int
		k, err = body.Read(text[n:])
		n += k
	}
	return Answered{Response: a, Body: text[:n]}
}

// parts: as souphttpclientsink sends them; the first holds the headers.
func parts(t *Trial) {
	s := first(2 * second)
	id, sent := t.ID(), 0
	c := t.Dial()
	a := t.part(c, id, "", s.Pieces[0].Data)
	t.Expect(a.Status).To(gomega.Equal(200), "the status of the first part")
	sent += len(s.Pieces[0].Data)
	v := t.Watch(id)
	began := time.Now()
	for i, piece := range s.Pieces[1:] {
		if wait := time.Until(began.Add(piece.Due)); wait > 0 {
			t.After(wait)
		}
		total := "*"
		if i == len(s.Pieces)-2 {
			total = fmt.Sprint(s.Size())
		}
		a := t.part(c, id, fmt.Sprintf("bytes %d-%d/%s", sent, sent+len(piece.Data)-1, total), piece.Data)
		t.Expect(a.Status).To(gomega.Equal(200), "the status of part %d; it said %s", i+2, a.Body)
		sent += len(piece.Data)
	}
	view := v.AwaitEnd(2 * second)
	t.Expect(view.Clean()).To(gomega.BeTrue(), "the body ends cleanly after the part that states the total: %v", view.Err)
	if err := whole(view, s, 0); err != nil {
		t.Fail("a body in parts: %v", err)
	}
}

func misplaced(t *Trial) {
	s := first(2 * second)
	id, c := t.ID(), t.Dial()
	head := s.Pieces[0].Data
	t.Expect(t.part(c, id, "", head).Status).To(gomega.Equal(200), "the status of the first part")
	data := s.Pieces[1].Data
	for what, at := range map[string]int{"a gap": len(head) + 1, "an overlap": len(head) - 1} {
		c := t.Dial()
		a := t.part(c, id, fmt.Sprintf("bytes %d-%d/*", at, at+len(data)-1), data)
		t.Expect(a.Status).To(gomega.Equal(416), "the status of a part after %s", what)
	}
	a := t.part(t.Dial(), id, fmt.Sprintf("bytes %d-%d/%d", len(head), len(head)+len(data)-1, len(head)+len(data)), data)
	t.Expect(a.Status).To(gomega.Equal(200), "the status of the right part after wrong ones")
}

func unmarked(t *Trial) {
	s := first(second)
	p, v := t.Live(s, fixed)
	a := p.Answer(s.Duration + tolerance)
	t.Expect(a.Status).To(gomega.Equal(200), "the status")
	view := v.AwaitEnd(2*second + tolerance)
	t.Expect(view.Clean()).To(gomega.BeTrue(), "the body ends cleanly: %v", view.Err)
	t.InTime(view.Ended.Sub(a.At), 2*second, "the end of the viewer's body after a first part that wasn't continued")
}

func malformedRange(t *Trial) {
	data := first(second / 2).Bytes()
	for _, r := range []string{"bytes 10-5/*", "bytes x-y/*", "bytes 0-9/5", "nonsense", "bytes 5-/*", "bytes */10"} {
		a := t.Exchange(wire.Request{
			Method: "PUT", Path: path(t.ID()), Fields: []string{fmt.Sprintf("Content-Length: %d", len(data)), "Content-Range: " + r},
		}, data)
		t.Expect(a.Status).To(gomega.Equal(http.StatusBadRequest), "the status of a PUT with Content-Range: %s", r)
	}
}
