package measure

import (
	"cmp"
	"slices"
	"time"

	"tureen/loadgen/publish"
	"tureen/loadgen/webm"
)

// ambiguous marks a hash that several frames of a source share.
const ambiguous = -1

// roundOff is how far a timestamp may be off because streams count whole milliseconds.
const roundOff = time.Millisecond

// lane is one track of a source: its frames in order of presentation, repeated for ever when the source is looped.
// A frame's index goes on from loop to loop.
type lane struct {
	frames   []slot
	period   time.Duration
	sending  int64         // frames of all kinds in a loop, by which orders go on
	interval time.Duration // the usual distance between two frames
	reorder  time.Duration // the most by which due and presentation time differ
	byHash   map[uint64]int
}

// slot is a frame of a lane.
type slot struct {
	pts   time.Duration
	due   time.Duration
	order int64 // place in the order of sending, over all kinds
	hash  uint64
}

func newLane(source *publish.Source, kind webm.Kind) *lane {
	l := &lane{
		period: source.Period, sending: int64(len(source.Frames)), interval: source.Interval(kind), byHash: map[uint64]int{},
	}
	for order, f := range source.Frames {
		if f.Kind == kind {
			l.frames = append(l.frames, slot{pts: f.PTS, due: f.Due, order: int64(order), hash: f.Hash})
			l.reorder = max(l.reorder, (f.Due - f.PTS).Abs())
		}
	}
	slices.SortStableFunc(l.frames, func(a, b slot) int { return cmp.Compare(a.pts, b.pts) })
	if !source.Hashed {
		return l
	}
	for i, f := range l.frames {
		if _, twice := l.byHash[f.hash]; twice {
			i = ambiguous
		}
		l.byHash[f.hash] = i
	}
	return l
}

// has tells whether the source has a frame of that index.
func (l *lane) has(index int64) bool {
	return index >= 0 && len(l.frames) > 0 && (l.period > 0 || index < int64(len(l.frames)))
}

// at returns the frame of an index.
func (l *lane) at(index int64) slot {
	n := int64(len(l.frames))
	loop := index / n
	f := l.frames[index%n]
	shift := time.Duration(loop) * l.period
	f.pts += shift
	f.due += shift
	f.order += loop * l.sending
	return f
}

// nearest returns the index of the frame whose presentation time is nearest, if that is within half of the distance to
// the next one. Frames mostly come in order, so the guess is looked at first.
func (l *lane) nearest(pts time.Duration, guess int64) (index int64, ok bool) {
	if l.has(guess) && (l.at(guess).pts-pts).Abs() <= roundOff {
		return guess, true
	}
	after := l.search(pts)
	best, gap := int64(-1), l.interval
	for _, i := range [...]int64{after - 1, after} {
		if l.has(i) && (best < 0 || (l.at(i).pts-pts).Abs() < (l.at(best).pts-pts).Abs()) {
			best = i
		}
	}
	if best < 0 {
		return 0, false
	}
	if l.has(after-1) && l.has(after) {
		gap = max(gap, l.at(after).pts-l.at(after-1).pts)
	}
	return best, (l.at(best).pts - pts).Abs() <= gap/2+roundOff
}

// search returns the index of the first frame presented at pts or later; for a source that is sent once it may be one
// past the last.
func (l *lane) search(pts time.Duration) int64 {
	if pts < 0 || len(l.frames) == 0 {
		return 0
	}
	var loop time.Duration
	if l.period > 0 {
		loop = pts / l.period
	}
	i, _ := slices.BinarySearchFunc(l.frames, pts-loop*l.period, func(f slot, t time.Duration) int { return cmp.Compare(f.pts, t) })
	return int64(loop)*int64(len(l.frames)) + int64(i)
}

// between calls visit for every frame that is due from begin on and before end.
func (l *lane) between(begin, end time.Duration, visit func(index int64, f slot)) {
	for i := l.search(begin - l.reorder); l.has(i); i++ {
		f := l.at(i)
		if f.pts >= end+l.reorder {
			return
		}
		if f.due >= begin && f.due < end {
			visit(i, f)
		}
	}
}

// longest returns the longest time between two frames of the lane.
func (l *lane) longest() time.Duration {
	var longest time.Duration
	for i := 1; i < len(l.frames); i++ {
		longest = max(longest, l.frames[i].due-l.frames[i-1].due)
	}
	return longest
}
