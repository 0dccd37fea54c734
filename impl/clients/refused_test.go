package clients_test

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"tureen/fixtures"
)

// refusalTime is how soon a body that can't be decoded must be refused, after
// its first 1 MiB or its end (ING-11).
const refusalTime = 5 * time.Second

// refused is what a publisher is told that fails.
type refused struct {
	status int
	Detail string `json:"detail"`
}

// refuse publishes bytes that the proxy can't serve by curl, and returns its
// answer.
func refuse(ctx context.Context, t *testing.T, data []byte) refused {
	t.Helper()
	path := writeFile(t, data)
	began := time.Now()
	curl := run(ctx, t, "curl", []string{
		"-sS", "-T", path, "-o", "-", "-w", `%{stderr}%{http_code}`, plain.url(newSession(t, plain)),
	})
	curl.succeeds(t)
	if took := time.Since(began); took > refusalTime {
		t.Errorf("the refusal took %v, want at most %v (ING-11)", took, refusalTime)
	}
	var r refused
	if err := json.Unmarshal([]byte(curl.stdout.String()), &r); err != nil {
		t.Fatalf("the answer %q isn't a problem's: %v", curl.stdout.String(), err)
	}
	for _, digit := range strings.TrimSpace(curl.stderr.String()) {
		r.status = r.status*10 + int(digit-'0')
	}
	return r
}

// noise is bytes without any meaning.
func noise(n int) []byte {
	random := rand.New(rand.NewPCG(5, 11))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

// refusals are bodies that can't be served, and what their publishers are told.
func refusals(ctx context.Context, t *testing.T) map[string]struct {
	body   []byte
	status int
	says   string
} {
	t.Helper()
	clip := func(name string) []byte { return open(t, name).Data }
	h264 := made(ctx, t, words("-an "+quickH264+mkv)...)
	return map[string]struct {
		body   []byte
		status int
		says   string
	}{
		"noise":              {noise(64 << 10), http.StatusUnsupportedMediaType, ""},
		"much noise":         {noise(3 << 20), http.StatusUnsupportedMediaType, ""},
		"text":               {[]byte(strings.Repeat("The quick brown fox jumps over the lazy dog.\n", 500)), http.StatusUnsupportedMediaType, ""},
		"a web page":         {[]byte("<!DOCTYPE html><html><head><title>404</title></head><body>" + strings.Repeat("<p>no</p>", 300) + "</body></html>"), http.StatusUnsupportedMediaType, ""},
		"an archive":         {append([]byte("PK\x03\x04\x14\x00\x00\x00\x08\x00"), noise(20<<10)...), http.StatusUnsupportedMediaType, ""},
		"zeros":              {make([]byte, 100<<10), http.StatusUnsupportedMediaType, ""},
		"an unknown codec":   {[]byte(strings.Replace(string(h264), "V_MPEG4/ISO/AVC", "V_MPEG4/ISO/XYZ", 1)), http.StatusUnsupportedMediaType, "V_MPEG4/ISO/XYZ: install"},
		"an MP4's beginning": {clip("mp4-faststart")[:600], http.StatusBadRequest, "header"},
		"a TS' beginning":    {clip("mpegts")[:188*5+50], http.StatusBadRequest, "header"},
		"an FLV's beginning": {clip("flv")[:100], http.StatusBadRequest, "header"},
		"an Ogg's beginning": {clip("ogg-theora-vorbis")[:200], http.StatusBadRequest, "header"},
		"a late index":       {late9MB(clip("mp4-moov-last")), http.StatusUnsupportedMediaType, "faststart"},
	}
}

// late9MB is an MP4 with its index last, and 9 MB before it.
func late9MB(clip []byte) []byte {
	const box = 9 << 20
	free := make([]byte, box)
	copy(free, "\x00\x90\x00\x00mdat")
	const ftyp = 32
	return append(append(clip[:ftyp:ftyp], free...), clip[ftyp:]...)
}

// TestRefused sends what can't be served.
func TestRefused(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), testTime)
	defer cancel()
	tests := map[string]func(context.Context, *testing.T){}
	for name, body := range refusals(ctx, t) {
		tests[name] = func(ctx context.Context, t *testing.T) {
			got := refuse(ctx, t, body.body)
			t.Logf("%d: %s", got.status, got.Detail)
			if got.status != body.status || !strings.Contains(got.Detail, body.says) {
				t.Errorf("the publisher is told %d, %q; want %d, and %q", got.status, got.Detail, body.status, body.says)
			}
		}
	}
	together(t, tests)
}

// TestCut sends clips that end in the middle of a frame: what came before is
// played, and the summary tells (ING-10).
func TestCut(t *testing.T) {
	t.Parallel()
	tests := map[string]func(context.Context, *testing.T){}
	for _, name := range []string{"mkv-h264-aac", "webm-vp8-opus", "mp4-faststart", "mp4-fragmented", "mpegts", "flv", "ogg-theora-vorbis"} {
		tests[name] = func(ctx context.Context, t *testing.T) { testCut(ctx, t, open(t, name)) }
	}
	together(t, tests)
}

func testCut(ctx context.Context, t *testing.T, whole *fixtures.Clip) {
	t.Helper()
	const seconds = 3
	cut := *whole
	for i, f := range whole.Frames {
		if f.PTS > seconds*time.Second {
			cut.Data = whole.Data[:whole.Frames[i-1].End+40]
			break
		}
	}
	got := show(ctx, t, &cut, false)
	if !*got.answer.Truncated {
		t.Error("the summary doesn't say truncated")
	}
	seen := decode(ctx, t, got.raw, "")
	if n := len(seen.pictures); n < (seconds-1)*30 {
		t.Errorf("%d pictures are seen of %d s", n, seconds)
	}
	var want []int
	for n := range len(seen.pictures) {
		want = append(want, n)
	}
	seen.checkStamps(t, want)
}
