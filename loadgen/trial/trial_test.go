package trial

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tureen/fixtures"
	"tureen/loadgen/measure"
	"tureen/loadgen/publish"
	"tureen/loadgen/report"
	"tureen/loadgen/webm"
)

const viewers = 6

func input(t *testing.T, name string) *publish.Source {
	t.Helper()
	source, err := publish.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	return source
}

func config(t *testing.T, url, name string) Config {
	t.Helper()
	target, err := ParseTarget(t.Context(), url, "test")
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Target: target, Source: input(t, name), Noise: input(t, "webm-load"), Viewers: viewers, Ramp: 100 * time.Millisecond,
		Duration: 1200 * time.Millisecond, Calibration: 200 * time.Millisecond,
		// What is tested here is counting, which a busy machine doesn't disturb.
		MaxNoise: time.Minute,
	}
}

func try(t *testing.T, s *server, input string) *report.Report {
	t.Helper()
	r, err := Run(t.Context(), config(t, serve(t, s), input))
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	if err := r.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	t.Logf("report:\n%s", table.String())
	return r
}

// once has a fault hit one viewer's n-th live frame, or a later one if that is a key frame or sound.
func once(times int, delay time.Duration) func(int, int, webm.Frame) (int, time.Duration) {
	const faulty, from = 2, 40 // well after the join, for frames that were due before it don't count
	done := false
	return func(viewer, n int, f webm.Frame) (int, time.Duration) {
		if viewer != faulty || done || n < from || f.Key {
			return 1, 0
		}
		done = true
		return times, delay
	}
}

func TestPerfectServer(t *testing.T) {
	for _, input := range []string{"webm-load", "webm-vp8", "webm-vorbis"} {
		t.Run(input, func(t *testing.T) {
			t.Parallel()
			r := try(t, &server{}, input)
			if r.Verdict.Exit != report.Holds {
				t.Errorf("verdict %+v", r.Verdict)
			}
			for kind, k := range r.Tracks {
				if k.Lost != 0 || k.Expected == 0 || k.Latency.Count != k.Expected || k.Mode != measure.Passthrough {
					t.Errorf("%s: %+v", kind, k)
				}
			}
			if r.Viewers.Watching != viewers || r.Join.KeyFrame.Count != viewers || r.Publisher.Status != http.StatusOK {
				t.Errorf("viewers %+v, join %+v, publisher %+v", r.Viewers, r.Join, r.Publisher)
			}
			if r.Noise.Before.Count == 0 || r.Noise.During.Count == 0 || r.Generator == nil || r.BytesRead == 0 {
				t.Errorf("noise %+v, generator %+v, %d bytes", r.Noise, r.Generator, r.BytesRead)
			}
		})
	}
}

// A server that lets slow viewers delay the others is found out.
func TestSlowViewers(t *testing.T) {
	t.Parallel()
	const (
		slow  = 4
		delay = 100 * time.Millisecond
	)
	var joined atomic.Int64
	s := &server{
		onWatch: func(viewer int, _ http.ResponseWriter) bool {
			if viewer >= viewers {
				joined.Add(1)
			}
			return false
		},
		onFrame: func(int, int, webm.Frame) (int, time.Duration) {
			if joined.Load() > 0 {
				return 1, delay / 4 // it adds up, frame by frame
			}
			return 1, 0
		},
	}
	cfg := config(t, serve(t, s), "webm-load")
	cfg.Slow, cfg.Duration = slow, 3*time.Second
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if n := joined.Load(); n < slow || r.Settings.Slow != slow {
		t.Errorf("%d slow viewers joined, settings %+v", n, r.Settings)
	}
	for kind, k := range r.Tracks {
		if k.Parts == nil {
			t.Fatalf("%s: the latencies aren't told apart", kind)
		}
		without, beside := k.Parts[0], k.Parts[1]
		if without.Count+beside.Count != k.Latency.Count || beside.Quantile99() < delay || without.P50 >= beside.P50 {
			t.Errorf("%s: without slow viewers %+v, beside them %+v", kind, without, beside)
		}
	}
}

// Pictures that come in another coding than they were sent in are told by their stamps.
func TestTranscodingServer(t *testing.T) {
	fixture, err := fixtures.Open("webm-vp8-vorbis")
	if err != nil {
		t.Fatal(err)
	}
	clip, err := webm.Parse(fixture.Data)
	if err != nil {
		t.Fatal(err)
	}
	r := try(t, &server{as: clip}, "mkv-h264-aac")
	if r.Verdict.Exit != report.Holds {
		t.Errorf("verdict %+v", r.Verdict)
	}
	for kind, k := range r.Tracks {
		if k.Mode != measure.Transcoded || k.Lost != 0 || k.Latency.Count == 0 || k.Latency.P50 > time.Second.Microseconds() {
			t.Errorf("%s: %+v", kind, k)
		}
	}
	if v := r.Tracks["video"]; v.Latency.Count != v.Expected {
		t.Errorf("video: %+v", v)
	}
}

func TestFaultsOfAServerShow(t *testing.T) {
	const delay = 50 * time.Millisecond
	tests := []struct {
		name   string
		server *server
		reason string // what the verdict says; nothing: it holds
		check  func(r *report.Report) bool
	}{
		{
			"a lost frame", &server{onFrame: once(0, 0)}, "1 of ",
			func(r *report.Report) bool { return r.Tracks["video"].Lost == 1 && r.Tracks["audio"].Lost == 0 },
		},
		{
			"a duplicated frame", &server{onFrame: once(2, 0)}, "1 video frames came twice",
			func(r *report.Report) bool { return r.Tracks["video"].Duplicated == 1 && r.Tracks["video"].Lost == 0 },
		},
		{
			"a delayed frame", &server{onFrame: once(1, delay)}, "",
			func(r *report.Report) bool { return r.Tracks["video"].Latency.Max >= delay.Microseconds() },
		},
		{
			"a refused viewer", &server{onWatch: func(viewer int, w http.ResponseWriter) bool {
				if viewer == 3 {
					http.Error(w, "full", http.StatusServiceUnavailable)
				}
				return viewer == 3
			}}, "1 viewers refused with 503",
			func(r *report.Report) bool {
				return r.Viewers.Refused[503] == 1 && r.Viewers.Watching == viewers-1 && r.Tracks["video"].Lost == 0
			},
		},
		{
			"broken bodies", &server{breakAfter: 20}, "6 viewers' bodies broke off",
			func(r *report.Report) bool { return r.Viewers.Broken == viewers && r.Tracks["video"].Lost > 0 },
		},
		{
			"a body that is no WebM", &server{onWatch: func(viewer int, w http.ResponseWriter) bool {
				if viewer == 0 {
					_, _ = w.Write(make([]byte, 100))
				}
				return viewer == 0
			}}, "1 viewers' bodies were unreadable",
			func(r *report.Report) bool { return r.Viewers.Unreadable == 1 },
		},
		{
			"a publisher that is thrown out", &server{failAfter: 120}, "publishing broke: publisher was answered 500",
			func(r *report.Report) bool { return r.Publisher.Status == 500 },
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := try(t, test.server, "webm-load")
			reasons := strings.Join(r.Verdict.Reasons, "; ")
			want := report.Holds
			if test.reason != "" {
				want = report.FallsShort
			}
			if r.Verdict.Exit != want || !strings.Contains(reasons, test.reason) {
				t.Errorf("verdict %+v, want exit code %d and %q", r.Verdict, want, test.reason)
			}
			if !test.check(r) {
				t.Errorf("viewers %+v, video %+v, audio %+v", r.Viewers, r.Tracks["video"], r.Tracks["audio"])
			}
		})
	}
}

func TestInterruption(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	s := &server{onFrame: func(_, n int, _ webm.Frame) (int, time.Duration) {
		if n == 30 {
			cancel()
		}
		return 1, 0
	}}
	cfg := config(t, serve(t, s), "webm-load")
	cfg.Duration = time.Hour
	cfg.Viewers = 1
	r, err := Run(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict.Exit != report.NoVerdict || !r.Cut || !r.Measured() || r.Tracks["video"].Lost != 0 {
		t.Errorf("verdict %+v, video %+v", r.Verdict, r.Tracks["video"])
	}
}

func TestNoRun(t *testing.T) {
	refuse := func(status int) string {
		return serveHandler(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", status) })
	}
	tests := []struct {
		name string
		url  string
		edit func(c *Config)
		want string
	}{
		{"nobody listens", "http://127.0.0.1:1", nil, "refused"},
		{"publisher refused", refuse(http.StatusConflict), nil, "409 Conflict: no"},
		{"no viewers", refuse(200), func(c *Config) { c.Viewers = 0 }, "at least one viewer"},
		{"input that begins anew", refuse(200), func(c *Config) { c.Source = input(t, "ebml-two-documents") }, "begin anew"},
		{"more viewers than descriptors", refuse(200), func(c *Config) { c.Viewers = 1 << 30 }, "open files"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t, test.url, "webm-load")
			if test.edit != nil {
				test.edit(&cfg)
			}
			r, err := Run(t.Context(), cfg)
			if !errors.Is(err, ErrNoRun) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("report %v, error %v; want %q", r, err, test.want)
			}
		})
	}
}

func TestParseTarget(t *testing.T) {
	tests := []struct{ url, session, path string }{
		{"http://127.0.0.1:8000", "a.b-c", "/stream/a.b-c"},
		{"http://127.0.0.1:8000/", "x", "/stream/x"},
		{"http://127.0.0.1/stream/demo", "", "/stream/demo"},
		{"http://[::1]:8000/live/any%20thing?key=1", "", "/live/any%20thing?key=1"},
		{"https://127.0.0.1", "x", "/stream/x"},
	}
	for _, test := range tests {
		target, err := ParseTarget(t.Context(), test.url, test.session)
		if err != nil || target.Path != test.path {
			t.Errorf("%s, %q: %+v, error %v; want path %s", test.url, test.session, target, err, test.path)
		}
	}
	own, err := ParseTarget(t.Context(), "http://127.0.0.1:8000", "")
	if err != nil || !strings.HasPrefix(own.Path, "/stream/loadgen-") {
		t.Errorf("own session: %+v, %v", own, err)
	}
	for _, bad := range [][2]string{
		{"ftp://127.0.0.1", ""},
		{"127.0.0.1:8000", ""},
		{"http://", ""},
		{"http://user@127.0.0.1", ""},
		{"http://127.0.0.1/stream/a", "b"},
		{"http://127.0.0.1", ".."},
		{"http://127.0.0.1", "a/b"},
		{"http://127.0.0.1?x=1", ""},
		{"http://127.0.0.1:nope", ""},
		{"http://no-such-host.invalid", ""},
	} {
		if target, err := ParseTarget(t.Context(), bad[0], bad[1]); !errors.Is(err, ErrTarget) {
			t.Errorf("%s, %q: %+v, error %v", bad[0], bad[1], target, err)
		}
	}
}
