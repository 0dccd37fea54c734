package server

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"tureen/impl/ingest"
	"tureen/impl/live"
	"tureen/impl/problem"
)

// Causes of a publisher's end that its body gives.
var (
	errIdle   = errors.New("the publisher sent nothing for too long")
	errSilent = errors.New("the publisher fell silent, and another one came")
	// errReplaced is a clean end: all that was to come has come.
	errReplaced = errors.New("another publisher came")
	errOver     = errors.New("the publisher has ended")
)

const (
	// silence is how long nothing may come from a publisher before it gives way
	// to another one (ING-9).
	silence = 2 * time.Second
	// continuation is how long a request of fixed length may be gone on with by
	// one that bears a Content-Range (ING-16).
	continuation = time.Second
	// maxParts is how many requests may wait for their turn.
	maxParts = 16
)

// upload is a publisher's body as its session reads it. Most come in one
// request; GStreamer sends a request per buffer instead, and ties them together
// by Content-Range (ING-16).
type upload struct {
	idle   time.Duration
	from   netip.Addr
	peer   atomic.Pointer[string]         // host:port of the latest request
	counts *live.Counts                   // the session's, set before the first read
	tracks atomic.Pointer[[]ingest.Track] // nil before they are known

	parts   chan *part     // that wait to be read
	current *part          // being read, by Read alone
	settled chan struct{}  // closed when all of a first, unmarked part has played
	partial ingest.Summary // once settled is closed
	over    chan struct{}  // closed when the publisher has ended

	// The result, once over is closed.
	summary ingest.Summary
	err     error
	read    <-chan struct{} // closed when Read is called no more

	mu       sync.Mutex // guards what follows, and sending to parts
	next     int64      // where the next part must begin; none may follow when negative
	unmarked bool       // all that has come is one request without a Content-Range
	complete bool       // and its publisher was told that it is done
	since    time.Time  // from when on nothing came; zero while nothing is read
}

func newUpload(r *http.Request, from netip.Addr, idle time.Duration, first *part) *upload {
	u := &upload{
		idle: idle, from: from, parts: make(chan *part, maxParts),
		settled: make(chan struct{}), over: make(chan struct{}),
		next: first.end, unmarked: first.unmarked,
	}
	if first.last {
		u.next = -1
	}
	u.parts <- first
	u.peer.Store(&r.RemoteAddr)
	return u
}

// GivesWay is the cause with which the publisher ends if another one comes.
func (u *upload) GivesWay() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.complete:
		return errReplaced
	case !u.since.IsZero() && time.Since(u.since) >= silence:
		return errSilent
	}
	return nil
}

// open reports whether parts may follow.
func (u *upload) open() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.next >= 0
}

// Errors of add.
var (
	errGap      = errors.New("the part doesn't begin where the one before it ended")
	errCrowded  = errors.New("too many parts at once")
	errSettling = errors.New("nothing can be added to the body any more")
)

// add has a part read after those that came before it.
func (u *upload) add(r *http.Request, p *part) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.next < 0:
		return errSettling
	case p.begin != u.next:
		return fmt.Errorf("%w: it begins at byte %d, expected was %d", errGap, p.begin, u.next)
	case len(u.parts) == maxParts:
		return errCrowded
	}
	u.unmarked, u.complete = false, false
	if u.next = p.end; p.last {
		u.next = -1
	}
	u.peer.Store(&r.RemoteAddr)
	u.parts <- p // has room: only here, under the lock, it is sent to
	return nil
}

// Read reads one part after the other. It belongs to one goroutine.
func (u *upload) Read(b []byte) (int, error) {
	if u.current == nil {
		if err := u.turn(); err != nil {
			return 0, err
		}
	}
	p := u.current
	u.waiting(true)
	n, err := p.Read(b)
	u.waiting(false)
	u.counts.BytesIn.Add(int64(n))
	switch {
	case err != io.EOF, p.last:
		return n, err
	case n > 0:
		return n, nil // it will say so again
	}
	u.current = nil
	if p.unmarked {
		return 0, ingest.ErrPause
	}
	close(p.read)
	return u.Read(b)
}

// turn waits for the next part.
func (u *upload) turn() error {
	settled := u.settled
	if !u.mayBeWhole() {
		settled = nil
		u.waiting(true)
		defer u.waiting(false)
	}
	timer := time.NewTimer(u.idle)
	defer timer.Stop()
	for {
		late := timer.C
		if settled != nil {
			late = nil // what has come still plays
		}
		select {
		case u.current = <-u.parts:
			return nil
		case <-settled:
			settled = nil
			timer.Reset(continuation)
		case <-late:
			return u.close()
		case <-u.over:
			return errOver
		}
	}
}

// close takes no more parts. The error is how the body ends with that.
func (u *upload) close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case len(u.parts) > 0: // in the last moment
		u.current = <-u.parts
		return nil
	case u.unmarked:
		u.next = -1
		return io.EOF
	}
	u.next = -1
	return errIdle
}

// mayBeWhole reports whether all that has come is one request that may be the
// whole body.
func (u *upload) mayBeWhole() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.unmarked
}

// waiting notes whether the publisher is waited for.
func (u *upload) waiting(is bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.since = (time.Time{}); is {
		u.since = time.Now()
	}
}

// settle tells the publisher of all that has come that it is done.
func (u *upload) settle(s ingest.Summary) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.complete = u.unmarked
	u.partial = s
	close(u.settled) // once: only a first part is unmarked
}

// part is one request's share of an upload. Each read may take the idle time;
// time in which the proxy doesn't read doesn't count (ING-13).
type part struct {
	io.Reader
	control *http.ResponseController
	idle    time.Duration

	begin    int64 // its place in the upload, in bytes
	end      int64
	unmarked bool          // of fixed length, and no Content-Range: perhaps all, perhaps the first part
	last     bool          // nothing follows it
	read     chan struct{} // closed when all of it was read, unless it is unmarked or last

	mu   sync.Mutex // guards what follows and the read deadline
	over bool       // its publisher has an answer
}

// leave has reading end soon: the deadline is the answer's from now on.
func (p *part) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	p.control.SetReadDeadline(time.Now().Add(problem.Farewell)) // fails only with the connection
}

// extend allows for another read.
func (p *part) extend() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return nil
	}
	if err := p.control.SetReadDeadline(time.Now().Add(p.idle)); err != nil {
		return fmt.Errorf("bound a publisher's silence: %w", err)
	}
	return nil
}

func (p *part) Read(b []byte) (int, error) {
	if err := p.extend(); err != nil {
		return 0, err
	}
	n, err := p.Reader.Read(b)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return n, errIdle
	case err == io.EOF:
		p.control.SetReadDeadline(time.Time{}) // the next request has its own
	}
	return n, err
}
