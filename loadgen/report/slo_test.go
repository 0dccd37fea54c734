package report

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestSLO(t *testing.T) {
	tests := []struct {
		slo    string
		edit   func(r *Report)
		exit   int
		reason string
	}{
		{"p99<75ms,lost==0,stalls==0,refused==0,cpu<50%", nil, Holds, ""},
		{"p99<3.2ms", nil, FallsShort, "p99<3.2ms: measured 3.20 ms"},
		{"p99<=3200us", nil, Holds, ""},
		{"p99.9<12ms", nil, FallsShort, "p99.9<12ms: measured 12.3 ms"},
		{"video_max<1s,audio_p50<2ms", nil, Holds, ""},
		{"join_p99<20ms", nil, NoVerdict, "join_p99<20ms: not measured"},
		{"join_p99<20ms", func(r *Report) { r.Join.KeyFrame.Count, r.Join.KeyFrame.P99 = 10, 20_000 }, FallsShort, "join_p99<20ms: measured 20.0 ms"},
		{"lost<0.1%", func(r *Report) { r.Tracks["video"].Lost = 22 }, Holds, ""},
		{"lost<0.1%", func(r *Report) { r.Tracks["video"].Lost = 23 }, FallsShort, "lost<0.1%: measured 0.1 %"},
		{"lost<=3", func(r *Report) { r.Tracks["audio"].Lost = 4 }, FallsShort, "lost<=3: measured 4"},
		{"p99<1s", func(r *Report) { r.Tracks["audio"].Lost = 1 }, FallsShort, "1 of 14000 audio frames lost"},
		{"late==0", func(r *Report) { r.Tracks["audio"].Late = 1 }, FallsShort, "late==0: measured 1"},
		{"duplicated<3", func(r *Report) { r.Tracks["audio"].Duplicated = 2 }, Holds, ""},
		{"stalls<1", func(r *Report) { r.Stalls.Count = 1 }, FallsShort, "stalls<1: measured 1"},
		{"refused<=2", func(r *Report) { r.Viewers.Refused[503] = 2 }, Holds, ""},
		{"refused<2", func(r *Report) { r.Viewers.Refused[503] = 2 }, FallsShort, "refused<2: measured 2"},
		{"failed<2", func(r *Report) { r.Viewers.Broken = 1 }, Holds, ""},
		{"fairness<1.5", func(r *Report) { r.Fairness.Viewers, r.Fairness.Ratio = 10, 1.6 }, FallsShort, "fairness<1.5: measured 1.60"},
		{"rss<12MiB", nil, FallsShort, "rss<12MiB: measured 12.0 MiB"},
		{"rss_per_viewer<300KiB", nil, Holds, ""},
		{"cpu<5", nil, FallsShort, "cpu<5: measured 10.00"},
		{"cpu<5", func(r *Report) { r.Server = nil }, NoVerdict, "cpu<5: not measured"},
		{"cpu!=10,cpu>=11", nil, FallsShort, "cpu!=10"},
		{"p99<1us", func(r *Report) { r.Noise.Before.P99 = 30_000 }, NoVerdict, "machine too busy"},
	}
	for _, test := range tests {
		t.Run(test.slo, func(t *testing.T) {
			slo, err := ParseSLO(test.slo)
			if err != nil {
				t.Fatal(err)
			}
			r := good()
			if test.edit != nil {
				test.edit(r)
			}
			r.Judge(MaxNoise, slo)
			found := test.reason == "" && len(r.Verdict.Reasons) == 0 ||
				test.reason != "" && slices.ContainsFunc(r.Verdict.Reasons, func(s string) bool { return strings.HasPrefix(s, test.reason) })
			if r.Verdict.Exit != test.exit || !found || len(r.Verdict.SLO) != len(slo) {
				t.Errorf("verdict %+v, want exit code %d and %q", r.Verdict, test.exit, test.reason)
			}
		})
	}
}

func TestUnreadableSLO(t *testing.T) {
	for _, text := range []string{"", ",", "p99", "p99<", "p99<75", "p99<fast", "p98<1ms", "lost=0", "lost==x", "lost<-1", "lost==NaN", "cpu<1e30", "rss<1PB", "<1ms"} {
		if slo, err := ParseSLO(text); !errors.Is(err, ErrSLO) {
			t.Errorf("%q: %+v, error %v", text, slo, err)
		}
	}
}

func FuzzParseSLO(f *testing.F) {
	for _, text := range []string{"p99<75ms,lost==0", "rss<=40KiB", "late<0.1%", "!=", "cpu>=5%", "p99<\x00"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		slo, err := ParseSLO(text)
		if err != nil {
			return
		}
		r := good()
		r.Judge(MaxNoise, slo)
		for _, c := range slo {
			if again, err := ParseSLO(c.Text); err != nil || len(again) != 1 || again[0] != c {
				t.Errorf("%q is read as %+v, then as %+v, error %v", c.Text, c, again, err)
			}
		}
	})
}

func TestRead(t *testing.T) {
	r := good()
	r.Judge(MaxNoise, nil)
	var b strings.Builder
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	again, err := Read([]byte(b.String()))
	if err != nil || again.Tracks["video"].Latency != r.Tracks["video"].Latency || again.Settings != r.Settings {
		t.Errorf("read %+v, error %v", again, err)
	}
	for _, text := range []string{"", "{}", `{"schema":"tureen-loadgen/1"}`, "[]"} {
		if _, err := Read([]byte(text)); !errors.Is(err, ErrReport) {
			t.Errorf("%q: error %v", text, err)
		}
	}
}
