package faults

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"tureen/conformance/webm"
)

// watches changes the head of a stream's answer.
func watches(change func(x *exchange, h *head)) func(*exchange, *reply) {
	return func(x *exchange, r *reply) {
		if x.head.method() == "GET" && r.head.status() == http.StatusOK {
			change(x, &r.head)
		}
	}
}

// rehead changes the bytes before the first Cluster, for viewers from some number on.
func rehead(from int, old, replacement []byte) func(*mux) {
	return func(m *mux) {
		m.head = func(tracks []webm.Track) []byte {
			h := webm.Head(tracks)
			if m.x.viewer >= from {
				h = bytes.Replace(h, old, replacement, 1)
			}
			return h
		}
	}
}

// late holds for viewers after a session's first.
func (m *mux) late() bool { return m.x.viewer > 1 }

// inGroup is how far into its group of pictures a stream is, by what its first viewer gets.
func (x *exchange) inGroup() time.Duration {
	x.session.mu.Lock()
	defer x.session.mu.Unlock()
	return time.Since(x.session.lastKey)
}

// remember keeps what a session's first viewer gets.
func (m *mux) remember(f frame) {
	if m.late() {
		return
	}
	m.x.session.mu.Lock()
	defer m.x.session.mu.Unlock()
	m.x.session.history = append(m.x.session.history, f)
	if f.kind == webm.Video && f.key {
		m.x.session.lastKey = time.Now()
	}
}

func (m *mux) history() []frame {
	m.x.session.mu.Lock()
	defer m.x.session.mu.Unlock()
	return slices.Clone(m.x.session.history)
}

// startOld has late viewers begin with the group of pictures before the one that they should get.
func startOld(when func(m *mux) bool) func(*mux) {
	return func(m *mux) {
		old := when(m)
		begun := false
		m.each = func(f frame) []frame {
			m.remember(f)
			if begun || !old || !m.late() {
				return []frame{f}
			}
			begun = true
			history := m.history()
			key := -1
			for i, h := range history {
				if h.kind == webm.Video && h.key && h.time < f.time-500*time.Millisecond {
					key = i
				}
			}
			if key < 0 {
				return []frame{f}
			}
			var before []frame
			for _, h := range history[key:] {
				if h.time < f.time {
					before = append(before, h)
				}
			}
			return append(before, f)
		}
	}
}

// skipFirst has viewers begin with the picture after their key frame.
func skipFirst(when func(m *mux) bool) func(*mux) {
	return func(m *mux) {
		strikes := when(m)
		drop(func(m *mux, f frame) bool {
			m.remember(f)
			return strikes && f.kind == webm.Video && m.of[f.kind] == 1
		})(m)
	}
}

// retime changes the time of one frame.
func retime(kind string, number int, by time.Duration) func(*mux) {
	return func(m *mux) {
		m.each = func(f frame) []frame {
			if f.kind == kind && m.of[kind] == number {
				f.time += by
			}
			return []frame{f}
		}
	}
}

// atEnd does something between the last frame and a clean end.
func atEnd(f func(w io.Writer, m *mux) (clean bool)) func(*mux) {
	return func(m *mux) {
		finish := m.finish
		m.finish = func(w io.Writer, clean bool) {
			if clean {
				clean = f(w, m)
			}
			finish(w, clean)
		}
	}
}

// slowStart holds back what late viewers get.
func slowStart(d time.Duration) func(*mux) {
	return func(m *mux) {
		if m.late() && strings.Contains(m.x.head.path(), ".wat-6.") {
			slowFirst(d)(m)
		}
	}
}

// segmentHead is how webm.Head codes a Segment of unknown size.
var segmentHead = webm.Unknown(webm.IDSegment, 8)

var watchFaults = []*Fault{
	{Name: "wat-1-type", Requirement: "WAT-1", Reason: "Content-Type", Also: []string{"WAT-12"}, answer: watches(func(_ *exchange, h *head) { h.set("Content-Type", "application/octet-stream") })},
	{Name: "wat-1-audio-type", Requirement: "WAT-1", Reason: "Content-Type", answer: watches(func(_ *exchange, h *head) {
		if h.get("Content-Type") == "audio/webm" {
			h.set("Content-Type", "video/webm")
		}
	})},
	{Name: "wat-1-cacheable", Requirement: "WAT-1", Reason: "Cache-Control", Also: []string{"WAT-12"}, answer: watches(func(_ *exchange, h *head) { h.set("Cache-Control", "max-age=60") })},
	{Name: "wat-1-length", Requirement: "WAT-1", Reason: "Content-Length", Also: []string{"WAT-12"}, answer: watches(func(_ *exchange, h *head) { h.set("Content-Length", "1000000") })},
	{Name: "wat-1-old-chunks", Requirement: "WAT-1", Reason: "Transfer-Encoding of an answer to HTTP/1.0", answer: watches(func(x *exchange, h *head) {
		if strings.HasSuffix(x.head.first, "HTTP/1.0") {
			h.set("Transfer-Encoding", "chunked")
		}
	})},
	{
		Name: "wat-1-ends", Requirement: "WAT-1", Reason: "ended while the stream is live",
		media: func(m *mux) {
			// The body of the first viewer ends after a second, as a whole one.
			send, over := m.send, false
			m.send = func(w io.Writer, p []byte) {
				if over {
					return
				}
				send(w, p)
				if m.of[webm.Video] >= 30 && strings.Contains(m.x.head.path(), ".wat-1.") {
					over = true
					io.WriteString(w, "0\r\n\r\n")
				}
			}
			m.finish = func(w io.Writer, clean bool) {
				if clean && !over {
					io.WriteString(w, "0\r\n\r\n")
				}
			}
		},
	},

	{Name: "wat-2-doctype", Requirement: "WAT-2", Reason: `DocType is "mkv_"`, media: rehead(1, []byte("webm"), []byte("mkv_"))},
	{Name: "wat-2-doctype-late", Requirement: "WAT-2", Reason: `DocType is "mkv_"`, media: rehead(2, []byte("webm"), []byte("mkv_"))},
	{Name: "wat-2-segment", Requirement: "WAT-2", Reason: "the Segment states a size", media: rehead(1, segmentHead, webm.Claim(webm.IDSegment, 1<<40))},
	{Name: "wat-2-no-app", Requirement: "WAT-2", Reason: "Info lacks", media: rehead(1, []byte{0x57, 0x41}, []byte{0x57, 0x43})},
	{Name: "wat-2-codec", Requirement: "WAT-2", Reason: "has the codec V_VP9", media: rehead(1, []byte("V_VP8"), []byte("V_VP9"))},
	{Name: "wat-2-private", Requirement: "WAT-2", Reason: "CodecPrivate", media: rehead(1, []byte("\x01vorbis"), []byte("\x01vorbos"))},
	{Name: "wat-2-channels", Requirement: "WAT-2", Reason: "the audio track states", media: rehead(1, []byte{0x9F, 0x81, 0x02}, []byte{0x9F, 0x81, 0x01})},
	{Name: "wat-2-lace", Requirement: "WAT-2", Reason: "a laced block", Also: []string{"WAT-5", "WAT-7", "WAT-8", "WAT-10"}, media: func(m *mux) {
		m.each = func(f frame) []frame {
			if f.kind == webm.Audio && m.of[f.kind] == 20 {
				f.flags, f.payload = 0x02, append([]byte{0}, f.payload...) // a lace of one
			}
			return []frame{f}
		}
	}},
	{Name: "wat-2-second-head", Requirement: "WAT-2", Reason: "a second EBML header", media: func(m *mux) {
		block := m.block
		m.block = func(f frame, relative int16) []byte {
			p := block(f, relative)
			if f.kind == webm.Video && m.of[f.kind] == 20 {
				p = slices.Concat(p, webm.Head(m.tracks), webm.ClusterHead(m.base))
			}
			return p
		}
	}},
	{Name: "wat-2-key-flag", Requirement: "WAT-2", Reason: "key frame flag is true", media: func(m *mux) {
		fresh := m.fresh
		m.fresh = func(f frame) bool { return fresh(f) && m.of[webm.Video] != 20 || m.base < 0 }
		block := m.block
		m.block = func(f frame, relative int16) []byte {
			f.key = f.key || f.kind == webm.Video && m.of[f.kind] == 20
			return block(f, relative)
		}
	}},
	{Name: "wat-2-cut-end", Requirement: "WAT-2", Reason: "ends inside an element", media: atEnd(func(w io.Writer, m *mux) bool {
		m.send(w, []byte{0xA3, 0x90, 0x81, 0, 0})
		return true
	})},
	{Name: "wat-2-cluster-size", Requirement: "WAT-2", Reason: "that can only follow it", media: func(m *mux) {
		m.cluster = func(ms int64) []byte {
			return append(webm.Claim(webm.IDCluster, 1<<30), webm.ClusterHead(ms)[12:]...)
		}
	}},
	{Name: "wat-2-other-track", Requirement: "WAT-2", Reason: "which Tracks doesn't name", Also: []string{"WAT-5", "WAT-7", "WAT-8", "WAT-10"}, media: func(m *mux) {
		m.each = func(f frame) []frame {
			if m.frames == 40 {
				f.track = 7
			}
			return []frame{f}
		}
	}},

	{Name: "wat-3-inter", Requirement: "WAT-3", Reason: "the first picture is no key frame", Also: []string{"WAT-6"}, media: skipFirst((*mux).late)},
	{Name: "wat-3-inter-late-in-group", Requirement: "WAT-3", Reason: "the first picture is no key frame", Also: []string{"WAT-6"}, media: skipFirst(func(m *mux) bool {
		return m.late() && m.x.inGroup() > 800*time.Millisecond
	})},
	{Name: "wat-3-flag", Requirement: "WAT-3", Reason: "by its flag: false", Also: []string{"WAT-6"}, media: func(m *mux) {
		block := m.block
		m.block = func(f frame, relative int16) []byte {
			f.key = f.key && (!m.late() || m.of[webm.Video] > 1)
			return block(f, relative)
		}
	}},
	{Name: "wat-3-old-sound", Requirement: "WAT-3", Reason: "sound of", Also: []string{"WAT-4", "WAT-7"}, media: func(m *mux) {
		begun := false
		m.each = func(f frame) []frame {
			m.remember(f)
			if begun || !m.late() {
				return []frame{f}
			}
			begun = true
			var sound []frame
			for _, h := range m.history() {
				if h.kind == webm.Audio && h.time < f.time-5*time.Millisecond {
					sound = []frame{h}
				}
			}
			return append(sound, f)
		}
	}},

	{Name: "wat-4-old-group", Requirement: "WAT-4", Reason: "begins with picture", Also: []string{"WAT-7"}, media: startOld(func(*mux) bool { return true })},
	{Name: "wat-4-old-group-late", Requirement: "WAT-4", Reason: "begins with picture", Also: []string{"WAT-7"}, media: startOld(func(m *mux) bool {
		return m.x.inGroup() > 800*time.Millisecond
	})},
	{Name: "wat-4-ancient", Requirement: "WAT-4", Reason: "pictures of a viewer that joins when the only key frame is", media: func(m *mux) {
		m.each = func(f frame) []frame {
			m.remember(f)
			return []frame{f}
		}
		m.head = func(tracks []webm.Track) []byte {
			h := webm.Head(tracks)
			history := m.history()
			if i := slices.IndexFunc(history, func(f frame) bool { return f.key && f.kind == webm.Video }); i >= 0 && m.late() && m.x.age() > 10*time.Second {
				h = slices.Concat(h, m.write(history[i]))
			}
			return h
		}
	}},

	{Name: "wat-5-falls", Requirement: "WAT-5", Reason: "a block's timestamp falls", Also: []string{"WAT-8", "WAT-10"}, media: retime(webm.Video, 25, -100*time.Millisecond)},
	{Name: "wat-5-falls-across", Requirement: "WAT-5", Reason: "a block's timestamp falls", Also: []string{"WAT-8", "WAT-10"}, media: retime(webm.Audio, 40, -45*time.Millisecond)},
	{Name: "wat-5-negative", Requirement: "WAT-5", Reason: "relative timestamp is -3", media: func(m *mux) {
		m.cluster = func(ms int64) []byte {
			m.base = ms + 3
			return webm.ClusterHead(m.base)
		}
		m.fresh = func(f frame) bool { return m.base < 0 || f.kind == webm.Video && f.key }
		write := m.block
		m.block = func(f frame, _ int16) []byte { return write(f, int16(f.time.Milliseconds()-m.base)) }
	}},
	{Name: "wat-5-cluster", Requirement: "WAT-5", Reason: "a Cluster's Timestamp falls", media: func(m *mux) {
		clusters := 0
		m.cluster = func(ms int64) []byte {
			if clusters++; clusters == 3 {
				m.base = max(0, ms-1500)
			}
			return webm.ClusterHead(m.base)
		}
		write := m.block
		m.block = func(f frame, _ int16) []byte { return write(f, int16(f.time.Milliseconds()-m.base)) }
	}},
	{Name: "wat-5-drops", Requirement: "WAT-5", Reason: "after audio frame", media: func(m *mux) {
		if strings.Contains(m.x.head.path(), ".wat-5.") {
			loseOnce(webm.Audio, func(m *mux) bool { return m.of[webm.Audio] == 30 })(m)
		}
	}},
	{Name: "wat-5-moves", Requirement: "WAT-5", Reason: "the offset of timestamps isn't constant", media: func(m *mux) {
		if strings.Contains(m.x.head.path(), ".wat-5.") {
			newest := time.Duration(0)
			m.each = func(f frame) []frame { // as if nothing were held to be put in order
				if newest = max(newest, f.time); f.kind == webm.Audio && m.of[f.kind]%4 == 0 {
					f.time = newest + 8*time.Millisecond
				}
				f.time = max(f.time, newest)
				newest = f.time
				return []frame{f}
			}
		}
	}},

	{Name: "wat-6-slow", Requirement: "WAT-6", Reason: "which may be 1.2s", media: slowStart(2600 * time.Millisecond)},
	{Name: "wat-6-sluggish", Requirement: "WAT-6", Reason: "which may be 250ms", media: slowStart(1100 * time.Millisecond)},

	{Name: "wat-7-lost", Requirement: "WAT-7", Reason: "from the end differs", media: func(m *mux) {
		if m.x.viewer == 3 {
			loseOnce(webm.Video, func(m *mux) bool { return m.of[webm.Video] == 40 })(m)
		}
	}},
	{Name: "wat-7-altered", Requirement: "WAT-7", Reason: "from the end differs", media: func(m *mux) {
		m.each = func(f frame) []frame {
			if m.x.viewer == 3 && f.kind == webm.Audio && m.of[f.kind] == 10 {
				f.payload[len(f.payload)-1] ^= 1
			}
			return []frame{f}
		}
	}},

	{Name: "wat-8-departure", Requirement: "WAT-8", Reason: "at a viewer that stays", media: func(m *mux) {
		if m.x.viewer == 1 {
			loseOnce(webm.Video, func(m *mux) bool { return m.x.marked() })(m)
		}
		send := m.send
		m.send = func(w io.Writer, p []byte) {
			if _, err := w.Write(nil); err != nil || m.late() && gone(m.x.client) {
				m.x.session.mu.Lock()
				m.x.session.lossy = true
				m.x.session.mu.Unlock()
				return
			}
			send(w, p)
		}
	}},
	{Name: "wat-8-arrival", Requirement: "WAT-8", Reason: "while others come and go took", media: func(m *mux) {
		var once sync.Once
		send := m.send
		m.send = func(w io.Writer, p []byte) {
			m.x.session.mu.Lock()
			crowd := m.x.session.viewers
			m.x.session.mu.Unlock()
			if crowd > 8 && m.x.viewer == 1 {
				once.Do(func() { time.Sleep(1200 * time.Millisecond) })
			}
			send(w, p)
		}
	}},

	{Name: "wat-9-blocked", Requirement: "WAT-9", Reason: "a fast viewer beside a slow one", stream: func(x *exchange, in *bufio.Reader) {
		buffer := make([]byte, 32<<10)
		for {
			n, err := in.Read(buffer)
			x.session.write.Lock()
			_, failed := x.client.Write(buffer[:n])
			x.session.write.Unlock()
			if err != nil || failed != nil {
				return
			}
		}
	}},
	{Name: "wat-9-hoards", Requirement: "WAT-9", Reason: "bytes of media older than the budget", stream: func(x *exchange, in *bufio.Reader) {
		hoard := newQueue()
		go func() {
			io.Copy(hoard, in)
			hoard.close()
		}()
		hoard.drain(x.client)
	}},
	{Name: "wat-9-inter", Requirement: "WAT-9", Reason: "goes on with one that is no key frame", media: func(m *mux) {
		last := time.Duration(-1)
		drop(func(m *mux, f frame) bool {
			gap := last >= 0 && f.time-last > 150*time.Millisecond && strings.Contains(m.x.head.path(), ".wat-9.")
			last = f.time
			return gap
		})(m)
	}},

	{Name: "wat-10-absent", Requirement: "WAT-10", Reason: "the status of GET", answer: status(404, 503, func(x *exchange) bool {
		return x.head.method() == "GET" && x.publishers() == 0 && x.head.get("Prefer") == "" && strings.HasSuffix(x.head.path(), ".1") && strings.Contains(x.head.path(), ".wat-10.")
	})},
	{Name: "wat-10-not-held", Requirement: "WAT-10", Reason: "wasn't held", request: always(func(x *exchange, h *head) bool {
		return h.method() == "GET" && x.number == 1
	}, 404)},
	{Name: "wat-10-held-long", Requirement: "WAT-10", Reason: "the 404 took", answer: func(x *exchange, r *reply) {
		if r.head.status() == 404 && x.head.method() == "GET" && x.publishers() > 0 && x.age() > 3*time.Second {
			time.Sleep(3700 * time.Millisecond)
		}
	}},
	{Name: "wat-10-misses-first", Requirement: "WAT-10", Reason: "a viewer that", media: func(m *mux) {
		if strings.Contains(m.x.head.path(), ".wat-10.") && m.x.viewer == 1 {
			loseOnce(webm.Video, func(m *mux) bool { return m.of[webm.Video] == 2 })(m)
		}
	}},
	{Name: "wat-10-waiting", Requirement: "WAT-10", Reason: "while the session waits", request: always(func(x *exchange, h *head) bool {
		x.session.mu.Lock()
		defer x.session.mu.Unlock()
		return h.method() == "GET" && x.session.broken
	}, 404)},
	{Name: "wat-10-head-held", Requirement: "WAT-10", Reason: "the answer to HEAD of a session that isn't live yet took", answer: func(x *exchange, r *reply) {
		if x.head.method() == "HEAD" && r.head.status() == 404 && x.publishers() > 0 {
			time.Sleep(2300 * time.Millisecond)
		}
	}},
	{Name: "wat-10-not-applied", Requirement: "WAT-10", Reason: "Preference-Applied", answer: watches(func(_ *exchange, h *head) { h.set("Preference-Applied", "") })},
	{Name: "wat-10-no-wait", Requirement: "WAT-10", Reason: "wasn't held", request: func(_ *exchange, h *head) func(*net.TCPConn) {
		h.set("Prefer", "")
		return nil
	}},
	{Name: "wat-10-malformed", Requirement: "WAT-10", Reason: "the status with Prefer:", request: always(func(_ *exchange, h *head) bool {
		return h.get("Prefer") == "wait=1.5"
	}, 400)},

	{Name: "wat-11-cut", Requirement: "WAT-11", Reason: "the body ends cleanly", media: atEnd(func(io.Writer, *mux) bool { return false })},
	{Name: "wat-11-late", Requirement: "WAT-11", Reason: "the body's end after the last frame took", media: atEnd(func(io.Writer, *mux) bool {
		time.Sleep(2200 * time.Millisecond)
		return true
	})},
	{Name: "wat-11-close", Requirement: "WAT-11", Reason: "how the body's end is told", Also: []string{"WAT-2"}, answer: watches(func(_ *exchange, h *head) { h.set("Transfer-Encoding", "") }), stream: func(x *exchange, in *bufio.Reader) {
		x.unchunked(in)
	}},

	{Name: "wat-12-body", Requirement: "WAT-12", Reason: "bytes that follow the answer to HEAD", answer: func(x *exchange, r *reply) {
		if x.head.method() == "HEAD" && r.head.status() == 200 {
			r.body = []byte("never a body")
		}
	}},
	{Name: "wat-12-status", Requirement: "WAT-12", Reason: "the status of HEAD", answer: status(200, 204, asked("HEAD"))},
	{Name: "wat-12-type", Requirement: "WAT-12", Reason: "Content-Type of HEAD", answer: header(200, "Content-Type", "text/html", asked("HEAD"))},
	{Name: "wat-12-partial", Requirement: "WAT-12", Reason: "the status of GET with a Range", answer: func(x *exchange, r *reply) {
		if x.head.get("Range") != "" {
			r.head.setStatus(206)
		}
	}},

	{Name: "wat-13-none", Requirement: "WAT-13", Reason: "Access-Control-Allow-Origin of the", answer: header(0, "Access-Control-Allow-Origin", "", every)},
	{Name: "wat-13-no-errors", Requirement: "WAT-13", Reason: "Access-Control-Allow-Origin of the 409", answer: header(409, "Access-Control-Allow-Origin", "", every)},
	{Name: "wat-13-hidden", Requirement: "WAT-13", Reason: "Access-Control-Expose-Headers of the 409", answer: header(0, "Access-Control-Expose-Headers", "", every)},
	{Name: "wat-13-preflight", Requirement: "WAT-13", Reason: "the status of the preflight", answer: func(x *exchange, r *reply) {
		if x.head.method() == "OPTIONS" {
			r.head.setStatus(405)
			r.head.set("Content-Length", "0")
		}
	}},
	{Name: "wat-13-prefer", Requirement: "WAT-13", Reason: "Access-Control-Allow-Headers", answer: header(0, "Access-Control-Allow-Headers", "Content-Range", asked("OPTIONS"))},
}

// gone reports whether a client has closed its connection.
func gone(c *net.TCPConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	closed := false
	err = raw.Control(func(fd uintptr) { closed = peerClosed(int(fd)) })
	return err != nil || closed
}

// queue holds whatever it gets.
type queue struct {
	mu     sync.Mutex
	filled *sync.Cond
	data   []byte
	over   bool
}

func newQueue() *queue {
	q := &queue{}
	q.filled = sync.NewCond(&q.mu)
	return q
}

func (q *queue) Write(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.data = append(q.data, p...)
	q.filled.Signal()
	return len(p), nil
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.over = true
	q.filled.Signal()
}

// drain passes on what comes until the queue is closed and empty.
func (q *queue) drain(w io.Writer) {
	for {
		q.mu.Lock()
		for len(q.data) == 0 && !q.over {
			q.filled.Wait()
		}
		data := q.data
		q.data = nil
		q.mu.Unlock()
		if len(data) == 0 {
			return
		}
		if _, err := w.Write(data); err != nil {
			return
		}
	}
}
