package ingest

import (
	"testing"
	"time"
)

// TestPassage: a transcoder's clock begins at start and never jumps; what comes
// back has the publisher's times.
func TestPassage(t *testing.T) {
	const ms = time.Millisecond
	tests := []struct {
		name      string
		publisher []time.Duration // in ms
	}{
		{"from 0", []time.Duration{0, 33, 66}},
		{"from 10 h", []time.Duration{36_000_000, 36_000_033, 36_000_066}},
		{"before the first", []time.Duration{100, -300, 133}},
		{"in the order of decoding", []time.Duration{0, 133, 66, 33, 100, 266, 200, 166, 233}},
		{"a gap below the bound", []time.Duration{0, 33, 1900}},
		{"a jump", []time.Duration{0, 33, 500_000, 500_033}},
		{"a step back", []time.Duration{500_000, 500_033, 0, 33}},
		{"many", []time.Duration{0, 90_000, 0, 90_000, 5_000_000, -5_000_000, -4_999_967}},
	}
	for _, test := range tests {
		p := newPassage(test.publisher[0]*ms, new(time.Duration))
		var there []time.Duration
		newest := start
		for i, at := range test.publisher {
			d := p.there(at * ms)
			if i == 0 && d != start {
				t.Errorf("%s: the first is at %v", test.name, d)
			}
			if d < 0 || d > newest+maxForward || d < newest-maxBack {
				t.Errorf("%s: the transcoder's clock jumps from %v to %v", test.name, newest, d)
			}
			newest = max(newest, d)
			there = append(there, d)
		}
		// Frames come back in the order of their times.
		for _, i := range inOrder(there) {
			if at := p.back(there[i]); at != test.publisher[i]*ms {
				t.Errorf("%s: %v comes back as %v", test.name, test.publisher[i]*ms, at)
			}
		}
		if len(p.spans) > 2 {
			t.Errorf("%s: %d spans are kept", test.name, len(p.spans))
		}
	}
}

// TestPassageBesideAnother: a track that is silent while the other goes on hasn't
// jumped.
func TestPassageBesideAnother(t *testing.T) {
	reach := new(time.Duration)
	pictures, sound := newPassage(0, reach), newPassage(0, reach)
	sound.there(0)
	for at := time.Duration(0); at < 10*time.Second; at += time.Second {
		pictures.there(at)
	}
	const late = 10 * time.Second
	if d := sound.there(late); d != start+late {
		t.Errorf("sound that begins again at %v is at %v, want %v", late, d, start+late)
	}
}

// inOrder are the indexes of times, earliest first.
func inOrder(times []time.Duration) []int {
	order := make([]int, len(times))
	for i := range order {
		order[i] = i
		for j := i; j > 0 && times[order[j]] < times[order[j-1]]; j-- {
			order[j], order[j-1] = order[j-1], order[j]
		}
	}
	return order
}

// FuzzPassage: whatever a publisher's clock does, the transcoder's begins near 0,
// goes on without a jump, and doesn't run over.
func FuzzPassage(f *testing.F) {
	f.Add(int64(0), int64(33), int64(1<<62), int64(-1<<62))
	f.Add(int64(-1<<63), int64(1<<62), int64(-5), int64(1<<63-1))
	f.Fuzz(func(t *testing.T, a, b, c, d int64) {
		p := newPassage(time.Duration(a), new(time.Duration))
		newest := start
		for _, at := range []int64{a, b, c, d, d, a} {
			there := p.there(time.Duration(at))
			if there < 0 || there > newest+maxForward || there < newest-maxBack && there != 0 {
				t.Errorf("the transcoder's clock jumps from %v to %v", newest, there)
			}
			newest = max(newest, there)
			p.back(there)
		}
		if len(p.spans) > 2 {
			t.Errorf("%d spans are kept", len(p.spans))
		}
	})
}
