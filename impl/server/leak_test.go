package server

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"tureen/impl/live"
)

// stage is what a cycle's clients act on: a proxy of plain HTTP and one of TLS.
type stage struct {
	plain, secure *proxy
	body          []byte // of a publisher: 10 pictures
}

// conn is a connection of a client's that ends with its part in the cycle.
func (p *proxy) conn() (*net.TCPConn, error) {
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), conn.SetDeadline(time.Now().Add(20 * time.Second))
}

// begins sends the body as the beginning of a longer one over a connection of
// its own, has end end that, and closes it.
func begins(end func(*net.TCPConn)) func(*stage, string) error {
	return func(s *stage, id string) error {
		conn, err := s.plain.conn()
		if err != nil {
			return err
		}
		defer conn.Close()
		fmt.Fprintf(conn, "PUT /stream/%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", id, 2*len(s.body))
		if _, err := conn.Write(s.body); err != nil {
			return err
		}
		for s.plain.registry.State(id) == live.Taken {
			time.Sleep(time.Millisecond)
		}
		end(conn)
		return nil
	}
}

// puts sends a body by an ordinary client.
func puts(secure, chunked bool, body func([]byte) []byte) func(*stage, string) error {
	return func(s *stage, id string) error {
		p := s.plain
		if secure {
			p = s.secure
		}
		var r io.Reader = bytes.NewReader(body(s.body))
		if chunked {
			r = io.MultiReader(r) // hides its length
		}
		request, err := http.NewRequest(http.MethodPut, p.base+"/stream/"+id, r)
		if err != nil {
			return err
		}
		answer, err := p.client.Do(request)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		_, err = io.Copy(io.Discard, answer.Body)
		return err
	}
}

// wholly, damaged and unknown are bodies.
func wholly(b []byte) []byte  { return b }
func damaged(b []byte) []byte { return append(bytes.Clone(b), 0, 0, 0, 0) }
func unknown([]byte) []byte   { return []byte("no media at all") }

// publishing are ways to publish and to end.
var publishing = []func(*stage, string) error{
	puts(false, true, wholly),
	puts(false, false, wholly),
	puts(false, true, damaged),
	puts(false, true, unknown),
	puts(true, true, wholly),
	puts(true, true, damaged),
	begins(func(*net.TCPConn) {}),
	begins(func(c *net.TCPConn) { c.SetLinger(0) }),
	begins(func(c *net.TCPConn) { c.CloseWrite(); io.Copy(io.Discard, c) }),
	begins(func(c *net.TCPConn) { io.Copy(io.Discard, c) }), // falls silent
	func(s *stage, id string) error { // breaks off over HTTP/2
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		r, w := io.Pipe()
		go func() {
			w.Write(s.body)
			w.CloseWithError(io.ErrUnexpectedEOF)
		}()
		request, err := http.NewRequestWithContext(ctx, http.MethodPut, s.secure.base+"/stream/"+id, r)
		if err != nil {
			return err
		}
		if answer, err := s.secure.client.Do(request); err == nil {
			answer.Body.Close()
		}
		return nil
	},
}

// asks sends a viewer's request over a connection of its own, has end end that,
// and closes it.
func asks(end func(*net.TCPConn)) func(*stage, string) error {
	return func(s *stage, id string) error {
		conn, err := s.plain.conn()
		if err != nil {
			return err
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET /stream/%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nPrefer: wait=1\r\n\r\n", id)
		end(conn)
		return nil
	}
}

// some reads a little, if that comes.
func some(r io.Reader) { io.ReadFull(r, make([]byte, 1000)) }

// watching are ways to watch and to end.
var watching = []func(*stage, string) error{
	asks(func(c *net.TCPConn) { io.Copy(io.Discard, c) }),
	asks(func(c *net.TCPConn) { c.CloseWrite(); io.Copy(io.Discard, c) }),
	asks(func(c *net.TCPConn) { some(c) }),
	asks(func(c *net.TCPConn) { some(c); c.SetLinger(0) }),
	asks(func(c *net.TCPConn) { c.SetLinger(0) }),
	asks(func(*net.TCPConn) {}),
	asks(func(*net.TCPConn) { time.Sleep(500 * time.Millisecond) }), // never reads
	gets(func(r io.Reader) { io.Copy(io.Discard, r) }),
	gets(some),
}

// gets watches over HTTP/2.
func gets(read func(io.Reader)) func(*stage, string) error {
	return func(s *stage, id string) error {
		request, err := http.NewRequest(http.MethodGet, s.secure.base+"/stream/"+id, nil)
		if err != nil {
			return err
		}
		request.Header.Set("Prefer", "wait=1")
		answer, err := s.secure.client.Do(request)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		read(answer.Body)
		return nil
	}
}

// cycles has so many sessions published and watched, in every combination.
func (s *stage) cycles(t *testing.T, name string, n int) {
	const viewers, atOnce = 3, 64
	var running sync.WaitGroup
	room := make(chan struct{}, atOnce)
	act := func(what func(*stage, string) error, id string) {
		if err := what(s, id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	for i := range n {
		room <- struct{}{}
		running.Go(func() {
			defer func() { <-room }()
			id := fmt.Sprint(name, i)
			var acting sync.WaitGroup
			for v := range viewers {
				acting.Go(func() { act(watching[(i+v)%len(watching)], id) })
			}
			act(publishing[i%len(publishing)], id)
			acting.Wait()
		})
	}
	running.Wait()
}

// holding is what a process holds: goroutines, descriptors, bytes of heap.
type holding struct {
	goroutines, files int
	heap              uint64
}

func (s *stage) holding(t *testing.T) holding {
	t.Helper()
	s.plain.client.CloseIdleConnections()
	s.secure.client.CloseIdleConnections()
	runtime.GC()
	runtime.GC() // the first may have left what finalizers held
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return holding{runtime.NumGoroutine(), len(files), m.HeapAlloc}
}

// TestLeaks: 500 sessions that are published and watched, and end in every way,
// leave nothing behind.
func TestLeaks(t *testing.T) {
	const (
		cycles   = 500
		heapRoom = 2 << 20 // of what the runtime and net/http keep for the next one
	)
	short := func(c *Config) {
		c.Idle, c.Grace, c.Budget = 500*time.Millisecond, 200*time.Millisecond, 100*time.Millisecond
		c.Log = slog.New(slog.DiscardHandler) // a test's output is kept, and would count
	}
	secure, _ := startTLS(t, short)
	c := clip(t, "webm-vp8-vorbis")
	s := &stage{plain: start(t, short), secure: secure, body: cut(c, 25).Data}
	s.cycles(t, "warm", len(publishing)*len(watching))
	before := s.settled(t, holding{})
	s.cycles(t, "cycle", cycles)
	after := s.settled(t, before)
	t.Logf("before %+v, after %d cycles %+v", before, cycles, after)
	if after.goroutines > before.goroutines || after.files > before.files || after.heap > before.heap+heapRoom {
		stacks := make([]byte, 1<<20)
		t.Errorf("%d cycles left something behind\n%s", cycles, stacks[:runtime.Stack(stacks, true)])
	}
}

// settled is what is held once that no longer shrinks, or is no more than wanted.
func (s *stage) settled(t *testing.T, want holding) holding {
	t.Helper()
	const quiet = 3 * time.Second // more than all times of the proxy's
	now, since := s.holding(t), time.Now()
	for time.Since(since) < quiet {
		time.Sleep(50 * time.Millisecond)
		got := s.holding(t)
		if got.goroutines <= want.goroutines && got.files <= want.files && got.heap <= want.heap {
			return got
		}
		if got.goroutines < now.goroutines || got.files < now.files {
			since = time.Now()
		}
		now = got
	}
	return now
}
