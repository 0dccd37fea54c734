package faults

import (
	"bytes"
	"io"
	"net"
	"strings"
	"time"

	"tureen/conformance/webm"
)

// publishing holds for publishers' requests.
var publishing = asked("PUT", "POST")

// sniffer looks at a request's body as it passes, and calls found once when it holds a pattern.
type sniffer struct {
	io.Writer
	pattern []byte
	found   func()
	seen    []byte
	done    bool
}

func (s *sniffer) Write(p []byte) (int, error) {
	if !s.done {
		s.seen = append(s.seen, p...)
		if bytes.Contains(s.seen, s.pattern) {
			s.done = true
			s.found()
		}
		if extra := len(s.seen) - len(s.pattern); extra > 0 {
			s.seen = append([]byte(nil), s.seen[extra:]...)
		}
	}
	return s.Writer.Write(p)
}

// spots marks the session when its body holds a pattern.
func spots(pattern ...byte) func(*exchange, io.Writer) io.Writer {
	return func(x *exchange, server io.Writer) io.Writer {
		return &sniffer{Writer: server, pattern: pattern, found: func() {
			x.session.mu.Lock()
			defer x.session.mu.Unlock()
			x.session.lossy = true
		}}
	}
}

// refuses answers a body that holds a pattern, and passes on no more of it.
func refuses(code int, pattern ...byte) func(*exchange, io.Writer) io.Writer {
	return func(x *exchange, server io.Writer) io.Writer {
		return &sniffer{Writer: server, pattern: pattern, found: func() {
			refuse(code)(x.client)
			x.server.Close()
		}}
	}
}

// marked reports whether spots has struck.
func (x *exchange) marked() bool {
	x.session.mu.Lock()
	defer x.session.mu.Unlock()
	return x.session.lossy
}

// starts answers a body that starts with something.
type starts struct {
	io.Writer
	x    *exchange
	with func(p []byte) bool
	code int
	any  bool
}

func (s *starts) Write(p []byte) (int, error) {
	if !s.any {
		s.any = true
		if s.with(p) {
			refuse(s.code)(s.x.client)
			s.x.server.Close()
		}
	}
	return s.Writer.Write(p)
}

func startsWith(code int, with func(p []byte) bool) func(*exchange, io.Writer) io.Writer {
	return func(x *exchange, server io.Writer) io.Writer {
		return &starts{Writer: server, x: x, with: with, code: code}
	}
}

// drop is for frames that a fault loses.
func drop(when func(m *mux, f frame) bool) func(*mux) {
	return func(m *mux) {
		m.each = func(f frame) []frame {
			if when(m, f) {
				return nil
			}
			return []frame{f}
		}
	}
}

// edit changes a body's text in an answer.
func edit(code int, old, replacement string) func(*exchange, *reply) {
	return func(x *exchange, r *reply) {
		if r.head.status() == code && publishing(x) {
			r.body = bytes.Replace(r.body, []byte(old), []byte(replacement), 1)
		}
	}
}

// silent calls f when nothing was passed on for a while.
type silent struct {
	io.Writer
	timer *time.Timer
	after time.Duration
}

func (s *silent) Write(p []byte) (int, error) {
	s.timer.Reset(s.after)
	return s.Writer.Write(p)
}

// endFirst resets the connections of a session's first publisher.
func (x *exchange) endFirst() {
	x.session.mu.Lock()
	defer x.session.mu.Unlock()
	for _, other := range x.session.open {
		if other != x {
			reset(other.server)
			reset(other.client)
		}
	}
}

// age is how long ago the session's first publisher came.
func (x *exchange) age() time.Duration {
	x.session.mu.Lock()
	defer x.session.mu.Unlock()
	return time.Since(x.session.began)
}

// slowFirst holds back the beginning of a body, so that what follows seems early.
func slowFirst(d time.Duration) func(*mux) {
	return func(m *mux) {
		held := newQueue()
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			time.Sleep(d)
			held.drain(m.x.client)
		}()
		send, finish := m.send, m.finish
		m.send = func(_ io.Writer, p []byte) { send(held, p) }
		m.finish = func(_ io.Writer, clean bool) {
			finish(held, clean)
			held.close()
			<-sent
		}
	}
}

// loseOnce loses the first frame of a kind for which a condition holds.
func loseOnce(kind string, when func(m *mux) bool) func(*mux) {
	return func(m *mux) {
		lost := false
		drop(func(m *mux, f frame) bool {
			if lost || f.kind != kind || !when(m) {
				return false
			}
			lost = true
			return true
		})(m)
	}
}

// holdsBack keeps the latest three frames until the body ends.
func holdsBack(end func(w io.Writer, m *mux, held []frame)) func(*mux) {
	return func(m *mux) {
		var held []frame
		m.each = func(f frame) []frame {
			if held = append(held, f); len(held) <= 3 {
				return nil
			}
			f, held = held[0], held[1:]
			return []frame{f}
		}
		finish := m.finish
		m.finish = func(w io.Writer, clean bool) {
			end(w, m, held)
			finish(w, clean)
		}
	}
}

// publishers is how many have come to the session.
func (x *exchange) publishers() int {
	x.session.mu.Lock()
	defer x.session.mu.Unlock()
	return x.session.puts
}

var ingestFaults = []*Fault{
	{
		Name: "ing-1-no-post", Requirement: "ING-1", Reason: "the publisher's status", Also: []string{"ING-3", "ING-4", "ING-5", "ING-9"},
		request: always(func(_ *exchange, h *head) bool { return h.method() == "POST" }, 405, "Allow: GET, HEAD, PUT, OPTIONS"),
	},
	{
		Name: "ing-1-created", Requirement: "ING-1", Reason: "the publisher's status", Also: []string{"ING-9"},
		answer: func(x *exchange, r *reply) {
			if x.head.method() == "PUT" && r.head.status() == 200 && strings.Contains(x.head.path(), ".ing-1.") {
				r.head.setStatus(201)
			}
		},
	},
	{
		Name: "ing-2-one-byte", Requirement: "ING-2", Reason: "the publisher's status",
		upload: startsWith(400, func(p []byte) bool { return bytes.HasPrefix(p, []byte("1\r\n")) && len(p) > 4 }),
	},
	{
		Name: "ing-2-extension", Requirement: "ING-2", Reason: "the publisher's status",
		upload: startsWith(400, func(p []byte) bool {
			size, _, found := bytes.Cut(p[:min(len(p), 8)], []byte(";"))
			return found && len(bytes.Trim(size, "0123456789abcdef")) == 0
		}),
	},
	{
		Name: "ing-2-megabyte", Requirement: "ING-2", Reason: "the publisher's status",
		upload: startsWith(413, func(p []byte) bool {
			line, _, _ := bytes.Cut(p, []byte("\r\n"))
			return len(line) > 5 && len(line) < 8
		}),
	},
	{
		Name: "ing-3-chunked-only", Requirement: "ING-3", Reason: "the publisher's status", Also: []string{"ING-16"},
		request: always(func(_ *exchange, h *head) bool {
			length := h.get("Content-Length")
			return length != "" && length != "0" && h.get("Content-Range") == ""
		}, 411),
	},
	{
		Name: "ing-3-post", Requirement: "ING-3", Reason: "the publisher's status",
		request: always(func(_ *exchange, h *head) bool { return h.method() == "POST" && len(h.get("Content-Length")) > 1 }, 411),
	},
	{
		Name: "ing-4-chunked", Requirement: "ING-4", Reason: "with Transfer-Encoding: chunked and nothing in it",
		answer: func(x *exchange, r *reply) {
			if r.head.status() == 400 && x.head.get("Transfer-Encoding") != "" && bytes.Contains(r.body, []byte("empty")) {
				r.head.setStatus(200)
			}
		},
	},
	{
		Name: "ing-4-length", Requirement: "ING-4", Reason: "the status of POST with Content-Length: 0",
		answer: func(x *exchange, r *reply) {
			if r.head.status() == 400 && x.head.method() == "POST" && x.head.get("Content-Length") == "0" {
				r.head.setStatus(204)
				r.body = nil
			}
		},
	},
	{
		Name: "ing-5-continue-first", Requirement: "ING-5", Reason: "the first status", Also: []string{"ING-15"},
		request: func(x *exchange, h *head) func(*net.TCPConn) {
			if h.get("Expect") != "" {
				io.WriteString(x.client, "HTTP/1.1 100 Continue\r\n\r\n")
			}
			return nil
		},
		interim: func(*exchange, *head) bool { return false },
	},
	{
		Name: "ing-5-no-continue", Requirement: "ING-5", Reason: "100 Continue",
		interim: func(*exchange, *head) bool { return false },
	},
	{
		Name: "ing-5-late", Requirement: "ING-5", Reason: "while its body was under way took",
		answer: func(x *exchange, r *reply) {
			if r.head.status() == 405 || r.head.status() == 409 && x.head.get("Expect") == "" {
				time.Sleep(2300 * time.Millisecond)
			}
		},
	},
	{
		Name: "ing-5-unreadable", Requirement: "ING-5", Reason: "the status of DELETE",
		answer: func(x *exchange, r *reply) {
			if r.head.status() == 405 {
				reset(x.client)
				r.dropped = true
			}
		},
	},
	{
		Name: "ing-5-stays-open", Requirement: "ING-5", Reason: "closing the connection after the status",
		answer: func(x *exchange, r *reply) {
			if r.head.status() == 409 && x.head.get("Transfer-Encoding") != "" {
				r.write(x.client, x.head.method())
				r.dropped = true
				time.Sleep(4 * time.Second)
			}
		},
	},
	{
		Name: "ing-5-meanwhile", Requirement: "ING-5", Reason: "while its body is under way",
		answer: func(x *exchange, r *reply) {
			if r.head.status() == 415 && strings.Contains(x.head.path(), ".ing-5.") {
				reset(x.client)
				r.dropped = true
			}
		},
	},
	{
		Name: "ing-6-declared", Requirement: "ING-6", Reason: "the publisher's status",
		request: always(func(_ *exchange, h *head) bool { return strings.HasPrefix(h.get("Content-Type"), "video/mp4") }, 415),
	},
	{
		Name: "ing-6-undeclared", Requirement: "ING-6", Reason: "the publisher's status",
		request: always(func(_ *exchange, h *head) bool {
			return publishing(&exchange{head: *h}) && h.get("Content-Type") == "" && h.get("Transfer-Encoding") != "" &&
				strings.Contains(h.path(), ".ing-6.")
		}, 400),
	},
	{
		Name: "ing-7-unknown-1", Requirement: "ING-7", Reason: "the publisher's status",
		upload: refuses(400, 0x18, 0x53, 0x80, 0x67, 0xFF),
	},
	{
		Name: "ing-7-unknown-5", Requirement: "ING-7", Reason: "the publisher's status",
		upload: refuses(400, 0x1F, 0x43, 0xB6, 0x75, 0x0F, 0xFF, 0xFF, 0xFF, 0xFF),
	},
	{
		Name: "ing-7-additions", Requirement: "ING-7", Reason: "the publisher's status",
		upload: refuses(415, 0xEE, 0x81, 0x01, 0xA5),
	},
	{
		Name: "ing-7-stripping", Requirement: "ING-7", Reason: "header stripping",
		upload: spots(0x42, 0x54, 0x81, 0x03),
		media: func(m *mux) {
			m.each = func(f frame) []frame {
				if m.x.marked() && f.kind == webm.Audio {
					f.payload = f.payload[1:]
				}
				return []frame{f}
			}
		},
	},
	{
		Name: "ing-7-far", Requirement: "ING-7", Reason: "the offset of timestamps isn't constant",
		media: func(m *mux) {
			m.each = func(f frame) []frame {
				if f.time > time.Hour || m.x.marked() {
					f.time = f.time.Truncate(10 * time.Millisecond)
				}
				return []frame{f}
			}
		},
		upload: spots(0x02, 0x25, 0x51, 0x00), // 10 h in milliseconds
	},
	{
		Name: "ing-7-encrypted", Requirement: "ING-7", Reason: "the status",
		upload: spots(0x50, 0x33, 0x81, 0x01, 0x50, 0x35),
		answer: func(x *exchange, r *reply) {
			if r.head.status() == 415 && x.marked() {
				r.head.setStatus(400)
			}
		},
	},
	{
		Name: "ing-7-second-document", Requirement: "ING-7", Reason: "over two documents in one body",
		upload: spotsSecond,
		media:  loseOnce(webm.Video, func(m *mux) bool { return m.x.marked() && m.of[webm.Video] > 70 }),
	},
	{
		Name: "ing-9-no-retry-after", Requirement: "ING-9", Reason: "Retry-After of the 409",
		answer: header(409, "Retry-After", "", every),
	},
	{
		Name: "ing-9-second-wins", Requirement: "ING-9", Reason: "the status of a second publisher", Also: []string{"ING-5"},
		request: func(x *exchange, h *head) func(*net.TCPConn) {
			if publishing(x) && x.number == 2 && strings.Contains(h.path(), ".ing-9.") {
				x.endFirst()
				time.Sleep(50 * time.Millisecond)
			}
			return nil
		},
	},
	{
		Name: "ing-9-disturbed", Requirement: "ING-9", Reason: "viewer was disturbed",
		media: loseOnce(webm.Audio, func(m *mux) bool { return m.x.publishers() > 1 }),
	},
	{
		Name: "ing-9-keeps", Requirement: "ING-9", Reason: "the publisher's", Also: []string{"ING-15"},
		request: always(func(x *exchange, h *head) bool { return publishing(x) && x.number > 1 && h.get("Content-Range") == "" }, 409, "Retry-After: 1"),
	},
	{
		Name: "ing-9-gives-way-soon", Requirement: "ING-9", Reason: "when the first has been silent for 1 s",
		request: func(x *exchange, h *head) func(*net.TCPConn) {
			if publishing(x) && x.number == 2 && x.age() > 1800*time.Millisecond && x.age() < 3*time.Second {
				x.endFirst()
				time.Sleep(50 * time.Millisecond)
			}
			return nil
		},
	},
	{
		Name: "ing-9-silent-status", Requirement: "ING-9", Reason: "the status of the publisher that fell silent",
		answer: func(x *exchange, r *reply) {
			if r.head.status() == 408 && x.age() < 4500*time.Millisecond && strings.Contains(x.head.path(), ".ing-9.") {
				r.head.setStatus(410)
			}
		},
	},
	{Name: "ing-10-bytes", Requirement: "ING-10", Reason: "bytes, without the transfer coding", answer: func(x *exchange, r *reply) {
		if strings.Contains(x.head.path(), ".ing-10.") {
			edit(200, `"bytes":`, `"bytes":1`)(x, r)
		}
	}},
	{Name: "ing-10-no-tracks", Requirement: "ING-10", Reason: "the summary has tracks", answer: edit(200, `"tracks"`, `"streams"`)},
	{Name: "ing-10-duration", Requirement: "ING-10", Reason: "duration_ms", answer: edit(200, `"duration_ms":`, `"duration_ms":1`)},
	{Name: "ing-10-session", Requirement: "ING-10", Reason: "sessionid", answer: edit(200, `"sessionid":"`, `"sessionid":"/stream/`)},
	{Name: "ing-10-truncated", Requirement: "ING-10", Reason: "truncated", answer: edit(200, `"truncated":true`, `"truncated":false`)},
	{
		Name: "ing-10-early", Requirement: "ING-10", Reason: "the last frame's arrival",
		media: holdsBack(func(w io.Writer, m *mux, held []frame) {
			time.Sleep(1300 * time.Millisecond)
			m.sendAll(w, held)
		}),
	},
	{Name: "ing-11-status", Requirement: "ING-11", Reason: "the status", Also: []string{"ING-5", "ING-7"}, answer: status(415, 400, every)},
	{
		Name: "ing-11-late", Requirement: "ING-11", Reason: "the 415 after the body's end took",
		answer: func(x *exchange, r *reply) {
			if r.head.status() == 415 && strings.Contains(x.head.path(), ".ing-11.") {
				time.Sleep(6500 * time.Millisecond)
			}
		},
	},
	{
		Name: "ing-12-header", Requirement: "ING-12", Reason: "the status",
		answer: func(x *exchange, r *reply) {
			if r.head.status() == 400 && strings.Contains(x.head.path(), ".ing-12.") && x.age() < time.Second {
				r.head.setStatus(415)
			}
		},
	},
	{
		Name: "ing-12-taken", Requirement: "ING-12", Reason: "the status of a body that turns to garbage",
		answer: func(x *exchange, r *reply) {
			if r.head.status() == 400 && x.age() > time.Second && strings.Contains(x.head.path(), ".ing-12.") {
				r.head.setStatus(200)
			}
		},
	},
	{
		Name: "ing-12-lost", Requirement: "ING-12", Reason: "the frames before the garbage",
		media: holdsBack(func(w io.Writer, m *mux, held []frame) {
			if time.Since(m.last) < time.Second { // else the publisher broke off, and the grace time has passed
				m.sendAll(w, held)
			}
		}),
	},
	{
		Name: "ing-13-never", Requirement: "ING-13", Reason: "the publisher's answer", Also: []string{"ING-9"},
		answer: func(_ *exchange, r *reply) {
			if r.head.status() == 408 {
				time.Sleep(4 * time.Second)
				r.dropped = true
			}
		},
	},
	{
		Name: "ing-13-early", Requirement: "ING-13", Reason: "the silence after which 408 came",
		upload: func(x *exchange, server io.Writer) io.Writer {
			if !strings.Contains(x.head.path(), ".ing-13.") {
				return server
			}
			const after = 2800 * time.Millisecond
			return &silent{Writer: server, after: after, timer: time.AfterFunc(after, func() {
				refuse(408)(x.client)
				reset(x.server)
			})}
		},
	},
	{
		Name: "ing-13-status", Requirement: "ING-13", Reason: "the status of a publisher that sends nothing",
		answer: func(x *exchange, r *reply) {
			if r.head.status() == 408 && x.age() > 4500*time.Millisecond {
				r.head.setStatus(400)
			}
		},
	},
	{Name: "ing-14-early", Requirement: "ING-14", Reason: "early", media: within("ING-14", slowFirst(2400*time.Millisecond))},
	{
		Name: "ing-14-holds-back", Requirement: "ING-14", Reason: "sent in haste after a stall",
		media: func(m *mux) {
			last := time.Now()
			send := m.send
			m.send = func(w io.Writer, p []byte) {
				if time.Since(last) > 1200*time.Millisecond && m.frames > 20 {
					time.Sleep(2300 * time.Millisecond)
				}
				last = time.Now()
				send(w, p)
			}
		},
	},
	{
		Name: "ing-14-jump", Requirement: "ING-14", Reason: "follows the one before it by",
		media: func(m *mux) {
			m.each = func(f frame) []frame {
				if strings.Contains(m.x.head.path(), ".ing-14.") && f.time > 1600*time.Millisecond {
					f.time += 5 * time.Second
				}
				return []frame{f}
			}
		},
	},
	{
		Name: "ing-14-jump-loses", Requirement: "ING-14", Reason: "over a jump of",
		media: drop(func(m *mux, f frame) bool {
			return strings.Contains(m.x.head.path(), ".ing-14.") && f.kind == webm.Audio && m.of[f.kind] == 70
		}),
	},
	{
		Name: "ing-15-locked", Requirement: "ING-15", Reason: "the publisher's status",
		request: always(func(x *exchange, _ *head) bool {
			x.session.mu.Lock()
			defer x.session.mu.Unlock()
			return publishing(x) && x.session.broken
		}, 409, "Retry-After: 10"),
	},
	{Name: "ing-16-status", Requirement: "ING-16", Reason: "the status of", answer: status(200, 206, func(x *exchange) bool {
		return x.head.get("Content-Range") != ""
	})},
	{Name: "ing-16-gap", Requirement: "ING-16", Reason: "the status of a part after", answer: status(416, 200, every)},
	{Name: "ing-16-malformed", Requirement: "ING-16", Reason: "with Content-Range:", answer: status(400, 416, func(x *exchange) bool {
		return x.head.get("Content-Range") != ""
	})},
	{
		Name: "ing-16-lasts", Requirement: "ING-16", Reason: "after a first part that wasn't continued",
		media: func(m *mux) {
			finish := m.finish
			m.finish = func(w io.Writer, clean bool) {
				if strings.Contains(m.x.head.path(), ".ing-16.") {
					time.Sleep(2700 * time.Millisecond)
				}
				finish(w, clean)
			}
		},
	},
}

// spotsSecond marks the session at the body's second EBML header.
func spotsSecond(x *exchange, server io.Writer) io.Writer {
	second := spots(0x1A, 0x45, 0xDF, 0xA3)(x, server).(*sniffer)
	mark := second.found
	n := 0
	second.found = func() {
		if n++; n == 2 {
			mark()
			return
		}
		second.done, second.seen = false, nil
	}
	return second
}
