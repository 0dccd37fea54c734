package live

import (
	"context"
	"time"

	"tureen/impl/media"
)

// Publisher is what a session's one publisher feeds frames through. Its
// methods but for Stats belong to one goroutine.
type Publisher struct {
	session *session
	source  Source
	counts  *Counts // the session's
	ctx     context.Context
	cancel  context.CancelCauseFunc
	ended   chan struct{} // closed once the session has been given up

	stream   *Stream
	timeline *timeline
	intake   intake
	key      bool // a key frame was seen since the document's beginning
	stats    Stats
	since    time.Duration // its first frame's time on the stream's clock
	until    time.Duration // its last one's end
}

// Stats tell what became of a publisher's frames.
type Stats struct {
	Frames   [media.Kinds]int // handed on
	Dropped  int              // too late, or before the first key frame
	Duration time.Duration    // from the first frame's start to the last one's end
}

// ID is the session's.
func (p *Publisher) ID() string { return p.session.id }

// Context ends when the publisher is to end, with the cause.
func (p *Publisher) Context() context.Context { return p.ctx }

// Run hands items on until the last one, or the channel's end, and every frame
// has gone out, which is nil, or until the publisher is ended, which is the cause.
func (p *Publisher) Run(items <-chan media.Item) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var next media.Item // tracks or a mark, which wait for the frames before them
	for {
		now := time.Now()
		p.send(now)
		switch {
		case items == nil && p.timeline.empty():
			return p.playOut()
		case next.Tracks != nil && !p.timeline.waits():
			p.begin(next)
			next = media.Item{}
		case next.Mark != nil && p.timeline.empty():
			if err := p.playOut(); err != nil {
				return err
			}
			next.Mark()
			next = media.Item{}
		}
		in, held := items, p.intake.wait(now)
		if p.timeline.full() || next.Tracks != nil || next.Mark != nil || held > 0 {
			in = nil
		}
		timer.Reset(p.sleep(time.Now(), held))
		select {
		case item, more := <-in:
			if !more || item.Last {
				items = nil
				p.timeline.finish()
				continue
			}
			if item.Tracks != nil || item.Mark != nil {
				next = item
				continue
			}
			p.accept(item.Frame)
		case <-timer.C:
		case <-p.ctx.Done():
			return context.Cause(p.ctx)
		}
	}
}

// farewell is how long before all has played a publisher is told that it has:
// the contract allows 1 s (ING-14). Frames go out earlier than that only when
// the last one is long.
const farewell = 950 * time.Millisecond

// playOut waits until the publisher may go.
func (p *Publisher) playOut() error {
	timer := time.NewTimer(time.Until(p.timeline.ending().Add(-farewell)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	}
}

// sleep is how long nothing but an item can bring a frame, or for how long no
// item is taken.
func (p *Publisher) sleep(now time.Time, held time.Duration) time.Duration {
	d := time.Hour
	if held > 0 {
		d = held
	}
	if at, ok := p.timeline.wake(now); ok {
		return max(0, min(d, at.Sub(now)))
	}
	return d
}

func (p *Publisher) accept(f media.Frame) {
	if !p.wanted(f) {
		return
	}
	now := time.Now()
	p.intake.take(f, now)
	p.timeline.add(f, now)
}

// begin puts a document's tracks on the air: in the bodies that viewers have if
// they can go on there, in new ones otherwise.
func (p *Publisher) begin(document media.Item) {
	p.timeline.flush()
	p.send(time.Now())
	stream := p.adopt(document.Tracks)
	if stream != p.stream {
		p.stats.Duration += p.until - p.since
		p.since, p.until = 0, 0
	}
	p.stream, p.key = stream, false
	stream.asks.Store(&document.KeyFrame)
	var kinds [media.Kinds]bool
	for _, t := range document.Tracks {
		kinds[t.Kind] = true
	}
	p.timeline.begin(kinds, &stream.clock)
}

// adopt is the stream that tracks go out in.
func (p *Publisher) adopt(tracks []media.Track) *Stream {
	r := p.session.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	return p.session.begin(tracks)
}

// send hands on the frames whose turn it is.
func (p *Publisher) send(now time.Time) {
	for {
		f, ok := p.timeline.take(now)
		if !ok {
			return
		}
		p.account(f)
		p.stream.append(f.Frame, f.at, now)
	}
}

// wanted leaves out pictures before the document's first key frame, which no
// viewer can use (FMT-1). Sound before a body's first key frame is left out of
// that body alone.
func (p *Publisher) wanted(f media.Frame) bool {
	p.key = p.key || f.Kind == media.Video && f.Key
	if f.Kind == media.Video && !p.key {
		p.stats.Dropped++
		return false
	}
	return true
}

func (p *Publisher) account(f timed) {
	if p.until == 0 {
		p.since = f.at
	}
	p.stats.Frames[f.Kind]++
	p.until = max(p.until, f.at+p.stream.clock.lengths[f.Kind])
}

// Stats are final once Run has returned.
func (p *Publisher) Stats() Stats {
	s := p.stats
	s.Dropped += p.timeline.dropped
	s.Duration += p.until - p.since
	return s
}

// Sound is the form of the sound that viewers of an earlier publisher had, and
// that this one's must have for them to go on (REC-2): the rate in Hz, and the
// channels; 0 where there are no such viewers, or no sound.
func (p *Publisher) Sound() (rate, channels int) {
	r := p.session.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	stream := p.session.stream
	if !stream.isReady() {
		return 0, 0
	}
	for _, t := range stream.tracks {
		if t.Kind == media.Audio {
			return int(t.SampleRate), t.Channels
		}
	}
	return 0, 0
}

// Counts are the session's counters.
func (p *Publisher) Counts() *Counts { return p.counts }

// End gives the session up, come what may: also when it ends for a fault, which
// may have left the timeline in disorder. After a broken end viewers are kept
// for the grace time, otherwise their bodies end.
func (p *Publisher) End(e Ending) {
	p.cancel(context.Canceled)
	r := p.session.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	defer close(p.ended)
	defer p.session.end(e)
	if p.stream != nil {
		p.stream.asks.Store(nil)
		p.stream.clock.ends = p.timeline.ending() // a return wins no time
	}
}
