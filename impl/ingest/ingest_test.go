package ingest

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"tureen/fixtures"
	"tureen/impl/live"
	"tureen/impl/media"
	"tureen/impl/webm"
)

// holds is a publisher's source that never gives way.
type holds struct{}

func (holds) GivesWay() error { return nil }

// feed feeds a body to a session of its own.
func feed(t *testing.T, body io.Reader, paused func(Summary)) (Summary, error) {
	t.Helper()
	p, err := live.NewRegistry(time.Second).Take(t.Context(), "a", holds{})
	if err != nil {
		t.Fatal(err)
	}
	s, read, err := Run(body, p, nil, Hooks{Paused: paused, Accept: func(string, []Track) error { return nil }})
	p.End(live.Clean)
	<-read
	return s, err
}

func clip(t *testing.T) *fixtures.Clip {
	t.Helper()
	c, err := fixtures.Open("webm-vp8")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// faulty panics when it is read.
type faulty struct{}

func (faulty) Read([]byte) (int, error) { panic("fault") }

// TestFault: a fault in reading, and one in handing on, ends the session alone.
func TestFault(t *testing.T) {
	var fault *Fault
	c := clip(t)
	begun := io.MultiReader(bytes.NewReader(c.Data[:c.Frames[3].End]), faulty{})
	if _, err := feed(t, begun, nil); !errors.As(err, &fault) || fault.Value != "fault" || len(fault.Stack) == 0 {
		t.Errorf("a reader that panics ends the body with %v", err)
	}
	paused := func(Summary) { panic("another") }
	if _, err := feed(t, &pausing{parts: [][]byte{c.Data[:c.Frames[3].End]}}, paused); !errors.As(err, &fault) || fault.Value != "another" {
		t.Errorf("a mark that panics ends the body with %v", err)
	}
}

// pausing is a body that may end after each part.
type pausing struct{ parts [][]byte }

func (p *pausing) Read(b []byte) (int, error) {
	if len(p.parts) == 0 {
		return 0, io.EOF
	}
	if len(p.parts[0]) == 0 {
		p.parts = p.parts[1:]
		return 0, ErrPause
	}
	n := copy(b, p.parts[0])
	p.parts[0] = p.parts[0][n:]
	return n, nil
}

// TestPause: at each pause the summary says what has come, and the body goes on
// where it was cut; inside of headers it ends there.
func TestPause(t *testing.T) {
	c := clip(t)
	mid := c.Frames[4].End - 5
	parts := [][]byte{c.Data[:c.Frames[2].End], c.Data[c.Frames[2].End:mid], c.Data[mid:c.Frames[5].End]}
	var got []Summary
	s, err := feed(t, &pausing{parts: parts}, func(s Summary) { got = append(got, s) })
	if err != nil || s.Bytes != c.Frames[5].End || s.Truncated {
		t.Errorf("the body ends with %v, %+v", err, s)
	}
	if len(got) != 3 {
		t.Fatalf("%d pauses, want 3", len(got))
	}
	for i, want := range []Summary{
		{Bytes: c.Frames[2].End, DurationMS: 100},
		{Bytes: mid, DurationMS: 133, Truncated: true},
		{Bytes: c.Frames[5].End, DurationMS: 200},
	} {
		if g := got[i]; g.Bytes != want.Bytes || g.Truncated != want.Truncated || max(g.DurationMS-want.DurationMS, want.DurationMS-g.DurationMS) > 2 ||
			g.SessionID != "a" || len(g.Tracks) != 1 {
			t.Errorf("at pause %d the summary is %+v, want %+v", i, g, want)
		}
	}

	if _, err := feed(t, &pausing{parts: [][]byte{c.Data[:50], c.Data[50:]}}, nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("a pause inside of the headers ends the body with %v", err)
	}
}

// TestLongVorbisHeaders are refused: every viewer's body would begin with them.
func TestLongVorbisHeaders(t *testing.T) {
	c, err := fixtures.Open("webm-vorbis")
	if err != nil {
		t.Fatal(err)
	}
	tracks, err := webm.NewDemuxer(bytes.NewReader(c.Data)).Document()
	if err != nil {
		t.Fatal(err)
	}
	track := tracks[0]
	track.Kind = media.Audio
	if err := servable(track); err != nil {
		t.Errorf("ordinary headers of %d bytes: %v", len(track.Private), err)
	}
	track.Private = append(track.Private, make([]byte, maxPrivate)...)
	if err := servable(track); !errors.Is(err, ErrUnsupported) {
		t.Errorf("headers of %d bytes: %v", len(track.Private), err)
	}
}
