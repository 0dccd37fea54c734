package measure

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"tureen/loadgen/publish"
)

// Spread sums up a histogram of times. Times are in µs.
type Spread struct {
	Count int64 `json:"count"`
	P50   int64 `json:"p50_us"`
	P90   int64 `json:"p90_us"`
	P99   int64 `json:"p99_us"`
	P999  int64 `json:"p99_9_us"`
	Max   int64 `json:"max_us"`
}

// SpreadOf sums up a histogram whose values are µs.
func SpreadOf(h *hdrhistogram.Histogram) Spread {
	if h.TotalCount() == 0 {
		return Spread{}
	}
	return Spread{
		Count: h.TotalCount(),
		P50:   h.ValueAtQuantile(50),
		P90:   h.ValueAtQuantile(90),
		P99:   h.ValueAtQuantile(99),
		P999:  h.ValueAtQuantile(99.9),
		Max:   h.Max(),
	}
}

// Quantile99 returns the 99th percentile as a duration.
func (s Spread) Quantile99() time.Duration { return time.Duration(s.P99) * time.Microsecond }

func newHistogram() *hdrhistogram.Histogram { return publish.NewHistogram() }

// record counts a duration; what is longer than the histogram reaches counts as its longest.
func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(max(d.Microseconds(), 0), h.HighestTrackableValue()))
}
