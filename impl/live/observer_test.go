package live

import (
	"bytes"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"tureen/impl/media"
)

// TestObserver: the observer is told of each stream once, with its tracks known
// and no frame in it, and of its end.
func TestObserver(t *testing.T) {
	kept := func(s *scene) { s.end(Broken); s.take(); s.begin(pictures) }
	replaced := func(s *scene) { s.end(Broken); s.take(); s.begin(sounds) }
	tests := map[string]struct {
		what []func(*scene)
		want []string
	}{
		"live":                 {nil, []string{"begun 1"}},
		"clean end":            {[]func(*scene){func(s *scene) { s.end(Clean) }}, []string{"begun 1", "ended 1"}},
		"waiting":              {[]func(*scene){func(s *scene) { s.end(Broken) }}, []string{"begun 1"}},
		"grace time over":      {[]func(*scene){func(s *scene) { s.end(Broken); s.pass(10 * time.Second) }}, []string{"begun 1", "ended 1"}},
		"returned":             {[]func(*scene){kept}, []string{"begun 1"}},
		"other tracks":         {[]func(*scene){replaced}, []string{"begun 1", "ended 1", "begun 2"}},
		"returned, other ones": {[]func(*scene){kept, replaced}, []string{"begun 1", "ended 1", "begun 2"}},
		"shut down": {[]func(*scene){func(s *scene) {
			s.end(Broken)
			s.Close()
		}}, []string{"begun 1", "ended 1"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got []string
				seen := 0
				s := stage(t, "absent")
				s.Observe(func(session string, stream *Stream) func() {
					seen++
					number := string(rune('0' + seen))
					if session != "a" || len(stream.Tracks()) != 1 || stream.Tail().Sequence != 0 {
						t.Errorf("told of session %q with %d tracks, %d frames", session, len(stream.Tracks()), stream.Tail().Sequence)
					}
					got = append(got, "begun "+number)
					return func() { got = append(got, "ended "+number) }
				})
				s.take()
				s.begin(pictures)
				for _, what := range test.what {
					what(s)
				}
				if !slices.Equal(got, test.want) {
					t.Errorf("told of %q, want %q", got, test.want)
				}
				if s.State("a") == Live {
					s.end(Clean)
				}
			})
		})
	}
}

// TestSlotHoldsItsFrame: what other outputs need of a frame is kept once, within
// the bytes for viewers.
func TestSlotHoldsItsFrame(t *testing.T) {
	s := newStream(new(Counts))
	s.begin(pictures)
	slot, payload := s.Tail(), []byte("a picture")
	at := 1234567 * time.Microsecond
	s.append(media.Frame{Kind: media.Video, Key: true, Payload: payload}, at, time.Now())
	if slot.Kind != media.Video || slot.Time != at || !slot.Start || !bytes.Equal(slot.Payload, payload) {
		t.Errorf("the slot has %v at %v, start %t, payload %q", slot.Kind, slot.Time, slot.Start, slot.Payload)
	}
	if m := slot.Media(); &slot.Payload[len(payload)-1] != &m[len(m)-1] {
		t.Error("the slot keeps the payload twice")
	}
}
