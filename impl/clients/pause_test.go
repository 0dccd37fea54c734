package clients_test

import (
	"context"
	"io"
	"testing"
	"time"

	"tureen/fixtures"
)

// The publisher's pause is longer than viewers may fall behind by, and far
// shorter than a publisher may be silent for.
const (
	pauseBudget = "--budget=1s"
	pause       = 2500 * time.Millisecond
)

// TestViewersOutlastPause has a publisher pause for longer than the viewers'
// budget, in the middle and before its end. The budget is about viewers that
// don't read: those that do stay, over each version of HTTP.
func TestViewersOutlastPause(t *testing.T) {
	tests := map[string]struct {
		tls     bool
		viewers []string
	}{
		"plain":    {viewers: words("--http1.0 --http1.1")},
		"over TLS": {tls: true, viewers: words("--http1.1 --http2")},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			ctx := begin(t)
			need(t, "curl")
			var p *proxy
			var trust []string
			if test.tls {
				var certificate string
				p, certificate = startTLS(t, pauseBudget)
				trust = []string{"--cacert", certificate}
			} else {
				p = startOwn(t, "http", pauseBudget)
			}
			session := newSession(t, p)
			curls, bodies := map[string]*program{}, map[string]*recording{}
			for _, version := range test.viewers {
				flags := args(trust, []string{version, "-H", "Prefer: wait=30"})
				curls[version], bodies[version] = curlWatches(ctx, t, p.url(session), flags...)
				asks(ctx, t, curls[version])
			}
			clip := open(t, shortClip)
			sendWithPauses(ctx, t, clip, p.url(session), trust, bodies[test.viewers[0]])
			for _, version := range test.viewers {
				t.Run(version, func(t *testing.T) {
					curls[version].succeeds(t)
					got := bodies[version].clean(t)
					checkWhole(t, published(t, clip.Data), got)
				})
			}
		})
	}
}

// sendWithPauses publishes a clip by curl, with a pause once a viewer has what
// came before, and another before the end.
func sendWithPauses(
	ctx context.Context, t *testing.T, clip *fixtures.Clip, url string, trust []string, viewer *recording,
) {
	t.Helper()
	half := clip.Frames[len(clip.Frames)/2]
	pictures := 0
	for _, f := range clip.Frames {
		if f.End <= half.End && f.Track == clip.Tracks[0].Number {
			pictures++
		}
	}
	r, w := io.Pipe()
	t.Cleanup(func() { r.Close() })
	curl := run(ctx, t, "curl", args(trust, words("-T -"), curlPublishes(url)), withInput(r))
	if _, err := w.Write(clip.Data[:half.End]); err != nil {
		t.Fatalf("feeding curl: %v", err)
	}
	viewer.await(ctx, t, pictures)
	pass(curl)
	if _, err := w.Write(clip.Data[half.End:]); err != nil {
		t.Fatalf("feeding curl the rest: %v", err)
	}
	pass(curl)
	w.Close()
	curl.succeeds(t)
}

// pass lets the pause go by, unless curl ends before.
func pass(curl *program) {
	select {
	case <-time.After(pause):
	case <-curl.done:
	}
}
