package live

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"tureen/fixtures"
	"tureen/impl/media"
	"tureen/impl/webm"
)

var pictures = []media.Track{{Kind: media.Video, Codec: media.VP8, Picture: media.Picture{Width: 320, Height: 180}}}

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

func TestStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry(10 * time.Second)
		expectState(t, r, "a", "absent")
		p, items, done := publish(t, r, "a")
		expectState(t, r, "a", "taken")
		if _, err := r.Take(t.Context(), "a", source{}); !errors.Is(err, ErrTaken) {
			t.Errorf("a second publisher gets %v, want ErrTaken", err)
		}
		items <- media.Item{Tracks: pictures}
		synctest.Wait()
		expectState(t, r, "a", "live")
		close(items)
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		p.End(Broken)
		expectState(t, r, "a", "waiting")

		p, items, done = publish(t, r, "a")
		expectState(t, r, "a", "taken")
		items <- media.Item{Tracks: pictures}
		synctest.Wait()
		expectState(t, r, "a", "live")
		close(items)
		<-done
		p.End(Broken)
		time.Sleep(10*time.Second - time.Millisecond)
		synctest.Wait()
		expectState(t, r, "a", "waiting")
		time.Sleep(time.Millisecond)
		synctest.Wait()
		expectState(t, r, "a", "absent")

		p, items, done = publish(t, r, "a")
		items <- media.Item{Tracks: pictures}
		close(items)
		<-done
		p.End(Clean)
		expectState(t, r, "a", "absent")
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
		s := newStream()
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
	s := newStream()
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
	s := newStream()
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
