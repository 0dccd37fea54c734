package clients_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tureen/loadgen/publish"
	"tureen/loadgen/webm"
)

// ffmpegPuts has ffmpeg send each frame as soon as it has it.
const ffmpegPuts = " -cluster_time_limit 0 -method PUT "

// encodes is ffmpeg's arguments to publish what it makes of nothing, with
// options of the encoders or of the output.
func encodes(url, pictures, options string) []string {
	return args(words(pictures+ffmpegSound+ffmpegCodecs+" "+options+ffmpegPuts), []string{url})
}

// copies is its arguments to publish a file over and over in real time, with
// options of the output.
func copies(url, path, options string) []string {
	return args(words("-nostdin -v error -re -stream_loop -1 -i"), []string{path},
		words("-c copy -f webm "+options+ffmpegPuts), []string{url})
}

// lost waits until the proxy has noticed that so many of a session's publishers
// are gone. Whoever returns before that is refused (ING-9).
func (p *proxy) lost(ctx context.Context, t *testing.T, session string, publishers int) {
	t.Helper()
	for {
		_, more := p.stderr.state()
		if strings.Count(p.logOf(session), `msg="publisher ended early"`) >= publishers {
			return
		}
		select {
		case <-more:
		case <-ctx.Done():
			t.Fatalf("waited for the proxy to notice that its publisher %d is gone: %v", publishers, ctx.Err())
		}
	}
}

// share is what one publisher contributed to a viewer's body.
type share struct {
	frames  []frame
	missing int // frames of the publisher's that could have followed and didn't
}

// frameTime is about a frame's length: of a picture, the longer ones, with
// times rounded to milliseconds.
const frameTime = 35 * time.Millisecond

// shares splits a viewer's frames among the publishers that returned to its
// body one after the other (REC-2): what each sent in its order, untouched from
// its first key frame on, both tracks shifted by the same; and each goes on a
// frame's length after the one before.
func shares(sent [][]frame, got []frame) ([]share, error) {
	var all []share
	for i, frames := range sent {
		frames = usable(frames, i == 0)
		fit, n := leading(frames, got)
		if err := judgeShare(fit, got[:n]); err != nil {
			return all, fmt.Errorf("publisher %d: %w", i+1, err)
		}
		if i > 0 {
			before := all[i-1].frames
			if gap := got[0].at - before[len(before)-1].at; gap <= 0 || gap > frameTime {
				return all, fmt.Errorf("publisher %d goes on %v after the one before, want at most %v", i+1, gap, frameTime)
			}
		}
		all = append(all, share{got[:n], len(frames) - n})
		got = got[n:]
	}
	if len(got) > 0 {
		return all, fmt.Errorf("the %v at %v isn't what the last publisher sent next", got[0].kind, got[0].at)
	}
	return all, nil
}

// usable is the frames of a publisher's that a body can hold: no pictures
// before its first key frame and, if the body begins with them, no sound either.
func usable(sent []frame, begins bool) []frame {
	for i, f := range sent {
		switch {
		case f.kind != webm.Video || !f.key:
		case begins:
			return since(f.at, sent)
		default:
			return append(of(webm.Audio, sent[:i]), sent[i:]...)
		}
	}
	return of(webm.Audio, sent)
}

// leading is how many frames at the beginning of a body are what a publisher
// sent, with none left out, and which of those it sent they are.
func leading(sent, got []frame) (fit []frame, n int) {
	next := map[webm.Kind][]frame{webm.Video: of(webm.Video, sent), webm.Audio: of(webm.Audio, sent)}
	for _, f := range got {
		due := next[f.kind]
		if len(due) == 0 || !bytes.Equal(due[0].payload, f.payload) {
			break
		}
		fit, next[f.kind] = append(fit, due[0]), due[1:]
	}
	return fit, len(fit)
}

func judgeShare(sent, got []frame) error {
	pictures := of(webm.Video, got)
	if len(pictures) == 0 {
		return errors.New("none of its pictures came")
	}
	if !pictures[0].key {
		return fmt.Errorf("its first picture, at %v, is no key frame", pictures[0].at)
	}
	return same(sent, got)
}

// checkShares is shares for publishers of which everything came that they sent.
func checkShares(t *testing.T, got body, sent ...[]frame) {
	t.Helper()
	all, err := shares(sent, got.frames)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range all {
		if s.missing > 0 {
			t.Errorf("the last %d frames of publisher %d, which sent them whole, are missing", s.missing, i+1)
		}
	}
}

// TestSharesSeesFaults makes sure that the judge of returns can say no.
func TestSharesSeesFaults(t *testing.T) {
	sent := [][]frame{{
		at(webm.Audio, 0, true, "before the body begins"),
		at(webm.Video, 3, true, "key"), at(webm.Audio, 3, true, "a"),
		at(webm.Video, 36, false, "delta"), at(webm.Audio, 40, true, "b"),
		at(webm.Video, 70, false, "never came"),
	}, {
		at(webm.Video, 900, false, "of no use"), at(webm.Audio, 905, true, "b"),
		at(webm.Video, 933, true, "key"), at(webm.Audio, 940, true, "c"),
	}}
	good := []frame{
		at(webm.Video, 0, true, "key"), at(webm.Audio, 0, true, "a"),
		at(webm.Video, 33, false, "delta"), at(webm.Audio, 37, true, "b"),
		at(webm.Audio, 60, true, "b"), at(webm.Video, 88, true, "key"), at(webm.Audio, 95, true, "c"),
	}
	all, err := shares(sent, good)
	if err != nil || len(all[0].frames) != 4 || all[0].missing != 1 || len(all[1].frames) != 3 || all[1].missing != 0 {
		t.Fatalf("a good body's shares are %v, error: %v", all, err)
	}
	const returned = 4 // where the second publisher's frames begin
	later := func(b []frame, by time.Duration) {
		for i := range b {
			b[i].at += by
		}
	}
	tests := map[string]func([]frame) []frame{
		"a long gap":   func(b []frame) []frame { later(b[returned:], 20*time.Millisecond); return b },
		"no gap":       func(b []frame) []frame { later(b[returned:], -23*time.Millisecond); return b },
		"tracks apart": func(b []frame) []frame { later(b[returned+1:returned+2], 5*time.Millisecond); return b },
		"begins without a key frame": func(b []frame) []frame {
			return slices.Insert(b, returned, at(webm.Video, 55, false, "of no use"))
		},
		"a key frame that isn't":   func(b []frame) []frame { b[returned+1].key = false; return b },
		"one missing in the first": func(b []frame) []frame { return slices.Delete(b, 1, 2) },
		"one missing after that":   func(b []frame) []frame { return slices.Delete(b, returned, returned+1) },
		"no pictures after that":   func(b []frame) []frame { return slices.Delete(b, returned+1, returned+2) },
		"another payload":          func(b []frame) []frame { b[returned+2].payload = []byte("C"); return b },
		"more than was sent":       func(b []frame) []frame { return append(b, at(webm.Audio, 115, true, "d")) },
		"the first alone":          func(b []frame) []frame { return b[:returned] },
		"nothing":                  func([]frame) []frame { return nil },
	}
	for name, spoil := range tests {
		if _, err := shares(sent, spoil(slices.Clone(good))); err == nil {
			t.Errorf("%s: no fault found", name)
		}
	}
}

// broken is how many pictures a publisher is left to send before it breaks off:
// between two key frames, which ffmpeg makes a second apart.
const broken = 40

// TestPublisherReturns kills an encoder in mid-stream and starts it again: who
// watches goes on in the same body.
func TestPublisherReturns(t *testing.T) {
	sizes := map[string]string{
		"as it was":         ffmpegPictures,
		"with another size": strings.Replace(ffmpegPictures, "320x180", "640x360", 1),
	}
	for name, pictures := range sizes {
		t.Run(name, func(t *testing.T) {
			ctx := begin(t)
			session := newSession(t, plain)
			viewer := watch(ctx, t, plain.url(session), true)
			first, second := relayTo(t, plain), relayTo(t, plain)
			ffmpeg := run(ctx, t, "ffmpeg", encodes(first.url(session), ffmpegPictures, ""))
			viewer.await(ctx, t, broken)
			ffmpeg.kill(t)
			plain.lost(ctx, t, session, 1)
			ffmpeg = run(ctx, t, "ffmpeg", encodes(second.url(session), pictures, "-t 1"))
			ffmpeg.succeeds(t)
			ffmpeg.quiet(t)
			got := viewer.whole(t)
			checkShares(t, got, first.sent(t), second.sent(t))
			decodes(ctx, t, viewer.body, len(of(webm.Video, got.frames)))
		})
	}
}

// TestPublisherReturnsTenTimes has publishers break off in two ways by turns:
// one is killed, the next one's connection is reset. The latter begin between
// two key frames.
func TestPublisherReturnsTenTimes(t *testing.T) {
	const (
		returns = 10
		each    = 12 // pictures
		midway  = 25 // pictures, 5 before a key frame
	)
	ctx := begin(t)
	session := newSession(t, plain)
	path, whole := file(t, open(t, loopClip)), published(t, open(t, loopClip).Data)
	source, rest := from(t, loopClip, midway)
	viewer := watch(ctx, t, plain.url(session), true)
	var sent [][]frame
	for i := range returns {
		have, _ := viewer.state()
		if i%2 == 0 {
			ffmpeg := run(ctx, t, "ffmpeg", copies(plain.url(session), path, ""))
			viewer.await(ctx, t, have+each)
			ffmpeg.kill(t)
			sent = append(sent, whole)
		} else {
			relay := relayTo(t, plain)
			end := sends(ctx, t, relay.address, session, source)
			viewer.await(ctx, t, have+each)
			relay.reset(t)
			if err := end(); err == nil {
				t.Error("a publisher's connection was reset, and it knows nothing of that")
			}
			sent = append(sent, rest)
		}
		plain.lost(ctx, t, session, i+1)
	}
	last := run(ctx, t, "ffmpeg", copies(plain.url(session), path, "-t 0.5"))
	last.succeeds(t)
	last.quiet(t)
	got := viewer.whole(t)
	if _, err := shares(append(sent, whole), got.frames); err != nil {
		t.Error(err)
	}
	decodes(ctx, t, viewer.body, len(of(webm.Video, got.frames)))
}

// from is a fixture without its first pictures, to be sent over and over, and
// its frames.
func from(t *testing.T, name string, pictures int) (*publish.Source, []frame) {
	t.Helper()
	data := open(t, name).Data
	clip, err := webm.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range clip.Frames {
		if f.Kind == webm.Video {
			pictures--
		}
		if pictures <= 0 {
			clip.Frames = clip.Frames[i:]
			return publish.Loop(name, clip, 0), published(t, data)[i:]
		}
	}
	t.Fatalf("%s has %d pictures fewer than it should", name, pictures)
	return nil, nil
}

// TestUnfitPublisherReturns has publishers with other tracks return one after
// the other. Each ends the bodies of those who watched the one before, and is
// what a new viewer gets (REC-3).
func TestUnfitPublisherReturns(t *testing.T) {
	const each = 10 // pictures
	both := []webm.Kind{webm.Video, webm.Audio}
	publishers := []struct {
		name, options string
		tracks        []webm.Kind
	}{
		{"at first", "", both},
		{"with better sound", "-q:a 8", both},
		{"with two channels", "-q:a 8 -ac 2", both},
		{"with another rate", "-q:a 8 -ac 2 -ar 44100", both},
		{"without sound", "-an", both[:1]},
		{"with sound again", "-t 0.5", both},
	}
	ctx := begin(t)
	session := newSession(t, plain)
	viewers := make([]*viewer, len(publishers))
	last := len(publishers) - 1
	for i, publisher := range publishers {
		ffmpeg := run(ctx, t, "ffmpeg", encodes(plain.url(session), ffmpegPictures, publisher.options))
		if i > 0 {
			viewers[i-1].clean(t)
		}
		viewers[i] = watch(ctx, t, plain.url(session), i == 0)
		if i == last {
			ffmpeg.succeeds(t)
			break
		}
		viewers[i].await(ctx, t, each)
		ffmpeg.kill(t)
		plain.lost(ctx, t, session, i+1)
	}
	for i, publisher := range publishers {
		t.Run(publisher.name, func(t *testing.T) {
			got := viewers[i].clean(t)
			var kinds []webm.Kind
			for _, track := range got.tracks {
				kinds = append(kinds, track.kind)
			}
			if !slices.Equal(kinds, publisher.tracks) {
				t.Errorf("the viewer got the tracks %v, want %v", kinds, publisher.tracks)
			}
			pictures := of(webm.Video, got.frames)
			if i < last && len(pictures) < each {
				t.Errorf("the viewer got %d pictures, want at least %d", len(pictures), each)
			}
			decodes(ctx, t, viewers[i].body, len(pictures))
		})
	}
}

// TestViewerReturns kills a viewer in mid-stream and starts it again, once
// while the publisher is there and once while it is gone, too. Each time it
// gets the current stream (REC-1), and from then on what others get.
func TestViewerReturns(t *testing.T) {
	ctx := begin(t)
	session, path := newSession(t, plain), file(t, open(t, loopClip))
	witness := watch(ctx, t, plain.url(session), true)
	first := run(ctx, t, "ffmpeg", copies(plain.url(session), path, ""))
	witness.await(ctx, t, late-loopRate)
	before, unfinished := curlWatches(ctx, t, plain.url(session))
	unfinished.await(ctx, t, late-loopRate)
	before.kill(t)
	witness.await(ctx, t, late)
	again, current := curlWatches(ctx, t, plain.url(session))
	current.await(ctx, t, 1)
	first.kill(t)
	plain.lost(ctx, t, session, 1)
	onAir, _ := witness.state()
	while, waiting := curlWatches(ctx, t, plain.url(session))
	waiting.await(ctx, t, 1)
	second := run(ctx, t, "ffmpeg", copies(plain.url(session), path, "-t 0.5"))
	second.succeeds(t)

	all := witness.whole(t).frames
	for _, viewer := range []struct {
		*program
		*recording
		onAir int // pictures, when it came
	}{{again, current, late}, {while, waiting, onAir}} {
		viewer.succeeds(t)
		skipped, err := untouched(all, viewer.whole(t).frames)
		if err != nil {
			t.Errorf("the frames of a viewer who came after %d pictures, against another's: %v", viewer.onAir, err)
		}
		if newest := (viewer.onAir - 1) / loopRate * loopRate; skipped < newest {
			t.Errorf("a viewer who came after %d pictures was sent the %d. one, want the %d. or later",
				viewer.onAir, skipped, newest)
		}
	}
}
