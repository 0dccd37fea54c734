package problem

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"
)

// Protocols are what a configuration for ListenTLS offers as NextProtos (RFC 9113
// §3.2).
func Protocols() []string { return []string{"h2", "http/1.1"} }

// handshakeTimeout is how long a client's TLS may take to be set up, as long as
// its first request's head may.
const handshakeTimeout = 8 * time.Second

// ListenTLS is Listen for TLS over TCP, with HTTP/2 for who asks for it, which
// words its own errors. It shakes hands itself, for who speaks what is known only
// then. An answer to who speaks plain HTTP says so. The server must have the same
// configuration, with Protocols.
func ListenTLS(l net.Listener, config *tls.Config) net.Listener {
	ctx, cancel := context.WithCancel(context.Background())
	s := &secure{Listener: l, config: config, ctx: ctx, cancel: cancel, ready: make(chan net.Conn), failed: make(chan error, 1)}
	go s.run()
	return s
}

// secure is a listener that shakes hands before it accepts.
type secure struct {
	net.Listener
	config *tls.Config
	ctx    context.Context // until Close
	cancel context.CancelFunc
	ready  chan net.Conn
	failed chan error // what ended accepting
}

// Accept waits for the next connection with which hands were shaken.
func (s *secure) Accept() (net.Conn, error) {
	select {
	case conn := <-s.ready:
		return conn, nil
	case err := <-s.failed:
		return nil, err
	case <-s.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close ends accepting, and the handshakes under way.
func (s *secure) Close() error {
	s.cancel()
	return s.Listener.Close()
}

func (s *secure) run() {
	for {
		conn, err := s.Listener.Accept()
		var temporary interface{ Temporary() bool }
		switch {
		case err == nil:
			go s.shake(conn)
			continue
		case !errors.As(err, &temporary) || !temporary.Temporary() || s.ctx.Err() != nil:
			s.failed <- err
			return
		}
		select { // such as a want of open files, which passes
		case <-time.After(pause):
		case <-s.ctx.Done():
		}
	}
}

// pause is how long no connection is accepted when the system has no room for one.
const pause = 100 * time.Millisecond

// shake sets a connection's TLS up and hands it to Accept.
func (s *secure) shake(conn net.Conn) {
	ctx, cancel := context.WithTimeout(s.ctx, handshakeTimeout)
	defer cancel()
	client := tls.Server(conn, s.config)
	if err := client.HandshakeContext(ctx); err != nil {
		refuse(err)
		conn.Close()
		return
	}
	var shaken net.Conn = client
	if client.ConnectionState().NegotiatedProtocol != "h2" {
		shaken = &SecureConn{client}
	}
	select {
	case s.ready <- shaken:
	case <-s.ctx.Done():
		conn.Close()
	}
}

// refuse answers a client that speaks HTTP where TLS is spoken.
func refuse(err error) {
	var header tls.RecordHeaderError
	if !errors.As(err, &header) || header.Conn == nil || !plainHTTP(header.RecordHeader) {
		return
	}
	if header.Conn.SetWriteDeadline(time.Now().Add(Farewell)) == nil {
		header.Conn.Write(answer(http.StatusBadRequest, "this port speaks TLS: use https:// in the address")) // the client may be gone
	}
}

// plainHTTP reports whether what should have been a record of TLS begins like a
// request of HTTP/1.
func plainHTTP(head [5]byte) bool {
	for _, method := range []string{"GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "DELET", "PATCH"} {
		if strings.HasPrefix(string(head[:]), method) {
			return true
		}
	}
	return false
}

// SecureConn is a connection of such a listener that speaks HTTP/1.
type SecureConn struct{ *tls.Conn }

// Write is like Conn's.
func (c *SecureConn) Write(b []byte) (int, error) { return reword(c.Conn, b) }
