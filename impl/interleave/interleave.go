// Package interleave puts the frames of a video and an audio track in order of
// time, where they come by different ways: a picture leaves its encoder within
// milliseconds, sound some 50 ms of media later, and some containers hold a
// second of one before that second of the other. What a publisher's clock does
// and when frames are due is left to package live.
package interleave

import (
	"context"
	"sync"
	"time"

	"tureen/impl/lateness"
	"tureen/impl/media"
)

const (
	// Span is how much of a track may wait as a rule, in media time: more than any
	// publisher's tracks should lie apart.
	Span = 3 * time.Second
	// maxFrames and maxBytes bound it where times don't: a publisher may step
	// back.
	maxFrames = 1 << 10
	maxBytes  = 8 << 20
	// maxBehind is how far behind the other a track may come and is still waited
	// for: a fragmented MP4 holds two seconds of pictures, as a rule, before their
	// sound.
	maxBehind = 2500 * time.Millisecond
	// assumed is how far behind a track is taken to come before it has shown that
	// it doesn't: an MPEG-TS bundles sound of 200 ms and more.
	assumed = 300 * time.Millisecond
	// back is a step of a track's times that is no reordering: it begins anew.
	back = 500 * time.Millisecond
)

// underWay is how long a frame waits for what is under way in the other track.
// What isn't out by then may never come, a damaged frame or the rest of a sound
// that has fallen silent. Sound is waited for as far apart as tracks lie as a
// rule (WAT-5) and a little for its encoder, pictures until an encoder that falls
// behind has begun to lose some.
var underWay = [media.Kinds]time.Duration{media.Video: 1200 * time.Millisecond, media.Audio: 600 * time.Millisecond}

// Queue holds frames until their turn. A frame goes out once the other track has
// come as far; until then it waits only for as long as something of that track
// is under way, or as that has come behind lately. A track for which a frame has
// waited in vain isn't waited for until it has come again. All methods may be
// called at once.
type Queue struct {
	write func(media.Frame) error
	span  time.Duration // how much of a track may wait

	mu      sync.Mutex    // guards what follows
	room    *sync.Cond    // a frame has gone out, or none will any more
	changed chan struct{} // capacity 1: there may be something to do
	wrote   time.Time     // when the last frame had gone out
	writing bool          // one is on its way out
	err     error         // of write
	tracks  [media.Kinds]track
}

// track is a track's frames on their way.
type track struct {
	open    bool          // frames may come
	silent  bool          // what was waited for didn't come in time
	begun   bool          // a frame has come
	round   int           // how often its times have begun anew
	newest  time.Duration // the newest frame's time
	fed     time.Duration // how far its encoder has been fed
	reached time.Duration // how far that has come
	behind  lateness.Lateness
	waiting []waiting
	bytes   int // that wait
}

type waiting struct {
	media.Frame
	round int
	since time.Time
}

// before reports whether one frame goes out before another.
func (w waiting) before(other waiting) bool {
	if w.round != other.round {
		return w.round < other.round
	}
	return w.Time < other.Time
}

// New has frames written by write, in Run; span of a track may wait.
func New(span time.Duration, write func(media.Frame) error) *Queue {
	q := &Queue{write: write, span: span, changed: make(chan struct{}, 1)}
	q.room = sync.NewCond(&q.mu)
	return q
}

// Open says that frames of a track will come, so that it is waited for.
func (q *Queue) Open(kind media.Kind) {
	q.mu.Lock()
	defer q.mu.Unlock()
	t := &q.tracks[kind]
	t.open = true
	t.behind.Assume(assumed, time.Now())
}

// Feed notes that a track's frames are under way up to that time, which isn't
// needed of frames that are put at once.
func (q *Queue) Feed(kind media.Kind, to time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	t, other := &q.tracks[kind], &q.tracks[media.Audio-kind]
	if to < t.fed-back {
		t.fed, t.reached = to, min(to, t.reached)
	}
	t.fed = max(t.fed, to)
	t.late(other.fed-to, time.Now())
}

// late notes by how much a track comes behind the other.
func (t *track) late(by time.Duration, now time.Time) {
	if by > 0 && by <= maxBehind {
		t.behind.Note(by, now)
	}
}

// Put takes a frame. It waits while span of its track is in the queue, and tells
// for how long; the error is that of write.
func (q *Queue) Put(f media.Frame) (waited time.Duration, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	t := &q.tracks[f.Kind]
	if q.err == nil && t.full(f.Time, q.span) {
		began := time.Now()
		for q.err == nil && t.full(f.Time, q.span) {
			q.room.Wait()
		}
		waited = time.Since(began)
	}
	if q.err == nil {
		t.add(f, &q.tracks[media.Audio-f.Kind], time.Now())
		q.signal()
	}
	return waited, q.err
}

// Full reports whether Put would wait.
func (q *Queue) Full(f media.Frame) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.tracks[f.Kind].full(f.Time, q.span)
}

// Trim makes room for a frame: the oldest of its track go, up to one that can be
// begun with.
func (q *Queue) Trim(f media.Frame) {
	q.mu.Lock()
	defer q.mu.Unlock()
	t := &q.tracks[f.Kind]
	for len(t.waiting) > 0 && (t.full(f.Time, q.span) || !t.waiting[0].Key) {
		t.pop()
	}
}

// full reports whether a frame of that time finds too many before it.
func (t *track) full(at, span time.Duration) bool {
	return len(t.waiting) > 0 && at-t.waiting[0].Time > span || len(t.waiting) >= maxFrames || t.bytes >= maxBytes
}

// add takes a frame beside another track.
func (t *track) add(f media.Frame, other *track, now time.Time) {
	if other.begun {
		t.late(other.newest-f.Time, now)
	}
	reached := f.Time
	if f.Kind == media.Audio { // pictures tell their ends badly: they come at any rate
		reached += f.Duration
	}
	if t.begun && f.Time < t.newest-back {
		t.reached = reached
		t.round++
	}
	t.reached = max(t.reached, reached)
	t.begun, t.silent, t.newest = true, false, f.Time
	t.waiting = append(t.waiting, waiting{f, t.round, now})
	t.bytes += len(f.Payload)
}

// Finish says that a track has had its last frame, and returns when that has
// been written; the error is that of write.
func (q *Queue) Finish(kind media.Kind) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	t := &q.tracks[kind]
	t.open = false
	q.signal()
	for q.err == nil && (len(t.waiting) > 0 || q.writing) {
		q.room.Wait()
	}
	return q.err
}

// signal has Run look again. It is called with the lock held.
func (q *Queue) signal() {
	select {
	case q.changed <- struct{}{}:
	default:
	}
}

// Run writes frames in their order until that fails or ctx ends, whose cause is
// then what Put and Finish return.
func (q *Queue) Run(ctx context.Context) {
	for {
		f, wait := q.next(time.Now())
		if f != nil {
			if q.note(q.write(*f)) != nil {
				return
			}
			continue
		}
		var overdue <-chan time.Time
		if wait > 0 {
			overdue = time.After(wait)
		}
		select {
		case <-ctx.Done():
			q.note(context.Cause(ctx))
			return
		case <-q.changed:
		case <-overdue:
		}
	}
}

// note keeps how the writing of a frame went.
func (q *Queue) note(err error) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.wrote, q.err, q.writing = time.Now(), err, false
	q.room.Broadcast()
	return err
}

// next takes the frame that is to be written now. Without one, wait is for how
// long the first of them waits for the other track; 0 when there is none.
func (q *Queue) next(now time.Time) (f *media.Frame, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	t, other := &q.tracks[media.Video], &q.tracks[media.Audio]
	if len(t.waiting) == 0 || len(other.waiting) > 0 && other.waiting[0].before(t.waiting[0]) {
		t, other = other, t
	}
	if len(t.waiting) == 0 {
		return nil, 0
	}
	first := t.waiting[0]
	if patience := other.patience(media.Audio-first.Kind, first.Time, now); patience > 0 {
		since := first.since
		if q.wrote.After(since) { // the reader has been holding all of this up
			since = q.wrote
		}
		if t.newest-first.Time <= patience { // a machine that is too slow for real time needs longer
			patience *= 2
		}
		if wait = patience - now.Sub(since); wait > 0 {
			return nil, wait
		}
		other.silent = true
	}
	t.pop()
	q.writing = true
	return &first.Frame, 0
}

// pop takes the first frame away.
func (t *track) pop() {
	t.bytes -= len(t.waiting[0].Payload)
	t.waiting = t.waiting[1:]
}

// patience is how long the other track's frame of that time waits for this one,
// which is of that kind.
func (t *track) patience(kind media.Kind, at time.Duration, now time.Time) time.Duration {
	if !t.open || t.silent || len(t.waiting) > 0 || t.begun && t.reached >= at {
		return 0
	}
	const jitter = 50 * time.Millisecond
	longest := time.Duration(0)
	if late := t.behind.Lately(now); late > 0 {
		longest = late + late/8 + jitter
	}
	if t.fed > t.reached {
		longest = max(longest, underWay[kind])
	}
	return longest
}
