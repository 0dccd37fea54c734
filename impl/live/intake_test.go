package live

import (
	"testing"
	"testing/synctest"
	"time"

	"tureen/impl/media"
)

// TestIntake: a publisher whose frames all claim to be due at once is held to
// so many bytes a second, each frame counting for what it takes in memory.
func TestIntake(t *testing.T) {
	for name, size := range map[string]int{"large frames": 1 << 20, "small frames": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, items, done := publish(t, NewRegistry(time.Second), "a")
				items <- media.Item{Tracks: pictures}
				const span = 10 * time.Second
				most := int((span+intakeBurst)/time.Second)*intakeRate/(size+frameCost) + 5 // the channel, and rounding
				over := time.After(span)
				n := 0
				for sending := true; sending && n <= most; { // without a bound no time would pass
					item := picture(0, n == 0)
					item.Frame.Payload = make([]byte, size)
					select {
					case items <- item:
						n++
					case <-over:
						sending = false
					}
				}
				if n > most || n < most/2 {
					t.Errorf("%d frames of %d bytes were taken in %v, want about %d", n, size, span, most)
				}
				close(items)
				if err := <-done; err != nil {
					t.Error(err)
				}
				p.End(Clean)
			})
		})
	}
}

// TestTinyFramesAreNotReplayedForLong: what is kept for who joins late is
// bounded in frames, too.
func TestTinyFramesAreNotReplayedForLong(t *testing.T) {
	s := newStream(new(Counts))
	s.begin(pictures)
	now := time.Now()
	for n := range maxReplayFrames + 2 {
		if n > 0 && s.start.Load() == nil {
			t.Fatalf("after %d tiny frames nobody can start at the first, want %d", n, maxReplayFrames)
		}
		s.append(media.Frame{Kind: media.Video, Key: n == 0, Payload: []byte{1}}, 0, now)
	}
	if s.start.Load() != nil {
		t.Errorf("%d tiny frames are kept for who joins late", maxReplayFrames+2)
	}
}
