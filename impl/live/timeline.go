package live

import (
	"time"

	"tureen/impl/lateness"
	"tureen/impl/media"
)

// The contract's bounds on a publisher's clock (WAT-5, ING-14).
const (
	// maxApart is how far two tracks may lie apart and are put in order from
	// the first frame on. A step back of one track by more is a jump.
	maxApart = 500 * time.Millisecond
	// maxGap is the longest step forward that isn't a jump, and how late a
	// track may be as a rule and is still waited for.
	maxGap = 2 * time.Second
	// lead is how far a frame may go out before its time. The contract allows
	// 1 s; the rest is for a viewer that saw its first frame late.
	lead = 750 * time.Millisecond
	// together is how far apart tracks are that run on one clock beyond doubt.
	together = 100 * time.Millisecond
	// jitter is how much longer than it should have to a frame waits for the
	// other track's: a publisher's machine, or this one, may be busy.
	jitter = 20 * time.Millisecond
)

// refill is how much faster than real time the schedule runs, so that a
// publisher's fast clock never builds up delay (ING-14).
const refill = 1.002

// timeline puts one publisher's frames onto the stream's clock: it maps their
// times, closes jumps, holds back a publisher that is ahead of real time, and
// puts the tracks in order of time. It keeps no clock of its own and belongs
// to one goroutine.
//
// A frame goes through add → inbox (until it is due) → queues (until it is in
// order) → take.
type timeline struct {
	kinds [media.Kinds]bool // the tracks of this document

	current  *segment
	previous *segment // the one before a jump, while its stragglers may come
	suspects [media.Kinds]*media.Frame

	active *segment // of the frames that wait for their order
	inbox  [media.Kinds][]arrived
	order  int // of the frames that came

	segments int // so far
	queues   [media.Kinds][]queued
	ready    []timed
	late     [media.Kinds]lateness.Lateness

	clock    *clock        // the stream's
	length   time.Duration // of the newest frame
	finished bool
	dropped  int // frames too late to have a place
}

// clock is how far a stream has come.
type clock struct {
	started bool
	newest  time.Duration              // the newest time given out
	ends    time.Time                  // when the documents before have played
	last    [media.Kinds]time.Duration // of each track
	lengths [media.Kinds]time.Duration // of each track's last frame
	steps   [media.Kinds]time.Duration // to each track's last frame; 0 before its second
}

func newClock() clock {
	return clock{lengths: [media.Kinds]time.Duration{
		media.Video: time.Second / 30,
		media.Audio: 20 * time.Millisecond,
	}}
}

// segment is a stretch of the publisher's clock without a jump.
type segment struct {
	number  int        // in their order
	jumper  media.Kind // the track that began it
	began   time.Time
	first   time.Duration
	newest  time.Duration // over both tracks, by block
	has     [media.Kinds]bool
	reached [media.Kinds]time.Duration // by each track, by block

	// of the frames that were due
	seen [media.Kinds]bool
	last [media.Kinds]time.Duration
	sent [media.Kinds]time.Duration
	came [media.Kinds]time.Time
	// lasts is how long the last one says that it lasts, abut how many in a row
	// began where the one before said that it would end.
	lasts [media.Kinds]time.Duration
	abut  [media.Kinds]int

	fixed bool
	shift time.Duration // from the publisher's clock to the stream's; once fixed

	anchor time.Time // when first is due
}

// placed is a frame whose segment is known.
type placed struct {
	*segment
	media.Frame
}

// arrived is a frame that waits until it is due.
type arrived struct {
	placed
	order int
}

// queued is a frame that waits for its turn among the tracks.
type queued struct {
	placed
	came time.Time
}

// timed is a frame with its time on the stream's clock.
type timed struct {
	media.Frame
	at time.Duration
}

// begin starts a document with these kinds of track, which goes on where the
// stream's clock is and owes nothing to an earlier document's times. What that
// left waiting must have been flushed.
func (t *timeline) begin(kinds [media.Kinds]bool, c *clock) {
	if ends := t.ending(); ends.After(c.ends) {
		c.ends = ends
	}
	*t = timeline{kinds: kinds, clock: c, dropped: t.dropped}
}

// ending is when all that came has played in real time.
func (t *timeline) ending() time.Time {
	switch {
	case t.clock == nil:
		return time.Time{}
	case t.current == nil:
		return t.clock.ends
	}
	return t.current.schedule(t.current.newest + t.length)
}

// finish says that no frame follows: what is held for order need not be.
func (t *timeline) finish() {
	t.finished = true
	for kind, s := range t.suspects {
		if s != nil {
			t.dropped++
			t.suspects[kind] = nil
		}
	}
}

// empty reports whether every frame added has gone out.
func (t *timeline) empty() bool {
	return !t.waits() && len(t.ready) == 0 && t.head() == nil
}

// waits reports whether frames wait until they are due.
func (t *timeline) waits() bool { return len(t.inbox[media.Video])+len(t.inbox[media.Audio]) > 0 }

// maxAhead bounds in bytes what is read of one track while nothing of the other
// comes; maxGap does in time.
const maxAhead = 4 << 20

// full reports whether so much waits until it is due that no more should be
// read from the publisher: frames of all tracks, or many of one. The other's may
// be behind them: a fragmented MP4 holds a second of pictures, then that second's
// sound.
func (t *timeline) full() bool {
	if !t.waits() {
		return false
	}
	for kind, frames := range t.inbox {
		if t.kinds[kind] && len(frames) == 0 {
			return t.ahead(t.inbox[otherKind(media.Kind(kind))])
		}
	}
	return true
}

func (t *timeline) ahead(frames []arrived) bool {
	size := 0
	for _, f := range frames {
		size += len(f.Payload)
	}
	return size >= maxAhead || frames[len(frames)-1].schedule(frames[len(frames)-1].Sent).Sub(frames[0].schedule(frames[0].Sent)) >= maxGap
}

// deliver has a frame wait until it is due.
func (t *timeline) deliver(p placed) {
	t.order++
	t.inbox[p.Kind] = append(t.inbox[p.Kind], arrived{p, t.order})
}

// add takes the publisher's next frame.
func (t *timeline) add(f media.Frame, now time.Time) {
	if t.current == nil {
		t.jump(f, now)
		t.deliver(placed{t.current, f})
		return
	}
	if s := t.segmentOf(f); s != nil {
		t.forget(f.Kind)
		t.reconsider(s, f.Kind)
		s.note(f)
		t.note(f)
		t.deliver(placed{s, f})
		return
	}
	if f.Sent > t.current.newest {
		t.jump(f, now)
		t.deliver(placed{t.current, f})
		return
	}
	t.suspect(f, now)
}

// suspect takes a frame that steps far back: if the track's next one follows
// it there, the clock has jumped; otherwise it was a stray and is dropped.
func (t *timeline) suspect(f media.Frame, now time.Time) {
	s := t.suspects[f.Kind]
	if s == nil || !near(f.Sent, s.Sent) {
		t.forget(f.Kind)
		t.suspects[f.Kind] = &f
		return
	}
	t.suspects[f.Kind] = nil
	t.jump(*s, now)
	t.deliver(placed{t.current, *s})
	if other := &t.suspects[otherKind(f.Kind)]; *other != nil && near((*other).Sent, s.Sent) {
		t.deliver(placed{t.current, **other}) // it has jumped too
		*other = nil
	}
	t.add(f, now)
}

func (t *timeline) forget(kind media.Kind) {
	if t.suspects[kind] != nil {
		t.suspects[kind] = nil
		t.dropped++
	}
}

// near reports whether time at can follow newest without a jump.
func near(at, newest time.Duration) bool {
	return at >= newest-maxApart && at <= newest+maxGap
}

// segmentOf finds the segment that a frame continues; nil when it has jumped. A
// track that hasn't been seen in the newest one may yet have to jump there,
// unless that is where it is already: the other track has then come back to it.
func (t *timeline) segmentOf(f media.Frame) *segment {
	c, p := t.current, t.previous
	beside := max(f.Sent-c.newest, c.newest-f.Sent) <= together
	if p != nil && !c.has[f.Kind] && !beside && p.has[f.Kind] && p.fixed && near(f.Sent, p.reached[f.Kind]) {
		return p
	}
	if c.continues(f) {
		if c.newest-c.first > maxGap {
			t.previous = nil
		}
		return c
	}
	if p != nil && p.fixed && p.continues(f) && near(f.Time+p.shift, t.clock.newest) {
		return p
	}
	return nil
}

// continues reports whether a frame goes on from its own track's last one; of a
// track that is only just beginning, from the other's.
func (s *segment) continues(f media.Frame) bool {
	earliest := s.newest - maxGap
	if s.has[f.Kind] {
		earliest = s.reached[f.Kind] - maxApart
	}
	return f.Sent >= earliest && f.Sent <= s.newest+maxGap
}

// reconsider takes a jump back when the track that made it is found on its old
// clock again: it was one stray frame.
func (t *timeline) reconsider(s *segment, kind media.Kind) {
	if s != t.previous || t.current.jumper != kind {
		return
	}
	if t.active == t.current {
		t.flush()
		t.active = s
	}
	t.current, t.previous = s, nil
}

// jump begins a segment at frame f. Its schedule goes on from the old one's
// where that is ahead, so that jumps win a fast publisher no time.
func (t *timeline) jump(f media.Frame, now time.Time) {
	t.segments++
	s := &segment{number: t.segments, jumper: f.Kind, began: now, first: f.Sent, newest: f.Sent, anchor: now}
	if next := t.ending(); next.After(now) {
		s.anchor = next
	}
	s.note(f)
	t.current, t.previous = s, t.current
	t.note(f)
}

// note keeps how far the segment has come, as frames arrive.
func (s *segment) note(f media.Frame) {
	s.newest = max(s.newest, f.Sent)
	s.reached[f.Kind] = max(f.Sent, s.reached[f.Kind])
	if !s.has[f.Kind] {
		s.has[f.Kind], s.reached[f.Kind] = true, f.Sent
	}
}

// note keeps the newest frame's length.
func (t *timeline) note(f media.Frame) {
	if f.Duration > 0 {
		t.length = f.Duration
		return
	}
	t.length = t.clock.lengths[f.Kind]
}

// schedule is when media of that time plays in real time.
func (s *segment) schedule(at time.Duration) time.Time {
	return s.anchor.Add(time.Duration(float64(at-s.first) / refill))
}

// due is when a frame may be taken from its publisher. All frames of a lace may
// be at once: pictures between them come behind.
func (p placed) due() time.Time { return p.schedule(p.Sent).Add(-lead) }

// take is the next frame that may go out.
func (t *timeline) take(now time.Time) (timed, bool) {
	for p := t.due(now); p != nil; p = t.due(now) {
		t.inbox[p.Kind] = t.inbox[p.Kind][1:]
		t.enqueue(p.placed, now)
	}
	for len(t.ready) == 0 && t.release(now) {
	}
	if len(t.ready) == 0 {
		return timed{}, false
	}
	f := t.ready[0]
	t.ready = t.ready[1:]
	return f, true
}

// due is the frame that came first of those that are due; nil when none is.
func (t *timeline) due(now time.Time) *arrived {
	var first *arrived
	for kind := range t.inbox {
		frames := t.inbox[kind]
		if len(frames) > 0 && !frames[0].due().After(now) && (first == nil || frames[0].order < first.order) {
			first = &frames[0]
		}
	}
	return first
}

// wake is when take may have a frame without another add; false when only an
// add can bring one.
func (t *timeline) wake(now time.Time) (at time.Time, ok bool) {
	for _, frames := range t.inbox {
		if len(frames) > 0 && (!ok || frames[0].due().Before(at)) {
			at, ok = frames[0].due(), true
		}
	}
	q := t.head()
	if q == nil {
		return at, ok
	}
	release := t.patience(q, now)
	switch {
	case !q.fixed:
		release = q.began.Add(maxApart)
	case t.full(), len(t.inbox[otherKind(q.Kind)]) > 0:
		return at, ok
	}
	if !ok || release.Before(at) {
		return release, true
	}
	return at, ok
}

// enqueue puts a frame that is due among those that wait for their order.
func (t *timeline) enqueue(p placed, now time.Time) {
	s := p.segment
	switch {
	case t.active == nil || s.number > t.active.number:
		t.flush()
		t.active = s
	case s != t.active: // a straggler from before a jump
		if !s.fixed {
			t.anchor(s, p.Frame)
		}
		t.out(p.Frame, p.Time+s.shift)
		return
	}
	// A track's frames keep their order, which is the decoder's.
	if s.seen[p.Kind] {
		p.Time = max(p.Time, s.last[p.Kind])
	}
	if other := otherKind(p.Kind); s.seen[other] && s.sent[other] > p.Time {
		// The other track has its next frame under way: it is further on than
		// its last one says.
		since := min(now.Sub(s.came[other]), t.clock.lengths[other])
		t.late[p.Kind].Note(min(s.sent[other]+since-p.Time, maxGap), now)
	}
	s.follow(p.Frame)
	s.seen[p.Kind], s.last[p.Kind], s.sent[p.Kind], s.came[p.Kind] = true, p.Time, p.Sent, now
	t.queues[p.Kind] = append(t.queues[p.Kind], queued{p, now})
}

// follow notes whether a frame begins where its track's last one ended.
func (s *segment) follow(f media.Frame) {
	s.abut[f.Kind]++
	if gap := f.Time - s.last[f.Kind] - s.lasts[f.Kind]; gap > time.Millisecond || gap < -time.Millisecond {
		s.abut[f.Kind] = 0
	}
	s.lasts[f.Kind] = f.Duration
}

// reach is the time before which no further frame of a track is to be expected:
// its last one's, or that one's end where frames have been true to their ends.
func (s *segment) reach(kind media.Kind) time.Duration {
	const trusted = 3
	if s.abut[kind] < trusted {
		return s.last[kind]
	}
	return s.last[kind] + s.lasts[kind]
}

func otherKind(k media.Kind) media.Kind { return media.Audio - k }

// head is the waiting frame with the lowest time; nil when none waits.
func (t *timeline) head() *queued {
	var first *queued
	for kind := range t.queues {
		q := t.queues[kind]
		if len(q) > 0 && (first == nil || q[0].Time < first.Time) {
			first = &q[0]
		}
	}
	return first
}

// release moves the lowest waiting frame on if it may go.
func (t *timeline) release(now time.Time) bool {
	q := t.head()
	if q == nil || !t.fix(q.segment, now) || !t.inOrder(q, now) {
		return false
	}
	t.pop(q)
	return true
}

func (t *timeline) pop(q *queued) {
	f, shift := q.Frame, q.shift
	t.queues[f.Kind] = t.queues[f.Kind][1:]
	t.out(f, f.Time+shift)
}

// inOrder reports whether no earlier frame of the other track is to be waited
// for: it has come as far, it isn't late as a rule, the publisher is past where
// it would be, or it has had its time.
func (t *timeline) inOrder(q *queued, now time.Time) bool {
	other := otherKind(q.Kind)
	if !t.kinds[other] || q.seen[other] && q.reach(other) >= q.Time {
		return true
	}
	if next := t.inbox[other]; len(next) > 0 { // it has come, and will be due
		return next[0].segment != q.segment || next[0].Time >= q.Time
	}
	late := t.late[other].Lately(now)
	if late == 0 && q.Sent >= q.Time || max(q.sent[media.Video], q.sent[media.Audio]) > q.Time+late+jitter {
		return true
	}
	return !t.full() && !now.Before(t.patience(q, now))
}

// patience is until when a frame waits for the other track, whatever comes: as
// long as that came late by lately, and a lace's later frame until its own
// time. It doesn't count while the publisher is held back.
func (t *timeline) patience(q *queued, now time.Time) time.Time {
	hold := max(0, min(q.Time-q.Sent, maxApart))
	if !t.finished {
		hold += t.late[otherKind(q.Kind)].Lately(now)
	}
	return q.came.Add(hold + hold/8 + jitter)
}

// fix maps a segment to the stream's clock once its lowest time is known: when
// each track has shown a frame, or has had its time to.
func (t *timeline) fix(s *segment, now time.Time) bool {
	if s.fixed {
		return true
	}
	whole := true
	for kind, has := range t.kinds {
		whole = whole && (!has || s.seen[kind])
	}
	if !whole && !t.finished && s.newest-s.first <= maxGap && now.Before(s.began.Add(maxApart)) {
		return false
	}
	t.anchor(s, t.head().Frame)
	return true
}

// anchor has a segment's lowest frame follow the newest one given out.
func (t *timeline) anchor(s *segment, lowest media.Frame) {
	s.fixed = true
	s.shift = -lowest.Time
	if t.clock.started {
		s.shift += t.clock.newest + t.clock.lengths[lowest.Kind]
	}
}

// flush gives out all that waits for its order.
func (t *timeline) flush() {
	for q := t.head(); q != nil; q = t.head() {
		if !q.fixed {
			t.anchor(q.segment, q.Frame)
		}
		t.pop(q)
	}
}

// out gives a frame its place on the stream's clock, which never runs back.
func (t *timeline) out(f media.Frame, at time.Duration) {
	if t.clock.started && at < t.clock.newest-maxApart {
		t.dropped++
		return
	}
	at = t.clock.tick(f, at)
	t.ready = append(t.ready, timed{f, at})
}

// tick moves the clock on to a frame and is its time there.
func (c *clock) tick(f media.Frame, at time.Duration) time.Duration {
	if c.started {
		at = max(at, c.newest)
	}
	c.measure(f, at)
	c.started, c.newest, c.last[f.Kind] = true, at, at
	return at
}

// measure keeps how long a frame lasts. Where it isn't stated, a frame lasts as
// long as the shorter of the two steps before it: one may have been a gap.
func (c *clock) measure(f media.Frame, at time.Duration) {
	if f.Duration > 0 {
		c.lengths[f.Kind] = f.Duration
		return
	}
	step, before := at-c.last[f.Kind], c.steps[f.Kind]
	if step <= 0 || step > maxGap {
		return
	}
	c.steps[f.Kind] = step
	if before > 0 {
		step = min(step, before)
	}
	c.lengths[f.Kind] = step
}
