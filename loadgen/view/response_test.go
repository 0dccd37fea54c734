package view

import (
	"errors"
	"strings"
	"testing"
)

// body feeds pieces to a response and returns the body as far as it came.
func body(r *response, pieces ...string) (string, error) {
	var got strings.Builder
	for _, p := range pieces {
		for rest := []byte(p); len(rest) > 0; {
			var piece []byte
			var err error
			if piece, rest, err = r.next(rest); err != nil {
				return got.String(), err
			}
			got.Write(piece)
		}
	}
	return got.String(), nil
}

const chunkedHead = "HTTP/1.1 200 OK\r\nContent-Type: video/webm\r\nTransfer-Encoding: chunked\r\n\r\n"

var responses = []struct {
	name   string
	raw    string
	status int
	body   string
	clean  bool
}{
	{"chunks", chunkedHead + "5\r\nhello\r\n1\r\n \r\n00a\r\n0123456789\r\n0\r\n\r\n", 200, "hello 0123456789", true},
	{"extension and trailer", chunkedHead + "3;a=b\r\nabc\r\n2 \r\nde\r\n0\r\nX: y\r\nZ: \r\n\r\n", 200, "abcde", true},
	{"many chunks", chunkedHead + strings.Repeat("0001\r\nx\r\n", 20) + "0\r\n\r\n", 200, strings.Repeat("x", 20), true},
	{"cut in a chunk", chunkedHead + "5\r\nhel", 200, "hel", false},
	{"cut between chunks", chunkedHead + "3\r\nhel\r\n", 200, "hel", false},
	{"cut before the last line", chunkedHead + "3\r\nhel\r\n0\r\n", 200, "hel", false},
	{"length", "HTTP/1.1 404 Not Found\r\ncontent-length:  4 \r\n\r\nnone", 404, "none", true},
	{"length of nothing", "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", 503, "", true},
	{"cut length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nnone", 200, "none", false},
	{"until the close", "HTTP/1.0 200 OK\r\nServer: Icecast\r\n\r\nwhatever", 200, "whatever", true},
	{"chunks win over a length", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", 200, "x", true},
	{"chunks win over a later length", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 99\r\n\r\n1\r\nx\r\n0\r\n\r\n", 200, "x", true},
	{"interim answers", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + chunkedHead + "1\r\nx\r\n0\r\n\r\n", 200, "x", true},
	{"no reason phrase", "HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", 200, "x", true},
	{"cut in the head", "HTTP/1.1 200 OK\r\nContent-", 0, "", false},
}

func TestResponseSplitAtEveryByte(t *testing.T) {
	for _, test := range responses {
		t.Run(test.name, func(t *testing.T) {
			for at := range len(test.raw) + 1 {
				var r response
				got, err := body(&r, test.raw[:at], test.raw[at:])
				if err != nil {
					t.Fatalf("split at %d: %v", at, err)
				}
				if got != test.body || r.status != test.status || r.clean() != test.clean {
					t.Fatalf("split at %d: status %d, body %q, clean %v; want %d, %q, %v", at, r.status, got, r.clean(), test.status,
						test.body, test.clean)
				}
			}
			var r response
			if got, err := body(&r, strings.Split(test.raw, "")...); err != nil || got != test.body {
				t.Errorf("byte by byte: body %q, error %v", got, err)
			}
		})
	}
}

func TestResponseRefuses(t *testing.T) {
	tests := []struct {
		name string
		raw  string
		want error
	}{
		{"another protocol", "SSH-2.0-x\r\n\r\n", errHead},
		{"no status", "HTTP/1.1 OK\r\n\r\n", errHead},
		{"status out of range", "HTTP/1.1 999 x\r\n\r\n", errHead},
		{"unknown coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", errHead},
		{"malformed length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", errHead},
		{"endless head", "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", maxHead), errHeadSize},
		{"no size", chunkedHead + "\r\n", errChunk},
		{"no number", chunkedHead + "xyz\r\n", errChunk},
		{"size that overflows", chunkedHead + "ffffffffffffffff\r\n", errChunk},
		{"size without LF", chunkedHead + "1\rx", errChunk},
		{"chunk longer than its size", chunkedHead + "1\r\nxy\r\n", errChunk},
		{"chunk's end without LF", chunkedHead + "1\r\nx\rx", errChunk},
		{"endless extension", chunkedHead + "1;" + strings.Repeat("x", maxChunkLine), errChunkLine},
		{"endless trailer", chunkedHead + "0\r\n" + strings.Repeat("x", maxChunkLine+1), errChunkLine},
		{"trailer without LF", chunkedHead + "0\r\nA: b\rx", errChunk},
		{"bytes behind the end", chunkedHead + "0\r\n\r\nx", errAfterEnd},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var r response
			if got, err := body(&r, test.raw); !errors.Is(err, test.want) {
				t.Errorf("error %v, body %q; want error %v", err, got, test.want)
			}
		})
	}
}

// FuzzResponse looks for panics, unbounded memory, and results that depend on how the bytes are split.
func FuzzResponse(f *testing.F) {
	for _, r := range responses {
		f.Add(r.raw, uint(3))
	}
	f.Fuzz(func(t *testing.T, raw string, step uint) {
		var whole, pieces response
		want, wantErr := body(&whole, raw)
		var parts []string
		step = max(step%64, 1)
		for rest := raw; rest != ""; {
			n := min(int(step), len(rest))
			parts = append(parts, rest[:n])
			rest = rest[n:]
		}
		got, gotErr := body(&pieces, parts...)
		if got != want || (gotErr == nil) != (wantErr == nil) || pieces.status != whole.status {
			t.Fatalf("in pieces of %d: %q, %v; whole: %q, %v", step, got, gotErr, want, wantErr)
		}
		if len(pieces.head) > 2*maxHead {
			t.Fatalf("%d bytes of a head held", len(pieces.head))
		}
	})
}
