package suite

import (
	"fmt"
	"net/http"
	"time"

	"github.com/onsi/gomega"

	"tureen/conformance/media"
	"tureen/conformance/webm"
)

// reconnect declares the checks of SPEC.md's chapter "Reconnect".
func reconnect(check declare) {
	check("REC-1", "a viewer that comes again, and again, gets the current stream", comesAgain)

	check("REC-2", "after a reset the viewers go on in the same bodies when the publisher returns", func(t *Trial) {
		resumes(t, (*Publisher).Break)
	})
	check("REC-2", "after a connection that ended in the middle of a chunked body they go on too", func(t *Trial) {
		resumes(t, func(p *Publisher) { p.Hang() })
	})
	check("REC-2", "after a body that is shorter than its Content-Length they go on too", func(t *Trial) {
		resumes(t, func(p *Publisher) { p.Hang() }, fixed)
	})
	check("REC-2", "after damaged bytes they go on too", resumesAfterGarbage)
	check("REC-2", "after a publisher's silence, which is 408, they go on too", resumesAfterSilence, limit(60*second))
	check("REC-2", "after a second return they go on too", resumesTwice)
	check("REC-2", "a publisher that returns in the middle of a group of pictures goes on with its first key frame", resumesAtKey)
	check("REC-2", "a return that is refused changes nothing", refusedReturn)
	check("REC-2", "a viewer that joins after a return gets the current stream", joinsAfterReturn)

	check("REC-3", "when the grace time passes, bodies end cleanly and a GET is 404", gracePasses, limit(40*second))
	check("REC-3", "when other kinds of track return, bodies end cleanly and a fresh GET gets the new stream", func(t *Trial) {
		returnsOther(t, media.Without(media.Cut(plain(), 2*second, 4*second), audio))
	})
	check("REC-3", "when another Vorbis setup returns, bodies end cleanly and a fresh GET gets the new stream", func(t *Trial) {
		returnsOther(t, otherSound())
	})
}

// otherSound is a source whose Vorbis has another rate and setup than the plain clip's.
func otherSound() *media.Source { return media.Document("ebml-two-documents-other", 1) }

func comesAgain(t *Trial) {
	p, v := t.Live(first(7 * second))
	for _, at := range []time.Duration{1700, 2700, 3600} {
		v.Leave()
		p.AwaitSent(at * time.Millisecond)
		v = t.Watch(p.ID)
		view := v.AwaitBlocks(tolerance, video, 5)
		t.Keeps(view, "WAT-3")
		doubt := t.startOf(p, v, view, fmt.Sprintf("a viewer that comes again after %v", at*time.Millisecond))
		if doubt != "" {
			t.FailUnlessHeld(newness, "%s", doubt)
		}
	}
}

// Hang ends the sending side of the connection, where the body isn't whole yet.
func (p *Publisher) Hang() {
	p.mu.Lock()
	p.done = true
	p.signal()
	p.mu.Unlock()
	p.conn.Hang()
}

// seam is where in the plain clip publishers break off and others go on, a key frame.
const seam = second

// broken publishes the first second of the plain clip and has its publisher end in some manner, with a viewer watching.
func broken(t *Trial, end func(*Publisher), modes ...mode) (*Publisher, *Viewer) {
	p, v := t.Live(first(3*second), append(modes, until(seam))...)
	p.AwaitSent(seam)
	v.Await(tolerance, "what was sent before the publisher broke off", func(w View) bool { return len(w.Of(video)) >= 29 })
	end(p)
	return p, v
}

// rest is the plain clip from the seam on.
func rest() *media.Source { return media.Cut(plain(), seam, seam+2*second) }

// resumes: viewers go on in the same body.
func resumes(t *Trial, end func(*Publisher), modes ...mode) {
	p, v := broken(t, end, modes...)
	s := rest()
	t.Return(p.ID, s).Accepted(s.Duration + tolerance)
	t.joined(v.AwaitEnd(tolerance), p.Source, s)
}

// joined judges a body over a return: all of what was sent before, then all of the new source, one frame's length after.
func (t *Trial) joined(view View, before *media.Source, after ...*media.Source) {
	t.Expect(view.Clean()).To(gomega.BeTrue(), "the body ends cleanly after the publisher that returned: %v; %s", view.Err, view.describe())
	t.Keeps(view, "WAT-2")
	t.Keeps(view, "WAT-5")
	tail := view
	for i, s := range after {
		key := s.Of(video)[0]
		for _, f := range s.Of(video) {
			if f.Key {
				key = f
				break
			}
		}
		cut := -1
		for n, b := range tail.Blocks { // the last one, because sources may begin alike
			if b.Kind == video && b.Hash == webm.Hash(key.Payload) {
				cut = n
			}
		}
		if cut <= 0 {
			t.Fail("after return %d the first key frame of the publisher that returned didn't come in the same body; %s", i+1, view.describe())
		}
		earlier := tail
		earlier.Blocks = tail.Blocks[:cut]
		tail.Blocks = tail.Blocks[cut:]
		t.seamless(earlier, tail, fmt.Sprintf("return %d", i+1))
		if i == 0 {
			t.Expect(len(earlier.Of(video))).To(gomega.BeNumerically(">=", 29), "pictures of before the publisher broke off")
		}
		if i == len(after)-1 {
			if err := whole(tail, s, 0); err != nil {
				t.Fail("after return %d: %v", i+1, err)
			}
		}
	}
}

// seamless judges the step from one publisher to the next, up to whose first key frame its sound may already play.
func (t *Trial) seamless(earlier, later View, what string) {
	t.Expect(later.Blocks[0].Key).To(gomega.BeTrue(), "the first picture after %s is a key frame", what)
	last := earlier.Blocks[0].Time
	for _, b := range append(earlier.Blocks[1:len(earlier.Blocks):len(earlier.Blocks)], later.Blocks[0]) {
		t.Expect(b.Time-last).To(gomega.BeNumerically("<=", maxSeam), "the time from one frame to the next up to the first picture after %s (byte %d)", what, b.Offset)
		last = b.Time
	}
	pictures := earlier.Of(video)
	step := later.Blocks[0].Time - pictures[len(pictures)-1].Time
	t.Expect(step).To(gomega.BeNumerically(">", 5*time.Millisecond), "the time from the last picture before %s to the first after it", what)
}

// maxSeam is one frame's length of either track after the last frame of either, and what rounding takes.
const maxSeam = 120 * time.Millisecond

func resumesAfterGarbage(t *Trial) {
	p, v := t.Live(fixture("bad-garbage-after-3s"))
	a := p.Answer(10 * second)
	t.Given.Expect(a.Status).To(gomega.Equal(400), "the status of a body that turns to garbage")
	s := media.Cut(fixture("ebml-known-sizes"), 0, 2*second)
	t.Return(p.ID, s).Accepted(s.Duration + tolerance)
	t.joined(v.AwaitEnd(tolerance), p.Source, s)
}

func resumesAfterSilence(t *Trial) {
	p, v := broken(t, func(*Publisher) {})
	a := p.Answer(t.Times.Idle + tolerance)
	t.Given.Expect(a.Status).To(gomega.Equal(408), "the status of a publisher that fell silent")
	s := rest()
	t.Return(p.ID, s).Accepted(s.Duration + tolerance)
	t.joined(v.AwaitEnd(tolerance), p.Source, s)
}

func resumesTwice(t *Trial) {
	p, v := broken(t, (*Publisher).Break)
	again := media.Cut(plain(), 3*second, 5*second)
	next := t.Return(p.ID, again, until(seam))
	next.Continue(seam, true)
	next.AwaitSent(seam)
	v.Await(tolerance, "what was sent before the second publisher broke off", func(w View) bool { return len(w.Of(video)) >= 58 })
	next.Break()
	s := media.Cut(plain(), 6*second, 7*second)
	t.Return(p.ID, s).Accepted(s.Duration + tolerance)
	t.joined(v.AwaitEnd(tolerance), p.Source, again, s)
}

func resumesAtKey(t *Trial) {
	p, v := broken(t, (*Publisher).Break)
	s := media.Cut(plain(), seam+second/2, seam+2*second)
	t.Return(p.ID, s).Accepted(s.Duration + tolerance)
	t.joined(v.AwaitEnd(tolerance), p.Source, s)
}

func refusedReturn(t *Trial) {
	p, v := broken(t, (*Publisher).Break)
	bad := t.Return(p.ID, media.Raw("a text", []byte("This is no media, and it is longer than any recognition could take for the beginning of some.")))
	t.Given.Expect(bad.Answer(tolerance).Status).To(gomega.Equal(415), "the status of a return with a text")
	s := rest()
	t.Return(p.ID, s).Accepted(s.Duration + tolerance)
	t.joined(v.AwaitEnd(tolerance), p.Source, s)
}

func joinsAfterReturn(t *Trial) {
	p, _ := broken(t, (*Publisher).Break)
	s := rest()
	next := t.Return(p.ID, s)
	next.AwaitSent(1300 * time.Millisecond)
	v := t.Watch(p.ID)
	view := v.AwaitEnd(2 * tolerance)
	t.Keeps(view, "WAT-2")
	t.Keeps(view, "WAT-3")
	m, err := matched(view, s, video)
	t.Expect(err).NotTo(gomega.HaveOccurred(), "the pictures of a viewer that joins after a return")
	t.Expect(m.first).To(gomega.BeNumerically(">=", 30), "the picture of the returned publisher with which a viewer begins that joins 1.3 s later")
}

func gracePasses(t *Trial) {
	p, v := broken(t, (*Publisher).Break)
	began := time.Now()
	view := v.AwaitEnd(t.Times.Grace + 2*tolerance)
	t.Expect(view.Clean()).To(gomega.BeTrue(), "the body ends cleanly when the grace time has passed: %v", view.Err)
	took := view.Ended.Sub(began)
	t.Expect(took).To(gomega.BeNumerically(">=", t.Times.Grace-200*time.Millisecond), "the time from the publisher's reset to the body's end, with a grace time of %v", t.Times.Grace)
	t.InTime(took, t.Times.Grace+second, "the body's end after the publisher's reset")
	t.Expect(t.Ask("GET", path(p.ID)).Status).To(gomega.Equal(http.StatusNotFound), "the status of a GET after the grace time")
}

func returnsOther(t *Trial, s *media.Source) {
	p, v := broken(t, (*Publisher).Break)
	next := t.Return(p.ID, s)
	view := v.AwaitEnd(tolerance)
	t.Expect(view.Clean()).To(gomega.BeTrue(), "the body ends cleanly when tracks return that can't go on in it: %v", view.Err)
	t.Keeps(view, "WAT-2")
	fresh := t.Join(p.ID)
	t.Expect(fresh.Answer(tolerance).Status).To(gomega.Equal(http.StatusOK), "the status of a fresh GET")
	next.Accepted(s.Duration + tolerance)
	got := fresh.AwaitEnd(tolerance)
	for _, track := range s.Tracks {
		if _, err := matched(got, s, track.Kind); err != nil {
			t.Fail("a fresh viewer of the new stream: %v", err)
		}
	}
	t.Expect(got.Tracks).To(gomega.HaveLen(len(s.Tracks)), "tracks of the new stream")
}
