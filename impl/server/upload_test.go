package server

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"tureen/fixtures"
	"tureen/impl/live"
)

// sender sends requests over one connection, from an address of its choice.
type sender struct {
	t      *testing.T
	conn   net.Conn
	reader *bufio.Reader
}

func (p *proxy) sender(t *testing.T, from string) *sender {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := dialer.DialContext(t.Context(), "tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &sender{t, conn, bufio.NewReader(conn)}
}

// send sends a PUT's head and what there is of its body.
func (s *sender) send(id string, length int, fields string, body []byte) {
	s.t.Helper()
	head := fmt.Sprintf("PUT /stream/%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n", id, length, fields)
	if _, err := s.conn.Write(append([]byte(head), body...)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sender) answer() *http.Response {
	s.t.Helper()
	if err := s.conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	answer, err := http.ReadResponse(s.reader, &http.Request{Method: http.MethodPut})
	if err != nil {
		s.t.Fatalf("no answer: %v", err)
	}
	return answer
}

// put sends a whole request. The next may follow once its answer's body is read.
func (s *sender) put(id, fields string, body []byte) *http.Response {
	s.t.Helper()
	s.send(id, len(body), fields, body)
	return s.answer()
}

// ok reads an answer that must be 200.
func (s *sender) ok(answer *http.Response) {
	s.t.Helper()
	b, err := io.ReadAll(answer.Body)
	if answer.StatusCode != http.StatusOK || err != nil {
		s.t.Fatalf("%s: %s %v", answer.Status, b, err)
	}
}

func rangeOf(begin, end int, total string) string {
	return fmt.Sprintf("Content-Range: bytes %d-%d/%s\r\n", begin, end-1, total)
}

// await returns once a session is in a state.
func (p *proxy) await(t *testing.T, id string, state live.State) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for p.registry.State(id) != state {
		select {
		case <-ctx.Done():
			t.Fatalf("the session is %v, and doesn't become %v", p.registry.State(id), state)
		case <-time.After(time.Millisecond):
		}
	}
}

// headers are what a clip begins with, up to its first cluster.
func headers(data []byte) int { return bytes.Index(data, []byte{0x1F, 0x43, 0xB6, 0x75}) }

// cut is the beginning of a clip, with so many frames.
func cut(c *fixtures.Clip, frames int) *fixtures.Clip {
	short := *c
	short.Frames = c.Frames[:frames]
	short.Data = c.Data[:c.Frames[frames-1].End]
	return &short
}

// TestParts: requests tied together by Content-Range are one body (ING-16),
// wherever it was cut; each over a connection of its own, as GStreamer sends them.
func TestParts(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := cut(clip(t, "webm-vp8-vorbis"), 61)
	data := c.Data
	watching := p.watchAll(t, "parts")
	begin := headers(data)
	first := p.sender(t, "127.0.0.1")
	answer := first.put("parts", "", data[:begin])
	if s := summary(t, answer); s.Bytes != int64(begin) || s.DurationMS != 0 || s.Truncated || len(s.Tracks) != 2 {
		t.Errorf("the first part's summary is %+v", s)
	}
	size := 1
	for begin < len(data) {
		end, total := min(begin+size, len(data)), "*"
		if end == len(data) {
			total = fmt.Sprint(end)
		}
		s := p.sender(t, "127.0.0.1")
		answer := s.put("parts", rangeOf(begin, end, total), data[begin:end])
		if total == "*" {
			s.ok(answer)
		} else if got := summary(t, answer); got.Bytes != int64(len(data)) || got.Truncated {
			t.Errorf("the last part's summary is %+v", got)
		}
		begin, size = end, size*3%7001
	}
	got := <-watching
	if got.err != io.EOF {
		t.Errorf("the viewer's body ends with %v", got.err)
	}
	checkFrames(t, c, expected(c), got.frames)
}

// TestPartsThatDontFit are refused and change nothing.
func TestPartsThatDontFit(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := clip(t, "webm-vp8")
	begin := headers(c.Data) + 4
	s := p.sender(t, "127.0.0.1")
	tests := []struct {
		name, from, fields string
		length, status     int
	}{
		{"a gap", "127.0.0.1", rangeOf(begin+1, begin+5, "*"), 4, 416},
		{"an overlap", "127.0.0.1", rangeOf(begin-1, begin+3, "*"), 4, 416},
		{"from its beginning", "127.0.0.1", rangeOf(0, 4, "*"), 4, 416},
		{"from another address", "127.0.0.2", rangeOf(begin, begin+4, "*"), 4, 409},
		{"unmarked", "127.0.0.1", "", 4, 409},
		{"another length", "127.0.0.1", rangeOf(begin, begin+4, "*"), 5, 400},
		{"another unit", "127.0.0.1", "Content-Range: pages 1-2/*\r\n", 2, 400},
		{"two ranges", "127.0.0.1", rangeOf(begin, begin+4, "*") + rangeOf(begin, begin+4, "*"), 4, 400},
	}
	// A part that is refused while there is no body to go on with.
	expectProblem(t, p.sender(t, "127.0.0.1").put("fit", rangeOf(5, 9, "*"), c.Data[5:9]), 416)
	expectProblem(t, p.sender(t, "127.0.0.1").put("fit", "Content-Range: bytes */9\r\n", c.Data[:9]), 400)
	s.ok(s.put("fit", "", c.Data[:begin-4]))
	s.ok(s.put("fit", rangeOf(begin-4, begin, "*"), c.Data[begin-4:begin]))
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			answer := p.sender(t, test.from).put("fit", test.fields, make([]byte, test.length))
			expectProblem(t, answer, test.status)
		})
	}
	rest := c.Data[begin:c.Frames[3].End]
	answer := s.put("fit", rangeOf(begin, begin+len(rest), fmt.Sprint(begin+len(rest))), rest)
	if got := summary(t, answer); got.Bytes != c.Frames[3].End {
		t.Errorf("%d bytes are counted, want %d", got.Bytes, c.Frames[3].End)
	}
	s.ok(s.put("whole", rangeOf(0, int(c.Frames[3].End), fmt.Sprint(c.Frames[3].End)), c.Data[:c.Frames[3].End]))
}

// TestPartThatDoesntCome breaks the body off; it isn't the end of it.
func TestPartThatDoesntCome(t *testing.T) {
	t.Parallel()
	p := start(t)
	data := clip(t, "webm-vp8").Data
	s := p.sender(t, "127.0.0.1")
	s.ok(s.put("late", "", data[:headers(data)]))
	s.ok(s.put("late", rangeOf(headers(data), 9000, "*"), data[headers(data):9000]))
	p.await(t, "late", live.Waiting)
}

// TestUnmarked: a request of fixed length is all there is unless another one
// goes on with it within a second; its session is free for a new stream at once.
func TestUnmarked(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := cut(clip(t, "webm-vp8"), 10)
	data := c.Data
	watching := p.watchAll(t, "a")
	s := p.sender(t, "127.0.0.1")
	summary(t, s.put("a", "", data))
	done := time.Now()
	got := <-watching
	if took := time.Since(done); took > 2*time.Second || got.err != io.EOF {
		t.Errorf("%v after the publisher was done the body ends with %v", took, got.err)
	}
	checkFrames(t, c, expected(c), got.frames)
	if state := p.registry.State("a"); state != live.Absent {
		t.Errorf("the session is %v", state)
	}

	for _, from := range []string{"127.0.0.1", "127.0.0.2"} {
		watching := p.watchAll(t, "a"+from)
		summary(t, p.sender(t, "127.0.0.1").put("a"+from, "", data))
		began := time.Now()
		fresh := p.sender(t, from)
		fresh.send("a"+from, 2*len(data), "", data)
		p.await(t, "a"+from, live.Live)
		got := <-watching
		if took := time.Since(began); took > continuation/2 || got.err != io.EOF {
			t.Errorf("the first body ends %v after the next publisher came, with %v", took, got.err)
		}
		checkFrames(t, c, expected(c), got.frames)
	}
}

// TestSilentPublisher gives way to another one, who goes on in the viewers'
// bodies; before 2 s of silence it doesn't (ING-9).
func TestSilentPublisher(t *testing.T) {
	t.Parallel()
	p := start(t, func(c *Config) { c.Idle = time.Minute })
	c := clip(t, "webm-vp8")
	watching := p.watchAll(t, "a")
	silent := p.sender(t, "127.0.0.1")
	began := time.Now()
	silent.send("a", len(c.Data), "", c.Data[:c.Frames[10].End])
	p.await(t, "a", live.Live)
	answer := p.sender(t, "127.0.0.2").put("a", "", c.Data[:c.Frames[20].End])
	expectProblem(t, answer, http.StatusConflict)
	if answer.Header.Get("Retry-After") == "" {
		t.Error("the refused publisher isn't told when to come again")
	}
	for answer.StatusCode == http.StatusConflict { // what a client does that heeds Retry-After
		time.Sleep(50 * time.Millisecond)
		answer = p.sender(t, "127.0.0.2").put("a", "", c.Data[:c.Frames[20].End])
	}
	if took := time.Since(began); took < silence || took > 2*silence {
		t.Errorf("the silent publisher gave way after %v", took)
	}
	summary(t, answer)
	expectProblem(t, silent.answer(), http.StatusRequestTimeout)
	got := <-watching
	if got.err != io.EOF || len(got.frames) != 11+21 {
		t.Errorf("the viewer got %d frames and %v, want 32 and a clean end", len(got.frames), got.err)
	}
}

// TestHeldPublisherIsntSilent: one that is held back by pacing sends nothing,
// and keeps its session.
func TestHeldPublisherIsntSilent(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := clip(t, "webm-vp8")
	s := p.sender(t, "127.0.0.1")
	s.send("a", len(c.Data), "", c.Data)
	p.await(t, "a", live.Live)
	began := time.Now()
	for time.Since(began) < silence+time.Second {
		answer := p.sender(t, "127.0.0.1").put("a", "", c.Data[:100])
		expectProblem(t, answer, http.StatusConflict)
		time.Sleep(100 * time.Millisecond)
	}
}

func TestParseSpan(t *testing.T) {
	for value, want := range map[string]span{
		"bytes 0-0/*":      {0, 1, false},
		"bytes 5-9/*":      {5, 10, false},
		"BYTES 5-9/10":     {5, 10, true},
		"bytes 5-9/11":     {5, 10, false},
		"bytes 007-009/10": {7, 10, true},
	} {
		if got, ok := parseSpan(value); !ok || got != want {
			t.Errorf("%q is read as %+v, %v", value, got, ok)
		}
	}
	for _, value := range []string{
		"", "bytes", "bytes 5-9", "bytes */9", "bytes 9-5/*", "bytes 5-9/9", "bytes -5-9/*", "bytes +5-9/*", "bytes 5-/*",
		"bytes 5-9/", "bytes=5-9/*", "items 5-9/*", "bytes  5-9/*", "bytes 5-9/*,1-2/*", "bytes 0x5-9/*",
		"bytes 0-9223372036854775807/*", "bytes 5-99999999999999999999/*",
	} {
		if got, ok := parseSpan(value); ok {
			t.Errorf("%q is read as %+v", value, got)
		}
	}
}

func FuzzParseSpan(f *testing.F) {
	f.Add("bytes 0-9/10")
	f.Add("bytes 5-9/*")
	f.Fuzz(func(t *testing.T, value string) {
		s, ok := parseSpan(value)
		if ok && (s.begin < 0 || s.end <= s.begin) {
			t.Errorf("%q is read as %+v", value, s)
		}
	})
}
