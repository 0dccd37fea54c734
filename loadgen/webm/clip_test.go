package webm

import (
	"errors"
	"testing"
	"time"

	"tureen/fixtures"
)

// indexed returns a fixture's frames of the tracks that are served, as its index has them.
func indexed(c *fixtures.Clip) []fixtures.Frame {
	served := map[int]bool{}
	for _, kind := range []string{"video", "audio"} {
		if track, ok := c.Track(kind); ok {
			served[track.Number] = true
		}
	}
	var frames []fixtures.Frame
	for _, f := range c.Frames {
		if served[f.Track] {
			frames = append(frames, f)
		}
	}
	return frames
}

func TestParseAgreesWithTheFixturesIndexes(t *testing.T) {
	parsed := 0
	for _, name := range fixtures.Names() {
		fixture, err := fixtures.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if fixture.Malformed || fixture.Container != "webm" && fixture.Container != "matroska" {
			continue
		}
		clip, err := Parse(fixture.Data)
		if errors.Is(err, ErrNotPlain) {
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		parsed++
		want := indexed(fixture)
		if len(clip.Frames) != len(want) {
			t.Errorf("%s: %d frames, the index has %d", name, len(clip.Frames), len(want))
			continue
		}
		for i, f := range clip.Frames {
			// The index counts a BlockGroup's other elements in, which follow the frame.
			inGroup := i+1 == len(clip.Frames) || want[i].End < clip.Frames[i+1].End
			if f.Timestamp != want[i].PTS || f.Size != want[i].Size || f.End > want[i].End || !inGroup {
				t.Errorf("%s: frame %d at %v of %d bytes up to %d, the index has %+v", name, i, f.Timestamp, f.Size, f.End, want[i])
				break
			}
		}
	}
	if parsed < 10 {
		t.Errorf("only %d fixtures were parsed", parsed)
	}
}

func TestParseTellsWhatCannotBeSentAgain(t *testing.T) {
	for _, name := range []string{"ebml-lacing-xiph", "ebml-zlib", "ebml-header-stripping", "ebml-two-documents"} {
		fixture, err := fixtures.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(fixture.Data); !errors.Is(err, ErrNotPlain) {
			t.Errorf("%s: error %v, want ErrNotPlain", name, err)
		}
	}
	for name, data := range map[string][]byte{"empty": nil, "text": []byte("no media"), "no frames": head()} {
		if _, err := Parse(data); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestWriterGoesOnFromLoopToLoop(t *testing.T) {
	clip, err := Parse(head(cluster(0, block(idSimpleBlock, videoTrack, 0, 0x80, keyPicture),
		block(idSimpleBlock, audioTrack, 5, 0x80, sound), block(idSimpleBlock, videoTrack, 33, 0, picture))))
	if err != nil {
		t.Fatal(err)
	}
	const period = 40 * time.Second
	w := NewWriter(clip)
	var s Scanner
	for loop := range 4 {
		for i := range clip.Frames {
			f := &clip.Frames[i]
			at := f.Timestamp + time.Duration(loop)*period
			frames, err := scan(&s, w.Append(nil, f, at))
			if err != nil {
				t.Fatal(err)
			}
			if len(frames) != 1 {
				t.Fatalf("loop %d, frame %d: %d frames in what was written", loop, i, len(frames))
			}
			got := frames[0]
			if got.Timestamp != at || got.Kind != f.Kind || got.Key != f.Key || got.Size != f.Size {
				t.Errorf("loop %d, frame %d: wrote %+v for %+v at %v", loop, i, got, f.Frame, at)
			}
			if got.Hash != 0 && got.Hash != f.Hash {
				t.Errorf("loop %d, frame %d: payload changed", loop, i)
			}
		}
	}
}

// Sound alone has no key frames at which clusters would begin, but a block's time in its cluster has 16 bits only.
func TestWriterBeginsClustersWithoutPictures(t *testing.T) {
	clip, err := Parse(head(cluster(0, block(idSimpleBlock, audioTrack, 0, 0x80, sound))))
	if err != nil {
		t.Fatal(err)
	}
	w := NewWriter(clip)
	var s Scanner
	for at := time.Duration(0); at < 2*time.Minute; at += 21 * time.Millisecond {
		frames, err := scan(&s, w.Append(nil, &clip.Frames[0], at))
		if err != nil {
			t.Fatal(err)
		}
		if len(frames) != 1 || frames[0].Timestamp != at {
			t.Fatalf("at %v: %+v", at, frames)
		}
	}
}

func TestSizesOfAllWidths(t *testing.T) {
	for _, size := range []int{0, 1, 126, 127, 128, 16382, 16383, 2097150, 2097151, 268435454, 268435455} {
		p := appendSize(nil, size)
		if vintLength(p[0]) != len(p) {
			t.Errorf("%d: %x says it has %d bytes", size, p, vintLength(p[0]))
			continue
		}
		if got, known := sizeOf(p); got != uint64(size) || !known {
			t.Errorf("%d: read back %d, known %v", size, got, known)
		}
	}
}
