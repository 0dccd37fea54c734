package ingest

import "time"

// How fast a body is read. Frames are held to their pace by the publisher, but
// what stands between them, and what isn't taken, would keep a processor busy
// for as long as it is sent.
const (
	bodyRate  = 64 << 20    // bytes a second: five times the fastest network camera
	bodyBurst = time.Second // of that
)

// throttle holds a body to its rate. Its zero value has read nothing.
type throttle struct {
	read time.Time // when all that was read would have come at bodyRate
}

// take counts bytes and waits until more may be read, or until done is closed.
func (t *throttle) take(n int, done <-chan struct{}) {
	now := time.Now()
	if t.read.Before(now) {
		t.read = now
	}
	t.read = t.read.Add(time.Duration(n) * time.Second / bodyRate)
	ahead := t.read.Sub(now) - bodyBurst
	if ahead <= 0 {
		return
	}
	timer := time.NewTimer(ahead)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-done:
	}
}
