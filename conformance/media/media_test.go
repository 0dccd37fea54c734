package media

import (
	"testing"
	"time"

	"tureen/conformance/webm"
	"tureen/fixtures"
)

// read has the suite's reader read a source.
func read(s *Source) *webm.Reader {
	r := webm.NewReader()
	for _, p := range s.Pieces {
		r.Feed(p.Data, time.Now())
	}
	r.Finish()
	return r
}

// TestComposed: what is put together is WebM without a fault, and holds the frames it says.
func TestComposed(t *testing.T) {
	plain := Fixture("webm-vp8-vorbis")
	tests := []*Source{
		Cut(plain, 0, time.Second), Cut(plain, 1500*time.Millisecond, 3*time.Second),
		Without(plain, webm.Audio), Without(plain, webm.Video),
		Dense(Fixture("webm-load"), 60, time.Second), Stretched(plain, 4*time.Second), Padded(Cut(plain, 0, time.Second), 100),
	}
	for _, s := range tests {
		r := read(s)
		for _, f := range r.Faults {
			if f.Rule != "WAT-3" { // a cut may begin anywhere
				t.Errorf("%s: %v", s.Name, f)
			}
		}
		if len(r.Blocks) != len(s.Frames) {
			t.Fatalf("%s: %d blocks of %d frames", s.Name, len(r.Blocks), len(s.Frames))
		}
		for i, b := range r.Blocks {
			f := s.Frames[i]
			if b.Hash != webm.Hash(f.Payload) || b.Kind != f.Kind || b.Time != f.Time.Truncate(time.Millisecond) || b.Key != f.Key {
				t.Fatalf("%s, block %d: %+v, want %v %v", s.Name, i, b, f.Kind, f.Time)
			}
		}
	}
}

// TestFixtures: every clip of VP8 and Vorbis is a source whose pieces are the clip.
func TestFixtures(t *testing.T) {
	for _, name := range fixtures.Names() {
		clip, _ := fixtures.Open(name)
		if clip.Container != "webm" && clip.Container != "matroska" {
			continue
		}
		s := Fixture(name)
		if string(s.Bytes()) != string(clip.Data) || s.Size() != len(clip.Data) {
			t.Errorf("%s: pieces of %d bytes, the clip has %d", name, s.Size(), len(clip.Data))
		}
		for i := 1; i < len(s.Pieces); i++ {
			if s.Pieces[i].Due < s.Pieces[i-1].Due {
				t.Errorf("%s: piece %d is due before the one before it", name, i)
			}
		}
		if last := len(s.Pieces) - 1; last > 0 && !clip.Malformed {
			if d := s.Pieces[last].Due - clip.Duration; d > 50*time.Millisecond || d < -250*time.Millisecond {
				t.Errorf("%s: the last piece is due %v from its end", name, d)
			}
		}
	}
}
