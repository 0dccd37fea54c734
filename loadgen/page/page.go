// Package page draws reports and comparisons as one web page that needs nothing besides itself: no scripts, no styles and
// no fonts from elsewhere, light or dark as the reader's system is.
package page

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"

	"tureen/loadgen/compare"
	"tureen/loadgen/measure"
	"tureen/loadgen/report"
)

//go:embed page.html
var source string

var parsed = template.Must(template.New("page").Funcs(template.FuncMap{
	"ms": ms, "join": strings.Join, "words": report.Words, "median": compare.Median, "mb": func(n int64) string {
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	},
	"mib":  func(n uint64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) },
	"kib":  func(n int64) string { return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10)) },
	"fix1": func(v float64) string { return fmt.Sprintf("%.1f", v) },
	"fix3": func(v float64) string { return fmt.Sprintf("%.3g", v) },
}).Parse(source))

// ms shows µs as milliseconds.
func ms(us int64) string {
	v := float64(us) / 1000
	switch {
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// run is a report with its drawings.
type run struct {
	*report.Report
	Over       *plot
	Histograms []*plot
	Heat       *strip
	Spreads    []spread
}

type spread struct {
	Name string
	measure.Spread
}

// comparison is a comparison with its drawings.
type comparison struct {
	*compare.Comparison
	P99 *plot
}

// Write writes the page of runs and comparisons.
func Write(w io.Writer, title string, reports []*report.Report, comparisons []*compare.Comparison) error {
	data := struct {
		Title       string
		Runs        []run
		Comparisons []comparison
	}{Title: title}
	for _, c := range comparisons {
		data.Comparisons = append(data.Comparisons, comparison{c, bySize(c)})
	}
	for _, r := range reports {
		data.Runs = append(data.Runs, newRun(r))
	}
	if err := parsed.Execute(w, data); err != nil {
		return fmt.Errorf("writing page: %w", err)
	}
	return nil
}

func newRun(r *report.Report) run {
	out := run{Report: r, Over: overTime(r.Timeline), Heat: newStrip(r.Heat)}
	for _, kind := range kinds(r) {
		name := "latency " + kind
		out.Spreads = append(out.Spreads, spread{name, r.Tracks[kind].Latency})
		if parts := r.Tracks[kind].Parts; parts != nil {
			out.Spreads = append(out.Spreads, spread{"… without slow viewers", parts[0]}, spread{"… beside them", parts[1]})
		}
		if h, ok := r.Histograms[name]; ok && len(h.Buckets) > 0 {
			out.Histograms = append(out.Histograms, histogram(kind, h))
		}
	}
	out.Spreads = append(out.Spreads,
		spread{"join: first key frame", r.Join.KeyFrame},
		spread{"join: response head", r.Join.Head},
		spread{"join: connection", r.Join.Connect},
		spread{"publisher's own lag", r.Publisher.Lag},
		spread{"publisher's writes", r.Publisher.Stall},
		spread{"noise floor before", r.Noise.Before},
		spread{"noise floor during", r.Noise.During})
	return out
}

// kinds lists the tracks, video first.
func kinds(r *report.Report) []string {
	names := slices.Sorted(maps.Keys(r.Tracks))
	slices.Reverse(names)
	return names
}
