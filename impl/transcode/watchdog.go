package transcode

import (
	"sync"
	"time"
)

// patience is how long things may take.
type patience struct {
	// ready is how long a transcoder may take until it is, with GStreamer's
	// registry yet to be made.
	ready time.Duration
	// silence is how long it may give nothing out while it owes something.
	silence time.Duration
	// firstSilence is likewise until its tracks are known, beyond what it takes
	// itself to give up.
	firstSilence time.Duration
	// check is how often that is looked at.
	check time.Duration
	// death is how long one that has closed its pipe may take to end.
	death time.Duration
	// respawn is after how long a spare that has ended is replaced, and doubles
	// with each further one until a transcoder is of use, up to maxRespawn.
	respawn, maxRespawn time.Duration
}

var usual = patience{
	ready: 30 * time.Second, silence: 10 * time.Second, firstSilence: 15 * time.Second,
	check: time.Second, death: 2 * time.Second, respawn: time.Second, maxRespawn: time.Minute,
}

// watchdog tells a transcoder that hangs from one that has nothing to say. It
// hangs when a message is waited for in vain while it takes no bytes, is to come
// to its end, or has taken more than any frame it could still be reading. A
// publisher that stalls, and one that trickles, leave it in peace.
type watchdog struct {
	patience patience

	mu      sync.Mutex // guards what follows
	waiting time.Time  // since when a message is waited for; zero while none is
	feeding time.Time  // since when bytes wait to be taken; zero while none do
	fed     time.Time  // when bytes last went in
	bytes   int        // that went in since the last message
	owed    time.Time  // since when they should have come to something; zero before
	over    bool       // nothing follows
	began   bool       // tracks are known
}

// How many bytes a transcoder may take without a word: more than a picture has
// as a rule, and before the tracks than a container's index.
const (
	plenty      = 256 << 10
	firstPlenty = 1 << 20
)

// feed notes that n bytes are about to go in.
func (w *watchdog) feed(n int, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.feeding, w.bytes = now, w.bytes+n
	enough := plenty
	if !w.began {
		enough = firstPlenty
	}
	if w.owed.IsZero() && w.bytes >= enough {
		w.owed = now
	}
}

// taken notes that they have.
func (w *watchdog) taken(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.feeding, w.fed = time.Time{}, now
}

// end notes that nothing follows.
func (w *watchdog) end(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over, w.owed = true, now
}

// wait notes that a message is waited for.
func (w *watchdog) wait(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = now
}

// hear notes that it has come.
func (w *watchdog) hear() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting, w.bytes, w.owed = time.Time{}, 0, time.Time{}
}

// begin notes that the tracks are known.
func (w *watchdog) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.began = true
}

// hangs reports whether the transcoder does, and how long it was let.
func (w *watchdog) hangs(now time.Time) (limit time.Duration, hangs bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	limit = w.patience.silence
	if !w.began {
		limit = w.patience.firstSilence
	}
	if w.waiting.IsZero() {
		return limit, false
	}
	past := func(since time.Time) bool { return min(now.Sub(since), now.Sub(w.waiting)) > limit }
	stalled := now.Sub(w.fed) > limit/2 // the publisher is
	return limit, w.over && past(w.owed) ||
		!w.feeding.IsZero() && past(w.feeding) ||
		!w.owed.IsZero() && past(w.owed) && !stalled
}
