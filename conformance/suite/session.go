package suite

import (
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/onsi/gomega"

	"tureen/conformance/media"
	"tureen/conformance/webm"
	"tureen/conformance/wire"
)

// plain is the clip that most checks publish: VP8 and Vorbis, a key frame each second.
var plain = sync.OnceValue(func() *media.Source { return media.Fixture("webm-vp8-vorbis") })

// fixture returns a fixture as it is.
func fixture(name string) *media.Source { return media.Fixture(name) }

// first is the beginning of the plain clip.
func first(d time.Duration) *media.Source { return media.Cut(plain(), 0, d) }

// tolerance is what an answer may take on a busy machine where nothing says how soon it has to come.
const tolerance = 3 * time.Second

// Live begins to publish a source and has a viewer watch it from its beginning, on which a check builds.
func (t *Trial) Live(s *media.Source, modes ...mode) (*Publisher, *Viewer) {
	p, v := t.Begin(s, modes...)
	v.Watching(tolerance)
	return p, v
}

// Begin publishes a source so that a viewer is there before its first frame: it sends the document's head, has a viewer come,
// and goes on once the viewer has its answer. A target that doesn't answer before there are frames holds the viewer.
func (t *Trial) Begin(s *media.Source, modes ...mode) (*Publisher, *Viewer) {
	p := t.Publish(t.ID(), s, append(modes, headOnly)...)
	until := forever
	for _, m := range modes { // the check's own bound comes after the head
		probe := Publisher{Source: s, until: forever}
		if m(&probe); probe.until != forever {
			until = probe.until
		}
	}
	v := t.Join(p.ID)
	p.Continue(until, true)
	return p, v
}

// Join has a viewer watch a session whose publisher's request is on its way: only 404 tells that it hasn't arrived yet, so it
// asks again for a while. The viewer that is returned has its answer, or is being held.
func (t *Trial) Join(id string) *Viewer {
	patience := time.Now().Add(tolerance)
	for {
		v := t.Watch(id)
		v.wait(time.Second, func(w View) bool { return w.Response != nil || w.Over })
		v.mu.Lock()
		absent := v.response != nil && v.response.Status == http.StatusNotFound
		v.mu.Unlock()
		if !absent || time.Now().After(patience) {
			return v
		}
		v.conn.Close()
		t.After(5 * time.Millisecond)
	}
}

// Return publishes to a session whose publisher has just broken off. Only 409 tells that the target hasn't noticed yet, so it
// tries again for a while; it asks for 100 Continue, which says that it was accepted.
func (t *Trial) Return(id string, s *media.Source, modes ...mode) *Publisher {
	patience := time.Now().Add(time.Second)
	for {
		p := t.Publish(id, s, append(modes, expecting)...)
		p.told()
		a, err := p.Peek()
		if err != nil || a.Status != http.StatusConflict || time.Now().After(patience) {
			return p
		}
		t.After(5 * time.Millisecond)
	}
}

// Whole publishes all of a source with a viewer from the beginning, and returns what the publisher was told and what the
// viewer got. The publisher has to be accepted.
func (t *Trial) Whole(s *media.Source, modes ...mode) (Summary, View) {
	p, v := t.Begin(s, modes...)
	summary := p.Accepted(s.Duration + 2*tolerance)
	view, ended := v.wait(tolerance, func(w View) bool { return w.Over })
	if !ended {
		v.conn.Note("=", "the viewer's body goes on after the publisher's end")
	}
	return summary, view
}

// Comes fails when the viewer didn't get most of the source's frames. That they are right is for others to judge.
func (t *Trial) Comes(w View, s *media.Source) {
	for _, track := range s.Tracks {
		got, want := len(w.Of(track.Kind)), len(s.Of(track.Kind))
		if got < want*8/10 {
			t.FailUnlessHeld(second/2, "a viewer got %d frames of %s, of %d; %s%s", got, track.Kind, want, w.describe(), faults(w, ""))
		}
	}
}

// Answered is an answer to a request that stood alone.
type Answered struct {
	*wire.Response
	Body []byte
}

// Ask sends a request without a body on a connection of its own and reads the answer.
func (t *Trial) Ask(method, path string, fields ...string) Answered {
	return t.Exchange(wire.Request{Method: method, Path: path, Fields: fields}, nil)
}

// Exchange sends a request with a body on a connection of its own and reads the answer.
func (t *Trial) Exchange(r wire.Request, body []byte) Answered {
	c := t.Dial()
	defer c.Close()
	t.Given.Expect(c.Send(r)).To(gomega.Succeed(), "sending a request")
	if len(body) > 0 {
		go c.Write(body) // an early answer is the answer
	}
	c.SetReadDeadline(time.Now().Add(2 * tolerance))
	for {
		answer, err := c.ReadResponse()
		if err != nil {
			t.Fail("%s %.200s: no answer: %v", r.Method, r.Path, err)
		}
		if answer.Status < 200 {
			continue
		}
		text, err := io.ReadAll(io.LimitReader(c.Body(answer, r.Method), maxAnswer))
		if err != nil && answer.Status != http.StatusOK {
			t.Fail("%s %.200s: the body of the answer %d broke off: %v", r.Method, r.Path, answer.Status, err)
		}
		if len(text) > 0 {
			c.Note("<", "%.600s", text)
		}
		return Answered{Response: answer, Body: text}
	}
}

// video and audio are the kinds of track.
const (
	video = webm.Video
	audio = webm.Audio
)
