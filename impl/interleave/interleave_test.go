package interleave_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"tureen/impl/interleave"
	"tureen/impl/media"
)

// out is what a queue has written, and when.
type out struct {
	frames []media.Frame
	when   []time.Duration
}

// order is the kinds and times of what was written.
func (o *out) order() (all []string) {
	for _, f := range o.frames {
		all = append(all, name(f.Kind, f.Time))
	}
	return all
}

func name(kind media.Kind, at time.Duration) string { return kind.String() + " " + at.String() }

// start runs a queue with both tracks open until the test ends.
func start(t *testing.T) (*interleave.Queue, *out) {
	t.Helper()
	o := &out{}
	began := time.Now()
	q := interleave.New(interleave.Span, func(f media.Frame) error {
		o.frames, o.when = append(o.frames, f), append(o.when, time.Since(began))
		return nil
	})
	q.Open(media.Video)
	q.Open(media.Audio)
	ctx, cancel := context.WithCancel(t.Context())
	go q.Run(ctx)
	t.Cleanup(cancel)
	return q, o
}

const (
	ms      = time.Millisecond
	picture = 40 * ms // length of a picture
	packet  = 20 * ms // length of a packet of sound
)

func put(t *testing.T, q *interleave.Queue, kind media.Kind, at time.Duration) {
	t.Helper()
	length := picture
	if kind == media.Audio {
		length = packet
	}
	if _, err := q.Put(media.Frame{Kind: kind, Time: at, Duration: length, Payload: []byte{1}}); err != nil {
		t.Error(err)
	}
}

// TestSoundInItsEncoder has sound come 50 ms of media after its pictures: each
// picture waits for just that.
func TestSoundInItsEncoder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, o := start(t)
		const lag = 60 * ms
		for at := time.Duration(0); at < 2*time.Second; at += packet {
			q.Feed(media.Audio, at+packet)
			if at%picture == 0 {
				q.Feed(media.Video, at)
				put(t, q, media.Video, at)
			}
			if at >= lag {
				put(t, q, media.Audio, at-lag)
			}
			time.Sleep(packet)
		}
		synctest.Wait()
		if !slices.IsSortedFunc(o.frames, func(a, b media.Frame) int { return int(a.Time - b.Time) }) {
			t.Errorf("out of order: %v", o.order())
		}
		for i, f := range o.frames {
			if late := o.when[i] - f.Time; f.Kind == media.Video && late > lag+packet {
				t.Errorf("the picture of %v goes out %v late, want at most %v", f.Time, late, lag+packet)
			}
		}
	})
}

// TestSoundFallsSilent has pictures wait for sound that is under way and never
// comes: once, and no longer than it takes.
func TestSoundFallsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, o := start(t)
		put(t, q, media.Audio, 0)
		q.Feed(media.Audio, 50*ms)
		for at := picture; at < 4*time.Second; at += picture {
			put(t, q, media.Video, at)
			time.Sleep(picture)
		}
		synctest.Wait()
		if len(o.frames) != 100 {
			t.Fatalf("%d frames went out, want all 100", len(o.frames))
		}
		const bound = 700 * ms
		for i, f := range o.frames {
			late := o.when[i] - (f.Time - picture)
			if late > bound || f.Time > time.Second && late > 0 {
				t.Errorf("the picture of %v goes out %v late", f.Time, late)
			}
		}
	})
}

// TestNothingUnderWay has pictures alone go out at once, but for the beginning.
func TestNothingUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, o := start(t)
		for at := time.Duration(0); at < 2*time.Second; at += picture {
			put(t, q, media.Video, at)
			time.Sleep(picture)
		}
		synctest.Wait()
		for i, f := range o.frames {
			if late := o.when[i] - f.Time; late > 450*ms || f.Time > time.Second && late > 0 {
				t.Errorf("the picture of %v goes out %v late", f.Time, late)
			}
		}
	})
}

// TestFragments has a second of pictures come before that second's sound, as
// they are in a fragmented MP4 that is sent live.
func TestFragments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, o := start(t)
		for second := time.Duration(0); second < 5*time.Second; second += time.Second {
			for at := second; at < second+time.Second; at += picture {
				q.Feed(media.Video, at)
				if second > 0 { // the first ones are held until the tracks are known
					put(t, q, media.Video, at)
				}
				time.Sleep(picture)
			}
			for at := second; second == 0 && at < second+time.Second; at += picture {
				put(t, q, media.Video, at)
			}
			for at := second; at < second+time.Second; at += packet {
				q.Feed(media.Audio, at+packet)
				put(t, q, media.Audio, at)
			}
		}
		q.Finish(media.Video)
		q.Finish(media.Audio)
		if !slices.IsSortedFunc(o.frames, func(a, b media.Frame) int { return int(a.Time - b.Time) }) {
			t.Errorf("out of order: %v", o.order())
		}
		if len(o.frames) != 5*(25+50) {
			t.Errorf("%d frames went out, want %d", len(o.frames), 5*(25+50))
		}
	})
}

// TestStepBack has the publisher's clock begin anew.
func TestStepBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, o := start(t)
		for _, base := range []time.Duration{time.Hour, 0} {
			for at := base; at < base+time.Second; at += picture {
				q.Feed(media.Audio, at+picture)
				put(t, q, media.Video, at)
				time.Sleep(picture)
				put(t, q, media.Audio, at)
				put(t, q, media.Audio, at+packet)
			}
		}
		time.Sleep(time.Second) // the last ones wait, as nothing says that they are
		synctest.Wait()
		if len(o.frames) != 2*(25+50) {
			t.Errorf("%d frames went out, want %d", len(o.frames), 2*(25+50))
		}
		for i, f := range o.frames {
			if i > 0 && f.Time < o.frames[i-1].Time && f.Time != 0 {
				t.Errorf("%v after %v", name(f.Kind, f.Time), o.order()[i-1])
			}
		}
	})
}

// TestFull holds a track back that is too far ahead of what is written.
func TestFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan error)
		q := interleave.New(interleave.Span, func(media.Frame) error { return <-release })
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go q.Run(ctx)
		put(t, q, media.Video, 0) // is being written
		synctest.Wait()
		put(t, q, media.Video, picture)
		put(t, q, media.Video, picture+interleave.Span)
		blocked := make(chan time.Duration)
		go func() {
			waited, _ := q.Put(media.Frame{Kind: media.Video, Time: 2 * interleave.Span, Payload: []byte{1}})
			blocked <- waited
		}()
		time.Sleep(time.Second)
		select {
		case <-blocked:
			t.Fatal("more is taken than Span")
		default:
		}
		broken := errors.New("broken")
		release <- broken
		if waited := <-blocked; waited != time.Second {
			t.Errorf("it says that it waited for %v, want 1 s", waited)
		}
		if err := q.Finish(media.Video); !errors.Is(err, broken) {
			t.Errorf("error %v, want the writing's", err)
		}
	})
}

// TestTrim has a track begin with what is new, at a key frame, before anything is
// written.
func TestTrim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var written []time.Duration
		q := interleave.New(interleave.Span, func(f media.Frame) error { written = append(written, f.Time); return nil })
		frame := func(at time.Duration) media.Frame {
			return media.Frame{Kind: media.Video, Time: at, Key: at%time.Second == 0, Payload: []byte{1}}
		}
		for at := time.Duration(0); at <= 5*time.Second; at += picture {
			if f := frame(at); q.Full(f) {
				q.Trim(f)
			}
			if waited, err := q.Put(frame(at)); waited > 0 || err != nil {
				t.Fatalf("a frame waits for %v, error %v", waited, err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go q.Run(ctx)
		if err := q.Finish(media.Video); err != nil {
			t.Fatal(err)
		}
		if written[0] != 2*time.Second || len(written) != 76 {
			t.Errorf("%d frames are left from %v on, want 76 from 2 s on", len(written), written[0])
		}
	})
}
