package live

import (
	"time"

	"tureen/impl/media"
)

// Bounds on how fast a publisher's frames are taken, whatever their times say.
// Pacing doesn't slow frames that all claim to be due now, and what waits for
// another track or for a slow viewer is bounded in time; with these it is
// bounded in bytes, too.
const (
	// intakeRate is in bytes a second, decoded. It is 134 Mbit/s: more than any
	// encoder makes for the web, and a file is held to its own rate anyway.
	intakeRate = 16 << 20
	// intakeBurst is how much may come at once, in time at intakeRate.
	intakeBurst = 2 * time.Second
	// frameCost is about what a frame takes in memory beside its payload, in
	// bytes: many small ones weigh as much as a few large ones.
	frameCost = 512
)

// intake holds a publisher to the bounds. Its zero value has taken nothing.
type intake struct {
	taken time.Time // when all frames so far will have come at intakeRate
}

// take counts a frame.
func (i *intake) take(f media.Frame, now time.Time) {
	cost := time.Duration(len(f.Payload)+frameCost) * time.Second / intakeRate
	if i.taken.Before(now) {
		i.taken = now
	}
	i.taken = i.taken.Add(cost)
}

// wait is how long no frame may be taken.
func (i *intake) wait(now time.Time) time.Duration {
	return max(0, i.taken.Add(-intakeBurst).Sub(now))
}
