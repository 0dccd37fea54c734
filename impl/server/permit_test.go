package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"tureen/impl/access"
	"tureen/impl/api"
	"tureen/impl/live"
	"tureen/impl/rtp"
	"tureen/impl/tokens"
)

// closed has sessions be closed without a token, and this machine be the token
// server.
func closed(c *Config) {
	c.Tokens = tokens.New(true)
	c.Access.Servers = access.Networks{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}
}

// sends is an option that lets RTP be sent to this machine.
func sends(c *Config) { c.RTP = rtp.NewSender(rtp.DefaultPolicy(), 0, c.Log) }

// call makes a call of the API and expects a status.
func (p *proxy) call(t *testing.T, method, call string, status int) []byte {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, p.base+"/api/"+call, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := p.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != status {
		t.Fatalf("%s %s: %s %s %v, want %d", method, call, answer.Status, body, err, status)
	}
	return body
}

func (p *proxy) allow(t *testing.T, id, types string) {
	t.Helper()
	if _, replaced := p.tokens.Get(id); replaced {
		p.call(t, "POST", "add-token?sessionid="+id+"&type="+types, 200)
		return
	}
	p.call(t, "POST", "add-token?sessionid="+id+"&type="+types, 201)
}

// listed is what list-streams answers.
func (p *proxy) listed(t *testing.T) (all []api.Stream) {
	t.Helper()
	if err := json.Unmarshal(p.call(t, "GET", "list-streams", 200), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// watched waits until a session's viewers have got so many bytes in all; the
// last of them may have come, but not been counted, when they are read.
func (p *proxy) watched(t *testing.T, id string, bytes int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		for _, s := range p.streams() {
			if s.SessionID == id && s.Viewers > 0 && s.BytesOut >= bytes {
				return
			}
		}
		select {
		case <-ctx.Done():
			t.Fatalf("nobody watches %s: %+v", id, p.streams())
		case <-time.After(time.Millisecond):
		}
	}
}

// TestPermits: what a session's token lets in, and that 403 comes after what is
// wrong with the request and before what is on the air (TOK-2, TOK-3, "Terms").
func TestPermits(t *testing.T) {
	p := start(t, closed, sends)
	p.allow(t, "http", "http")
	p.allow(t, "rtp", "rtp-udp&udp-clients=127.0.0.1:5000")
	p.allow(t, "both", "http,rtp-udp&udp-clients=127.0.0.1:6000")
	p.allow(t, "key", "http&publish-key=0123456789abcdef")
	tests := []struct {
		method, path string
		status       int
	}{
		{"PUT", "/stream/none", 403},
		{"POST", "/stream/none", 403},
		{"GET", "/stream/none", 403},
		{"HEAD", "/stream/none", 403},
		{"GET", "/stream/none/sdp", 403},
		{"HEAD", "/stream/none/sdp", 403},
		{"GET", "/stream/none/sdp?client=odd", 403},
		{"OPTIONS", "/stream/none", 204},
		{"PATCH", "/stream/none", 405},
		{"GET", "/stream/a%2Fb", 400},
		{"PUT", "/stream/a%2Fb", 400},
		{"GET", "/stream/none/x", 404},
		{"PUT", "/stream/http", 400}, // an empty body: it was let in
		{"GET", "/stream/http", 404},
		{"HEAD", "/stream/http", 404},
		{"GET", "/stream/http/sdp", 404},
		{"PUT", "/stream/rtp", 400},
		{"GET", "/stream/rtp", 403},
		{"HEAD", "/stream/rtp", 403},
		{"GET", "/stream/rtp/sdp", 404},
		{"PUT", "/stream/both", 400},
		{"GET", "/stream/both", 404},
		{"GET", "/stream/%62oth", 404},
		{"PUT", "/stream/key", 401},
		{"GET", "/stream/key", 404},
	}
	check := func(method, path string, status int) {
		t.Helper()
		conn, answer := p.raw(t, method+" "+path+" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", method)
		defer conn.Close()
		if answer.StatusCode != status {
			t.Errorf("%s %s: %s, want %d", method, path, answer.Status, status)
		}
		if method != "HEAD" && status != 204 {
			expectProblem(t, answer, status)
		}
	}
	for _, test := range tests {
		check(test.method, test.path, test.status)
	}
	p.onAir(t, "http", "webm-vp8")
	check("PUT", "/stream/http", 409)
	p.Drain()
	check("PUT", "/stream/none", 503)
	check("GET", "/stream/none", 503)
	check("HEAD", "/stream/none", 503)
	check("GET", "/stream/none/sdp", 503)
	check("GET", "/stream/a%2Fb", 400)
}

// TestCapacityBeforeRange: a publisher for whom there is no room is told that,
// and not what is wrong with its Content-Range; a conflict comes first ("Terms").
func TestCapacityBeforeRange(t *testing.T) {
	p := start(t, func(c *Config) { c.Publishers.Total = 1 })
	malformed, gap := header("Content-Range", "bytes"), header("Content-Range", "bytes 7-7/*")
	expectProblem(t, p.put(t, "a", strings.NewReader("x"), malformed), http.StatusBadRequest)
	expectProblem(t, p.put(t, "a", strings.NewReader("x"), gap), http.StatusRequestedRangeNotSatisfiable)
	p.onAir(t, "b", "webm-vp8")
	expectProblem(t, p.put(t, "a", strings.NewReader("x"), malformed), http.StatusServiceUnavailable)
	expectProblem(t, p.put(t, "a", strings.NewReader("x"), gap), http.StatusServiceUnavailable)
	expectProblem(t, p.put(t, "b", strings.NewReader("x"), malformed), http.StatusConflict)
}

// TestEveryPath: whatever a path looks like, the answer is a problem, and under
// /api/ it is 403 for who may not call, however that is written (TOK-1, API-8).
func TestEveryPath(t *testing.T) {
	p := start(t, closed, func(c *Config) {
		c.Access.Servers = access.Networks{{Prefix: netip.MustParsePrefix("192.0.2.1/32")}} // and so this machine is a stranger
	})
	tests := []struct {
		line   string // of the request
		status int
	}{
		{"GET /api/list-tokens", 403},
		{"GET /api/", 403},
		{"GET /api", 403},
		{"GET /api/nothing", 403},
		{"BREW /api/list-tokens", 403},
		{"OPTIONS /api/add-token", 403},
		{"GET /%61pi/list-tokens", 403},
		{"GET /api/list%2Dtokens", 403},
		{"GET /api//list-tokens", 403},
		{"GET /api/../stream/a", 403},
		{"GET http://127.0.0.1/api/list-tokens", 403},
		{"POST /api/add-token?type=http&sessionid=a", 403},
		{"GET /", 404},
		{"GET //api/list-tokens", 404},
		{"GET /stream/../api/list-tokens", 404},
		{"GET /./stream/a", 404},
		{"GET /stream/a/", 404},
		{"GET /stream/a/sdp/", 404},
		{"GET /stream/a/SDP", 404},
		{"GET /api%2Flist-tokens", 404},
		{"GET /stream%2Fa", 404},
		{"OPTIONS *", 404},
		{"CONNECT stream:443", 404},
		{"PATCH /healthz/", 404},
		{"GET /stream/a%2fsdp", 400},
		{"GET /stream/%2e%2e/sdp", 400},
		{"GET /stream/%zz", 400},
		{"GET stream/a", 400},
		{"GET /stream/a b", 400},
		{"DELETE /stream/a/sdp", 405},
		{"DELETE /stream/%2F/sdp", 405},
		{"GET /%73tream/a", 403},
	}
	for _, test := range tests {
		method, _, _ := strings.Cut(test.line, " ")
		conn, answer := p.raw(t, test.line+" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", method)
		expectProblem(t, answer, test.status)
		if answer.StatusCode != test.status {
			t.Errorf("%s: %s, want %d", test.line, answer.Status, test.status)
		}
		conn.Close()
	}
	if all := p.tokens.All(); len(all) != 0 {
		t.Errorf("a stranger added %+v", all)
	}
}

// TestPublishKey: TOK-9, with and without a token server: before what is on the
// air, and on return.
func TestPublishKey(t *testing.T) {
	const key = "0123456789abcdef"
	for name, options := range map[string][]func(*Config){"open": nil, "token server": {closed}} {
		t.Run(name, func(t *testing.T) {
			p := start(t, options...)
			p.allow(t, "a", "http&publish-key="+key)
			c := clip(t, "webm-vp8")
			tests := []struct {
				authorization []string
				challenge     string // "" when it is let in
			}{
				{nil, challenge},
				{[]string{""}, challenge},
				{[]string{"Bearer " + key + "0"}, challenge + `, error="invalid_token"`},
				{[]string{"Bearer " + strings.ToUpper(key)}, challenge + `, error="invalid_token"`},
				{[]string{"Basic " + key}, challenge + `, error="invalid_token"`},
				{[]string{key}, challenge + `, error="invalid_token"`},
				{[]string{"Bearer " + key, "Bearer " + key}, challenge + `, error="invalid_token"`},
				{[]string{"Bearer " + key}, ""},
				{[]string{"bearer  " + key}, ""},
			}
			for _, test := range tests {
				bears := func(r *http.Request) { r.Header["Authorization"] = test.authorization }
				answer := p.put(t, "a", bytes.NewReader(c.Data[:c.Frames[3].End]), bears)
				if test.challenge == "" {
					if answer.StatusCode != http.StatusOK {
						t.Errorf("%q: %s", test.authorization, answer.Status)
					}
					continue
				}
				expectProblem(t, answer, http.StatusUnauthorized)
				if got := answer.Header.Get("WWW-Authenticate"); got != test.challenge {
					t.Errorf("%q: the challenge is %q, want %q", test.authorization, got, test.challenge)
				}
			}
			p.breakOff(t, "a", "Authorization: Bearer "+key+"\r\n")
			expectProblem(t, p.put(t, "a", bytes.NewReader(c.Data)), http.StatusUnauthorized)
			p.await(t, "a", live.Waiting) // still: the refused one changes nothing
			answer := p.put(t, "a", bytes.NewReader(c.Data[:c.Frames[3].End]), header("Authorization", "Bearer "+key))
			if answer.StatusCode != http.StatusOK {
				t.Errorf("a return with the key: %s", answer.Status)
			}
		})
	}
}

// breakOff leaves a session waiting for its publisher.
func (p *proxy) breakOff(t *testing.T, id, fields string) {
	t.Helper()
	c := clip(t, "webm-vp8")
	s := p.sender(t, "127.0.0.1")
	s.send(id, len(c.Data), fields, c.Data[:c.Frames[10].End])
	p.await(t, id, live.Live)
	s.conn.Close()
	p.await(t, id, live.Waiting)
}

// publishing puts a clip on the air without an end; the channel gets its answer.
func (p *proxy) publishing(t *testing.T, id string) <-chan *http.Response {
	t.Helper()
	answers := make(chan *http.Response, 1)
	r, w := io.Pipe()
	t.Cleanup(func() { w.CloseWithError(errors.New("the test is over")) })
	go w.Write(clip(t, "webm-vp8-vorbis").Data)
	go func() {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, p.base+"/stream/"+id, r)
		if err != nil {
			panic(err)
		}
		answer, err := p.client.Do(request)
		if err != nil {
			answer = &http.Response{Status: err.Error(), Body: http.NoBody}
		}
		answers <- answer
	}()
	p.await(t, id, live.Live)
	return answers
}

// soon is how long ends may take that the contract wants within 1 s: that, a
// second more until a token expires that lives no longer, and one for a machine
// under load.
const soon = 3 * time.Second

// within waits for a value that must come soon.
func within[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(soon):
		t.Fatalf("%s doesn't come", what)
	}
	return v
}

// TestEnds: each way to put a session to its end, in each state that it may be
// in: the publisher gets 410, viewers the end of a whole body (TOK-4, TOK-7,
// API-5). Tokens outlive an abort.
func TestEnds(t *testing.T) {
	ends := map[string]func(*testing.T, *proxy){
		"revocation": func(t *testing.T, p *proxy) { p.call(t, "DELETE", "revoke-token?sessionid=a", 200) },
		"abort":      func(t *testing.T, p *proxy) { p.call(t, "DELETE", "abort-stream?sessionid=a", 200) },
		"expiry":     func(t *testing.T, p *proxy) { p.allow(t, "a", "http&ttl=1") },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			for _, secure := range []bool{false, true} {
				t.Run(fmt.Sprint("live, TLS ", secure), func(t *testing.T) { testEndLive(t, end, secure) })
			}
			t.Run("waiting", func(t *testing.T) { testEndWaiting(t, end) })
			t.Run("taken", func(t *testing.T) { testEndTaken(t, end) })
		})
	}
}

func testEndLive(t *testing.T, end func(*testing.T, *proxy), secure bool) {
	t.Parallel()
	p := start(t, closed)
	p.allow(t, "a", "http")
	watched := p
	if secure {
		watched = p.overTLS(t)
	}
	viewer := watched.watchAll(t, "a")
	publisher := p.publishing(t, "a")
	p.watched(t, "a", 1)
	_, kept := p.tokens.Get("a")
	end(t, p)
	expectProblem(t, within(t, "the publisher's answer", publisher), http.StatusGone)
	if got := within(t, "the viewer's end", viewer); got.err != io.EOF {
		t.Errorf("the viewer's body ends with %v", got.err)
	}
	if state := p.registry.State("a"); state != live.Absent {
		t.Errorf("the session is %v", state)
	}
	if _, still := p.tokens.Get("a"); still && kept { // an abort
		p.call(t, "DELETE", "abort-stream?sessionid=a", 404)
		expectProblem(t, p.get(t, "a"), http.StatusNotFound)
		return
	}
	p.call(t, "DELETE", "revoke-token?sessionid=a", 404)
	expectProblem(t, p.get(t, "a"), http.StatusForbidden)
}

func testEndWaiting(t *testing.T, end func(*testing.T, *proxy)) {
	t.Parallel()
	p := start(t, closed, func(c *Config) { c.Grace = time.Minute })
	p.allow(t, "a", "http")
	viewer := p.watchAll(t, "a")
	p.breakOff(t, "a", "")
	p.watched(t, "a", 1)
	end(t, p)
	if got := within(t, "the viewer's end", viewer); got.err != io.EOF {
		t.Errorf("the viewer's body ends with %v", got.err)
	}
	p.await(t, "a", live.Absent)
}

func testEndTaken(t *testing.T, end func(*testing.T, *proxy)) {
	t.Parallel()
	p := start(t, closed, func(c *Config) { c.Idle = time.Minute })
	p.allow(t, "a", "http")
	s := p.sender(t, "127.0.0.1")
	s.send("a", 1000, "", clip(t, "webm-vp8").Data[:40])
	p.await(t, "a", live.Taken)
	if listed := p.listed(t); len(listed) != 0 {
		t.Errorf("a session without tracks is listed: %+v", listed)
	}
	end(t, p)
	expectProblem(t, s.answer(), http.StatusGone)
	p.await(t, "a", live.Absent)
}

// TestEndBetweenParts: a publisher that sends a request per buffer hears of an
// abort with the next one.
func TestEndBetweenParts(t *testing.T) {
	p := start(t)
	c := cut(clip(t, "webm-vp8"), 20)
	s := p.sender(t, "127.0.0.1")
	head := headers(c.Data)
	s.ok(s.put("a", "", c.Data[:head]))
	tenth := int(c.Frames[9].End)
	s.ok(s.put("a", rangeOf(head, tenth, "*"), c.Data[head:tenth]))
	p.await(t, "a", live.Live)
	p.call(t, "DELETE", "abort-stream?sessionid=a", 200)
	p.await(t, "a", live.Absent)
	rest := rangeOf(tenth, len(c.Data), "*")
	other := p.sender(t, "127.0.0.2")
	expectProblem(t, other.put("a", rest, c.Data[tenth:]), http.StatusRequestedRangeNotSatisfiable)
	s = p.sender(t, "127.0.0.1")
	expectProblem(t, s.put("a", rest, c.Data[tenth:]), http.StatusGone)
	s = p.sender(t, "127.0.0.1")
	s.ok(s.put("a", "", c.Data)) // a new body is welcome
}

// TestHeldViewerIsRevoked: a viewer that waits for a stream doesn't get it when
// the token is gone meanwhile.
func TestHeldViewerIsRevoked(t *testing.T) {
	p := start(t, closed)
	p.allow(t, "a", "http")
	answers := make(chan *http.Response, 1)
	go func() { answers <- p.get(t, "a", header("Prefer", "wait=60")) }()
	p.awaitWaiter(t, "a")
	p.call(t, "DELETE", "revoke-token?sessionid=a", 200)
	expectProblem(t, within(t, "the answer", answers), http.StatusForbidden)
}

// TestReplaced: a token that is replaced by one without type http ends viewers,
// cleanly, and nobody else; with one that has it viewers come again (API-1).
func TestReplaced(t *testing.T) {
	for _, secure := range []bool{false, true} {
		p := start(t, closed, sends)
		p.allow(t, "a", "http")
		watched := p
		if secure {
			watched = p.overTLS(t)
		}
		viewer := watched.watchAll(t, "a")
		publisher := p.publishing(t, "a")
		p.watched(t, "a", 1)
		p.allow(t, "a", "http,rtp-udp&udp-clients=127.0.0.1:5000")
		if listed := p.listed(t); len(listed) != 1 || listed[0].Viewers != 1 || len(listed[0].RTP) != 1 {
			t.Errorf("after a replacement that lets viewers stay, listed are %+v", listed)
		}
		p.allow(t, "a", "rtp-udp&udp-clients=127.0.0.1:5000")
		if got := within(t, "the viewer's end", viewer); got.err != io.EOF {
			t.Errorf("the viewer's body ends with %v", got.err)
		}
		expectProblem(t, p.get(t, "a"), http.StatusForbidden)
		p.allow(t, "a", "http")
		if listed := p.listed(t); len(listed) != 1 || listed[0].State != "live" || len(listed[0].RTP) != 0 {
			t.Errorf("the stream is listed as %+v", listed)
		}
		if answer := p.get(t, "a"); answer.StatusCode != http.StatusOK {
			t.Errorf("a viewer with the new token gets %s", answer.Status)
		}
		select {
		case answer := <-publisher:
			t.Errorf("the publisher has ended with %s", answer.Status)
		default:
		}
	}
}

// TestOpenModeRevocation ends nobody (TOK-4).
func TestOpenModeRevocation(t *testing.T) {
	p := start(t, sends)
	p.allow(t, "a", "rtp-udp&udp-clients=127.0.0.1:5000")
	publisher := p.publishing(t, "a")
	answer := p.get(t, "a")
	if clients := p.config.RTP.Destinations("a"); len(clients) != 1 {
		t.Errorf("RTP goes to %v", clients)
	}
	p.call(t, "DELETE", "revoke-token?sessionid=a", 200)
	if clients := p.config.RTP.Destinations("a"); len(clients) != 0 {
		t.Errorf("RTP still goes to %v", clients)
	}
	if _, err := io.ReadFull(answer.Body, make([]byte, 100<<10)); err != nil {
		t.Errorf("the viewer's body: %v", err)
	}
	select {
	case answer := <-publisher:
		t.Errorf("the publisher has ended with %s", answer.Status)
	default:
	}
}

// TestInputTypes: TOK-6, by the bytes.
func TestInputTypes(t *testing.T) {
	p := start(t)
	tests := []struct {
		clip, types string
		refused     string // what it is
	}{
		{"webm-vp8", "video/webm", ""},
		{"webm-vp8", "audio/webm,video/webm", ""},
		{"webm-vp8", "audio/webm,video/matroska", "video/webm"},
		{"webm-vorbis", "audio/webm", ""},
		{"webm-vorbis", "video/webm", "audio/webm"},
		{"matroska", "video/matroska", ""},
		{"matroska", "video/webm", "video/matroska"},
	}
	for i, test := range tests {
		id := fmt.Sprintf("s%d", i)
		p.allow(t, id, "http&input-types="+test.types)
		answer := p.put(t, id, bytes.NewReader(beginning(t, test.clip)), header("Content-Type", "video/ogg"))
		if test.refused == "" {
			if answer.StatusCode != http.StatusOK {
				t.Errorf("%s as %s: %s", test.clip, test.types, answer.Status)
			}
			continue
		}
		if detail := expectProblem(t, answer, http.StatusUnsupportedMediaType); !strings.Contains(detail, "it is "+test.refused+",") {
			t.Errorf("%s as %s: it says %q", test.clip, test.types, detail)
		}
		if state := p.registry.State(id); state != live.Absent {
			t.Errorf("the refused session is %v", state)
		}
	}
}

// beginning is some frames of a clip; "matroska" is one that calls itself that.
func beginning(t *testing.T, name string) []byte {
	t.Helper()
	if name != "matroska" {
		c := clip(t, name)
		return c.Data[:c.Frames[5].End]
	}
	data := beginning(t, "webm-vp8")
	head, rest, ok := bytes.Cut(data, []byte("\x42\x82\x84webm")) // the DocType (RFC 8794 §11.2.4)
	if !ok {
		t.Fatal("the clip has no DocType")
	}
	head = bytes.Clone(head)
	const size = 4 // the place of the EBML header's size, a byte wide
	head[size] += byte(len("matroska") - len("webm"))
	return slices.Concat(head, []byte("\x42\x82\x88matroska"), rest)
}

// TestListStreams: API-4, of what is really on the air.
func TestListStreams(t *testing.T) {
	p := start(t, func(c *Config) { c.Grace = time.Minute })
	before := time.Now().Add(-time.Second)
	p.publishing(t, "a")
	p.breakOff(t, "b", "")
	viewer := p.get(t, "a")
	if _, err := io.ReadFull(viewer.Body, make([]byte, 20<<10)); err != nil {
		t.Fatal(err)
	}
	p.watched(t, "a", 20<<10)
	all := p.listed(t)
	if len(all) != 2 || all[0].SessionID != "a" || all[1].SessionID != "b" {
		t.Fatalf("listed are %+v", all)
	}
	a, b := all[0], all[1]
	if a.State != "live" || b.State != "waiting" || a.Viewers != 1 || b.Viewers != 0 ||
		a.Started.Before(before) || a.Started.After(time.Now()) || !strings.HasPrefix(a.Publisher, "127.0.0.1:") || len(a.RTP) != 0 {
		t.Errorf("listed are %+v", all)
	}
	if a.BytesIn < 10<<10 || a.BytesOut < 20<<10 || b.BytesIn < int64(clip(t, "webm-vp8").Frames[10].End) || b.BytesOut != 0 {
		t.Errorf("bytes in and out: %d %d, %d %d", a.BytesIn, a.BytesOut, b.BytesIn, b.BytesOut)
	}
	if len(a.Tracks) != 2 || a.Tracks[0].Width != 640 || a.Tracks[0].Height != 360 || a.Tracks[0].SampleRate != 0 ||
		a.Tracks[1].SampleRate != 48000 || a.Tracks[1].Channels != 2 || a.Tracks[1].Mode != "passthrough" || a.Tracks[1].Width != 0 {
		t.Errorf("the tracks are %+v", a.Tracks)
	}
}

// overTLS is another way to the same server.
func (p *proxy) overTLS(t *testing.T) *proxy {
	t.Helper()
	front := httptest.NewUnstartedServer(nil)
	front.Config = p.HTTP()
	front.EnableHTTP2 = true
	front.StartTLS()
	t.Cleanup(func() {
		p.Drain()
		front.Close()
	})
	return &proxy{p.Server, front.Listener.Addr().String(), front.URL, front.Client()}
}
