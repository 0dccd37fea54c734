package clients_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tureen/fixtures/stamp"
	"tureen/loadgen/publish"
	"tureen/loadgen/webm"
)

// The clip that is on the air while viewers come and go: 4 s at 640×360, over
// and over. Its pictures bear numbers from 0 to loopPictures-1.
const (
	loopClip     = "webm-load"
	loopPictures = 120
	loopRate     = 30 // pictures a second
	loopWidth    = 640
	loopHeight   = 360
)

// late is how many pictures are on the air before a late viewer comes: it comes
// between two key frames, which lie a second apart.
const late = 40

// broadcast is a stream on the air.
type broadcast struct {
	session string
	url     string
	*viewer // which has seen it from the beginning
	end     func()
	sent    []frame // of the clip
}

// onAir publishes the loop to a session of its own, until end is called or the
// test ends, and waits until a viewer who comes now is late.
func onAir(ctx context.Context, t *testing.T, p *proxy) *broadcast {
	t.Helper()
	source, err := publish.Open(loopClip)
	if err != nil {
		t.Fatal(err)
	}
	b := &broadcast{session: newSession(t, p), sent: published(t, open(t, loopClip).Data)}
	b.url = p.url(b.session)
	b.viewer = watch(ctx, t, b.url, true)
	end := sends(ctx, t, p.address(), b.session, source)
	b.end = sync.OnceFunc(func() {
		if err := end(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(b.end)
	b.await(ctx, t, late)
	return b
}

// sends publishes a source to a session of the proxy that is found at an
// address, until end is called, which tells how it went, or the test ends.
func sends(ctx context.Context, t *testing.T, address, session string, source *publish.Source) (end func() error) {
	t.Helper()
	publisher, err := publish.Dial(ctx, publish.Config{
		Address: address, Host: address, Path: "/stream/" + session, Source: source,
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	ctx, stop := context.WithCancel(ctx)
	go func() {
		answer, err := publisher.Run(ctx, time.Now())
		if err == nil && answer.Status != http.StatusOK {
			err = fmt.Errorf("the publisher's answer: %+v", answer)
		}
		ended <- err
	}()
	end = sync.OnceValue(func() error {
		stop()
		defer publisher.Close()
		return <-ended
	})
	t.Cleanup(func() { end() })
	return end
}

// checkLate judges the body of a viewer who came late: it has all that the
// first viewer got from one of its key frames on, the newest when it came or a
// later one.
func (b *broadcast) checkLate(t *testing.T, got body) {
	t.Helper()
	first := b.whole(t)
	skipped, err := untouched(first.frames, got.frames)
	if err != nil {
		t.Errorf("the late viewer's frames against the first one's: %v", err)
	}
	if newest := late - late%loopRate; skipped < newest {
		t.Errorf("a viewer who came after %d pictures was sent the %d. one, want the %d. or later", late, skipped, newest)
	}
	for i, f := range of(webm.Video, first.frames) {
		if want := of(webm.Video, b.sent)[i%loopPictures]; string(f.payload) != string(want.payload) {
			t.Fatalf("the first viewer's picture %d isn't the clip's", i)
		}
	}
}

// stamps reads the numbers of pictures that follow each other in bare luma, and
// expects that each is the one after the last.
func stamps(t *testing.T, luma [][]byte) {
	t.Helper()
	last := -1
	for i, plane := range luma {
		n, err := stamp.ReadLuma(plane, loopWidth, loopWidth, loopHeight)
		if err != nil {
			t.Fatalf("decoded picture %d: %v", i, err)
		}
		if i == 0 && n%loopRate != 0 {
			t.Errorf("the first decoded picture bears the number %d, which is no key frame's", n)
		}
		if i > 0 && n != (last+1)%loopPictures {
			t.Errorf("the picture numbered %d is followed by %d", last, n)
		}
		last = n
	}
}

// planes cuts decoded pictures of so many bytes each apart.
func planes(t *testing.T, raw []byte, size int) [][]byte {
	t.Helper()
	if len(raw)%size != 0 {
		t.Errorf("%d bytes of pictures, which isn't a multiple of %d", len(raw), size)
	}
	var all [][]byte
	for ; len(raw) >= size; raw = raw[size:] {
		all = append(all, raw[:size])
	}
	return all
}

// checkSound expects decoded sound of 16 bits that lasts at least so long and
// isn't silent.
func checkSound(t *testing.T, pcm []byte, least time.Duration) {
	t.Helper()
	const second = 48000 * 2 * 2 // bytes of two channels
	if d := time.Duration(len(pcm)) * time.Second / second; d < least {
		t.Errorf("%v of decoded sound, want at least %v", d, least)
	}
	loudest := 0
	for i := 0; i+1 < len(pcm); i += 2 {
		loudest = max(loudest, int(int16(uint16(pcm[i])|uint16(pcm[i+1])<<8)))
	}
	const audible = 1000 // the clip's tone has some ten times as much
	if loudest < audible {
		t.Errorf("the decoded sound's loudest sample is %d of 32767", loudest)
	}
}

// progress is the last value of a key in what ffmpeg's -progress printed.
func progress(t *testing.T, printed, key string) int {
	t.Helper()
	last := -1
	for line := range strings.Lines(printed) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), key+"="); ok {
			n, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil {
				t.Fatalf("ffmpeg's progress: %v", err)
			}
			last = n
		}
	}
	return last
}

// probed is what ffprobe prints.
type probed struct {
	Frames []struct {
		Kind   string `json:"media_type"`
		Key    int    `json:"key_frame"`
		At     string `json:"pts_time"`
		Width  int    `json:"width"`
		Height int    `json:"height"`
	} `json:"frames"`
	Streams []struct {
		Codec   string `json:"codec_name"`
		Width   int    `json:"width"`
		Height  int    `json:"height"`
		Decoded string `json:"nb_read_frames"`
	} `json:"streams"`
}

// watched is how much of a stream ffprobe and ffmpeg read, in seconds.
const watched = "3"

// watchedPictures allows for the first reading's end between two pictures.
const watchedPictures = 3*loopRate - 1

// TestFFprobeWatches has ffprobe join late, decode and count.
func TestFFprobeWatches(t *testing.T) {
	ctx := begin(t)
	air := onAir(ctx, t, plain)
	ffprobe := run(ctx, t, "ffprobe", args(words("-v error -count_frames -of json -read_intervals %+"+watched),
		words("-show_entries stream=codec_name,width,height,nb_read_frames:frame=media_type,key_frame,pts_time,width,height"),
		[]string{air.url}))
	ffprobe.succeeds(t)
	ffprobe.quiet(t)
	var got probed
	if err := json.Unmarshal([]byte(ffprobe.stdout.String()), &got); err != nil {
		t.Fatalf("ffprobe prints: %v", err)
	}
	checkStreams(t, got)
	checkFrames(t, got)
}

func checkStreams(t *testing.T, got probed) {
	t.Helper()
	if len(got.Streams) != 2 {
		t.Fatalf("ffprobe finds %d tracks, want 2", len(got.Streams))
	}
	video, audio := got.Streams[0], got.Streams[1]
	if video.Codec != "vp8" || video.Width != loopWidth || video.Height != loopHeight || audio.Codec != "vorbis" {
		t.Errorf("ffprobe finds the tracks %+v", got.Streams)
	}
	for _, s := range got.Streams {
		if n, err := strconv.Atoi(s.Decoded); err != nil || n < watchedPictures {
			t.Errorf("ffprobe decoded %q frames of %s, want at least %d", s.Decoded, s.Codec, watchedPictures)
		}
	}
}

func checkFrames(t *testing.T, got probed) {
	t.Helper()
	last := map[string]float64{}
	for i, f := range got.Frames {
		at, err := strconv.ParseFloat(f.At, 64)
		if err != nil {
			t.Fatalf("frame %d at %q: %v", i, f.At, err)
		}
		before, seen := last[f.Kind]
		if seen && at < before {
			t.Errorf("%s at %v s follows one at %v s", f.Kind, at, before)
		}
		last[f.Kind] = at
		if f.Kind != "video" {
			continue
		}
		if !seen && f.Key != 1 {
			t.Error("the first picture is no key frame")
		}
		if f.Width != loopWidth || f.Height != loopHeight {
			t.Fatalf("picture %d is of %d×%d", i, f.Width, f.Height)
		}
	}
}

// TestFFmpegWatches has ffmpeg join late and decode, without an error in 3 s,
// to nowhere and to pictures that show what they are.
func TestFFmpegWatches(t *testing.T) {
	ctx := begin(t)
	air := onAir(ctx, t, plain)
	folder := t.TempDir()
	input := args(words("-nostdin -v error -xerror -i"), []string{air.url})
	null := run(ctx, t, "ffmpeg", args(input, words("-t "+watched+" -progress pipe:1 -f null -")))
	raw := run(ctx, t, "ffmpeg", args(input, words(
		"-map 0:v -t "+watched+" -fps_mode passthrough -pix_fmt gray -f rawvideo pictures "+
			"-map 0:a -t "+watched+" -ar 48000 -ac 2 -f s16le sound")), inFolder(folder))
	null.succeeds(t)
	null.quiet(t)
	if n := progress(t, null.stdout.String(), "frame"); n < watchedPictures {
		t.Errorf("ffmpeg decoded %d pictures in %s s, want at least %d", n, watched, watchedPictures)
	}
	raw.succeeds(t)
	raw.quiet(t)
	pictures := planes(t, read(t, folder, "pictures"), loopWidth*loopHeight)
	if len(pictures) < watchedPictures {
		t.Errorf("ffmpeg wrote %d pictures, want at least %d", len(pictures), watchedPictures)
	}
	stamps(t, pictures)
	checkSound(t, read(t, folder, "sound"), 2900*time.Millisecond)
}
