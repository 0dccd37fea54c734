package measure

import (
	"cmp"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Sum sums up what groups of viewers have seen that watched streams of one source.
func Sum(groups ...*Group) Result {
	all := merge(groups)
	r := Result{
		Viewers:         Viewers{Refused: map[int16]int{}},
		Join:            Join{SpreadOf(all.connect), SpreadOf(all.head), SpreadOf(all.key)},
		Tracks:          map[string]*Track{},
		Discontinuities: all.jumps,
		Unidentified:    all.nameless,
		Histograms: map[string]Histogram{
			"join connect": HistogramOf(all.connect), "join head": HistogramOf(all.head), "join key_frame": HistogramOf(all.key),
		},
	}
	for _, g := range groups {
		g.addViewers(&r.Viewers)
		for i := range g.viewers {
			r.Each = append(r.Each, g.seen(i))
		}
	}
	for p, kind := range Kinds {
		if len(groups) == 0 || len(groups[0].lanes[p].frames) == 0 {
			continue
		}
		track := all.trackResult(p)
		at := 0
		for _, g := range groups {
			for i := range g.viewers {
				lost := track.Lost
				if v := &g.viewers[i]; v.counted() {
					g.addViewer(track, v, p, kind)
				}
				r.Each[at].Lost += track.Lost - lost
				at++
			}
		}
		r.Tracks[kind.String()] = track
		r.Histograms["latency "+kind.String()] = HistogramOf(all.latency[p])
	}
	if len(groups) > 0 {
		r.Stalls.Bound = groups[0].Stall.Microseconds()
	}
	r.sumEach()
	return r
}

// counted tells whether a viewer should have got frames: it was taken, or is still waiting.
func (v *viewer) counted() bool { return v.connected && (v.status == 200 || v.status == 0) }

// merge returns a group without viewers that holds the others' histograms and tallies.
func merge(groups []*Group) *Group {
	all := &Group{connect: newHistogram(), head: newHistogram(), key: newHistogram()}
	for p := range Kinds {
		all.latency[p] = newHistogram()
		all.parts[p] = [2]*hdrhistogram.Histogram{newHistogram(), newHistogram()}
	}
	for _, g := range groups {
		all.connect.Merge(g.connect)
		all.head.Merge(g.head)
		all.key.Merge(g.key)
		all.jumps += g.jumps
		all.nameless += g.nameless
		all.split = max(all.split, g.split)
		for p := range Kinds {
			all.latency[p].Merge(g.latency[p])
			all.parts[p][0].Merge(g.parts[p][0])
			all.parts[p][1].Merge(g.parts[p][1])
			all.tallies[p].add(g.tallies[p])
			all.passed[p] += g.passed[p]
			all.transcode[p] += g.transcode[p]
			all.passable[p] = g.passable[p]
		}
	}
	return all
}

func (t *tally) add(o tally) {
	t.received += o.received
	t.duplicated += o.duplicated
	t.disordered += o.disordered
	t.unmatched += o.unmatched
	t.altered += o.altered
	t.late += o.late
}

// Seen is what one viewer, or one visit of one that comes and goes, has seen. Times are in µs.
type Seen struct {
	Viewer  int32   `json:"viewer"`
	Join    float64 `json:"join_s"` // since the run's clock began
	Frames  int64   `json:"frames"`
	Lost    int64   `json:"lost"`
	Late    int64   `json:"late"`
	Stalls  int64   `json:"stalls"`
	Stalled int64   `json:"stalled_us"`
	P50     int64   `json:"p50_us"`
	P99     int64   `json:"p99_us"`
	Max     int64   `json:"max_us"`
}

func (g *Group) seen(i int) Seen {
	v := &g.viewers[i]
	s := Seen{
		Viewer: g.first + int32(i), Join: v.join.Seconds(), Late: v.late, Stalls: v.stalls, Stalled: v.stalled.Microseconds(),
	}
	spread := v.spread
	if v.latency != nil {
		spread = SpreadOf(v.latency)
	}
	s.Frames, s.P50, s.P99, s.Max = spread.Count, spread.P50, spread.P99, spread.Max
	// What has stopped and doesn't come again is a stall too.
	if until := g.until(v); v.counted() && v.begun && until-v.heard > g.Stall+g.longest() {
		s.Stalls++
		s.Stalled += (until - v.heard).Microseconds()
	}
	return s
}

// Stalls is how often the picture (in streams without one the sound) stopped at viewers.
type Stalls struct {
	Bound   int64 `json:"bound_us"` // how much later than by the clip a frame must follow the one before
	Count   int64 `json:"count"`
	Viewers int   `json:"viewers"` // that had any
	Total   int64 `json:"total_us"`
}

// Fairness is how much viewers differ: the spread of their own 99th percentiles.
type Fairness struct {
	Viewers int     `json:"viewers"`
	Best    int64   `json:"best_p99_us"`
	Median  int64   `json:"median_p99_us"`
	Worst   int64   `json:"worst_p99_us"`
	Ratio   float64 `json:"worst_to_median"`
}

func (r *Result) sumEach() {
	var p99s []int64
	for _, s := range r.Each {
		r.Stalls.Count += s.Stalls
		r.Stalls.Total += s.Stalled
		if s.Stalls > 0 {
			r.Stalls.Viewers++
		}
		if s.Frames > 0 {
			p99s = append(p99s, s.P99)
		}
	}
	if len(p99s) == 0 {
		return
	}
	slices.SortFunc(p99s, cmp.Compare)
	n := len(p99s)
	r.Fairness = Fairness{Viewers: n, Best: p99s[0], Median: p99s[n/2], Worst: p99s[n-1]}
	if r.Fairness.Median > 0 {
		r.Fairness.Ratio = float64(r.Fairness.Worst) / float64(r.Fairness.Median)
	}
}

// until is when frames for a viewer cease to count.
func (g *Group) until(v *viewer) time.Duration {
	if v.leave > 0 {
		return min(g.end, v.leave)
	}
	return g.end
}

// longest is the longest that the clip itself lets the leading track wait for its next frame.
func (g *Group) longest() time.Duration { return g.lanes[g.leading()].longest() }

// leading is the place of the track that stalls are seen by.
func (g *Group) leading() int {
	if g.hasVideo() {
		return 0
	}
	return 1
}

// watchStall notes whether a frame of the leading track followed the one before too late.
func (g *Group) watchStall(v *viewer, e time.Duration, index int64, l *lane) {
	if before := v.heard; v.waiting && index > 0 {
		clip := l.at(index).due - l.at(index-1).due
		if gap := e - before - clip; gap > g.Stall {
			v.stalls++
			v.stalled += gap
		}
	}
	v.heard, v.waiting = e, true
}
