package server

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"tureen/impl/live"
)

// asker asks for a stream from an address and reads the head of the answer. The
// viewer leaves when conn is closed.
func (p *proxy) asker(t *testing.T, from, id string) (answer *http.Response, conn net.Conn) {
	t.Helper()
	s := p.sender(t, from)
	fmt.Fprintf(s.conn, "GET /stream/%s HTTP/1.1\r\nHost: x\r\n\r\n", id)
	answer, err := http.ReadResponse(bufio.NewReader(s.conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	return answer, s.conn
}

// expectFull checks that a client is told to come again later (SRV-4).
func expectFull(t *testing.T, answer *http.Response) {
	t.Helper()
	expectProblem(t, answer, http.StatusServiceUnavailable)
	if answer.Header.Get("Retry-After") == "" {
		t.Error("503 doesn't say when to try again")
	}
}

// freed returns once so few seats are taken.
func freed(t *testing.T, s *seats, left int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		s.mu.Lock()
		taken := s.taken
		s.mu.Unlock()
		if taken == left {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%d seats stay taken, want %d", taken, left)
		case <-time.After(time.Millisecond):
		}
	}
}

func TestViewerLimits(t *testing.T) {
	t.Parallel()
	p := start(t, func(c *Config) { c.Viewers = Limits{Total: 3, PerAddress: 2} })
	p.onAir(t, "a", "webm-vp8")
	ask := func(from string, status int) net.Conn {
		t.Helper()
		answer, conn := p.asker(t, from, "a")
		if status == http.StatusServiceUnavailable {
			expectFull(t, answer)
		} else if answer.StatusCode != status {
			t.Fatalf("a viewer from %s gets %s, want %d", from, answer.Status, status)
		}
		return conn
	}
	first := ask("127.0.0.1", 200)
	ask("127.0.0.1", 200)
	ask("127.0.0.1", 503) // one address
	ask("127.0.0.2", 200)
	ask("127.0.0.3", 503) // all of them
	if answer, _ := p.asker(t, "127.0.0.3", "absent"); answer.StatusCode != http.StatusNotFound {
		t.Errorf("for an absent session a viewer without a seat gets %s", answer.Status)
	}
	if answer := p.get(t, "a", method(http.MethodHead)); answer.StatusCode != http.StatusOK {
		t.Errorf("HEAD takes no seat and gets %s", answer.Status)
	}
	first.Close()
	freed(t, p.viewers, 2)
	ask("127.0.0.1", 200)
}

// TestHeldViewersTakeSeats: who waits for a stream is a viewer, until he leaves
// without one.
func TestHeldViewersTakeSeats(t *testing.T) {
	t.Parallel()
	p := start(t, func(c *Config) { c.Viewers = Limits{Total: 1} })
	waiting := p.sender(t, "127.0.0.1")
	fmt.Fprintf(waiting.conn, "GET /stream/a HTTP/1.1\r\nHost: x\r\nPrefer: wait=1\r\n\r\n")
	p.awaitWaiter(t, "a")
	expectFull(t, p.get(t, "a", header("Prefer", "wait=1")))
	freed(t, p.viewers, 0)
}

func TestPublisherLimits(t *testing.T) {
	t.Parallel()
	p := start(t, func(c *Config) {
		c.Publishers = Limits{Total: 2, PerAddress: 1}
		c.Idle = time.Minute
	})
	data := clip(t, "webm-vp8").Data
	first := p.sender(t, "127.0.0.1")
	first.send("a", len(data), "", data[:20<<10])
	p.await(t, "a", live.Live)
	expectFull(t, p.sender(t, "127.0.0.1").put("b", "", data[:9])) // one address
	second := p.sender(t, "127.0.0.2")
	second.send("b", len(data), "", data[:20<<10])
	p.await(t, "b", live.Live)
	expectFull(t, p.sender(t, "127.0.0.3").put("c", "", data[:9])) // all of them
	expectProblem(t, p.sender(t, "127.0.0.3").put("a", "", data[:9]), http.StatusConflict)

	// One whose publisher broke off waits for it; who is refused changes nothing.
	second.conn.Close()
	p.await(t, "b", live.Waiting)
	third := p.sender(t, "127.0.0.3")
	third.send("c", len(data), "", data[:20<<10])
	p.await(t, "c", live.Live)
	expectFull(t, p.sender(t, "127.0.0.2").put("b", "", data[:9]))
	if state := p.registry.State("b"); state != live.Waiting {
		t.Errorf("after a refused return the session is %v", state)
	}
}

// TestSilentPublisherLeavesItsSeat to the one it gives way to.
func TestSilentPublisherLeavesItsSeat(t *testing.T) {
	t.Parallel()
	p := start(t, func(c *Config) {
		c.Publishers = Limits{Total: 1}
		c.Idle = time.Minute
	})
	c := cut(clip(t, "webm-vp8"), 5)
	p.sender(t, "127.0.0.1").send("a", len(c.Data)+1, "", c.Data)
	p.await(t, "a", live.Live)
	again := func() *http.Response { return p.sender(t, "127.0.0.1").put("a", "", c.Data) }
	answer := again()
	for ; answer.StatusCode == http.StatusConflict; answer = again() {
		time.Sleep(50 * time.Millisecond) // as Retry-After has clients do
	}
	summary(t, answer)
}

func TestNetwork(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1":          "192.0.2.1",
		"2001:db8:1:2:3::4":  "2001:db8:1:2::",
		"fe80::1%eth0":       "fe80::",
		"::1":                "::",
		"2001:db8:1:2:ff::9": "2001:db8:1:2::",
	} {
		if got := network(netip.MustParseAddr(addr)); got != netip.MustParseAddr(want) {
			t.Errorf("%s counts as %v, want %s", addr, got, want)
		}
	}
}
