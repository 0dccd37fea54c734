package clients_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"tureen/fixtures"
)

// upload is a publisher's connection without any client's manners.
type upload struct {
	*net.TCPConn
	t *testing.T
}

// uploads begins to publish in chunks.
func uploads(t *testing.T, p *proxy, session string) *upload {
	t.Helper()
	conn, err := net.Dial("tcp", p.address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "PUT /stream/%s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", session)
	return &upload{conn.(*net.TCPConn), t}
}

// send sends a chunk. That it can't be sent is for the answer to explain.
func (u *upload) send(b []byte) error {
	_, err := fmt.Fprintf(u, "%x\r\n%s\r\n", len(b), b)
	return err
}

// end sends the last chunk.
func (u *upload) end() { fmt.Fprint(u, "0\r\n\r\n") }

// reset ends the connection in a way that no end can be mistaken for.
func (u *upload) reset() {
	u.t.Helper()
	if err := u.SetLinger(0); err != nil {
		u.t.Error(err)
	}
	u.Close()
}

// answer waits for the proxy's, for so long.
func (u *upload) answer(within time.Duration) *http.Response {
	u.t.Helper()
	if err := u.SetReadDeadline(time.Now().Add(within)); err != nil {
		u.t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(u), &http.Request{Method: http.MethodPut})
	if err != nil {
		u.t.Fatalf("the publisher gets no answer: %v", err)
	}
	return answer
}

// TestBreaksOff has streams of all formats transcoded and watched, and breaks
// them off in every way. Nothing of them is left. The variable TUREEN_CYCLES says
// how often.
func TestBreaksOff(t *testing.T) {
	n := rounds(t, "TUREEN_CYCLES", 24)
	p := startAlone(t, "--idle=1s", "--grace=100ms", "--max-transcodes=100")
	before := p.quiet(t, 0)
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n)*10*time.Second)
	defer cancel()
	_, clips := kinds(t)
	clips = slices.DeleteFunc(clips, func(c *fixtures.Clip) bool { return c.Name == "mp4-moov-last" }) // it never goes live
	const killed, stopped = "transcoders killed", "transcoders stopped, and reset"
	var alone sync.RWMutex // of those, which meet all that are there
	ways := []struct {
		name  string
		early bool // before the tracks are known
		end   func(*upload)
	}{
		{"to its end", false, func(u *upload) { u.end() }},
		{"reset", false, func(u *upload) { u.reset() }},
		{"closed", false, func(u *upload) { u.Close() }},
		{"half closed", false, func(u *upload) { u.CloseWrite() }},
		{"silent", false, func(*upload) {}},
		{"rubbish", false, func(u *upload) { u.send(make([]byte, 1<<20)); u.end() }},
		{"reset before anything is known", true, func(u *upload) { u.reset() }},
		{"ended before anything is known", true, func(u *upload) { u.end() }},
		{killed, false, func(*upload) {
			for _, pid := range p.transcoders(t) {
				syscall.Kill(pid, syscall.SIGKILL) // it may be gone
			}
		}},
		{stopped, false, func(u *upload) {
			for _, pid := range p.transcoders(t) {
				syscall.Kill(pid, syscall.SIGSTOP)
			}
			u.reset()
			for _, pid := range p.transcoders(t) { // the spare
				syscall.Kill(pid, syscall.SIGCONT)
			}
		}},
	}
	var cycles sync.WaitGroup
	slots := make(chan struct{}, 2) // at once
	for i := range n {
		way, clip := ways[i%len(ways)], clips[i%len(clips)]
		session := newSession(t, p)
		slots <- struct{}{}
		cycles.Go(func() {
			defer func() { <-slots }()
			if way.name == killed || way.name == stopped {
				alone.Lock()
				defer alone.Unlock()
			} else {
				alone.RLock()
				defer alone.RUnlock()
			}
			var v *viewer
			if !way.early { // one who waits for nothing is kept for as long as it asked for
				v = watch(ctx, t, p.url(session), true)
			}
			u := uploads(t, p, session)
			body := beginning(clip)
			if way.early {
				body = body[:min(len(body), 100)]
			}
			u.send(body)
			if !way.early {
				select {
				case <-v.answer: // so it is live
				case <-time.After(20 * time.Second):
					t.Errorf("%s of %s doesn't go live\n%s", way.name, clip.Name, p.logOf(session))
				}
			}
			way.end(u)
			if !way.early {
				select {
				case <-v.done:
				case <-time.After(30 * time.Second):
					t.Errorf("%s of %s: the viewer's body doesn't end\n%s", way.name, clip.Name, p.logOf(session))
				}
			}
			u.Close()
		})
	}
	cycles.Wait()
	p.checkFootprint(t, before)
	p.checkGoroutines(t)
}
