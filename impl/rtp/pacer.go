package rtp

import "time"

// How fast packets go out. A receiver's socket holds about 90 of them by default
// (Linux's net.core.rmem_default, with what the kernel counts for each), so a
// key frame of some hundred at once would lose its end.
const (
	// burst is how many go out at once: small frames, and most key frames,
	// wait for nothing.
	burst = 32
	// maxGap is between two packets beyond a burst: about 80 Mbit/s.
	maxGap = time.Second / 8000
	// A frame that would take longer so goes out within half the time to the
	// next, of which no more than this is believed.
	maxStep = 40 * time.Millisecond
	minStep = 2 * time.Millisecond
	// group is how many packets are waited for together, to spare wake-ups.
	group = 8
)

// pacer is the packets that wait for their turn.
type pacer struct {
	waiting []paced
	next    time.Time // when the first of them may go; far past when none had to wait
}

// paced is a packet.
type paced struct {
	packet []byte
	slot   uint64        // sequence of the slot that it is of
	gap    time.Duration // to the packet after it
}

func (p *pacer) size() int { return len(p.waiting) }

// add queues the packets of a frame; step is how long after the track's last
// one it plays.
func (p *pacer) add(packets [][]byte, slot uint64, step time.Duration) {
	if len(packets) == 0 {
		return
	}
	within := min(max(step, minStep), maxStep) / 2
	gap := min(maxGap, within/time.Duration(len(packets)))
	for _, packet := range packets {
		p.waiting = append(p.waiting, paced{packet, slot, gap})
	}
}

// take removes the packets whose turn it is.
func (p *pacer) take(now time.Time) []paced {
	if len(p.waiting) == 0 {
		return nil
	}
	if earliest := now.Add(-burst * p.waiting[0].gap); p.next.Before(earliest) {
		p.next = earliest
	}
	n := 0
	for n < len(p.waiting) && !p.next.After(now) {
		p.next = p.next.Add(p.waiting[n].gap)
		n++
	}
	due := p.waiting[:n:n]
	p.waiting = p.waiting[n:]
	if len(p.waiting) == 0 {
		p.waiting = nil
	}
	return due
}

// wake is when take is worth calling again; false when nothing waits.
func (p *pacer) wake() (at time.Time, ok bool) {
	if len(p.waiting) == 0 {
		return time.Time{}, false
	}
	n := min(group, len(p.waiting)) - 1
	return p.next.Add(time.Duration(n) * p.waiting[0].gap), true
}

// clear drops all that wait, and tells how many those were.
func (p *pacer) clear() int {
	n := len(p.waiting)
	p.waiting = nil
	return n
}
