package wire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// talk has a server send text to whoever connects and end the connection in some manner, and returns the client's side.
func talk(t *testing.T, text string, end func(*net.TCPConn)) (*Conn, *Transcript) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		io.WriteString(c, text)
		end(c.(*net.TCPConn))
	}()
	script := NewTranscript()
	c, err := Dial(t.Context(), &url.URL{Scheme: "http", Host: l.Addr().String()}, script)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, script
}

func closing(c *net.TCPConn) { c.Close() }

func resetting(c *net.TCPConn) {
	time.Sleep(50 * time.Millisecond) // what was sent is to arrive before
	c.SetLinger(0)
	c.Close()
}

// TestBodies: how each kind of body ends, and what is no body.
func TestBodies(t *testing.T) {
	const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	tests := []struct {
		name, text string
		end        func(*net.TCPConn)
		method     string
		body       string
		clean      bool
	}{
		{"chunks", chunked + "3\r\nabc\r\n1;x=\"y;z\"\r\nd\r\n0\r\n\r\n", closing, "GET", "abcd", true},
		{"chunks with a trailer", chunked + "A\r\n0123456789\r\n000\r\nX: y\r\n\r\n", closing, "GET", "0123456789", true},
		{"chunks without the last", chunked + "3\r\nabc\r\n", closing, "GET", "abc", false},
		{"chunks without the trailer's end", chunked + "3\r\nabc\r\n0\r\n", closing, "GET", "abc", false},
		{"a chunk that is short", chunked + "5\r\nabc", closing, "GET", "abc", false},
		{"a chunk that is long", chunked + "2\r\nabc\r\n0\r\n\r\n", closing, "GET", "ab", false},
		{"a size that is none", chunked + "x\r\nabc\r\n", closing, "GET", "", false},
		{"a negative size", chunked + "-1\r\nabc\r\n", closing, "GET", "", false},
		{"a line that ends with LF alone", chunked + "3\nabc\r\n0\r\n\r\n", closing, "GET", "", false},
		{"chunks and a reset", chunked + "3\r\nabc\r\n", resetting, "GET", "abc", false},
		{"a length", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef", closing, "GET", "abc", true},
		{"a length that isn't reached", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", closing, "GET", "abc", false},
		{"no length", "HTTP/1.0 200 OK\r\n\r\nabc", closing, "GET", "abc", true},
		{"no length and a reset", "HTTP/1.0 200 OK\r\n\r\nabc", resetting, "GET", "abc", false},
		{"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", closing, "HEAD", "", true},
		{"204", "HTTP/1.1 204 No Content\r\n\r\n", closing, "GET", "", true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, _ := talk(t, test.text, test.end)
			r, err := c.ReadResponse()
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(c.Body(r, test.method))
			if string(body) != test.body || (err == nil) != test.clean || err != nil && !errors.Is(err, ErrBroken) {
				t.Errorf("%q, %v; want %q, clean %v", body, err, test.body, test.clean)
			}
		})
	}
}

// TestInterim: answers come one by one, interim ones too.
func TestInterim(t *testing.T) {
	c, script := talk(t, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 409 Conflict\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n", closing)
	for _, want := range []int{100, 409} {
		r, err := c.ReadResponse()
		if err != nil || r.Status != want {
			t.Fatalf("%+v, %v; want %d", r, err, want)
		}
	}
	if _, err := c.AwaitClose(); err != nil {
		t.Errorf("the connection ended with %v", err)
	}
	events := script.Events()
	if len(events) != 4 || !strings.HasPrefix(events[1].Text, "HTTP/1.1 100") || events[3].Text != "the connection is closed" {
		t.Errorf("the transcript: %+v", events)
	}
	for i := 1; i < len(events); i++ {
		if events[i].At < events[i-1].At {
			t.Errorf("event %d came before the one before it", i)
		}
	}
}

// TestReset: a connection that is reset doesn't end in order.
func TestReset(t *testing.T) {
	c, _ := talk(t, "", resetting)
	if _, err := c.AwaitClose(); err == nil {
		t.Error("a reset reads as an orderly close")
	}
}

// TestCurl: command lines that repeat requests.
func TestCurl(t *testing.T) {
	base := &url.URL{Scheme: "http", Host: "h:1"}
	tests := []struct {
		request Request
		want    string
	}{
		{Request{Method: http.MethodGet, Path: "/stream/a", Fields: []string{"Prefer: wait=3"}}, "curl -sS -i -H 'Prefer: wait=3' --max-time 5 -o answer.webm -D - http://h:1/stream/a"},
		{Request{Method: http.MethodHead, Path: "/stream/a"}, "curl -sS -i --head http://h:1/stream/a"},
		{Request{Method: http.MethodPut, Path: "/stream/a'b", Fields: []string{"Transfer-Encoding: chunked"}, Body: "x.webm"}, `curl -sS -i -X PUT -T x.webm 'http://h:1/stream/a'\''b'`},
	}
	for _, test := range tests {
		if got := test.request.curl(base); got != test.want {
			t.Errorf("%s, want %s", got, test.want)
		}
	}
}

// FuzzBody: whatever comes as a chunked body, reading it ends, and yields no more than came.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{"3\r\nabc\r\n0\r\n\r\n", "FFFFFFFFFFFFFFFF\r\n", "1;x\r\na\r\n0\r\nT: 1\r\n\r\n", "0\r\n", "\r\n\r\n", "-0\r\n\r\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := &Conn{in: bufio.NewReader(bytes.NewReader(data)), script: NewTranscript()}
		body := c.Body(&Response{Status: 200, Header: http.Header{"Transfer-Encoding": {"chunked"}}}, "GET")
		got, _ := io.ReadAll(body)
		if len(got) > len(data) {
			t.Errorf("%d bytes of %d", len(got), len(data))
		}
	})
}
