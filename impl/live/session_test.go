package live

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"tureen/fixtures"
	"tureen/impl/media"
	"tureen/impl/webm"
)

var pictures = []media.Track{{Kind: media.Video, Codec: media.VP8, Picture: media.Picture{Width: 320, Height: 180}}}

// sounds are tracks that can't go on in a body with pictures.
var sounds = []media.Track{{Kind: media.Audio, Codec: media.Vorbis}}

// source is a publisher's that gives way for a cause, if it has one.
type source struct{ cause error }

func (s source) GivesWay() error { return s.cause }

// publish takes a session and runs it until items is closed.
func publish(t *testing.T, r *Registry, id string) (p *Publisher, items chan media.Item, done chan error) {
	t.Helper()
	p, err := r.Take(t.Context(), id, source{})
	if err != nil {
		t.Fatalf("Take: %v", err)
	}
	items, done = make(chan media.Item), make(chan error, 1)
	go func() { done <- p.Run(items) }()
	return p, items, done
}

func picture(at time.Duration, key bool) media.Item {
	f := frame(media.Video, at, 1)
	f.Key = key
	return media.Item{Frame: f}
}

func expectState(t *testing.T, r *Registry, id, want string) {
	t.Helper()
	if got := r.State(id).String(); got != want {
		t.Errorf("the session is %s, want %s", got, want)
	}
}

// scene is a session with its publisher and what its viewers have.
type scene struct {
	*Registry
	t       *testing.T
	p       *Publisher
	items   chan media.Item
	done    chan error
	watched *Stream // nil while nobody could have a body
}

// stage brings session a into a state; "returned" is taken with the viewers of
// an earlier publisher.
func stage(t *testing.T, state string) *scene {
	s := &scene{Registry: NewRegistry(10 * time.Second), t: t}
	if state == "absent" {
		return s
	}
	s.take()
	if state == "taken" {
		return s
	}
	s.begin(pictures)
	s.watched = s.p.stream
	if state == "live" {
		return s
	}
	s.end(Broken)
	if state == "returned" {
		s.take()
	}
	return s
}

func (s *scene) take() {
	s.t.Helper()
	s.p, s.items, s.done = publish(s.t, s.Registry, "a")
}

func (s *scene) begin(tracks []media.Track) {
	s.items <- media.Item{Tracks: tracks}
	synctest.Wait()
}

func (s *scene) end(e Ending) {
	close(s.items)
	<-s.done
	s.p.End(e)
}

func (s *scene) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// abort aborts the session; its publisher ends as one that breaks off at that
// very moment.
func (s *scene) abort() {
	s.t.Helper()
	published := s.Source("a") != nil
	ended, err := s.Abort("a", ErrAborted)
	if err != nil {
		s.t.Errorf("Abort: %v", err)
		return
	}
	if published {
		if cause := <-s.done; !errors.Is(cause, ErrAborted) {
			s.t.Errorf("the publisher ends with %v, want ErrAborted", cause)
		}
		s.p.End(Broken)
	}
	<-ended
}

// viewers is what becomes of who watched.
func (s *scene) viewers() string {
	if s.watched == nil {
		return "none"
	}
	select {
	case <-s.watched.ended:
		return "ended"
	default:
		return "kept"
	}
}

// TestTransitions goes through all that can become of a session, in each state.
func TestTransitions(t *testing.T) {
	take := func(s *scene) { s.take() }
	refused := func(s *scene) {
		if _, err := s.Take(s.t.Context(), "a", source{}); !errors.Is(err, ErrTaken) {
			s.t.Errorf("a second publisher gets %v, want ErrTaken", err)
		}
	}
	begin := func(tracks []media.Track) func(*scene) { return func(s *scene) { s.begin(tracks) } }
	end := func(e Ending) func(*scene) { return func(s *scene) { s.end(e) } }
	unknown := func(s *scene) {
		if _, err := s.Abort("a", ErrAborted); !errors.Is(err, ErrAbsent) {
			s.t.Errorf("Abort gives %v, want ErrAbsent", err)
		}
	}
	pass := func(d time.Duration) func(*scene) { return func(s *scene) { s.pass(d) } }
	tests := []struct {
		from, event string
		do          func(*scene)
		to          State
		viewers     string
	}{
		{"absent", "take", take, Taken, "none"},
		{"absent", "abort", unknown, Absent, "none"},
		{"taken", "abort", (*scene).abort, Absent, "none"},
		{"live", "abort", (*scene).abort, Absent, "ended"},
		{"waiting", "abort", (*scene).abort, Absent, "ended"},
		{"returned", "abort", (*scene).abort, Absent, "ended"},
		{"taken", "take", refused, Taken, "none"},
		{"taken", "tracks", begin(pictures), Live, "none"},
		{"taken", "clean end", end(Clean), Absent, "none"},
		{"taken", "being ended", end(Ended), Absent, "none"},
		{"taken", "broken end", end(Broken), Absent, "none"},
		{"taken", "time", pass(time.Hour), Taken, "none"},
		{"live", "take", refused, Live, "kept"},
		{"live", "the same tracks", begin(pictures), Live, "kept"},
		{"live", "other tracks", begin(sounds), Live, "ended"},
		{"live", "clean end", end(Clean), Absent, "ended"},
		{"live", "being ended", end(Ended), Absent, "ended"},
		{"live", "broken end", end(Broken), Waiting, "kept"},
		{"live", "time", pass(time.Hour), Live, "kept"},
		{"waiting", "take", take, Taken, "kept"},
		{"waiting", "less than the grace time", pass(10*time.Second - 1), Waiting, "kept"},
		{"waiting", "the grace time", pass(10 * time.Second), Absent, "ended"},
		{"waiting", "close", (*scene).Close, Absent, "ended"},
		{"returned", "take", refused, Taken, "kept"},
		{"returned", "the same tracks", begin(pictures), Live, "kept"},
		{"returned", "other tracks", begin(sounds), Live, "ended"},
		{"returned", "clean end", end(Clean), Waiting, "kept"},
		{"returned", "being ended", end(Ended), Waiting, "kept"},
		{"returned", "broken end", end(Broken), Waiting, "kept"},
		{"returned", "less than the grace time", pass(10*time.Second - 1), Taken, "kept"},
		{"returned", "the grace time", pass(10 * time.Second), Taken, "ended"},
	}
	for _, test := range tests {
		t.Run(test.from+", "+test.event, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := stage(t, test.from)
				test.do(s)
				expectState(t, s.Registry, "a", test.to.String())
				if got := s.viewers(); got != test.viewers {
					t.Errorf("viewers are %s, want %s", got, test.viewers)
				}
			})
		})
	}
}

// TestSnapshots: a session is listed from its tracks on, as live or as one whose
// viewers wait, and keeps when it started and what was counted over a return.
func TestSnapshots(t *testing.T) {
	for from, want := range map[string]State{
		"absent": Absent, "taken": Absent, "live": Live, "waiting": Waiting, "returned": Waiting,
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			s := stage(t, from)
			all := s.Snapshots()
			if want == Absent {
				if len(all) != 0 {
					t.Errorf("a session that is %s is listed: %+v", from, all)
				}
				return
			}
			if len(all) != 1 || all[0].ID != "a" || all[0].State != want || !all[0].Started.Equal(began) ||
				all[0].Source == nil || len(all[0].Tracks) != 1 || all[0].Counts == nil {
				t.Fatalf("a session that is %s is listed as %+v", from, all)
			}
			if from != "returned" {
				return
			}
			s.pass(time.Second)
			s.begin(sounds) // a new stream for the same session
			if now := s.Snapshots()[0]; !now.Started.Equal(began) || now.Counts != all[0].Counts || now.Tracks[0].Kind != media.Audio {
				t.Errorf("after a return it is %+v, before %+v", now, all[0])
			}
		})
	}
}

// TestMarkWaitsForOrder: a frame that waits for the other track's isn't handed on yet.
func TestMarkWaitsForOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry(time.Second)
		p, items, _ := publish(t, r, "a")
		items <- media.Item{Tracks: append(pictures[:1:1], sounds...)}
		items <- picture(0, true)
		handed := make(chan int, 1)
		items <- media.Item{Mark: func() { handed <- p.Stats().Frames[media.Video] }}
		if n := <-handed; n != 1 {
			t.Errorf("at the mark %d pictures were handed on, want 1", n)
		}
		close(items)
	})
}

// TestReturnInTheLastMoment: the returning publisher's tracks may take 5 s more
// than the grace time; then its viewers go, and it has the session for itself
// (REC-2, REC-3).
func TestReturnInTheLastMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stage(t, "waiting")
		s.pass(9 * time.Second)
		s.take()
		s.pass(returning - 1)
		if s.viewers() != "kept" {
			t.Error("viewers are not kept for 5 s after the return")
		}
		s.pass(1)
		if s.viewers() != "ended" {
			t.Error("viewers are kept past 5 s after the return")
		}
		expectState(t, s.Registry, "a", "taken")
		s.begin(pictures)
		expectState(t, s.Registry, "a", "live")
		if s.p.stream == s.watched {
			t.Error("the publisher goes on in bodies that have ended")
		}
	})
}

// TestGivesWay: a publisher that gives way ends, with the cause, before another
// one has the session; viewers stay (ING-9).
func TestGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry(10 * time.Second)
		silent := errors.New("silent")
		p, err := r.Take(t.Context(), "a", source{silent})
		if err != nil {
			t.Fatal(err)
		}
		items, done := make(chan media.Item), make(chan error, 1)
		go func() {
			err := p.Run(items)
			p.End(Broken)
			done <- err
		}()
		items <- media.Item{Tracks: pictures}
		synctest.Wait()
		watched := p.stream
		again, items, _ := publish(t, r, "a")
		select {
		case err := <-done:
			if !errors.Is(err, silent) {
				t.Errorf("the silent publisher ends with %v", err)
			}
		default:
			t.Error("another publisher has the session before the silent one has ended")
		}
		items <- media.Item{Tracks: pictures}
		synctest.Wait()
		if again.stream != watched {
			t.Error("the new publisher doesn't go on in the viewers' bodies")
		}
	})
}

// TestMark is called when all before it has played, not sooner (ING-14), and
// frames may follow.
func TestMark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry(time.Second)
		began := time.Now()
		p, items, done := publish(t, r, "a")
		items <- media.Item{Tracks: pictures}
		called := make(chan time.Duration, 1)
		mark := func() {
			if got := p.Stats().Frames[media.Video]; got != 3 {
				t.Errorf("at the mark %d pictures were handed on, want 3", got)
			}
			called <- time.Since(began)
		}
		for at := time.Duration(0); at < 3*time.Second; at += time.Second {
			item := picture(at, true)
			item.Frame.Duration = time.Second
			items <- item
		}
		items <- media.Item{Mark: mark}
		item := picture(3*time.Second, true)
		item.Frame.Duration = time.Second
		items <- item
		if took := <-called; took < 2*time.Second || took > 3*time.Second {
			t.Errorf("3 s of media had played after %v", took)
		}
		close(items)
		<-done
		if got := p.Stats().Frames[media.Video]; got != 4 {
			t.Errorf("%d pictures were handed on, want 4", got)
		}
		p.End(Clean)
	})
}

// TestGraceIsThePublishersOwn: the time of an earlier break doesn't end a later one's.
func TestGraceIsThePublishersOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry(10 * time.Second)
		for range 3 {
			p, items, done := publish(t, r, "a")
			items <- media.Item{Tracks: pictures}
			close(items)
			<-done
			p.End(Broken)
			time.Sleep(9 * time.Second)
			synctest.Wait()
			expectState(t, r, "a", "waiting")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		expectState(t, r, "a", "absent")
	})
}

// TestRefusedReturn changes nothing: neither that viewers are kept, nor for how
// long (REC-2).
func TestRefusedReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry(10 * time.Second)
		p, items, done := publish(t, r, "a")
		items <- media.Item{Tracks: pictures}
		close(items)
		<-done
		p.End(Broken)
		for _, ending := range []Ending{Broken, Clean, Ended} {
			time.Sleep(3 * time.Second)
			again, _, _ := publish(t, r, "a")
			again.End(ending)
			expectState(t, r, "a", "waiting")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		expectState(t, r, "a", "absent")
	})
}

// TestPlayOut: a publisher isn't told that all has played long before it has,
// however long the last frame is (ING-14).
func TestPlayOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry(time.Second)
		began := time.Now()
		p, items, done := publish(t, r, "a")
		items <- media.Item{Tracks: pictures}
		for at := time.Duration(0); at < 5*time.Second; at += time.Second {
			item := picture(at, true)
			item.Frame.Duration = time.Second
			items <- item
		}
		close(items)
		<-done
		if took := time.Since(began); took < 4*time.Second || took > 5*time.Second {
			t.Errorf("5 s of media were done after %v", took)
		}
		p.End(Clean)
	})
}

// TestFaultyEnd: a session is given up though the publisher's timeline is in
// disorder.
func TestFaultyEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stage(t, "live")
		close(s.items)
		<-s.done
		s.p.timeline = nil // the fault
		func() {
			defer func() {
				if recover() == nil {
					t.Error("ending without a timeline is no fault")
				}
			}()
			s.p.End(Broken)
		}()
		expectState(t, s.Registry, "a", "waiting")
		s.take()
		s.begin(pictures)
		if s.p.stream != s.watched {
			t.Error("the next publisher doesn't go on in the viewers' bodies")
		}
		s.end(Clean)
	})
}

func TestTakenThatBreaksOffHasNoGrace(t *testing.T) {
	r := NewRegistry(time.Hour)
	p, _, _ := publish(t, r, "a")
	p.End(Broken)
	expectState(t, r, "a", "absent")
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry(10 * time.Second)
		if _, _, err := r.Watch(t.Context(), "a", 0); !errors.Is(err, ErrAbsent) {
			t.Errorf("an absent session gives %v, want ErrAbsent", err)
		}

		began := time.Now()
		_, _, err := r.Watch(t.Context(), "a", 7*time.Second)
		if waited := time.Since(began); !errors.Is(err, ErrAbsent) || waited != 7*time.Second {
			t.Errorf("after %v: %v, want ErrAbsent after 7 s", waited, err)
		}
		if len(r.arrivals) != 0 {
			t.Errorf("%d arrivals are left", len(r.arrivals))
		}

		p, items, done := publish(t, r, "a")
		began = time.Now()
		_, _, err = r.Watch(t.Context(), "a", NoPreference)
		if waited := time.Since(began); !errors.Is(err, ErrAbsent) || waited != hold {
			t.Errorf("on a taken session after %v: %v, want ErrAbsent after %v", waited, err, hold)
		}

		type result struct {
			stream *Stream
			slot   *Slot
			err    error
		}
		held := make(chan result, 2)
		for _, wait := range []time.Duration{NoPreference, time.Minute} {
			go func() {
				stream, slot, err := r.Watch(t.Context(), "a", wait)
				held <- result{stream, slot, err}
			}()
		}
		synctest.Wait()
		items <- media.Item{Tracks: pictures}
		items <- picture(0, true)
		items <- picture(40*time.Millisecond, true)
		for range 2 {
			got := <-held
			if got.err != nil || got.slot.Sequence != 0 {
				t.Errorf("a held viewer starts at slot %v: %v, want the first", got.slot, got.err)
			}
		}
		synctest.Wait()
		if _, slot, err := r.Watch(t.Context(), "a", 0); err != nil || slot.Sequence != 1 {
			t.Errorf("a late viewer starts at %v, want at the newest key frame", slot)
		}
		close(items)
		<-done
		p.End(Broken)
		if stream, _, err := r.Watch(t.Context(), "a", 0); err != nil || stream.header == nil {
			t.Errorf("a waiting session gives %v, want its stream", err)
		}
	})
}

func TestWatchWaitsForAnArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry(time.Second)
		got := make(chan error, 1)
		go func() {
			_, slot, err := r.Watch(t.Context(), "a", time.Minute)
			if err == nil && slot.Sequence != 0 {
				err = errors.New("not at the first slot")
			}
			got <- err
		}()
		synctest.Wait()
		// A publisher that is refused changes nothing for who waits.
		p, _, _ := publish(t, r, "a")
		synctest.Wait()
		p.End(Broken)
		synctest.Wait()
		time.Sleep(30 * time.Second)
		_, items, _ := publish(t, r, "a")
		items <- media.Item{Tracks: pictures}
		if err := <-got; err != nil {
			t.Errorf("the waiting viewer gets %v", err)
		}
		close(items)
	})
}

func TestWatchEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry(time.Second)
		gone := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(gone) })
		if _, _, err := r.Watch(ctx, "a", time.Minute); !errors.Is(err, gone) {
			t.Errorf("got %v, want the context's cause", err)
		}
		if len(r.arrivals) != 0 {
			t.Errorf("%d arrivals are left", len(r.arrivals))
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry(time.Hour)
		waiting, items, done := publish(t, r, "waiting")
		items <- media.Item{Tracks: pictures}
		close(items)
		<-done
		waiting.End(Broken)
		live, items, done := publish(t, r, "live")
		items <- media.Item{Tracks: pictures}
		arriving := make(chan error, 1)
		go func() {
			_, _, err := r.Watch(t.Context(), "absent", time.Minute)
			arriving <- err
		}()
		synctest.Wait()

		r.Close()
		if err := <-done; !errors.Is(err, ErrClosed) {
			t.Errorf("the publisher ends with %v, want ErrClosed", err)
		}
		live.End(Broken)
		if err := <-arriving; !errors.Is(err, ErrClosed) {
			t.Errorf("who waited gets %v, want ErrClosed", err)
		}
		if _, err := r.Take(t.Context(), "new", source{}); !errors.Is(err, ErrClosed) {
			t.Errorf("a new publisher gets %v, want ErrClosed", err)
		}
		if len(r.sessions) != 0 {
			t.Errorf("%d sessions are left", len(r.sessions))
		}
	})
}

// TestPicturesBeforeTheFirstKeyFrame of each publisher are dropped (FMT-1,
// REC-2).
func TestPicturesBeforeTheFirstKeyFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry(time.Minute)
		var tags []byte
		for range 2 { // publishers
			p, items, done := publish(t, r, "a")
			items <- media.Item{Tracks: pictures}
			synctest.Wait()
			slot := p.stream.Tail()
			for document := range 2 {
				if document > 0 {
					items <- media.Item{Tracks: pictures}
				}
				for i, key := range []bool{false, false, true, false} {
					item := picture(time.Duration(i)*step, key)
					item.Frame.Payload = []byte{'0' + byte(i)}
					items <- item
				}
			}
			close(items)
			<-done
			for ; slot.Next() != nil; slot = slot.Next() {
				tags = append(tags, slot.media[len(slot.media)-1])
			}
			if got := p.Stats().Dropped; got != 4 {
				t.Errorf("%d frames are counted as dropped, want 4", got)
			}
			p.End(Broken)
		}
		if string(tags) != "23232323" {
			t.Errorf("pictures %q went out, want %q", tags, "23232323")
		}
	})
}

// TestReturns: however often a publisher returns, it wins no time (ING-14), and
// pictures that come before its first key frame take none (REC-2).
func TestReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry(time.Minute)
		began := time.Now()
		var slot *Slot
		for range 5 {
			p, items, _ := publish(t, r, "a")
			items <- media.Item{Tracks: pictures}
			synctest.Wait()
			if slot == nil {
				slot = p.stream.Tail()
			}
			for i := range 25 { // 1 s, of which 0.8 s can be shown
				items <- picture(time.Duration(i)*step, i == 5)
			}
			synctest.Wait()
			p.End(Broken)
		}
		last := time.Duration(-1)
		for n := 0; slot.Next() != nil; slot = slot.Next() {
			at := time.Duration(n) * step
			if early := at - slot.Arrived.Sub(began); early > lead+step {
				t.Fatalf("picture %d went out %v before its time", n, early)
			}
			if got := timeOf(t, slot); got != at {
				t.Fatalf("picture %d is at %v, want %v after the one at %v", n, got, at, last)
			}
			last = at
			n++
		}
		if last < 3*time.Second {
			t.Errorf("the last picture is at %v", last)
		}
	})
}

// timeOf reads the time of a slot of video alone, of which each begins a cluster
// or follows one.
func timeOf(t *testing.T, s *Slot) time.Duration {
	t.Helper()
	b := s.Media()
	if s.opens {
		b = b[len(webm.AppendCluster(nil, s.cluster)):]
	}
	const relative = 1 + 2 // past the id and, of a few bytes, the size and the track
	return s.cluster + time.Duration(int16(binary.BigEndian.Uint16(b[relative:])))*time.Millisecond
}

// TestArrivingLate: who waited for a session gets its stream from the first
// slot on, even if he comes to run after more of it has come.
func TestArrivingLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry(time.Minute)
		_, waiting, err := r.find("a")
		if err != nil {
			t.Fatal(err)
		}
		p, items, done := publish(t, r, "a")
		items <- media.Item{Tracks: pictures}
		items <- picture(0, true)
		items <- picture(step, true)
		close(items)
		<-done
		stream, first, err := r.arrive(t.Context(), "a", waiting, time.Minute)
		if err != nil || first.Sequence != 0 || stream.Join(time.Now()).Sequence != 1 {
			t.Errorf("he starts at %v: %v, want at slot 0", first, err)
		}
		p.End(Clean)
	})
}

// TestJoinPolicy: a group of pictures that is too old or too large isn't replayed.
func TestJoinPolicy(t *testing.T) {
	now := time.Unix(0, 0)
	add := func(s *Stream, after time.Duration, key bool, size int) {
		f := media.Frame{Kind: media.Video, Key: key, Payload: make([]byte, size)}
		s.append(f, after, now.Add(after))
	}
	begin := func() *Stream {
		s := newStream(new(Counts))
		s.begin(pictures)
		add(s, 0, true, 10)
		return s
	}
	s := begin()
	add(s, 9*time.Second, false, 10)
	if got := s.Join(now.Add(10 * time.Second)).Sequence; got != 0 {
		t.Errorf("10 s after the key frame a viewer starts at slot %d, want 0", got)
	}
	if got := s.Join(now.Add(10*time.Second + 1)).Sequence; got != 2 {
		t.Errorf("past 10 s a viewer starts at slot %d, want the tail, 2", got)
	}
	add(s, 11*time.Second, false, 10)
	if s.start.Load() != nil {
		t.Error("a key frame that nobody starts at is kept in memory, and all after it")
	}
	add(s, 12*time.Second, true, 10)
	if got := s.Join(now.Add(12 * time.Second)).Sequence; got != 3 {
		t.Errorf("after the next key frame a viewer starts at slot %d, want 3", got)
	}

	s = begin()
	add(s, time.Second, false, maxReplayBytes-100)
	if got := s.Join(now.Add(time.Second)).Sequence; got != 0 {
		t.Errorf("just under 8 MiB a viewer starts at slot %d, want 0", got)
	}
	add(s, time.Second, false, 200)
	if got := s.Join(now.Add(time.Second)).Sequence; got != 3 {
		t.Errorf("past 8 MiB a viewer starts at slot %d, want the tail, 3", got)
	}
}

// TestJoinAsksForKeyFrame: where the publisher's pictures are being encoded, a
// viewer gets a new key frame rather than an old one played again, unless the
// old one is fresh or the publisher pauses.
func TestJoinAsksForKeyFrame(t *testing.T) {
	now := time.Unix(1000, 0)
	asked := 0
	ask := func() { asked++ }
	s := newStream(new(Counts))
	s.begin(pictures)
	s.asks.Store(&ask)
	add := func(after time.Duration, key bool) {
		s.append(media.Frame{Kind: media.Video, Key: key, Payload: []byte{1}}, after, now.Add(after))
	}
	join := func(after time.Duration, slot uint64, times int) {
		t.Helper()
		if got := s.Join(now.Add(after)).Sequence; got != slot || asked != times {
			t.Errorf("after %v a viewer starts at slot %d, %d key frames were asked for; want %d, %d", after, got, asked, slot, times)
		}
	}
	add(0, true)
	add(fresh, false)
	join(fresh, 0, 0)
	join(fresh+ms, 2, 1)
	add(fresh+100*ms, false)
	join(fresh+100*ms, 3, 1) // one is on its way
	join(fresh+100*ms+flowing+ms, 0, 1)
	add(fresh+seldom+200*ms, false)
	join(fresh+seldom+200*ms, 4, 2) // it has not come
	add(fresh+seldom+300*ms, true)
	join(fresh+seldom+300*ms, 4, 2)

	none := (func())(nil)
	s.asks.Store(&none)
	add(2*time.Second, false)
	join(2*time.Second, 4, 2)
	s.asks.Store(nil)
	join(2*time.Second, 4, 2)
}

func TestChunk(t *testing.T) {
	for size, want := range map[int]string{1: "1", 0xabc: "abc", 1 << 20: "100000"} {
		b := bytes.Repeat([]byte{'x'}, size)
		if got := Chunk(b); !bytes.Equal(got, []byte(want+"\r\n"+string(b)+"\r\n")) {
			t.Errorf("a chunk of %d bytes begins with %q", size, got[:8])
		}
	}
}

// TestContinues: only tracks that the header announced can go on (REC-2).
func TestContinues(t *testing.T) {
	tracks := func(name string) []media.Track {
		c, err := fixtures.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		declared, err := webm.NewDemuxer(bytes.NewReader(c.Data)).Document()
		if err != nil {
			t.Fatal(err)
		}
		return []media.Track{
			{Kind: media.Video, Codec: media.VP8, Picture: declared[0].Picture},
			{
				Kind: media.Audio, Codec: media.Vorbis, Private: declared[1].Private,
				SampleRate: declared[1].SampleRate, Channels: declared[1].Channels,
			},
		}
	}
	s := newStream(new(Counts))
	s.begin(tracks("ebml-two-documents"))
	same := tracks("ebml-two-documents")
	otherComment := tracks("ebml-two-documents")
	otherComment[1].Private = bytes.Clone(otherComment[1].Private)
	headers, err := webm.VorbisHeaders(otherComment[1].Private)
	if err != nil {
		t.Fatal(err)
	}
	headers[1][12] ^= 1 // in the vendor's name
	otherSize := tracks("ebml-two-documents")
	otherSize[0].Picture.Width = 99
	otherRate := tracks("ebml-two-documents")
	otherRate[1].SampleRate++
	otherSetup := tracks("ebml-two-documents")
	otherSetup[1].Private = bytes.Clone(otherSetup[1].Private)
	otherSetup[1].Private[len(otherSetup[1].Private)-2] ^= 1
	tests := []struct {
		name   string
		tracks []media.Track
		want   bool
	}{
		{"the same", same, true},
		{"other comments", otherComment, true},
		{"another picture size", otherSize, true},
		{"another sample rate", otherRate, false},
		{"another Vorbis setup", otherSetup, false},
		{"without sound", same[:1], false},
		{"without pictures", same[1:], false},
	}
	for _, test := range tests {
		if got := s.continues(test.tracks); got != test.want {
			t.Errorf("%s: goes on is %v, want %v", test.name, got, test.want)
		}
	}
}

// BenchmarkAppend is what a frame costs before any viewer is written to.
func BenchmarkAppend(b *testing.B) {
	s := newStream(new(Counts))
	s.begin(pictures)
	f := media.Frame{Kind: media.Video, Payload: make([]byte, 3000)}
	now := time.Now()
	b.ReportAllocs()
	at := time.Duration(0)
	for b.Loop() {
		s.append(f, at, now)
		at += 33 * time.Millisecond
	}
}
