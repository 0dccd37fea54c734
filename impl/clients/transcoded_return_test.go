package clients_test

import (
	"context"
	"testing"
	"time"

	"tureen/loadgen/webm"
)

// puts is ffmpeg's arguments to publish a file over and over in real time as it
// is, in a container.
func puts(url, path, container string) []string {
	return args(words("-nostdin -v error -re -stream_loop -1 -i"), []string{path}, words("-c copy "+container+" -method PUT"), []string{url})
}

// TestTranscodedPublisherReturns kills a publisher whose stream is transcoded,
// and has another one return to its viewers (REC-2).
func TestTranscodedPublisherReturns(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ first, second, container string }{
		"as it was":         {quickH264 + quickAAC + ts, quickH264 + quickAAC + ts, ts},
		"another form":      {quickH264 + quickAAC + ts, quickH264 + "-vf scale=640:360 -c:a aac -ar 44100 -ac 1 " + ts, ts},
		"another container": {quickH264 + quickAAC + mkv, "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -lag-in-frames 0 -g 30 -c:a libopus " + mkv, mkv},
		"what passes":       {"-an " + quickH264 + mkv, "-an -c:v libvpx -deadline realtime -cpu-used 8 -g 30 -b:v 500k " + mkv, mkv},
		"what passed":       {"-an -c:v libvpx -deadline realtime -cpu-used 8 -g 30 -b:v 500k " + mkv, "-an " + quickH264 + mkv, mkv},
	}
	all := map[string]func(context.Context, *testing.T){}
	for name, test := range tests {
		all[name] = func(ctx context.Context, t *testing.T) {
			testTranscodedReturn(ctx, t, made(ctx, t, words(test.first)...), made(ctx, t, words(test.second)...), test.container)
		}
	}
	together(t, all)
}

func testTranscodedReturn(ctx context.Context, t *testing.T, first, second []byte, container string) {
	t.Helper()
	session := newSession(t, plain)
	viewer := watch(ctx, t, plain.url(session), true)
	publisher := run(ctx, t, "ffmpeg", puts(plain.url(session), writeFile(t, first), container))
	viewer.await(ctx, t, broken)
	publisher.kill(t)
	plain.lost(ctx, t, session, 1)
	before, _ := viewer.state()
	returned := run(ctx, t, "ffmpeg", puts(plain.url(session), writeFile(t, second), "-t 2 "+container))
	returned.succeeds(t)
	got := viewer.whole(t)
	pictures := of(webm.Video, got.frames)
	if after := len(pictures) - before; after < 2*madeRate*19/20 {
		t.Errorf("%d pictures came after the return, want 60", after)
	}
	for i, p := range pictures[1:] {
		if step := p.at - pictures[i].at; step > 300*time.Millisecond {
			t.Errorf("the picture at %v comes %v after the one before", p.at, step)
		}
	}
	if n := len(decode(ctx, t, viewer.recording.body, "").pictures); n != len(pictures) {
		t.Errorf("ffmpeg decodes %d pictures, want %d", n, len(pictures))
	}
}
