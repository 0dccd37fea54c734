package measure

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	maxColumns = 240 // of a chart, however long the run
	maxRows    = 64  // of its heat strip, however many viewers
)

// Chart is how latency went over a run: by time, and by time and viewer. Groups of one run share it.
type Chart struct {
	from    time.Duration // of the first column, since the epoch
	width   time.Duration // of a column
	columns []*hdrhistogram.Histogram
	rows    [][]int64 // the highest latency in µs of each column's frames, -1 without any
	viewers int
}

// NewChart returns the chart of a run from a moment since the epoch on. Each of its rows stands for one of the viewers,
// numbered from 0, or for several neighbours.
func NewChart(from, length time.Duration, viewers int) *Chart {
	width := (length/maxColumns + time.Second - 1).Truncate(time.Second)
	c := &Chart{from: from, width: max(width, time.Second), viewers: max(viewers, 1)}
	n := int(length/c.width) + 1
	for range n {
		// Two digits are enough to draw.
		c.columns = append(c.columns, hdrhistogram.New(1, 60_000_000, 2))
	}
	c.rows = make([][]int64, min(viewers, maxRows))
	for i := range c.rows {
		row := make([]int64, n)
		for j := range row {
			row[j] = -1
		}
		c.rows[i] = row
	}
	return c
}

// note takes the latency of a frame that was due at a moment.
func (c *Chart) note(id int32, due, late time.Duration) {
	column := int((due - c.from) / c.width)
	if due < c.from || column >= len(c.columns) {
		return
	}
	record(c.columns[column], late)
	if row := int(id) * len(c.rows) / c.viewers; row < len(c.rows) {
		c.rows[row][column] = max(c.rows[row][column], late.Microseconds())
	}
}

// Point is the latencies of the frames due within one column of a chart.
type Point struct {
	At    float64 `json:"at_s"` // of its beginning, since the first viewer's join
	Count int64   `json:"count"`
	P50   int64   `json:"p50_us"`
	P99   int64   `json:"p99_us"`
	Max   int64   `json:"max_us"`
}

// Heat is the highest latency by viewer and time.
type Heat struct {
	Width   float64   `json:"column_s"`
	Viewers int       `json:"viewers"` // that the rows stand for, in order of joining
	Rows    [][]int64 `json:"max_us"`  // -1 where no frame was due
}

// Points returns the latency over time, without what follows the last frame.
func (c *Chart) Points() []Point {
	points := []Point{}
	for i, h := range c.columns {
		s := SpreadOf(h)
		points = append(points, Point{(time.Duration(i) * c.width).Seconds(), s.Count, s.P50, s.P99, s.Max})
	}
	for len(points) > 0 && points[len(points)-1].Count == 0 {
		points = points[:len(points)-1]
	}
	return points
}

// Heat returns the latency by time and viewer.
func (c *Chart) Heat() *Heat {
	return &Heat{Width: c.width.Seconds(), Viewers: c.viewers, Rows: c.rows}
}

// Histogram is a raw HDR histogram of µs: pairs of the highest value that a bucket takes, and how many it holds.
type Histogram struct {
	Digits  int64      `json:"significant_digits"`
	Highest int64      `json:"highest_trackable_us"`
	Buckets [][2]int64 `json:"buckets"`
}

// HistogramOf returns what a histogram holds.
func HistogramOf(h *hdrhistogram.Histogram) Histogram {
	out := Histogram{Digits: h.SignificantFigures(), Highest: h.HighestTrackableValue(), Buckets: [][2]int64{}}
	for _, bar := range h.Distribution() {
		if bar.Count > 0 {
			out.Buckets = append(out.Buckets, [2]int64{bar.To, bar.Count})
		}
	}
	return out
}
