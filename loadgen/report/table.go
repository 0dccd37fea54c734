package report

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"tureen/loadgen/measure"
)

// WriteTable writes the report for people.
func (r *Report) WriteTable(w io.Writer) error {
	t := &table{}
	t.writer = tabwriter.NewWriter(&t.text, 0, 0, 2, ' ', 0)
	t.line("%s, %s, %s, %.1f s measured", r.Settings.Target+r.Settings.Path, r.Settings.Input, r.Audience(), r.Length)
	if r.Settings.Measurable != "" {
		t.line("measured: %s", r.Settings.Measurable)
	}
	t.latencies(r)
	if r.Viewers.Wanted > 0 {
		t.frames(r)
		t.streams(r)
		t.viewers(r)
		t.processes(r)
	}
	for _, warning := range r.Warnings {
		t.line("warning: %s", warning)
	}
	t.line("")
	t.line("verdict: %s (exit code %d)", r.Verdict.Result, r.Verdict.Exit)
	for _, c := range r.Verdict.SLO {
		t.line("  %s %s: measured %s", mark(c.Holds), c.Condition, c.Measured)
	}
	for _, reason := range r.Verdict.Reasons {
		t.line("  - %s", reason)
	}
	_ = t.writer.Flush()
	if _, err := io.WriteString(w, trimLines(t.text.String())); err != nil {
		return fmt.Errorf("writing report: %w", err)
	}
	return nil
}

// table gathers lines whose cells are parted by tabs; an empty line ends a block of columns.
type table struct {
	text   strings.Builder
	writer *tabwriter.Writer
}

func (t *table) line(format string, args ...any) { fmt.Fprintf(t.writer, format+"\n", args...) }

func (t *table) spread(name string, s measure.Spread) {
	if s.Count == 0 {
		t.line("%s\t–\t\t\t\t\t0\t", name)
		return
	}
	t.line("%s\t%s\t%s\t%s\t%s\t%s\t%d\t", name, ms(s.P50), ms(s.P90), ms(s.P99), ms(s.P999), ms(s.Max), s.Count)
}

// ms shows µs as milliseconds with three significant digits.
func ms(us int64) string {
	v := float64(us) / 1000
	switch {
	case v < 10:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 100:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

func (t *table) latencies(r *Report) {
	t.line("")
	t.line("milliseconds\tp50\tp90\tp99\tp99.9\tmax\tcount\t")
	for _, kind := range kinds(r) {
		t.spread("latency "+kind, r.Tracks[kind].Latency)
		if parts := r.Tracks[kind].Parts; parts != nil {
			t.spread("  without slow viewers", parts[0])
			t.spread(fmt.Sprintf("  beside %d slow viewers", r.Settings.Slow), parts[1])
		}
	}
	t.spread("noise floor before", r.Noise.Before)
	if r.Viewers.Wanted == 0 {
		return
	}
	t.spread("noise floor during", r.Noise.During)
	t.spread("join: response head", r.Join.Head)
	t.spread("join: first key frame", r.Join.KeyFrame)
	t.spread("join: connection", r.Join.Connect)
	t.spread("publisher's own lag", r.Publisher.Lag)
	t.spread("publisher's writes", r.Publisher.Stall)
}

func kinds(r *Report) []string {
	names := slices.Collect(maps.Keys(r.Tracks))
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(b, a) })
	return names
}

func (t *table) frames(r *Report) {
	t.line("")
	t.line("frames\tmode\texpected\tlost\tlate\tduplicated\tout of order\tunmatched\taltered\tskipped at join\t")
	for _, kind := range kinds(r) {
		k := r.Tracks[kind]
		t.line("%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t", kind, cmp.Or(k.Mode, "–"), k.Expected, k.Lost, k.Late, k.Duplicated, k.Disordered,
			k.Unmatched, k.Altered, k.SkippedAtJoin)
	}
}

func (t *table) viewers(r *Report) {
	v := r.Viewers
	t.line("")
	t.line("viewers: %d of %d watching, %s", v.Watching, v.Wanted, refusals(v))
	t.line("  %d unreached, %d unanswered, %d without a first frame, %d ended early, %d broken, %d unreadable",
		v.Unreached, v.Unanswered, v.Silent, v.Finished, v.Broken, v.Unreadable)
	if v.FirstError != "" {
		t.line("  first error: %s", v.FirstError)
	}
	t.line("  %d stalls at %d viewers, %s ms in all; p99 of single viewers %s to %s ms, the worst %.2f times the median",
		r.Stalls.Count, r.Stalls.Viewers, ms(r.Stalls.Total), ms(r.Fairness.Best), ms(r.Fairness.Worst), r.Fairness.Ratio)
	rate := 0.0
	if r.Length > 0 {
		rate = float64(r.BytesRead) * 8 / r.Length / 1e6
	}
	t.line("  %.1f MB read, %.1f Mbit/s", float64(r.BytesRead)/1e6, rate)
	t.line("publisher: %d frames, %.2f MB, final status %s", r.Publisher.Frames, float64(r.Publisher.Bytes)/1e6, status(r.Publisher))
}

// streams tells several streams apart.
func (t *table) streams(r *Report) {
	if len(r.Streams) < 2 {
		return
	}
	t.line("")
	t.line("streams\tviewers\tp50 ms\tp99 ms\tmax ms\tlost\tpublisher\t")
	for _, s := range r.Streams {
		t.line("%s\t%d\t%s\t%s\t%s\t%d\t%s\t", s.Path, s.Viewers, ms(s.Latency.P50), ms(s.Latency.P99), ms(s.Latency.Max), s.Lost,
			cmp.Or(s.Publisher.Error, status(s.Publisher)))
	}
}

func mark(holds bool) string {
	if holds {
		return "✓"
	}
	return "✗"
}

// Audience says in words who watched, and how.
func (r *Report) Audience() string {
	s := r.Settings
	words := fmt.Sprintf("%d viewers", s.Viewers)
	switch {
	case s.Churn > 0:
		words += fmt.Sprintf(" that come and go (%d visits of %g s on average, seed %d)", r.Viewers.Wanted, s.Churn, s.Seed)
	case s.Ramp == 0:
		words += " at once"
	}
	if s.Publishers > 1 {
		words += fmt.Sprintf(" of %d streams", s.Publishers)
	}
	if s.Slow > 0 {
		words += fmt.Sprintf(", later %d slow ones", s.Slow)
	}
	if s.Protocol != "" && s.Protocol != "HTTP/1.1" {
		words += ", " + s.Protocol
	}
	return words
}

func status(p Publisher) string {
	if p.Status == 0 {
		return "none"
	}
	return strconv.Itoa(p.Status)
}

func refusals(v measure.Viewers) string {
	if len(v.Refused) == 0 {
		return "none refused"
	}
	var parts []string
	for _, code := range slices.Sorted(maps.Keys(v.Refused)) {
		parts = append(parts, fmt.Sprintf("%d refused with %d", v.Refused[code], code))
	}
	return strings.Join(parts, ", ")
}

func (t *table) processes(r *Report) {
	t.line("")
	t.line("CPU and memory\tuser s\tsystem s\t%% of a core\tµs/viewer/s\tRSS before\tRSS peak\tper viewer\t")
	t.process("server", r.Server)
	t.process("generator", r.Generator)
}

func (t *table) process(name string, p *Process) {
	if p == nil {
		t.line("%s\tnot known\t\t\t\t\t\t\t", name)
		return
	}
	t.line("%s\t%.2f\t%.2f\t%.1f\t%.0f\t%s\t%s\t%s\t", name, p.User, p.System, p.Core, p.PerViewer,
		mib(int64(p.Before)), mib(int64(p.Peak)), kib(p.PerMember))
}

func mib(bytes int64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }
func kib(bytes int64) string { return fmt.Sprintf("%.1f KiB", float64(bytes)/(1<<10)) }

// trimLines removes the padding at the end of lines.
func trimLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}
