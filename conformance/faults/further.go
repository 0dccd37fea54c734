package faults

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strings"
	"time"

	"tureen/conformance/webm"
)

// within applies a change of streams to the sessions of one requirement's checks alone.
func within(requirement string, change func(*mux)) func(*mux) {
	return func(m *mux) {
		if strings.Contains(m.x.head.path(), "."+strings.ToLower(requirement)+".") {
			change(m)
		}
	}
}

// alter changes payloads.
func alter(when func(m *mux, f frame) bool) func(*mux) {
	return func(m *mux) {
		m.each = func(f frame) []frame {
			if when(m, f) {
				f.payload[len(f.payload)-1] ^= 0x55
			}
			return []frame{f}
		}
	}
}

// returned reports whether a publisher has come after the session's first.
func (m *mux) returned() bool { return m.x.publishers() > 1 }

// delaySound moves sound behind the picture where a condition holds, and keeps the order.
func delaySound(by time.Duration, when func(*mux) bool) func(*mux) {
	return func(m *mux) {
		var waiting []frame
		m.each = func(f frame) []frame {
			if f.kind == webm.Audio {
				if when(m) {
					f.time += by
				}
				waiting = append(waiting, f)
				if !m.has(webm.Video) {
					due := waiting
					waiting = nil
					return due
				}
				return nil
			}
			n := 0
			for n < len(waiting) && waiting[n].time <= f.time {
				n++
			}
			due := append(waiting[:n:n], f)
			waiting = waiting[n:]
			return due
		}
		finish := m.finish
		m.finish = func(w io.Writer, clean bool) {
			m.sendAll(w, waiting)
			finish(w, clean)
		}
	}
}

var formatFaults = []*Fault{
	{Name: "fmt-1-altered", Requirement: "FMT-1", Reason: "isn't the publisher's frame", Also: []string{"FMT-4", "FMT-6", "FMT-7"}, media: alter(func(m *mux, f frame) bool {
		return m.of[f.kind] == 25
	})},
	{Name: "fmt-1-altered-once", Requirement: "FMT-1", Reason: "isn't the publisher's frame", media: alter(func(m *mux, f frame) bool {
		return f.kind == webm.Audio && m.of[f.kind] == 300
	})},
	{Name: "fmt-1-lost", Requirement: "FMT-1", Reason: "after video frame", media: drop(func(m *mux, f frame) bool {
		return f.kind == webm.Video && m.of[f.kind] == 110
	})},
	{Name: "fmt-1-lost-last", Requirement: "FMT-1", Reason: "frame didn't come", Also: []string{"FMT-4", "FMT-6"}, media: holdsBack(func(w io.Writer, m *mux, held []frame) {
		m.sendAll(w, held[:len(held)-1])
	})},
	{Name: "fmt-1-doubled", Requirement: "FMT-1", Reason: "after audio frame", Also: []string{"FMT-4"}, media: func(m *mux) {
		m.each = func(f frame) []frame {
			if f.kind == webm.Audio && m.of[f.kind] == 120 {
				return []frame{f, f}
			}
			return []frame{f}
		}
	}},
	{Name: "fmt-1-drifts", Requirement: "FMT-1", Reason: "the offset of timestamps isn't constant", Also: []string{"FMT-4", "FMT-6"}, media: func(m *mux) {
		m.each = func(f frame) []frame {
			f.time += f.time / 500 // 2 ‰
			return []frame{f}
		}
	}},
	{Name: "fmt-1-lip-sync", Requirement: "FMT-1", Reason: "the offset of timestamps isn't constant", Also: []string{"FMT-6"}, media: delaySound(
		40*time.Millisecond, func(*mux) bool { return true })},
	{Name: "fmt-1-lip-sync-late-join", Requirement: "FMT-1", Reason: "at a viewer that joins late", media: delaySound(10*time.Millisecond, (*mux).late)},
	{Name: "fmt-1-early-sound", Requirement: "FMT-1", Reason: "breaks WAT-3", media: within("FMT-1", func(m *mux) {
		begun := false
		m.each = func(f frame) []frame {
			if begun || f.kind != webm.Video {
				return []frame{f}
			}
			begun = true
			sound := frame{kind: webm.Audio, track: 2, time: f.time - 20*time.Millisecond, key: true, payload: []byte{1, 2, 3, 4}}
			if f.time < 20*time.Millisecond {
				return []frame{f}
			}
			return []frame{sound, f}
		}
	})},
	{Name: "fmt-4-video", Requirement: "FMT-4", Reason: "the publisher's status", upload: refusesWithout("A_VORBIS")},
	{Name: "fmt-4-audio", Requirement: "FMT-4", Reason: "the publisher's status", upload: refusesWithout("V_VP8")},
	{Name: "fmt-5-mode", Requirement: "FMT-5", Reason: "mode of the", answer: edit(200, `"mode":"passthrough"`, `"mode":"copy"`)},
	{Name: "fmt-5-reason", Requirement: "FMT-5", Reason: "reason of the", answer: edit(200, `"reason":`, `"because":`)},
	{Name: "fmt-6-ends", Requirement: "FMT-6", Reason: "over a change of size", media: within("FMT-6", drop(func(m *mux, f frame) bool {
		return f.kind == webm.Video && m.of[f.kind] > 31
	}))},
	{Name: "fmt-6-new-head", Requirement: "FMT-6", Reason: "a second EBML header", media: within("FMT-6", func(m *mux) {
		block := m.block
		m.block = func(f frame, relative int16) []byte {
			p := block(f, relative)
			if f.kind == webm.Video && m.of[f.kind] == 31 {
				p = append(webm.Head(m.tracks), webm.ClusterHead(m.base)...)
				p = append(p, block(f, relative)...)
			}
			return p
		}
	})},
	{Name: "fmt-7-third-track", Requirement: "FMT-7", Reason: "tracks that a viewer gets", media: within("FMT-7", func(m *mux) {
		m.head = func(tracks []webm.Track) []byte {
			more := tracks[len(tracks)-1]
			more.Number = 3
			return webm.Head(append(tracks[:len(tracks):len(tracks)], more))
		}
	})},
	{Name: "fmt-7-encrypted", Requirement: "FMT-7", Reason: "the status of encrypted tracks", answer: status(415, 400, every)},
}

// refusesWithout refuses bodies whose head doesn't name a codec.
func refusesWithout(codec string) func(*exchange, io.Writer) io.Writer {
	return startsWith(415, func(p []byte) bool { return !bytes.Contains(p, []byte(codec)) })
}

var reconnectFaults = []*Fault{
	{Name: "rec-1-stale", Requirement: "REC-1", Reason: "that comes again after", media: func(m *mux) {
		within("REC-1", startOld(func(*mux) bool { return true }))(m)
	}},
	{Name: "rec-1-inter", Requirement: "REC-1", Reason: "the first picture is no key frame", media: within("REC-1", skipFirst((*mux).late))},
	{Name: "rec-2-ends", Requirement: "REC-2", Reason: "the body ends cleanly after the publisher that returned", Also: []string{"REC-3"}, media: func(m *mux) {
		// The viewer's body breaks off as soon as its publisher does.
		send := m.send
		m.send = func(w io.Writer, p []byte) {
			if m.returned() {
				m.x.client.Close()
				return
			}
			send(w, p)
		}
	}},
	{Name: "rec-2-second-return", Requirement: "REC-2", Reason: "return 2", media: func(m *mux) {
		loseOnce(webm.Video, func(m *mux) bool {
			return m.x.publishers() > 2 && m.of[webm.Video] > 60 && strings.Contains(m.x.head.path(), ".rec-2.")
		})(m)
	}},
	{Name: "rec-2-gap", Requirement: "REC-2", Reason: "the time from one frame to the next", media: func(m *mux) {
		m.each = func(f frame) []frame {
			if m.returned() && strings.Contains(m.x.head.path(), ".rec-2.") {
				f.time += 400 * time.Millisecond
			}
			return []frame{f}
		}
	}},
	{Name: "rec-2-lip-sync", Requirement: "REC-2", Reason: "the offset of timestamps isn't constant", media: within("REC-2", delaySound(
		15*time.Millisecond, (*mux).returned))},
	{Name: "rec-2-falls", Requirement: "REC-2", Reason: "breaks WAT-5", media: func(m *mux) {
		m.each = func(f frame) []frame {
			if m.returned() && strings.Contains(m.x.head.path(), ".rec-2.") {
				f.time -= 300 * time.Millisecond
			}
			return []frame{f}
		}
	}},
	{Name: "rec-2-new-head", Requirement: "REC-2", Reason: "a second EBML header", media: func(m *mux) {
		struck := false
		block := m.block
		m.block = func(f frame, relative int16) []byte {
			p := block(f, relative)
			if !struck && m.returned() && strings.Contains(m.x.head.path(), ".rec-2.") {
				struck = true
				p = append(append(webm.Head(m.tracks), webm.ClusterHead(m.base)...), p...)
			}
			return p
		}
	}},
	{Name: "rec-2-loses-key", Requirement: "REC-2", Reason: "after return 1", Also: []string{"REC-3"}, media: func(m *mux) {
		loseOnce(webm.Video, func(m *mux) bool { return m.returned() })(m)
	}},
	{Name: "rec-2-refused-ends", Requirement: "REC-2", Reason: "after the publisher that returned", answer: func(x *exchange, r *reply) {
		if r.head.status() == 415 {
			x.session.mu.Lock()
			x.session.lossy = true
			x.session.mu.Unlock()
		}
	}, media: func(m *mux) {
		send := m.send
		m.send = func(w io.Writer, p []byte) {
			if m.x.marked() {
				m.x.client.Close()
				return
			}
			send(w, p)
		}
	}},
	{Name: "rec-2-silence-ends", Requirement: "REC-2", Reason: "after the publisher that returned", answer: func(x *exchange, r *reply) {
		if r.head.status() == 408 {
			x.session.mu.Lock()
			x.session.lossy = true
			x.session.mu.Unlock()
		}
	}, media: func(m *mux) {
		send := m.send
		m.send = func(w io.Writer, p []byte) {
			if m.x.marked() {
				m.x.client.Close()
				return
			}
			send(w, p)
		}
	}},
	{Name: "rec-2-stale-join", Requirement: "REC-2", Reason: "the first picture is no key frame", media: func(m *mux) {
		if m.late() && m.returned() && strings.Contains(m.x.head.path(), ".rec-2.") {
			skipFirst(func(*mux) bool { return true })(m)
		}
	}},
	{Name: "rec-3-cut", Requirement: "REC-3", Reason: "the body ends cleanly", Also: []string{"REC-2"}, media: atEnd(func(io.Writer, *mux) bool { return false })},
	{Name: "rec-3-lasts", Requirement: "REC-3", Reason: "the body's end after the publisher's reset took", media: atEnd(func(_ io.Writer, m *mux) bool {
		if !m.returned() && strings.Contains(m.x.head.path(), ".rec-3.") {
			time.Sleep(2600 * time.Millisecond)
		}
		return true
	})},
	{Name: "rec-3-stays", Requirement: "REC-3", Reason: "the status of a GET after the grace time", answer: func(x *exchange, r *reply) {
		if x.head.method() == "GET" && r.head.status() == 404 && x.publishers() == 1 && x.age() > 2*time.Second {
			r.head.setStatus(503)
		}
	}},
	{Name: "rec-3-no-grace", Requirement: "REC-3", Reason: "the time from the publisher's reset", Also: []string{"REC-2"}, media: func(m *mux) {
		over := false
		m.x.onBreak(func() {
			over = true
			io.WriteString(m.x.client, "0\r\n\r\n")
			m.x.client.Close()
		})
		finish := m.finish
		m.finish = func(w io.Writer, clean bool) {
			if !over {
				finish(w, clean)
			}
		}
	}},
	{Name: "rec-3-wrong-stream", Requirement: "REC-3", Reason: "a fresh GET", request: always(func(x *exchange, h *head) bool {
		return h.method() == "GET" && x.publishers() > 1 && strings.Contains(h.path(), ".rec-3.")
	}, 404)},
}

// onBreak calls f when a publisher of the session breaks off.
func (x *exchange) onBreak(f func()) {
	x.session.mu.Lock()
	defer x.session.mu.Unlock()
	x.session.breaks = append(x.session.breaks, f)
}

var serviceFaults = []*Fault{
	{Name: "api-7-no-allow", Requirement: "API-7", Reason: "Allow of the 405", answer: header(405, "Allow", "", every)},
	{Name: "api-7-partial-allow", Requirement: "API-7", Reason: "Allow of the 405", answer: header(405, "Allow", "GET, HEAD, PUT", every)},
	{Name: "api-7-method", Requirement: "API-7", Reason: "the status of PATCH", answer: status(405, 501, func(x *exchange) bool {
		return x.head.method() == "PATCH" && strings.HasPrefix(x.head.path(), "/stream/")
	})},
	{Name: "api-7-unknown", Requirement: "API-7", Reason: "the status of GET", answer: func(x *exchange, r *reply) {
		if r.head.status() == 404 && strings.HasPrefix(x.head.path(), "/streams/") && x.head.method() == "GET" {
			r.head.setStatus(400)
		}
	}},
	{Name: "api-8-text", Requirement: "API-8", Reason: "Content-Type of the 404 to GET", answer: header(404, "Content-Type", "text/plain", asked("GET"))},
	{Name: "api-8-conflict", Requirement: "API-8", Reason: "Content-Type of the 409", answer: header(409, "Content-Type", "application/json", every)},
	{Name: "api-8-no-detail", Requirement: "API-8", Reason: "detail of the 415", answer: func(x *exchange, r *reply) {
		if r.head.status() == 415 {
			r.body = bytes.Replace(r.body, []byte(`"detail"`), []byte(`"details"`), 1)
		}
	}},
	{Name: "api-8-wrong-status", Requirement: "API-8", Reason: "status in the body of the 405", answer: func(x *exchange, r *reply) {
		if r.head.status() == 405 {
			r.body = bytes.Replace(r.body, []byte(`405`), []byte(`404`), 1)
		}
	}},
	{Name: "api-8-head", Requirement: "API-8", Reason: "Content-Type of the 404 to HEAD", answer: header(404, "Content-Type", "text/html", asked("HEAD"))},
	{Name: "srv-1-neighbour", Requirement: "SRV-1", Reason: "a session beside hostile ones", media: within("SRV-1", loseOnce(
		webm.Audio, func(m *mux) bool { return m.of[webm.Audio] == 100 }))},
	{Name: "srv-1-hangs", Requirement: "SRV-1", Reason: "an answer to, or the end of", upload: func(x *exchange, server io.Writer) io.Writer {
		if !strings.Contains(x.head.path(), ".srv-1.") {
			return server
		}
		return &sniffer{Writer: server, pattern: bytes.Repeat([]byte{0xFF}, 1000), found: func() {
			x.session.mu.Lock()
			x.session.lossy = true
			x.session.mu.Unlock()
		}}
	}, answer: func(x *exchange, r *reply) {
		if x.session != nil && x.marked() {
			time.Sleep(18 * time.Second)
			r.dropped = true
		}
	}},
}

// processFaults are of targets that the suite starts and stops itself.
var processFaults = []*Fault{
	{Name: patientFault, Requirement: "SRV-2", Reason: "giving up a head that isn't finished took"},
	{Name: "srv-2-huge", Requirement: "SRV-2", Reason: "the status of a head of 256 KiB", answer: status(431, 404, every)},
	{Name: "srv-3-status", Requirement: "SRV-3", Reason: "the status of a publisher", answer: status(503, 500, func(x *exchange) bool {
		return publishing(x) && strings.Contains(x.head.path(), ".srv-3.")
	})},
	{Name: "srv-3-cut", Requirement: "SRV-3", Reason: "the viewer's body ends cleanly", media: within("SRV-3", atEnd(func(io.Writer, *mux) bool { return false }))},
	{Name: "srv-3-newcomers", Requirement: "SRV-3", Reason: "while the target drains", alone: refuse(404), answer: status(503, 404, every), Also: []string{"SRV-4"}},
	{Name: "srv-4-status", Requirement: "SRV-4", Reason: "the status of a", answer: status(503, 429, func(x *exchange) bool { return strings.Contains(x.head.path(), ".srv-4.") })},
	{Name: "srv-4-no-retry-after", Requirement: "SRV-4", Reason: "Retry-After of the 503", Also: []string{"SRV-3"}, answer: header(503, "Retry-After", "", every)},
	{Name: "srv-4-degrades", Requirement: "SRV-4", Reason: "a viewer who was there before", media: within("SRV-4", loseOnce(webm.Audio, func(m *mux) bool {
		m.x.session.mu.Lock()
		defer m.x.session.mu.Unlock()
		return m.x.session.viewers > 2 && m.x.viewer == 1 && m.of[webm.Audio] > 60
	}))},
}

// size is how webm.Head codes the size of the clip that is transcoded.
var size = []byte{0xB0, 0x82, 0x02, 0x80, 0xBA, 0x82, 0x01, 0x68}

var transcodingFaults = []*Fault{
	{Name: "ing-8-flv", Requirement: "ING-8", Reason: "the status; it said", upload: refuses(415, 'F', 'L', 'V', 1)},
	{Name: "ing-8-silent", Requirement: "ING-8", Reason: "blocks of audio", media: within("ING-8", drop(func(_ *mux, f frame) bool { return f.kind == webm.Audio }))},
	{Name: "ing-8-ends", Requirement: "ING-8", Reason: "the time that the blocks of", media: within("ING-8", drop(func(_ *mux, f frame) bool { return f.time > 2*time.Second }))},
	{Name: "fmt-2-lost", Requirement: "FMT-2", Reason: "pictures", media: within("FMT-2", drop(func(m *mux, f frame) bool {
		return f.kind == webm.Video && !f.key && m.of[f.kind]%3 != 0
	}))},
	{Name: "fmt-2-size", Requirement: "FMT-2", Reason: "the picture's size", media: within("FMT-2", rehead(1, size, []byte{0xB0, 0x82, 0x02, 0x80, 0xBA, 0x82, 0x01, 0x60}))},
	{Name: "fmt-2-keys", Requirement: "FMT-2", Reason: "key frame", media: within("FMT-2", drop(func(m *mux, f frame) bool { return f.kind == webm.Video && f.key && m.of[f.kind] > 1 }))},
	{Name: "fmt-2-drifts", Requirement: "FMT-2", Reason: "by how much pictures' times differ", media: within("FMT-2", func(m *mux) {
		m.each = func(f frame) []frame {
			f.time += f.time / 200
			return []frame{f}
		}
	})},
	{Name: "fmt-2-stale", Requirement: "FMT-2", Reason: "by how much pictures' times differ", media: within("FMT-2", func(m *mux) {
		var first []byte
		m.each = func(f frame) []frame {
			if f.kind == webm.Video && f.key {
				if first == nil {
					first = f.payload
				}
				f.payload = first // the picture stands still
			}
			return []frame{f}
		}
	})},
	{Name: "fmt-3-altered", Requirement: "FMT-3", Reason: "VP8 beside Opus passes bit by bit", media: within("FMT-3", alter(func(m *mux, f frame) bool {
		return f.kind == webm.Video && m.of[f.kind] == 50
	}))},
}

// harmless change what the specification leaves open.
var harmless = []*Fault{
	{Name: "harmless-fields", answer: func(x *exchange, r *reply) {
		for i, f := range r.head.fields { // other case, other order
			name, value, _ := strings.Cut(f, ":")
			r.head.fields[i] = strings.ToLower(name) + ":" + strings.TrimSpace(value)
		}
		for i, j := 0, len(r.head.fields)-1; i < j; i, j = i+1, j-1 {
			r.head.fields[i], r.head.fields[j] = r.head.fields[j], r.head.fields[i]
		}
		r.head.fields = append(r.head.fields, "server: another", "x-extra: 1")
	}},
	{Name: "harmless-json", answer: func(x *exchange, r *reply) {
		if bytes.HasPrefix(r.body, []byte("{")) {
			r.body = append([]byte("{\n  \"instance\": null, \"extra\": [1, {\"a\": 2}], "), r.body[1:]...)
		}
	}},
	{Name: "harmless-type-parameters", answer: func(x *exchange, r *reply) {
		if strings.Contains(r.head.get("Content-Type"), "webm") {
			r.head.set("Content-Type", r.head.get("Content-Type")+`; codecs="vp8, vorbis"`)
			return
		}
		if strings.Contains(r.head.get("Content-Type"), "problem") {
			r.head.set("Content-Type", "application/problem+json; charset=utf-8")
		}
	}},
	{Name: "harmless-close", answer: func(x *exchange, r *reply) { // errors that end with the connection
		if r.head.status() >= 400 && x.head.method() != "HEAD" {
			r.head.set("Content-Length", "")
			r.head.set("Connection", "close")
			r.write(x.client, x.head.method())
			r.dropped = true
		}
	}},
	{Name: "harmless-clusters", media: func(m *mux) { m.fresh = func(f frame) bool { return f.kind == webm.Video || m.base < 0 } }},
	{Name: "harmless-known-clusters", media: func(m *mux) {
		m.fresh = func(frame) bool { return true }
		m.cluster = func(int64) []byte { return nil }
		block := m.block
		m.block = func(f frame, _ int16) []byte {
			return webm.Element(webm.IDCluster, append(webm.ClusterHead(f.time.Milliseconds())[12:], block(f, 0)...)...)
		}
	}},
	{Name: "harmless-block-groups", media: func(m *mux) {
		m.block = func(f frame, relative int16) []byte {
			simple := simpleBlock(frame{kind: f.kind, track: f.track, payload: f.payload}, relative)
			group := append([]byte{0xA1}, simple[1:]...)
			if !f.key {
				group = append(group, 0xFB, 0x81, 0xDF) // ReferenceBlock -33
			}
			return webm.Element(0xA0, group...)
		}
	}},
	{Name: "harmless-elements", media: func(m *mux) {
		block := m.block
		m.block = func(f frame, relative int16) []byte {
			p := append(webm.Element(webm.IDVoid, 0, 0, 0), block(f, relative)...)
			return append(p, webm.Element(0x4D4D, 1, 2, 3)...) // nobody knows it
		}
	}},
	{Name: "harmless-rebased", media: func(m *mux) {
		m.each = func(f frame) []frame {
			f.time += time.Hour
			return []frame{f}
		}
	}},
	{Name: "harmless-byte-chunks", media: func(m *mux) {
		m.send = func(w io.Writer, p []byte) {
			var out []byte
			for _, b := range p {
				out = append(out, "1;x=y\r\n"...)
				out = append(out, b, '\r', '\n')
			}
			w.Write(out)
		}
	}},
	{Name: "harmless-trailers", media: func(m *mux) {
		m.finish = func(w io.Writer, clean bool) {
			if clean {
				io.WriteString(w, "000;last\r\nX-Frames: many\r\n\r\n")
			}
		}
	}},
	{Name: "harmless-numbers", media: func(m *mux) { // other track numbers
		m.head = func(tracks []webm.Track) []byte {
			renumbered := make([]webm.Track, len(tracks))
			for i, t := range tracks {
				renumbered[len(tracks)-1-i] = t
				renumbered[len(tracks)-1-i].Number = t.Number + 40
			}
			return webm.Head(renumbered)
		}
		m.each = func(f frame) []frame {
			f.track += 40
			return []frame{f}
		}
	}},
	{Name: "harmless-interim", request: func(x *exchange, h *head) func(*net.TCPConn) {
		if x.head.method() == "GET" {
			io.WriteString(x.client, "HTTP/1.1 103 Early Hints\r\nLink: </>; rel=preload\r\n\r\n")
		}
		return nil
	}},
	{Name: "harmless-slow-network", stream: func(x *exchange, in *bufio.Reader) { // 15 ms more, and small pieces
		hoard := newQueue()
		go func() {
			buffer := make([]byte, 1000)
			for {
				n, err := in.Read(buffer)
				time.Sleep(time.Millisecond)
				hoard.Write(buffer[:n])
				if err != nil {
					hoard.close()
					return
				}
			}
		}()
		hoard.drain(x.client)
	}},
}
