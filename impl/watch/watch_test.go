package watch

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http/httputil"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tureen/impl/live"
	"tureen/impl/media"
	"tureen/impl/webm"
)

// channel is a live stream that a test feeds.
type channel struct {
	t         *testing.T
	publisher *live.Publisher
	stream    *live.Stream
	slot      *live.Slot
	items     chan media.Item
	done      chan error

	until context.Context // for viewers' bodies
	cut   context.CancelFunc
}

func newChannel(t *testing.T) *channel {
	t.Helper()
	registry := live.NewRegistry(time.Second)
	p, err := registry.Take(t.Context(), "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &channel{t: t, publisher: p, items: make(chan media.Item), done: make(chan error, 1)}
	c.until, c.cut = context.WithCancel(t.Context())
	go func() { c.done <- p.Run(c.items) }()
	c.items <- media.Item{Tracks: []media.Track{{
		Kind: media.Video, Codec: media.VP8, Picture: media.Picture{Width: 320, Height: 180},
	}}}
	if c.stream, c.slot, err = registry.Watch(t.Context(), "test", live.NoPreference); err != nil {
		t.Fatal(err)
	}
	return c
}

// send publishes a picture and returns once viewers can get it.
func (c *channel) send(number, size int, key bool) {
	tail := c.stream.Tail()
	payload := make([]byte, size)
	binary.BigEndian.PutUint32(payload, uint32(number))
	at := time.Duration(number) * time.Millisecond
	c.items <- media.Item{Frame: media.Frame{Kind: media.Video, Key: key, Time: at, Sent: at, Duration: time.Millisecond, Payload: payload}}
	<-tail.Filled()
}

func (c *channel) end() {
	close(c.items)
	if err := <-c.done; err != nil {
		c.t.Errorf("Run: %v", err)
	}
	c.publisher.End(live.Clean)
}

// connect is a viewer's connection and the proxy's end of it. The viewer's
// kernel holds little, so that back-pressure is felt.
func connect(t *testing.T) (viewer, proxy *net.TCPConn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	viewer = conn.(*net.TCPConn)
	t.Cleanup(func() { viewer.Close() })
	if err := viewer.SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	proxy = accepted.(*net.TCPConn)
	if err := Bound(proxy); err != nil {
		t.Fatal(err)
	}
	return viewer, proxy
}

// numbers reads the pictures' numbers out of a whole body.
func numbers(t *testing.T, body io.Reader) (got []int, err error) {
	t.Helper()
	return follow(t, body, func(int) {})
}

// follow is numbers that calls came with each.
func follow(t *testing.T, body io.Reader, came func(int)) (got []int, err error) {
	t.Helper()
	d := webm.NewDemuxer(body)
	tracks, err := d.Document()
	if err != nil {
		return nil, err
	}
	d.Take(tracks[0], media.Video)
	last := time.Duration(-1)
	for {
		f, err := d.Frame()
		if err != nil {
			return got, err
		}
		if f.Time < last {
			t.Errorf("the time falls from %v to %v", last, f.Time)
		}
		last = f.Time
		n := int(binary.BigEndian.Uint32(f.Payload))
		got = append(got, n)
		came(n)
	}
}

const response = "HTTP/1.1 200 OK\r\n\r\n"

// body reads past the response's head.
func body(t *testing.T, conn io.Reader, chunked bool) io.Reader {
	t.Helper()
	head := make([]byte, len(response))
	if _, err := io.ReadFull(conn, head); err != nil || string(head) != response {
		t.Fatalf("the response begins with %q: %v", head, err)
	}
	if chunked {
		return httputil.NewChunkedReader(conn)
	}
	return conn
}

func TestTake(t *testing.T) {
	for name, chunked := range map[string]bool{"chunked": true, "plain": false} {
		t.Run(name, func(t *testing.T) {
			c := newChannel(t)
			fanout := NewFanout(time.Second, slog.New(slog.DiscardHandler))
			const viewers, frames = 5, 200
			type result struct {
				numbers []int
				err     error
			}
			results := make(chan result, viewers)
			for range viewers {
				viewer, proxy := connect(t)
				if err := fanout.Take(t.Context(), proxy, []byte(response), chunked, c.stream, c.slot, func() {}); err != nil {
					t.Fatal(err)
				}
				go func() {
					got, err := numbers(t, body(t, viewer, chunked))
					results <- result{got, err}
				}()
			}
			for i := range frames {
				c.send(i, 1000, i%30 == 0)
			}
			c.end()
			for range viewers {
				got := <-results
				if got.err != io.EOF || len(got.numbers) != frames {
					t.Errorf("a viewer got %d frames and %v, want %d and a clean end", len(got.numbers), got.err, frames)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if err := fanout.Wait(ctx); err != nil {
				t.Errorf("viewers are left: %v", err)
			}
			if left := c.stream.Counts.Viewers.Load(); left != 0 {
				t.Errorf("%d viewers are counted after the end", left)
			}
			if joined := c.stream.Counts.Joined.Load(); joined != viewers {
				t.Errorf("%d viewers are counted, want %d", joined, viewers)
			}
		})
	}
}

// TestSlowViewer: one that stops reading is moved on to a later key frame; what
// it gets of the old is what the kernel held (WAT-9). Another isn't disturbed.
func TestSlowViewer(t *testing.T) {
	for name, join := range transports {
		t.Run(name, func(t *testing.T) { testSlowViewer(t, join) })
	}
}

func testSlowViewer(t *testing.T, join transport) {
	const (
		budget = 200 * time.Millisecond
		size   = 20 << 10
		group  = 10
	)
	c := newChannel(t)
	fanout := NewFanout(budget, slog.New(slog.DiscardHandler))
	slow, fast := join(t, fanout, c), join(t, fanout, c)
	undisturbed := make(chan int, 1)
	go func() {
		got, _ := numbers(t, fast.body)
		undisturbed <- len(got)
	}()
	stalled := time.Now()
	n := 0
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for time.Since(stalled) < 4*budget || n%group != 0 {
		<-tick.C
		c.send(n, size, n%group == 0)
		n++
	}
	resumed := n
	slowly, back := make(chan []int, 1), make(chan struct{})
	caughtUp := sync.OnceFunc(func() { close(back) })
	go func() {
		defer caughtUp() // or at its end
		got, err := follow(t, slow.body, func(n int) {
			if n >= resumed {
				caughtUp()
			}
		})
		if err != io.EOF {
			t.Errorf("the slow viewer's body ends with %v", err)
		}
		slowly <- got
	}()
	for waiting := true; waiting; n++ {
		select {
		case <-back:
			waiting = false
		case <-tick.C:
		}
		c.send(n, size, n%group == 0)
	}
	c.end()
	if got := <-undisturbed; got != n {
		t.Errorf("the fast viewer got %d of %d frames", got, n)
	}
	got := <-slowly
	gap := 0
	for i := 1; i < len(got); i++ {
		if got[i] != got[i-1]+1 {
			gap++
			if got[i]%group != 0 {
				t.Errorf("after the gap it goes on at frame %d, which is no key frame", got[i])
			}
			if oldest := resumed - int(budget/(5*time.Millisecond)) - group; got[i] < oldest {
				t.Errorf("after the gap it goes on at frame %d of %d, which is older than its budget", got[i], resumed)
			}
			if old := i * size; old > 512<<10+sendBuffer {
				t.Errorf("it got %d bytes from before the gap", old)
			}
		}
	}
	if gap != 1 {
		t.Errorf("the slow viewer has %d gaps, want 1: %v", gap, got)
	}
	if skipped := c.stream.Counts.Skipped.Load(); skipped != 1 {
		t.Errorf("%d skips are counted, want 1", skipped)
	}
}

// TestStalledViewer: one that never reads is cut off at last.
func TestStalledViewer(t *testing.T) {
	const budget = 10 * time.Millisecond
	c := newChannel(t)
	fanout := NewFanout(budget, slog.New(slog.DiscardHandler))
	_, proxy := connect(t)
	if err := fanout.Take(t.Context(), proxy, []byte(response), true, c.stream, c.slot, func() {}); err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() { gone <- fanout.Wait(t.Context()) }()
	for n := 0; ; n++ {
		select {
		case err := <-gone:
			if err != nil || c.stream.Counts.Stalled.Load() != 1 {
				t.Errorf("Wait gives %v, %d are counted as stalled, want 1", err, c.stream.Counts.Stalled.Load())
			}
			c.end()
			return
		default:
			c.send(n, 50<<10, true)
		}
	}
}

func TestLeavingViewer(t *testing.T) {
	c := newChannel(t)
	fanout := NewFanout(time.Second, slog.New(slog.DiscardHandler))
	viewer, proxy := connect(t)
	if err := fanout.Take(t.Context(), proxy, []byte(response), true, c.stream, c.slot, func() {}); err != nil {
		t.Fatal(err)
	}
	viewer.Close()
	gone := make(chan error, 1)
	go func() { gone <- fanout.Wait(t.Context()) }()
	for n := 0; ; n++ {
		select {
		case <-gone:
			if stalled := c.stream.Counts.Stalled.Load(); stalled != 0 {
				t.Errorf("%d are counted as stalled", stalled)
			}
			c.end()
			return
		default:
			c.send(n, 100, true)
		}
	}
}

// TestFault: a fault in writing to a viewer ends that one alone, and is logged.
func TestFault(t *testing.T) {
	c := newChannel(t)
	var log strings.Builder // written to by the one faulty viewer at a time
	fanout := NewFanout(time.Second, slog.New(slog.NewTextHandler(&log, nil)))
	healthy, proxy := connect(t)
	if err := fanout.Take(t.Context(), proxy, []byte(response), true, c.stream, c.slot, func() {}); err != nil {
		t.Fatal(err)
	}
	for name, run := range map[string]func(*viewer){
		"pump":   func(v *viewer) { v.pump.add(v) },
		"follow": func(v *viewer) { go v.follow() },
	} {
		log.Reset()
		client, proxy := connect(t)
		gone := make(chan struct{})
		v := &viewer{position: begin(t.Context(), c.stream, c.slot, time.Second, true), fanout: fanout, conn: proxy, gone: func() { close(gone) }, keep: func() bool { return true }}
		v.pump = fanout.enter(c.stream) // and no raw: the fault
		run(v)
		<-gone
		if _, err := client.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: the viewer's connection stays open", name)
		}
		if !strings.Contains(log.String(), "fault in writing to a viewer") {
			t.Errorf("%s: the log says %q", name, log.String())
		}
	}
	go func() {
		c.send(0, 100, true)
		c.end()
	}()
	if got, err := numbers(t, body(t, healthy, true)); err != io.EOF || len(got) != 1 {
		t.Errorf("the other viewer gets %v, %v", got, err)
	}
}

// TestCut: who may watch no longer gets the end of its body, whole, while the
// stream is silent (TOK-4), and also one who doesn't read until later; another
// viewer goes on.
func TestCut(t *testing.T) {
	for name, join := range transports {
		t.Run(name, func(t *testing.T) { testCut(t, join) })
	}
}

// cutIdle has a viewer get all there is, and be cut then. The error is what ends
// its body.
func cutIdle(t *testing.T, c *channel, fanout *Fanout, join transport) <-chan error {
	ended := make(chan error, 1)
	until, cut := context.WithCancel(t.Context())
	c.until, until = until, c.until
	s := join(t, fanout, c)
	c.until = until
	got := make(chan struct{})
	go func() {
		d := webm.NewDemuxer(s.body)
		tracks, err := d.Document()
		if err == nil {
			d.Take(tracks[0], media.Video)
			_, err = d.Frame()
		}
		close(got)
		if err == nil {
			_, err = d.Frame()
		}
		ended <- err
	}()
	c.send(0, 100, true)
	<-got
	cut()
	return ended
}

func testCut(t *testing.T, join transport) {
	c := newChannel(t)
	fanout := NewFanout(time.Second, slog.New(slog.DiscardHandler))
	type result struct {
		numbers []int
		err     error
	}
	read := func(s seat) <-chan result {
		got := make(chan result, 1)
		go func() {
			n, err := numbers(t, s.body)
			got <- result{n, err}
		}()
		return got
	}
	if err := <-cutIdle(t, c, fanout, join); err != io.EOF {
		t.Errorf("who had got all and is cut then gets %v, want a clean end", err)
	}
	reader, blocked := read(join(t, fanout, c)), join(t, fanout, c)
	cut := c.cut
	c.until = t.Context()
	other := read(join(t, fanout, c))
	const frames = 40
	for i := 1; i < frames; i++ {
		c.send(i, 20<<10, i%10 == 0)
	}
	cut()
	if got := <-reader; got.err != io.EOF {
		t.Errorf("who is cut got %d frames and %v, want a clean end", len(got.numbers), got.err)
	}
	if got := <-read(blocked); got.err != io.EOF || len(got.numbers) == frames {
		t.Errorf("who didn't read and is cut got %d frames and %v, want less than %d and a clean end", len(got.numbers), got.err, frames)
	}
	c.send(frames, 100, true)
	c.end()
	if got := <-other; got.err != io.EOF || len(got.numbers) != frames+1 {
		t.Errorf("the other viewer got %d frames and %v, want %d and a clean end", len(got.numbers), got.err, frames+1)
	}
}

// TestFaultOfAPump ends its viewers, and who comes to it later, alone.
func TestFaultOfAPump(t *testing.T) {
	c := newChannel(t)
	var log strings.Builder
	fanout := NewFanout(time.Second, slog.New(slog.NewTextHandler(&log, nil)))
	fanout.pumps[c.stream] = []*pump{{wake: make(chan struct{}, 1)}}
	p := fanout.pumps[c.stream][0]
	join := func() (gone chan struct{}) {
		gone = make(chan struct{})
		_, proxy := connect(t)
		err := fanout.Take(t.Context(), proxy, []byte(response), true, c.stream, c.slot, func() { close(gone) })
		if err != nil {
			t.Fatal(err)
		}
		return gone
	}
	first := join()
	<-p.wake               // it has been added
	p.run(nil, fanout.log) // no slot: the fault
	<-first
	<-join()
	if !strings.Contains(log.String(), "fault in writing to viewers") {
		t.Errorf("the log says %q", log.String())
	}
	delete(fanout.pumps, c.stream)
	c.send(0, 100, true)
	c.end()
}

// TestPosition sends a body in pieces of every size, as kernels take them.
func TestPosition(t *testing.T) {
	for _, chunked := range []bool{true, false} {
		c := newChannel(t)
		for i := range 20 {
			c.send(i, 100+i, i%5 == 0)
		}
		start := c.stream.Join(time.Now())
		c.end()
		var want []byte
		for piece := 1; piece < 2000; piece += 1 + piece/7 {
			p := begin(t.Context(), c.stream, start, time.Second, chunked)
			var got []byte
			for !p.ended() {
				var all []byte
				for _, b := range p.gather(nil, time.Now()) {
					all = append(all, b...)
				}
				n := min(piece, len(all))
				got = append(got, all[:n]...)
				p.sent(n)
				p.gather(nil, time.Now())
			}
			if want == nil {
				want = got
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("in pieces of %d bytes the body is another", piece)
			}
		}
		var r io.Reader = bytes.NewReader(want)
		if chunked {
			r = httputil.NewChunkedReader(r)
		}
		if got, err := numbers(t, r); !errors.Is(err, io.EOF) || len(got) != 5 || got[0] != 15 {
			t.Errorf("the body holds %v and ends with %v, want the last group", got, err)
		}
	}
}

// TestKernelHoldsLittle: what a viewer's kernel buffers take is bounded.
func TestKernelHoldsLittle(t *testing.T) {
	_, proxy := connect(t)
	raw, err := proxy.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		size, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF)
		if err != nil || size != 2*sendBuffer { // Linux doubles it for its own accounting
			t.Errorf("SO_SNDBUF is %d: %v", size, err)
		}
		size, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT)
		if err != nil || size != notSent {
			t.Errorf("TCP_NOTSENT_LOWAT is %d: %v", size, err)
		}
	})
	if err != nil {
		t.Error(err)
	}
}
