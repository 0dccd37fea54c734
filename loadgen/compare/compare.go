// Package compare holds reports against one another: two targets that did the same work in turn, pair by pair, and two
// runs of one target, old and new. It measures nothing itself.
package compare

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"tureen/loadgen/report"
)

// Schema names the form of a comparison. A change that breaks readers raises its number.
const Schema = "tureen-loadgen-compare/1"

// compared are the metrics that are held against one another. Of all of them less is better.
var compared = []string{
	"p50", "p90", "p99", "p99.9", "max", "join_p99", "lost", "late", "stalls", "refused", "failed", "fairness", "cpu", "rss",
	"rss_per_viewer",
}

// Side is one of the two targets.
type Side struct {
	Name   string `json:"name"`
	Target string `json:"target"`
}

// Comparison is two targets' work in turn, A B A B.
type Comparison struct {
	Schema  string         `json:"schema"`
	Title   string         `json:"title"`
	Started time.Time      `json:"started"`
	A       Side           `json:"a"` // what B is held against
	B       Side           `json:"b"`
	Sizes   []*Size        `json:"sizes"`
	Verdict report.Verdict `json:"verdict"`
}

// Size is the rounds with one number of viewers.
type Size struct {
	Viewers int             `json:"viewers"`
	Input   string          `json:"input"`
	Seconds float64         `json:"duration_s"`
	Figures []Figure        `json:"figures"`
	Runs    [2][]RunVerdict `json:"verdicts"` // of A and of B, round by round
}

// RunVerdict is what one run came to.
type RunVerdict struct {
	Exit    int      `json:"exit"`
	Reasons []string `json:"reasons"`
}

// Figure is one metric of both sides, round by round, in the metric's base unit (µs, bytes, a count, a number).
type Figure struct {
	Metric string    `json:"metric"`
	A      []float64 `json:"a"`
	B      []float64 `json:"b"`
	Ratios []float64 `json:"b_to_a"` // of the pairs in which A's is above zero
	// Ratio is the pairs' median; 0 when there is none. Low and High are the ends of their spread.
	Ratio float64 `json:"median_b_to_a"`
	Low   float64 `json:"lowest_b_to_a"`
	High  float64 `json:"highest_b_to_a"`
}

// New returns an empty comparison.
func New(title string, started time.Time, a, b Side) *Comparison {
	return &Comparison{Schema: Schema, Title: title, Started: started, A: a, B: b}
}

// Add adds one number of viewers, with a report of either side for each round.
func (c *Comparison) Add(a, b []*report.Report) {
	s := &Size{Viewers: a[0].Settings.Viewers, Input: a[0].Settings.Input, Seconds: a[0].Settings.Duration}
	for side, reports := range [][]*report.Report{a, b} {
		for _, r := range reports {
			s.Runs[side] = append(s.Runs[side], RunVerdict{r.Verdict.Exit, r.Verdict.Reasons})
		}
	}
	for _, metric := range compared {
		if f, ok := figure(metric, a, b); ok {
			s.Figures = append(s.Figures, f)
		}
	}
	c.Sizes = append(c.Sizes, s)
}

// figure takes a metric out of the pairs in which both sides measured it; false when none did.
func figure(metric string, a, b []*report.Report) (Figure, bool) {
	f := Figure{Metric: metric, Ratios: []float64{}}
	for i := range min(len(a), len(b)) {
		x, okA := a[i].Value(metric)
		y, okB := b[i].Value(metric)
		if !okA || !okB {
			continue
		}
		f.A, f.B = append(f.A, x), append(f.B, y)
		if x > 0 {
			f.Ratios = append(f.Ratios, y/x)
		}
	}
	if len(f.Ratios) > 0 {
		f.Ratio, f.Low, f.High = Median(f.Ratios), slices.Min(f.Ratios), slices.Max(f.Ratios)
	}
	return f, len(f.A) > 0
}

// Median returns the median of some numbers.
func Median(of []float64) float64 {
	sorted := slices.Sorted(slices.Values(of))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// ErrLimit is wrapped by the errors of limits that can't be read.
var ErrLimit = errors.New("unreadable limit")

// Limit is the highest ratio of B's figure to A's that holds.
type Limit struct {
	Metric string
	Ratio  float64
}

// ParseLimits reads limits parted by commas, for example "p99<=1.25,cpu<=1.15".
func ParseLimits(text string) ([]Limit, error) {
	var limits []Limit
	for part := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		metric, bound, ok := strings.Cut(part, "<=")
		metric = strings.TrimSpace(metric)
		ratio, err := strconv.ParseFloat(strings.TrimSpace(bound), 64)
		switch {
		case !ok || err != nil || !(ratio > 0) || math.IsInf(ratio, 0):
			return nil, fmt.Errorf("%w: %q; such as p99<=1.25", ErrLimit, part)
		case !slices.Contains(compared, metric):
			return nil, fmt.Errorf("%w: %q isn't compared; %s are", ErrLimit, metric, strings.Join(compared, ", "))
		}
		limits = append(limits, Limit{metric, ratio})
	}
	return limits, nil
}

// Judge sets the verdict: none when a run had none; B falls short when one of its runs does or a limit is passed by the
// median of the pairs' ratios. What A does is no fault of B's.
func (c *Comparison) Judge(limits []Limit) {
	var unknown, faults []string
	for _, s := range c.Sizes {
		for side, name := range []string{c.A.Name, c.B.Name} {
			for round, v := range s.Runs[side] {
				text := fmt.Sprintf("%s with %d viewers, round %d: %s", name, s.Viewers, round+1, strings.Join(v.Reasons, "; "))
				switch {
				case v.Exit == report.NoVerdict:
					unknown = append(unknown, text)
				case v.Exit == report.FallsShort && side == 1:
					faults = append(faults, text)
				}
			}
		}
		for _, limit := range limits {
			if text := s.passes(limit); text != "" {
				faults = append(faults, text)
			}
		}
	}
	c.Verdict = report.Verdict{Exit: report.Holds, Result: "holds", Reasons: []string{}}
	switch {
	case len(unknown) > 0:
		c.Verdict = report.Verdict{Exit: report.NoVerdict, Result: "no verdict", Reasons: unknown}
	case len(faults) > 0:
		c.Verdict = report.Verdict{Exit: report.FallsShort, Result: "falls short", Reasons: faults}
	}
}

// passes tells in words when a limit is passed.
func (s *Size) passes(limit Limit) string {
	for _, f := range s.Figures {
		switch {
		case f.Metric != limit.Metric:
		case f.Ratio > limit.Ratio:
			return fmt.Sprintf("%d viewers: %s is %.2f times, above %.2f", s.Viewers, f.Metric, f.Ratio, limit.Ratio)
		case len(f.Ratios) == 0 && Median(f.B) > 0:
			return fmt.Sprintf("%d viewers: %s is %s, from nothing", s.Viewers, f.Metric, report.Words(f.Metric, Median(f.B)))
		}
	}
	return ""
}

// Read reads a comparison from its JSON.
func Read(data []byte) (*Comparison, error) {
	var c Comparison
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("%w: %w", report.ErrReport, err)
	}
	if c.Schema != Schema {
		return nil, fmt.Errorf("%w: its schema is %q, this program reads %s", report.ErrReport, c.Schema, Schema)
	}
	return &c, nil
}

// WriteJSON writes the comparison as one JSON document.
func (c *Comparison) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(c); err != nil {
		return fmt.Errorf("writing comparison: %w", err)
	}
	return nil
}

// WriteTable writes the comparison for people: each side's median, and the pairs' ratios.
func (c *Comparison) WriteTable(w io.Writer) error {
	var text strings.Builder
	t := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%s\n", c.Title)
	for _, s := range c.Sizes {
		fmt.Fprintf(t, "\n%d viewers, %s, %g s, %d rounds\t%s\t%s\tratio\tlowest\thighest\n",
			s.Viewers, s.Input, s.Seconds, len(s.Runs[0]), c.A.Name, c.B.Name)
		for _, f := range s.Figures {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", f.Metric, report.Words(f.Metric, Median(f.A)), report.Words(f.Metric, Median(f.B)), f.ratios())
		}
	}
	fmt.Fprintf(t, "\nverdict: %s (exit code %d)\n", c.Verdict.Result, c.Verdict.Exit)
	for _, reason := range c.Verdict.Reasons {
		fmt.Fprintf(t, "  - %s\n", reason)
	}
	_ = t.Flush()
	if _, err := io.WriteString(w, text.String()); err != nil {
		return fmt.Errorf("writing comparison: %w", err)
	}
	return nil
}

func (f Figure) ratios() string {
	if len(f.Ratios) == 0 {
		return "–\t\t"
	}
	return fmt.Sprintf("%.3g\t%.3g\t%.3g", f.Ratio, f.Low, f.High)
}
