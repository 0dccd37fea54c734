package page

import (
	"encoding/xml"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"tureen/loadgen/compare"
	"tureen/loadgen/measure"
	"tureen/loadgen/report"
)

// sample is a report with everything that is drawn.
func sample() *report.Report {
	r := report.New(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	r.Settings = report.Settings{Target: "http://127.0.0.1:8000", Path: "/stream/<x>", Input: "webm-load", Viewers: 100, Publishers: 2}
	r.Viewers = measure.Viewers{Wanted: 100, Watching: 100, Refused: map[int16]int{}}
	r.Tracks = map[string]*measure.Track{"video": {
		Mode: measure.Passthrough, Expected: 9000, Latency: measure.Spread{Count: 9000, P50: 900, P90: 1000, P99: 2000, P999: 3000, Max: 450_000},
	}}
	r.Histograms = map[string]measure.Histogram{"latency video": {Digits: 3, Buckets: [][2]int64{{900, 8000}, {2000, 999}, {450_000, 1}}}}
	chart := measure.NewChart(0, 300*time.Second, 100)
	r.Timeline = []measure.Point{{At: 0, Count: 10, P50: 900, P99: 2000, Max: 3000}, {At: 1}, {At: 2, Count: 1, P50: 1, P99: 450_000, Max: 450_000}}
	r.Heat = chart.Heat()
	r.Heat.Rows[3][7] = 450_000
	r.Streams = []report.Stream{{Path: "/stream/x-1", Viewers: 50}, {Path: "/stream/x-2", Viewers: 50}}
	r.Server = &report.Process{Core: 10, Peak: 20 << 20}
	r.Warn("something is <odd>")
	slo, err := report.ParseSLO("p99<1ms,lost==0")
	if err != nil {
		panic(err)
	}
	r.Judge(report.MaxNoise, slo)
	return r
}

func drawn(t *testing.T, reports []*report.Report, comparisons []*compare.Comparison) string {
	t.Helper()
	var b strings.Builder
	if err := Write(&b, "A title", reports, comparisons); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPageHasEverything(t *testing.T) {
	c := compare.New("Icecast and tureen", time.Now(), compare.Side{Name: "Icecast", Target: "a"}, compare.Side{Name: "tureen", Target: "b"})
	c.Add([]*report.Report{sample()}, []*report.Report{sample()})
	c.Judge(nil)
	html := drawn(t, []*report.Report{sample()}, []*compare.Comparison{c})
	for _, want := range []string{
		"<title>A title</title>", "falls short", "p99&lt;1ms", "measured 2.00 ms", "Latency over time", "Latency of video, frames",
		"8000 frames from", "Highest latency by viewer and time", "450 ms", "/stream/x-2", "something is &lt;odd&gt;", "/stream/&lt;x&gt;",
		"p99 by viewers", "Icecast, 100 viewers: 2 ms", "20.0 MiB", "prefers-color-scheme: dark",
	} {
		if !strings.Contains(html, want) {
			t.Errorf("no %q", want)
		}
	}
}

// A page needs nothing besides itself, and runs nothing.
func TestPageIsSelfContained(t *testing.T) {
	html := drawn(t, []*report.Report{sample()}, nil)
	for _, bad := range []string{"<script", "<link", "<img", "src=", "@import", "url(", "ZgotmplZ", "<no value>"} {
		if strings.Contains(html, bad) {
			t.Errorf("%q in the page", bad)
		}
	}
}

// outside finds what lies left of its frame or above it, or has a size below zero.
var outside = regexp.MustCompile(` (x|y|cx|cy|width|height)="-`)

// Drawings are well-formed, and lie within their frames.
func TestDrawings(t *testing.T) {
	html := drawn(t, []*report.Report{sample()}, nil)
	drawings := regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAllString(html, -1)
	if len(drawings) != 3 {
		t.Fatalf("%d drawings", len(drawings))
	}
	for _, svg := range drawings {
		d := xml.NewDecoder(strings.NewReader(svg))
		for {
			_, err := d.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%v in %.200s", err, svg)
			}
		}
		if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") || outside.MatchString(svg) {
			t.Errorf("no place for what is drawn in %.300s", svg)
		}
	}
}

// Reports with nothing in them make a page too.
func TestEmptyReport(t *testing.T) {
	r := report.New(time.Now())
	r.Judge(report.MaxNoise, nil)
	if html := drawn(t, []*report.Report{r}, nil); !strings.Contains(html, "no verdict") || strings.Contains(html, "<svg") {
		t.Error("an empty report isn't drawn as one")
	}
	if html := drawn(t, nil, nil); !strings.Contains(html, "A title") {
		t.Error("a page of nothing lacks its title")
	}
}

func TestSteps(t *testing.T) {
	for _, end := range []float64{1, 3, 8, 60, 240, 3600} {
		s := steps(end)
		if len(s) < 4 || len(s) > 14 || s[len(s)-1] > end {
			t.Errorf("%v: %v", end, s)
		}
	}
}
