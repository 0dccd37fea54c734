package faults

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// calls holds for one of the API's calls.
func calls(name string) func(*exchange) bool {
	return func(x *exchange) bool {
		path, _, _ := strings.Cut(x.head.path(), "?")
		return path == "/api/"+name
	}
}

// rewrite changes the text of a call's answer.
func rewrite(call string, old, replacement string) func(*exchange, *reply) {
	return func(x *exchange, r *reply) {
		if calls(call)(x) && r.head.status() < 300 {
			r.body = bytes.ReplaceAll(r.body, []byte(old), []byte(replacement))
		}
	}
}

// allows answers a call that was refused as if it hadn't been.
func allows(code int, when func(x *exchange) bool) func(*exchange, *reply) {
	return func(x *exchange, r *reply) {
		if r.head.status() == code && strings.HasPrefix(x.head.path(), "/api/") && when(x) {
			r.head.setStatus(http.StatusOK)
			r.head.set("Content-Type", "application/json")
			r.body = []byte("[]")
		}
	}
}

var apiFaults = []*Fault{
	{Name: "api-1-status", Requirement: "API-1", Reason: "the status of a session's first token", Also: []string{"API-2", "API-3", "API-5", "API-6"}, answer: status(201, 200, calls("add-token"))},
	{Name: "api-1-replaced", Requirement: "API-1", Reason: "which replaces earlier tokens", answer: status(200, 201, calls("add-token"))},
	{Name: "api-1-empty", Requirement: "API-1", Reason: "the tokens in the answer", answer: func(x *exchange, r *reply) {
		if calls("add-token")(x) && r.head.status() < 300 {
			r.body = []byte("[]")
		}
	}},
	{Name: "api-1-order", Requirement: "API-1", Reason: "the status of type rtp-udp,http", request: always(func(x *exchange, h *head) bool {
		return strings.Contains(h.path(), "type=rtp-udp%2Chttp")
	}, 400)},
	{Name: "api-1-first-client", Requirement: "API-1", Reason: "the tokens in the answer to type", Also: []string{"API-3"}, request: func(x *exchange, h *head) func(*net.TCPConn) {
		// Only the first of several clients is taken.
		before, after, found := strings.Cut(h.first, "%2C127.0.0.1%3A")
		if found {
			_, rest, _ := strings.Cut(after, " ")
			h.first = before + " " + rest
		}
		return nil
	}},
	{Name: "api-2-nothing", Requirement: "API-2", Reason: "what was removed", answer: func(x *exchange, r *reply) {
		if calls("revoke-token")(x) && r.head.status() == 200 {
			r.body = []byte("[]")
		}
	}},
	{Name: "api-2-again", Requirement: "API-2", Reason: "the status of revoking again", Also: []string{"API-8"}, answer: allows(404, calls("revoke-token"))},
	{Name: "api-2-kept", Requirement: "API-2", Reason: "the tokens listed after that", answer: func(x *exchange, r *reply) {
		if calls("list-tokens")(x) && strings.Contains(x.head.get("User-Agent"), "~api-2.") {
			r.body = []byte(`[{"sessionid":"` + revoked(x) + `","type":"http","host":null,"port":null}]`)
		}
	}, request: noteRevoked},
	{Name: "api-3-port-text", Requirement: "API-3", Reason: "one object for each client", answer: rewrite("list-tokens", `"port":40030`, `"port":"40030"`)},
	{Name: "api-3-no-null", Requirement: "API-3", Reason: "host and port of a token of type http", Also: []string{"API-1", "API-5", "API-6"}, answer: rewrite("list-tokens", `"host":null,"port":null`, `"host":"","port":0`)},
	{Name: "api-3-type", Requirement: "API-3", Reason: "Content-Type", answer: header(200, "Content-Type", "text/plain", calls("list-tokens"))},
	{Name: "api-4-missing", Requirement: "API-4", Reason: "a live stream in list-streams", answer: rewrite("list-streams", `"sessionid":"`, `"sessionid":"x`)},
	{Name: "api-4-state", Requirement: "API-4", Reason: "state", answer: rewrite("list-streams", `"state":"live"`, `"state":"running"`)},
	{Name: "api-4-waiting", Requirement: "API-4", Reason: "instead of waiting", answer: rewrite("list-streams", `"state":"waiting"`, `"state":"live"`)},
	{Name: "api-4-viewers", Requirement: "API-4", Reason: "viewers", answer: rewrite("list-streams", `"viewers":1`, `"viewers":0`)},
	{Name: "api-4-started", Requirement: "API-4", Reason: "started", answer: rewrite("list-streams", `"started":"20`, `"started":"on 20`)},
	{Name: "api-4-width", Requirement: "API-4", Reason: "tracks", answer: rewrite("list-streams", `"width":640`, `"width":641`)},
	{Name: "api-4-rtp-null", Requirement: "API-4", Reason: "rtp", answer: rewrite("list-streams", `"rtp":[]`, `"rtp":null`)},
	{Name: "api-5-publisher", Requirement: "API-5", Reason: "the publisher's status", answer: status(410, 503, every)},
	{Name: "api-5-late", Requirement: "API-5", Reason: "after abort-stream took", media: atEnd(func(io.Writer, *mux) bool {
		time.Sleep(2300 * time.Millisecond)
		return true
	})},
	{Name: "api-5-cut", Requirement: "API-5", Reason: "ends cleanly", media: atEnd(func(io.Writer, *mux) bool { return false })},
	{Name: "api-5-absent", Requirement: "API-5", Reason: "the status", answer: allows(404, calls("abort-stream"))},
	{Name: "api-5-grace", Requirement: "API-5", Reason: "there is no grace time", answer: func(x *exchange, r *reply) {
		if x.head.method() == "GET" && r.head.status() == 404 && x.publishers() > 0 && x.session.streamsSoFar() > 0 {
			r.head.setStatus(200)
		}
	}},
	{Name: "api-6-unknown", Requirement: "API-6", Reason: "color=red", request: dropParameter("color")},
	{Name: "api-6-unknown-force", Requirement: "API-6", Reason: "force=1", request: dropParameter("force")},
	{Name: "api-6-repeated", Requirement: "API-6", Reason: "type=http&type=http", request: func(_ *exchange, h *head) func(*net.TCPConn) {
		h.first = strings.Replace(h.first, "type=http&type=http", "type=http", 1)
		return nil
	}},
	{Name: "api-6-unnamed", Requirement: "API-6", Reason: "names the parameter", answer: func(x *exchange, r *reply) {
		if r.head.status() == 400 {
			r.body = []byte(`{"title":"Bad Request","status":400,"detail":"something is wrong"}`)
		}
	}},
	{Name: "api-6-malformed", Requirement: "API-6", Reason: "%2F", answer: allows(400, func(x *exchange) bool { return strings.Contains(x.head.path(), "%2F") })},
	{Name: "api-7-call-allow", Requirement: "API-7", Reason: "Allow of the 405 to PATCH /api/", answer: header(405, "Allow", "", func(x *exchange) bool {
		return strings.HasPrefix(x.head.path(), "/api/")
	})},
	{Name: "api-8-call", Requirement: "API-8", Reason: "to revoke-token of a session without tokens", answer: header(404, "Content-Type", "application/json", calls("revoke-token"))},
	{Name: "api-8-forbidden", Requirement: "API-8", Reason: "the 403 to a foreign page", answer: header(403, "Content-Type", "text/html", every)},
	{Name: "api-9-version", Requirement: "API-9", Reason: "openapi", answer: rewrite("openapi.json", `"openapi": "3.1`, `"openapi": "3.0`)},
	{Name: "api-9-no-times", Requirement: "API-9", Reason: "in info.x-times", answer: rewrite("openapi.json", `"x-times"`, `"x-clocks"`)},
	{Name: "api-9-call", Requirement: "API-9", Reason: "the description of /api/abort-stream", answer: rewrite("openapi.json", `"/api/abort-stream"`, `"/api/stop-stream"`)},
	{Name: "api-10-origin", Requirement: "API-10", Reason: "with Origin: https://evil.example", Also: []string{"API-8"}, request: dropField("Origin")},
	{Name: "api-10-null-origin", Requirement: "API-10", Reason: "with Origin: null", answer: allows(403, func(x *exchange) bool { return x.head.get("Origin") == "null" })},
	{Name: "api-10-fetch-site", Requirement: "API-10", Reason: "with Sec-Fetch-Site: cross-site", request: dropField("Sec-Fetch-Site")},
	{Name: "api-10-host", Requirement: "API-10", Reason: "with Host: evil.example", answer: allows(403, func(x *exchange) bool { return strings.HasPrefix(x.head.get("Host"), "evil") })},
	{Name: "api-10-host-suffix", Requirement: "API-10", Reason: "localhost.evil.example", answer: allows(403, func(x *exchange) bool { return strings.HasPrefix(x.head.get("Host"), "localhost.") })},
	{Name: "api-10-own-page", Requirement: "API-10", Reason: "that the server's own page makes", request: always(func(_ *exchange, h *head) bool {
		return h.get("Sec-Fetch-Site") == "same-origin"
	}, 403)},
	{Name: "api-10-cors", Requirement: "API-10", Reason: "a header field of", answer: func(x *exchange, r *reply) {
		if x.head.method() == "OPTIONS" && strings.HasPrefix(x.head.path(), "/api/") {
			r.head.set("Access-Control-Allow-Methods", "DELETE")
		}
	}},
}

// streamsSoFar is how many viewers got a stream.
func (s *session) streamsSoFar() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams
}

// dropParameter has a call work as if a parameter hadn't been there.
func dropParameter(name string) func(*exchange, *head) func(*net.TCPConn) {
	return func(_ *exchange, h *head) func(*net.TCPConn) {
		before, after, found := strings.Cut(h.first, name+"=")
		if !found {
			return nil
		}
		switch end := strings.IndexAny(after, "& "); after[end] {
		case '&':
			h.first = before + after[end+1:]
		default:
			h.first = before[:len(before)-1] + after[end:]
		}
		return nil
	}
}

// dropField has a request work as if a header field hadn't been there.
func dropField(name string) func(*exchange, *head) func(*net.TCPConn) {
	return func(_ *exchange, h *head) func(*net.TCPConn) {
		h.set(name, "")
		return nil
	}
}

// noteRevoked remembers whose tokens were revoked, for a fault that lists them on.
func noteRevoked(x *exchange, h *head) func(*net.TCPConn) {
	if _, id, found := strings.Cut(h.path(), "revoke-token?sessionid="); found {
		x.proxy.mu.Lock()
		defer x.proxy.mu.Unlock()
		x.proxy.revoked = id
	}
	return nil
}

func revoked(x *exchange) string {
	x.proxy.mu.Lock()
	defer x.proxy.mu.Unlock()
	return x.proxy.revoked
}

// denied turns a refusal into what would have been without it.
func denied(code int, when func(x *exchange) bool) func(*exchange, *reply) {
	return func(x *exchange, r *reply) {
		if r.head.status() == code && when(x) {
			r.head.setStatus(http.StatusNotFound)
		}
	}
}

var tokenFaults = []*Fault{
	{Name: "tok-1-open", Requirement: "TOK-1", Reason: "from 127.0.0.2", Also: []string{"TOK-8"}, answer: allows(403, every)},
	{Name: "tok-1-unknown", Requirement: "TOK-1", Reason: "the status of GET /api/nothing", answer: status(403, 404, calls("nothing"))},
	{Name: "tok-1-method", Requirement: "TOK-1", Reason: "the status of PATCH", answer: status(403, 405, asked("PATCH"))},
	{Name: "tok-1-description", Requirement: "TOK-1", Reason: "openapi.json", answer: status(403, 200, calls("openapi.json"))},
	{Name: "tok-2-publish", Requirement: "TOK-2", Reason: "the status of PUT without a token", answer: status(403, 401, asked("PUT"))},
	{Name: "tok-2-post", Requirement: "TOK-2", Reason: "the status of POST without a token", answer: status(403, 404, func(x *exchange) bool {
		return x.head.method() == "POST" && strings.HasPrefix(x.head.path(), "/stream/")
	})},
	{Name: "tok-2-watch", Requirement: "TOK-2", Reason: "the status of GET without a token", Also: []string{"TOK-3", "TOK-4"}, answer: denied(403, func(x *exchange) bool {
		return x.head.method() == "GET" && strings.HasPrefix(x.head.path(), "/stream/")
	})},
	{Name: "tok-2-head", Requirement: "TOK-2", Reason: "the status of HEAD without a token", Also: []string{"TOK-3"}, answer: denied(403, asked("HEAD"))},
	{Name: "tok-2-wait", Requirement: "TOK-2", Reason: "with Prefer: wait", answer: denied(403, func(x *exchange) bool { return x.head.get("Prefer") != "" })},
	{Name: "tok-3-watch", Requirement: "TOK-3", Reason: "the status of GET with a token for RTP alone", answer: denied(403, func(x *exchange) bool {
		return x.head.method() == "GET" && strings.Contains(x.head.path(), ".tok-3.")
	})},
	{Name: "tok-3-http", Requirement: "TOK-3", Reason: "the status of a viewer", request: always(func(x *exchange, h *head) bool {
		return h.method() == "GET" && strings.Contains(h.path(), ".tok-3.") && strings.HasPrefix(h.path(), "/stream/")
	}, 403)},
	{Name: "tok-4-status", Requirement: "TOK-4", Reason: "the publisher's status", Also: []string{"TOK-7"}, answer: status(410, 503, every)},
	{Name: "tok-4-late", Requirement: "TOK-4", Reason: "the viewer's end after the revocation took", media: atEnd(func(_ io.Writer, m *mux) bool {
		if strings.Contains(m.x.head.path(), ".tok-4.") {
			time.Sleep(2300 * time.Millisecond)
		}
		return true
	})},
	{Name: "tok-4-cut", Requirement: "TOK-4", Reason: "ends cleanly", media: atEnd(func(io.Writer, *mux) bool { return false })},
	{Name: "tok-4-open", Requirement: "TOK-4", Reason: "the publisher's status", request: func(x *exchange, h *head) func(*net.TCPConn) {
		// Revocation aborts the stream in open mode too.
		h.first = strings.Replace(h.first, "revoke-token", "abort-stream", 1)
		return nil
	}, Also: []string{"TOK-3", "TOK-5", "TOK-7"}},
	{Name: "tok-5-odd", Requirement: "TOK-5", Reason: "127.0.0.1:40201", answer: allows(400, func(x *exchange) bool { return strings.Contains(x.head.path(), ":40201") })},
	{Name: "tok-5-overlap", Requirement: "TOK-5", Reason: "127.0.0.1:40200,127.0.0.1:40202", answer: allows(400, func(x *exchange) bool { return strings.Contains(x.head.path(), ",127.0.0.1:40202") })},
	{Name: "tok-5-alone", Requirement: "TOK-5", Reason: "type=rtp-udp", answer: allows(400, func(x *exchange) bool {
		return strings.Contains(x.head.path(), "type=rtp-udp&sessionid")
	})},
	{Name: "tok-5-highest", Requirement: "TOK-5", Reason: "65534", answer: allows(400, func(x *exchange) bool { return strings.Contains(x.head.path(), "65534") })},
	{Name: "tok-5-brackets", Requirement: "TOK-5", Reason: "with good clients", request: always(func(_ *exchange, h *head) bool {
		return strings.Contains(h.path(), "%5B%3A%3A1%5D")
	}, 400)},
	{Name: "tok-6-any", Requirement: "TOK-6", Reason: "where input-types=", request: func(_ *exchange, h *head) func(*net.TCPConn) {
		h.first = strings.Replace(h.first, "input-types=video%2Fmp4", "input-types=audio%2Fwebm", 1)
		return nil
	}},
	{Name: "tok-6-video", Requirement: "TOK-6", Reason: "where input-types=video/webm", request: func(_ *exchange, h *head) func(*net.TCPConn) {
		h.first = strings.Replace(h.first, "input-types=video%2Fwebm", "input-types=audio%2Fwebm", 1)
		return nil
	}},
	{Name: "tok-6-unknown", Requirement: "TOK-6", Reason: "a type that isn't known", answer: allows(400, func(x *exchange) bool { return strings.Contains(x.head.path(), "smoke") })},
	{Name: "tok-7-never", Requirement: "TOK-7", Reason: "the publisher's answer", request: func(_ *exchange, h *head) func(*net.TCPConn) {
		h.first = strings.Replace(h.first, "ttl=2", "ttl=2000", 1)
		return nil
	}},
	{Name: "tok-7-early", Requirement: "TOK-7", Reason: "the time to the end of what", request: func(_ *exchange, h *head) func(*net.TCPConn) {
		h.first = strings.Replace(h.first, "ttl=2", "ttl=1", 1)
		return nil
	}},
	{Name: "tok-7-zero", Requirement: "TOK-7", Reason: "with ttl=0", answer: func(x *exchange, r *reply) {
		if r.head.status() == 400 && strings.Contains(x.head.path(), "ttl=0") {
			r.head.setStatus(201)
		}
	}},
	{Name: "tok-8-believes", Requirement: "TOK-8", Reason: "with X-Forwarded-For: 127.0.0.1", answer: allows(403, func(x *exchange) bool {
		return strings.HasSuffix(x.head.get("X-Forwarded-For"), "127.0.0.1")
	})},
	{Name: "tok-8-rightmost", Requirement: "TOK-8", Reason: "with X-Forwarded-For: 10.0.0.1, 127.0.0.1", answer: allows(403, func(x *exchange) bool {
		return strings.HasPrefix(x.head.get("X-Forwarded-For"), "10.")
	})},
	{Name: "tok-8-doubts", Requirement: "TOK-8", Reason: "which nobody has to believe", request: always(func(_ *exchange, h *head) bool {
		return h.get("X-Forwarded-For") == "192.0.2.1"
	}, 403)},
	{Name: "tok-9-ignored", Requirement: "TOK-9", Reason: "the status of a publisher with", request: func(_ *exchange, h *head) func(*net.TCPConn) {
		before, after, found := strings.Cut(h.first, "&publish-key=c29t")
		if found {
			h.first = before + after[strings.IndexByte(after, ' '):]
		}
		return nil
	}},
	{Name: "tok-9-scheme", Requirement: "TOK-9", Reason: "Basic", request: func(_ *exchange, h *head) func(*net.TCPConn) {
		if key, found := strings.CutPrefix(h.get("Authorization"), "Basic "); found {
			h.set("Authorization", "Bearer "+key)
		}
		return nil
	}},
	{Name: "tok-9-status", Requirement: "TOK-9", Reason: "the status of a publisher with", answer: status(401, 403, every)},
	{Name: "tok-9-shown", Requirement: "TOK-9", Reason: "what is told of a session's tokens", answer: func(x *exchange, r *reply) {
		if calls("add-token")(x) && r.head.status() == 201 {
			r.body = bytes.Replace(r.body, []byte(`"type":`), []byte(`"publish_key":"c29tZSBzZWNyZXQga2V5-._~+/==","type":`), 1)
		}
	}},
	{Name: "tok-9-short", Requirement: "TOK-9", Reason: `with the key "short"`, answer: func(x *exchange, r *reply) {
		if r.head.status() == 400 && strings.Contains(x.head.path(), "publish-key=short") {
			r.head.setStatus(201)
		}
	}},
}
