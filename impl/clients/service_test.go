package clients_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"tureen/loadgen/publish"
)

// crowd is a proxy with a publisher, a viewer who reads, one who waits for a
// stream that doesn't come, and one who never reads.
type crowd struct {
	*proxy
	viewer  *viewer
	waiting *program
	end     func() error // the publisher's
}

// gather starts a proxy with flags, and its crowd; whoever calls it ends the proxy.
func gather(ctx context.Context, t *testing.T, flags ...string) *crowd {
	t.Helper()
	p, err := startProxy("http", flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.kill(); err != nil {
			t.Error(err)
		}
	})
	source, err := publish.Open(loopClip)
	if err != nil {
		t.Fatal(err)
	}
	session := newSession(t, p)
	c := &crowd{proxy: p, viewer: watch(ctx, t, p.url(session), true)}
	c.end = sends(ctx, t, p.address(), session, source)
	c.viewer.await(ctx, t, 1)
	c.waiting, _ = curlWatches(ctx, t, p.url(newSession(t, p)), "-H", "Prefer: wait=60")
	asks(ctx, t, c.waiting)
	stuck, err := net.Dial("tcp", p.address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stuck.Close() })
	if err := stuck.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(stuck, "GET /stream/%s HTTP/1.1\r\nHost: x\r\n\r\n", session)
	// At 1 Mbit/s it takes so long to fill what the proxy's kernel holds for it.
	const full = 5 * loopRate
	c.viewer.await(ctx, t, full)
	return c
}

// TestDrain has the proxy told to end while it is at work: everybody gets what
// says so, and it is gone within its time, with success (SRV-3).
func TestDrain(t *testing.T) {
	const drain = 3 * time.Second
	ctx := begin(t)
	c := gather(ctx, t, "--drain="+drain.String())
	told := time.Now()
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	c.viewer.clean(t)
	if late := c.viewer.ended.Sub(told); late > endTime {
		t.Errorf("the viewer's body ended after %v", late)
	}
	var refused *publish.RefusedError
	if err := c.end(); !errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable {
		t.Errorf("the publisher is answered: %v, want 503", err)
	}
	<-c.waiting.done
	if version, h := answerOf(t, c.waiting); version != "HTTP/1.1 503 Service Unavailable" || h.Get("Retry-After") == "" {
		t.Errorf("the waiting viewer is answered %s with %v, want 503 with Retry-After", version, h)
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		t.Fatal("the proxy doesn't end")
	}
	limit := drain
	if raced {
		limit += time.Second // the race detector sleeps for as long at the end (GORACE's atexit_sleep_ms)
	}
	if took := time.Since(told); took > limit || c.err != nil {
		t.Errorf("the proxy ended after %v, error: %v; want success within %v", took, c.err, limit)
	}
}

// TestSecondSignal: who can't wait for the end of a drain says so by another signal.
func TestSecondSignal(t *testing.T) {
	ctx := begin(t)
	c := gather(ctx, t, "--drain=5m")
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	c.viewer.clean(t) // so it drains, and the viewer who never reads holds it up
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.done:
	case <-time.After(startTime):
		t.Fatal("the proxy doesn't heed a second signal")
	}
	var exit *exec.ExitError
	if !errors.As(c.err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("the proxy ended with %v, want it ended by the signal", c.err)
	}
	c.end() // whatever it is told
}

// TestLimits has one client more than the operator allows.
func TestLimits(t *testing.T) {
	for name, flags := range map[string]string{
		"in all": "--max-publishers=1 --max-viewers=1", "per address": "--max-publishers-per-address=1 --max-viewers-per-address=1",
	} {
		t.Run(name, func(t *testing.T) {
			ctx := begin(t)
			p := startOwn(t, "http", words(flags)...)
			air := onAir(ctx, t, p)
			viewer, _ := curlWatches(ctx, t, air.url)
			publisher := run(ctx, t, "curl", args(words("-T"), []string{file(t, open(t, shortClip))}, curlPublishes(p.url(newSession(t, p)))))
			for _, client := range []*program{viewer, publisher} {
				<-client.done
				version, h := answerOf(t, client)
				if !strings.HasSuffix(version, "503 Service Unavailable") || h.Get("Retry-After") == "" {
					t.Errorf("one too many is answered %s with %v, want 503 with Retry-After", version, h)
				}
			}
			air.end()
			air.whole(t)
		})
	}
}
