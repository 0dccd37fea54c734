package suite

import (
	"encoding/json"
	"net/http"

	"github.com/onsi/gomega"

	"tureen/conformance/media"
	"tureen/conformance/wire"
)

// api declares the checks of SPEC.md's chapter "REST API" that need no API: errors below /stream/ and elsewhere.
func api(check declare) {
	check("API-7", "a wrong method on a stream is 405 with Allow", func(t *Trial) {
		for _, method := range []string{"DELETE", "PATCH", "MKCOL"} {
			a := t.Ask(method, path(t.ID()))
			t.Expect(a.Status).To(gomega.Equal(http.StatusMethodNotAllowed), "the status of %s", method)
			for _, allowed := range []string{"GET", "HEAD", "PUT", "POST"} {
				t.Expect(a.Header.Get("Allow")).To(gomega.ContainSubstring(allowed), "Allow of the 405 to %s", method)
			}
		}
	})
	check("API-7", "an unknown path is 404, whatever the method", func(t *Trial) {
		id := t.ID()
		for _, p := range []string{"/", "/stream", "/stream/" + id + "/more", "/streams/" + id, "/" + id, "/api/nothing"} {
			for _, method := range []string{"GET", "HEAD", "DELETE"} {
				a := t.Ask(method, p)
				t.Expect(a.Status).To(gomega.Equal(http.StatusNotFound), "the status of %s %s", method, p)
			}
		}
	})
	check("API-8", "errors are problem+json with title, status and detail", problems)
	check("API-8", "an error that answers HEAD has no body", func(t *Trial) {
		a := t.Ask("HEAD", path(t.ID()))
		t.Expect(a.Status).To(gomega.Equal(http.StatusNotFound), "the status of HEAD")
		t.Expect(mediaType(a.Header)).To(gomega.Equal("application/problem+json"), "Content-Type of the 404 to HEAD")
	})
}

// problem is RFC 9457's, as far as API-8 demands it.
type problem struct {
	Title  *string `json:"title"`
	Status *int    `json:"status"`
	Detail *string `json:"detail"`
}

func problems(t *Trial) {
	live := t.Publish(t.ID(), first(6*second))
	t.Join(live.ID).Watching(tolerance)
	t.isProblem("GET of an absent session", t.Ask("GET", path(t.ID())), 404)
	t.isProblem("GET of an unknown path", t.Ask("GET", "/nothing/"+t.ID()), 404)
	t.isProblem("DELETE of a stream", t.Ask("DELETE", path(t.ID())), 405)
	t.isProblem("GET of a malformed id", t.Ask("GET", path(t.ID()+"%2F")), 400)
	t.isProblem("an empty PUT", t.Ask("PUT", path(t.ID()), "Content-Length: 0"), 400)
	t.isProblem("a second publisher", t.Exchange(wire.Request{
		Method: "PUT", Path: path(live.ID), Fields: []string{"Transfer-Encoding: chunked", "Expect: 100-continue"},
	}, nil), 409)
	for s, status := range map[*media.Source]int{
		media.Raw("a text", []byte("This is no media, whatever the recogniser makes of it; it goes on for a while.")): 415,
		fixture("bad-cut-in-header"): 400,
	} {
		a := t.Publish(t.ID(), s).Answer(2 * tolerance)
		t.isProblem("a PUT of "+s.Name, Answered{Response: a.Response, Body: a.Body}, status)
	}
}

func (t *Trial) isProblem(what string, a Answered, status int) {
	t.Expect(a.Status).To(gomega.Equal(status), "the status of %s", what)
	t.Expect(mediaType(a.Header)).To(gomega.Equal("application/problem+json"), "Content-Type of the %d to %s", status, what)
	var p problem
	if err := json.Unmarshal(a.Body, &p); err != nil {
		t.Fail("the %d to %s isn't JSON: %v: %.200q", status, what, err, a.Body)
	}
	t.Expect(p.Title).To(gomega.HaveValue(gomega.Not(gomega.BeEmpty())), "title of the %d to %s", status, what)
	t.Expect(p.Status).To(gomega.HaveValue(gomega.Equal(status)), "status in the body of the %d to %s", status, what)
	t.Expect(p.Detail).To(gomega.HaveValue(gomega.Not(gomega.BeEmpty())), "detail of the %d to %s", status, what)
}
