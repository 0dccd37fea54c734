package live

import (
	"encoding/binary"
	"testing"
	"time"

	"tureen/impl/media"
)

// FuzzTimeline feeds frames with any times at any moments, four bytes each:
// what kind and scale, a step in time from the track's last frame, and how long
// after the one before it comes. Times that go out never fall, every frame goes
// out or is counted as dropped, and the timeline always wakes for what it holds.
func FuzzTimeline(f *testing.F) {
	f.Add([]byte{0, 40, 0, 40, 1, 20, 0, 0, 1, 20, 0, 20})             // in step
	f.Add([]byte{0, 40, 0, 40, 2, 100, 0, 1, 0, 40, 0, 40})            // a jump
	f.Add([]byte{0, 40, 0, 40, 0, 0xff, 0xfc, 40, 0, 40, 0, 40})       // a step back
	f.Add([]byte{4, 200, 0, 0, 5, 20, 0, 0, 1, 20, 0, 0, 1, 20, 0, 0}) // a lace
	f.Fuzz(func(t *testing.T, ops []byte) {
		const most = 400 // frames; more shows nothing new
		r := newRun(both)
		var last [media.Kinds]time.Duration
		sent, after := 0, time.Duration(0)
		for ; len(ops) >= 4 && sent < most; ops = ops[4:] {
			kind := media.Kind(ops[0] & 1)
			scale := []time.Duration{ms, 100 * ms}[ops[0]>>1&1]
			last[kind] += time.Duration(int16(binary.LittleEndian.Uint16(ops[1:]))) * scale
			after = max(after, r.now.Sub(r.start)) + time.Duration(ops[3])*ms
			frame := frame(kind, last[kind])
			if ops[0]&4 != 0 { // the later frame of a lace
				frame.Time += 3 * sound
			}
			if ops[0]&8 != 0 {
				frame.Duration = 0
			}
			r.send(after, frame)
			sent++
		}
		out := r.end()
		ordered(t, out, sent-r.dropped)
	})
}
