// Package lateness remembers how far behind another track a track's frames have
// come lately, for those who put tracks in order. What to make of it is theirs.
package lateness

import "time"

// memory is how long a track that once came late is known for that.
const memory = 5 * time.Second

// Lateness is the most that was noted in this span of memory and in the one
// before. The zero value knows of nothing. It belongs to one goroutine.
type Lateness struct {
	most, before time.Duration
	since        time.Time
}

// Note keeps that a frame came that much behind.
func (l *Lateness) Note(d time.Duration, now time.Time) {
	l.turn(now)
	l.most = max(l.most, d)
}

// Assume counts d as what the span before this one has shown at least.
func (l *Lateness) Assume(d time.Duration, now time.Time) {
	l.turn(now)
	l.before = max(l.before, d)
}

// Lately is by how much frames have come behind; 0 when none has.
func (l *Lateness) Lately(now time.Time) time.Duration {
	l.turn(now)
	return max(l.most, l.before)
}

func (l *Lateness) turn(now time.Time) {
	span := now.Sub(l.since)
	if span < memory {
		return
	}
	l.before = l.most
	if span >= 2*memory {
		l.before = 0
	}
	l.most, l.since = 0, now
}
