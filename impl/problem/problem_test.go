package problem

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestServeHTTP(t *testing.T) {
	tests := []struct {
		p      *Problem
		method string
		want   map[string]string
	}{
		{New(404, "there is none"), "GET", map[string]string{"Retry-After": "", "Allow": "", "Www-Authenticate": ""}},
		{New(404, "there is none"), "HEAD", nil},
		{New(503, "full").WithRetry(), "GET", map[string]string{"Retry-After": "1"}},
		{New(405, "no").Allowing("GET, HEAD"), "PUT", map[string]string{"Allow": "GET, HEAD"}},
		{New(401, "who?").Asking("Bearer"), "PUT", map[string]string{"Www-Authenticate": "Bearer"}},
	}
	for _, test := range tests {
		w := httptest.NewRecorder()
		test.p.ServeHTTP(w, httptest.NewRequest(test.method, "/", nil))
		if w.Code != test.p.Status || w.Header().Get("Content-Type") != "application/problem+json" || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%+v: status %d, %v", test.p, w.Code, w.Header())
		}
		for name, value := range test.want {
			if got := w.Header().Get(name); got != value {
				t.Errorf("%+v: %s %q, want %q", test.p, name, got, value)
			}
		}
		if test.method == http.MethodHead {
			if w.Body.Len() > 0 {
				t.Errorf("HEAD is answered with a body: %s", w.Body)
			}
			continue
		}
		check(t, w.Body, test.p.Status)
	}
}

// check expects a problem's document.
func check(t *testing.T, body io.Reader, status int) (detail string) {
	t.Helper()
	var got map[string]any
	if err := json.NewDecoder(body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	detail, _ = got["detail"].(string)
	if len(got) != 3 || got["status"] != float64(status) || got["title"] != http.StatusText(status) || detail == "" {
		t.Errorf("the problem is %v, want status %d", got, status)
	}
	return detail
}

// serve serves a handler that answers every request, and returns where. With TLS
// the client's configuration is for its certificate.
func serve(t *testing.T, secure bool) (address string, client *tls.Config) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{MaxHeaderBytes: 1 << 10, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		New(http.StatusTeapot, "handled: "+r.URL.Path).Final(w, r)
	})}
	worded := Listen(l)
	if secure {
		made := httptest.NewUnstartedServer(nil) // for its certificate
		made.StartTLS()
		defer made.Close()
		client = made.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		client.ServerName = "127.0.0.1"
		server.TLSConfig = &tls.Config{Certificates: made.TLS.Certificates, NextProtos: Protocols()}
		worded = ListenTLS(l, server.TLSConfig)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(worded) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return l.Addr().String(), client
}

// TestListen has net/http answer by itself in each way that it does, and a
// handler in between.
func TestListen(t *testing.T) {
	for _, secure := range []bool{false, true} {
		address, config := serve(t, secure)
		for _, test := range []struct {
			head   string
			status int
			says   string
		}{
			{"GET /a HTTP/1.1\r\nHost: h\r\n\r\n", 418, "handled: /a"},
			{"GET /a HTTP/1.1\r\n\r\n", 400, "missing required Host header"},
			{"GET /a HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", 400, "malformed"},
			{"GET /a HTTP/1.1\r\nHost: h h\r\n\r\n", 400, "malformed Host header"},
			{"GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n", 400, "malformed"},
			{"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", 400, "malformed"},
			{"nonsense\r\n\r\n", 400, "malformed"},
			{"GET /a HTTP/3.7\r\nHost: h\r\n\r\n", 505, "unsupported protocol version"},
			{"PUT /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, "it may be chunked"},
			{"PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n", 400, "malformed"},
			{"PUT /a HTTP/1.1\r\nHost: h\r\nExpect: the-impossible\r\n\r\n", 417, "100-continue"},
			{"GET /a HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("x", 8<<10) + "\r\n\r\n", 431, "larger"},
		} {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			if secure {
				conn = tls.Client(conn, config)
			}
			expect(t, conn, test.head, test.status, test.says)
		}
	}
}

// expect sends a head and expects a problem.
func expect(t *testing.T, conn net.Conn, head string, status int, says string) {
	t.Helper()
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, head); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%.40q: %v", head, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != status || answer.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%.60q: %s, %v", head, answer.Status, answer.Header)
	}
	if detail := check(t, answer.Body, status); !strings.Contains(detail, says) {
		t.Errorf("%.60q: it says %q, want %q", head, detail, says)
	}
}

// TestListenTLS: HTTP/2 for who asks, a word for who speaks no TLS, and one that
// says nothing holds up neither others nor the end.
func TestListenTLS(t *testing.T) {
	address, config := serve(t, true)
	silent, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	for _, http2 := range []bool{true, false} {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: config.Clone(), ForceAttemptHTTP2: http2}}
		answer, err := client.Get("https://" + address + "/a")
		if err != nil {
			t.Fatal(err)
		}
		if answer.ProtoMajor == 2 != http2 || check(t, answer.Body, http.StatusTeapot) != "handled: /a" {
			t.Errorf("asked for HTTP/2: %t, answered by %s", http2, answer.Proto)
		}
		answer.Body.Close()
		client.CloseIdleConnections()
	}
	plain, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, plain, "GET /a HTTP/1.1\r\nHost: h\r\n\r\n", http.StatusBadRequest, "https://")
}
