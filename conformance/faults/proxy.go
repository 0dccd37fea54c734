// Package faults tests the suite: it puts a proxy in front of a good implementation that breaks one requirement at a time,
// and demands that this requirement's check fails, for that reason, and no other. What is chosen by the beginning of a session
// id, up to a tilde, so that one proxy carries many faults at once. Harmless variations, chosen in the same manner, have to
// pass everything.
package faults

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Proxy passes on what it has no fault for, byte by byte.
type Proxy struct {
	Base *url.URL

	upstream string
	listener net.Listener
	faults   map[string]*Fault

	mu       sync.Mutex // guards what follows
	sessions map[string]*session
	revoked  string // the session whose tokens were revoked last
}

// session is what a fault remembers of one session.
type session struct {
	mu      sync.Mutex
	began   time.Time // when its first publisher's request came
	viewers int       // GETs that came so far
	streams int       // of them that were answered with a stream
	puts    int
	history []frame     // what its first viewer got
	lastKey time.Time   // when it got the latest key frame
	lossy   bool        // a fault is to strike, or has struck
	broken  bool        // a publisher's connection was reset
	breaks  []func()    // called then
	open    []*exchange // publishers
	write   sync.Mutex  // held while a viewer is written to, by a fault that has viewers wait for each other
}

// brokenOff notes that a publisher's connection was reset.
func (s *session) brokenOff() {
	s.mu.Lock()
	s.broken = true
	breaks := s.breaks
	s.breaks = nil
	s.mu.Unlock()
	for _, f := range breaks {
		f()
	}
}

// exchange is one request and its answer, on connections that may carry several.
type exchange struct {
	proxy   *Proxy
	fault   *Fault
	session *session
	client  *net.TCPConn
	server  *net.TCPConn

	head   head
	number int // among the session's GETs, or its PUTs, from 1
	viewer int // among the session's viewers who got a stream, from 1
}

// head is the head of a request or an answer.
type head struct {
	first  string // line
	fields []string
}

func (h head) method() string { m, _, _ := strings.Cut(h.first, " "); return m }
func (h head) path() string   { return strings.Split(h.first+"  ", " ")[1] }

// status is an answer's.
func (h head) status() int {
	n, _ := strconv.Atoi(strings.Split(h.first+"  ", " ")[1])
	return n
}

func (h head) get(name string) string {
	for _, f := range h.fields {
		if n, v, _ := strings.Cut(f, ":"); strings.EqualFold(n, name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// set replaces a field; an empty value removes it.
func (h *head) set(name, value string) {
	kept := h.fields[:0:0]
	for _, f := range h.fields {
		if n, _, _ := strings.Cut(f, ":"); !strings.EqualFold(n, name) {
			kept = append(kept, f)
		}
	}
	if h.fields = kept; value != "" {
		h.fields = append(h.fields, name+": "+value)
	}
}

func (h *head) setStatus(code int) {
	h.first = fmt.Sprintf("HTTP/1.1 %d %s", code, http.StatusText(code))
}

func (h head) bytes() []byte {
	return []byte(h.first + "\r\n" + strings.Join(append(h.fields[:len(h.fields):len(h.fields)], ""), "\r\n") + "\r\n")
}

// Start listens on the loopback, in front of the implementation at that host.
func Start(upstream string, faults []*Fault) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("faulty proxy: %w", err)
	}
	p := &Proxy{
		Base: &url.URL{Scheme: "http", Host: l.Addr().String()}, upstream: upstream, listener: l,
		faults: make(map[string]*Fault), sessions: make(map[string]*session),
	}
	for _, f := range faults {
		p.faults[f.Name] = f
	}
	go p.accept()
	return p, nil
}

// Close stops listening. Connections end with their peers.
func (p *Proxy) Close() { p.listener.Close() }

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.serve(c.(*net.TCPConn))
	}
}

// serve carries one client's connection.
func (p *Proxy) serve(client *net.TCPConn) {
	defer client.Close()
	dialer := upstreamDialer
	dialer.LocalAddr = &net.TCPAddr{IP: client.RemoteAddr().(*net.TCPAddr).IP} // who calls matters
	up, err := dialer.Dial("tcp", p.upstream)
	if err != nil {
		p.alone(client)
		return
	}
	server := up.(*net.TCPConn)
	defer server.Close()
	client.SetWriteBuffer(kernelBuffer)
	heads := make(chan *exchange, 16)
	gone := make(chan struct{})
	var holds atomic.Bool // the connection is the client's to end
	go func() {
		defer close(gone)
		defer close(heads)
		p.requests(client, server, heads, &holds)
	}()
	p.answers(client, server, heads)
	if holds.Load() {
		<-gone
		return
	}
	// As the implementation behind does it: the status must be readable while the client still sends.
	client.CloseWrite()
	linger := time.NewTimer(300 * time.Millisecond)
	defer linger.Stop()
	select {
	case <-gone:
	case <-linger.C:
	}
}

// alone answers in the stead of an implementation that isn't there any more, for a fault that does so.
func (p *Proxy) alone(client *net.TCPConn) {
	h, _, err := readHead(bufio.NewReader(client))
	if err != nil {
		return
	}
	if x := p.begin(client, nil, h); x.fault != nil && x.fault.alone != nil {
		x.fault.alone(client)
	}
}

// kernelBuffer bounds what the kernel holds for a viewer who doesn't read, so that the proxy hides nothing of how the
// implementation treats it.
const kernelBuffer = 32 << 10

var upstreamDialer = net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, kernelBuffer)
	})
	return errors.Join(err, failed)
}}

// patientFault is one that shows before a request's head is complete.
const patientFault = "srv-2-patient"

// requests passes on what the client sends.
func (p *Proxy) requests(client, server *net.TCPConn, heads chan<- *exchange, holds *atomic.Bool) {
	in := bufio.NewReaderSize(client, 64<<10)
	in.Peek(1)
	if begun, _ := in.Peek(in.Buffered()); bytes.Contains(begun, []byte("/"+patientFault+"~")) {
		holds.Store(true)
		io.Copy(io.Discard, in)
		return
	}
	for {
		h, raw, err := readHead(in)
		switch {
		case err == nil:
		case isReset(err):
			reset(server)
			return
		default: // whatever it is, it is for the implementation to judge
			server.Write(raw)
			pass(server, in)
			return
		}
		x := p.begin(client, server, h)
		if x.fault != nil && x.fault.request != nil {
			if answer := x.fault.request(x, &x.head); answer != nil {
				answer(client)
				io.Copy(io.Discard, in)
				server.Close()
				return
			}
		}
		heads <- x
		if _, err := server.Write(x.head.bytes()); err != nil {
			io.Copy(io.Discard, in)
			return
		}
		if x.upload(server, in) != nil {
			return
		}
	}
}

// pass copies until the client ends, and ends the other side likewise. Where that reads no more, the client may still have
// to read an answer.
func pass(dst *net.TCPConn, in io.Reader) error {
	_, err := io.Copy(dst, in)
	switch {
	case err == nil:
		dst.CloseWrite()
		return io.EOF
	case isReset(err):
		reset(dst)
	default:
		io.Copy(io.Discard, in)
	}
	return err
}

func isReset(err error) bool { return err != nil && strings.Contains(err.Error(), "reset by peer") }

func reset(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}

// begin finds a request's fault and session.
func (p *Proxy) begin(client, server *net.TCPConn, h head) *exchange {
	x := &exchange{proxy: p, client: client, server: server, head: h}
	name, id := faultOf(h)
	if name == "" {
		return x
	}
	x.fault = p.faults[name]
	p.mu.Lock()
	s := p.sessions[id]
	if s == nil {
		s = &session{}
		p.sessions[id] = s
	}
	p.mu.Unlock()
	x.session = s
	s.mu.Lock()
	defer s.mu.Unlock()
	switch h.method() {
	case "GET":
		s.viewers++
		x.number = s.viewers
	case "PUT", "POST":
		if s.began.IsZero() {
			s.began = time.Now()
		}
		s.puts++
		x.number = s.puts
		s.open = append(s.open, x)
	}
	return x
}

// faultOf finds a fault's name and the session in a request: in its path, its query or, where it is about no session, in its
// User-Agent.
func faultOf(h head) (name, id string) {
	path := h.path()
	if plain, err := url.PathUnescape(path); err == nil {
		path = plain
	}
	for _, text := range []string{path, h.get("User-Agent")} {
		before, after, found := strings.Cut(text, "~")
		if !found {
			continue
		}
		name = before[strings.LastIndexAny(before, "/=(")+1:]
		if end := strings.IndexAny(after, "&)"); end >= 0 {
			after = after[:end]
		}
		return name, name + "~" + after
	}
	return "", ""
}

// upload passes a request's body on. The error says that no request follows.
func (x *exchange) upload(server *net.TCPConn, in *bufio.Reader) error {
	var body io.Reader
	length, chunked := x.head.get("Content-Length"), strings.EqualFold(x.head.get("Transfer-Encoding"), "chunked")
	switch {
	case chunked:
		// The last chunk is told by nothing but its framing; what follows a chunked request on these connections is nothing.
		body = in
	case length != "":
		n, _ := strconv.ParseInt(length, 10, 64)
		body = io.LimitReader(in, n)
	default:
		return nil
	}
	var dst io.Writer = server
	if x.fault != nil && x.fault.upload != nil {
		dst = x.fault.upload(x, server)
	}
	_, err := io.Copy(dst, body)
	switch {
	case err == nil && chunked:
		server.CloseWrite()
		return io.EOF
	case isReset(err):
		if x.session != nil {
			x.session.brokenOff()
		}
		reset(server)
	case err != nil:
		io.Copy(io.Discard, in)
	}
	return err
}

// maxHead is as much as a head may have.
const maxHead = 1 << 20

// readHead reads a head, and returns it as it came too. An error says that it is none.
func readHead(in *bufio.Reader) (h head, raw []byte, err error) {
	for {
		line, err := in.ReadString('\n')
		raw = append(raw, line...)
		text, ended := strings.CutSuffix(line, "\r\n")
		switch {
		case err != nil:
			return h, raw, err
		case !ended || len(raw) > maxHead || h.first == "" && !strings.Contains(text, " HTTP/1."):
			return h, raw, errNoHead
		case h.first == "":
			h.first = text
		case text == "":
			return h, raw, nil
		default:
			h.fields = append(h.fields, text)
		}
	}
}

var errNoHead = errors.New("no head of a request")

// answers passes on what the implementation answers.
func (p *Proxy) answers(client, server *net.TCPConn, heads <-chan *exchange) {
	in := bufio.NewReaderSize(server, 64<<10)
	var x *exchange
	for {
		h, err := readAnswer(in)
		if err != nil {
			if isReset(err) {
				reset(client)
			}
			return
		}
		if x == nil {
			select {
			case x = <-heads: // nil once they are closed
			default:
			}
		}
		if x == nil {
			client.Write(h.bytes())
			io.Copy(client, in)
			return
		}
		if x.answer(h, in) {
			return
		}
		if h.status() >= 200 {
			x = nil
		}
	}
}

// readAnswer reads an answer's head.
func readAnswer(in *bufio.Reader) (head, error) {
	var h head
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return h, err
		}
		switch line = strings.TrimRight(line, "\r\n"); {
		case h.first == "":
			h.first = line
		case line == "":
			return h, nil
		default:
			h.fields = append(h.fields, line)
		}
	}
}

// answer passes one answer on, and reports whether nothing follows.
func (x *exchange) answer(h head, in *bufio.Reader) bool {
	f := x.fault
	if h.status() < 200 {
		if f != nil && f.interim != nil && !f.interim(x, &h) {
			return false
		}
		_, err := x.client.Write(h.bytes())
		return err != nil
	}
	if x.head.method() == "GET" && h.status() == http.StatusOK && f != nil && strings.Contains(h.get("Content-Type"), "webm") {
		x.watch(h, in)
		return true
	}
	if f == nil || f.answer == nil {
		return x.relay(h, in)
	}
	body := readBody(h, in, x.head.method())
	r := &reply{head: h, body: body}
	if f.answer(x, r); r.dropped {
		return true
	}
	r.write(x.client, x.head.method())
	return strings.EqualFold(h.get("Connection"), "close")
}

// relay passes an answer on as it is.
func (x *exchange) relay(h head, in *bufio.Reader) bool {
	if _, err := x.client.Write(h.bytes()); err != nil {
		return true
	}
	length := h.get("Content-Length")
	if x.head.method() == "HEAD" || h.status() == http.StatusNoContent {
		return false
	}
	if n, err := strconv.ParseInt(length, 10, 64); err == nil {
		_, err := io.CopyN(x.client, in, n)
		return err != nil
	}
	_, err := io.Copy(x.client, in)
	if isReset(err) {
		reset(x.client)
	}
	return true
}

// readBody reads the body of an answer that isn't a stream.
func readBody(h head, in *bufio.Reader, method string) []byte {
	n, err := strconv.Atoi(h.get("Content-Length"))
	if method == "HEAD" || err != nil {
		return nil
	}
	body := make([]byte, n)
	n, _ = io.ReadFull(in, body)
	return body[:n]
}

// reply is an answer that a fault may change.
type reply struct {
	head    head
	body    []byte
	dropped bool // it isn't sent at all
}

func (r *reply) write(w io.Writer, method string) {
	if method != "HEAD" && r.head.get("Transfer-Encoding") == "" && r.head.get("Content-Length") != "" {
		r.head.set("Content-Length", strconv.Itoa(len(r.body)))
	}
	w.Write(append(r.head.bytes(), r.body...))
}

// refuse answers a request in the implementation's stead.
func refuse(status int, fields ...string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		text := http.StatusText(status)
		r := &reply{body: fmt.Appendf(nil, `{"title":%q,"status":%d,"detail":"a fault"}`, text, status)}
		r.head.setStatus(status)
		r.head.fields = append([]string{
			"Content-Type: application/problem+json", "Access-Control-Allow-Origin: *",
			"Content-Length: 0", "Connection: close",
		}, fields...)
		r.write(c, "GET")
		c.CloseWrite()
	}
}
