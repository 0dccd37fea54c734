package suite

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/onsi/gomega"

	"tureen/conformance/media"
	"tureen/conformance/webm"
	"tureen/fixtures/stamp"
)

// inputs are what a transcoding target accepts.
var inputs = []struct{ clip, what string }{
	{"mkv-h264-aac", "Matroska with H.264 and AAC"},
	{"mkv-mpeg4-mp3", "Matroska with MPEG-4 part 2 and MP3"},
	{"mkv-flac", "Matroska with FLAC alone"},
	{"webm-vp9-opus", "WebM with VP9 and Opus"},
	{"mp4-fragmented", "fragmented MP4"},
	{"mp4-faststart", "MP4 with its index first"},
	{"mpegts", "MPEG-TS"},
	{"flv", "FLV"},
	{"ogg-theora-vorbis", "Ogg with Theora and Vorbis"},
	{"wav-mono", "PCM"},
}

// patiently leaves a check of transcoding time to wait for its turn.
var patiently = limit(2 * time.Minute)

// transcoding declares the checks of what isn't passed through, in SPEC.md's chapters "Ingest" and "Format".
func transcoding(check declare) {
	for _, input := range inputs {
		check("ING-8", input.what+" is accepted and becomes VP8 and Vorbis", func(t *Trial) { becomesWebM(t, media.Encoded(input.clip)) }, patiently)
	}
	check("ING-8", "an MP4 whose index comes last is accepted, or refused with 415 that names fast-start", func(t *Trial) {
		defer t.transcodes()()
		p := t.Publish(t.ID(), media.Encoded("mp4-moov-last"), flood)
		a := p.Answer(20 * second)
		t.hasCapacity(a)
		if a.Status == http.StatusOK {
			t.Expect(p.Accepted(second).Tracks).To(gomega.HaveLen(2), "tracks in the summary")
			return
		}
		t.Expect(a.Status).To(gomega.Equal(415), "the status")
		t.Expect(string(a.Body)).To(gomega.MatchRegexp(`(?i)fast.?start`), "what the 415 says")
	}, patiently)
	check("FMT-2", "H.264 keeps its size, its pictures and their times, with a key frame at least every 2 s", func(t *Trial) {
		keepsPictures(t, media.Encoded("mkv-h264-aac"))
	}, patiently)
	check("FMT-2", "pictures that are stored in another order than they are shown come in that of their times", func(t *Trial) {
		keepsPictures(t, media.Encoded("mkv-h264-bframes-aac"))
	}, patiently)
	check("FMT-2", "a display matrix is applied", func(t *Trial) { keepsPictures(t, media.Encoded("mp4-rotated")) }, patiently)
	check("FMT-3", "VP8 beside Opus passes bit by bit, and the sound becomes Vorbis", mixed, patiently)
}

// sendFor is how much of a clip is enough to see what becomes of it.
const sendFor = 4 * second

// transcodes waits for its turn, because transcoding takes more of a machine than all else; what it returns ends the turn.
func (t *Trial) transcodes() func() {
	select {
	case t.run.Lanes.transcodes <- struct{}{}:
		return func() { <-t.run.Lanes.transcodes }
	case <-t.ctx.Done():
		t.Skip("other checks of transcoding took too long")
		return nil
	}
}

// atOnce is how many checks have the target transcode at the same time.
const atOnce = 4

// hasCapacity skips the check where the target says that it can't transcode more.
func (t *Trial) hasCapacity(a *Answer) {
	if a.Status == http.StatusServiceUnavailable {
		t.Skip("the target has no capacity to transcode: %s", a.Body)
	}
}

// transcoded publishes the beginning of a clip and returns what a viewer got of it.
func transcoded(t *Trial, s *media.Source, length time.Duration) View {
	defer t.transcodes()()
	p := t.Publish(t.ID(), s, until(length))
	v := t.Join(p.ID)
	p.await(length+2*tolerance, "the end of sending", func() bool {
		return len(p.sent) == sentBefore(s, length) || p.answered != nil || p.lost != nil
	})
	p.Finish()
	a := p.Answer(3 * tolerance)
	t.hasCapacity(a)
	t.Expect(a.Status).To(gomega.Equal(200), "the status; it said %s", a.Body)
	return v.AwaitEnd(tolerance)
}

// sentBefore is how many pieces are due before a time.
func sentBefore(s *media.Source, due time.Duration) int {
	n := 0
	for n < len(s.Pieces) && s.Pieces[n].Due < due {
		n++
	}
	return n
}

func becomesWebM(t *Trial, s *media.Source) {
	view := transcoded(t, s, sendFor)
	t.Keeps(view, "WAT-2")
	t.Keeps(view, "WAT-3")
	t.Keeps(view, "WAT-5")
	for _, track := range s.Tracks {
		blocks := view.Of(track.Kind)
		t.Expect(len(blocks)).To(gomega.BeNumerically(">", 20), "blocks of %s", track.Kind)
		length := blocks[len(blocks)-1].Time - blocks[0].Time
		t.Expect(length).To(gomega.BeNumerically(">", sendFor*7/10), "the time that the blocks of %s span, of %v that were sent; %s", track.Kind, sendFor, view.describe())
	}
}

// maxKeyDistance is how far apart key frames of a transcoded stream may be.
const maxKeyDistance = 2 * second

// keepsPictures reads the stamps of key frames: which of the publisher's pictures each is.
func keepsPictures(t *Trial, s *media.Source) {
	view := transcoded(t, s, s.Duration+second)
	t.Keeps(view, "WAT-5")
	want := s.Of(video)
	for _, track := range view.Tracks {
		if track.Kind == video {
			t.Expect(fmt.Sprintf("%d×%d", track.Width, track.Height)).To(gomega.Equal(fmt.Sprintf("%d×%d", s.Tracks[0].Width, s.Tracks[0].Height)), "the picture's size")
		}
	}
	pictures := view.Of(video)
	t.Expect(len(pictures)).To(gomega.BeNumerically(">=", len(want)/2), "pictures, of %d", len(want))
	if len(pictures) < len(want)*95/100 { // an encoder that falls behind loses some, and on a busy machine it does
		t.FailUnlessHeld(second, "of %d pictures %d came", len(want), len(pictures))
	}
	t.Expect(len(pictures)).To(gomega.BeNumerically("<=", len(want)), "pictures, of %d", len(want))
	times := media.Ordered(want)
	var least, most, last time.Duration
	for i, b := range pictures {
		if b.Payload == nil {
			continue
		}
		n, err := stamp.Read(b.Payload)
		if err != nil || n >= len(times) {
			t.Fail("the key frame at %v (byte %d) can't be recognised: stamp %d, %v", b.Time, b.Offset, n, err)
		}
		offset := b.Time - times[n].Time
		if i == 0 {
			least, most, last = offset, offset, b.Time
		}
		least, most = min(least, offset), max(most, offset)
		t.Expect(b.Time-last).To(gomega.BeNumerically("<=", maxKeyDistance), "the time between key frames, up to %v", b.Time)
		last = b.Time
	}
	t.Expect(most-least).To(gomega.BeNumerically("<=", 10*time.Millisecond), "by how much pictures' times differ from the publisher's after one offset")
	end := pictures[len(pictures)-1].Time
	t.Expect(end-last).To(gomega.BeNumerically("<=", maxKeyDistance), "the time from the last key frame to the end")
}

// vp8Opus is the clip of which one track passes and the other doesn't.
var vp8Opus = sync.OnceValue(func() *media.Source { return media.Fixture("webm-vp8-opus") })

func mixed(t *Trial) {
	s := vp8Opus()
	view := transcoded(t, s, sendFor)
	t.Keeps(view, "WAT-2")
	t.Keeps(view, "WAT-5")
	m, err := matched(view, s, webm.Video)
	t.Expect(err).NotTo(gomega.HaveOccurred(), "VP8 beside Opus passes bit by bit")
	t.Expect(len(m.blocks)).To(gomega.BeNumerically(">=", 90), "pictures of 4 s")
	t.Expect(len(view.Of(audio))).To(gomega.BeNumerically(">=", 100), "Vorbis packets of 4 s; %s", view.describe())
}
