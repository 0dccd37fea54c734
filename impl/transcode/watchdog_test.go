package transcode

import (
	"testing"
	"time"
)

// TestWatchdog: each row is what happens in turn; the hang is found at the time
// given and not a second earlier.
func TestWatchdog(t *testing.T) {
	type step struct {
		at time.Duration
		do func(*watchdog, time.Time)
	}
	feed := func(n int) func(*watchdog, time.Time) {
		return func(w *watchdog, now time.Time) { w.feed(n, now); w.taken(now) }
	}
	blocked := func(w *watchdog, now time.Time) { w.feed(1, now) }
	wait := func(w *watchdog, now time.Time) { w.wait(now) }
	heard := func(w *watchdog, now time.Time) { w.hear(); w.wait(now) }
	busy := func(w *watchdog, _ time.Time) { w.hear() } // with a message that nobody takes
	begun := func(w *watchdog, now time.Time) { w.hear(); w.begin(); w.wait(now) }
	end := func(w *watchdog, now time.Time) { w.end(now) }
	const s = time.Second
	// every has something happen each second.
	every := func(from, to time.Duration, do func(*watchdog, time.Time)) (steps []step) {
		for at := from; at < to; at += s {
			steps = append(steps, step{at, do})
		}
		return steps
	}
	join := func(parts ...[]step) (all []step) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	const never = time.Hour
	tests := []struct {
		name  string
		steps []step
		found time.Duration
	}{
		{"a spare", []step{{0, wait}}, never},
		{"takes nothing", []step{{0, wait}, {1 * s, blocked}}, 17 * s},
		{"takes nothing after its tracks", []step{{0, wait}, {1 * s, begun}, {2 * s, blocked}}, 13 * s},
		{"makes nothing of much", join([]step{{0, wait}}, every(1*s, 60*s, feed(100<<10))), 27 * s},
		{"makes nothing of little", join([]step{{0, wait}}, every(1*s, 600*s, feed(1<<10))), never},
		{"makes nothing any more", join([]step{{0, wait}, {0, begun}}, every(1*s, 60*s, feed(100<<10))), 14 * s},
		{"a publisher stalls", []step{{0, wait}, {0, begun}, {1 * s, feed(1 << 20)}}, never},
		{"a publisher stalls with its headers", []step{{0, wait}, {1 * s, feed(3 << 20)}}, never},
		{"a publisher trickles", join([]step{{0, wait}, {0, begun}}, every(1*s, 200*s, feed(1))), never},
		{"doesn't end", []step{{0, wait}, {0, begun}, {1 * s, feed(1)}, {100 * s, end}}, 111 * s},
		{"doesn't end after its last frame", []step{{0, wait}, {0, begun}, {1 * s, end}, {9 * s, heard}}, 20 * s},
		{"nobody takes what it makes", []step{{0, wait}, {0, begun}, {1 * s, busy}, {1 * s, blocked}}, never},
		{"nobody took what it made", []step{{0, wait}, {0, begun}, {1 * s, busy}, {1 * s, blocked}, {50 * s, wait}}, 61 * s},
		{"a publisher trickles after much", join([]step{{0, wait}, {0, begun}, {1 * s, feed(1 << 20)}, {1 * s, heard}}, every(2*s, 200*s, feed(1))), never},
		{"works", join([]step{{0, wait}, {0, begun}}, every(1*s, 300*s, func(w *watchdog, now time.Time) { feed(1<<20)(w, now); heard(w, now) })), never},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			began := time.Now()
			w := watchdog{patience: usual}
			found, next := never, 0
			for at := time.Duration(0); at < 10*time.Minute && found == never; at += s {
				for next < len(test.steps) && test.steps[next].at <= at {
					test.steps[next].do(&w, began.Add(test.steps[next].at))
					next++
				}
				if _, hangs := w.hangs(began.Add(at)); hangs {
					found = at
				}
			}
			if found != test.found {
				t.Errorf("it is found after %v, want %v", found, test.found)
			}
		})
	}
}
