package transcoder

import (
	"context"
	"sync"
	"time"

	"tureen/impl/media"
)

// sequence puts the frames of both tracks in order of time and writes them.
// Encoders take their time: a picture leaves its one within milliseconds, sound
// some 50 ms of media later. So a frame waits until the other track has come as
// far, but only while something of that is under way.
type sequence struct {
	write func(media.Frame) error

	mu      sync.Mutex    // guards what follows
	room    *sync.Cond    // a frame has gone out, or none will any more
	changed chan struct{} // capacity 1: there may be something to do
	wrote   time.Time     // when the last frame had gone out
	err     error         // of write
	tracks  [media.Kinds]line
}

// line is a track's frames on their way.
type line struct {
	open    bool          // frames may come
	silent  bool          // what was under way didn't come in time
	fed     time.Duration // how far its decoder has been fed
	reached time.Duration // how far its encoder has come
	waiting []waiting
}

type waiting struct {
	media.Frame
	since time.Time
}

const (
	// maxWait is how long a frame waits for what is under way in the other
	// track: as far apart as a container's tracks may lie (WAT-5), and a little
	// for the encoders. What isn't out by then may never come, a damaged frame
	// or the rest of a sound that has fallen silent, and the track isn't waited
	// for until it has come again.
	maxWait = 600 * time.Millisecond
	// span is how much of a track may wait, in media time.
	span = time.Second
)

func newSequence(write func(media.Frame) error) *sequence {
	s := &sequence{write: write, changed: make(chan struct{}, 1)}
	s.room = sync.NewCond(&s.mu)
	return s
}

// open lets frames of a track be waited for.
func (s *sequence) open(kind media.Kind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tracks[kind].open = true
}

// feed notes that a track's decoder has been fed up to a time.
func (s *sequence) feed(kind media.Kind, to time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tracks[kind].fed = max(s.tracks[kind].fed, to)
}

// put takes a frame. It waits while too many do, and tells for how long; the
// error is that of the writing.
func (s *sequence) put(f media.Frame) (waited time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &s.tracks[f.Kind]
	if s.err == nil && l.full(f.Time) {
		began := time.Now()
		for s.err == nil && l.full(f.Time) {
			s.room.Wait()
		}
		waited = time.Since(began)
	}
	l.waiting = append(l.waiting, waiting{f, time.Now()})
	l.reached, l.silent = max(l.reached, end(f)), false
	signal(s.changed)
	return waited, s.err
}

// full reports whether a frame of that time finds too many before it.
func (l *line) full(at time.Duration) bool {
	return len(l.waiting) > 0 && at-l.waiting[0].Time > span
}

// end is where a frame's track is to go on. Pictures tell it badly: they come at
// any rate.
func end(f media.Frame) time.Duration {
	if f.Kind == media.Video {
		return f.Time
	}
	return f.Time + f.Duration
}

// finish says that a track has had its last frame, and returns when that has
// been written; false when it can't be.
func (s *sequence) finish(kind media.Kind) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &s.tracks[kind]
	l.open = false
	signal(s.changed)
	for s.err == nil && len(l.waiting) > 0 {
		s.room.Wait()
	}
	return s.err == nil
}

// run writes frames in their order until that fails or ctx ends.
func (s *sequence) run(ctx context.Context) {
	for {
		f, wait := s.next(time.Now())
		if f != nil {
			if s.note(s.write(*f)) != nil {
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
			return
		case <-s.changed:
		case <-overdue:
		}
	}
}

// note keeps how the writing of a frame went.
func (s *sequence) note(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrote, s.err = time.Now(), err
	s.room.Broadcast()
	return err
}

// next takes the frame that is to be written now. Without one, wait is until
// when the first of them waits for the other track; 0 when none does.
func (s *sequence) next(now time.Time) (f *media.Frame, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, other := &s.tracks[media.Video], &s.tracks[media.Audio]
	if len(l.waiting) == 0 || len(other.waiting) > 0 && other.waiting[0].Time < l.waiting[0].Time {
		l, other = other, l
	}
	if len(l.waiting) == 0 {
		return nil, 0
	}
	first := l.waiting[0]
	if other.under(first.Time) {
		since := first.since
		if s.wrote.After(since) { // the proxy has been holding all of this up
			since = s.wrote
		}
		if wait = maxWait - now.Sub(since); wait > 0 {
			return nil, wait
		}
		other.silent = true
	}
	l.waiting = l.waiting[1:]
	return &first.Frame, 0
}

// under reports whether something of before a time is under way in a track.
func (l *line) under(at time.Duration) bool {
	return l.open && !l.silent && len(l.waiting) == 0 && l.reached < at && l.fed > l.reached
}

// signal says that something has changed to the one who waits for that, if it
// hasn't been said yet.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
