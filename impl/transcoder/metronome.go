package transcoder

import (
	"slices"
	"sync"
	"time"
)

const (
	// wobble is how far sound may be stamped beside where the samples before it
	// end and still follow them: publishers stamp by clocks of their own.
	wobble = 40 * time.Millisecond
	// calm is how many buffers a lasting difference takes to be followed.
	calm = 8
	// stepBack is how far back a stamp must lie to be a new beginning, and not
	// sound that has been heard (ING-14).
	stepBack = 500 * time.Millisecond
)

// metronome stands between decoded sound and its encoder. The encoder counts
// samples, and takes badly what is stamped otherwise: it repeats, leaves out or
// gives up. So it is shown a clock without a flaw, and what the publisher's does
// beside that is kept for what comes out: a gap stays a gap, a slow drift is
// followed, a wobble is not.
type metronome struct {
	mu      sync.Mutex // guards what follows: sound goes in by one thread and comes out by another
	rate    int        // samples a second; 0 before the first
	base    time.Duration
	samples int64
	spans   []beat // in order of from; never empty once begun
}

// beat says by how much the publisher's clock is ahead of the encoder's, from a
// time of that on.
type beat struct{ from, ahead time.Duration }

// place is where samples stamped at are on the encoder's clock; false when
// what they hold has been heard.
func (m *metronome) place(at time.Duration, samples int64, rate int) (time.Duration, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rate == 0 {
		m.rate, m.base, m.spans = rate, at, []beat{{at, 0}}
	}
	now := m.base + time.Duration(float64(m.samples)/float64(m.rate)*float64(time.Second))
	ahead := m.spans[len(m.spans)-1].ahead
	switch off := at - now - ahead; {
	case off > wobble, off < -stepBack:
		m.spans = append(m.spans, beat{now, at - now})
	case off < -wobble:
		return 0, false
	case off/calm != 0:
		m.spans = append(m.spans, beat{now, ahead + off/calm})
	}
	m.samples += samples
	return now, true
}

// back is the publisher's time of one on the encoder's clock. Times come back in
// order.
func (m *metronome) back(t time.Duration) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := len(m.spans) - 1
	for i > 0 && t < m.spans[i].from {
		i--
	}
	if i < 0 {
		return t
	}
	m.spans = slices.Delete(m.spans, 0, i) // what is older comes no more
	return t + m.spans[0].ahead
}
