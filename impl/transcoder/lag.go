package transcoder

import "time"

// lag judges whether an encoder has fallen behind, so that pictures are to be
// dropped before it: delay must not grow (FMT-2).
//
// How late a picture is can only be told against the ones before it: the
// earliest so far sets the mark. But a publisher that stalls and then catches
// up makes late pictures too, and so does a proxy that holds a fast one back.
// Hence time doesn't count while the proxy isn't reading, and nothing is
// dropped until the encoder has had pictures waiting for as long as patience.
type lag struct {
	begun bool
	mark  time.Duration // by how much the earliest picture's time and the clock differ
	at    time.Duration // when it was last moved
	busy  time.Duration // since when pictures have been waiting without a break; 0 when none are
	calm  time.Duration // since when none have
	eager bool          // it has fallen behind already
}

const (
	// maxLag is how late a picture may be. It is what delay can grow by.
	maxLag = 150 * time.Millisecond
	// patience is how long an encoder may take to work off what came at once.
	patience = time.Second
	// recovery is how long it must keep up before it is given that time again.
	recovery = 5 * time.Second
	// drift is how much of time the mark is moved on by: a publisher's clock
	// that runs slow isn't a slow encoder.
	drift = 1000
)

// drop tells what to do with a picture of time at that comes to the encoder
// when the clock says now; waiting is whether others wait behind it.
func (l *lag) drop(at, now time.Duration, waiting bool) bool {
	if late := now - at; !l.begun || late < l.mark {
		l.begun, l.mark = true, late
	} else {
		l.mark += (now - l.at) / drift
	}
	l.at = now
	if !waiting {
		l.rest(now)
		return false
	}
	l.calm = 0
	if l.busy == 0 {
		l.busy = now
	}
	if now-at-l.mark <= maxLag || now-l.busy < patience && !l.eager {
		return false
	}
	l.eager = true
	return true
}

// rest notes that the encoder keeps up.
func (l *lag) rest(now time.Duration) {
	l.busy = 0
	if l.calm == 0 {
		l.calm = now
	}
	if now-l.calm > recovery {
		l.eager = false
	}
}
