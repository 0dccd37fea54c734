package server

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/bits"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"tureen/impl/live"
)

// dial connects without any of HTTP.
func (p *proxy) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// healthy expects that the server answers.
func (p *proxy) healthy(t *testing.T) {
	t.Helper()
	answer, err := p.client.Get(p.base + "/healthz")
	if err != nil {
		t.Fatalf("the server doesn't answer any more: %v", err)
	}
	answer.Body.Close()
}

// exchange sends bytes and returns the statuses of all answers until the
// connection closes.
func (p *proxy) exchange(t *testing.T, request string) (statuses []int) {
	t.Helper()
	conn := p.dial(t)
	go io.WriteString(conn, request) // the server may close before it has read all
	reader := bufio.NewReader(conn)
	for {
		answer, err := http.ReadResponse(reader, nil)
		if err != nil {
			return statuses
		}
		io.Copy(io.Discard, answer.Body) // a broken one shows as no further answer
		statuses = append(statuses, answer.StatusCode)
	}
}

// TestFraming: where a request ends is never in doubt. Each is answered once and
// its connection closed, so that what follows isn't taken for a request of its
// own (SRV-1; RFC 9112 §6, §11.2).
func TestFraming(t *testing.T) {
	t.Parallel()
	p := start(t)
	const smuggled = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
	media := string(clip(t, "webm-vp8").Data[:clip(t, "webm-vp8").Frames[2].End])
	whole := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(media), media)
	chunked := "Transfer-Encoding: chunked\r\n"
	tests := []struct {
		name    string
		version string
		fields  string
		body    string
		status  int
	}{
		{"two lengths", "1.1", "Content-Length: 5\r\nContent-Length: 6\r\n", "xxxxx", 400},
		{"a list of lengths", "1.1", "Content-Length: 5, 6\r\n", "xxxxx", 400},
		{"a signed length", "1.1", "Content-Length: +5\r\n", "xxxxx", 400},
		{"a negative length", "1.1", "Content-Length: -5\r\n", "xxxxx", 400},
		{"a length past 63 bits", "1.1", "Content-Length: 9223372036854775808\r\n", "xxxxx", 400},
		{"a hexadecimal length", "1.1", "Content-Length: 0x5\r\n", "xxxxx", 400},
		{"length and chunks", "1.1", "Content-Length: 3\r\n" + chunked, whole, 200},
		{"chunks and length", "1.1", chunked + "Content-Length: 999999\r\n", whole, 200},
		{"chunks alone", "1.1", chunked, whole, 200},
		{"chunks before HTTP/1.1", "1.0", "Connection: keep-alive\r\n" + chunked, whole, 400},
		{"both before HTTP/1.1", "1.0", "Connection: keep-alive\r\nContent-Length: 5\r\n" + chunked, "xxxxx", 415},
		{"a coding twice", "1.1", chunked + chunked, whole, 501},
		{"a coding that isn't known", "1.1", "Transfer-Encoding: xchunked\r\n", whole, 501},
		{"chunks that aren't last", "1.1", "Transfer-Encoding: chunked, identity\r\n", whole, 501},
		{"space before the colon", "1.1", "Transfer-Encoding : chunked\r\n", whole, 400},
		{"a bare CR in a field", "1.1", "X: a\rb\r\nContent-Length: 5\r\n", "xxxxx", 400},
		{"NUL in a field", "1.1", "X: a\x00b\r\nContent-Length: 5\r\n", "xxxxx", 400},
		{"two hosts", "1.1", "Host: y\r\nContent-Length: 5\r\n", "xxxxx", 400},
		{"a chunk's size is no number", "1.1", chunked, "zz\r\nxxxxx\r\n0\r\n\r\n", 400},
		{"a chunk's size is negative", "1.1", chunked, "-5\r\nxxxxx\r\n0\r\n\r\n", 400},
		{"a chunk's size has a prefix", "1.1", chunked, "0x5\r\nxxxxx\r\n0\r\n\r\n", 400},
		{"a chunk's size past 64 bits", "1.1", chunked, "1fffffffffffffffff\r\nxxxxx\r\n0\r\n\r\n", 400},
		{"a chunk without a size", "1.1", chunked, "\r\nxxxxx\r\n0\r\n\r\n", 400},
		{"a chunk longer than it says", "1.1", chunked, "3\r\nxxxxx\r\n0\r\n\r\n", 400},
		{"lines of chunks end in LF", "1.1", chunked, "5\nxxxxx\n0\n\n", 400},
		{"a bare LF in an extension", "1.1", chunked, "5;\nxx\r\nxxxxx\r\n0\r\n\r\n", 400},
		{"a long extension", "1.1", chunked, "5;" + strings.Repeat("x", 100<<10) + "\r\nxxxxx\r\n0\r\n\r\n", 400},
		{"a long trailer", "1.1", chunked, fmt.Sprintf("%x\r\n%s\r\n0\r\nX: %s\r\n\r\n", len(media), media, strings.Repeat("x", 100<<10)), 400},
		{"many small extensions", "1.1", chunked, strings.Repeat("1;"+strings.Repeat("x", 200)+"\r\nx\r\n", 1000) + "0\r\n\r\n", 415},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			id := strings.Map(func(c rune) rune {
				if c < 'a' || c > 'z' {
					return -1
				}
				return c
			}, test.name)
			got := p.exchange(t, fmt.Sprintf("PUT /stream/%s HTTP/%s\r\nHost: x\r\n%s\r\n%s%s", id, test.version, test.fields, test.body, smuggled))
			if len(got) != 1 || got[0] != test.status {
				t.Errorf("answers %v, want one of %d", got, test.status)
			}
		})
	}
	t.Cleanup(func() { p.healthy(t) })
}

// TestRequestLines: malformed ones get their status or a close.
func TestRequestLines(t *testing.T) {
	t.Parallel()
	p := start(t)
	for line, want := range map[string]int{
		"GET /stream/a%zz HTTP/1.1":                              400,
		"GET /stream/a% HTTP/1.1":                                400,
		"GET /stream/a\x7f HTTP/1.1":                             400,
		"GET /stream/a b HTTP/1.1":                               400,
		"GET stream/a HTTP/1.1":                                  400,
		"GET /stream/a HTTP/9.9":                                 505,
		"GET /stream/a":                                          400,
		"P\"UT /stream/a HTTP/1.1":                               400,
		"PRI * HTTP/2.0":                                         404,
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03":           400,
		"GET /stream/" + strings.Repeat("a", 1<<20):              431,
		"GET /stream/a HTTP/1.1\r\n" + strings.Repeat("A", 9999): 400,
	} {
		got := p.exchange(t, line+"\r\nHost: x\r\nConnection: close\r\n\r\n")
		if len(got) != 1 || got[0] != want {
			t.Errorf("%.40q: answers %v, want %d", line, got, want)
		}
	}
	p.healthy(t)
}

// TestAnswersBeforeTheEnd: a publisher whose body shows that it can't go on gets
// its status at once, whatever it goes on to send, and the connection closes
// (ING-5).
func TestAnswersBeforeTheEnd(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := clip(t, "webm-vp8")
	chunk := func(b []byte) string { return fmt.Sprintf("%x\r\n%s\r\n", len(b), b) }
	bodies := map[string]struct {
		begin  string
		status int
	}{
		"no media":          {chunk(make([]byte, 100)), 415},
		"damaged headers":   {chunk(append(bytes.Clone(c.Data[:100]), make([]byte, 100)...)), 400},
		"damaged media":     {chunk(append(bytes.Clone(c.Data[:c.Frames[3].End]), make([]byte, 100)...)), 400},
		"a damaged framing": {chunk(c.Data[:c.Frames[3].End]) + "zz\r\n", 400},
	}
	goesOn := map[string]func(net.Conn) error{
		"sends nothing": func(net.Conn) error { return io.EOF },
		"sends slowly": func(c net.Conn) error {
			time.Sleep(20 * time.Millisecond) // which is slow
			_, err := io.WriteString(c, "1\r\nx\r\n")
			return err
		},
		"sends fast": func(c net.Conn) error {
			_, err := io.WriteString(c, chunk(make([]byte, 64<<10)))
			return err
		},
	}
	for name, body := range bodies {
		for how, send := range goesOn {
			t.Run(name+", "+how, func(t *testing.T) {
				t.Parallel()
				conn := p.dial(t)
				began := time.Now()
				fmt.Fprintf(conn, "PUT /stream/%x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%s", name+how, body.begin)
				go func() {
					for send(conn) == nil { // until the connection fails
					}
				}()
				answer := readAnswer(t, conn, http.MethodPut)
				if took := time.Since(began); took > time.Second {
					t.Errorf("the status came after %v", took)
				}
				expectProblem(t, answer, body.status)
				io.Copy(io.Discard, conn) // an end or a reset: both close
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("the connection closed after %v", took)
				}
			})
		}
	}
}

// TestSlowHeaders: a client can't hold a connection by sending its header bit by
// bit, nor by sending nothing (SRV-2).
func TestSlowHeaders(t *testing.T) {
	t.Parallel()
	p := start(t)
	for name, begin := range map[string]string{
		"first request": "", "next request": "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := p.dial(t)
			reader := bufio.NewReader(conn)
			if begin != "" {
				io.WriteString(conn, begin)
				answer, err := http.ReadResponse(reader, nil)
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, answer.Body)
			}
			began := time.Now()
			go func() {
				for _, c := range []byte("GET /stream/a HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X: x\r\n", 1000)) {
					if _, err := conn.Write([]byte{c}); err != nil {
						return
					}
					time.Sleep(100 * time.Millisecond)
				}
			}()
			io.Copy(io.Discard, reader)
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("the connection was closed after %v", took)
			}
		})
	}
	t.Run("nothing", func(t *testing.T) {
		t.Parallel()
		began := time.Now()
		io.Copy(io.Discard, p.dial(t))
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("the connection was closed after %v", took)
		}
	})
}

// send publishes a body in chunks and returns the answer's status.
func (p *proxy) send(t *testing.T, id string, body []byte) int {
	t.Helper()
	answer := p.put(t, id, io.MultiReader(bytes.NewReader(body)))
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		t.Error(err)
	}
	return answer.StatusCode
}

// TestCutAnywhere: a body that ends at any byte is answered by where it ends:
// 400 inside its headers, 200 between their elements and after them (ING-10,
// ING-12).
func TestCutAnywhere(t *testing.T) {
	t.Parallel()
	p := start(t, func(c *Config) { c.Grace = 0 })
	c := clip(t, "webm-vp8")
	cluster := headers(c.Data)
	begin := cluster + 4 + bits.LeadingZeros8(c.Data[cluster+4]) + 1        // behind its id and its size
	tags := bytes.LastIndex(c.Data[:begin], []byte{0x12, 0x54, 0xC3, 0x67}) // before them, or it, the body may end
	for at := 1; at < begin+600; at++ {
		want := http.StatusOK
		if at < begin && at != tags && at != cluster {
			want = http.StatusBadRequest
		}
		if got := p.send(t, "cut", c.Data[:at]); got != want {
			t.Errorf("a body cut after %d bytes, with headers of %d, gets %d, want %d", at, begin, got, want)
		}
		p.await(t, "cut", live.Absent)
	}
}

// TestFlippedBits: no bit of the headers or the first blocks, flipped, does more
// than end its own body.
func TestFlippedBits(t *testing.T) {
	t.Parallel()
	p := start(t, func(c *Config) { c.Grace = 0 })
	c := cut(clip(t, "webm-vp8"), 3)
	far := headers(c.Data) + 40
	for bit := range 8 * far {
		body := bytes.Clone(c.Data)
		body[bit/8] ^= 1 << (bit % 8)
		switch got := p.send(t, "flip", body); got {
		case http.StatusOK, http.StatusBadRequest, http.StatusUnsupportedMediaType:
		default:
			t.Errorf("with bit %d of byte %d flipped a body gets %d", bit%8, bit/8, got)
		}
	}
	p.healthy(t)
}

// TestHeapUnderFlood: frames that all are due at once, sent as fast as they are
// taken, with viewers that read nothing: what the server holds stays bounded
// (SRV-1, WAT-9).
func TestHeapUnderFlood(t *testing.T) {
	p := start(t) // alone: others would be counted, too
	p.flood(t, "a")
	for range 5 {
		conn := p.dial(t)
		fmt.Fprintf(conn, "GET /stream/a HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	const bound = 160 << 20
	most := uint64(0)
	for range 30 {
		time.Sleep(100 * time.Millisecond) // a look ten times a second
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		most = max(most, m.HeapAlloc)
	}
	t.Logf("%d MiB of heap at most", most>>20)
	if most > bound {
		t.Errorf("the heap grew to %d MiB, want at most %d", most>>20, bound>>20)
	}
}
