package suite

import (
	"fmt"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/onsi/gomega"

	"tureen/conformance/media"
	"tureen/conformance/webm"
	"tureen/conformance/wire"
)

// watching declares the checks of SPEC.md's chapter "Watching".
func watching(check declare) {
	check("WAT-1", "a viewer gets 200, video/webm, no-store and no length, for as long as the stream lasts", func(t *Trial) {
		viewersAnswer(t, first(2*second), "video/webm")
	})
	check("WAT-1", "a stream without video is audio/webm", func(t *Trial) {
		viewersAnswer(t, media.Without(first(2*second), video), "audio/webm")
	})
	check("WAT-1", "to an HTTP/1.0 request the body lasts until the connection's end, without chunks", oldViewer)

	for _, s := range []struct {
		what   string
		source func() *media.Source
	}{
		{"video and audio", func() *media.Source { return first(2 * second) }},
		{"video alone", func() *media.Source { return media.Without(first(2*second), audio) }},
		{"audio alone", func() *media.Source { return media.Without(first(2*second), video) }},
		{"laced input", func() *media.Source { return fixture("ebml-lacing-xiph") }},
		{"Matroska input", func() *media.Source { return media.Fixture("mkv-two-audio-subtitles") }},
	} {
		check("WAT-2", "the body of "+s.what+" is live WebM", func(t *Trial) {
			source := s.source()
			_, view := t.Whole(source)
			t.Comes(view, source)
			t.Keeps(view, "WAT-2")
		})
	}
	check("WAT-2", "the body of a viewer that joins late is live WebM", func(t *Trial) {
		p, _ := t.Live(first(3 * second))
		p.AwaitSent(3 * second / 2)
		view := t.Watch(p.ID).AwaitEnd(3 * second)
		t.Expect(len(view.Of(video))).To(gomega.BeNumerically(">=", 30), "pictures of the second half; %s", view.describe())
		t.Keeps(view, "WAT-2")
	})

	check("WAT-3", "whenever a viewer joins, its first picture is a key frame and no sound before it is older", startsAtKey)
	check("WAT-4", "whenever a viewer joins, it starts at the newest key frame or a later one", startsAtNewest)
	check("WAT-4", "a viewer isn't started at a key frame that lies more than 10 s back", startsAfterOldKey, limit(40*second))

	check("WAT-5", "sound that steps back by up to 100 ms is put in order", func(t *Trial) { ordered(t, "ebml-steps-back") })
	check("WAT-5", "tracks that lie 300 ms apart are put in order", func(t *Trial) { ordered(t, "ebml-tracks-apart") })
	check("WAT-5", "laced packets go out between the pictures that follow, each at its own time", func(t *Trial) { ordered(t, "ebml-lacing-ebml") })
	check("WAT-5", "a single frame that is more than 500 ms late is dropped", dropsLate)

	check("WAT-6", "headers and the first key frame come within 250 ms", func(t *Trial) { joins(t, 250*time.Millisecond) }, should)
	check("WAT-6", "headers and the first key frame come within the time to the next key frame", func(t *Trial) { joins(t, second+second/5) })

	check("WAT-7", "viewers that watch at the same time get the same frames", sameFrames)
	check("WAT-8", "viewers that come and go disturb neither the publisher nor who stays", comeAndGo)
	check("WAT-9", "a viewer that stops reading delays nobody, and gets little that is older than its budget", slowViewer, limit(60*second))

	check("WAT-10", "a session that is absent is 404", absent)
	check("WAT-10", "a viewer of a taken session is held and gets the stream from its first key frame", heldUntilLive)
	check("WAT-10", "a viewer of a session that doesn't become live gets 404 within 5 s", heldInVain)
	check("WAT-10", "a viewer of a waiting session gets its 200 and waits", watchesWaiting, feature("resume"))
	check("WAT-10", "HEAD of a taken session isn't held", headNotHeld)
	check("WAT-10", "Prefer: wait holds a viewer until a stream begins, and is applied", prefersWaiting, feature("wait"))
	check("WAT-10", "Prefer: wait=1 holds a viewer for a second, then 404", waitsInVain, feature("wait"))
	check("WAT-10", "a malformed Prefer: wait is ignored", waitsNot, feature("wait"))

	check("WAT-11", "when a publisher ends clean, its viewers' bodies end cleanly within 1 s", func(t *Trial) { endsCleanly(t) })
	check("WAT-11", "when a file that was sent at once has played, its viewers' bodies end cleanly within 1 s", func(t *Trial) { endsCleanly(t, flood) })

	check("WAT-12", "HEAD is answered like GET, without a body", headLikeGet)
	check("WAT-12", "Range is ignored", rangeIgnored)

	check("WAT-13", "answers below /stream/ are for pages from everywhere, errors too", crossOrigin)
	check("WAT-13", "the CORS preflight allows publishing, Prefer and Content-Range", preflight)
}

// mediaType is a Content-Type without its parameters.
func mediaType(h http.Header) string {
	name, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		return h.Get("Content-Type")
	}
	return name
}

func viewersAnswer(t *Trial, s *media.Source, contentType string) {
	p, v := t.Begin(s)
	a := v.Answer(tolerance)
	t.Expect(a.Status).To(gomega.Equal(http.StatusOK), "the status")
	t.Expect(mediaType(a.Header)).To(gomega.Equal(contentType), "Content-Type")
	t.Expect(strings.ToLower(a.Header.Get("Cache-Control"))).To(gomega.ContainSubstring("no-store"), "Cache-Control")
	t.Expect(a.Header.Values("Content-Length")).To(gomega.BeEmpty(), "Content-Length")
	p.AwaitSent(s.Duration - second/2)
	t.Expect(v.Now().Over).To(gomega.BeFalse(), "the body has ended while the stream is live")
	t.Comes(v.AwaitEnd(2*tolerance), s)
}

func oldViewer(t *Trial) {
	s := first(2 * second)
	p := t.Publish(t.ID(), s)
	t.Join(p.ID).Watching(tolerance)
	v := t.Watch(p.ID, speaking("HTTP/1.0"))
	a := v.Answer(tolerance)
	t.Expect(a.Status).To(gomega.Equal(http.StatusOK), "the status")
	t.Expect(a.Header.Get("Transfer-Encoding")).To(gomega.BeEmpty(), "Transfer-Encoding of an answer to HTTP/1.0")
	t.Expect(v.Framing()).To(gomega.Equal("close"), "what ends the body")
	view := v.AwaitEnd(2 * tolerance)
	t.Expect(view.Clean()).To(gomega.BeTrue(), "the connection is closed in order: %v", view.Err)
	t.Expect(len(view.Of(video))).To(gomega.BeNumerically(">=", 30), "pictures; %s%s", view.describe(), faults(view, ""))
}

// moments are when viewers join a stream with a key frame each second: right after one, in the middle, and shortly before the
// next.
var moments = []time.Duration{
	1040 * time.Millisecond, 1500 * time.Millisecond, 1850 * time.Millisecond, 1950 * time.Millisecond, 2100 * time.Millisecond,
	2900 * time.Millisecond,
}

// joinAt has a viewer join at each of the moments.
func joinAt(t *Trial) (*Publisher, []*Viewer) {
	p, _ := t.Live(first(4 * second))
	var viewers []*Viewer
	for _, at := range moments {
		p.AwaitSent(at)
		viewers = append(viewers, t.Watch(p.ID))
	}
	return p, viewers
}

func startsAtKey(t *Trial) {
	_, viewers := joinAt(t)
	for i, v := range viewers {
		view := v.AwaitEnd(2 * tolerance)
		t.Expect(len(view.Of(video))).To(gomega.BeNumerically(">", 10), "pictures of a viewer that joins after %v; %s", moments[i], view.describe())
		if text := faults(view, "WAT-3"); text != "" {
			t.Fail("a viewer that joins after %v of a stream with a key frame each second:%s", moments[i], text)
		}
	}
}

// newness is how long before a viewer's request a key frame must have been sent to count as arrived.
const newness = 30 * time.Millisecond

func startsAtNewest(t *Trial) {
	p, viewers := joinAt(t)
	doubt := ""
	for i, v := range viewers {
		what := fmt.Sprintf("a viewer that joins after %v", moments[i])
		if d := t.startOf(p, v, v.AwaitEnd(2*tolerance), what); d != "" {
			doubt = d
		}
	}
	if doubt != "" {
		t.FailUnlessHeld(newness, "%s", doubt)
	}
}

// certainly is how long ago a key frame must have been sent for it to have arrived on any machine.
const certainly = second / 2

// startOf judges with which picture a viewer begins. An older one is returned in words where a busy machine might excuse it.
func (t *Trial) startOf(p *Publisher, v *Viewer, view View, what string) (doubt string) {
	blocks := view.Of(video)
	if len(blocks) == 0 {
		t.FailUnlessHeld(certainly, "%s gets no picture", what)
	}
	pictures, sent := p.Source.Of(video), p.SentAt()
	newest, start := -1, -1
	for n, f := range pictures {
		if f.Key && f.Piece < len(sent) && sent[f.Piece].Before(v.Asked.Add(-newness)) {
			newest = n
		}
		if webm.Hash(f.Payload) == blocks[0].Hash {
			start = n
		}
	}
	if start < newest {
		ago := v.Asked.Sub(sent[pictures[newest].Piece])
		doubt = fmt.Sprintf("%s begins with picture %d, when key frame %d had been sent %v ago", what, start, newest, ago)
		if ago > certainly {
			t.Fail("%s", doubt)
		}
		return doubt
	}
	t.olderSound(view, p.Source, newest)
	return ""
}

// olderSound fails when a viewer gets sound of before the key frame that it may start with.
func (t *Trial) olderSound(view View, s *media.Source, newest int) {
	if newest < 0 || len(view.Of(audio)) == 0 {
		return
	}
	m, err := matched(view, s, audio)
	if err != nil {
		return // whether sound is right is not for this check
	}
	start := s.Of(video)[newest].Time
	t.Expect(m.frames[0].Time).To(gomega.BeNumerically(">=", start-5*time.Millisecond),
		"the time of the sound with which a viewer begins, whose key frame is at %v", start)
}

// maxGroup is how far back a key frame may lie with which a viewer starts.
const maxGroup = 10 * second

func startsAfterOldKey(t *Trial) {
	s := media.Stretched(fixture("ebml-gop-10s"), 11500*time.Millisecond)
	p, _ := t.Live(s)
	p.AwaitSent(maxGroup + 1100*time.Millisecond)
	v := t.Watch(p.ID)
	view := v.AwaitEnd(2*second + tolerance)
	t.Expect(view.Of(video)).To(gomega.BeEmpty(), "pictures of a viewer that joins when the only key frame is 11 s old")
}

// jitter is by how much a publisher may be late before what a target puts in order, and holds no longer than it must, comes
// too late for its place.
const jitter = 10 * time.Millisecond

func ordered(t *Trial, clip string) {
	s := fixture(clip)
	p, v := t.Begin(s)
	p.Accepted(s.Duration + 2*tolerance)
	view := v.AwaitEnd(tolerance)
	t.Comes(view, s)
	t.Keeps(view, "WAT-5")
	for _, kind := range []string{video, audio} {
		m, err := matched(view, s, kind)
		t.Expect(err).NotTo(gomega.HaveOccurred(), "%s, put in order", kind)
		for i, lag := range lags(m, p.SentAt()) {
			t.InTime(lag, second, fmt.Sprintf("%s frame %d from the publisher to the viewer", kind, m.first+i))
		}
	}
	if err := untouched(view, s, unannounced(s)); err != nil {
		if late := p.lateness(); late > jitter {
			t.Overloaded("fixture %s: %v; but the suite sent up to %v late", clip, err, late)
		}
		t.FailUnlessHeld(jitter, "fixture %s: %v", clip, err)
	}
}

// dropsLate: a sound of 1.5 s comes after those of 2.4 s.
func dropsLate(t *Trial) {
	s := first(3 * second)
	var frames, rest []media.Frame
	var late *media.Frame
	for _, f := range s.Frames {
		switch {
		case late == nil && f.Kind == audio && f.Time > 1500*time.Millisecond:
			late = &f
			continue
		case late != nil && f.Kind == audio && f.Time > 2400*time.Millisecond && len(frames) == len(rest):
			frames = append(frames, *late)
		}
		frames, rest = append(frames, f), append(rest, f)
	}
	_, view := t.Whole(media.Compose(s.Name+", one packet 900 ms late", s.Tracks, frames))
	t.Keeps(view, "WAT-5")
	if err := whole(view, media.Compose(s.Name+" without that packet", s.Tracks, rest), 0); err != nil {
		t.Fail("around a packet that comes 900 ms late: %v", err)
	}
}

func joins(t *Trial, bound time.Duration) {
	p, _ := t.Live(first(4 * second))
	for _, at := range []time.Duration{1100, 1400, 1700, 1970, 2300} {
		p.AwaitSent(at * time.Millisecond)
		v := t.Watch(p.ID)
		view := v.Await(bound+tolerance, "the first picture", func(w View) bool { return len(w.Of(video)) > 0 })
		b := view.Of(video)[0]
		t.Expect(b.Key).To(gomega.BeTrue(), "the first picture is a key frame")
		t.InTime(b.Arrived.Sub(v.Asked), bound, "the first key frame of a viewer that joins "+(at*time.Millisecond).String()+" into a stream")
	}
}

func sameFrames(t *Trial) {
	p, one := t.Live(first(4 * second))
	p.AwaitSent(1300 * time.Millisecond)
	two := t.Watch(p.ID)
	p.AwaitSent(2600 * time.Millisecond)
	three := t.Watch(p.ID)
	p.Answer(4*second + tolerance)
	all := one.AwaitEnd(tolerance)
	for _, v := range []*Viewer{two, three} {
		view := v.AwaitEnd(tolerance)
		for _, kind := range []string{video, audio} {
			a, b := all.Of(kind), view.Of(kind)
			t.Expect(len(b)).To(gomega.BeNumerically(">", 20), "frames of %s of a viewer that joined later", kind)
			t.Expect(len(a)).To(gomega.BeNumerically(">=", len(b)), "frames of %s of the first viewer", kind)
			a = a[len(a)-len(b):]
			for i := range b {
				if a[i].Hash != b[i].Hash {
					t.Fail("%s frame %d from the end differs: %d bytes (at %v) at the first viewer, %d bytes (at %v) at one that joined later",
						kind, len(b)-i, a[i].Size, a[i].Time, b[i].Size, b[i].Time)
				}
			}
		}
	}
}

func comeAndGo(t *Trial) {
	s := first(4 * second)
	p, v := t.Live(s)
	for i := range 12 {
		p.AwaitSent(time.Duration(i+1) * 250 * time.Millisecond)
		guest := t.Watch(p.ID)
		switch i % 3 {
		case 0:
			guest.Leave() // before it has an answer
		case 1:
			guest.AwaitBlocks(tolerance, video, 1)
			guest.Leave()
		case 2:
			guest.Answer(tolerance)
			guest.conn.Close()
		}
	}
	p.Accepted(s.Duration + tolerance)
	view := v.AwaitEnd(tolerance)
	if err := whole(view, s, 0); err != nil {
		t.Fail("at a viewer that stays while others come and go: %v", err)
	}
	m, err := matched(view, s, video)
	t.Expect(err).NotTo(gomega.HaveOccurred())
	for i, lag := range lags(m, p.SentAt()) {
		t.InTime(lag, second/2, fmt.Sprintf("picture %d while others come and go", i))
	}
}

// denseRate is how many pictures a second make about 7 Mbit/s.
const denseRate = 120

// slowViewer publishes what fills buffers. Frames are known by their times, because pictures repeat.
func slowViewer(t *Trial) {
	budget := t.Times.Budget
	s := media.Dense(fixture("webm-load"), denseRate, 3*budget+3*second)
	p, fast := t.Begin(s)
	fast.Watching(tolerance)
	slowest := t.Watch(p.ID, slow)
	slowest.Answer(tolerance)
	stopped := time.Now()
	t.After(3 * budget)
	slowest.Resume()
	slowest.conn.Note("=", "reads on after %v", time.Since(stopped).Round(time.Millisecond))
	p.Accepted(s.Duration + tolerance)
	quick, view := fast.AwaitEnd(tolerance), slowest.AwaitEnd(tolerance)

	sent := p.SentAt()
	t.Expect(len(quick.Of(video))).To(gomega.BeNumerically(">=", len(s.Frames)-2), "pictures of a fast viewer beside a slow one")
	for i, b := range quick.Of(video) {
		t.InTime(b.Arrived.Sub(sent[s.Frames[i].Piece]), second, fmt.Sprintf("picture %d at a fast viewer beside a slow one", i))
	}
	t.Keeps(view, "WAT-5")
	t.judgeBudget(view, quick, s, sent)
}

// judgeBudget adds up what a slow viewer got of media older than its budget.
func (t *Trial) judgeBudget(view, quick View, s *media.Source, sent []time.Time) {
	budget, step := t.Times.Budget, time.Second/denseRate
	zero := quick.Of(video)[0].Time
	allowed := int(budget.Seconds()*float64(s.Size())/s.Duration.Seconds()) + 512<<10
	old, last := 0, -1
	for _, b := range view.Of(video) {
		n := int((b.Time - zero + step/2) / step)
		if n < 0 || n >= len(s.Frames) {
			t.Fail("the slow viewer's picture at byte %d has the timestamp %v, which no frame has", b.Offset, b.Time)
		}
		if last >= 0 && n > last+1 && !b.Key {
			t.Fail("after %d pictures that it missed, a slow viewer goes on with one that is no key frame (byte %d)", n-last-1, b.Offset)
		}
		last = n
		if b.Arrived.Sub(sent[s.Frames[n].Piece]) > budget+second/4 {
			old += b.Size
		}
	}
	t.Expect(old).To(gomega.BeNumerically("<=", allowed), "bytes of media older than the budget of %v that a viewer got which had stopped reading for three times as long; %s", budget, view.describe())
	if view.Clean() {
		t.Expect(last).To(gomega.BeNumerically(">=", len(s.Frames)-2), "the last picture of a slow viewer whose body ended cleanly")
	}
}

func absent(t *Trial) {
	asked := time.Now()
	a := t.Ask("GET", path(t.ID()))
	t.Expect(a.Status).To(gomega.Equal(http.StatusNotFound), "the status of GET")
	t.InTime(a.At.Sub(asked), second, "the 404")
	t.Expect(t.Ask("HEAD", path(t.ID())).Status).To(gomega.Equal(http.StatusNotFound), "the status of HEAD")
}

// taken begins to publish to a session and sends nothing yet. The target has accepted it.
func taken(t *Trial, s *media.Source) *Publisher {
	p := t.Publish(t.ID(), s, expecting, headOnly, func(p *Publisher) { p.head = false })
	p.told()
	t.Given.Expect(p.Interim()).To(gomega.Equal([]int{100}), "interim answers to a publisher that asks for 100 Continue")
	return p
}

func heldUntilLive(t *Trial) {
	s := first(second)
	p := taken(t, s)
	v := t.Watch(p.ID)
	if view, ended := v.wait(300*time.Millisecond, func(w View) bool { return w.Over }); ended {
		t.Fail("a viewer of a session whose publisher has sent nothing yet wasn't held: %v, %s", view.Err, v.Problem())
	}
	p.Continue(forever, true)
	t.Expect(v.Answer(tolerance).Status).To(gomega.Equal(http.StatusOK), "the status of a viewer that was held")
	if err := whole(v.AwaitEnd(s.Duration+tolerance), s, 0); err != nil {
		t.Fail("a viewer that was held: %v", err)
	}
}

// maxHold is how long a viewer of a taken session may be held.
const maxHold = 5 * second

func heldInVain(t *Trial) {
	if t.Times.Idle < 2*second {
		t.Skip("the target's idle time of %v is over before anybody is held", t.Times.Idle)
	}
	p := taken(t, first(second))
	v := t.Watch(p.ID)
	a := v.Answer(maxHold + tolerance)
	t.Expect(a.Status).To(gomega.Equal(http.StatusNotFound), "the status of a viewer whose session doesn't become live")
	t.InTime(a.At.Sub(v.Asked), maxHold+second/2, "the 404")
}

func watchesWaiting(t *Trial) {
	p, _ := t.Live(first(3*second), until(second))
	p.AwaitSent(second)
	p.Break()
	t.After(200 * time.Millisecond)
	v := t.Watch(p.ID)
	a := v.Answer(tolerance)
	t.Expect(a.Status).To(gomega.Equal(http.StatusOK), "the status of GET while the session waits for its publisher")
	t.InTime(a.At.Sub(v.Asked), second, "the 200")
	s := first(second)
	t.Return(p.ID, s).Accepted(s.Duration + tolerance)
	view := v.AwaitEnd(tolerance)
	t.Comes(view, s)
	t.Keeps(view, "WAT-3")
}

func headNotHeld(t *Trial) {
	p := taken(t, first(second))
	asked := time.Now()
	a := t.Ask("HEAD", path(p.ID))
	t.InTime(a.At.Sub(asked), second, "the answer to HEAD of a session that isn't live yet")
	t.Expect(a.Status).To(gomega.Equal(http.StatusNotFound), "the status of HEAD of a session that isn't live yet")
}

func prefersWaiting(t *Trial) {
	s, id := first(second), t.ID()
	v := t.Watch(id, with("Prefer: respond-async, wait=8"))
	if view, ended := v.wait(400*time.Millisecond, func(w View) bool { return w.Over || w.Response != nil }); ended {
		t.Fail("a viewer with Prefer: wait=8 wasn't held: %v, %s", view.Err, v.Problem())
	}
	t.Publish(id, s).Accepted(s.Duration + tolerance)
	a := v.Answer(tolerance)
	t.Expect(a.Status).To(gomega.Equal(http.StatusOK), "the status of a viewer that waited")
	t.Expect(a.Header.Get("Preference-Applied")).To(gomega.ContainSubstring("wait"), "Preference-Applied")
	if err := whole(v.AwaitEnd(tolerance), s, 0); err != nil {
		t.Fail("a viewer that waited: %v", err)
	}
}

func waitsInVain(t *Trial) {
	asked := time.Now()
	a := t.Ask("GET", path(t.ID()), "Prefer: wait=1")
	t.Expect(a.Status).To(gomega.Equal(http.StatusNotFound), "the status")
	t.Expect(a.At.Sub(asked)).To(gomega.BeNumerically(">=", 900*time.Millisecond), "the time to the 404 with Prefer: wait=1")
	t.InTime(a.At.Sub(asked), 2*second, "the 404 with Prefer: wait=1")
}

func waitsNot(t *Trial) {
	for _, malformed := range []string{"wait=soon", "wait", "wait=-1", "wait=", "wait=1.5"} {
		asked := time.Now()
		a := t.Ask("GET", path(t.ID()), "Prefer: "+malformed)
		t.Expect(a.Status).To(gomega.Equal(http.StatusNotFound), "the status with Prefer: %s", malformed)
		t.InTime(a.At.Sub(asked), second, "the 404 with Prefer: "+malformed)
	}
}

func endsCleanly(t *Trial, modes ...mode) {
	s := first(2 * second)
	p, v := t.Live(s, modes...)
	p.Answer(s.Duration + tolerance)
	view := v.AwaitEnd(tolerance)
	t.Expect(v.Framing()).To(gomega.Equal("chunked"), "how the body's end is told")
	t.Expect(view.Clean()).To(gomega.BeTrue(), "the body ends cleanly: %v", view.Err)
	t.Comes(view, s)
	last := view.Blocks[len(view.Blocks)-1]
	t.InTime(view.Ended.Sub(last.Arrived), second, "the body's end after the last frame")
}

func headLikeGet(t *Trial) {
	p, v := t.Live(first(3 * second))
	get := v.Answer(tolerance)
	c := t.Dial()
	t.Given.Expect(c.Send(wire.Request{Method: "HEAD", Path: path(p.ID)})).To(gomega.Succeed())
	head := t.answerOn(c)
	t.Expect(head.Status).To(gomega.Equal(http.StatusOK), "the status of HEAD")
	for _, name := range []string{"Content-Type", "Cache-Control", "Content-Length"} {
		t.Expect(head.Header.Values(name)).To(gomega.Equal(get.Header.Values(name)), "%s of HEAD, compared with GET's", name)
	}
	c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	n, err := c.Drain()
	t.Expect(n).To(gomega.BeZero(), "bytes that follow the answer to HEAD")
	if timeout, ok := err.(net.Error); err != nil && (!ok || !timeout.Timeout()) {
		t.Fail("the connection after HEAD: %v", err)
	}
}

func rangeIgnored(t *Trial) {
	p, _ := t.Live(first(3 * second))
	v := t.Watch(p.ID, with("Range: bytes=0-99"))
	a := v.Answer(tolerance)
	t.Expect(a.Status).To(gomega.Equal(http.StatusOK), "the status of GET with a Range")
	t.Expect(a.Header.Get("Content-Range")).To(gomega.BeEmpty(), "Content-Range")
	view := v.AwaitBlocks(tolerance, video, 10)
	t.Expect(view.Bytes).To(gomega.BeNumerically(">", 100), "bytes of the body")
}

func crossOrigin(t *Trial) {
	p, v := t.Live(first(4 * second))
	answers := map[string]http.Header{"200 of GET": v.Answer(tolerance).Header}
	conflict := t.Publish(p.ID, first(second)).Answer(tolerance)
	answers["409 of PUT"] = conflict.Header
	answers["404 of GET"] = t.Ask("GET", path(t.ID()), "Origin: https://example.org").Header
	answers["400 of GET"] = t.Ask("GET", path(t.ID()+"%2F"), "Origin: https://example.org").Header
	answers["405 of DELETE"] = t.Ask("DELETE", path(p.ID), "Origin: https://example.org").Header
	for what, h := range answers {
		t.Expect(h.Get("Access-Control-Allow-Origin")).To(gomega.Equal("*"), "Access-Control-Allow-Origin of the %s", what)
	}
	t.Expect(strings.ToLower(conflict.Header.Get("Access-Control-Expose-Headers"))).To(gomega.ContainSubstring("retry-after"), "Access-Control-Expose-Headers of the 409")
}

func preflight(t *Trial) {
	a := t.Ask("OPTIONS", path(t.ID()), "Origin: https://example.org", "Access-Control-Request-Method: PUT",
		"Access-Control-Request-Headers: content-range, prefer")
	t.Expect(strconv.Itoa(a.Status)).To(gomega.HavePrefix("2"), "the status of the preflight")
	t.Expect(a.Header.Get("Access-Control-Allow-Origin")).To(gomega.Equal("*"), "Access-Control-Allow-Origin")
	t.Expect(a.Header.Get("Access-Control-Allow-Methods")).To(gomega.ContainSubstring("PUT"), "Access-Control-Allow-Methods")
	allowed := strings.ToLower(a.Header.Get("Access-Control-Allow-Headers"))
	for _, name := range []string{"prefer", "content-range"} {
		t.Expect(allowed).To(gomega.ContainSubstring(name), "Access-Control-Allow-Headers")
	}
}
