package faults

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"slices"
	"time"

	"tureen/conformance/webm"
)

// frame is one block of a viewer's body on its way through the proxy.
type frame struct {
	kind    string
	track   int
	time    time.Duration
	key     bool
	payload []byte
	flags   byte // more flags of its block
}

// mux writes a viewer's body anew. A fault or a variation replaces its parts.
type mux struct {
	x      *exchange
	tracks []webm.Track
	frames int       // that came so far
	last   time.Time // when the latest came
	of     map[string]int

	head    func([]webm.Track) []byte
	each    func(frame) []frame // what becomes of a frame
	cluster func(ms int64) []byte
	block   func(f frame, relative int16) []byte
	fresh   func(f frame) bool          // a new Cluster begins
	send    func(w io.Writer, p []byte) // writes a piece of the body, with its framing
	finish  func(w io.Writer, clean bool)

	base int64 // the open Cluster's Timestamp in ms, -1 without one
}

func newMux(x *exchange) *mux {
	m := &mux{x: x, of: make(map[string]int), base: -1}
	m.head = webm.Head
	m.each = func(f frame) []frame { return []frame{f} }
	m.cluster = webm.ClusterHead
	m.block = simpleBlock
	m.fresh = func(f frame) bool {
		return m.base < 0 || f.kind == webm.Video && f.key || f.time.Milliseconds()-m.base > 5000
	}
	m.send = func(w io.Writer, p []byte) { w.Write(fmt.Appendf(nil, "%x\r\n%s\r\n", len(p), p)) }
	m.finish = func(w io.Writer, clean bool) {
		if clean {
			io.WriteString(w, "0\r\n\r\n")
		}
	}
	return m
}

func simpleBlock(f frame, relative int16) []byte {
	content := binary.BigEndian.AppendUint16([]byte{0x80 | byte(f.track)}, uint16(relative))
	flags := f.flags
	if f.key {
		flags |= 0x80
	}
	return webm.Element(webm.IDSimpleBlock, append(append(content, flags), f.payload...)...)
}

// watch passes a stream on, written anew where the fault wants it.
func (x *exchange) watch(h head, in *bufio.Reader) {
	f := x.fault
	x.session.mu.Lock()
	x.session.streams++
	x.viewer = x.session.streams
	x.session.mu.Unlock()
	if f.answer != nil {
		r := &reply{head: h}
		if f.answer(x, r); r.dropped {
			return
		}
		h = r.head
	}
	if f.media == nil && f.stream == nil {
		x.client.Write(h.bytes())
		io.Copy(x.client, in)
		return
	}
	if f.stream != nil {
		x.client.Write(h.bytes())
		f.stream(x, in)
		return
	}
	if h.get("Transfer-Encoding") == "" {
		x.client.Write(h.bytes()) // to HTTP/1.0 as it is
		io.Copy(x.client, in)
		return
	}
	x.client.Write(h.bytes())
	m := newMux(x)
	f.media(m)
	m.run(x.client, in)
}

// run reads a body and writes it anew.
func (m *mux) run(client net.Conn, in *bufio.Reader) {
	body := httputil.NewChunkedReader(in)
	r := webm.NewReader()
	var out []byte
	r.Each = func(b webm.Block, payload []byte) {
		m.tracks = r.Tracks
		f := frame{kind: b.Kind, track: b.Track, time: b.Time, key: b.Key, payload: slices.Clone(payload)}
		m.frames++
		m.last = time.Now()
		m.of[f.kind]++
		for _, f := range m.each(f) {
			out = append(out, m.write(f)...)
		}
	}
	buffer := make([]byte, 64<<10)
	headed := false
	for {
		n, err := body.Read(buffer)
		r.Feed(buffer[:n], time.Now())
		if r.Head() && !headed {
			m.tracks = r.Tracks
			headed = true
			out = append(m.head(r.Tracks), out...)
		}
		if len(out) > 0 && headed {
			m.send(client, out)
			out = nil
		}
		if err != nil {
			m.finish(client, err == io.EOF)
			return
		}
	}
}

// has reports whether the stream has a track of a kind.
func (m *mux) has(kind string) bool {
	return slices.ContainsFunc(m.tracks, func(t webm.Track) bool { return t.Kind == kind })
}

// sendAll sends frames at once.
func (m *mux) sendAll(w io.Writer, frames []frame) {
	for _, f := range frames {
		m.send(w, m.write(f))
	}
}

// write returns a frame's bytes, with a Cluster's head before it where one begins.
func (m *mux) write(f frame) []byte {
	var p []byte
	ms := f.time.Milliseconds()
	if m.fresh(f) {
		m.base = ms
		p = m.cluster(ms)
	}
	return append(p, m.block(f, int16(ms-m.base))...)
}
