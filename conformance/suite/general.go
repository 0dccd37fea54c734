package suite

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/onsi/gomega"

	"tureen/conformance/wire"
)

// general declares the checks of what holds for all of the target's paths.
func general(check declare) {
	check("GEN-1", "a malformed session id is 400, whatever the method", malformedIDs)
	check("GEN-1", "a session id of 128 characters and of every kind of them is taken", unusualIDs)
	check("GEN-1", "percent-encoded characters are the characters", encodedIDs)
	check("GEN-2", "of several refusals the first in order is answered", refusalOrder)
	check("GEN-3", "nothing is answered with a redirect", noRedirects)
}

// malformed makes ids malformed: some by what follows them, some as they are.
var malformed = []string{
	"%2Fb", "%20b", "+b", ":b", "%3Ab", "@b", "!b", "%00", "%C3%A9", ",b", ";b", "=b", "%25b", "*", "(b)",
}

func malformedIDs(t *Trial) {
	ids := []string{".", "..", "%2E", "%2e%2E", "", strings.Repeat("x", 129)}
	for _, tail := range malformed {
		ids = append(ids, t.ID()+tail)
	}
	long := t.ID()
	ids = append(ids, long+strings.Repeat("-", 129-len(long)), long+strings.Repeat("%2D", 129-len(long)))
	for _, id := range ids {
		for _, method := range []string{"GET", "HEAD", "PUT", "POST"} {
			fields := []string{}
			if method == "PUT" || method == "POST" {
				fields = append(fields, "Content-Length: 0")
			}
			a := t.Ask(method, path(id), fields...)
			t.Expect(a.Status).To(gomega.Equal(http.StatusBadRequest), "the status of %s %.60s", method, path(id))
		}
	}
}

func unusualIDs(t *Trial) {
	tail := "AZaz09._~-"
	id := t.ID()
	for _, id := range []string{id + tail, id + strings.Repeat("-", 128-len(id))} {
		a := t.Ask("GET", path(id))
		t.Expect(a.Status).To(gomega.Equal(http.StatusNotFound), "the status of GET %s, where nothing is published", path(id))
		p := t.Publish(id, first(second/2), headOnly, expecting)
		p.await(tolerance, "100 Continue to a publisher at "+path(id), func() bool { return len(p.interim) > 0 || p.answered != nil })
		t.Expect(p.Interim()).To(gomega.Equal([]int{100}), "what a publisher at %s is told", path(id))
	}
}

func encodedIDs(t *Trial) {
	id := t.ID()
	encoded := ""
	for _, c := range []byte(id) {
		encoded += fmt.Sprintf("%%%02X", c)
	}
	p := t.Publish(id, first(4*second))
	v := t.Join(id)
	v.Watching(tolerance)
	other := t.Watch(encoded)
	t.Expect(other.Answer(tolerance).Status).To(gomega.Equal(http.StatusOK), "the status of GET %s, which is %s", path(encoded), path(id))
	c := t.Dial()
	t.Given.Expect(c.Send(wire.Request{
		Method: "PUT", Path: path(encoded), Fields: []string{"Transfer-Encoding: chunked", "Expect: 100-continue"},
	})).To(gomega.Succeed())
	a := t.answerOn(c)
	t.Expect(a.Status).To(gomega.Equal(http.StatusConflict), "the status of PUT %s while %s is being published", path(encoded), path(id))
	p.Finish()
}

func refusalOrder(t *Trial) {
	live := t.Publish(t.ID(), first(6*second))
	t.Join(live.ID).Watching(tolerance)
	tests := []struct {
		what, method, path string
		fields             []string
		want               int
	}{
		{"an unknown path goes before a wrong method", "DELETE", "/nothing/" + t.ID(), nil, 404},
		{"a wrong method goes before a malformed id", "DELETE", path(t.ID() + "%2F"), nil, 405},
		{"a malformed id goes before an empty body", "PUT", path(t.ID() + "%2F"), []string{"Content-Length: 0"}, 400},
		{"a conflict goes before a malformed Content-Range", "PUT", path(live.ID), []string{"Content-Length: 0", "Content-Range: nonsense"}, 409},
		{"a conflict goes before an empty body", "PUT", path(live.ID), []string{"Content-Length: 0"}, 409},
	}
	for _, test := range tests {
		a := t.Ask(test.method, test.path, test.fields...)
		t.Expect(a.Status).To(gomega.Equal(test.want), "%s: the status of %s %s %v", test.what, test.method, test.path, test.fields)
	}
}

func noRedirects(t *Trial) {
	id := t.ID()
	for _, p := range []string{
		"/stream", "/stream/", "//stream/" + id, "/stream//" + id, "/stream/" + id + "/", "/stream/" + id + "/../x", "/stream/./" + id,
		"/api", "/api/", "/api//list-streams",
	} {
		for _, method := range []string{"GET", "HEAD"} {
			a := t.Ask(method, p)
			t.Expect(a.Status/100).NotTo(gomega.Equal(3), "%s %s was answered with %d, Location %q", method, p, a.Status, a.Header.Get("Location"))
		}
	}
}

// answerOn reads the next answer on a connection; of interim ones only 100 Continue is one here.
func (t *Trial) answerOn(c *wire.Conn) *wire.Response {
	for {
		r, err := c.ReadResponse()
		if err != nil {
			t.Fail("no answer: %v", err)
		}
		if r.Status >= 200 || r.Status == http.StatusContinue {
			return r
		}
	}
}
