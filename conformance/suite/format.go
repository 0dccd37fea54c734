package suite

import (
	"time"

	"github.com/onsi/gomega"

	"tureen/conformance/media"
)

// format declares the checks of SPEC.md's chapter "Format", as far as it passes through.
func format(check declare) {
	check("FMT-1", "VP8 and Vorbis from WebM pass bit by bit, with their times", func(t *Trial) { passes(t, plain()) })
	check("FMT-1", "VP8 and Vorbis from Matroska pass bit by bit, with their times", func(t *Trial) {
		passes(t, media.Fixture("mkv-two-audio-subtitles"))
	})
	check("FMT-1", "a file that is sent at once passes bit by bit, with its times", func(t *Trial) { passes(t, fixture("webm-load"), flood) })
	check("FMT-1", "a viewer that joins late gets the frames bit by bit, with one offset for both tracks", passesLate)
	check("FMT-1", "pictures before the publisher's first key frame, and sound before the viewer's, are dropped", dropsBeforeKey)

	check("FMT-4", "video alone is served", func(t *Trial) { alone(t, video) })
	check("FMT-4", "audio alone is served", func(t *Trial) { alone(t, audio) })

	check("FMT-5", "the summary tells each track's mode and reason", func(t *Trial) {
		summary, _ := t.Whole(first(second))
		t.Expect(summary.Tracks).To(gomega.HaveLen(2), "tracks in the summary")
		for _, track := range summary.Tracks {
			t.Expect(track.Mode).To(gomega.Equal("passthrough"), "mode of the %s track, which is %s", track.Kind, track.InputCodec)
			t.Expect(track.Reason).NotTo(gomega.BeEmpty(), "reason of the %s track", track.Kind)
		}
	})

	check("FMT-6", "VP8 that changes its size goes on in the same body, untouched", func(t *Trial) {
		s := media.Cut(fixture("webm-size-change"), 4*second, 6*second)
		_, view := t.Whole(s)
		t.Keeps(view, "WAT-2")
		if err := whole(view, s, 0); err != nil {
			t.Fail("over a change of size from 640×360 to 320×180: %v", err)
		}
	})

	check("FMT-7", "subtitles and a second audio track are ignored", func(t *Trial) {
		s := media.Fixture("mkv-two-audio-subtitles")
		p, v := t.Live(s, until(2*second))
		p.AwaitSent(2 * second)
		p.Finish()
		p.Accepted(2 * tolerance)
		view := v.AwaitEnd(tolerance)
		t.Expect(view.Tracks).To(gomega.HaveLen(2), "tracks that a viewer gets")
		if _, err := matched(view, s, audio); err != nil {
			t.Fail("of two audio tracks the first was to be served: %v", err)
		}
	})
	check("FMT-7", "a first track that can't be served is 415", func(t *Trial) {
		a := t.Publish(t.ID(), fixture("ebml-encrypted")).Answer(5*second + tolerance)
		t.Expect(a.Status).To(gomega.Equal(415), "the status of encrypted tracks")
	})
}

// passes: everything comes untouched.
func passes(t *Trial, s *media.Source, modes ...mode) {
	_, view := t.Whole(s, modes...)
	if err := whole(view, s, 0); err != nil {
		t.Fail("%v%s", err, faults(view, ""))
	}
}

func passesLate(t *Trial) {
	p, _ := t.Live(first(4 * second))
	p.AwaitSent(1700 * time.Millisecond)
	v := t.Watch(p.ID)
	p.Accepted(4*second + tolerance)
	view := v.AwaitEnd(tolerance)
	t.Expect(len(view.Of(video))).To(gomega.BeNumerically(">=", 60), "pictures of a viewer that joins after 1.7 s of 4 s")
	if err := untouched(view, p.Source, 0); err != nil {
		t.Fail("at a viewer that joins late: %v", err)
	}
	if !allOf(p.Source)(view) {
		t.Fail("the last frames didn't come; %s", view.describe())
	}
}

// dropsBeforeKey: the source begins half a second before a key frame.
func dropsBeforeKey(t *Trial) {
	s := media.Cut(plain(), second/2, 5*second/2)
	_, view := t.Whole(s)
	t.Keeps(view, "WAT-3")
	if err := whole(view, s, 0); err != nil {
		t.Fail("a source that begins in the middle of a group of pictures: %v", err)
	}
}

func alone(t *Trial, kind string) {
	other := map[string]string{video: audio, audio: video}[kind]
	s := media.Without(first(2*second), other)
	summary, view := t.Whole(s)
	t.Expect(summary.Tracks).To(gomega.HaveLen(1), "tracks in the summary")
	t.Expect(summary.Tracks[0].Kind).To(gomega.Equal(kind), "the track's kind")
	t.Expect(view.Tracks).To(gomega.HaveLen(1), "tracks that a viewer gets")
	if err := whole(view, s, 0); err != nil {
		t.Fail("%s alone: %v", kind, err)
	}
}
