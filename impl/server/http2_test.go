package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"tureen/impl/live"
	"tureen/impl/media"
	"tureen/impl/webm"
)

// connections are those that a server has open.
type connections struct {
	mu      sync.Mutex
	open    map[net.Conn]bool
	changed chan struct{} // closed at the next change
}

func (c *connections) state(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew:
		c.open[conn] = true
	case http.StateClosed, http.StateHijacked:
		delete(c.open, conn)
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// await returns once so many are open.
func (c *connections) await(t *testing.T, want int, limit time.Duration) {
	t.Helper()
	late := time.After(limit)
	for {
		c.mu.Lock()
		open, changed := len(c.open), c.changed
		c.mu.Unlock()
		if open == want {
			return
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("%d connections stay open, want %d", open, want)
		}
	}
}

// startTLS is start over TLS, with a client that speaks HTTP/2.
func startTLS(t *testing.T, options ...func(*Config)) (*proxy, *connections) {
	t.Helper()
	s := New(testConfig(t, options))
	server := httptest.NewUnstartedServer(nil)
	open := &connections{open: map[net.Conn]bool{}, changed: make(chan struct{})}
	server.Config = s.HTTP()
	server.Config.ConnState = open.state
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	t.Cleanup(s.Drain)
	return &proxy{Server: s, addr: server.Listener.Addr().String(), base: server.URL, client: server.Client()}, open
}

// flood publishes pictures of 64 KiB, all key frames, a thousand a second, until
// the test ends.
func (p *proxy) flood(t *testing.T, id string) {
	t.Helper()
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		answer, err := p.client.Post(p.base+"/stream/"+id, "video/webm", r)
		if err == nil {
			answer.Body.Close()
		}
	}()
	go func() {
		w.Write(webm.Header([]media.Track{{Kind: media.Video, Codec: media.VP8, Picture: media.Picture{Width: 2, Height: 2}}}))
		payload := make([]byte, 64<<10)
		copy(payload[3:], []byte{0x9d, 0x01, 0x2a}) // a key frame's start code
		for at := time.Duration(0); ; at += time.Millisecond {
			b := webm.AppendCluster(nil, at)
			if _, err := w.Write(webm.AppendSimpleBlock(b, 1, 0, true, payload)); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		w.CloseWithError(errors.New("the test is over"))
		<-done
	})
	p.await(t, id, live.Live)
}

// mute is a connection that can be made to take nothing more.
type mute struct {
	net.Conn
	muted chan struct{} // closed when it takes nothing more
	ended chan struct{} // closed with the connection
	once  sync.Once
}

func (m *mute) Read(b []byte) (int, error) {
	select {
	case <-m.muted:
		<-m.ended
		return 0, net.ErrClosed
	default:
		return m.Conn.Read(b)
	}
}

func (m *mute) Close() error {
	m.once.Do(func() { close(m.ended) })
	return m.Conn.Close()
}

// TestStuckHTTP2: a viewer whose whole connection takes nothing any more is cut
// off in the end, though nothing can be written that says so.
func TestStuckHTTP2(t *testing.T) {
	t.Parallel()
	p, open := startTLS(t, func(c *Config) { c.Budget = 50 * time.Millisecond })
	p.flood(t, "a")
	conns := make(chan *mute, 1)
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			m := &mute{Conn: c, muted: make(chan struct{}), ended: make(chan struct{})}
			conns <- m
			return m, nil
		},
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		ForceAttemptHTTP2: true,
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.base+"/stream/a", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	conn := <-conns
	defer conn.Close()
	go io.Copy(io.Discard, answer.Body)
	close(conn.muted)
	const publisher = 1
	open.await(t, publisher, 20*time.Second)
}

// TestEarlyAnswersHTTP2: over HTTP/2 likewise, a refused publisher gets its
// status at once, whatever it does, and its stream ends; others on the same
// connection go on (ING-5).
func TestEarlyAnswersHTTP2(t *testing.T) {
	t.Parallel()
	p, open := startTLS(t)
	p.flood(t, "taken")
	sends := map[string]func(io.Writer) error{
		"sends nothing": func(io.Writer) error { return nil },
		"sends slowly": func(w io.Writer) error {
			time.Sleep(20 * time.Millisecond) // which is slow
			_, err := w.Write([]byte{0})
			return err
		},
		"sends fast": func(w io.Writer) error {
			_, err := w.Write(make([]byte, 64<<10))
			return err
		},
	}
	for name, send := range sends {
		for path, status := range map[string]int{"/stream/taken": 409, "/nowhere": 404, "/stream/a%2Fb": 400} {
			t.Run(name+" to "+path, func(t *testing.T) {
				t.Parallel()
				r, w := io.Pipe()
				defer w.Close()
				ended := make(chan struct{})
				if name == "sends nothing" {
					close(ended)
				} else {
					go func() {
						defer close(ended)
						for send(w) == nil { // until the stream's end
						}
					}()
				}
				began := time.Now()
				request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, p.base+path, r)
				if err != nil {
					t.Fatal(err)
				}
				answer, err := p.client.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				defer answer.Body.Close()
				if took := time.Since(began); took > time.Second {
					t.Errorf("the status came after %v", took)
				}
				expectProblem(t, answer, status)
				if answer.ProtoMajor != 2 {
					t.Errorf("the answer is of %s", answer.Proto)
				}
				<-ended
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("the stream ended after %v", took)
				}
			})
		}
	}
	t.Cleanup(func() { open.await(t, 1, time.Second) })
}

// TestIdleHTTP2: who sends nothing is ended with 408 over HTTP/2, too (ING-13).
func TestIdleHTTP2(t *testing.T) {
	t.Parallel()
	p, _ := startTLS(t)
	r, w := io.Pipe()
	defer w.Close()
	go w.Write(clip(t, "webm-vp8").Data[:40<<10]) // and then nothing
	began := time.Now()
	expectProblem(t, p.put(t, "idle", r), http.StatusRequestTimeout)
	if took := time.Since(began); took < p.config.Idle || took > 3*p.config.Idle {
		t.Errorf("the publisher was ended after %v, want about %v", took, p.config.Idle)
	}
}

// TestBrokenHTTP2: a publisher whose stream is reset has broken off, and returns
// to its viewers' bodies (ING-15, REC-2).
func TestBrokenHTTP2(t *testing.T) {
	t.Parallel()
	p, _ := startTLS(t)
	c := clip(t, "webm-vp8")
	watching := p.watchAll(t, "a")
	r, w := io.Pipe()
	ctx, reset := context.WithCancel(t.Context())
	defer reset()
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, p.base+"/stream/a", r)
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if answer, err := p.client.Do(request); err == nil {
			answer.Body.Close()
			t.Errorf("the publisher is answered %s", answer.Status)
		}
	}()
	if _, err := w.Write(c.Data[:c.Frames[10].End]); err != nil {
		t.Fatal(err)
	}
	p.await(t, "a", live.Live)
	reset()
	<-gone
	p.await(t, "a", live.Waiting)
	summary(t, p.put(t, "a", io.MultiReader(bytes.NewReader(c.Data[:c.Frames[20].End]))))
	if got := <-watching; got.err != io.EOF || len(got.frames) < 21+1 {
		t.Errorf("the viewer got %d frames and %v, want both publishers' and a clean end", len(got.frames), got.err)
	}
}
