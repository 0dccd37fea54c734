package measure

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"tureen/loadgen/publish"
	"tureen/loadgen/view"
	"tureen/loadgen/webm"
)

func open(t *testing.T, name string) *publish.Source {
	t.Helper()
	s, err := publish.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Times of the runs below, since the epoch: publishing begins, a viewer sends its request, the run ends.
const (
	start   = 100 * time.Millisecond
	request = start + 5100*time.Millisecond
	end     = start + 13*time.Second
	delay   = 2 * time.Millisecond // which a histogram of three digits holds exactly
	offset  = 7 * time.Hour        // of the stream's timestamps to the source's
)

// server plays a target to one viewer: it hands on what the publisher sends, from the newest key frame on.
type server struct {
	source *publish.Source
	// fault may change what becomes of the n-th event that is delivered, counted over all tracks; nil for none.
	fault func(n int, e view.Event) []view.Event
	// until is when it stops.
	until time.Duration
}

// play delivers the events of a viewer that sends its request at a moment.
func (s *server) play(request time.Duration, deliver func(e *view.Event)) {
	deliver(&view.Event{Type: view.Connected, At: request})
	deliver(&view.Event{Type: view.Answered, At: request + time.Millisecond, Status: 200})
	for n, count := s.newestKey(request), 0; ; n, count = n+1, count+1 {
		f, shift := s.frame(n)
		due := start + shift + f.Due
		if due >= s.until {
			return
		}
		e := view.Event{
			Type: view.Arrived, At: max(due, request) + delay, Timestamp: (shift + f.PTS + offset).Round(time.Millisecond), Kind: f.Kind,
			Key: f.Key, Size: 100,
		}
		if f.Key {
			e.Hash = f.Hash
		}
		out := []view.Event{e}
		if s.fault != nil {
			out = s.fault(count, e)
		}
		for i := range out {
			deliver(&out[i])
		}
	}
}

func (s *server) frame(n int) (publish.Frame, time.Duration) {
	size := len(s.source.Frames)
	return s.source.Frames[n%size], time.Duration(n/size) * s.source.Period
}

func (s *server) newestKey(request time.Duration) int {
	newest := 0
	for n := 0; ; n++ {
		f, shift := s.frame(n)
		if start+shift+f.Due > request {
			return newest
		}
		if f.Key && (f.Kind == webm.Video || !s.source.Has(webm.Video)) {
			newest = n
		}
	}
}

// measured returns the result of one viewer that a server played to.
func measured(t *testing.T, source *publish.Source, s *server) (*Group, Result) {
	t.Helper()
	s.source = source
	if s.until == 0 {
		s.until = end + time.Second
	}
	g := NewGroup(source, start, end, []view.Viewer{{ID: 5, Join: request - time.Millisecond}})
	s.play(request, func(e *view.Event) {
		e.Viewer = 5
		g.handle(e)
	})
	return g, g.Result()
}

// due counts the source's frames that count in the runs below.
func due(source *publish.Source, kind webm.Kind, from time.Duration) int64 {
	var count int64
	s := server{source: source}
	for n := 0; ; n++ {
		f, shift := s.frame(n)
		at := start + shift + f.Due
		if at >= end {
			return count
		}
		if at >= from && f.Kind == kind {
			count++
		}
	}
}

// flaws are the counts that stay 0 in a perfect run.
type flaws struct{ lost, duplicated, disordered, unmatched, altered, skipped int64 }

func flawsOf(k *Track) flaws {
	return flaws{k.Lost, k.Duplicated, k.Disordered, k.Unmatched, k.Altered, k.SkippedAtJoin}
}

// video returns a fault that changes the n-th video frame after the first that counts, by position in the stream.
func video(at int, change func(e view.Event) []view.Event) func(int, view.Event) []view.Event {
	seen := 0
	return func(_ int, e view.Event) []view.Event {
		if e.Kind == webm.Video && e.At > request+delay {
			if seen++; seen == at {
				return change(e)
			}
		}
		return []view.Event{e}
	}
}

func TestPerfectRun(t *testing.T) {
	for _, name := range []string{"webm-load", "webm-vp8-vorbis", "webm-vp8", "webm-vorbis"} {
		t.Run(name, func(t *testing.T) {
			source := open(t, name)
			g, r := measured(t, source, &server{})
			for _, kind := range Kinds {
				k := r.Tracks[kind.String()]
				if (k != nil) != source.Has(kind) {
					t.Fatalf("%v: %+v", kind, k)
				}
				if k == nil {
					continue
				}
				want := due(source, kind, request)
				if k.Expected != want || k.Latency.Count != want || flawsOf(k) != (flaws{}) {
					t.Errorf("%v: %+v, want %d frames and no flaw", kind, k, want)
				}
				if k.Mode != Passthrough {
					t.Errorf("%v: mode %q", kind, k.Mode)
				}
				if k.Latency.P50 != delay.Microseconds() || k.Latency.Max != delay.Microseconds() {
					t.Errorf("%v: latency %+v, want %v", kind, k.Latency, delay)
				}
			}
			if r.Discontinuities != 0 || r.Unidentified != 0 {
				t.Errorf("%d discontinuities, %d unidentified", r.Discontinuities, r.Unidentified)
			}
			if r.Join.Head.Max != 1000 || r.Join.Connect.Max != 1000 || r.Join.KeyFrame.Max != delay.Microseconds() {
				t.Errorf("join: %+v", r.Join)
			}
			if !g.settled() {
				t.Error("not settled")
			}
		})
	}
}

func TestFaultsShow(t *testing.T) {
	drop := func(view.Event) []view.Event { return nil }
	twice := func(e view.Event) []view.Event { return []view.Event{e, e} }
	tests := []struct {
		name  string
		fault func(int, view.Event) []view.Event
		want  flaws
	}{
		{"a lost frame", video(40, drop), flaws{lost: 1}},
		{"a duplicated frame", video(40, twice), flaws{duplicated: 1}},
		{"a frame that matches none", video(40, func(e view.Event) []view.Event {
			e.Timestamp += time.Hour
			e.At -= time.Second
			return []view.Event{e}
		}), flaws{lost: 1, unmatched: 1}},
		{"a frame before it was due", video(40, func(e view.Event) []view.Event {
			e.At -= 10 * time.Millisecond
			return []view.Event{e}
		}), flaws{lost: 1, unmatched: 1}},
		{"two frames in the wrong order", swapped(40), flaws{disordered: 1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, r := measured(t, open(t, "webm-load"), &server{fault: test.fault})
			if got := flawsOf(r.Tracks["video"]); got != test.want {
				t.Errorf("video: %+v, want %+v", got, test.want)
			}
			if got := flawsOf(r.Tracks["audio"]); got != (flaws{}) {
				t.Errorf("audio: %+v", got)
			}
		})
	}
}

// swapped delivers the n-th video frame behind the next one.
func swapped(n int) func(int, view.Event) []view.Event {
	var held *view.Event
	first := video(n, func(e view.Event) []view.Event {
		held = &e
		return nil
	})
	return func(count int, e view.Event) []view.Event {
		out := first(count, e)
		if held != nil && len(out) > 0 && e.Kind == webm.Video {
			late := *held
			late.At = e.At
			held = nil
			return append(out, late)
		}
		return out
	}
}

func TestAlteredSound(t *testing.T) {
	seen := 0
	_, r := measured(t, open(t, "webm-load"), &server{fault: func(_ int, e view.Event) []view.Event {
		if e.Kind == webm.Audio {
			if seen++; seen == 30 {
				e.Hash++
			}
		}
		return []view.Event{e}
	}})
	if got := flawsOf(r.Tracks["audio"]); got != (flaws{altered: 1}) {
		t.Errorf("audio: %+v, want one altered", got)
	}
}

func TestDelayShows(t *testing.T) {
	const more = 50 * time.Millisecond
	_, r := measured(t, open(t, "webm-load"), &server{fault: video(40, func(e view.Event) []view.Event {
		e.At += more
		return []view.Event{e}
	})})
	got := time.Duration(r.Tracks["video"].Latency.Max) * time.Microsecond
	if got < more+delay || got > more+delay+delay/10 {
		t.Errorf("highest latency %v, want %v", got, more+delay)
	}
}

// A viewer that gets nothing at the end has lost it; it isn't absent.
func TestMissingEndIsLost(t *testing.T) {
	source := open(t, "webm-load")
	g, r := measured(t, source, &server{until: end - 2*time.Second})
	if got := r.Tracks["video"].Lost; got != 60 {
		t.Errorf("%d pictures lost in 2 s at 30 a second", got)
	}
	if g.settled() {
		t.Error("settled before the end has come")
	}
}

func TestNothingArrives(t *testing.T) {
	source := open(t, "webm-load")
	g := NewGroup(source, start, end, []view.Viewer{{ID: 0, Join: request}})
	g.handle(&view.Event{Type: view.Connected, At: request})
	r := g.Result()
	if want := due(source, webm.Video, request); r.Tracks["video"].Lost != want || r.Viewers.Unanswered != 1 {
		t.Errorf("lost %d of %d, %+v", r.Tracks["video"].Lost, want, r.Viewers)
	}
	g.handle(&view.Event{Type: view.Answered, At: request, Status: 200})
	if r := g.Result(); r.Viewers.Silent != 1 {
		t.Errorf("%+v, want a silent viewer", r.Viewers)
	}
}

func TestEndsOfViewers(t *testing.T) {
	source := open(t, "webm-vp8")
	tests := []struct {
		name string
		end  view.Event
		pick func(Viewers) int
	}{
		{"broken", view.Event{Reason: view.Broken, At: end - 1}, func(v Viewers) int { return v.Broken }},
		{"finished", view.Event{Reason: view.Finished, At: end - 1}, func(v Viewers) int { return v.Finished }},
		{"unreadable", view.Event{Reason: view.Unreadable, At: end - 1}, func(v Viewers) int { return v.Unreadable }},
		{"finished after the end", view.Event{Reason: view.Finished, At: end}, func(v Viewers) int { return 1 - v.Finished }},
		{"stopped", view.Event{Reason: view.Stopped, At: end - 1}, func(v Viewers) int { return 1 - v.Broken - v.Finished }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			g := NewGroup(source, start, end, []view.Viewer{{ID: 0}})
			test.end.Type, test.end.Detail = view.Ended, &view.Detail{Err: errors.New("reset")}
			for _, e := range []view.Event{{Type: view.Connected}, {Type: view.Answered, Status: 200}, test.end} {
				g.handle(&e)
			}
			if r := g.Result(); test.pick(r.Viewers) != 1 {
				t.Errorf("%+v", r.Viewers)
			}
		})
	}
	g := NewGroup(source, start, end, []view.Viewer{{ID: 0}, {ID: 1}, {ID: 2}})
	for i := range int32(2) {
		g.handle(&view.Event{Type: view.Connected, Viewer: i})
		g.handle(&view.Event{Type: view.Answered, Viewer: i, Status: 503})
		g.handle(&view.Event{Type: view.Ended, Viewer: i, Reason: view.Refused, Detail: &view.Detail{Err: errors.New("status 503")}})
	}
	g.handle(&view.Event{Type: view.Ended, Viewer: 2, Reason: view.Unreached})
	r := g.Result()
	if r.Viewers.Refused[503] != 2 || r.Viewers.Unreached != 1 || r.Viewers.FirstError != "status 503" || r.Tracks["video"].Expected != 0 {
		t.Errorf("%+v, %+v", r.Viewers, r.Tracks["video"])
	}
}

// A viewer that is started at the next key frame misses nothing that counts, but that it waited is shown.
func TestStartAtTheNextKeyFrame(t *testing.T) {
	source := open(t, "webm-load")
	begun := false
	_, r := measured(t, source, &server{fault: func(_ int, e view.Event) []view.Event {
		if e.At <= request+delay || !begun && (e.Kind != webm.Video || !e.Key) {
			return nil
		}
		begun = true
		return []view.Event{e}
	}})
	for kind, k := range r.Tracks {
		if k.Lost != 0 || k.SkippedAtJoin == 0 {
			t.Errorf("%s: %+v, want nothing lost but some skipped", kind, k)
		}
	}
}

// Pictures that were encoded anew are told by their stamps, which are read once such pictures are met, and of one viewer
// only.
func TestTranscodedPictures(t *testing.T) {
	source := open(t, "webm-load")
	asked, keys, read := false, 0, 0
	s := &server{source: source, until: end + time.Second, fault: func(_ int, e view.Event) []view.Event {
		if e.Hash != 0 {
			e.Hash = ^e.Hash
		}
		if e.Kind == webm.Video && e.Key {
			if keys++; asked && keys%2 == 0 {
				number := int((e.Timestamp-offset)%source.Period+time.Millisecond) * 30 / int(time.Second)
				e.Detail = &view.Detail{Picture: []byte(strconv.Itoa(number))}
			}
		}
		return []view.Event{e}
	}}
	g := NewGroup(source, start, end, []view.Viewer{{ID: 0, Join: request}})
	g.NeedPictures = func() { asked = true }
	g.ReadStamp = func(picture []byte) (int, error) {
		read++
		return strconv.Atoi(string(picture))
	}
	s.play(request, g.handle)
	r := g.Result()
	v := r.Tracks["video"]
	if v.Mode != Transcoded || flawsOf(v) != (flaws{}) || v.Latency.Count != v.Expected || v.Latency.P50 != delay.Microseconds() {
		t.Errorf("video: %+v", v)
	}
	if a := r.Tracks["audio"]; a.Mode != Transcoded || flawsOf(a) != (flaws{}) || a.Latency.Count != a.Expected {
		t.Errorf("audio: %+v", a)
	}
	if read == 0 || r.Unidentified == 0 || r.Discontinuities != 0 {
		t.Errorf("%d stamps read, %d key frames unidentified, %d discontinuities", read, r.Unidentified, r.Discontinuities)
	}
}

func TestUnreadablePicturesMeasureNothing(t *testing.T) {
	source := open(t, "webm-load")
	s := &server{source: source, until: end, fault: func(_ int, e view.Event) []view.Event {
		if e.Hash != 0 {
			e.Hash = ^e.Hash
			e.Detail = &view.Detail{Picture: []byte("no stamp")}
		}
		return []view.Event{e}
	}}
	g := NewGroup(source, start, end, []view.Viewer{{ID: 0, Join: request}})
	g.ReadStamp = func([]byte) (int, error) { return 0, errors.New("no stamp") }
	s.play(request, g.handle)
	if r := g.Result(); r.Measured() || r.Unidentified == 0 {
		t.Errorf("%+v", r)
	}
}

// Sound that was encoded anew comes in frames of other lengths; a gap in it is a loss all the same.
func TestGapInTranscodedSound(t *testing.T) {
	source := open(t, "webm-load")
	_, r := measured(t, source, &server{fault: func(n int, e view.Event) []view.Event {
		if e.Kind != webm.Audio {
			return []view.Event{e}
		}
		e.Hash = ^e.Hash
		if since := e.At - request; since > 2*time.Second && since < 2500*time.Millisecond {
			return nil
		}
		return []view.Event{e}
	}})
	a := r.Tracks["audio"]
	if want := int64(500 * time.Millisecond / source.Interval(webm.Audio)); a.Lost < want-1 || a.Lost > want+1 {
		t.Errorf("%d frames lost in half a second, want %d: %+v", a.Lost, want, a)
	}
}

// A jump of the timestamps that the pictures don't follow is seen, and what comes after it is matched again.
func TestDiscontinuity(t *testing.T) {
	source := open(t, "webm-load")
	_, r := measured(t, source, &server{fault: func(_ int, e view.Event) []view.Event {
		if e.At >= start+8*time.Second {
			e.Timestamp += 500 * time.Millisecond
		}
		return []view.Event{e}
	}})
	if r.Discontinuities != 1 {
		t.Errorf("%d discontinuities, want 1", r.Discontinuities)
	}
	if v := r.Tracks["video"]; v.Latency.P99 != delay.Microseconds() {
		t.Errorf("video: %+v", v)
	}
}
