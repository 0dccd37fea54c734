package suite

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/onsi/gomega"

	"tureen/conformance/media"
	"tureen/conformance/wire"
)

// api declares the checks of SPEC.md's chapter "REST API".
func api(check declare) {
	check("API-1", "add-token makes tokens, and replaces them", addsTokens)
	check("API-2", "revoke-token takes a session's tokens away and tells which", revokesTokens)
	check("API-3", "list-tokens lists one object per token", listsTokens)
	check("API-4", "list-streams tells of a live stream what there is to know", listsLive)
	check("API-4", "list-streams tells of a session that waits for its publisher", listsWaiting, feature("resume"))
	check("API-5", "abort-stream ends publisher and viewers, and keeps tokens", aborts)
	check("API-5", "abort-stream ends a session that waits for its publisher", abortsWaiting, feature("resume"))
	check("API-5", "abort-stream of an absent session is 404", func(t *Trial) {
		t.Expect(t.call("DELETE", "abort-stream", "sessionid", t.ID()).Status).To(gomega.Equal(404), "the status")
	})
	check("API-6", "a parameter that is missing, repeated, unknown or malformed is 400 that names it, and changes nothing", badParameters)

	check("API-7", "a wrong method on a stream is 405 with Allow", func(t *Trial) {
		for _, method := range []string{"DELETE", "PATCH", "MKCOL"} {
			a := t.Ask(method, path(t.ID()))
			t.Expect(a.Status).To(gomega.Equal(http.StatusMethodNotAllowed), "the status of %s", method)
			for _, allowed := range []string{"GET", "HEAD", "PUT", "POST"} {
				t.Expect(a.Header.Get("Allow")).To(gomega.ContainSubstring(allowed), "Allow of the 405 to %s", method)
			}
		}
	})
	check("API-7", "a wrong method on a call is 405 with Allow", func(t *Trial) {
		for call, method := range map[string]string{
			"add-token": "POST", "revoke-token": "DELETE", "list-tokens": "GET", "list-streams": "GET", "abort-stream": "DELETE",
		} {
			a := t.Ask("PATCH", "/api/"+call+"?sessionid="+t.ID())
			t.Expect(a.Status).To(gomega.Equal(http.StatusMethodNotAllowed), "the status of PATCH /api/%s", call)
			t.Expect(a.Header.Get("Allow")).To(gomega.ContainSubstring(method), "Allow of the 405 to PATCH /api/%s", call)
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
	check("API-8", "errors of the API are problem+json with title, status and detail", func(t *Trial) {
		id := t.ID()
		t.isProblem("revoke-token of a session without tokens", t.call("DELETE", "revoke-token", "sessionid", id), 404)
		t.isProblem("add-token without a type", t.call("POST", "add-token", "sessionid", id), 400)
		t.isProblem("PATCH of list-tokens", t.call("PATCH", "list-tokens", "sessionid", id), 405)
		t.isProblem("an unknown call", t.call("GET", "dance", "sessionid", id), 404)
		t.isProblem("a foreign page's call", t.Ask("GET", "/api/list-tokens?sessionid="+id, "Origin: https://evil.example"), 403)
	})
	check("API-8", "an error that answers HEAD has no body", func(t *Trial) {
		a := t.Ask("HEAD", path(t.ID()))
		t.Expect(a.Status).To(gomega.Equal(http.StatusNotFound), "the status of HEAD")
		t.Expect(mediaType(a.Header)).To(gomega.Equal("application/problem+json"), "Content-Type of the 404 to HEAD")
	})
	check("API-9", "openapi.json is OpenAPI 3.1, has the calls, and tells features and times", describes)
	check("API-10", "calls that a foreign page makes are 403", foreignPages)
	check("API-10", "a Host that isn't this server's is 403", foreignHosts)
	check("API-10", "no call is answered with CORS header fields", noCORS)
}

// call makes a REST call with its parameters as names and values in turn.
func (t *Trial) call(method, name string, parameters ...string) Answered {
	var pairs []string
	for i := 0; i+1 < len(parameters); i += 2 {
		pairs = append(pairs, url.QueryEscape(parameters[i])+"="+url.QueryEscape(parameters[i+1]))
	}
	return t.Ask(method, "/api/"+name+"?"+strings.Join(pairs, "&"))
}

// token is one of list-tokens' objects, host and port as they are written.
type token struct {
	SessionID *string         `json:"sessionid"`
	Type      *string         `json:"type"`
	Host      json.RawMessage `json:"host"`
	Port      json.RawMessage `json:"port"`
}

// String is the token in short: its type and, for RTP, where it goes.
func (k token) String() string {
	if k.Type == nil {
		return "no type"
	}
	return fmt.Sprintf("%s %s %s", *k.Type, k.Host, k.Port)
}

// withToken gives a session a token that ends with the check.
func (t *Trial) withToken(id string, parameters ...string) Answered {
	t.onEnd(func() { t.forget(id) })
	return t.call("POST", "add-token", append([]string{"sessionid", id}, parameters...)...)
}

// forget revokes a session's tokens at a check's end, when nothing is judged any more.
func (t *Trial) forget(id string) {
	c, err := wire.Dial(t.ctx, t.Target.Base, t.Script)
	if err != nil {
		return
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(second))
	if c.Send(wire.Request{Method: "DELETE", Path: "/api/revoke-token?sessionid=" + id}) == nil {
		c.ReadResponse() // so that it has taken effect
	}
}

// tokensOf reads an array of tokens; those of other sessions are left out.
func (t *Trial) tokensOf(a Answered, id string) []string {
	var all []token
	if err := json.Unmarshal(a.Body, &all); err != nil {
		t.Fail("the tokens aren't a JSON array of objects: %v: %.300s", err, a.Body)
	}
	tokens := []string{}
	for _, k := range all {
		if k.SessionID != nil && *k.SessionID == id {
			tokens = append(tokens, k.String())
		}
	}
	return tokens
}

// listed are the tokens that a session has.
func (t *Trial) listed(id string) []string {
	a := t.call("GET", "list-tokens")
	t.Expect(a.Status).To(gomega.Equal(200), "the status of list-tokens")
	return t.tokensOf(a, id)
}

// httpToken and rtpToken are tokens in short.
const httpToken = "http null null"

func rtpToken(port int) string { return fmt.Sprintf(`rtp-udp "127.0.0.1" %d`, port) }

func addsTokens(t *Trial) {
	id := t.ID()
	a := t.withToken(id, "type", "http")
	t.Expect(a.Status).To(gomega.Equal(http.StatusCreated), "the status of a session's first token")
	t.Expect(mediaType(a.Header)).To(gomega.Equal("application/json"), "Content-Type")
	t.Expect(t.tokensOf(a, id)).To(gomega.Equal([]string{httpToken}), "the tokens in the answer")
	t.Expect(t.listed(id)).To(gomega.Equal([]string{httpToken}), "the tokens listed")
	for _, kinds := range []string{"rtp-udp,http", "http,rtp-udp"} {
		a = t.withToken(id, "type", kinds, "udp-clients", "127.0.0.1:40000,127.0.0.1:40010")
		t.Expect(a.Status).To(gomega.Equal(http.StatusOK), "the status of type %s, which replaces earlier tokens", kinds)
		want := gomega.ConsistOf(httpToken, rtpToken(40000), rtpToken(40010))
		t.Expect(t.tokensOf(a, id)).To(want, "the tokens in the answer to type %s", kinds)
		t.Expect(t.listed(id)).To(want, "the tokens listed after type %s", kinds)
	}
}

func revokesTokens(t *Trial) {
	id := t.ID()
	t.Given.Expect(t.withToken(id, "type", "http,rtp-udp", "udp-clients", "127.0.0.1:40020").Status).To(gomega.Equal(201), "the status of add-token")
	a := t.call("DELETE", "revoke-token", "sessionid", id)
	t.Expect(a.Status).To(gomega.Equal(200), "the status of revoke-token")
	t.Expect(t.tokensOf(a, id)).To(gomega.ConsistOf(httpToken, rtpToken(40020)), "what was removed")
	t.Expect(t.listed(id)).To(gomega.BeEmpty(), "the tokens listed after that")
	t.Expect(t.call("DELETE", "revoke-token", "sessionid", id).Status).To(gomega.Equal(404), "the status of revoking again")
}

func listsTokens(t *Trial) {
	id, other := t.ID(), t.ID()
	t.Given.Expect(t.withToken(id, "type", "rtp-udp", "udp-clients", "127.0.0.1:40030,127.0.0.1:40040").Status).To(gomega.Equal(201), "the status of add-token")
	t.Given.Expect(t.withToken(other, "type", "http").Status).To(gomega.Equal(201), "the status of add-token")
	a := t.call("GET", "list-tokens")
	t.Expect(a.Status).To(gomega.Equal(200), "the status")
	t.Expect(mediaType(a.Header)).To(gomega.Equal("application/json"), "Content-Type")
	t.Expect(t.tokensOf(a, id)).To(gomega.ConsistOf(rtpToken(40030), rtpToken(40040)), "one object for each client")
	t.Expect(t.tokensOf(a, other)).To(gomega.Equal([]string{httpToken}), "host and port of a token of type http")
}

// stream is one of list-streams' objects.
type stream struct {
	SessionID string     `json:"sessionid"`
	State     string     `json:"state"`
	Started   string     `json:"started"`
	Publisher string     `json:"publisher"`
	Tracks    []apiTrack `json:"tracks"`
	Viewers   *int       `json:"viewers"`
	BytesIn   *int64     `json:"bytes_in"`
	BytesOut  *int64     `json:"bytes_out"`
	RTP       *[]string  `json:"rtp"`
}

type apiTrack struct {
	SummaryTrack
	Width      int `json:"width"`
	Height     int `json:"height"`
	SampleRate int `json:"sample_rate"`
	Channels   int `json:"channels"`
}

// streamOf is what list-streams tells of a session; nil where it isn't there.
func (t *Trial) streamOf(id string) *stream {
	a := t.call("GET", "list-streams")
	t.Expect(a.Status).To(gomega.Equal(200), "the status of list-streams")
	var all []stream
	if err := json.Unmarshal(a.Body, &all); err != nil {
		t.Fail("the streams aren't a JSON array of objects: %v: %.300s", err, a.Body)
	}
	for _, s := range all {
		if s.SessionID == id {
			return &s
		}
	}
	return nil
}

func listsLive(t *Trial) {
	p, v := t.Live(first(4 * second))
	v.AwaitBlocks(tolerance, video, 20)
	s := t.streamOf(p.ID)
	t.Expect(s).NotTo(gomega.BeNil(), "a live stream in list-streams")
	t.Expect(s.State).To(gomega.Equal("live"), "state")
	started, err := time.Parse(time.RFC3339Nano, s.Started)
	t.Expect(err).NotTo(gomega.HaveOccurred(), "started, by RFC 3339")
	t.Expect(time.Since(started)).To(gomega.BeNumerically("~", 5*second, 5*second+time.Minute), "how long ago it started")
	host, port, err := net.SplitHostPort(s.Publisher) // not this side's, where addresses are translated between
	t.Expect(err).NotTo(gomega.HaveOccurred(), "publisher, which is host:port")
	t.Expect(net.ParseIP(host) != nil && port != "0").To(gomega.BeTrue(), "publisher is an address: %s", s.Publisher)
	t.Expect(s.Viewers).To(gomega.HaveValue(gomega.Equal(1)), "viewers")
	t.Expect(s.BytesIn).To(gomega.HaveValue(gomega.BeNumerically(">", 10_000)), "bytes_in")
	t.Expect(s.BytesOut).To(gomega.HaveValue(gomega.BeNumerically(">", 10_000)), "bytes_out")
	t.Expect(s.RTP).To(gomega.HaveValue(gomega.BeEmpty()), "rtp")
	tracks := []string{}
	for _, k := range s.Tracks {
		t.Expect(k.Reason).NotTo(gomega.BeEmpty(), "reason of the %s track", k.Kind)
		tracks = append(tracks, fmt.Sprintf("%s %s %s %s %d×%d %d %d", k.Kind, k.InputCodec, k.OutputCodec, k.Mode, k.Width, k.Height, k.SampleRate, k.Channels))
	}
	t.Expect(tracks).To(gomega.ConsistOf("video vp8 vp8 passthrough 640×360 0 0", "audio vorbis vorbis passthrough 0×0 48000 2"), "tracks")
	p.Finish()
}

func listsWaiting(t *Trial) {
	p, v := t.Live(first(3*second), until(second))
	p.AwaitSent(second)
	v.AwaitBlocks(tolerance, video, 20)
	p.Break()
	patience := time.Now().Add(second)
	for {
		s := t.streamOf(p.ID)
		if s != nil && s.State == "waiting" {
			return
		}
		if time.Now().After(patience) {
			t.Fail("a session whose publisher has broken off is listed as %+v instead of waiting", s)
		}
		t.After(20 * time.Millisecond) // the target may not have noticed yet
	}
}

func aborts(t *Trial) {
	id := t.ID()
	t.Given.Expect(t.withToken(id, "type", "http").Status).To(gomega.Equal(201), "the status of add-token")
	p := t.Publish(id, first(6*second))
	v := t.Join(id)
	v.Watching(tolerance)
	told := time.Now()
	t.Expect(t.call("DELETE", "abort-stream", "sessionid", id).Status).To(gomega.Equal(200), "the status of abort-stream")
	t.Expect(p.Answer(tolerance).Status).To(gomega.Equal(http.StatusGone), "the publisher's status")
	view := v.AwaitEnd(tolerance)
	t.Expect(view.Clean()).To(gomega.BeTrue(), "the viewer's body ends cleanly: %v", view.Err)
	t.InTime(view.Ended.Sub(told), second, "the end of the viewer's body after abort-stream")
	t.Expect(t.Ask("GET", path(id)).Status).To(gomega.Equal(404), "the status of a GET after abort-stream: there is no grace time")
	t.Expect(t.listed(id)).To(gomega.Equal([]string{httpToken}), "the session's tokens after abort-stream")
}

func abortsWaiting(t *Trial) {
	p, v := t.Live(first(3*second), until(second))
	p.AwaitSent(second)
	p.Break()
	t.After(200 * time.Millisecond)
	told := time.Now()
	t.Expect(t.call("DELETE", "abort-stream", "sessionid", p.ID).Status).To(gomega.Equal(200), "the status of abort-stream")
	view := v.AwaitEnd(tolerance)
	t.Expect(view.Clean()).To(gomega.BeTrue(), "the viewer's body ends cleanly: %v", view.Err)
	t.InTime(view.Ended.Sub(told), second, "the end of the viewer's body after abort-stream")
}

func badParameters(t *Trial) {
	id := t.ID()
	t.Given.Expect(t.withToken(id, "type", "http").Status).To(gomega.Equal(201), "the status of add-token")
	tests := []struct{ method, call, query, names string }{
		{"POST", "add-token", "type=http", "sessionid"},
		{"POST", "add-token", "sessionid=" + id, "type"},
		{"POST", "add-token", "type=&sessionid=" + id, "type"},
		{"POST", "add-token", "type=smoke&sessionid=" + id, "type"},
		{"POST", "add-token", "type=http,smoke&sessionid=" + id, "type"},
		{"POST", "add-token", "type=http&type=http&sessionid=" + id, "type"},
		{"POST", "add-token", "type=rtp-udp&udp-clients=127.0.0.1:40050&sessionid=" + id + "&sessionid=" + id, "sessionid"},
		{"POST", "add-token", "type=rtp-udp&udp-clients=127.0.0.1:40050&color=red&sessionid=" + id, "color"},
		{"POST", "add-token", "type=http&sessionid=" + id + "%2F", "sessionid"},
		{"DELETE", "revoke-token", "", "sessionid"},
		{"DELETE", "revoke-token", "sessionid=" + id + "&sessionid=" + id, "sessionid"},
		{"DELETE", "revoke-token", "session=" + id, "session"},
		{"DELETE", "revoke-token", "sessionid=" + id + "&force=1", "force"},
		{"DELETE", "abort-stream", "sessionid=" + id + "&why=1", "why"},
		{"GET", "list-tokens", "color=red", "color"},
	}
	for _, test := range tests {
		a := t.Ask(test.method, "/api/"+test.call+"?"+test.query)
		t.Expect(a.Status).To(gomega.Equal(400), "the status of %s /api/%s?%s", test.method, test.call, test.query)
		t.Expect(string(a.Body)).To(gomega.ContainSubstring(test.names), "the 400 to %s /api/%s?%s names the parameter", test.method, test.call, test.query)
	}
	t.Expect(t.listed(id)).To(gomega.Equal([]string{httpToken}), "the session's tokens after bad calls")
}

func describes(t *Trial) {
	a := t.Ask("GET", "/api/openapi.json")
	t.Expect(a.Status).To(gomega.Equal(200), "the status of /api/openapi.json")
	var d struct {
		OpenAPI string `json:"openapi"`
		Info    struct {
			Features []string           `json:"x-features"`
			Times    map[string]float64 `json:"x-times"`
		} `json:"info"`
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(a.Body, &d); err != nil {
		t.Fail("openapi.json isn't what it is named after: %v", err)
	}
	t.Expect(d.OpenAPI).To(gomega.HavePrefix("3.1"), "openapi")
	t.Expect(d.Info.Features).NotTo(gomega.BeNil(), "info.x-features")
	for _, name := range []string{"idle", "grace", "budget", "drain"} {
		t.Expect(d.Info.Times[name]).To(gomega.BeNumerically(">", 0), "%s in info.x-times", name)
	}
	for call, method := range map[string]string{
		"add-token": "post", "revoke-token": "delete", "list-tokens": "get", "list-streams": "get", "abort-stream": "delete",
	} {
		t.Expect(d.Paths["/api/"+call]).To(gomega.HaveKey(method), "the description of /api/%s", call)
	}
}

func foreignPages(t *Trial) {
	id := t.ID()
	for _, f := range []string{"Origin: https://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site"} {
		for _, r := range [][2]string{
			{"POST", "/api/add-token?type=http&sessionid=" + id}, {"GET", "/api/list-tokens?x=" + id}, {"DELETE", "/api/abort-stream?sessionid=" + id},
		} {
			a := t.Ask(r[0], r[1], f)
			t.Expect(a.Status).To(gomega.Equal(http.StatusForbidden), "the status of %s %s with %s", r[0], r[1], f)
		}
	}
	t.Expect(t.listed(id)).To(gomega.BeEmpty(), "the tokens that a foreign page has made")
	own := t.Target.Base.Scheme + "://" + t.Target.Base.Host
	t.Expect(t.Ask("GET", "/api/list-tokens", "Origin: "+own, "Sec-Fetch-Site: same-origin").Status).To(gomega.Equal(200), "the status of a call that the server's own page makes")
}

func foreignHosts(t *Trial) {
	for _, host := range []string{"evil.example", "evil.example:8000", "localhost.evil.example"} {
		c := t.Dial()
		t.Given.Expect(c.Write([]byte("GET /api/list-tokens?x=" + t.ID() + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n"))).To(gomega.Succeed())
		c.SetReadDeadline(time.Now().Add(tolerance))
		t.Expect(t.answerOn(c).Status).To(gomega.Equal(http.StatusForbidden), "the status of a call with Host: %s", host)
		c.Close()
	}
	c := t.Dial()
	t.Given.Expect(c.Write([]byte("GET /api/list-tokens HTTP/1.1\r\nHost: localhost\r\n\r\n"))).To(gomega.Succeed())
	c.SetReadDeadline(time.Now().Add(tolerance))
	t.Expect(t.answerOn(c).Status).To(gomega.Equal(200), "the status of a call with Host: localhost")
}

func noCORS(t *Trial) {
	id := t.ID()
	for _, r := range [][2]string{{"GET", "/api/list-tokens?x=" + id}, {"OPTIONS", "/api/abort-stream?sessionid=" + id}, {"GET", "/api/nothing?sessionid=" + id}} {
		a := t.Ask(r[0], r[1], "Origin: https://evil.example", "Access-Control-Request-Method: DELETE")
		for name := range a.Header {
			t.Expect(name).NotTo(gomega.HavePrefix("Access-Control-"), "a header field of %s %s", r[0], r[1])
		}
	}
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
