package transcoder

import "time"

// lag judges whether an encoder has fallen behind, so that pictures are to be
// dropped before it: delay must not grow (FMT-2).
//
// A picture that finds the encoder free is as late as its publisher made it, who
// may have stalled and be catching up, or whose container holds a second of
// pictures together. Those behind it that have to wait may be a little later than
// that; what is more is the encoder's doing.
type lag struct {
	busy bool          // pictures wait behind the last one
	mark time.Duration // by how much the last picture that found it free was late
	at   time.Duration // when it was last moved
}

const (
	// maxLag is how much later a picture may be. It is what delay can grow by.
	maxLag = 300 * time.Millisecond
	// drift is how much of time the mark is moved on by: a publisher's clock
	// that runs slow isn't a slow encoder.
	drift = 1000
)

// drop tells what to do with a picture of time at that comes to the encoder
// when the clock says now; waiting is whether others wait behind it.
func (l *lag) drop(at, now time.Duration, waiting bool) bool {
	late := now - at
	if !l.busy {
		l.mark, l.at = late, now
	}
	l.busy = waiting
	l.mark += (now - l.at) / drift
	l.at = now
	return late-l.mark > maxLag
}
