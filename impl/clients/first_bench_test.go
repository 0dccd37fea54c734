package clients_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"tureen/fixtures"
	"tureen/loadgen/publish"
	"tureen/loadgen/webm"
)

// BenchmarkFirstFrame is how long a viewer who waits for a session goes on
// waiting after its publisher's first byte, for clips of every container that
// begin with a key frame, sent as they play: by fragments, or pages, of a second
// where their muxers write these whole.
func BenchmarkFirstFrame(b *testing.B) {
	for _, name := range []string{
		"webm-vp8-vorbis", "webm-vp8-opus", "webm-vp9-opus", "mkv-h264-aac", "mkv-h264-bframes-aac", "mkv-mpeg4-mp3", "mkv-flac",
		"mp4-faststart", "mp4-fragmented", "mp4-rotated", "mpegts", "flv", "ogg-theora-vorbis", "wav-mono",
	} {
		b.Run(name, func(b *testing.B) {
			clip, err := fixtures.Open(name)
			if err != nil {
				b.Fatal(err)
			}
			var waited time.Duration
			for b.Loop() {
				time.Sleep(time.Second) // a spare transcoder takes that to get ready
				waited += firstFrame(b, clip)
			}
			b.ReportMetric(float64(waited.Milliseconds())/float64(b.N), "ms-to-frame")
		})
	}
}

// inOne is how much of a clip a live muxer writes at once.
var inOne = map[string]time.Duration{"mp4-fragmented": time.Second, "ogg-theora-vorbis": time.Second}

// firstFrame waits for a session's first frame, and returns how long after the
// first byte it came.
func firstFrame(b *testing.B, clip *fixtures.Clip) time.Duration {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), testTime)
	defer cancel()
	session := fmt.Sprintf("first.%d", sessions.Add(1))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, plain.url(session), nil)
	if err != nil {
		b.Fatal(err)
	}
	request.Header.Set("Prefer", "wait=20")
	came := make(chan time.Time, 1)
	go func() {
		defer close(came)
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return // told below
		}
		defer answer.Body.Close()
		if awaitFrame(answer.Body) == nil {
			came <- time.Now()
		}
	}()
	time.Sleep(100 * time.Millisecond) // until the viewer waits, of which nothing tells
	source, err := publish.Once(clip)
	if err != nil {
		b.Fatal(err)
	}
	publisher, err := publish.Dial(ctx, publish.Config{
		Address: plain.address(), Host: plain.address(), Path: "/stream/" + session, Source: source,
	})
	if err != nil {
		b.Fatal(err)
	}
	defer publisher.Close()
	began := time.Now()
	go publisher.Run(ctx, began.Add(-inOne[clip.Name])) // ends with the context
	at, ok := <-came
	if !ok {
		b.Fatalf("no frame came of %s", clip.Name)
	}
	return at.Sub(began)
}

// awaitFrame reads a body up to its first frame.
func awaitFrame(r io.Reader) error {
	var scanner webm.Scanner
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		for p := buf[:n]; len(p) > 0; {
			used, complete, err := scanner.Next(p)
			if err != nil || complete {
				return err
			}
			p = p[used:]
		}
		if err != nil {
			return err
		}
	}
}
