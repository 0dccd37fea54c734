package problem

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
)

// Listen has what net/http answers by itself, before any handler, say it as a
// problem: a request without Host, a transfer coding or an expectation that
// nobody knows, a malformed head. The listener must be of TCP.
func Listen(l net.Listener) net.Listener { return listener{l} }

type listener struct{ net.Listener }

// Accept waits for the next connection.
func (l listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, ok := conn.(*net.TCPConn); ok {
		return &Conn{tcp}, err
	}
	return conn, err
}

// Conn is a connection of such a listener.
type Conn struct{ *net.TCPConn }

// Write writes what net/http writes, but for its own answers. It makes one write
// of each of those.
func (c *Conn) Write(b []byte) (int, error) { return reword(c.TCPConn, b) }

// reword writes b, or a problem in place of net/http's own answer.
func reword(w io.Writer, b []byte) (int, error) {
	status, detail, ok := own(b)
	if !ok {
		return w.Write(b)
	}
	if _, err := w.Write(answer(status, detail)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// ownFields follow the status line in most of what net/http answers by itself.
// The handlers' answers have a date.
const ownFields = "Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"

// own recognises an answer of net/http's own, and what it says.
func own(b []byte) (status int, detail string, ok bool) {
	line, rest, _ := bytes.Cut(b, []byte("\r\n"))
	code, found := bytes.CutPrefix(line, []byte("HTTP/1.1 "))
	if !found || len(code) < len("400") || code[0] != '4' && code[0] != '5' {
		return 0, "", false
	}
	status, err := strconv.Atoi(string(code[:3]))
	if err != nil {
		return 0, "", false
	}
	if status == statusExpectation { // which no handler answers
		return status, "the expectation is none that the server knows: it may be 100-continue", true
	}
	said, found := bytes.CutPrefix(rest, []byte(ownFields))
	if !found {
		return 0, "", false
	}
	_, why, _ := strings.Cut(string(said), ": ")
	switch {
	case status == statusTooLarge:
		why = "the head is larger than the server takes: 64 KiB"
	case status == statusNotImplemented:
		why = "the transfer coding is none that the server knows: it may be chunked"
	case why == "":
		why = "the request's head is malformed"
	}
	return status, why, true
}

// Statuses that net/http answers by itself; 400 and 505 are others.
const (
	statusExpectation    = 417
	statusTooLarge       = 431
	statusNotImplemented = 501
)

// answer is a whole response of HTTP/1.1 after which the connection closes.
func answer(status int, detail string) []byte {
	p := New(status, detail)
	body, err := json.Marshal(p)
	if err != nil {
		panic(err) // three plain fields
	}
	return fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nContent-Type: application/problem+json\r\nCache-Control: no-store\r\n"+
		"Connection: close\r\nContent-Length: %d\r\n\r\n%s\n", status, p.Title, len(body)+1, body)
}
