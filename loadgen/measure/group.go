// Package measure makes figures of what viewers saw: it finds out which of the publisher's frames each received frame
// is, how late it came and what is missing, and sums that up in a report with a verdict.
//
// It opens no connection and reads no clock: everything comes from the publisher's schedule and the viewers' events.
package measure

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"tureen/loadgen/publish"
	"tureen/loadgen/view"
	"tureen/loadgen/webm"
)

// What counts as late and as a stall unless a group is told otherwise.
const (
	DefaultLate  = 250 * time.Millisecond // what the contract allows at the 99th percentile
	DefaultStall = 500 * time.Millisecond
)

// Farewell is how long before it leaves frames cease to count for a viewer: those due later may still be on their way.
const Farewell = time.Second

const (
	maxPending  = 8192 // events of one viewer that wait until its first key frame is identified
	maxPictures = 4096 // stamps remembered
	unreadable  = -1   // the stamp of a picture that has none
)

// Group is the viewers of one stream. Its methods must not be called concurrently; Collector sees to that.
type Group struct {
	// ReadStamp reads the frame number from a VP8 key frame. It is used for pictures that aren't the publisher's own.
	ReadStamp func(picture []byte) (int, error)
	// NeedPictures is called when a key frame is met that isn't the publisher's, so that its stamp must be read.
	NeedPictures func()
	// Late is the latency above which a frame counts as late.
	Late time.Duration
	// Stall is how much later than by the clip's own times a frame must follow the one before it to be a stall.
	Stall time.Duration
	// Chart, if set, is drawn, and viewers' own latencies are kept.
	Chart *Chart

	first   int32
	start   time.Duration // of the publisher's schedule, since the epoch
	end     time.Duration // frames due from here on aren't counted, since the epoch
	split   time.Duration // from here on frames' latencies count as the second part's; never when 0
	lanes   [2]*lane      // video, audio
	viewers []viewer
	stamps  map[uint64]int

	passable [2]bool // the source's track needs no transcoding

	latency   [2]*hdrhistogram.Histogram
	parts     [2][2]*hdrhistogram.Histogram // the same before and after the split, by track
	tallies   [2]tally
	connect   *hdrhistogram.Histogram
	head      *hdrhistogram.Histogram
	key       *hdrhistogram.Histogram
	jumps     int64
	nameless  int64                     // key frames that couldn't be identified
	spare     []*hdrhistogram.Histogram // of viewers who have gone
	transcode [2]int64
	passed    [2]int64
}

// tally is what was counted of a track over all viewers.
type tally struct {
	received, duplicated, disordered, unmatched, altered, late int64
}

// viewer is what is known of one viewer.
type viewer struct {
	id        int32
	join      time.Duration // when it was to connect
	sent      time.Duration // when it sent its request
	leave     time.Duration // frames due from here on don't count for it; 0: those of the run do
	connected bool
	status    int16
	begun     bool // a frame to begin with has arrived: a key frame, or any when there is no video
	gone      bool
	reason    view.Reason
	err       error

	placed  bool          // offset is known
	offset  time.Duration // the stream's timestamps less the source's
	from    time.Duration // the source's presentation time at which the body begins
	order   int64         // and that frame's place in the order of sending
	tracks  [2]track
	pending []view.Event

	latency *hdrhistogram.Histogram // nil without a chart, and once it has gone
	spread  Spread                  // of its latency, once it has gone
	late    int64
	heard   time.Duration // when the leading track's newest frame came
	waiting bool          // heard is set
	stalls  int64
	stalled time.Duration
}

// track is what a viewer has received of a track.
type track struct {
	seen    bool
	passed  bool          // frames are the publisher's own; else they were transcoded
	top     int64         // the newest index
	window  uint64        // which of the 64 newest have arrived, the newest lowest
	counted int64         // distinct frames that count
	gaps    int64         // frames missing in transcoded sound, whose frames can't be told one by one
	last    time.Duration // the newest presentation time in the source's terms
}

// place returns where a kind is held.
func place(kind webm.Kind) int { return int(kind) - int(webm.Video) }

// Kinds are the kinds of track that are measured.
var Kinds = [2]webm.Kind{webm.Video, webm.Audio}

// NewGroup returns the group of viewers with these consecutive identifiers, who watch the source whose schedule starts
// at start; frames that are due from end on aren't counted. Times are since the pool's epoch.
func NewGroup(source *publish.Source, start, end time.Duration, viewers []view.Viewer) *Group {
	g := &Group{
		start: start, end: end, viewers: make([]viewer, len(viewers)), stamps: map[uint64]int{},
		connect: newHistogram(), head: newHistogram(), key: newHistogram(), Late: DefaultLate, Stall: DefaultStall,
	}
	for i, kind := range Kinds {
		g.lanes[i] = newLane(source, kind)
		g.passable[i] = source.Passable(kind)
		g.latency[i] = newHistogram()
		g.parts[i] = [2]*hdrhistogram.Histogram{newHistogram(), newHistogram()}
	}
	for i, v := range viewers {
		g.viewers[i].id, g.viewers[i].join = v.ID, v.Join
		if v.Leave > 0 {
			g.viewers[i].leave = v.Leave - Farewell
		}
	}
	if len(viewers) > 0 {
		g.first = viewers[0].ID
	}
	return g
}

// owns tells whether an event is one of this group's viewers'.
func (g *Group) owns(id int32) bool { return id >= g.first && int(id-g.first) < len(g.viewers) }

// hasVideo tells whether the source has pictures, by which then everything is found.
func (g *Group) hasVideo() bool { return len(g.lanes[0].frames) > 0 }

// Reset forgets the latencies so far.
func (g *Group) Reset() {
	for _, h := range g.latency {
		h.Reset()
	}
}

// SplitAt has the latencies of frames due before and after a moment told apart.
func (g *Group) SplitAt(at time.Duration) { g.split = at }

// note counts how late a frame came to a viewer.
func (g *Group) note(v *viewer, p int, f slot, late time.Duration) {
	record(g.latency[p], late)
	if late > g.Late {
		v.late++
		g.tallies[p].late++
	}
	if g.Chart != nil {
		if v.latency == nil {
			v.latency = g.takeHistogram()
		}
		record(v.latency, late)
		g.Chart.note(v.id, g.start+f.due, late)
	}
	if g.split == 0 {
		return
	}
	part := 0
	if g.start+f.due >= g.split {
		part = 1
	}
	record(g.parts[p][part], late)
}

// takeHistogram returns an empty histogram for a viewer's own latencies. They go from viewer to viewer, because a long run
// of viewers that come and go has very many of these.
func (g *Group) takeHistogram() *hdrhistogram.Histogram {
	last := len(g.spare) - 1
	if last < 0 {
		return hdrhistogram.New(1, 60_000_000, 2)
	}
	h := g.spare[last]
	g.spare = g.spare[:last]
	return h
}

// giveHistogram sums up and takes back the histogram of a viewer that has gone.
func (g *Group) giveHistogram(v *viewer) {
	if v.latency == nil {
		return
	}
	v.spread = SpreadOf(v.latency)
	v.latency.Reset()
	g.spare = append(g.spare, v.latency)
	v.latency = nil
}

// EndAt ends the counting earlier than planned.
func (g *Group) EndAt(end time.Duration) { g.end = min(g.end, end) }

// handle takes an event.
func (g *Group) handle(e *view.Event) {
	v := &g.viewers[e.Viewer-g.first]
	switch e.Type {
	case view.Connected:
		v.connected, v.sent = true, e.At
		record(g.connect, e.At-v.join)
	case view.Answered:
		v.status = e.Status
		record(g.head, e.At-v.sent)
	case view.Arrived:
		g.arrived(v, e)
	case view.Ended:
		v.gone, v.reason, v.pending = true, e.Reason, nil
		g.giveHistogram(v)
		if v.status == 200 && e.At >= g.end {
			v.reason = view.Stopped // a stream may end when the run does
		} else if e.Detail != nil {
			v.err = e.Detail.Err
		}
	}
}

func (g *Group) arrived(v *viewer, e *view.Event) {
	leading := !g.hasVideo() || e.Kind == webm.Video && e.Key
	if leading && !v.begun {
		v.begun = true
		record(g.key, e.At-v.sent)
	}
	if leading {
		g.anchor(v, e)
	}
	if v.placed {
		g.count(v, e)
		return
	}
	if len(v.pending) < maxPending {
		v.pending = append(v.pending, *e)
	}
}

// anchor finds a viewer's offset by a frame that can be identified, or checks it.
func (g *Group) anchor(v *viewer, e *view.Event) {
	l := g.lanes[place(e.Kind)]
	i, ok := g.identify(l, e)
	if !ok {
		return
	}
	index, ok := g.unwrap(v, l, i, e)
	if !ok {
		return
	}
	offset := e.Timestamp - l.at(index).pts
	if v.placed {
		if (offset - v.offset).Abs() > l.interval/2+roundOff {
			g.jumps++
		}
		v.offset = offset
		return
	}
	v.placed, v.offset = true, offset
	g.begin(v, e)
}

// begin sets where a viewer's body begins in the source, and counts what has waited for that.
func (g *Group) begin(v *viewer, e *view.Event) {
	leader := e
	for i := range v.pending {
		if !g.hasVideo() || v.pending[i].Kind == webm.Video {
			leader = &v.pending[i]
			break
		}
	}
	l := g.lanes[place(leader.Kind)]
	v.from = leader.Timestamp - v.offset
	if i, ok := l.nearest(v.from, -1); ok {
		v.from, v.order = l.at(i).pts, l.at(i).order
	}
	pending := v.pending
	v.pending = nil
	for i := range pending {
		g.count(v, &pending[i])
	}
}

// identify returns which frame of a loop a received frame is, by its bytes or else by the stamp in its picture.
func (g *Group) identify(l *lane, e *view.Event) (i int, ok bool) {
	i, known := l.byHash[e.Hash]
	if known && i != ambiguous {
		return i, true
	}
	if e.Kind != webm.Video {
		return 0, false
	}
	n, known := g.stamps[e.Hash]
	if !known {
		n, known = g.readStamp(e)
	}
	if !known || n == unreadable || n >= len(l.frames) {
		g.nameless++
		return 0, false
	}
	return n, true
}

func (g *Group) readStamp(e *view.Event) (n int, known bool) {
	if e.Detail == nil || e.Detail.Picture == nil {
		if g.NeedPictures != nil {
			g.NeedPictures()
		}
		return 0, false
	}
	if g.ReadStamp == nil {
		return 0, false
	}
	n, err := g.ReadStamp(e.Detail.Picture)
	if err != nil {
		n = unreadable
	}
	if len(g.stamps) >= maxPictures {
		clear(g.stamps)
	}
	g.stamps[e.Hash] = n
	return n, true
}

// unwrap finds the loop in which frame i of a loop was sent: the one that continues the viewer's offset, or the newest
// that can have arrived.
func (g *Group) unwrap(v *viewer, l *lane, i int, e *view.Event) (index int64, ok bool) {
	index = int64(i)
	if l.period == 0 {
		return index, g.start+l.at(index).due <= e.At
	}
	n := int64(len(l.frames))
	if v.placed {
		distance := e.Timestamp - v.offset - l.frames[i].pts
		loop := int64((distance + l.period/2) / l.period)
		if continued := index + loop*n; loop >= 0 && g.start+l.at(continued).due <= e.At {
			return continued, true
		}
	}
	since := e.At - g.start - l.frames[i].due
	if since < 0 {
		return 0, false
	}
	return index + int64(since/l.period)*n, true
}

// count finds out which frame an event is and counts it.
func (g *Group) count(v *viewer, e *view.Event) {
	p := place(e.Kind)
	l, t, tally := g.lanes[p], &v.tracks[p], &g.tallies[p]
	pts := e.Timestamp - v.offset
	guess := int64(-1)
	if t.seen {
		guess = t.top + 1
	}
	index, ok := l.nearest(pts, guess)
	if !ok {
		tally.unmatched++
		return
	}
	f := l.at(index)
	late := e.At - g.start - f.due
	if late < 0 && index > 0 && e.Kind == webm.Audio && !t.passed {
		// Encoded anew, a part of one frame can lie nearer to the next.
		f = l.at(index - 1)
		late = e.At - g.start - f.due
	}
	if late < 0 {
		tally.unmatched++
		return
	}
	tally.received++
	if p == g.leading() && e.At < g.until(v) {
		g.watchStall(v, e.At, index, l)
	}
	g.compare(t, tally, p, f, e)
	if e.Kind == webm.Audio && !t.passed {
		g.countSound(v, t, l, f, pts, late)
		return
	}
	if !t.arrive(index, tally) {
		return
	}
	t.last = max(t.last, f.pts)
	if g.counts(v, e.Kind, f) {
		t.counted++
		g.note(v, p, f, late)
	}
}

// compare notes whether a frame's bytes are the publisher's.
func (g *Group) compare(t *track, tally *tally, p int, f slot, e *view.Event) {
	if e.Hash == 0 || f.hash == 0 {
		return
	}
	same := f.hash == e.Hash
	if !t.seen {
		t.passed = same
	}
	switch {
	case same:
		g.passed[p]++
	case t.passed:
		tally.altered++
	default:
		g.transcode[p]++
	}
}

// countSound counts a frame of sound that was encoded anew, with frames of other lengths: nothing is lost as long as
// they follow each other.
func (g *Group) countSound(v *viewer, t *track, l *lane, f slot, pts, late time.Duration) {
	if t.seen {
		if gap := pts - t.last; gap > 2*l.interval+soundGap {
			t.gaps += int64(gap/max(l.interval, roundOff)) - 1
		}
	}
	t.seen, t.last = true, max(t.last, pts)
	if g.counts(v, webm.Audio, f) {
		t.counted++
		g.note(v, place(webm.Audio), f, late)
	}
}

// soundGap is what an encoder's own frame length may add to the distance between two frames of sound: Vorbis, Opus and
// AAC have none longer.
const soundGap = 60 * time.Millisecond

// counts tells whether a frame counts for a viewer: it is due after the request was sent, within the run, and not
// before the picture with which the body begins.
func (g *Group) counts(v *viewer, kind webm.Kind, f slot) bool {
	due := g.start + f.due
	return due >= v.sent && due < g.until(v) && !v.before(kind, f)
}

// before tells whether a frame comes before the viewer's body begins. Sound begins with the picture, not before it.
func (v *viewer) before(kind webm.Kind, f slot) bool {
	if !v.placed {
		return false
	}
	return f.pts < v.from || f.pts == v.from && kind == webm.Audio && f.order < v.order
}

// arrive notes the arrival of a frame; false when it had arrived already.
func (t *track) arrive(index int64, tally *tally) bool {
	if !t.seen {
		t.seen, t.top, t.window = true, index, 1
		return true
	}
	if ahead := index - t.top; ahead > 0 {
		t.top = index
		t.window = t.window<<min(ahead, 64) | 1 // a shift by 64 gives 0
		return true
	}
	back := t.top - index
	if back >= 64 {
		tally.disordered++
		return false
	}
	if t.window&(1<<back) != 0 {
		tally.duplicated++
		return false
	}
	t.window |= 1 << back
	tally.disordered++
	return true
}

// settled tells whether every viewer that is still there has come to the end of what counts.
func (g *Group) settled() bool {
	for i := range g.viewers {
		v := &g.viewers[i]
		if v.gone || v.status == 0 && !v.connected {
			continue
		}
		for p, l := range g.lanes {
			if len(l.frames) > 0 && !v.tracks[p].past(l, g.end-g.start) {
				return false
			}
		}
	}
	return true
}

// past tells whether nothing can come any more that is due before end.
func (t *track) past(l *lane, end time.Duration) bool {
	if !t.seen {
		return false
	}
	next := l.search(t.last + roundOff)
	return !l.has(next) || l.at(next).due >= end
}
