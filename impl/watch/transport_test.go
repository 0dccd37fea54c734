package watch

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// seat is a viewer's side of a body.
type seat struct {
	conn *net.TCPConn
	body io.Reader
}

// transport has one viewer join a channel.
type transport func(*testing.T, *Fanout, *channel) seat

var transports = map[string]transport{
	"plain":  overTCP,
	"TLS":    func(t *testing.T, f *Fanout, c *channel) seat { return overTLS(t, f, c, false) },
	"HTTP/2": func(t *testing.T, f *Fanout, c *channel) seat { return overTLS(t, f, c, true) },
}

// overTCP is a viewer whose connection the fan-out owns.
func overTCP(t *testing.T, fanout *Fanout, c *channel) seat {
	t.Helper()
	viewer, proxy := connect(t)
	if err := fanout.Take(c.until, proxy, []byte(response), true, c.stream, c.slot, func() {}); err != nil {
		t.Fatal(err)
	}
	return seat{viewer, body(t, viewer, true)}
}

// window is what a viewer's side takes in before it is read: little, so that
// back-pressure is felt.
const window = 64 << 10

// overTLS is a viewer whose connection net/http keeps.
func overTLS(t *testing.T, fanout *Fanout, c *channel, http2 bool) seat {
	t.Helper()
	until := c.until
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		if !http2 {
			ctx = context.WithoutCancel(ctx) // as the server does, for viewers that half-close
		}
		if err := fanout.Serve(ctx, until, w, c.stream, c.slot); err != nil {
			panic(http.ErrAbortHandler)
		}
	}))
	server.Config.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		if err := Bound(conn.(*tls.Conn).NetConn().(*net.TCPConn)); err != nil {
			t.Error(err)
		}
		return ctx
	}
	server.EnableHTTP2 = http2
	server.StartTLS()
	t.Cleanup(server.Close)
	var s seat
	client := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			s.conn = conn.(*net.TCPConn)
			return conn, s.conn.SetReadBuffer(window)
		},
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		ForceAttemptHTTP2: http2,
		HTTP2:             &http.HTTP2Config{MaxReceiveBufferPerConnection: window, MaxReceiveBufferPerStream: window},
	}
	t.Cleanup(client.CloseIdleConnections)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.conn.Close() })
	s.body = answer.Body
	return s
}
