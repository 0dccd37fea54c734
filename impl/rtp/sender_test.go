package rtp_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/rtcp"

	"tureen/impl/live"
	"tureen/impl/media"
	out "tureen/impl/rtp"
	"tureen/loadgen/webm"
)

var tracks = []webm.Kind{webm.Video, webm.Audio}

// TestCapture takes a stream's packets apart, from its first frame to its
// farewell, with numbers that come round.
func TestCapture(t *testing.T) {
	t.Parallel()
	p := start(t, out.DefaultPolicy(), 0)
	p.Number(0xFFFFFFB0) // sequence and timestamps of both tracks come round within a second
	named, literal, six := listen(t, "localhost"), listen(t, "127.0.0.1"), listen(t, "::1")
	p.Set("a", []out.Client{named.Client, literal.Client, six.Client})
	end, _ := p.publishes(t, "a", loopClip)
	literal.pictures(t, 6*30) // by when there was a second report
	end()
	ended := time.Now()
	sent := published(t, loopClip, 3*loopLength)
	for _, r := range []*receiver{named, literal, six} {
		r.bye(t)
		if took := time.Since(ended); took > time.Second {
			t.Errorf("%s: the farewell took %v", r, took)
		}
		got := r.frames(t)
		if r == named && len(got[webm.Video]) >= 4*30 {
			continue // a name may take its time
		}
		for _, kind := range tracks {
			if err := matches(sent, got[kind], kind, 0); err != nil {
				t.Errorf("%s: %v: %v", r, kind, err)
			}
		}
		if len(got[webm.Video]) < 6*30 || len(got[webm.Audio]) < 6*40 {
			t.Errorf("%s: %d pictures, %d sounds in 6 s", r, len(got[webm.Video]), len(got[webm.Audio]))
		}
		r.checkReports(t)
	}
}

// TestSound: a stream without pictures begins with its first packet.
func TestSound(t *testing.T) {
	t.Parallel()
	p, r := start(t, out.DefaultPolicy(), 0), listen(t, "127.0.0.1")
	p.Set("a", []out.Client{r.Client})
	end, _ := p.publishes(t, "a", "webm-vorbis")
	r.await(t, 2, "20 sounds", func(got []packet) bool { return len(got) >= 20 })
	end()
	r.await(t, 3, "BYE", farewell)
	if err := matches(published(t, "webm-vorbis", loopLength), r.frames(t)[webm.Audio], webm.Audio, 0); err != nil {
		t.Error(err)
	}
	for _, i := range []int{0, 1} {
		if got, _ := r.received(i); len(got) > 0 {
			t.Errorf("port+%d has %d packets of a stream without pictures", i, len(got))
		}
	}
}

// TestJoin: a client that is added under way starts at the next key frame, with
// the sound from there on, and the one that is there notices nothing.
func TestJoin(t *testing.T) {
	t.Parallel()
	p, first, late := start(t, out.DefaultPolicy(), 0), listen(t, "127.0.0.1"), listen(t, "127.0.0.1")
	p.Set("a", []out.Client{first.Client})
	end, _ := p.publishes(t, "a", loopClip)
	first.pictures(t, 35) // the key frames are the first and each 30th after it
	p.Set("a", []out.Client{late.Client, first.Client})
	late.pictures(t, 20)
	end()
	late.bye(t)
	sent := published(t, loopClip, 3*loopLength)
	got := late.frames(t)
	if err := matches(sent, got[webm.Video], webm.Video, 60); err != nil {
		t.Errorf("the late client's pictures: %v", err)
	}
	begin := sent[slices.IndexFunc(sent, func(f frame) bool { return bytes.Equal(f.payload, got[webm.Video][0].payload) })].at
	n := 0
	for _, f := range sent {
		if f.kind == webm.Audio && f.at < begin {
			n++
		}
	}
	if err := matches(sent, got[webm.Audio], webm.Audio, n); err != nil {
		t.Errorf("the late client's sound: %v", err)
	}
	got = first.frames(t)
	for _, kind := range tracks {
		if err := matches(sent, got[kind], kind, 0); err != nil {
			t.Errorf("the first client's %v: %v", kind, err)
		}
	}
	first.checkReports(t)
}

// TestReturn: a publisher that breaks off and returns goes on in the same
// packets' numbers, with times that follow (RTP-3).
func TestReturn(t *testing.T) {
	t.Parallel()
	p, r := start(t, out.DefaultPolicy(), 0), listen(t, "127.0.0.1")
	p.Set("a", []out.Client{r.Client})
	_, lost := p.publishes(t, "a", loopClip)
	r.pictures(t, 35)
	lost()
	p.log.await(t, "publisher ended early", "session=a")
	before := r.frames(t) // but for what is still under way
	end, _ := p.publishes(t, "a", loopClip)
	r.pictures(t, len(before[webm.Video])+45)
	end()
	r.bye(t)
	sent, all := published(t, loopClip, 2*loopLength), r.frames(t)
	for _, kind := range tracks {
		n := beginsAgain(sent, all[kind], kind)
		if n < len(before[kind]) {
			t.Fatalf("%v: the second publisher's first frame is number %d, and %d were the first one's", kind, n, len(before[kind]))
		}
		if err := matches(sent, all[kind][:n], kind, 0); err != nil {
			t.Errorf("%v before the return: %v", kind, err)
		}
		after := slices.Clone(all[kind][n:])
		if gap := after[0].at - all[kind][n-1].at; gap <= 0 || gap > 70*time.Millisecond {
			t.Errorf("%v goes on after %v", kind, gap)
		}
		zero := after[0].at
		for i := range after {
			after[i].at -= zero
		}
		if err := matches(sent, after, kind, 0); err != nil {
			t.Errorf("%v after the return: %v", kind, err)
		}
	}
	for _, i := range []int{1, 3} {
		for n, report := range r.reports(t, i) {
			if report.bye != (n == len(r.reports(t, i))-1) {
				t.Errorf("port+%d: report %d says BYE: %t", i, n, report.bye)
			}
		}
	}
}

// beginsAgain is the place of the frame from which on those published came for the
// second time; -1 when they didn't.
func beginsAgain(sent, got []frame, kind webm.Kind) int {
	sent = slices.DeleteFunc(slices.Clone(sent), func(f frame) bool { return f.kind != kind })
	for i := 1; i+1 < len(got); i++ {
		if bytes.Equal(got[i].payload, sent[0].payload) && bytes.Equal(got[i+1].payload, sent[1].payload) {
			return i
		}
	}
	return -1
}

// TestOtherTracks: a publisher whose tracks can't go on begins anew, as another
// source.
func TestOtherTracks(t *testing.T) {
	t.Parallel()
	p, r := start(t, out.DefaultPolicy(), 0), listen(t, "127.0.0.1")
	p.Set("a", []out.Client{r.Client})
	_, lost := p.publishes(t, "a", loopClip)
	r.pictures(t, 5)
	lost()
	p.log.await(t, "publisher ended early", "session=a")
	end, _ := p.publishes(t, "a", "webm-vp8")
	r.bye(t)
	before, _ := r.received(0)
	r.await(t, 0, "packet of another source", func(got []packet) bool {
		last := got[len(got)-1]
		return !bytes.Equal(last.data[8:12], before[0].data[8:12])
	})
	end()
}

func farewell(got []packet) bool {
	return slices.ContainsFunc(got, func(p packet) bool { return says[*rtcp.Goodbye](p.data) })
}

// TestStops: whatever ends a stream or what a client gets of it, that is said at
// once and nothing follows (RTP-4, RTP-6).
func TestStops(t *testing.T) {
	t.Parallel()
	tests := map[string]func(p *proxy, r *receiver, end, lost func()){
		"the publisher ends":    func(_ *proxy, _ *receiver, end, _ func()) { end() },
		"revoked":               func(p *proxy, _ *receiver, _, _ func()) { p.Set("a", nil) },
		"another client":        func(p *proxy, _ *receiver, _, _ func()) { p.Set("a", []out.Client{{Host: "127.0.0.1", Port: 2}}) },
		"drain":                 func(p *proxy, _ *receiver, _, _ func()) { p.Drain() },
		"the grace time passes": func(p *proxy, _ *receiver, _, lost func()) { lost() },
	}
	for name, stop := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, r := start(t, out.DefaultPolicy(), 0), listen(t, "127.0.0.1")
			p.Set("a", []out.Client{r.Client})
			end, lost := p.publishes(t, "a", loopClip)
			r.pictures(t, 5)
			stop(p, r, end, lost)
			stopped := time.Now()
			r.bye(t)
			most := time.Second
			if name == "the grace time passes" {
				most += grace
			}
			if took := time.Since(stopped); took > most {
				t.Errorf("the farewell took %v", took)
			}
			// It was the last: whatever else is sent to anyone now isn't seen here.
			other := listen(t, "127.0.0.1")
			p.Set("b", []out.Client{other.Client})
			if name != "drain" {
				endOther, _ := p.publishes(t, "b", loopClip)
				other.pictures(t, 35)
				endOther()
			}
			for i := range 4 {
				if got, _ := r.received(i); i%2 == 1 && !says[*rtcp.Goodbye](got[len(got)-1].data) {
					t.Errorf("port+%d: something follows the farewell", i)
				}
			}
			got, _ := r.received(0)
			reports := r.reports(t, 1)
			if last := reports[len(reports)-1].sr; int(last.PacketCount) != len(got) {
				t.Errorf("%d packets came, %d had been sent at the farewell", len(got), last.PacketCount)
			}
		})
	}
}

// TestRefusal: a client where nothing listens is counted and logged, once for
// each port, and changes nothing for the others (RTP-7).
func TestRefusal(t *testing.T) {
	t.Parallel()
	p, r, closed := start(t, out.DefaultPolicy(), 0), listen(t, "127.0.0.1"), reserve(t, "127.0.0.1")
	closed.close()
	p.Set("a", []out.Client{closed.Client, r.Client})
	end, _ := p.publishes(t, "a", loopClip)
	r.pictures(t, 65)
	end()
	r.bye(t)
	sent, got := published(t, loopClip, 2*loopLength), r.frames(t)
	for _, kind := range tracks {
		if err := matches(sent, got[kind], kind, 0); err != nil {
			t.Errorf("%v: %v", kind, err)
		}
	}
	r.checkReports(t)
	p.log.await(t, "RTP ends", "client="+closed.String())
	said, _ := p.log.lines("refuses packets", "client="+closed.String())
	if len(said) == 0 || len(said) > 4 {
		t.Errorf("the refusal was logged %d times, want once for each port: %s", len(said), said)
	}
	if counted, _ := p.log.lines("RTP ends", "client="+closed.String(), "refused=0 "); len(counted) > 0 {
		t.Errorf("the refusals were not counted: %s", counted)
	}
	if said, _ := p.log.lines("refuses packets", "client="+r.String()); len(said) > 0 {
		t.Errorf("the other client is said to refuse packets: %s", said)
	}
}

// TestComesLater: a client that begins to listen under way gets every packet
// from then on, the refused ones before it notwithstanding.
func TestComesLater(t *testing.T) {
	t.Parallel()
	p, r, early := start(t, out.DefaultPolicy(), 0), reserve(t, "127.0.0.1"), listen(t, "127.0.0.1")
	r.close()
	p.Set("a", []out.Client{r.Client, early.Client})
	end, _ := p.publishes(t, "a", loopClip)
	early.pictures(t, 10)
	again := &receiver{Client: r.Client, changed: make(chan struct{})}
	for i := range 4 {
		conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(r.Port) + i})
		if err != nil {
			t.Skipf("somebody has taken the port meanwhile: %v", err)
		}
		enlarge(conn)
		again.conns = append(again.conns, conn)
		go again.read(i, conn)
	}
	t.Cleanup(again.close)
	again.pictures(t, 40)
	end()
	again.bye(t)
	early.bye(t)
	got, _ := again.received(0)
	all, _ := early.received(0)
	for i := range got {
		if want := all[len(all)-len(got)+i]; !bytes.Equal(got[i].data, want.data) {
			t.Fatalf("packet %d of %d isn't the one that the other client got", i, len(got))
		}
	}
}

// TestSlowName: a name that takes long to resolve keeps nobody else waiting, and
// is judged when it is resolved (RTP-7, TOK-5).
func TestSlowName(t *testing.T) {
	resolver := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = resolver })
	asked := make(chan struct{}, 100)
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		asked <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	p, r := start(t, out.DefaultPolicy(), 0), listen(t, "127.0.0.1")
	p.Set("a", []out.Client{{Host: "slow.example", Port: 5004}, r.Client})
	end, _ := p.publishes(t, "a", loopClip)
	<-asked
	began := time.Now()
	r.pictures(t, 10)
	if took := time.Since(began); took > time.Second {
		t.Errorf("a third of a second took %v", took)
	}
	p.log.await(t, "can't be sent to", "slow.example")
	end()
	r.bye(t)
	if err := matches(published(t, loopClip, 2*loopLength), r.frames(t)[webm.Video], webm.Video, 0); err != nil {
		t.Error(err)
	}
}

// TestForbidden: what the operator doesn't allow isn't sent, whoever set it, and
// the others are.
func TestForbidden(t *testing.T) {
	t.Parallel()
	six := out.Policy{netip.MustParsePrefix("::1/128")}
	p, allowed, forbidden := start(t, six, 0), listen(t, "::1"), listen(t, "127.0.0.1")
	p.Set("a", []out.Client{forbidden.Client, allowed.Client})
	end, _ := p.publishes(t, "a", loopClip)
	allowed.pictures(t, 35)
	p.log.await(t, "can't be sent to", "client="+forbidden.String(), "may not be sent there")
	end()
	allowed.bye(t)
	for i := range 4 {
		if got, _ := forbidden.received(i); len(got) > 0 {
			t.Errorf("port+%d has %d packets", i, len(got))
		}
	}
}

// TestLimit: past the limit a client waits until another one's place is free.
func TestLimit(t *testing.T) {
	t.Parallel()
	p, first, second := start(t, out.DefaultPolicy(), 1), listen(t, "127.0.0.1"), listen(t, "127.0.0.1")
	p.Set("a", []out.Client{first.Client})
	end, _ := p.publishes(t, "a", loopClip)
	first.pictures(t, 5)
	p.Set("a", []out.Client{first.Client, second.Client})
	p.log.await(t, "can't be sent to", "client="+second.String(), "as the limit allows")
	if got, _ := second.received(0); len(got) > 0 {
		t.Errorf("the client past the limit has %d packets", len(got))
	}
	p.Set("a", []out.Client{second.Client})
	first.bye(t)
	second.pictures(t, 5)
	end()
	second.bye(t)
}

// TestManySets: clients that are changed all the time, from many sides, leave
// those alone who stay, and nothing behind.
func TestManySets(t *testing.T) {
	t.Parallel()
	p, r, other := start(t, out.DefaultPolicy(), 0), listen(t, "127.0.0.1"), listen(t, "127.0.0.1")
	p.Set("a", []out.Client{r.Client})
	end, _ := p.publishes(t, "a", loopClip)
	var stop atomic.Bool
	done := make(chan struct{})
	for range 3 {
		go func() {
			for !stop.Load() {
				p.Set("a", []out.Client{other.Client, r.Client})
				p.Set("a", []out.Client{r.Client})
				p.Set("b", []out.Client{other.Client})
				p.Set("b", nil)
				time.Sleep(time.Millisecond)
			}
			done <- struct{}{}
		}()
	}
	r.pictures(t, 40)
	stop.Store(true)
	for range 3 {
		<-done
	}
	end()
	r.bye(t)
	if err := matches(published(t, loopClip, 2*loopLength), r.frames(t)[webm.Video], webm.Video, 0); err != nil {
		t.Error(err)
	}
	if got := p.Destinations("a"); !slices.Equal(got, []out.Client{r.Client}) {
		t.Errorf("the session has the clients %v", got)
	}
	if got := p.Destinations("b"); got != nil {
		t.Errorf("the other session has the clients %v", got)
	}
}

// TestDescription: who is told how to receive what, and when (RTP-5). That
// receivers can do with it is tested with real ones.
func TestDescription(t *testing.T) {
	t.Parallel()
	p, r, second := start(t, out.DefaultPolicy(), 0), listen(t, "127.0.0.1"), listen(t, "::1")
	check := func(when, path string, status int) {
		t.Helper()
		if got := p.status(t, path); got != status {
			t.Errorf("%s: GET %s is answered %d, want %d", when, path, got, status)
		}
	}
	check("absent", "/stream/a/sdp", 404)
	check("a malformed id", "/stream/a%20b/sdp", 400)
	check("another path", "/stream/a/sdp/", 404)
	p.Set("a", []out.Client{r.Client, second.Client})
	check("not live", "/stream/a/sdp", 404)
	end, lost := p.publishes(t, "a", loopClip)
	r.pictures(t, 1)
	second.pictures(t, 1)
	check("another client", "/stream/a/sdp?client=127.0.0.1:2", 404)
	check("a malformed client", "/stream/a/sdp?client=127.0.0.1:3", 400)
	tests := map[string][]string{
		"/stream/a/sdp": {"c=IN IP4 127.0.0.1", p.media(r, 0, "video"), p.media(r, 2, "audio")},
		"/stream/a/sdp?client=" + second.String(): {
			"o=- ", "c=IN IP6 ::1", p.media(second, 0, "video"), "a=rtpmap:96 VP8/90000", p.media(second, 2, "audio"),
			"a=rtpmap:97 vorbis/48000/", "a=fmtp:97 configuration=AAAAA",
		},
	}
	for path, lines := range tests {
		got := p.get(t, path)
		for _, line := range lines {
			if !strings.Contains(got, "\r\n"+line) {
				t.Errorf("GET %s lacks the line %s:\n%s", path, line, got)
			}
		}
	}
	for method, status := range map[string]int{"HEAD": 200, "OPTIONS": 204, "PUT": 405, "DELETE": 405} {
		answer := p.request(t, method, "/stream/a/sdp")
		if allow := answer.Header.Get("Allow"); answer.StatusCode != status || status != 200 && allow != "GET, HEAD, OPTIONS" {
			t.Errorf("%s is answered %d, Allow: %q", method, answer.StatusCode, allow)
		}
	}
	p.Set("a", nil)
	check("revoked", "/stream/a/sdp", 404)
	p.Set("a", []out.Client{second.Client})
	check("set again", "/stream/a/sdp", 200)
	lost()
	p.log.await(t, "publisher ended early", "session=a")
	check("waiting", "/stream/a/sdp", 404)
	p.Drain()
	check("draining", "/stream/a/sdp", 503)
	end()
}

// TestBigFrames: a key frame that is larger than a receiver's buffer is spread
// over time.
func TestBigFrames(t *testing.T) {
	t.Parallel()
	sender, r := out.NewSender(out.DefaultPolicy(), 0, slog.New(slog.DiscardHandler)), listen(t, "127.0.0.1")
	registry := live.NewRegistry(0)
	registry.Observe(sender.Observe)
	sender.Set("a", []out.Client{r.Client})
	publisher, err := registry.Take(t.Context(), "a", source{})
	if err != nil {
		t.Fatal(err)
	}
	items, done := make(chan media.Item), make(chan error, 1)
	go func() { done <- publisher.Run(items) }()
	items <- media.Item{Tracks: []media.Track{{Kind: media.Video, Codec: media.VP8}}}
	const frames, packets, interval = 10, 300, 40 * time.Millisecond
	for i := range frames {
		items <- media.Item{Frame: media.Frame{
			Kind: media.Video, Key: true, Time: time.Duration(i) * interval, Sent: time.Duration(i) * interval,
			Payload: make([]byte, packets*1190),
		}}
		r.pictures(t, i+1)
	}
	close(items)
	if err := <-done; err != nil {
		t.Error(err)
	}
	publisher.End(live.Clean)
	r.await(t, 1, "BYE", farewell)
	// A reader that is held up sees packets closer together, so the widest counts.
	var widest time.Duration
	got, _ := r.received(0)
	begin := got[0].at
	for i, p := range got {
		if p.data[1]&0x80 == 0 {
			continue
		}
		widest = max(widest, p.at.Sub(begin))
		if i+1 < len(got) {
			begin = got[i+1].at
		}
	}
	if widest < interval/4 {
		t.Errorf("%d packets came within %v", packets, widest)
	}
}

type source struct{}

func (source) GivesWay() error { return nil }
