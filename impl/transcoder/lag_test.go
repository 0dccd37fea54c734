package transcoder

import (
	"testing"
	"time"
)

// TestLag runs an encoder that takes so long for each picture, of 40 ms, from a
// publisher who sends them in bursts of so many, and counts what is dropped.
func TestLag(t *testing.T) {
	const picture = 40 * time.Millisecond
	tests := map[string]struct {
		takes       time.Duration
		burst       int
		least, most int           // of 500 pictures dropped
		late        time.Duration // the most that the last picture may be, at the encoder
	}{
		"it keeps up":                   {takes: 10 * time.Millisecond, burst: 1, late: picture},
		"just so":                       {takes: 39 * time.Millisecond, burst: 1, late: picture},
		"bursts that it can work off":   {takes: 20 * time.Millisecond, burst: 25, late: 25 * picture},
		"bursts that it can just":       {takes: 39 * time.Millisecond, burst: 25, late: 25*picture + maxLag},
		"bursts that it can't":          {takes: 80 * time.Millisecond, burst: 25, least: 200, most: 280, late: 27*picture + maxLag},
		"it is a little too slow":       {takes: 50 * time.Millisecond, burst: 1, least: 80, most: 130, late: maxLag + 2*picture},
		"it takes twice the time":       {takes: 80 * time.Millisecond, burst: 1, least: 220, most: 280, late: maxLag + 3*picture},
		"it takes ten times as long":    {takes: 400 * time.Millisecond, burst: 1, least: 430, most: 470, late: maxLag + 20*picture},
		"a clock that runs 500 ppm low": {takes: 10 * time.Millisecond, burst: 1, late: picture},
	}
	for name, test := range tests {
		var l lag
		dropped := 0
		free, late := time.Duration(0), time.Duration(0) // when the encoder is
		for i := range 500 {
			at := time.Duration(i) * picture
			came := time.Duration((i/test.burst+1)*test.burst-1) * picture
			now := max(came, free)
			next := time.Duration(((i+1)/test.burst+1)*test.burst-1) * picture // when the next one has come
			late = now - at
			if l.drop(at, now, now >= next) {
				dropped++
				continue
			}
			free = now + test.takes
		}
		if dropped < test.least || dropped > test.most {
			t.Errorf("%s: %d of 500 pictures are dropped, want %d to %d", name, dropped, test.least, test.most)
		}
		if late > test.late {
			t.Errorf("%s: the last picture is %v late, want at most %v", name, late, test.late)
		}
	}
}
