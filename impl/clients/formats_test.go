package clients_test

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tureen/fixtures"
	"tureen/loadgen/publish"
	"tureen/loadgen/webm"
)

// atOnce is how many streams are on the air together. Their tests wait for real
// time more than for processors.
const atOnce = 6

// together runs tests at the same time, more of them than t.Parallel would.
func together(t *testing.T, tests map[string]func(context.Context, *testing.T)) {
	t.Helper()
	var all sync.WaitGroup
	defer all.Wait()
	seats := make(chan struct{}, atOnce)
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		all.Go(func() {
			seats <- struct{}{}
			defer func() { <-seats }()
			t.Run(name, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), testTime)
				defer cancel()
				tests[name](ctx, t)
			})
		})
	}
}

// showing is a clip's way through the proxy.
type showing struct {
	answer summary
	body   body
	raw    []byte // the body
}

// show publishes a clip to a viewer who waits for it.
func show(ctx context.Context, t *testing.T, clip *fixtures.Clip, live bool) showing {
	t.Helper()
	session := newSession(t, plain)
	viewer := watch(ctx, t, plain.url(session), true)
	var answer string
	if live {
		answer = sendsLive(ctx, t, session, clip)
	} else {
		curl := run(ctx, t, "curl", args([]string{"-T", file(t, clip)}, curlPublishes(plain.url(session))))
		curl.succeeds(t)
		answer = curl.stdout.String()
	}
	var s showing
	if err := json.Unmarshal([]byte(answer), &s.answer); err != nil {
		t.Fatalf("the answer %q is no summary: %v", answer, err)
	}
	if s.answer.SessionID != session || s.answer.Bytes != int64(len(clip.Data)) || s.answer.Truncated == nil {
		t.Errorf("summary %s, want session %s and %d bytes", answer, session, len(clip.Data))
	}
	s.body = viewer.wholeWithin(t, fileEndTime)
	s.raw = viewer.recording.body
	return s
}

// sendsLive sends each frame of a clip when it is due, and returns the answer.
func sendsLive(ctx context.Context, t *testing.T, session string, clip *fixtures.Clip) string {
	t.Helper()
	source, err := publish.Once(clip)
	if err != nil {
		t.Fatal(err)
	}
	publisher, err := publish.Dial(ctx, publish.Config{
		Address: plain.address(), Host: plain.address(), Path: "/stream/" + session, Source: source,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer publisher.Close()
	answer, err := publisher.Run(ctx, time.Now())
	if err != nil {
		t.Fatalf("publishing: %v; answer %+v", err, answer)
	}
	return answer.Body
}

// TestEveryFormat sends every fixture of another container or codec than
// viewers get, as a file and as a live source does.
func TestEveryFormat(t *testing.T) {
	t.Parallel()
	tests := map[string]func(context.Context, *testing.T){}
	for _, name := range fixtures.Names() {
		clip := open(t, name)
		if clip.Malformed || strings.HasPrefix(clip.Name, "ebml-") || clip.Name == loopClip {
			continue
		}
		tests[name] = func(ctx context.Context, t *testing.T) { testFormat(ctx, t, clip, false) }
		if name == "mp4-moov-last" || passesWhole(clip) {
			continue // the one can't be played before its end, how others are sent makes no difference
		}
		tests[name+" live"] = func(ctx context.Context, t *testing.T) { testFormat(ctx, t, clip, true) }
	}
	together(t, tests)
}

// passesWhole reports whether none of a clip's tracks is transcoded.
func passesWhole(clip *fixtures.Clip) bool {
	return clip.Container != "ogg" && !slices.ContainsFunc(clip.Tracks, func(t fixtures.Track) bool {
		return t.Codec != "vp8" && t.Codec != "vorbis" && t.Kind != "subtitle"
	})
}

// testFormat judges how a fixture comes to a viewer.
func testFormat(ctx context.Context, t *testing.T, clip *fixtures.Clip, live bool) {
	t.Helper()
	got := show(ctx, t, clip, live)
	got.check(t, clip)
	got.checkMedia(ctx, t, clip, "", rateOf(clip))
}

// rateOf is a fixture's pictures a second.
func rateOf(*fixtures.Clip) int { return 30 }

// checkMedia judges what is seen and heard, against what is at the publisher.
func (s showing) checkMedia(ctx context.Context, t *testing.T, clip *fixtures.Clip, frame string, rate int) {
	t.Helper()
	original, seen := decode(ctx, t, clip.Data, frame), decode(ctx, t, s.raw, "")
	_, video := clip.Track("video")
	_, audio := clip.Track("audio")
	if video {
		seen.checkStamps(t, original.numbers(t))
		seen.checkTimes(t, original)
		s.checkKeys(t)
	}
	if audio {
		seen.checkPitches(t, len(original.beeps()))
		seen.checkGaps(t, original)
		seen.checkLength(t, original)
	}
	if video && audio {
		seen.checkLips(t, original, rate)
	}
}

// check judges the answer and the tracks.
func (s showing) check(t *testing.T, clip *fixtures.Clip) {
	t.Helper()
	var want []fixtures.Track
	for _, kind := range []string{"video", "audio"} {
		if track, ok := clip.Track(kind); ok {
			want = append(want, track)
		}
	}
	if *s.answer.Truncated {
		t.Error("the summary says truncated")
	}
	if len(s.answer.Tracks) != len(want) || len(s.body.tracks) != len(want) {
		t.Fatalf("the summary has %d tracks, the body %d; want %d", len(s.answer.Tracks), len(s.body.tracks), len(want))
	}
	outputs := map[string]string{"video": "vp8", "audio": "vorbis"}
	for i, track := range want {
		told, mode := s.answer.Tracks[i], "transcode"
		if track.Codec == outputs[track.Kind] {
			mode = "passthrough"
		}
		if told.Kind != track.Kind || told.InputCodec != track.Codec || told.OutputCodec != outputs[track.Kind] ||
			told.Mode != mode || told.Reason == "" {
			t.Errorf("summary has the track %+v, want %s %s, %s with a reason", told, track.Kind, track.Codec, mode)
		}
		if track.Kind == "video" {
			w, h := track.Width, track.Height
			if track.Rotation%180 != 0 {
				w, h = h, w
			}
			s.checkSize(t, w, h)
		}
	}
	s.checkDuration(t, clip.Duration)
}

// checkSize expects pictures of that size, as announced and as coded.
func (s showing) checkSize(t *testing.T, width, height int) {
	t.Helper()
	if track := s.body.tracks[0]; track.width != width || track.height != height {
		t.Errorf("pictures of %d×%d are announced, want %d×%d", track.width, track.height, width, height)
	}
}

// checkDuration expects that the summary tells how long the clip is, which
// encoders' frames only nearly add up to.
func (s showing) checkDuration(t *testing.T, want time.Duration) {
	t.Helper()
	const slack = 250 * time.Millisecond
	if d := time.Duration(s.answer.DurationMS) * time.Millisecond; (d - want).Abs() > slack {
		t.Errorf("the summary tells of %v, want %v", d, want)
	}
}

// checkKeys expects a key frame at least every 2 s (FMT-2).
func (s showing) checkKeys(t *testing.T) {
	t.Helper()
	last := time.Duration(-1)
	for _, f := range of(webm.Video, s.body.frames) {
		if last >= 0 && f.at-last > 2*time.Second {
			t.Fatalf("at %v there has been no key frame since %v", f.at, last)
		}
		if f.key {
			last = f.at
		}
	}
}
