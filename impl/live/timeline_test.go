package live

import (
	"slices"
	"testing"
	"time"

	"tureen/impl/media"
)

const (
	ms    = time.Millisecond
	step  = 40 * ms // between pictures
	sound = 20 * ms // between packets
)

// run feeds frames to a timeline, each at its moment in real time, and lets it
// act at every moment it asks to be woken.
type run struct {
	*timeline
	start time.Time
	now   time.Time
	out   []event
}

type event struct {
	kind  media.Kind
	at    time.Duration // on the stream's clock
	after time.Duration // since the start, in real time
	tag   byte          // the frame's payload
}

var (
	both      = [media.Kinds]bool{true, true}
	videoOnly = [media.Kinds]bool{media.Video: true}
)

func newRun(kinds [media.Kinds]bool) *run {
	c := newClock()
	r := &run{timeline: &timeline{}, start: time.Unix(0, 0)}
	r.now = r.start
	r.begin(kinds, &c)
	return r
}

func frame(kind media.Kind, at time.Duration, tag ...byte) media.Frame {
	length := step
	if kind == media.Audio {
		length = sound
	}
	return media.Frame{Kind: kind, Key: true, Time: at, Sent: at, Duration: length, Payload: tag}
}

// send has a frame come at a moment, or as soon after as the timeline takes it.
func (r *run) send(after time.Duration, f media.Frame) {
	r.until(after)
	for r.full() {
		at, ok := r.wake(r.now)
		if !ok {
			panic("full, but never to wake")
		}
		r.until(at.Sub(r.start))
	}
	r.add(f, r.now)
	r.collect()
}

// waiting is how many frames aren't due yet.
func (r *run) waiting() int { return len(r.inbox[media.Video]) + len(r.inbox[media.Audio]) }

// until lets time pass.
func (r *run) until(after time.Duration) {
	for {
		at, ok := r.wake(r.now)
		if !ok || at.Sub(r.start) > after {
			break
		}
		r.now = latest(r.now, at)
		before := len(r.out)
		waiting := r.waiting()
		r.collect()
		if len(r.out) == before && r.waiting() == waiting {
			if next, ok := r.wake(r.now); ok && !next.After(at) {
				panic("woken for nothing")
			}
		}
	}
	r.now = latest(r.now, r.start.Add(after))
	r.collect()
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (r *run) collect() {
	for {
		f, ok := r.take(r.now)
		if !ok {
			return
		}
		e := event{kind: f.Kind, at: f.at, after: r.now.Sub(r.start)}
		if len(f.Payload) > 0 {
			e.tag = f.Payload[0]
		}
		r.out = append(r.out, e)
	}
}

// end finishes the run and waits for the rest.
func (r *run) end() []event {
	r.finish()
	r.until(r.now.Sub(r.start))
	for !r.empty() {
		at, ok := r.wake(r.now)
		if !ok {
			panic("not empty, but never to wake")
		}
		r.until(at.Sub(r.start))
	}
	return r.out
}

// ordered fails unless times never fall and each frame is out.
func ordered(t *testing.T, out []event, want int) {
	t.Helper()
	if len(out) != want {
		t.Errorf("%d frames are out, want %d", len(out), want)
	}
	if !slices.IsSortedFunc(out, func(a, b event) int { return int(a.at - b.at) }) {
		t.Errorf("times fall: %v", out)
	}
}

// TestSortedInputWaitsForNothing: neither track waits for the other's next
// frame, which is what a muxer's latency usually is.
func TestSortedInputWaitsForNothing(t *testing.T) {
	r := newRun(both)
	n := 0
	for at := time.Duration(0); at < 4*time.Second; at += sound {
		if at%step == 0 {
			r.send(at, frame(media.Video, at))
			n++
		}
		r.send(at+ms, frame(media.Audio, at))
		n++
	}
	out := r.end()
	ordered(t, out, n)
	for _, e := range out {
		if late := e.after - e.at; late > ms {
			t.Errorf("%v at %v went out %v later", e.kind, e.at, late)
		}
	}
}

// TestTracksApart: sound 300 ms behind the pictures in the file is put in order
// from the first frame on, and pictures wait no longer than those 300 ms.
func TestTracksApart(t *testing.T) {
	const apart = 300 * ms
	r := newRun(both)
	n := 0
	for at := time.Duration(0); at < 4*time.Second; at += sound {
		if at%step == 0 {
			r.send(at, frame(media.Video, at))
			n++
		}
		if at >= apart {
			r.send(at, frame(media.Audio, at-apart))
			n++
		}
	}
	out := r.end()
	ordered(t, out, n)
	for _, e := range out {
		if late := e.after - e.at; late > apart+apart/8+jitter {
			t.Errorf("%v at %v went out %v later", e.kind, e.at, late)
		}
	}
	exact(t, out)
}

// exact fails unless frames keep their distances: tracks count in steps of
// their own from 0.
func exact(t *testing.T, out []event) {
	t.Helper()
	var next [media.Kinds]time.Duration
	length := [media.Kinds]time.Duration{step, sound}
	for _, e := range out {
		if e.at != next[e.kind] {
			t.Fatalf("%v at %v, want %v", e.kind, e.at, next[e.kind])
		}
		next[e.kind] += length[e.kind]
	}
}

// TestPicturesBeforeSound: a second of pictures, then that second's sound, as a
// fragmented MP4 holds them. All of it goes out in order and undamaged, whether
// fragments come as they are made or all at once, and no faster than it plays.
func TestPicturesBeforeSound(t *testing.T) {
	const fragment = time.Second
	for _, live := range []bool{true, false} {
		r := newRun(both)
		n := 0
		for from := time.Duration(0); from < 5*fragment; from += fragment {
			come := time.Duration(0)
			if live {
				come = from + fragment
			}
			for at := from; at < from+fragment; at += step {
				r.send(come, frame(media.Video, at))
				n++
			}
			for at := from; at < from+fragment; at += sound {
				r.send(come, frame(media.Audio, at))
				n++
			}
		}
		out := r.end()
		ordered(t, out, n)
		exact(t, out)
		for _, e := range out {
			if early := e.at - (e.after - out[0].after); early > lead+step {
				t.Fatalf("live %v: %v at %v went out %v early", live, e.kind, e.at, early)
			}
			if late := e.after - e.at; live && late > fragment+100*ms {
				t.Fatalf("%v at %v went out %v after it could", e.kind, e.at, late)
			}
		}
	}
}

// TestPicturesWaitForNoMoreSound: sound that comes late, as from an encoder, but
// each packet where the one before it ended. A picture goes out once the sound up
// to it has come; the packet that begins after it is not waited for.
func TestPicturesWaitForNoMoreSound(t *testing.T) {
	const late = 60 * ms
	r := newRun(both)
	for at := time.Duration(0); at < 4*time.Second; at += sound {
		if at%step == 0 {
			r.send(at, frame(media.Video, at))
		}
		if at >= late {
			r.send(at, frame(media.Audio, at-late))
		}
	}
	for _, e := range r.end() {
		if after := e.after - e.at; e.kind == media.Video && e.at > time.Second && after > late-sound {
			t.Fatalf("video at %v went out %v later, want %v", e.at, after, late-sound)
		}
	}
}

// TestLyingLengths: frames that say they last longer than they do have nothing
// go out before they have come.
func TestLyingLengths(t *testing.T) {
	const late = 60 * ms
	r := newRun(both)
	n := 0
	for at := time.Duration(0); at < 4*time.Second; at += sound {
		if at%step == 0 {
			r.send(at, frame(media.Video, at))
			n++
		}
		if at >= late {
			f := frame(media.Audio, at-late)
			f.Duration = 3 * sound
			r.send(at, f)
			n++
		}
	}
	out := r.end()
	ordered(t, out, n)
	exact(t, out)
}

// TestLaces: eight packets in a block, of which the later ones belong between
// pictures that follow (WAT-5). Each goes out at its own time, whether the
// publisher sends in real time or all at once.
func TestLaces(t *testing.T) {
	for _, live := range []bool{true, false} {
		r := newRun(both)
		n := 0
		send := func(at time.Duration, f media.Frame) {
			if !live {
				at = 0
			}
			r.send(at, f)
			n++
		}
		for at := time.Duration(0); at < 4*time.Second; at += step {
			if at%(8*sound) == 0 {
				for i := range 8 {
					f := frame(media.Audio, at+time.Duration(i)*sound)
					f.Sent = at
					send(at, f)
				}
			}
			send(at, frame(media.Video, at))
		}
		out := r.end()
		ordered(t, out, n)
		exact(t, out)
		for _, e := range out {
			late := e.after - e.at
			if live && (late > 9*sound+jitter || e.kind == media.Video && late > ms) {
				t.Errorf("%v at %v went out %v later", e.kind, e.at, late)
			}
			if -late > lead+e.at*2/1000+step {
				t.Errorf("%v at %v went out %v early", e.kind, e.at, -late)
			}
		}
	}
}

// TestStepBack: a late frame that nothing announced goes to the newest time,
// once; then its track is waited for.
func TestStepBack(t *testing.T) {
	const behind = 100 * ms
	r := newRun(both)
	n := 0
	for at := time.Duration(0); at < 4*time.Second; at += sound {
		if at%step == 0 {
			r.send(at, frame(media.Video, at))
			n++
		}
		switch {
		case at < time.Second:
			r.send(at, frame(media.Audio, at))
		case at >= time.Second+behind:
			r.send(at, frame(media.Audio, at-behind))
		default:
			continue
		}
		n++
	}
	out := r.end()
	ordered(t, out, n)
	moved := 0
	next := time.Duration(0)
	for _, e := range out {
		if e.kind == media.Audio {
			if e.at != next {
				moved++
			}
			next += sound
		}
	}
	// Those that were behind what had gone out when the first one came.
	if limit := int(behind/sound) + 1; moved > limit {
		t.Errorf("%d packets were moved, want at most %d", moved, limit)
	}
	if last := out[len(out)-1]; last.after-last.at > behind+behind/8+jitter {
		t.Errorf("frames wait %v for a track that is %v behind", last.after-last.at, behind)
	}
}

// TestLatenessIsForgotten: one late frame must not cost latency for ever.
func TestLatenessIsForgotten(t *testing.T) {
	r := newRun(both)
	for at := time.Duration(0); at < 20*time.Second; at += sound {
		if at%step == 0 {
			r.send(at, frame(media.Video, at))
		}
		a := at
		if at == 2*time.Second+sound {
			a -= 200 * ms
		}
		r.send(at+ms, frame(media.Audio, a))
	}
	out := r.end()
	for _, e := range out {
		if late := e.after - e.at; e.at > 15*time.Second && late > ms {
			t.Fatalf("%v at %v went out %v later", e.kind, e.at, late)
		}
	}
}

func TestMissingTrackHoldsNothingForLong(t *testing.T) {
	r := newRun(both)
	for at := time.Duration(0); at < 2*time.Second; at += step {
		r.send(at, frame(media.Video, at))
	}
	out := r.end()
	for i, e := range out {
		bound := maxApart + ms
		if e.at > maxApart+step {
			bound = ms
		}
		if late := e.after - e.at; late > bound {
			t.Errorf("picture %d at %v went out %v later", i, e.at, late)
		}
	}
}

// TestPacing: a file sent at once plays in real time, early by the lead and no
// more; the slack of the refill is 2 ‰.
func TestPacing(t *testing.T) {
	r := newRun(both)
	n := 0
	const length = 60 * time.Second
	for at := time.Duration(0); at < length; at += sound {
		if at%step == 0 {
			r.send(0, frame(media.Video, at))
			n++
		}
		r.send(0, frame(media.Audio, at))
		n++
	}
	out := r.end()
	ordered(t, out, n)
	exact(t, out)
	for _, e := range out {
		early := e.at - e.after
		if most := lead + e.at*2/1000 + ms; early > most {
			t.Fatalf("%v at %v went out %v early", e.kind, e.at, early)
		}
		if early < 0 {
			t.Fatalf("%v at %v was held back until %v", e.kind, e.at, e.after)
		}
	}
}

// TestCatchingUp: what a stall delayed is not held back (ING-14).
func TestCatchingUp(t *testing.T) {
	r := newRun(videoOnly)
	const stall = 5 * time.Second
	for at := time.Duration(0); at < 20*time.Second; at += step {
		after := at
		if at >= 2*time.Second {
			after = max(at, 2*time.Second+stall)
		}
		r.send(after, frame(media.Video, at))
	}
	out := r.end()
	for _, e := range out {
		if e.at >= 2*time.Second+stall && e.after-e.at > ms {
			t.Fatalf("the picture at %v went out %v later", e.at, e.after-e.at)
		}
	}
}

// TestDriftBuildsNoDelay: a publisher's clock that is 500 ppm off, either way,
// for a day of virtual time (ING-14).
func TestDriftBuildsNoDelay(t *testing.T) {
	for name, drift := range map[string]time.Duration{"fast": -1, "slow": 1} {
		t.Run(name, func(t *testing.T) {
			r := newRun(both)
			const picture, sound = 10 * step, 5 * step // seldom enough for a day
			for at := time.Duration(0); at < 24*time.Hour; at += sound {
				now := at + drift*at/2000
				r.send(now, frame(media.Audio, at))
				if at%picture == 0 {
					r.send(now, frame(media.Video, at))
				}
				for _, e := range r.out {
					if late := e.after - e.at - drift*e.at/2000; late > ms {
						t.Fatalf("the %v at %v is %v late", e.kind, e.at, late)
					}
				}
				r.out = r.out[:0]
			}
			if !r.empty() {
				t.Error("frames are held at the end")
			}
		})
	}
}

func TestJumps(t *testing.T) {
	tests := []struct {
		name string
		to   time.Duration // where the clock goes on after 2 s
	}{
		{"far ahead", time.Hour},
		{"3 s ahead", 5 * time.Second},
		{"back to 0", 0},
		{"600 ms back", 1400 * ms},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			const at = 2 * time.Second
			r := newRun(both)
			n := 0
			for now := time.Duration(0); now < 6*time.Second; now += sound {
				clock := now
				if now >= at {
					clock = now - at + test.to
				}
				if now%step == 0 {
					r.send(now, frame(media.Video, clock))
					n++
				}
				r.send(now, frame(media.Audio, clock))
				n++
			}
			out := r.end()
			ordered(t, out, n)
			if r.dropped != 0 {
				t.Errorf("%d frames were dropped", r.dropped)
			}
			last := out[len(out)-1]
			if gap := last.at - 6*time.Second; gap > 2*step || gap < -2*step {
				t.Errorf("the last frame is at %v, want it near 6 s", last.at)
			}
			for i, e := range out[1:] {
				if d := e.at - out[i].at; d > 2*step {
					t.Errorf("a gap of %v before the %v at %v", d, e.kind, e.at)
				}
				if late := e.after - e.at; late > 3*step {
					t.Errorf("%v at %v went out %v later", e.kind, e.at, late)
				}
			}
		})
	}
}

// TestJumpsWinNoTime: a fast publisher's jumps don't add up to a lead.
func TestJumpsWinNoTime(t *testing.T) {
	r := newRun(videoOnly)
	n := 0
	for part := range 20 {
		for at := time.Duration(0); at < time.Second; at += step {
			r.send(0, frame(media.Video, time.Duration(part)*time.Minute+at))
			n++
		}
	}
	out := r.end()
	ordered(t, out, n)
	for _, e := range out {
		if early := e.at - e.after; early > lead+e.at*2/1000+step {
			t.Fatalf("the picture at %v went out %v early", e.at, early)
		}
	}
}

func TestStrayFrames(t *testing.T) {
	for _, stray := range []time.Duration{-3 * time.Second, time.Hour} {
		r := newRun(both)
		n := 0
		for at := time.Duration(0); at < 8*time.Second; at += sound {
			if at == 4*time.Second {
				r.send(at, frame(media.Video, at+stray, 's'))
			}
			if at%step == 0 {
				r.send(at, frame(media.Video, at))
				n++
			}
			r.send(at, frame(media.Audio, at))
			n++
		}
		out := r.end()
		strays := 0
		for _, e := range out {
			if e.tag == 's' {
				strays++
			}
		}
		if stray < 0 && (strays != 0 || r.dropped != 1) {
			t.Errorf("stray by %v: %d went out, %d dropped; want it dropped and counted", stray, strays, r.dropped)
		}
		ordered(t, out, n+strays)
		if last := out[len(out)-1]; last.at < 8*time.Second-2*step || last.at > 8*time.Second+2*step {
			t.Errorf("stray by %v: the last frame is at %v, want it near 8 s", stray, last.at)
		}
	}
}

// TestStrayWithinTheGap: one frame that is ahead by less than a jump moves what
// follows, and costs the other track what comes before that is known: a step.
func TestStrayWithinTheGap(t *testing.T) {
	for _, kind := range []media.Kind{media.Video, media.Audio} {
		r := newRun(both)
		n := 0
		send := func(at time.Duration, f media.Frame) {
			r.send(at, f)
			n++
		}
		for at := time.Duration(0); at < 4*time.Second; at += sound {
			if at == 2*time.Second {
				send(at, frame(kind, at+1900*ms))
			}
			if at%step == 0 {
				send(at, frame(media.Video, at))
			}
			send(at, frame(media.Audio, at))
		}
		out := r.end()
		ordered(t, out, n-r.dropped)
		if limit := int(step / sound); r.dropped > limit {
			t.Errorf("a stray %v: %d frames were dropped, want at most %d", kind, r.dropped, limit)
		}
		if last := out[len(out)-1]; last.at > 4*time.Second+2*time.Second {
			t.Errorf("a stray %v: 4 s of media end at %v", kind, last.at)
		}
	}
}

// TestTrackKeepsItsOrder: a decoder needs a track's frames as they came.
func TestTrackKeepsItsOrder(t *testing.T) {
	r := newRun(videoOnly)
	for i, at := range []time.Duration{0, 40 * ms, 120 * ms, 80 * ms, 160 * ms} {
		r.send(time.Duration(i)*step, frame(media.Video, at, byte(i)))
	}
	out := r.end()
	ordered(t, out, 5)
	for i, e := range out {
		if int(e.tag) != i {
			t.Errorf("picture %d went out at place %d", e.tag, i)
		}
	}
}

// TestNextDocument goes on one frame's length after the last, tracks' distance kept.
func TestNextDocument(t *testing.T) {
	r := newRun(both)
	for at := time.Duration(0); at < time.Second; at += sound {
		if at%step == 0 {
			r.send(at, frame(media.Video, at))
		}
		r.send(at, frame(media.Audio, at))
	}
	r.flush()
	r.collect()
	end := r.out[len(r.out)-1].at
	r.begin(both, r.clock)
	const far = time.Hour
	r.send(time.Second, frame(media.Video, far+5*ms, 'v'))
	r.send(time.Second, frame(media.Audio, far, 'a'))
	out := r.end()
	audio, video := out[len(out)-2], out[len(out)-1]
	if audio.tag != 'a' || video.tag != 'v' {
		t.Fatalf("the second document begins with %v, %v", audio, video)
	}
	if audio.at != end+sound || video.at != audio.at+5*ms {
		t.Errorf("it goes on at %v and %v after %v", audio.at, video.at, end)
	}
}

// TestDocumentsWinNoTime: a body of many documents plays no faster than one.
func TestDocumentsWinNoTime(t *testing.T) {
	r := newRun(videoOnly)
	for range 20 {
		for r.full() {
			at, _ := r.wake(r.now)
			r.until(at.Sub(r.start))
		}
		r.flush()
		r.collect()
		r.begin(videoOnly, r.clock)
		for at := time.Duration(0); at < 500*ms; at += step {
			r.send(0, frame(media.Video, at))
		}
	}
	for _, e := range r.end() {
		if early := e.at - e.after; early > lead+e.at*2/1000+step {
			t.Fatalf("the picture at %v went out %v early", e.at, early)
		}
	}
}

// TestTracksFarApart: past what must be put in order, times still keep the
// media's pace and nothing is taken for a jump.
func TestTracksFarApart(t *testing.T) {
	for _, apart := range []time.Duration{520 * ms, 800 * ms, 1500 * ms} {
		for _, live := range []bool{true, false} {
			r := newRun(both)
			n := 0
			send := func(at time.Duration, f media.Frame) {
				if !live {
					at = 0
				}
				r.send(at, f)
				n++
			}
			for at := time.Duration(0); at < 6*time.Second; at += sound {
				if at%step == 0 {
					send(at, frame(media.Video, at))
				}
				if at >= apart {
					send(at, frame(media.Audio, at-apart))
				}
			}
			out := r.end()
			if r.dropped+len(out) != n {
				t.Errorf("%v apart: %d frames are out and %d dropped, of %d", apart, len(out), r.dropped, n)
			}
			ordered(t, out, len(out))
			if limit := int((apart-maxApart)/sound) + 2; r.dropped > limit {
				t.Errorf("%v apart: %d frames were dropped, want at most %d", apart, r.dropped, limit)
			}
			if last := out[len(out)-1]; last.at > 6*time.Second || last.at < 6*time.Second-2*step {
				t.Errorf("%v apart: 6 s of media end at %v", apart, last.at)
			}
		}
	}
}

func TestLengthAfterAGap(t *testing.T) {
	c := newClock()
	at := time.Duration(0)
	for _, next := range []time.Duration{30 * ms, 30 * ms, 1900 * ms, 30 * ms} {
		at += next
		c.tick(media.Frame{Kind: media.Video}, at)
		if got := c.lengths[media.Video]; got > 40*ms {
			t.Errorf("after a step of %v a picture is taken to last %v", next, got)
		}
	}
}
