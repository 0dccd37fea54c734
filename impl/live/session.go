package live

import (
	"time"

	"tureen/impl/media"
)

// State is what a session is, seen from outside (the contract's "Terms").
type State uint8

// The states of a session.
const (
	Absent  State = iota
	Taken         // a publisher was accepted, its tracks aren't known
	Live          // its tracks are known
	Waiting       // its publisher broke off and may return
)

func (s State) String() string { return [...]string{"absent", "taken", "live", "waiting"}[s] }

// Ending is how a publisher ended (likewise). Only a broken end has a grace time.
type Ending uint8

// The kinds of end.
const (
	Clean  Ending = iota // its body came to its end
	Ended                // it was put to its end, or came to nothing
	Broken               // its body broke off, or was at fault
)

// returning is how long the tracks of a publisher that returns may take, beyond
// the grace time if need be (REC-2).
const returning = 5 * time.Second

// session is one id that is on the air, and what may become of it:
//
//	absent ──take──▶ taken ──begin──▶ live
//	  ▲  ▲             │               │
//	  │  └─────end─────┴──clean, ended─┤
//	  │                              broken
//	  └──────expire──── waiting ◀──────┘
//	                     │   ▲
//	                    take end
//	                     ▼   │
//	                     taken, its viewers kept ──begin──▶ live
//	                       └──expire──▶ taken, without viewers
//
// Its methods are called with the registry locked, and nothing else changes it.
type session struct {
	id        string
	registry  *Registry
	state     State
	publisher *Publisher  // nil while waiting
	source    Source      // the publisher's, or the latest one's
	started   time.Time   // when it first was live; zero before
	aborted   bool        // nothing is kept when the publisher ends
	stream    *Stream     // what viewers get; another one when tracks can't go on in it
	until     time.Time   // when the grace time after the latest break ends
	expiry    *time.Timer // runs while viewers wait for a publisher
}

// take gives the session to a publisher. Viewers of an earlier one are kept
// until its tracks had their time to come.
func (s *session) take(p *Publisher) {
	if s.state == Waiting {
		s.expireAt(s.atLeast(returning))
	}
	s.state, s.publisher, s.source = Taken, p, p.source
}

// begin puts tracks on the air, and is the stream in which: the one that
// viewers have if the tracks can go on there, a new one otherwise.
func (s *session) begin(tracks []media.Track) *Stream {
	s.state = Live
	if s.started.IsZero() {
		s.started = time.Now()
	}
	s.expireNever()
	if s.stream.isReady() && !s.stream.continues(tracks) {
		s.stream.end()
		s.stream = newStream(s.stream.Counts)
	}
	if !s.stream.isReady() {
		s.stream.begin(tracks)
		s.observe()
	}
	return s.stream
}

// observe tells the observer of the stream.
func (s *session) observe() {
	if observer := s.registry.observer; observer != nil {
		s.stream.observed = observer(s.id, s.stream)
	}
}

// end takes the session from its publisher. A publisher that had returned and
// never came to its tracks leaves viewers what was left of the grace time.
func (s *session) end(e Ending) {
	kept := s.state == Live && e == Broken || s.state == Taken && s.stream.isReady()
	if s.state == Live {
		s.until = time.Now().Add(s.registry.grace)
	}
	s.publisher = nil
	if !kept || s.aborted || s.registry.closed {
		s.remove()
		return
	}
	s.state = Waiting
	s.expireAt(s.until)
}

// expire ends viewers' wait for a publisher.
func (s *session) expire() {
	if s.state == Waiting {
		s.remove()
		return
	}
	s.stream.end()
	s.stream = newStream(s.stream.Counts) // for what the publisher may yet send
}

// remove takes the session off the air.
func (s *session) remove() {
	s.expireNever()
	s.state = Absent
	delete(s.registry.sessions, s.id)
	s.stream.end()
}

func (s *session) expireAt(at time.Time) {
	s.expireNever()
	var expiry *time.Timer
	expiry = time.AfterFunc(time.Until(at), func() {
		s.registry.mu.Lock()
		defer s.registry.mu.Unlock()
		if s.expiry == expiry { // it wasn't stopped while it waited for the lock
			s.expiry = nil
			s.expire()
		}
	})
	s.expiry = expiry
}

func (s *session) expireNever() {
	if s.expiry != nil {
		s.expiry.Stop()
		s.expiry = nil
	}
}

// atLeast is when the grace time ends, or later so that d is left.
func (s *session) atLeast(d time.Duration) time.Time {
	if t := time.Now().Add(d); t.After(s.until) {
		return t
	}
	return s.until
}
