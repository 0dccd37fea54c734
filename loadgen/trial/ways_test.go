package trial

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"tureen/loadgen/publish"
	"tureen/loadgen/report"
	"tureen/loadgen/webm"
)

// Viewers over TLS see as much as others, faults included.
func TestOverTLS(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP/2 %v", http2), func(t *testing.T) {
			t.Parallel()
			s := &server{onFrame: once(0, 0)}
			url, trust := serveTLS(t, s)
			cfg := config(t, url, "webm-load")
			cfg.Target.TLS.RootCAs, cfg.HTTP2 = trust, http2
			r, err := Run(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if r.Verdict.Exit != report.FallsShort || r.Tracks["video"].Lost != 1 || r.Viewers.Watching != viewers || r.BytesRead == 0 {
				t.Errorf("verdict %+v, viewers %+v, video %+v", r.Verdict, r.Viewers, r.Tracks["video"])
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			want := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[http2]
			if len(s.protocols) != viewers || slices.ContainsFunc(s.protocols, func(proto string) bool { return proto != want }) {
				t.Errorf("viewers speak %v, not %s", s.protocols, want)
			}
		})
	}
}

// Slow viewers come by TLS too, and speak HTTP/1.1 whatever the others do.
func TestSlowOverTLS(t *testing.T) {
	t.Parallel()
	s := &server{}
	url, trust := serveTLS(t, s)
	cfg := config(t, url, "webm-load")
	cfg.Target.TLS.RootCAs, cfg.HTTP2, cfg.Slow = trust, true, 2
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.protocols, "HTTP/1.1") || r.Viewers.Watching != viewers {
		t.Errorf("viewers speak %v, %+v", s.protocols, r.Viewers)
	}
}

func TestSeveralPublishers(t *testing.T) {
	t.Parallel()
	const publishers = 3
	url, streams := several(t, "/stream/test-1", "/stream/test-2", "/stream/test-3")
	streams["/stream/test-2"].onFrame = once(0, 0)
	cfg := config(t, url, "webm-load")
	cfg.Publishers, cfg.Viewers = publishers, 9 // once hits each stream's third viewer
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if r.Tracks["video"].Lost != 1 || r.Viewers.Watching != 9 || len(r.Streams) != publishers || r.Publisher.Status != http.StatusOK {
		t.Fatalf("verdict %+v, viewers %+v, video %+v, streams %+v", r.Verdict, r.Viewers, r.Tracks["video"], r.Streams)
	}
	var frames int64
	for i, s := range r.Streams {
		lost := int64(0)
		if i == 1 {
			lost = 1
		}
		if s.Path != fmt.Sprintf("/stream/test-%d", i+1) || s.Viewers != 3 || s.Lost != lost || s.Latency.Count == 0 || s.Publisher.Status != 200 {
			t.Errorf("stream %d: %+v", i, s)
		}
		frames += s.Publisher.Frames
	}
	if frames != r.Publisher.Frames {
		t.Errorf("%d frames, of each stream %d", r.Publisher.Frames, frames)
	}
}

// Viewers who come and go lose nothing by that.
func TestChurn(t *testing.T) {
	t.Parallel()
	cfg := config(t, serve(t, &server{}), "webm-load")
	cfg.Churn, cfg.Seed, cfg.Duration = 2*time.Second, 3, 5*time.Second
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict.Exit != report.Holds || r.Viewers.Wanted <= viewers || r.Viewers.Watching != r.Viewers.Wanted || len(r.Each) != r.Viewers.Wanted {
		t.Errorf("verdict %+v, viewers %+v", r.Verdict, r.Viewers)
	}
}

// What a server does late and in fits shows, in the figures and by the objectives.
func TestStallsAndLatenessShow(t *testing.T) {
	t.Parallel()
	const pause = 800 * time.Millisecond
	cfg := config(t, serve(t, &server{onFrame: once(1, pause)}), "webm-load")
	cfg.Duration = 2500 * time.Millisecond
	var err error
	if cfg.SLO, err = report.ParseSLO("stalls==0,late==0,fairness<100000,lost==0"); err != nil {
		t.Fatal(err)
	}
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	reasons := strings.Join(r.Verdict.Reasons, "; ")
	if r.Verdict.Exit != report.FallsShort || !strings.Contains(reasons, "stalls==0") || !strings.Contains(reasons, "late==0") ||
		strings.Contains(reasons, "lost") {
		t.Errorf("verdict %+v", r.Verdict)
	}
	if r.Stalls.Viewers < 1 || r.Tracks["video"].Late < 1 || r.Fairness.Worst < pause.Microseconds()/2 || len(r.Timeline) == 0 {
		t.Errorf("stalls %+v, video %+v, fairness %+v", r.Stalls, r.Tracks["video"], r.Fairness)
	}
}

// What is published elsewhere is waited for until it is live.
func TestPublishingElsewhere(t *testing.T) {
	t.Parallel()
	s := &server{onFrame: func(int, int, webm.Frame) (int, time.Duration) { return 1, 0 }}
	url := serve(t, s)
	early := 0
	s.onWatch = func(viewer int, w http.ResponseWriter) bool {
		if viewer >= 3 {
			return false
		}
		early++
		http.Error(w, "not yet", http.StatusNotFound)
		return true
	}
	cfg := config(t, url, "webm-load")
	ingest, err := ParseIngest(t.Context(), url+"/stream/test")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Ingest = ingest
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict.Exit != report.Holds || early != 3 || r.Viewers.Watching != viewers {
		t.Errorf("verdict %+v, viewers %+v, %d refused before", r.Verdict, r.Viewers, early)
	}
}

func TestParseIngest(t *testing.T) {
	tests := []struct {
		url    string
		path   string
		manner publish.Manner
		secure bool
	}{
		{"http://127.0.0.1/a", "/a", publish.Put, false},
		{"https://127.0.0.1:8443/a%20b", "/a%20b", publish.Put, true},
		{"post://127.0.0.1:9000", "/", publish.Post, false},
		{"icecast://source:secret@127.0.0.1:8100/live.webm", "/live.webm", publish.Icecast, false},
	}
	for _, test := range tests {
		cfg, err := ParseIngest(t.Context(), test.url)
		if err != nil || cfg.Path != test.path || cfg.Manner != test.manner || (cfg.TLS != nil) != test.secure {
			t.Errorf("%s: %+v, error %v", test.url, cfg, err)
		}
	}
	for _, bad := range []string{"", "127.0.0.1:8100", "icecast://127.0.0.1/no-port", "ftp://127.0.0.1:21/a", "http:///a"} {
		if cfg, err := ParseIngest(t.Context(), bad); !errors.Is(err, ErrTarget) {
			t.Errorf("%s: %+v, error %v", bad, cfg, err)
		}
	}
}

func TestWorkThatCantBeDone(t *testing.T) {
	tests := []struct {
		name string
		edit func(c *Config)
		want string
	}{
		{"more publishers than viewers", func(c *Config) { c.Publishers = viewers + 1 }, "a viewer each"},
		{"several publishers elsewhere", func(c *Config) { c.Publishers, c.Ingest = 2, &publish.Config{} }, "one stream"},
		{"several publishers with a query", func(c *Config) { c.Publishers, c.Target.Path = 2, "/a?b" }, "query"},
		{"short stays", func(c *Config) { c.Churn = time.Second }, "on average"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cfg := config(t, "http://127.0.0.1:1", "webm-load")
			test.edit(&cfg)
			if _, err := Run(t.Context(), cfg); !errors.Is(err, ErrNoRun) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}
