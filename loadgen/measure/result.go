package measure

import (
	"time"

	"tureen/loadgen/view"
	"tureen/loadgen/webm"
)

// Modes of a track in a result.
const (
	Passthrough = "passthrough" // the publisher's own frames arrived
	Transcoded  = "transcoded"
)

// Track is what became of one track at all viewers of a group.
type Track struct {
	Mode          string `json:"mode"`            // empty when nothing arrived, or when the input's own frames aren't known
	Expected      int64  `json:"expected"`        // frames due between each viewer's request and the end of the run
	Received      int64  `json:"received"`        // all frames that arrived, replayed ones included
	Lost          int64  `json:"lost"`            // expected, but not there when the run had settled
	Duplicated    int64  `json:"duplicated"`      // arrived again
	Disordered    int64  `json:"disordered"`      // arrived behind a later frame
	Unmatched     int64  `json:"unmatched"`       // no frame of the publisher's by time, or before it was due
	Altered       int64  `json:"altered"`         // passed through, but with other bytes; looked at in sound and key frames
	Late          int64  `json:"late"`            // came later than the stated bound
	SkippedAtJoin int64  `json:"skipped_at_join"` // due after the request, but before the picture the body began with
	Latency       Spread `json:"latency"`
	// Parts is the latency before and after the run's split; null without one.
	Parts *[2]Spread `json:"latency_before_and_after,omitempty"`
}

// Viewers is what became of the viewers themselves.
type Viewers struct {
	Wanted     int           `json:"wanted"`
	Connected  int           `json:"connected"` // request sent
	Watching   int           `json:"watching"`  // answered with 200
	Refused    map[int16]int `json:"refused"`   // by status
	Unreached  int           `json:"unreached"` // connection failed before an answer
	Unanswered int           `json:"unanswered"`
	Silent     int           `json:"silent"`     // answered with 200, but no frame to begin with came
	Finished   int           `json:"finished"`   // bodies that ended cleanly before the run did
	Broken     int           `json:"broken"`     // bodies cut off
	Unreadable int           `json:"unreadable"` // bodies that weren't HTTP or WebM any more
	FirstError string        `json:"first_error,omitempty"`
}

// Join is how long viewers took to begin.
type Join struct {
	Connect  Spread `json:"connect"`   // moment to join by the schedule → request sent
	Head     Spread `json:"head"`      // request sent → response's head
	KeyFrame Spread `json:"key_frame"` // request sent → first key frame complete (without video: first frame)
}

// Result is what a group has measured.
type Result struct {
	Viewers         Viewers           `json:"viewers"`
	Join            Join              `json:"join"`
	Tracks          map[string]*Track `json:"tracks"`
	Discontinuities int64             `json:"discontinuities"` // key frames at which timestamps and pictures part
	Unidentified    int64             `json:"unidentified"`    // key frames that are none of the publisher's and bear no stamp

	Stalls     Stalls               `json:"stalls"`
	Fairness   Fairness             `json:"fairness"`
	Each       []Seen               `json:"per_viewer"`
	Histograms map[string]Histogram `json:"histograms"` // raw, by name; the spreads above are taken from them
}

// Result sums up what was measured so far.
func (g *Group) Result() Result { return Sum(g) }

// addViewers adds what became of the group's viewers.
func (g *Group) addViewers(r *Viewers) {
	r.Wanted += len(g.viewers)
	for i := range g.viewers {
		v := &g.viewers[i]
		if v.connected {
			r.Connected++
		}
		if v.status == 200 {
			r.Watching++
		}
		if v.err != nil && r.FirstError == "" {
			r.FirstError = v.err.Error()
		}
		switch {
		case v.gone && v.reason == view.Refused:
			r.Refused[v.status]++
		case v.gone && v.reason == view.Unreached:
			r.Unreached++
		case v.gone && v.reason == view.Finished:
			r.Finished++
		case v.gone && v.reason == view.Broken:
			r.Broken++
		case v.gone && v.reason == view.Unreadable:
			r.Unreadable++
		case v.connected && v.status == 0:
			r.Unanswered++
		case v.status == 200 && !v.begun:
			r.Silent++
		}
	}
}

// trackResult returns what was counted of a track, without what viewers lack.
func (g *Group) trackResult(p int) *Track {
	tally := g.tallies[p]
	r := &Track{
		Received: tally.received, Duplicated: tally.duplicated, Disordered: tally.disordered, Unmatched: tally.unmatched,
		Altered: tally.altered, Late: tally.late, Latency: SpreadOf(g.latency[p]),
	}
	if g.split > 0 {
		r.Parts = &[2]Spread{SpreadOf(g.parts[p][0]), SpreadOf(g.parts[p][1])}
	}
	switch {
	case g.passed[p] > g.transcode[p]:
		r.Mode = Passthrough
	case g.transcode[p] > 0, r.Received > 0 && !g.passable[p]:
		r.Mode = Transcoded
	}
	return r
}

// addViewer adds what a viewer should have got and didn't.
func (g *Group) addViewer(r *Track, v *viewer, p int, kind webm.Kind) {
	t := &v.tracks[p]
	var expected, rest int64
	g.lanes[p].between(v.sent-g.start, g.until(v)-g.start, func(_ int64, f slot) {
		if v.before(kind, f) {
			r.SkippedAtJoin++
			return
		}
		expected++
		if f.pts > t.last+g.lanes[p].interval+soundGap {
			rest++
		}
	})
	r.Expected += expected
	switch {
	case !t.seen:
		r.Lost += expected
	case kind == webm.Audio && !t.passed:
		r.Lost += t.gaps + rest
	default:
		r.Lost += max(expected-t.counted, 0)
	}
}

// Measured tells whether any latency was measured.
func (r *Result) Measured() bool {
	for _, t := range r.Tracks {
		if t.Latency.Count > 0 {
			return true
		}
	}
	return false
}

// Worst returns the highest 99th percentile of all tracks.
func (r *Result) Worst() time.Duration {
	var worst time.Duration
	for _, t := range r.Tracks {
		worst = max(worst, t.Latency.Quantile99())
	}
	return worst
}

// Latencies returns the latencies of all tracks as one spread.
func (g *Group) Latencies() Spread { return LatenciesOf(g) }

// LatenciesOf returns the latencies of all groups' tracks as one spread.
func LatenciesOf(groups ...*Group) Spread {
	all := newHistogram()
	for _, g := range groups {
		for _, h := range g.latency {
			all.Merge(h)
		}
	}
	return SpreadOf(all)
}

// Joined returns how many viewers have sent their request.
func (g *Group) Joined() int {
	n := 0
	for i := range g.viewers {
		if g.viewers[i].connected {
			n++
		}
	}
	return n
}
