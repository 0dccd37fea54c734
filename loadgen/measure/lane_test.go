package measure

import (
	"testing"
	"time"

	"tureen/loadgen/webm"
)

const ms = time.Millisecond

// looped has four frames 40 ms apart in loops of 160 ms.
func looped() *lane {
	return &lane{
		frames: []slot{{pts: 0}, {pts: 40 * ms, due: 40 * ms}, {pts: 80 * ms, due: 80 * ms}, {pts: 120 * ms, due: 120 * ms}},
		period: 160 * ms, sending: 4, interval: 40 * ms,
	}
}

func TestNearest(t *testing.T) {
	once := looped()
	once.period = 0
	tests := []struct {
		name  string
		lane  *lane
		pts   time.Duration
		guess int64
		want  int64 // -1: none
	}{
		{"exactly, guessed", looped(), 80 * ms, 2, 2},
		{"exactly, guessed wrong", looped(), 80 * ms, 1, 2},
		{"exactly, no guess", looped(), 80 * ms, -1, 2},
		{"a little early", looped(), 65 * ms, 1, 2},
		{"a little late", looped(), 95 * ms, 3, 2},
		{"in the next loop", looped(), 161 * ms, -1, 4},
		{"just before the next loop", looped(), 155 * ms, -1, 4},
		{"far on", looped(), 160*1000*ms + 40*ms, -1, 4001},
		{"just before the start", looped(), -10 * ms, -1, 0},
		{"long before the start", looped(), -30 * ms, -1, -1},
		{"after the end", once, 135 * ms, -1, 3},
		{"long after the end", once, 160 * ms, -1, -1},
		{"no frames", &lane{}, 0, -1, -1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, ok := test.lane.nearest(test.pts, test.guess)
			if !ok {
				got = -1
			}
			if got != test.want {
				t.Errorf("frame %d, want %d", got, test.want)
			}
		})
	}
}

func TestBetween(t *testing.T) {
	var got []int64
	looped().between(81*ms, 201*ms, func(i int64, f slot) {
		got = append(got, i)
		if want := time.Duration(i) * 40 * ms; f.due != want || f.pts != want {
			t.Errorf("frame %d: %+v, want it at %v", i, f, want)
		}
	})
	if len(got) != 3 || got[0] != 3 || got[2] != 5 {
		t.Errorf("frames %v, want 3 to 5", got)
	}
}

// B-frames are presented in another order than they are sent in.
func TestLaneOfReorderedFrames(t *testing.T) {
	source := open(t, "mkv-h264-bframes-aac")
	l := newLane(source, webm.Video)
	if l.reorder == 0 {
		t.Fatal("no frame is sent out of order")
	}
	for i := range l.frames {
		if got, ok := l.nearest(l.frames[i].pts, -1); !ok || got != int64(i) {
			t.Fatalf("frame %d found as %d", i, got)
		}
	}
	const second = time.Second
	count := int64(0)
	l.between(second, 3*second, func(int64, slot) { count++ })
	if want := int64(2 * second / l.interval); count < want-1 || count > want+1 {
		t.Errorf("%d frames in two seconds, want %d", count, want)
	}
}
