package publish

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tureen/fixtures"
	"tureen/loadgen/webm"
)

func openSource(t *testing.T, name string) *Source {
	t.Helper()
	s, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEveryInputHasASchedule(t *testing.T) {
	for _, name := range fixtures.Names() {
		clip, err := fixtures.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if clip.Malformed {
			if _, err := Open(name); !errors.Is(err, ErrInput) {
				t.Errorf("%s: malformed, but error %v", name, err)
			}
			continue
		}
		s := openSource(t, name)
		for i := 1; i < len(s.Frames); i++ {
			if s.Frames[i].Due < s.Frames[i-1].Due {
				t.Errorf("%s: frame %d is due before the one sent ahead of it", name, i)
				break
			}
		}
		if s.Frames[0].Due > 200*time.Millisecond {
			t.Errorf("%s: first frame is due at %v", name, s.Frames[0].Due)
		}
		if last := s.Frames[len(s.Frames)-1].Due; s.Period > 0 && last >= s.Period {
			t.Errorf("%s: a loop of %v, with a frame due at %v", name, s.Period, last)
		}
	}
}

// The stamps of a clip's pictures count in the order of presentation.
func TestNumbersAgreeWithTheIndex(t *testing.T) {
	for _, name := range []string{"webm-load", "mkv-h264-bframes-aac"} {
		clip, err := fixtures.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		video, _ := clip.Track("video")
		numbers := map[time.Duration]int{}
		for _, f := range clip.FramesOf(video.Number) {
			numbers[f.PTS] = f.Number
		}
		first := clip.Frames[0].PTS
		for _, f := range clip.Frames {
			first = min(first, f.PTS)
		}
		for _, f := range openSource(t, name).Frames {
			if f.Kind != webm.Video {
				continue
			}
			if want, ok := numbers[f.PTS+first]; !ok || f.Number != want {
				t.Errorf("%s: frame at %v has number %d, the index says %d", name, f.PTS, f.Number, want)
				break
			}
		}
	}
}

func TestLoopRepeatsWithoutASeam(t *testing.T) {
	s := openSource(t, "webm-load")
	if s.Period != 4*time.Second {
		t.Fatalf("loop of %v, want 4 s", s.Period)
	}
	stream := s.stream()
	var scanner webm.Scanner
	last := map[webm.Kind]time.Duration{webm.Video: -s.Interval(webm.Video), webm.Audio: -s.Interval(webm.Audio)}
	for range 3 * len(s.Frames) {
		p, due, ok := stream.append(nil)
		if !ok {
			t.Fatal("a loop has ended")
		}
		var frames []webm.Frame
		for len(p) > 0 {
			n, complete, err := scanner.Next(p)
			if err != nil {
				t.Fatal(err)
			}
			if p = p[n:]; complete {
				frames = append(frames, scanner.Frame)
			}
		}
		if len(frames) != 1 {
			t.Fatalf("%d frames in one write", len(frames))
		}
		f := frames[0]
		if f.Timestamp != due {
			t.Fatalf("frame at %v is due at %v", f.Timestamp, due)
		}
		if gap := f.Timestamp - last[f.Kind]; gap <= 0 || gap > 2*s.Interval(f.Kind) {
			t.Errorf("%v frame at %v comes %v after the one before", f.Kind, f.Timestamp, gap)
		}
		last[f.Kind] = f.Timestamp
	}
	if last[webm.Video] < 11*time.Second {
		t.Errorf("three loops of 4 s came to %v", last[webm.Video])
	}
}

func TestOnceSendsTheBytesAsTheyAre(t *testing.T) {
	for _, name := range []string{"mp4-faststart", "mpegts", "flv", "ebml-lacing-xiph"} {
		clip, err := fixtures.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		s := openSource(t, name)
		if end, once := s.End(); !once || end < 2*time.Second {
			t.Errorf("%s: ends at %v, once %v", name, end, once)
		}
		var sent []byte
		stream := s.stream()
		for {
			p, _, ok := stream.append(nil)
			if !ok {
				break
			}
			sent = append(sent, p...)
		}
		if !bytes.Equal(sent, clip.Data) {
			t.Errorf("%s: %d bytes sent, not the clip's %d", name, len(sent), len(clip.Data))
		}
	}
}

// A lace can't be sent before its last frame is there, and what begins anew not before what came first is over.
func TestScheduleOfOddFiles(t *testing.T) {
	laced := openSource(t, "ebml-lacing-xiph")
	together := 0
	for i := 1; i < len(laced.Frames); i++ {
		a, b := laced.Frames[i-1], laced.Frames[i]
		if a.end == b.end {
			together++
			if a.Due != b.Due || a.Due < b.PTS {
				t.Fatalf("frames of one lace, at %v and %v, are due at %v and %v", a.PTS, b.PTS, a.Due, b.Due)
			}
		}
	}
	if together == 0 {
		t.Error("no laces")
	}
	again := openSource(t, "ebml-two-documents")
	if end, _ := again.End(); !again.Restarts || end < 3500*time.Millisecond {
		t.Errorf("two documents of 2 s: begins anew %v, ends at %v", again.Restarts, end)
	}
	if laced.Restarts {
		t.Error("laces are taken for a new beginning")
	}
}

func TestOpenFile(t *testing.T) {
	clip, err := fixtures.Open("webm-vp8")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "mine.webm")
	if err := os.WriteFile(path, clip.Data, 0o600); err != nil {
		t.Fatal(err)
	}
	s := openSource(t, path)
	if s.Name != "mine.webm" || s.Period == 0 || !s.Traceable() || s.Has(webm.Audio) {
		t.Errorf("%s: loop of %v, traceable %v, sound %v", s.Name, s.Period, s.Traceable(), s.Has(webm.Audio))
	}
	text := filepath.Join(t.TempDir(), "text.webm")
	if err := os.WriteFile(text, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{text, "no-such-fixture", "/no/such/file.webm", "mp4"} {
		if _, err := Open(name); !errors.Is(err, ErrInput) {
			t.Errorf("%s: error %v, want ErrInput", name, err)
		}
	}
}

func TestTraceable(t *testing.T) {
	for name, want := range map[string]bool{
		"webm-load": true, "webm-vorbis": true, "webm-vp8-opus": true,
		"webm-vp9-opus": false, "mkv-h264-aac": false, "mp4-faststart": false, "ebml-lacing-xiph": false,
	} {
		if got := openSource(t, name).Traceable(); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}
