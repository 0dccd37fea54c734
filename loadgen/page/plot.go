package page

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"tureen/loadgen/compare"
	"tureen/loadgen/measure"
)

// The size of a plot, and the room for its axes, in the SVG's own units.
const (
	width, height = 860.0, 240.0
	left, bottom  = 62.0, 34.0
	top, right    = 12.0, 12.0
)

// plot is a drawing with two axes.
type plot struct {
	Title         string
	Width, Height float64
	XTicks        []tick
	YTicks        []tick
	Lines         []line
	Bars          []bar
	XName         string
}

type tick struct {
	At   float64
	Text string
}

type line struct {
	Name   string
	Class  string
	Points string
	Dots   [][2]float64 // where a single point makes no line
}

type bar struct {
	X, Y, W, H float64
	Class      string
	Title      string
}

// scale maps values to one axis, by their logarithm.
type scale struct{ low, high, from, to float64 }

// decades returns the logarithmic scale of whole powers of ten that holds two values above zero.
func decades(low, high, from, to float64) scale {
	a, b := math.Floor(math.Log10(max(low, 1))), math.Ceil(math.Log10(max(high, 1)))
	if b <= a {
		b = a + 1
	}
	return scale{a, b, from, to}
}

func (s scale) at(v float64) float64 {
	share := (math.Log10(max(v, 1)) - s.low) / (s.high - s.low)
	return s.from + min(max(share, 0), 1)*(s.to-s.from)
}

// ticks are the powers of ten, of µs shown as time.
func (s scale) ticks() []tick {
	var out []tick
	for e := s.low; e <= s.high; e++ {
		v := math.Pow(10, e)
		out = append(out, tick{s.at(v), latency(v)})
	}
	return out
}

// latency shows µs with the unit that suits it.
func latency(us float64) string {
	switch {
	case us >= 1e6:
		return trim(us/1e6) + " s"
	case us >= 1e3:
		return trim(us/1e3) + " ms"
	}
	return trim(us) + " µs"
}

func trim(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }

// overTime draws p50, p99 and maximum over a run.
func overTime(points []measure.Point) *plot {
	low, high, end := math.Inf(1), 0.0, 1.0
	for _, p := range points {
		if p.Count > 0 {
			low, high = min(low, float64(p.P50)), max(high, float64(p.Max))
		}
		end = max(end, p.At)
	}
	if high == 0 {
		return nil
	}
	y := decades(low, high, height-bottom, top)
	x := func(s float64) float64 { return left + s/end*(width-left-right) }
	p := &plot{Title: "Latency over time", Width: width, Height: height, YTicks: y.ticks(), XName: "seconds since the first join"}
	for _, s := range steps(end) {
		p.XTicks = append(p.XTicks, tick{x(s), trim(s)})
	}
	for _, l := range []struct {
		name, class string
		pick        func(measure.Point) int64
	}{
		{"max", "c3", func(p measure.Point) int64 { return p.Max }},
		{"p99", "c2", func(p measure.Point) int64 { return p.P99 }},
		{"p50", "c1", func(p measure.Point) int64 { return p.P50 }},
	} {
		out := line{Name: l.name, Class: l.class}
		var b strings.Builder
		for _, point := range points {
			if point.Count > 0 {
				px, py := x(point.At), y.at(float64(l.pick(point)))
				fmt.Fprintf(&b, "%.1f,%.1f ", px, py)
				out.Dots = append(out.Dots, [2]float64{px, py})
			}
		}
		out.Points = strings.TrimSpace(b.String())
		p.Lines = append(p.Lines, out)
	}
	return p
}

// steps are round numbers from 0 to an end, six or so.
func steps(end float64) []float64 {
	step := math.Pow(10, math.Floor(math.Log10(end/5)))
	for _, by := range []float64{5, 2} {
		if end/(step*by) >= 5 {
			step *= by
			break
		}
	}
	var out []float64
	for s := 0.0; s <= end; s += step {
		out = append(out, s)
	}
	return out
}

const slots = 90 // bars of a histogram

// histogram draws how many frames had which latency. Both axes are logarithmic, or the slowest frames, which are few,
// would not be seen.
func histogram(kind string, h measure.Histogram) *plot {
	first, last := h.Buckets[0][0], h.Buckets[len(h.Buckets)-1][0]
	x := decades(float64(first), float64(last), left, width-right)
	counts, most := make([]int64, slots), int64(0)
	span := (width - left - right) / slots
	for _, b := range h.Buckets {
		i := min(int((x.at(float64(b[0]))-left)/span), slots-1)
		counts[i] += b[1]
		most = max(most, counts[i])
	}
	y := decades(1, float64(most)+1, height-bottom, top)
	y.low = -0.3 // so that a single frame shows
	p := &plot{Title: "Latency of " + kind + ", frames", Width: width, Height: height, XTicks: x.ticks(), XName: "latency"}
	for e := 0.0; e <= y.high; e++ {
		p.YTicks = append(p.YTicks, tick{y.at(math.Pow(10, e)), trim(math.Pow(10, e))})
	}
	for i, n := range counts {
		if n == 0 {
			continue
		}
		at := y.at(float64(n))
		from := math.Pow(10, x.low+float64(i)/slots*(x.high-x.low))
		p.Bars = append(p.Bars, bar{
			X: left + float64(i)*span, Y: at, W: span - 1, H: height - bottom - at, Class: "c1",
			Title: fmt.Sprintf("%d frames from %s on", n, latency(math.Round(from))),
		})
	}
	return p
}

// strip is the heat strip: a row for each viewer or some neighbours, a column for each moment.
type strip struct {
	Width, Height float64
	Cells         []cell
	XTicks        []tick
	Rows          int
	Viewers       int
	Column        float64
	Legend        []cell
}

type cell struct {
	X, Y, W, H float64
	Shade      int // 0 to 6
	Title      string
}

// shades are the latencies in µs below which a cell has its shade; what is above all has the last.
var shades = []int64{1_000, 3_000, 10_000, 30_000, 100_000, 300_000}

func shade(us int64) int {
	for i, bound := range shades {
		if us < bound {
			return i
		}
	}
	return len(shades)
}

const stripColumns = 120 // at most; more columns are drawn together, as their worst

func newStrip(h *measure.Heat) *strip {
	if h == nil || len(h.Rows) == 0 || len(h.Rows[0]) == 0 {
		return nil
	}
	together := (len(h.Rows[0]) + stripColumns - 1) / stripColumns
	columns := (len(h.Rows[0]) + together - 1) / together
	tall := min(max(180/float64(len(h.Rows)), 3), 16)
	wide := (width - left - right) / float64(columns)
	s := &strip{
		Width: width, Height: tall*float64(len(h.Rows)) + bottom + 30, Rows: len(h.Rows), Viewers: h.Viewers,
		Column: h.Width * float64(together),
	}
	for i, row := range h.Rows {
		for c := range columns {
			worst := int64(-1)
			for _, v := range row[c*together : min((c+1)*together, len(row))] {
				worst = max(worst, v)
			}
			if worst < 0 {
				continue
			}
			s.Cells = append(s.Cells, cell{
				left + float64(c)*wide, float64(i) * tall, max(wide-0.5, 0.5), max(tall-0.5, 0.5), shade(worst),
				fmt.Sprintf("row %d, %g s: %s ms", i+1, float64(c)*s.Column, ms(worst)),
			})
		}
	}
	end := float64(columns) * s.Column
	for _, at := range steps(max(end, 1)) {
		s.XTicks = append(s.XTicks, tick{left + at/end*(width-left-right), trim(at)})
	}
	for i := range len(shades) + 1 {
		text := "≥ " + latency(float64(shades[len(shades)-1]))
		if i < len(shades) {
			text = "< " + latency(float64(shades[i]))
		}
		s.Legend = append(s.Legend, cell{X: left + float64(i)*108, Y: s.Height - 16, W: 14, H: 12, Shade: i, Title: text})
	}
	return s
}

// bySize draws both sides' p99 by the number of viewers.
func bySize(c *compare.Comparison) *plot {
	type pair struct {
		viewers int
		of      [2]float64
	}
	var pairs []pair
	low, high := math.Inf(1), 0.0
	for _, s := range c.Sizes {
		for _, f := range s.Figures {
			if f.Metric != "p99" {
				continue
			}
			p := pair{s.Viewers, [2]float64{compare.Median(f.A), compare.Median(f.B)}}
			pairs = append(pairs, p)
			low, high = min(low, p.of[0], p.of[1]), max(high, p.of[0], p.of[1])
		}
	}
	if len(pairs) == 0 {
		return nil
	}
	y := decades(low/2, high, height-bottom, top)
	p := &plot{Title: "p99 by viewers", Width: width, Height: height, YTicks: y.ticks(), XName: "viewers"}
	span := (width - left - right) / float64(len(pairs))
	for i, pair := range pairs {
		middle := left + (float64(i)+0.5)*span
		p.XTicks = append(p.XTicks, tick{middle, strconv.Itoa(pair.viewers)})
		for side, v := range pair.of {
			wide := min(span/3, 60)
			at := y.at(v)
			p.Bars = append(p.Bars, bar{
				X: middle + (float64(side)-1)*wide, Y: at, W: wide - 3, H: height - bottom - at,
				Class: []string{"c3", "c1"}[side],
				Title: fmt.Sprintf("%s, %d viewers: %s", []string{c.A.Name, c.B.Name}[side], pair.viewers, latency(math.Round(v))),
			})
		}
	}
	return p
}
