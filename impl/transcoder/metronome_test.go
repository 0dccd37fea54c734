package transcoder

import (
	"testing"
	"time"
)

// TestMetronome: whatever stamps sound bears, the encoder sees one sample after
// the other, and what comes out is where the publisher had it.
func TestMetronome(t *testing.T) {
	const ms = time.Millisecond
	const packet, samples, rate = 20 * ms, 960, 48000
	tests := []struct {
		name  string
		stamp func(i int) time.Duration // of packet i
		late  func(i int) time.Duration // how far from its stamp it may come out
		heard int                       // packets that are left out
	}{
		{"perfect", func(i int) time.Duration { return time.Duration(i) * packet }, func(int) time.Duration { return 0 }, 0},
		{"from 10 h", func(i int) time.Duration { return 10*time.Hour + time.Duration(i)*packet }, func(int) time.Duration { return 0 }, 0},
		{"wobbling", func(i int) time.Duration { return time.Duration(i)*packet + time.Duration(i%3)*10*ms }, func(int) time.Duration { return 25 * ms }, 0},
		{
			"21 ms off from its second packet on",
			func(i int) time.Duration { return time.Duration(i)*packet + time.Duration(min(i, 1))*21*ms },
			func(i int) time.Duration { return max(ms, time.Duration(50-i)*ms) }, 0,
		},
		{
			"a clock 500 ppm fast",
			func(i int) time.Duration { return time.Duration(i) * (packet - 10*time.Microsecond) },
			func(int) time.Duration { return ms }, 0,
		},
		{
			"a gap of 1.5 s",
			func(i int) time.Duration { return time.Duration(i)*packet + time.Duration(i/100)*1500*ms },
			func(int) time.Duration { return 0 }, 0,
		},
		{
			"100 ms said again",
			func(i int) time.Duration { return time.Duration(i)*packet - time.Duration(min(i/100, 1))*100*ms },
			func(int) time.Duration { return wobble }, 3,
		},
		{
			"a step back of 10 s",
			func(i int) time.Duration {
				return 20*time.Second + time.Duration(i)*packet - time.Duration(i/100)*10*time.Second
			},
			func(int) time.Duration { return 0 }, 0,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var m metronome
			heard := 0
			due := test.stamp(0)
			for i := range 150 {
				at := test.stamp(i)
				now, ok := m.place(at, samples, rate)
				if !ok {
					heard++
					continue
				}
				if d := now - due; d > time.Microsecond || d < -time.Microsecond {
					t.Fatalf("packet %d is at %v on the encoder's clock, want %v", i, now, due)
				}
				due = now + packet
				if d := m.back(now) - at; d > test.late(i)+time.Microsecond || d < -test.late(i)-time.Microsecond {
					t.Errorf("packet %d, stamped %v, comes out at %v", i, at, m.back(now))
				}
			}
			if heard != test.heard {
				t.Errorf("%d packets were left out, want %d", heard, test.heard)
			}
		})
	}
}
