package ingest

import (
	"slices"
	"sync"
	"time"
)

// passage carries a track's times to a transcoder and back. Encoders and the
// demuxer before them want a clock that begins near 0 and never jumps; what it
// does at the publisher is for the stream's timeline to judge.
type passage struct {
	mu     sync.Mutex // guards what follows: one end feeds, the other collects
	spans  []span     // in order of from; the first may be in use no more
	newest time.Duration
	reach  *time.Duration // the newest of all tracks; the feeding end's
}

// span is a stretch between two jumps.
type span struct {
	from  time.Duration // on the transcoder's clock
	shift time.Duration // from the publisher's to that
}

// What counts as a jump, as the timeline sees it (ING-14). Pictures may step
// back within the second bound: they come in the order of decoding.
const (
	maxForward = 2 * time.Second
	maxBack    = 500 * time.Millisecond
)

// start is where a transcoder's clock begins: tracks that begin a little
// earlier than the first one still have a time there.
const start = 10 * time.Second

// newPassage carries a track of which the clock begins at first. Tracks of one
// clock share how far any has come: one that is silent for long hasn't jumped.
func newPassage(first time.Duration, reach *time.Duration) *passage {
	*reach = start
	return &passage{spans: []span{{shift: start - first}}, newest: start, reach: reach}
}

// there is a time on the transcoder's clock.
func (p *passage) there(at time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := at + p.spans[len(p.spans)-1].shift
	if t > max(p.newest, *p.reach)+maxForward || t < p.newest-maxBack {
		const step = time.Second / 30
		t = p.newest + step
		p.spans = append(p.spans, span{from: t, shift: t - at})
	}
	p.newest = max(p.newest, t)
	*p.reach = max(*p.reach, t)
	return max(t, 0)
}

// back is a time on the publisher's clock. Times come back in order.
func (p *passage) back(t time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := len(p.spans) - 1
	for i > 0 && t < p.spans[i].from {
		i--
	}
	at := t - p.spans[i].shift
	p.spans = slices.Delete(p.spans, 0, max(i-1, 0)) // what is older comes no more
	return at
}
