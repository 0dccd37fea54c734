package clients_test

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tureen/fixtures"
	"tureen/fixtures/stamp"
	"tureen/loadgen/webm"
)

// The clips that tests send: 10 s at 640×360, and 3 s at 320×180.
const (
	plainClip = "webm-vp8-vorbis"
	shortClip = "ebml-known-sizes"
)

// open is a fixture by name.
func open(t *testing.T, name string) *fixtures.Clip {
	t.Helper()
	clip, err := fixtures.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	return clip
}

// file writes a fixture to a folder of the test's.
func file(t *testing.T, clip *fixtures.Clip) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), clip.File)
	if err := os.WriteFile(path, clip.Data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// curlPublishes is curl's arguments to publish to url, besides what it sends.
// It prints the answer's body on stdout and what it did on stderr.
func curlPublishes(url string) []string { return []string{"-sS", "-v", "--fail-with-body", url} }

// summary is what a publisher is told at its end (ING-10).
type summary struct {
	SessionID  string `json:"sessionid"`
	Bytes      int64  `json:"bytes"`
	DurationMS int64  `json:"duration_ms"`
	Truncated  *bool  `json:"truncated"`
	Tracks     []struct {
		Kind        string `json:"kind"`
		InputCodec  string `json:"input_codec"`
		OutputCodec string `json:"output_codec"`
		Mode        string `json:"mode"`
		Reason      string `json:"reason"`
	} `json:"tracks"`
}

// lastFrame is the most by which a body's duration may exceed the distance of
// its frames' beginnings: the last one's length.
const lastFrame = 70 * time.Millisecond

// checkSummary judges the answer to a publisher whose whole body the viewer got.
// Its duration is that of all that was sent: live encoders' sound may begin
// before the picture with which the viewer's body does.
func checkSummary(t *testing.T, answer, session string, bytes int, sent []frame, got body) {
	t.Helper()
	var s summary
	if err := json.Unmarshal([]byte(answer), &s); err != nil {
		t.Fatalf("the answer %q is no summary: %v", answer, err)
	}
	if s.SessionID != session || s.Bytes != int64(bytes) || s.Truncated == nil || *s.Truncated {
		t.Errorf("summary %s, want session %s, %d bytes, truncated false", answer, session, bytes)
	}
	first, last := sent[0].at, sent[0].at
	for _, f := range sent {
		first, last = min(first, f.at), max(last, f.at)
	}
	span := last - first
	if d := time.Duration(s.DurationMS) * time.Millisecond; d < span || d > span+lastFrame {
		t.Errorf("summary has a duration of %v, the frames lie %v apart", d, span)
	}
	if len(s.Tracks) != len(got.tracks) {
		t.Fatalf("summary %s has %d tracks, want %d", answer, len(s.Tracks), len(got.tracks))
	}
	for i, track := range s.Tracks {
		kind, codec := got.tracks[i].kind, strings.ToLower(got.tracks[i].codec[2:])
		if track.Kind != kind.String() || track.InputCodec != codec || track.OutputCodec != codec ||
			track.Mode != "passthrough" || track.Reason == "" {
			t.Errorf("summary has the track %+v, want %v %s, passthrough with a reason", track, kind, codec)
		}
	}
}

// checkWhole expects that a viewer who was there from the beginning got all.
func checkWhole(t *testing.T, sent []frame, got body) {
	t.Helper()
	switch skipped, err := untouched(sent, got.frames); {
	case err != nil:
		t.Errorf("the viewer's frames against the publisher's: %v", err)
	case skipped > 0:
		t.Errorf("the viewer's body begins after %d pictures of the publisher's", skipped)
	}
}

// checkAnswer judges the head of a viewer's answer (WAT-1).
func checkAnswer(t *testing.T, v *viewer, contentType string) {
	t.Helper()
	h := (<-v.answer).Header
	if h.Get("Content-Type") != contentType || h.Get("Cache-Control") != "no-store" || h.Get("Content-Length") != "" ||
		h.Get("Preference-Applied") == "" {
		t.Errorf("the viewer's answer has the header %v, want %s", h, contentType)
	}
}

// TestCurlSendsFile publishes by curl with bodies of fixed length.
func TestCurlSendsFile(t *testing.T) {
	tests := map[string]struct {
		clip        string
		how         []string
		contentType string
		continued   bool
	}{
		"PUT":            {clip: plainClip, how: words("-T"), contentType: "video/webm", continued: true},
		"POST":           {clip: shortClip, how: words("-X POST --data-binary"), contentType: "video/webm"},
		"PUT of sound":   {clip: "webm-vorbis", how: words("-T"), contentType: "audio/webm", continued: true},
		"PUT of picture": {clip: "webm-vp8", how: words("-T"), contentType: "video/webm", continued: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			ctx := begin(t)
			clip, session := open(t, test.clip), newSession(t, plain)
			source := file(t, clip)
			if test.how[0] != "-T" {
				source = "@" + source // curl's sign for the content of a file
			}
			viewer := watch(ctx, t, plain.url(session), true)
			began := time.Now()
			curl := run(ctx, t, "curl", args(test.how, []string{source}, curlPublishes(plain.url(session))))
			curl.succeeds(t)
			took := time.Since(began)

			got := viewer.wholeWithin(t, fileEndTime)
			checkAnswer(t, viewer, test.contentType)
			checkWhole(t, published(t, clip.Data), got)
			checkSummary(t, curl.stdout.String(), session, len(clip.Data), published(t, clip.Data), got)
			if took < clip.Duration-time.Second {
				t.Errorf("a clip of %v was taken within %v: not held to real time (ING-14)", clip.Duration, took)
			}
			if test.continued && !strings.Contains(curl.stderr.String(), "< HTTP/1.1 100 Continue") {
				t.Error("curl asked to continue and wasn't told (ING-5)")
			}
		})
	}
}

// curlSendsPipe publishes what a program prints by curl -T - and returns curl,
// which has ended, and what it sent.
func curlSendsPipe(
	ctx context.Context, t *testing.T, url, producer string, arguments []string,
) (curl *program, sent []byte) {
	t.Helper()
	r, w := pipe(t)
	source := run(ctx, t, producer, arguments, withOutput(w))
	w.Close()
	var copied strings.Builder
	curl = run(ctx, t, "curl", args(words("-T -"), curlPublishes(url)), withInput(io.TeeReader(r, &copied)))
	curl.succeeds(t)
	source.succeeds(t)
	return curl, []byte(copied.String())
}

// What ffmpeg makes of nothing, live.
const (
	ffmpegPictures = "-nostdin -v error -re -f lavfi -i testsrc2=size=320x180:rate=30"
	ffmpegSound    = " -re -f lavfi -i sine=frequency=440:sample_rate=48000"
	ffmpegCodecs   = " -c:v libvpx -deadline realtime -cpu-used 8 -b:v 500k -g 30 -c:a libvorbis -f webm"
)

// Live encoders of 2 s of moving picture and tone.
const (
	ffmpegEncoder = ffmpegPictures + ffmpegSound + " -t 2" + ffmpegCodecs
	gstEncoder    = "-q webmmux name=mux streamable=true ! fdsink " +
		"videotestsrc is-live=true num-buffers=60 ! video/x-raw,width=320,height=180,framerate=30/1 ! " +
		"vp8enc deadline=1 keyframe-max-dist=30 ! queue ! mux. " +
		"audiotestsrc is-live=true samplesperbuffer=480 num-buffers=200 ! audio/x-raw,rate=48000,channels=2 ! " +
		"vorbisenc ! queue ! mux."
	encodedPictures = 60
)

// gstRecoder encodes a file anew, as fast as it is taken from its hands.
func gstRecoder(path string) []string {
	return args([]string{"-q", "filesrc", "location=" + path}, words(
		"! matroskademux name=demux webmmux name=mux streamable=true ! fdsink "+
			"demux.video_0 ! queue ! vp8dec ! vp8enc deadline=1 keyframe-max-dist=30 target-bitrate=500000 ! queue ! mux. "+
			"demux.audio_0 ! queue ! vorbisdec ! audioconvert ! vorbisenc ! queue ! mux."))
}

// TestCurlSendsPipe publishes by curl -T - in chunks, from what real producers
// print.
func TestCurlSendsPipe(t *testing.T) {
	tests := map[string]struct {
		producer  string
		arguments func(t *testing.T) []string
		elements  []string // of GStreamer
		pictures  int      // stamped, if they are a clip's
		stamped   bool
	}{
		"ffmpeg copies": {
			producer: "ffmpeg", pictures: 90, stamped: true,
			arguments: func(t *testing.T) []string {
				return args(words("-nostdin -v error -re -i"), []string{file(t, open(t, shortClip))}, words("-c copy -f webm -"))
			},
		},
		"ffmpeg encodes": {
			producer: "ffmpeg", pictures: encodedPictures,
			arguments: func(*testing.T) []string { return words(ffmpegEncoder + " -") },
		},
		"gst-launch recodes a file": {
			producer: "gst-launch-1.0", pictures: 90, stamped: true,
			arguments: func(t *testing.T) []string { return gstRecoder(file(t, open(t, shortClip))) },
			elements:  words("matroskademux webmmux vp8dec vp8enc vorbisdec vorbisenc"),
		},
		"gst-launch encodes": {
			producer: "gst-launch-1.0", pictures: encodedPictures,
			arguments: func(*testing.T) []string { return words(gstEncoder) },
			elements:  words("videotestsrc audiotestsrc webmmux vp8enc vorbisenc"),
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			ctx := begin(t)
			needElements(ctx, t, test.elements...)
			session := newSession(t, plain)
			viewer := watch(ctx, t, plain.url(session), true)
			curl, sent := curlSendsPipe(ctx, t, plain.url(session), test.producer, test.arguments(t))

			got := viewer.whole(t)
			checkAnswer(t, viewer, "video/webm")
			checkWhole(t, published(t, sent), got)
			checkSummary(t, curl.stdout.String(), session, len(sent), published(t, sent), got)
			checkPictures(t, got, test.pictures, test.stamped)
			if !strings.Contains(curl.stderr.String(), "> Transfer-Encoding: chunked") {
				t.Error("curl didn't send chunks, which this test is about")
			}
		})
	}
}

// checkPictures expects so many pictures, and of a clip's that the key frames
// show their numbers.
func checkPictures(t *testing.T, got body, want int, stamped bool) {
	t.Helper()
	pictures := of(webm.Video, got.frames)
	if len(pictures) != want {
		t.Errorf("the viewer got %d pictures, want %d", len(pictures), want)
	}
	if sounds := of(webm.Audio, got.frames); len(sounds) < want {
		t.Errorf("the viewer got %d packets of sound beside %d pictures", len(sounds), want)
	}
	for i, picture := range pictures {
		if !stamped || !picture.key {
			continue
		}
		if n, err := stamp.Read(picture.payload); err != nil || n != i {
			t.Errorf("picture %d bears the number %d, error: %v", i, n, err)
		}
	}
}

// TestFFmpegPuts publishes by ffmpeg alone, which sends chunks without asking
// to continue, and doesn't read the answer.
func TestFFmpegPuts(t *testing.T) {
	put := words("-c copy -f webm -method PUT")
	for name, pace := range map[string][]string{"copies in real time": words("-re"), "copies at once": nil} {
		t.Run(name, func(t *testing.T) {
			ctx := begin(t)
			clip, session := open(t, shortClip), newSession(t, plain)
			viewer := watch(ctx, t, plain.url(session), true)
			ffmpeg := run(ctx, t, "ffmpeg", args(words("-nostdin -v error"), pace, []string{"-i", file(t, clip)},
				put, []string{plain.url(session)}))
			ffmpeg.succeeds(t)
			ffmpeg.quiet(t)
			got := viewer.whole(t)
			checkAnswer(t, viewer, "video/webm")
			checkWhole(t, published(t, clip.Data), got)
		})
	}
	t.Run("encodes", func(t *testing.T) {
		ctx := begin(t)
		session := newSession(t, plain)
		viewer := watch(ctx, t, plain.url(session), true)
		ffmpeg := run(ctx, t, "ffmpeg", args(words(ffmpegEncoder+" -method PUT"), []string{plain.url(session)}))
		ffmpeg.succeeds(t)
		ffmpeg.quiet(t)
		got := viewer.whole(t)
		checkAnswer(t, viewer, "video/webm")
		checkPictures(t, got, encodedPictures, false)
		decodes(ctx, t, viewer.body, encodedPictures)
	})
}

// decodes expects that ffmpeg decodes every picture of a body without a word. It
// counts time as the body does: by pictures, as by itself, it would complain of
// two that lie closer together than usual.
func decodes(ctx context.Context, t *testing.T, body []byte, pictures int) {
	t.Helper()
	ffmpeg := run(ctx, t, "ffmpeg", words("-v error -xerror -f webm -i pipe:0 -progress pipe:1 "+
		"-fps_mode passthrough -enc_time_base:v -1 -f null -"),
		withInput(strings.NewReader(string(body))))
	ffmpeg.succeeds(t)
	ffmpeg.quiet(t)
	if n := progress(t, ffmpeg.stdout.String(), "frame"); n != pictures {
		t.Errorf("ffmpeg decoded %d pictures, want %d", n, pictures)
	}
}
