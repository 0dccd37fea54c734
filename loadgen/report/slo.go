package report

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"tureen/loadgen/measure"
)

// ErrSLO is wrapped by the errors of objectives that can't be read.
var ErrSLO = errors.New("unreadable SLO")

// SLO is conditions that all must hold.
type SLO []Condition

// Condition is one bound on one figure, for example p99<75ms.
type Condition struct {
	Text   string  // as it was written
	Metric string  // one of Metrics
	Op     string  // one of <, <=, ==, !=, >=, >
	Bound  float64 // in the metric's own unit: µs, bytes, a count; of per cent a share
	Share  bool    // the bound is a share of the frames expected
}

// Checked is a condition held against a report.
type Checked struct {
	Condition string `json:"condition"`
	Measured  string `json:"measured"` // in words, with its unit
	Holds     bool   `json:"holds"`
}

// unit is what a metric's bound is written in.
type unit int

const (
	count unit = iota
	duration
	ratio
	bytes
)

// metric is a figure of a report that an SLO can bound. Its value is in the unit's base: a count, µs, a number, bytes.
type metric struct {
	unit  unit
	about string
	value func(r *Report) (v float64, measured bool)
	of    func(r *Report) int64 // of what bounds in per cent are shares; nil: there are none
}

// quantiles are the ways in which metrics name one figure of a spread.
var quantiles = map[string]func(s measure.Spread) int64{
	"p50":   func(s measure.Spread) int64 { return s.P50 },
	"p90":   func(s measure.Spread) int64 { return s.P90 },
	"p99":   func(s measure.Spread) int64 { return s.P99 },
	"p99.9": func(s measure.Spread) int64 { return s.P999 },
	"max":   func(s measure.Spread) int64 { return s.Max },
}

// metrics are all figures that can be bounded, by name.
var metrics = allMetrics()

func allMetrics() map[string]metric {
	all := map[string]metric{
		"lost":       framesMetric("frames that never came", func(t *measure.Track) int64 { return t.Lost }),
		"late":       framesMetric("frames later than --late", func(t *measure.Track) int64 { return t.Late }),
		"duplicated": framesMetric("frames that came twice", func(t *measure.Track) int64 { return t.Duplicated }),
		"stalls": countMetric("times that the picture stopped at a viewer", func(r *Report) int64 {
			return r.Stalls.Count
		}),
		"refused": countMetric("viewers refused", func(r *Report) int64 {
			n := 0
			for _, k := range r.Viewers.Refused {
				n += k
			}
			return int64(n)
		}),
		"failed": countMetric("viewers unreached, unanswered, broken off or ended early", func(r *Report) int64 {
			v := r.Viewers
			return int64(v.Unreached + v.Unanswered + v.Silent + v.Finished + v.Broken + v.Unreadable)
		}),
		"fairness": {
			ratio, "worst viewer's p99, of the median viewer's",
			func(r *Report) (float64, bool) { return r.Fairness.Ratio, r.Fairness.Viewers > 0 }, nil,
		},
		"cpu": {
			ratio, "server's CPU, in per cent of one core",
			func(r *Report) (float64, bool) { return ofServer(r, func(p *Process) float64 { return p.Core }) }, nil,
		},
		"rss": {
			bytes, "server's peak resident memory",
			func(r *Report) (float64, bool) {
				return ofServer(r, func(p *Process) float64 { return float64(p.Peak) })
			}, nil,
		},
		"rss_per_viewer": {
			bytes, "its rise for each viewer",
			func(r *Report) (float64, bool) {
				return ofServer(r, func(p *Process) float64 { return float64(p.PerMember) })
			}, nil,
		},
	}
	for name, pick := range quantiles {
		all[name] = spreadMetric("latency of the worse track", pick, worstTrack)
		all["video_"+name] = spreadMetric("latency of video", pick, ofTrack("video"))
		all["audio_"+name] = spreadMetric("latency of audio", pick, ofTrack("audio"))
		all["join_"+name] = spreadMetric("from request to first key frame", pick, func(r *Report) []measure.Spread {
			return []measure.Spread{r.Join.KeyFrame}
		})
		all["head_"+name] = spreadMetric("from request to response head", pick, func(r *Report) []measure.Spread {
			return []measure.Spread{r.Join.Head}
		})
	}
	return all
}

func ofServer(r *Report, pick func(p *Process) float64) (float64, bool) {
	if r.Server == nil {
		return 0, false
	}
	return pick(r.Server), true
}

func worstTrack(r *Report) []measure.Spread {
	var spreads []measure.Spread
	for _, t := range r.Tracks {
		spreads = append(spreads, t.Latency)
	}
	return spreads
}

func ofTrack(kind string) func(r *Report) []measure.Spread {
	return func(r *Report) []measure.Spread {
		if t := r.Tracks[kind]; t != nil {
			return []measure.Spread{t.Latency}
		}
		return nil
	}
}

// spreadMetric is the highest of some spreads' figures.
func spreadMetric(about string, pick func(measure.Spread) int64, from func(r *Report) []measure.Spread) metric {
	return metric{duration, about, func(r *Report) (worst float64, measured bool) {
		for _, s := range from(r) {
			if s.Count > 0 {
				worst, measured = max(worst, float64(pick(s))), true
			}
		}
		return worst, measured
	}, nil}
}

func framesMetric(about string, pick func(t *measure.Track) int64) metric {
	sum := func(r *Report, pick func(t *measure.Track) int64) int64 {
		var n int64
		for _, t := range r.Tracks {
			n += pick(t)
		}
		return n
	}
	expected := func(t *measure.Track) int64 { return t.Expected }
	return metric{
		count, about,
		func(r *Report) (float64, bool) { return float64(sum(r, pick)), len(r.Tracks) > 0 },
		func(r *Report) int64 { return sum(r, expected) },
	}
}

func countMetric(about string, pick func(r *Report) int64) metric {
	return metric{count, about, func(r *Report) (float64, bool) { return float64(pick(r)), true }, nil}
}

// Value returns a metric's value in its base unit (a count, µs, a number, bytes), and false when the run didn't measure
// it or there is no such metric.
func (r *Report) Value(name string) (v float64, measured bool) {
	m, ok := metrics[name]
	if !ok {
		return 0, false
	}
	return m.value(r)
}

// Metrics lists the metrics that an SLO can bound, a line each.
func Metrics() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(metrics)) {
		fmt.Fprintf(&b, "  %-16s %s\n", name, metrics[name].about)
	}
	return b.String()
}

// ops are the comparisons; those of two characters come first, because others begin like them.
var ops = []string{"<=", ">=", "==", "!=", "<", ">"}

// ParseSLO reads conditions parted by commas, for example "p99<75ms,lost==0,late<0.1%,rss_per_viewer<40KiB".
func ParseSLO(text string) (SLO, error) {
	var slo SLO
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		c, err := parseCondition(part)
		if err != nil {
			return nil, err
		}
		slo = append(slo, c)
	}
	if len(slo) == 0 {
		return nil, fmt.Errorf("%w: no condition in %q; such as p99<75ms,lost==0", ErrSLO, text)
	}
	return slo, nil
}

func parseCondition(text string) (Condition, error) {
	at := strings.IndexAny(text, "<>=!")
	if at < 0 {
		return Condition{}, fmt.Errorf("%w: %q compares nothing; such as p99<75ms", ErrSLO, text)
	}
	c := Condition{Text: text, Metric: strings.TrimSpace(text[:at])}
	for _, op := range ops {
		if strings.HasPrefix(text[at:], op) {
			c.Op = op
			break
		}
	}
	if c.Op == "" {
		return c, fmt.Errorf("%w: %q: compare by one of %s", ErrSLO, text, strings.Join(ops, " "))
	}
	m, ok := metrics[c.Metric]
	if !ok {
		return c, fmt.Errorf("%w: no metric %q; there are:\n%s", ErrSLO, c.Metric, Metrics())
	}
	var err error
	if c.Bound, c.Share, err = m.bound(strings.TrimSpace(text[at+len(c.Op):])); err != nil {
		return c, fmt.Errorf("%w: %q: %w", ErrSLO, text, err)
	}
	return c, nil
}

func (m metric) bound(text string) (v float64, share bool, err error) {
	switch m.unit {
	case duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return 0, false, fmt.Errorf("%q is no time, such as 75ms", text)
		}
		return float64(d.Nanoseconds()) / 1000, false, nil
	case bytes:
		return parseBytes(text)
	case count:
		if rest, ok := strings.CutSuffix(text, "%"); ok && m.of != nil {
			v, err = number(rest)
			return v / 100, true, err
		}
	case ratio:
		text = strings.TrimSuffix(text, "%")
	}
	v, err = number(text)
	return v, false, err
}

func number(text string) (float64, error) {
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || v < 0 || v > 1e18 || v != v {
		return 0, fmt.Errorf("%q is no number of zero or more", text)
	}
	return v, nil
}

func parseBytes(text string) (float64, bool, error) {
	scale := 1.0
	for suffix, size := range map[string]float64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		if rest, ok := strings.CutSuffix(text, suffix); ok {
			text, scale = rest, size
			break
		}
	}
	v, err := number(text)
	if err != nil {
		return 0, false, fmt.Errorf("%w of bytes, such as 40KiB", err)
	}
	return v * scale, false, nil
}

// Names tells whether a condition is about a metric.
func (s SLO) Names(metric string) bool {
	return slices.ContainsFunc(s, func(c Condition) bool { return c.Metric == metric })
}

// check holds a condition against a report; known is false when the run didn't measure what it is about.
func (c Condition) check(r *Report) (result Checked, known bool) {
	result.Condition = c.Text
	m := metrics[c.Metric]
	v, known := m.value(r)
	if !known {
		result.Measured = "not measured"
		return result, false
	}
	result.Measured = m.words(v)
	if c.Share {
		all := float64(m.of(r))
		v /= max(all, 1)
		result.Measured = fmt.Sprintf("%.3g %%", 100*v)
	}
	result.Holds = compare(v, c.Op, c.Bound)
	return result, true
}

func compare(v float64, op string, bound float64) bool {
	switch op {
	case "<":
		return v < bound
	case "<=":
		return v <= bound
	case "==":
		return v == bound
	case "!=":
		return v != bound
	case ">=":
		return v >= bound
	}
	return v > bound
}

func (m metric) words(v float64) string {
	switch m.unit {
	case duration:
		return ms(int64(v)) + " ms"
	case bytes:
		if v >= 1<<20 {
			return mib(int64(v))
		}
		return kib(int64(v))
	case ratio:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}

// Words returns a metric's value with its unit, for people.
func Words(name string, v float64) string { return metrics[name].words(v) }

// Floor returns how large a change of a metric must be, in its base unit, to be one at all.
func Floor(name string) float64 {
	switch metrics[name].unit {
	case duration:
		return 500
	case bytes:
		if name == "rss_per_viewer" {
			return 16 << 10
		}
		return 1 << 20
	case ratio:
		return 1
	}
	return 0
}
