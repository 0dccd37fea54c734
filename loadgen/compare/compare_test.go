package compare

import (
	"errors"
	"strings"
	"testing"
	"time"

	"tureen/loadgen/measure"
	"tureen/loadgen/report"
)

// ran is the report of a run with this p99.
func ran(p99 time.Duration, edit func(r *report.Report)) *report.Report {
	r := report.New(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	r.Settings = report.Settings{Input: "webm-load", Viewers: 10, Duration: 30}
	r.Viewers = measure.Viewers{Wanted: 10, Watching: 10, Refused: map[int16]int{}}
	us := p99.Microseconds()
	r.Tracks = map[string]*measure.Track{"video": {
		Mode: measure.Passthrough, Expected: 9000, Latency: measure.Spread{Count: 9000, P50: us / 2, P90: us, P99: us, P999: us, Max: us},
	}}
	r.Server = &report.Process{Core: 10, Peak: 20 << 20}
	if edit != nil {
		edit(r)
	}
	r.Judge(report.MaxNoise, nil)
	return r
}

func compared3(b ...*report.Report) *Comparison {
	c := New("a and b", time.Now(), Side{"a", "http://a"}, Side{"b", "http://b"})
	ms := time.Millisecond
	c.Add([]*report.Report{ran(10*ms, nil), ran(10*ms, nil), ran(20*ms, nil)}, b)
	return c
}

func find(c *Comparison, metric string) Figure {
	for _, f := range c.Sizes[0].Figures {
		if f.Metric == metric {
			return f
		}
	}
	return Figure{}
}

func TestRatiosGoPairByPair(t *testing.T) {
	ms := time.Millisecond
	c := compared3(ran(5*ms, nil), ran(12*ms, nil), ran(20*ms, nil))
	f := find(c, "p99")
	if f.Ratio != 1 || f.Low != 0.5 || f.High != 1.2 || len(f.Ratios) != 3 {
		t.Errorf("%+v", f)
	}
	if lost := find(c, "lost"); len(lost.Ratios) != 0 || len(lost.A) != 3 {
		t.Errorf("of nothing there are no ratios: %+v", lost)
	}
	if join := find(c, "join_p99"); join.Metric != "" {
		t.Errorf("what wasn't measured is compared: %+v", join)
	}
}

func TestJudge(t *testing.T) {
	ms := time.Millisecond
	lossy := func(r *report.Report) { r.Tracks["video"].Lost = 7 }
	busy := func(r *report.Report) { r.Noise.Before.P99 = 30_000 }
	tests := []struct {
		name   string
		b      []*report.Report
		limits string
		exit   int
		reason string
	}{
		{"no limits", []*report.Report{ran(50*ms, nil), ran(50*ms, nil), ran(50*ms, nil)}, "", report.Holds, ""},
		{"within", []*report.Report{ran(10*ms, nil), ran(11*ms, nil), ran(90*ms, nil)}, "p99<=1.1,cpu<=1", report.Holds, ""},
		{"one bad pair is no pattern, two are", []*report.Report{ran(10*ms, nil), ran(12*ms, nil), ran(24*ms, nil)}, "p99<=1.1", report.FallsShort, "p99 is 1.20 times, above 1.10"},
		{"from nothing", []*report.Report{ran(10*ms, nil), ran(10*ms, lossy), ran(10*ms, lossy)}, "lost<=1", report.FallsShort, "lost is 7, from nothing"},
		{"B loses", []*report.Report{ran(10*ms, nil), ran(10*ms, nil), ran(10*ms, lossy)}, "", report.FallsShort, "b with 10 viewers, round 3: 7 of 9000 video frames lost"},
		{"busy", []*report.Report{ran(10*ms, nil), ran(10*ms, busy), ran(10*ms, lossy)}, "", report.NoVerdict, "b with 10 viewers, round 2: machine too busy"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			limits, err := ParseLimits(test.limits)
			if err != nil {
				t.Fatal(err)
			}
			c := compared3(test.b...)
			c.Judge(limits)
			reasons := strings.Join(c.Verdict.Reasons, "\n")
			if c.Verdict.Exit != test.exit || !strings.Contains(reasons, test.reason) || test.reason == "" && reasons != "" {
				t.Errorf("verdict %+v, want exit code %d and %q", c.Verdict, test.exit, test.reason)
			}
		})
	}
	// What A falls short in decides nothing.
	c := New("a and b", time.Now(), Side{"a", ""}, Side{"b", ""})
	c.Add([]*report.Report{ran(ms, lossy)}, []*report.Report{ran(ms, nil)})
	if c.Judge(nil); c.Verdict.Exit != report.Holds {
		t.Errorf("verdict %+v", c.Verdict)
	}
}

func TestUnreadableLimits(t *testing.T) {
	for _, text := range []string{"p99", "p99<1", "p99<=", "p99<=x", "p99<=0", "p99<=-1", "p99<=Inf", "p99<=NaN", "bytes<=1"} {
		if limits, err := ParseLimits(text); !errors.Is(err, ErrLimit) {
			t.Errorf("%q: %+v, error %v", text, limits, err)
		}
	}
}

func FuzzParseLimits(f *testing.F) {
	for _, text := range []string{"p99<=1.25,cpu<=1.15", ",", "<=", "rss<=1e9"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		limits, err := ParseLimits(text)
		if err != nil {
			return
		}
		c := compared3(ran(time.Millisecond, nil), ran(time.Millisecond, nil), ran(time.Millisecond, nil))
		c.Judge(limits)
		for _, l := range limits {
			if !(l.Ratio > 0) {
				t.Errorf("%q has a limit of %v", text, l.Ratio)
			}
		}
	})
}

func TestComparisonAsJSONAndTable(t *testing.T) {
	c := compared3(ran(time.Millisecond, nil), ran(time.Millisecond, nil), ran(time.Millisecond, nil))
	c.Judge(nil)
	var b strings.Builder
	if err := c.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	again, err := Read([]byte(b.String()))
	if err != nil || again.Sizes[0].Figures[0].Ratio != c.Sizes[0].Figures[0].Ratio {
		t.Errorf("read %+v, error %v", again, err)
	}
	if _, err := Read([]byte(`{"schema":"tureen-loadgen/2"}`)); !errors.Is(err, report.ErrReport) {
		t.Errorf("error %v", err)
	}
	b.Reset()
	if err := c.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a and b", "10 viewers, webm-load, 30 s, 3 rounds", "p99  ", "10.0 ms", "1.00 ms", "0.1    0.05    0.1", "verdict: holds"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestDiff(t *testing.T) {
	ms := time.Millisecond
	tests := []struct {
		name  string
		new   *report.Report
		worse string // the metrics, in order
	}{
		{"the same", ran(10*ms, nil), ""},
		{"better", ran(5*ms, nil), ""},
		{"within what is allowed", ran(11*ms, nil), ""},
		{"slower", ran(13*ms, nil), "p50 p90 p99 p99.9 max"},
		{"a frame lost", ran(10*ms, func(r *report.Report) { r.Tracks["video"].Lost = 1 }), "lost"},
		{"more memory", ran(10*ms, func(r *report.Report) { r.Server.Peak *= 2 }), "rss"},
		{"no processes known", ran(10*ms, func(r *report.Report) { r.Server = nil }), ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			changes, err := Diff(ran(10*ms, nil), test.new, 0.2)
			if err != nil {
				t.Fatal(err)
			}
			var worse []string
			for _, c := range changes {
				if c.Worse {
					worse = append(worse, c.Metric)
				}
			}
			if got := strings.Join(worse, " "); got != test.worse || Worse(changes) != (test.worse != "") {
				t.Errorf("worse: %q, want %q", got, test.worse)
			}
		})
	}
	// A large share of next to nothing is no change.
	changes, err := Diff(ran(200*time.Microsecond, nil), ran(600*time.Microsecond, nil), 0.2)
	if err != nil || Worse(changes) {
		t.Errorf("changes %+v, error %v", changes, err)
	}
}

func TestUnlikeReports(t *testing.T) {
	ms := time.Millisecond
	for name, other := range map[string]*report.Report{
		"more viewers": ran(ms, func(r *report.Report) { r.Settings.Viewers = 20 }),
		"other input":  ran(ms, func(r *report.Report) { r.Settings.Input = "webm-vp8" }),
		"no verdict":   ran(ms, func(r *report.Report) { r.Cut = true }),
	} {
		if _, err := Diff(ran(ms, nil), other, 1); !errors.Is(err, ErrUnlike) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
