package clients_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tureen/loadgen/webm"
)

// needElements skips the test where GStreamer lacks one of the elements.
func needElements(ctx context.Context, t *testing.T, elements ...string) {
	t.Helper()
	for _, element := range elements {
		inspect := run(ctx, t, "gst-inspect-1.0", []string{"--exists", element})
		if <-inspect.done; inspect.err != nil {
			missing(t, "GStreamer's element "+element)
		}
	}
}

// TestGstLaunchWatches has gst-launch-1.0 join late and decode both tracks,
// until the publisher ends the stream and with it the pipeline.
func TestGstLaunchWatches(t *testing.T) {
	ctx := begin(t)
	needElements(ctx, t, words("souphttpsrc matroskademux vp8dec vorbisdec audioconvert")...)
	air := onAir(ctx, t, plain)
	folder := t.TempDir()
	r, w := pipe(t)
	gst := run(ctx, t, "gst-launch-1.0", args(words("-q souphttpsrc"), []string{"location=" + air.url},
		words("! matroskademux name=demux "+
			"demux.video_0 ! queue ! vp8dec ! video/x-raw,format=I420 ! fdsink "+
			"demux.audio_0 ! queue ! vorbisdec ! audioconvert ! audio/x-raw,format=S16LE,rate=48000,channels=2 ! "+
			"filesink location=sound")), withOutput(w), inFolder(folder))
	w.Close()
	const picture = loopWidth * loopHeight * 3 / 2 // bytes of 4:2:0
	raw := make([]byte, 2*loopRate*picture)
	if _, err := io.ReadFull(r, raw); err != nil {
		t.Fatalf("reading decoded pictures: %v", err)
	}
	air.end()
	rest, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("reading decoded pictures to the end: %v", err)
	}
	gst.succeeds(t)
	gst.quiet(t)

	pictures := planes(t, append(raw, rest...), picture)
	stamps(t, pictures)
	checkSound(t, read(t, folder, "sound"), time.Duration(len(pictures)-5)*time.Second/loopRate)
	// The last picture that was published was the last to be decoded.
	sent := len(of(webm.Video, air.whole(t).frames))
	if (sent-len(pictures))%loopRate != 0 {
		t.Errorf("%d pictures were decoded, which are not the last of %d from a key frame on", len(pictures), sent)
	}
}

// read is the content of a file that a program wrote.
func read(t *testing.T, folder, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestGstLaunchPuts publishes by souphttpclientsink, which sends a request per
// buffer over many connections and ties them together by Content-Range, and at
// its end just goes (ING-16). Its source must be live: it never begins otherwise.
func TestGstLaunchPuts(t *testing.T) {
	ctx := begin(t)
	needElements(ctx, t, words("webmmux souphttpclientsink tee vp8enc vorbisenc")...)
	p := startOwn(t, "http", "--idle=1s", "--grace=100ms")
	session, folder := newSession(t, p), t.TempDir()
	viewer := watch(ctx, t, p.url(session), true)
	sink := "tee name=t ! queue ! filesink location=sent t. ! queue ! souphttpclientsink location=" + p.url(session)
	gst := run(ctx, t, "gst-launch-1.0", words(strings.Replace(gstEncoder, "fdsink", sink, 1)), inFolder(folder))
	gst.succeeds(t)
	gst.quiet(t)
	got := viewer.clean(t)
	checkAnswer(t, viewer, "video/webm")
	checkWhole(t, published(t, read(t, folder, "sent")), got)
	checkPictures(t, got, encodedPictures, false)
	if said := p.logOf(session); strings.Count(said, "publisher accepted") != 1 {
		t.Errorf("the requests were not taken for one body:\n%s", said)
	}
}
