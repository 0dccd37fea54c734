package wire

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Conn is one connection to a target.
type Conn struct {
	Number int

	base   *url.URL
	net    net.Conn
	tcp    *net.TCPConn
	in     *bufio.Reader
	script *Transcript
}

// Option changes a connection before it is made.
type Option func(*net.Dialer)

// ReceiveBuffer bounds what the kernel takes in before this side reads, so that a slow reader is felt at the other end. It
// must be set before connecting. Below 64 KiB loopback crawls, and every server looks slow.
func ReceiveBuffer(bytes int) Option {
	return func(d *net.Dialer) {
		d.Control = func(_, _ string, raw syscall.RawConn) error {
			var failed error
			err := raw.Control(func(fd uintptr) {
				failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, bytes)
			})
			return errors.Join(err, failed)
		}
	}
}

// From makes a connection from an address of this machine's.
func From(address string) Option {
	return func(d *net.Dialer) { d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(address)} }
}

// Dial connects to the host of base, by TLS where its scheme is https.
func Dial(ctx context.Context, base *url.URL, script *Transcript, options ...Option) (*Conn, error) {
	var dialer net.Dialer
	for _, o := range options {
		o(&dialer)
	}
	raw, err := dialer.DialContext(ctx, "tcp", address(base))
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	c := &Conn{Number: script.connection(), base: base, net: raw, tcp: raw.(*net.TCPConn), script: script}
	if base.Scheme == "https" {
		secure := tls.Client(raw, &tls.Config{ServerName: base.Hostname(), NextProtos: []string{"http/1.1"}})
		if err := secure.HandshakeContext(ctx); err != nil {
			raw.Close()
			return nil, fmt.Errorf("TLS: %w", err)
		}
		c.net = secure
	}
	c.in = bufio.NewReaderSize(c.net, 32<<10)
	script.Note(c.Number, "=", "connected, from %v", raw.LocalAddr())
	return c, nil
}

// address is a URL's host and port.
func address(base *url.URL) string {
	port := base.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[base.Scheme]
	}
	return net.JoinHostPort(base.Hostname(), port)
}

// Request is the head of a request.
type Request struct {
	Method string
	Path   string // as sent, escaped
	Proto  string // empty: HTTP/1.1
	Fields []string
	Body   string // what curl is told to send: a file's name, or empty
}

// Send sends a request's head, with Host and the agent's name added.
func (c *Conn) Send(r Request) error {
	proto := r.Proto
	if proto == "" {
		proto = "HTTP/1.1"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s\r\nHost: %s\r\nUser-Agent: %s\r\n", r.Method, r.Path, proto, c.base.Host, c.script.Agent)
	for _, f := range r.Fields {
		b.WriteString(f + "\r\n")
	}
	b.WriteString("\r\n")
	c.script.Note(c.Number, ">", "%s", strings.TrimSuffix(b.String(), "\r\n\r\n"))
	c.script.curl(r.curl(c.base))
	return c.Write([]byte(b.String()))
}

// framing are the fields that curl sets by itself.
var framing = []string{"content-length", "transfer-encoding", "expect", "connection"}

// curl is a command line that sends about the same request.
func (r Request) curl(base *url.URL) string {
	line := []string{"curl", "-sS", "-i"}
	switch {
	case r.Method == http.MethodHead:
		line = append(line, "--head")
	case r.Method != http.MethodGet:
		line = append(line, "-X", r.Method)
	}
	if r.Proto == "HTTP/1.0" {
		line = append(line, "--http1.0")
	}
	for _, f := range r.Fields {
		name, _, _ := strings.Cut(strings.ToLower(f), ":")
		if !contains(framing, name) {
			line = append(line, "-H", quote(f))
		}
	}
	if r.Body != "" {
		line = append(line, "-T", quote(r.Body))
	}
	if r.Method == http.MethodGet && r.Body == "" {
		line = append(line, "--max-time", "5", "-o", "answer.webm", "-D", "-")
	}
	return strings.Join(append(line, quote(base.Scheme+"://"+base.Host+r.Path)), " ")
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// quote quotes for a shell, where it is needed.
func quote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:~,=@%+") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// Write sends bytes as they are.
func (c *Conn) Write(p []byte) error {
	if _, err := c.net.Write(p); err != nil {
		return fmt.Errorf("sending: %w", err)
	}
	return nil
}

// Chunk sends one chunk; extension, if any, begins with its semicolon.
func (c *Conn) Chunk(p []byte, extension string) error {
	frame := make([]byte, 0, len(p)+32)
	frame = append(strconv.AppendInt(frame, int64(len(p)), 16), extension...)
	frame = append(append(frame, "\r\n"...), p...)
	return c.Write(append(frame, "\r\n"...))
}

// EndChunks sends the last chunk and the trailer section, each field with its line end.
func (c *Conn) EndChunks(trailers string) error {
	c.Note("=", "sends the last chunk")
	return c.Write([]byte("0\r\n" + trailers + "\r\n"))
}

// Note adds a line about this connection to the transcript.
func (c *Conn) Note(dir, format string, args ...any) { c.script.Note(c.Number, dir, format, args...) }

// SetReadDeadline bounds reading.
func (c *Conn) SetReadDeadline(t time.Time) { c.net.SetReadDeadline(t) }

// SetWriteDeadline bounds writing.
func (c *Conn) SetWriteDeadline(t time.Time) { c.net.SetWriteDeadline(t) }

// Close closes the connection.
func (c *Conn) Close() { c.net.Close() }

// Hang ends this side of the connection in order; what the other side sends can still be read.
func (c *Conn) Hang() {
	c.Note("=", "sends no more")
	c.tcp.CloseWrite()
}

// Reset breaks the connection off.
func (c *Conn) Reset() {
	c.Note("=", "resets the connection")
	c.tcp.SetLinger(0)
	c.tcp.Close()
}

// Response is an answer's head.
type Response struct {
	Proto  string
	Status int
	Header http.Header
	At     time.Time // when its last byte had come
}

// ReadResponse reads the next answer's head, an interim one's too.
func (c *Conn) ReadResponse() (*Response, error) {
	text := textproto.NewReader(c.in)
	line, err := text.ReadLine()
	if err != nil {
		return nil, fmt.Errorf("reading the status line: %w", err)
	}
	proto, rest, _ := strings.Cut(line, " ")
	code, _, _ := strings.Cut(rest, " ")
	status, err := strconv.Atoi(code)
	if err != nil || len(code) != 3 || !strings.HasPrefix(proto, "HTTP/1.") {
		return nil, fmt.Errorf("status line %.80q", line)
	}
	header, err := text.ReadMIMEHeader()
	if err != nil {
		return nil, fmt.Errorf("reading the header: %w", err)
	}
	var b strings.Builder
	http.Header(header).Write(&b)
	c.Note("<", "%s\n%s", line, strings.TrimSpace(strings.ReplaceAll(b.String(), "\r\n", "\n")))
	return &Response{Proto: proto, Status: status, Header: http.Header(header), At: time.Now()}, nil
}

// ErrBroken is wrapped by a Body's error when the connection ended before the body did.
var ErrBroken = errors.New("the body broke off")

// Body is an answer's body. Read returns io.EOF only at a clean end.
type Body struct {
	Framing string // "none", "chunked", "length", "close"

	c    *Conn
	left int64 // of the chunk or the length
	more bool  // a chunk's line end is to come
	err  error
}

// Body returns the body that follows an answer to a request of that method (RFC 9112 §6.3).
func (c *Conn) Body(r *Response, method string) *Body {
	b := &Body{c: c, Framing: "close"}
	length := r.Header.Get("Content-Length")
	switch {
	case method == http.MethodHead || r.Status < 200 || r.Status == http.StatusNoContent || r.Status == http.StatusNotModified:
		b.Framing, b.err = "none", io.EOF
	case strings.EqualFold(r.Header.Get("Transfer-Encoding"), "chunked"):
		b.Framing = "chunked"
	case length != "":
		b.Framing = "length"
		if b.left, b.err = strconv.ParseInt(length, 10, 64); b.err == nil && b.left == 0 {
			b.err = io.EOF
		}
	}
	return b
}

// Read reads the body without its framing.
func (b *Body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.read(p)
	if err != nil {
		b.err = err
		if !errors.Is(err, io.EOF) && !isTimeout(err) {
			b.err = fmt.Errorf("%w: %w", ErrBroken, err)
		}
		b.noteEnd()
	}
	return n, b.err
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

func (b *Body) noteEnd() {
	if b.err == io.EOF {
		b.c.Note("<", "the body ends cleanly (%s)", b.Framing)
		return
	}
	b.c.Note("<", "%v", b.err)
}

func (b *Body) read(p []byte) (int, error) {
	if b.Framing == "close" {
		return b.c.in.Read(p)
	}
	if b.Framing == "chunked" && b.left == 0 {
		if err := b.chunk(); err != nil {
			return 0, err
		}
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.c.in.Read(p)
	b.left -= int64(n)
	switch {
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	case err == nil && b.left == 0 && b.Framing == "length":
		err = io.EOF
	}
	return n, err
}

// chunk reads a chunk's first line, and what follows the last chunk (RFC 9112 §7.1).
func (b *Body) chunk() error {
	if b.more {
		if err := b.lineEnd(); err != nil {
			return err
		}
	}
	line, err := b.line()
	if err != nil {
		return err
	}
	size, _, _ := strings.Cut(line, ";")
	if b.left, err = strconv.ParseInt(strings.TrimSpace(size), 16, 63); err != nil || b.left < 0 {
		return fmt.Errorf("chunk size %.40q", line)
	}
	b.more = true
	if b.left > 0 {
		return nil
	}
	for {
		switch line, err = b.line(); {
		case err != nil:
			return err
		case line == "":
			return io.EOF
		}
	}
}

func (b *Body) lineEnd() error {
	line, err := b.line()
	if err == nil && line != "" {
		err = fmt.Errorf("%.40q where a chunk's line end was to be", line)
	}
	return err
}

// line reads a line that must end with CRLF.
func (b *Body) line() (string, error) {
	line, err := b.c.in.ReadSlice('\n')
	switch {
	case err == io.EOF:
		return "", io.ErrUnexpectedEOF
	case err != nil:
		return "", err
	case len(line) < 2 || line[len(line)-2] != '\r':
		return "", fmt.Errorf("line %.40q doesn't end with CRLF", line)
	}
	return string(line[:len(line)-2]), nil
}

// Drain reads until the connection or the patience ends, and returns how many bytes came.
func (c *Conn) Drain() (int64, error) { return io.Copy(io.Discard, c.in) }

// AwaitClose reads on until the connection ends, and returns when and how: nil for an orderly close.
func (c *Conn) AwaitClose() (time.Time, error) {
	_, err := io.Copy(io.Discard, c.in)
	if err == nil {
		c.Note("<", "the connection is closed")
	} else {
		c.Note("<", "the connection ends: %v", err)
	}
	return time.Now(), err
}
