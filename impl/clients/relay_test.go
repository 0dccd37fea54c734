package clients_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// relay is a hop on one publisher's way to the proxy. It keeps what it passes
// on, and can fail as networks do.
type relay struct {
	address  string // where the publisher finds the proxy
	listener net.Listener
	dead     atomic.Bool // nothing is passed on any more, not even an end

	open          chan struct{} // closed when the publisher came, or can't come any more
	source, proxy *net.TCPConn  // once open is closed; nil when it didn't come

	up     chan struct{} // closed when nothing more goes to the proxy
	passed []byte        // what went there; once up is closed
	latest time.Time     // before the last of that went; likewise
	down   chan struct{} // closed when nothing more comes from the proxy
	answer []byte        // what came; once down is closed
}

// relayTo makes a relay to a proxy.
func relayTo(t *testing.T, p *proxy) *relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{
		address: listener.Addr().String(), listener: listener,
		open: make(chan struct{}), up: make(chan struct{}), down: make(chan struct{}),
	}
	go r.serve(p.address())
	t.Cleanup(func() {
		r.cut()
		if r.proxy != nil {
			r.source.Close()
			r.proxy.Close()
		}
		<-r.down
	})
	return r
}

// url is a session's address by way of the relay.
func (r *relay) url(session string) string { return "http://" + r.address + "/stream/" + session }

// serve takes one publisher and passes on what both sides send.
func (r *relay) serve(address string) {
	defer close(r.down)
	r.connect(address)
	close(r.open)
	if r.proxy == nil {
		close(r.up)
		return
	}
	go func() {
		defer close(r.up)
		r.passUp()
	}()
	r.passDown()
}

// connect waits for the publisher and leads it to the proxy. One that can't get
// there finds its connection closed.
func (r *relay) connect(address string) {
	source, err := r.listener.Accept()
	if err != nil {
		return
	}
	proxy, err := net.Dial("tcp", address)
	if err != nil {
		source.Close()
		return
	}
	r.source, r.proxy = source.(*net.TCPConn), proxy.(*net.TCPConn)
}

// passUp passes on what the publisher sends, and its end.
func (r *relay) passUp() {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.source.Read(buf)
		if r.dead.Load() {
			return
		}
		r.latest = time.Now()
		sent, fault := r.proxy.Write(buf[:n])
		r.passed = append(r.passed, buf[:sent]...)
		if err != nil || fault != nil {
			r.proxy.CloseWrite()
			return
		}
	}
}

// passDown passes on what the proxy answers, and its end. Of a dead relay it
// keeps that.
func (r *relay) passDown() {
	buf := make([]byte, 4<<10)
	for {
		n, err := r.proxy.Read(buf)
		r.answer = append(r.answer, buf[:n]...)
		if !r.dead.Load() {
			r.source.Write(buf[:n])
		}
		if err == nil {
			continue
		}
		if !r.dead.Load() {
			r.source.CloseWrite()
		}
		return
	}
}

// cut is what an outage does: nothing passes any more, no end of a connection
// either, and neither side is told.
func (r *relay) cut() {
	r.dead.Store(true)
	r.listener.Close()
	<-r.open
	if r.proxy != nil {
		r.source.SetReadDeadline(time.Now())
		r.proxy.SetWriteDeadline(time.Now())
	}
	<-r.up
}

// reset is what a middlebox does that has forgotten the connection.
func (r *relay) reset(t *testing.T) {
	t.Helper()
	r.cut()
	for _, conn := range []*net.TCPConn{r.proxy, r.source} {
		if err := errors.Join(conn.SetLinger(0), conn.Close()); err != nil {
			t.Fatalf("resetting a publisher's connection: %v", err)
		}
	}
}

// sent is the frames of the publisher's body that were passed on whole, once
// nothing more passes.
func (r *relay) sent(t *testing.T) []frame {
	t.Helper()
	<-r.up
	request, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(r.passed)))
	if err != nil {
		t.Fatalf("reading what the publisher sent: %v", err)
	}
	body, err := io.ReadAll(request.Body)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("reading the body that the publisher sent: %v", err)
	}
	return published(t, body)
}

// refused waits until the proxy has ended the publisher's connection, with this
// status.
func (r *relay) refused(t *testing.T, status int) {
	t.Helper()
	<-r.down
	answer, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(r.answer)), nil)
	if err != nil {
		t.Fatalf("reading the proxy's answer of %d bytes: %v", len(r.answer), err)
	}
	answer.Body.Close()
	if answer.StatusCode != status {
		t.Errorf("the publisher was answered %s, want %d", answer.Status, status)
	}
}
