// Package watch brings a live stream to its viewers: where each one is in the
// stream, how far it may fall behind, and the writing of the same bytes to all
// of them. It takes viewers whose request was accepted and knows nothing of
// publishers.
package watch

import (
	"context"
	"time"

	"tureen/impl/live"
)

// position is where a viewer is in a stream.
type position struct {
	stream  *live.Stream
	slot    *live.Slot // the next to be sent; nil when it was let go of
	budget  time.Duration
	chunked bool            // whether the body is in chunks of HTTP/1.1
	until   context.Context // ends the body as a whole one, whatever the stream does

	// head is sent before the slot: what begins the body, or the rest of a
	// slot of which the kernel took only a part.
	head []byte
	// over is whether the head closes the body.
	over bool
	// seeking is whether slots are passed over until one can be started at.
	seeking bool
	// skipping is whether it was moved on and has got nothing since.
	skipping bool
	// since is when the viewer began to follow: what was replayed to it then
	// was old already, which isn't its fault.
	since time.Time
}

// begin puts the position at the start of a body that starts at slot.
func begin(until context.Context, stream *live.Stream, slot *live.Slot, budget time.Duration, chunked bool) position {
	p := position{
		stream: stream, slot: slot, budget: budget, chunked: chunked, until: until, seeking: true, since: time.Now(),
	}
	p.head = p.framed(stream.Header())
	return p
}

// framed is b as the body holds it.
func (p *position) framed(b []byte) []byte {
	if !p.chunked || len(b) == 0 {
		return b
	}
	return live.Chunk(b)
}

func (p *position) bytes(s *live.Slot) []byte {
	if p.chunked {
		return s.Chunk()
	}
	return s.Media()
}

// What one write may gather: enough that a viewer that fell behind needs few.
const (
	maxGather      = 64
	maxGatherBytes = 256 << 10
)

// gather appends to bufs all that can be sent now: the head, then slots.
func (p *position) gather(bufs [][]byte, now time.Time) [][]byte {
	p.keepUp(now)
	p.seek()
	p.finish()
	size := len(p.head)
	if size > 0 {
		bufs = append(bufs, p.head)
	}
	if p.seeking || p.over || p.slot == nil {
		return bufs
	}
	for s := p.slot; s.Next() != nil && !s.Last && len(bufs) < maxGather && size < maxGatherBytes; s = s.Next() {
		b := p.bytes(s)
		bufs = append(bufs, b)
		size += len(b)
	}
	return bufs
}

// sent moves on by n bytes of what was gathered.
func (p *position) sent(n int) {
	if n < len(p.head) {
		p.head = p.head[n:]
		return
	}
	n -= len(p.head)
	p.head = nil
	for n > 0 {
		p.skipping = false
		b := p.bytes(p.slot)
		p.slot = p.slot.Next()
		if n < len(b) {
			p.head = b[n:]
			return
		}
		n -= len(b)
	}
}

// finish has the body closed once the stream's last slot is next, or the viewer
// may watch no longer.
func (p *position) finish() {
	last := !p.seeking && p.slot != nil && p.slot.Next() != nil && p.slot.Last
	if p.over || !last && p.until.Err() == nil {
		return
	}
	p.over = true
	if p.chunked {
		p.head = append(p.head[:len(p.head):len(p.head)], live.LastChunk...)
	}
}

// ended reports whether the body is complete.
func (p *position) ended() bool { return p.over && len(p.head) == 0 }

// keepUp moves a viewer that is more than its budget behind on to the newest
// key frame, or to the next one.
func (p *position) keepUp(now time.Time) {
	if p.slot != nil {
		if p.slot.Next() == nil || p.slot.Last || now.Sub(latest(p.slot.Arrived, p.since)) <= p.budget {
			return
		}
		p.letGo()
	}
	if len(p.head) > 0 {
		return // the slot that was begun must be ended first
	}
	p.slot = p.stream.Newest(now, p.budget)
	p.since = now
}

// letGo gives the place in the stream up, and with it the memory of what
// follows there. The viewer goes on at a later key frame.
func (p *position) letGo() {
	if p.slot == nil {
		return
	}
	p.slot, p.seeking = nil, true
	if !p.skipping {
		p.stream.Counts.Skipped.Add(1)
	}
	p.skipping = true
}

// seek passes over slots until one that a body can start or go on at.
func (p *position) seek() {
	for p.seeking && p.slot != nil && p.slot.Next() != nil {
		switch {
		case p.slot.Last:
			p.seeking = false
		case p.slot.Start:
			p.seeking = false
			p.head = append(p.head[:len(p.head):len(p.head)], p.framed(p.slot.Lead())...)
		default:
			p.slot = p.slot.Next()
		}
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
