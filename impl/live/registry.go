package live

import (
	"context"
	"errors"
	"sync"
	"time"

	"tureen/impl/media"
)

// Errors of the calls on a Registry.
var (
	// ErrTaken is a session that another publisher holds.
	ErrTaken = errors.New("the session has a publisher already")
	// ErrAbsent is a session that nobody publishes, or that didn't come to
	// life while the caller waited.
	ErrAbsent = errors.New("nothing is published under this session id")
	// ErrClosed is a registry that takes nobody any more; also the cause with
	// which its publishers end.
	ErrClosed = errors.New("the server is shutting down")
	// ErrAborted is the cause with which a publisher ends whose session was
	// aborted.
	ErrAborted = errors.New("the session was aborted by who runs the server")
)

// hold is how long a viewer of a session whose tracks aren't known yet waits
// for them (WAT-10).
const hold = 5 * time.Second

// Registry holds the sessions by id.
type Registry struct {
	grace    time.Duration
	observer Observer // nil when there is none

	mu       sync.Mutex // guards what follows, and every session's fields
	sessions map[string]*session
	arrivals map[string]*arrival
	closed   bool
}

// arrival is what viewers of an absent session wait on.
type arrival struct {
	taken   chan struct{}
	waiters int

	// stream is the one that came, first its first slot. They may be read once
	// taken is closed; nil when the registry was closed instead.
	stream *Stream
	first  *Slot
}

// NewRegistry keeps a session whose publisher broke off for the time grace.
func NewRegistry(grace time.Duration) *Registry {
	return &Registry{grace: grace, sessions: map[string]*session{}, arrivals: map[string]*arrival{}}
}

// Observer is told of a session's stream once its tracks are known and before
// it has a frame; ended is called when the stream has. Both are called with the
// registry locked.
type Observer func(session string, stream *Stream) (ended func())

// Observe has the registry's one observer told of all streams. It is called
// before the first Take.
func (r *Registry) Observe(o Observer) { r.observer = o }

// State is the state of a session.
func (r *Registry) State(id string) State {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.sessions[id]; s != nil {
		return s.state
	}
	return Absent
}

// Source is where a publisher's frames come from.
type Source interface {
	// GivesWay is the cause with which the publisher ends in favour of another
	// that has just come; nil while it holds its session. It is called with the
	// registry locked.
	GivesWay() error
}

// Take makes the caller the publisher of a session. One that is there already
// ends if its source gives way. The error is ErrTaken, ErrClosed, or the
// context's. The publisher must be ended with Publisher.End.
func (r *Registry) Take(ctx context.Context, id string, source Source) (*Publisher, error) {
	for {
		p, before, err := r.take(ctx, id, source)
		if before == nil {
			return p, err
		}
		select {
		case <-before.ended:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// take is Take, or the publisher that gives way and whose end is to be awaited.
func (r *Registry) take(ctx context.Context, id string, source Source) (p, before *Publisher, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, nil, ErrClosed
	}
	s := r.sessions[id]
	if s == nil {
		s = &session{id: id, registry: r, stream: newStream(new(Counts))}
		r.sessions[id] = s
		r.announce(id, s.stream)
	}
	if s.publisher == nil {
		p = &Publisher{session: s, source: source, counts: s.stream.Counts, ended: make(chan struct{}), timeline: &timeline{}}
		p.ctx, p.cancel = context.WithCancelCause(ctx)
		s.take(p)
		return p, nil, nil
	}
	cause := s.publisher.source.GivesWay()
	if cause == nil {
		return nil, nil, ErrTaken
	}
	s.publisher.cancel(cause)
	return nil, s.publisher, nil
}

// Source is that of the session's publisher; nil without one.
func (r *Registry) Source(id string) Source {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.sessions[id]; s != nil && s.publisher != nil {
		return s.publisher.source
	}
	return nil
}

// Abort ends a session's publisher with a cause, and its viewers' bodies as
// whole ones, without a grace time. The channel is closed once all of that has
// begun. The error is ErrAbsent.
func (r *Registry) Abort(id string, cause error) (ended <-chan struct{}, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sessions[id]
	switch {
	case s == nil:
		return nil, ErrAbsent
	case s.publisher == nil:
		s.remove()
		return s.stream.ended, nil
	}
	s.aborted = true
	s.publisher.cancel(cause) // ends its session itself
	return s.publisher.ended, nil
}

// Snapshot is what a session that is on the air was at a moment.
type Snapshot struct {
	ID      string
	State   State // Live, or Waiting: viewers are kept for a publisher to return
	Started time.Time
	Source  Source        // of its publisher, or the latest one
	Tracks  []media.Track // as viewers get them; they may not be changed
	Counts  *Counts
}

// Snapshots are all sessions that are live or whose viewers wait, in no order.
func (r *Registry) Snapshots() []Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]Snapshot, 0, len(r.sessions))
	for _, s := range r.sessions {
		if !s.stream.isReady() {
			continue
		}
		state := s.state
		if state == Taken { // its publisher has returned, and viewers still wait for the tracks
			state = Waiting
		}
		all = append(all, Snapshot{
			ID: s.id, State: state, Started: s.started, Source: s.source, Tracks: s.stream.tracks, Counts: s.stream.Counts,
		})
	}
	return all
}

// announce wakes the viewers that wait for a session to be taken.
func (r *Registry) announce(id string, stream *Stream) {
	if a := r.arrivals[id]; a != nil {
		if a.stream = stream; stream != nil {
			a.first = stream.Tail()
		}
		close(a.taken)
		delete(r.arrivals, id)
	}
}

// NoPreference is the wait of a viewer that states none.
const NoPreference time.Duration = -1

// Watch finds the stream of a session and where in it a new body starts. One
// that isn't on the air yet is waited for as long as the viewer prefers; without
// a preference one that is taken for a short time. The error is ErrAbsent,
// ErrClosed, or the context's.
func (r *Registry) Watch(ctx context.Context, id string, wait time.Duration) (*Stream, *Slot, error) {
	asked, patience := time.Now(), wait
	if wait == NoPreference {
		patience = hold
	}
	for {
		stream, absent, err := r.find(id)
		if err != nil {
			return nil, nil, err
		}
		var first *Slot
		if stream == nil {
			stream, first, err = r.arrive(ctx, id, absent, wait-time.Since(asked))
		} else if first = stream.Tail(); stream.isReady() { // in this order: before it is ready the tail is the first
			return stream, stream.Join(time.Now()), nil
		}
		if err != nil {
			return nil, nil, err
		}
		if stream == nil {
			continue
		}
		if err := await(ctx, patience-time.Since(asked), stream.ready, stream.ended); err != nil {
			return nil, nil, err
		}
		if stream.isReady() {
			return stream, first, nil
		}
	}
}

// arrive waits for an absent session to be taken. Who waited gets the stream
// from its beginning, however much of it has come by the time he runs.
func (r *Registry) arrive(ctx context.Context, id string, a *arrival, wait time.Duration) (*Stream, *Slot, error) {
	defer r.leave(id, a)
	if wait <= 0 {
		return nil, nil, ErrAbsent
	}
	if err := await(ctx, wait, a.taken, nil); err != nil {
		return nil, nil, err
	}
	return a.stream, a.first, nil
}

// await waits for one of two events.
func await(ctx context.Context, at time.Duration, event, other <-chan struct{}) error {
	timer := time.NewTimer(at)
	defer timer.Stop()
	select {
	case <-event:
	case <-other:
	case <-timer.C:
		return ErrAbsent
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// Peek is Watch that waits for nothing.
func (r *Registry) Peek(id string) (*Stream, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, ErrClosed
	}
	if s := r.sessions[id]; s != nil && s.stream.isReady() {
		return s.stream, nil
	}
	return nil, ErrAbsent
}

// find is the stream of a session, or what to wait on until it is taken.
func (r *Registry) find(id string) (*Stream, *arrival, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, nil, ErrClosed
	}
	if s := r.sessions[id]; s != nil {
		return s.stream, nil, nil
	}
	a := r.arrivals[id]
	if a == nil {
		a = &arrival{taken: make(chan struct{})}
		r.arrivals[id] = a
	}
	a.waiters++
	return nil, a, nil
}

// leave ends a wait that find began; the last to leave takes its place away.
func (r *Registry) leave(id string, a *arrival) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a.waiters--
	if a.waiters == 0 && r.arrivals[id] == a {
		delete(r.arrivals, id)
	}
}

// Closed reports whether Close was called.
func (r *Registry) Closed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}

// Close ends all publishers with ErrClosed as the cause, all bodies cleanly,
// and takes nobody any more.
func (r *Registry) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for id := range r.arrivals {
		r.announce(id, nil) // they find the registry closed
	}
	for _, s := range r.sessions {
		if s.publisher != nil {
			s.publisher.cancel(ErrClosed) // ends its session itself
			continue
		}
		s.remove()
	}
}

// Awaited is how many viewers wait for an absent session to be taken.
func (r *Registry) Awaited(id string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a := r.arrivals[id]; a != nil {
		return a.waiters
	}
	return 0
}
