package clients_test

import (
	"net/http"
	"testing"
	"time"

	"tureen/loadgen/webm"
)

// cutAfter is how many pictures a publisher gets through before the network
// fails it.
const cutAfter = 20

// TestOutage cuts the network between a publisher and the proxy; neither is
// told, and nobody returns. The publisher is given up after the idle time
// (ING-13), its viewers after the grace time (REC-3).
func TestOutage(t *testing.T) {
	const idle, grace = time.Second, time.Second
	ctx := begin(t)
	p := startOwn(t, "http", "--idle="+idle.String(), "--grace="+grace.String())
	session, relay := newSession(t, p), relayTo(t, p)
	viewer := watch(ctx, t, p.url(session), true)
	run(ctx, t, "ffmpeg", encodes(relay.url(session), ffmpegPictures, ""))
	viewer.await(ctx, t, cutAfter)
	relay.cut()

	checkShares(t, viewer.clean(t), relay.sent(t))
	relay.refused(t, http.StatusRequestTimeout)
	if after := viewer.ended.Sub(relay.latest); after < idle+grace || after > idle+grace+endTime {
		t.Errorf("the body ended %v after the last that came from the publisher, want the idle time and the grace time, %v",
			after, idle+grace)
	}
	if status := statusOf(ctx, t, p.url(session)); status != http.StatusNotFound {
		t.Errorf("who asks for the stream then is answered %d, want 404", status)
	}
}

// silence is for how long nothing may come from a publisher before it gives way
// (ING-9).
const silence = 2 * time.Second

// TestReturnDuringOutage cuts the network likewise, and the publisher returns
// on another way, long before the idle time has passed. It is refused until the
// proxy has waited for its former self for a while.
func TestReturnDuringOutage(t *testing.T) {
	ctx := begin(t)
	session := newSession(t, plain)
	viewer := watch(ctx, t, plain.url(session), true)
	first, second := relayTo(t, plain), relayTo(t, plain)
	run(ctx, t, "ffmpeg", encodes(first.url(session), ffmpegPictures, ""))
	viewer.await(ctx, t, cutAfter)
	first.cut()
	cut := time.Now()
	early := run(ctx, t, "curl", args(words("-T"), []string{file(t, open(t, shortClip))},
		curlPublishes(plain.url(session))))
	if <-early.done; early.err == nil {
		t.Error("a publisher that came at once was not refused")
	}
	if version, h := answerOf(t, early); version != "HTTP/1.1 409 Conflict" || h.Get("Retry-After") == "" {
		t.Errorf("a publisher that came at once was answered %s with %v, want 409 with Retry-After", version, h)
	}
	select {
	case <-time.After(time.Until(cut.Add(silence))):
	case <-viewer.done:
	}
	ffmpeg := run(ctx, t, "ffmpeg", encodes(second.url(session), ffmpegPictures, "-t 1"))
	ffmpeg.succeeds(t)
	ffmpeg.quiet(t)
	first.refused(t, http.StatusRequestTimeout)
	got := viewer.whole(t)
	checkShares(t, got, first.sent(t), second.sent(t))
	decodes(ctx, t, viewer.body, len(of(webm.Video, got.frames)))
}
