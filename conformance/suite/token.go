package suite

import (
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/onsi/gomega"

	"tureen/conformance/media"
	"tureen/conformance/wire"
)

// tokenServer declares the checks of SPEC.md's chapter "Token server". Most need the target in its other mode.
func tokenServer(check declare) {
	check("TOK-1", "calls from any other address are 403, before 404 and 405", foreignAddresses)
	check("TOK-2", "without a token, publishing is 403", func(t *Trial) {
		t.closed()
		for _, method := range []string{"PUT", "POST"} {
			a := t.Exchange(wire.Request{Method: method, Path: path(t.ID()), Fields: []string{"Transfer-Encoding: chunked", "Expect: 100-continue"}}, nil)
			t.Expect(a.Status).To(gomega.Equal(http.StatusForbidden), "the status of %s without a token", method)
		}
	})
	check("TOK-2", "without a token, watching is 403, live or not", unwatchable)
	check("TOK-3", "a token of type rtp-udp allows to publish and not to watch", rtpAlone)
	check("TOK-3", "a token of type http allows to publish and to watch", func(t *Trial) {
		t.closed()
		id, s := t.ID(), first(second)
		t.Given.Expect(t.withToken(id, "type", "http").Status).To(gomega.Equal(201), "the status of add-token")
		p := t.Publish(id, s)
		v := t.Join(id)
		t.Expect(v.Answer(tolerance).Status).To(gomega.Equal(200), "the status of a viewer")
		p.Accepted(s.Duration + tolerance)
		t.Comes(v.AwaitEnd(tolerance), s)
	})
	check("TOK-4", "revocation ends publisher and viewers within 1 s", revokedLive)
	check("TOK-4", "in open mode revocation leaves publisher and viewers alone", revokedOpen)
	check("TOK-5", "impossible combinations and addresses of RTP clients are 400", badClients)
	check("TOK-6", "a body of another type than the session may send is 415", otherTypes)
	check("TOK-7", "a token expires, which ends what it allowed, and can't be revoked then", expires)
	check("TOK-8", "X-Forwarded-For of those who aren't trusted counts for nothing", forwarded)
	check("TOK-9", "publishing needs the key, which is shown to nobody", keyed)
}

// closed has the rest of the check use the target in the mode in which sessions need tokens.
func (t *Trial) closed() {
	if t.Target.Token == nil {
		t.Skip("the target's mode with a token server isn't known (--token-target, or --token-exec beside --exec)")
	}
	mode := *t.Target
	mode.Base, mode.Process = t.Target.Token, t.Target.TokenProcess
	t.Target = &mode
}

// stranger is another address of this machine's.
const stranger = "127.0.0.2"

// needsLoopback skips the check where the target can't be reached from another address.
func (t *Trial) needsLoopback() {
	ip := net.ParseIP(t.Target.Base.Hostname())
	if ip == nil || !ip.IsLoopback() || ip.To4() == nil {
		t.Skip("the target isn't on 127.0.0.0/8, where the suite has another address to call from")
	}
}

// askFrom asks from another address.
func (t *Trial) askFrom(address, method, path string, fields ...string) *wire.Response {
	c := t.Dial(wire.From(address))
	defer c.Close()
	t.Given.Expect(c.Send(wire.Request{Method: method, Path: path, Fields: fields})).To(gomega.Succeed(), "sending a request")
	c.SetReadDeadline(time.Now().Add(tolerance))
	return t.answerOn(c)
}

func foreignAddresses(t *Trial) {
	t.closed()
	t.needsLoopback()
	id := t.ID()
	for _, r := range [][2]string{
		{"GET", "/api/list-tokens"},
		{"POST", "/api/add-token?type=http&sessionid=" + id},
		{"DELETE", "/api/abort-stream?sessionid=" + id},
		{"GET", "/api/nothing"},
		{"PATCH", "/api/list-tokens"},
		{"GET", "/api/openapi.json"},
	} {
		a := t.askFrom(stranger, r[0], r[1])
		t.Expect(a.Status).To(gomega.Equal(http.StatusForbidden), "the status of %s %s from %s", r[0], r[1], stranger)
	}
	t.Expect(t.listed(id)).To(gomega.BeEmpty(), "the tokens that a stranger has made")
}

// published has a session with tokens published, with or without a viewer.
func (t *Trial) published(s *media.Source, parameters ...string) *Publisher {
	id := t.ID()
	t.Given.Expect(t.withToken(id, parameters...).Status).To(gomega.Equal(201), "the status of add-token")
	p := t.Publish(id, s, expecting)
	p.told()
	t.Given.Expect(p.Interim()).To(gomega.Equal([]int{100}), "interim answers to a publisher with a token")
	return p
}

func unwatchable(t *Trial) {
	t.closed()
	for _, method := range []string{"GET", "HEAD"} {
		a := t.Ask(method, path(t.ID()))
		t.Expect(a.Status).To(gomega.Equal(http.StatusForbidden), "the status of %s without a token", method)
	}
	a := t.Ask("GET", path(t.ID()), "Prefer: wait=5")
	t.Expect(a.Status).To(gomega.Equal(http.StatusForbidden), "the status of GET with Prefer: wait and without a token")
}

func rtpAlone(t *Trial) {
	t.closed()
	s := first(2 * second)
	p := t.published(s, "type", "rtp-udp", "udp-clients", "127.0.0.1:40100")
	for _, method := range []string{"GET", "HEAD"} {
		a := t.Ask(method, path(p.ID))
		t.Expect(a.Status).To(gomega.Equal(http.StatusForbidden), "the status of %s with a token for RTP alone", method)
	}
	p.Accepted(s.Duration + tolerance)
}

func revokedLive(t *Trial) {
	t.closed()
	p := t.published(first(6*second), "type", "http")
	v := t.Join(p.ID)
	v.Watching(tolerance)
	told := time.Now()
	t.Given.Expect(t.call("DELETE", "revoke-token", "sessionid", p.ID).Status).To(gomega.Equal(200), "the status of revoke-token")
	a := p.Answer(tolerance)
	t.Expect(a.Status).To(gomega.Equal(http.StatusGone), "the publisher's status")
	t.InTime(a.At.Sub(told), second, "the publisher's end after the revocation")
	view := v.AwaitEnd(tolerance)
	t.InTime(view.Ended.Sub(told), second, "the viewer's end after the revocation")
	t.Expect(view.Clean()).To(gomega.BeTrue(), "the viewer's body ends cleanly: %v", view.Err)
	t.Expect(t.Ask("GET", path(p.ID)).Status).To(gomega.Equal(http.StatusForbidden), "the status of a GET after the revocation")
}

func revokedOpen(t *Trial) {
	s := first(3 * second)
	p := t.published(s, "type", "http")
	v := t.Join(p.ID)
	v.Watching(tolerance)
	t.Given.Expect(t.call("DELETE", "revoke-token", "sessionid", p.ID).Status).To(gomega.Equal(200), "the status of revoke-token")
	p.Accepted(s.Duration + tolerance)
	t.Comes(v.AwaitEnd(tolerance), s)
}

func badClients(t *Trial) {
	id := t.ID()
	for _, q := range []string{
		"type=rtp-udp", "type=http&udp-clients=127.0.0.1:40200", "type=rtp-udp&udp-clients=", "type=rtp-udp&udp-clients=127.0.0.1",
		"type=rtp-udp&udp-clients=127.0.0.1:40201", "type=rtp-udp&udp-clients=127.0.0.1:0", "type=rtp-udp&udp-clients=127.0.0.1:65534",
		"type=rtp-udp&udp-clients=127.0.0.1:x", "type=rtp-udp&udp-clients=:40200", "type=rtp-udp&udp-clients=::1:40200",
		"type=rtp-udp&udp-clients=127.0.0.1:40200,127.0.0.1:40202", "type=rtp-udp&udp-clients=127.0.0.1:40200,",
		"type=rtp-udp&udp-clients=127.0.0.1:70000",
	} {
		a := t.Ask("POST", "/api/add-token?"+q+"&sessionid="+id)
		t.Expect(a.Status).To(gomega.Equal(400), "the status of add-token with %s", q)
	}
	t.Expect(t.listed(id)).To(gomega.BeEmpty(), "the tokens that bad calls have made")
	a := t.withToken(id, "type", "rtp-udp", "udp-clients", "[::1]:40200,127.0.0.1:40200,127.0.0.1:40204")
	t.Expect(a.Status).To(gomega.Equal(201), "the status of add-token with good clients; it said %s", a.Body)
}

func otherTypes(t *Trial) {
	s := media.Without(first(second), video)
	for types, want := range map[string]int{
		"video/mp4": 415, "video/webm": 415, "audio/webm": 200, "video/mp2t,audio/webm": 200, "audio/matroska": 415,
	} {
		id := t.ID()
		a := t.withToken(id, "type", "http", "input-types", types)
		t.Expect(a.Status).To(gomega.Equal(201), "the status of add-token with input-types=%s", types)
		got := t.Publish(id, s).Answer(s.Duration + 2*tolerance)
		t.Expect(got.Status).To(gomega.Equal(want), "the status of WebM without video where input-types=%s", types)
	}
	a := t.withToken(t.ID(), "type", "http", "input-types", "video/smoke")
	t.Expect(a.Status).To(gomega.Equal(400), "the status of add-token with a type that isn't known")
}

func expires(t *Trial) {
	for _, bad := range []string{"0", "-1", "soon", "31536001"} {
		a := t.withToken(t.ID(), "type", "http", "ttl", bad)
		t.Expect(a.Status).To(gomega.Equal(400), "the status of add-token with ttl=%s", bad)
	}
	t.closed()
	told := time.Now()
	p := t.published(first(6*second), "type", "http", "ttl", "2")
	v := t.Join(p.ID)
	v.Watching(tolerance)
	a := p.Answer(2*second + tolerance)
	t.Expect(a.Status).To(gomega.Equal(http.StatusGone), "the status of a publisher whose token has expired")
	t.Expect(a.At.Sub(told)).To(gomega.BeNumerically(">=", 1900*time.Millisecond), "the time to the end of what a token with ttl=2 allowed")
	t.InTime(a.At.Sub(told), 3*second+second/2, "the end of a publisher whose token has ttl=2")
	v.AwaitEnd(tolerance)
	t.Expect(t.listed(p.ID)).To(gomega.BeEmpty(), "the tokens listed after the expiry")
	t.Expect(t.call("DELETE", "revoke-token", "sessionid", p.ID).Status).To(gomega.Equal(404), "the status of revoking an expired token")
}

func forwarded(t *Trial) {
	t.closed()
	t.needsLoopback()
	for _, f := range []string{"X-Forwarded-For: 127.0.0.1", "X-Forwarded-For: 10.0.0.1, 127.0.0.1", "Forwarded: for=127.0.0.1", "X-Real-IP: 127.0.0.1"} {
		a := t.askFrom(stranger, "GET", "/api/list-tokens", f)
		t.Expect(a.Status).To(gomega.Equal(http.StatusForbidden), "the status of a call from %s with %s", stranger, f)
	}
	a := t.Ask("GET", "/api/list-tokens", "X-Forwarded-For: 192.0.2.1")
	t.Expect(a.Status).To(gomega.Equal(200), "the status of the token server's call with X-Forwarded-For: 192.0.2.1, which nobody has to believe")
}

func keyed(t *Trial) {
	const key = "c29tZSBzZWNyZXQga2V5-._~+/=="
	id, s := t.ID(), first(second)
	for _, bad := range []string{"short", strings.Repeat("x", 129), "with space in it, and long enough"} {
		a := t.withToken(t.ID(), "type", "http", "publish-key", bad)
		t.Expect(a.Status).To(gomega.Equal(400), "the status of add-token with the key %.40q", bad)
	}
	a := t.withToken(id, "type", "http", "publish-key", key)
	t.Expect(a.Status).To(gomega.Equal(201), "the status of add-token with a key")
	list := t.call("GET", "list-tokens")
	t.Expect(string(a.Body)+string(list.Body)).NotTo(gomega.ContainSubstring(key), "what is told of a session's tokens")
	for _, auth := range []string{"", "Authorization: Bearer " + key[:20], "Authorization: Basic " + key, "Authorization: Bearer " + key + "x"} {
		fields := []string{"Transfer-Encoding: chunked", "Expect: 100-continue"}
		if auth != "" {
			fields = append(fields, auth)
		}
		refused := t.Exchange(wire.Request{Method: "PUT", Path: path(id), Fields: fields}, nil)
		t.Expect(refused.Status).To(gomega.Equal(http.StatusUnauthorized), "the status of a publisher with %q", auth)
	}
	p := t.Publish(id, s, func(p *Publisher) { p.fields = append(p.fields, "Authorization: Bearer "+key) })
	v := t.Join(id)
	p.Accepted(s.Duration + tolerance)
	t.Comes(v.AwaitEnd(tolerance), s)
}
