package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tureen/fixtures"
	"tureen/impl/ingest"
	"tureen/impl/live"
	"tureen/impl/media"
	"tureen/impl/problem"
	"tureen/impl/webm"
)

// proxy is a running server and a client of it.
type proxy struct {
	*Server
	addr   string
	base   string
	client *http.Client
}

func start(t *testing.T, options ...func(*Config)) *proxy {
	t.Helper()
	s := New(testConfig(t, options))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	front := s.HTTP()
	served := make(chan error, 1)
	go func() { served <- front.Serve(problem.Listen(listener)) }()
	transport := &http.Transport{MaxIdleConnsPerHost: -1, ExpectContinueTimeout: time.Minute}
	t.Cleanup(func() {
		s.Drain()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(front.Shutdown(ctx), s.Wait(ctx)); err != nil {
			t.Errorf("the server doesn't end: %v", err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
		transport.CloseIdleConnections()
	})
	addr := listener.Addr().String()
	return &proxy{s, addr, "http://" + addr, &http.Client{Transport: transport}}
}

// testConfig has short times.
func testConfig(t *testing.T, options []func(*Config)) Config {
	config := Config{Idle: time.Second, Grace: time.Second, Budget: time.Second, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	for _, option := range options {
		option(&config)
	}
	return config
}

func clip(t *testing.T, name string) *fixtures.Clip {
	t.Helper()
	c, err := fixtures.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// put publishes a body; options change the request.
func (p *proxy) put(t *testing.T, id string, body io.Reader, options ...func(*http.Request)) *http.Response {
	t.Helper()
	return p.ask(t, http.MethodPut, id, body, options)
}

// get asks for a stream. The answer's body must be read by the caller.
func (p *proxy) get(t *testing.T, id string, options ...func(*http.Request)) *http.Response {
	t.Helper()
	return p.ask(t, http.MethodGet, id, nil, options)
}

func (p *proxy) ask(t *testing.T, method, id string, body io.Reader, options []func(*http.Request)) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, p.base+"/stream/"+id, body)
	if err != nil {
		t.Fatal(err)
	}
	for _, option := range options {
		option(r)
	}
	answer, err := p.client.Do(r)
	if err != nil {
		t.Fatalf("%s: %v", r.Method, err)
	}
	t.Cleanup(func() { answer.Body.Close() })
	return answer
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func method(name string) func(*http.Request) { return func(r *http.Request) { r.Method = name } }

// expectProblem checks an error's status and that it is RFC 9457's.
func expectProblem(t *testing.T, answer *http.Response, status int) (detail string) {
	t.Helper()
	if answer.StatusCode != status {
		t.Errorf("status %d, want %d", answer.StatusCode, status)
	}
	if got := answer.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type %q", got)
	}
	var p problem.Problem
	if err := json.NewDecoder(answer.Body).Decode(&p); err != nil {
		t.Fatalf("the problem isn't JSON: %v", err)
	}
	if p.Status != status || p.Title != http.StatusText(status) || p.Detail == "" {
		t.Errorf("problem %+v", p)
	}
	return p.Detail
}

func summary(t *testing.T, answer *http.Response) (s summaryJSON) {
	t.Helper()
	if answer.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(answer.Body)
		t.Fatalf("status %s: %s", answer.Status, b)
	}
	if err := json.NewDecoder(answer.Body).Decode(&s); err != nil {
		t.Fatalf("the summary isn't JSON: %v", err)
	}
	return s
}

type summaryJSON struct {
	SessionID  string `json:"sessionid"`
	Bytes      int64  `json:"bytes"`
	DurationMS int64  `json:"duration_ms"`
	Truncated  bool   `json:"truncated"`
	Tracks     []struct {
		Kind, Mode, Reason string
		InputCodec         string `json:"input_codec"`
		OutputCodec        string `json:"output_codec"`
	}
}

// recording is what a viewer got.
type recording struct {
	answer *http.Response
	tracks []webm.Track
	frames []media.Frame
	err    error // io.EOF at a clean end
}

// record watches a stream to its end.
func record(answer *http.Response) (r recording) {
	r.answer = answer
	d := webm.NewDemuxer(answer.Body)
	if r.tracks, r.err = d.Document(); r.err != nil {
		return r
	}
	for _, t := range r.tracks {
		kind := media.Video
		if t.IsAudio() {
			kind = media.Audio
		}
		d.Take(t, kind)
	}
	for {
		f, err := d.Frame()
		if err != nil {
			r.err = err
			return r
		}
		r.frames = append(r.frames, f)
	}
}

// watchAll records a whole session from before its beginning.
func (p *proxy) watchAll(t *testing.T, id string) <-chan recording {
	t.Helper()
	got := make(chan recording, 1)
	go func() {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.base+"/stream/"+id, nil)
		if err != nil {
			got <- recording{err: err}
			return
		}
		r.Header.Set("Prefer", "wait=30")
		answer, err := p.client.Do(r)
		if err != nil {
			got <- recording{err: err}
			return
		}
		defer answer.Body.Close()
		got <- record(answer)
	}()
	p.awaitWaiter(t, id)
	return got
}

// awaitWaiter returns once a viewer waits for a session.
func (p *proxy) awaitWaiter(t *testing.T, id string) {
	t.Helper()
	for p.registry.Awaited(id) == 0 {
		select {
		case <-t.Context().Done():
			t.Fatal("no viewer came to wait")
		case <-time.After(time.Millisecond):
		}
	}
}

// expected are the frames of a clip that viewers must get, in the order of
// each track: the first video and audio track's, from each document's first
// key frame on.
func expected(c *fixtures.Clip) (kinds [media.Kinds][]fixtures.Frame) {
	for kind, name := range map[media.Kind]string{media.Video: "video", media.Audio: "audio"} {
		if track, ok := c.Track(name); ok {
			kinds[kind] = c.FramesOf(track.Number)
		}
	}
	if video := kinds[media.Video]; len(video) > 0 {
		for len(kinds[media.Audio]) > 0 && kinds[media.Audio][0].PTS < video[0].PTS {
			kinds[media.Audio] = kinds[media.Audio][1:]
		}
	}
	return kinds
}

// stored reports whether a clip's container holds payloads as they are, each
// ending where its frame does.
func stored(c *fixtures.Clip) bool {
	switch c.Name {
	case "ebml-zlib", "ebml-header-stripping", "ebml-blockadditions", "ebml-blockgroups":
		return false
	}
	return !strings.HasPrefix(c.Name, "ebml-lacing") && !strings.HasPrefix(c.Name, "ebml-crc32")
}

// TestEveryCoding sends each clip that passes through by one PUT: a viewer gets
// every frame untouched (ING-7, FMT-1), times in order (WAT-5), at the media's
// own pace (ING-14), and the publisher its summary (ING-10).
func TestEveryCoding(t *testing.T) {
	t.Parallel()
	p := start(t)
	var running sync.WaitGroup // all at once: they take as long as their media
	defer running.Wait()
	for _, name := range fixtures.Names() {
		c := clip(t, name)
		if c.Malformed || !passes(c) || strings.HasPrefix(name, "ebml-two-documents") {
			continue
		}
		running.Go(func() { t.Run(name, func(t *testing.T) { testCoding(t, p, c) }) })
	}
}

func passes(c *fixtures.Clip) bool {
	if c.Container != "webm" && c.Container != "matroska" || c.Name == "ebml-encrypted" {
		return false
	}
	video, hasVideo := c.Track("video")
	audio, hasAudio := c.Track("audio")
	return (!hasVideo || video.Codec == "vp8") && (!hasAudio || audio.Codec == "vorbis")
}

func testCoding(t *testing.T, p *proxy, c *fixtures.Clip) {
	watching := p.watchAll(t, c.Name)
	began := time.Now()
	s := summary(t, p.put(t, c.Name, bytes.NewReader(c.Data), header("Content-Type", "text/plain")))
	took := time.Since(began)
	got := <-watching
	if got.err != io.EOF {
		t.Fatalf("the viewer's body ends with %v", got.err)
	}
	if s.SessionID != c.Name || s.Bytes != int64(len(c.Data)) || s.Truncated {
		t.Errorf("summary %+v", s)
	}
	want := expected(c)
	checkFrames(t, c, want, got.frames)
	checkTimes(t, c, want, got.frames)
	length := mediaLength(want)
	if d := time.Duration(s.DurationMS)*time.Millisecond - length; d > 100*time.Millisecond || d < -100*time.Millisecond {
		t.Errorf("duration_ms %d, want about %v", s.DurationMS, length)
	}
	if took < length-time.Second {
		t.Errorf("%v of media were done after %v", length, took)
	}
	if len(s.Tracks) != len(got.tracks) {
		t.Errorf("%d tracks in the summary, %d in the body", len(s.Tracks), len(got.tracks))
	}
	for _, track := range s.Tracks {
		if track.Mode != "passthrough" || track.InputCodec != track.OutputCodec || track.Reason == "" {
			t.Errorf("track %+v", track)
		}
	}
}

func mediaLength(kinds [media.Kinds][]fixtures.Frame) time.Duration {
	first, last := time.Duration(1<<62), time.Duration(0)
	for _, frames := range kinds {
		for _, f := range frames {
			first, last = min(first, f.PTS), max(last, f.PTS)
		}
	}
	return last - first
}

func checkFrames(t *testing.T, c *fixtures.Clip, want [media.Kinds][]fixtures.Frame, frames []media.Frame) {
	t.Helper()
	var got [media.Kinds][]media.Frame
	for _, f := range frames {
		got[f.Kind] = append(got[f.Kind], f)
	}
	for kind := range got {
		if len(got[kind]) != len(want[kind]) {
			t.Errorf("%d %v frames, want %d", len(got[kind]), media.Kind(kind), len(want[kind]))
			continue
		}
		for i, f := range got[kind] {
			w := want[kind][i]
			if len(f.Payload) != w.Size {
				t.Fatalf("%v frame %d has %d bytes, want %d", f.Kind, i, len(f.Payload), w.Size)
			}
			if stored(c) && !bytes.Equal(f.Payload, c.Data[w.End-int64(w.Size):w.End]) {
				t.Fatalf("%v frame %d was changed", f.Kind, i)
			}
			if f.Kind == media.Video && f.Key != w.Key {
				t.Errorf("picture %d: key is %v, want %v", i, f.Key, w.Key)
			}
		}
	}
}

// checkTimes checks FMT-1's constant offset and WAT-5's order.
func checkTimes(t *testing.T, c *fixtures.Clip, want [media.Kinds][]fixtures.Frame, frames []media.Frame) {
	t.Helper()
	var next [media.Kinds]int
	offset, last := time.Duration(0), time.Duration(-1)
	for i, f := range frames {
		if f.Time < last {
			t.Errorf("the time falls from %v to %v", last, f.Time)
		}
		last = f.Time
		if next[f.Kind] >= len(want[f.Kind]) {
			return
		}
		w := want[f.Kind][next[f.Kind]]
		next[f.Kind]++
		if i == 0 {
			offset = f.Time - w.PTS
		}
		laced := strings.HasPrefix(c.Name, "ebml-lacing")
		d := f.Time - w.PTS - offset
		if off := d > time.Millisecond || d < -time.Millisecond; off && !laced && c.Name != "ebml-steps-back" {
			t.Fatalf("%v frame %d is at %v, want %v", f.Kind, w.Number, f.Time, w.PTS+offset)
		}
		if d > 110*time.Millisecond || d < -time.Millisecond {
			t.Fatalf("%v frame %d was moved by %v", f.Kind, w.Number, d)
		}
	}
}

// TestTwoDocuments: a second EBML header in the body is the publisher's return.
func TestTwoDocuments(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := clip(t, "ebml-two-documents")
	watching := p.watchAll(t, "same")
	began := time.Now()
	s := summary(t, p.put(t, "same", bytes.NewReader(c.Data)))
	length := time.Duration(s.DurationMS) * time.Millisecond
	if took := time.Since(began); took < length-time.Second || length < 3*time.Second {
		t.Errorf("%v of media in two documents were done after %v", length, took)
	}
	got := <-watching
	if got.err != io.EOF {
		t.Errorf("the viewer's body ends with %v", got.err)
	}
	checkFrames(t, c, expected(c), got.frames)
	last := time.Duration(0)
	for _, f := range got.frames {
		if d := f.Time - last; d < 0 || d > 100*time.Millisecond {
			t.Errorf("the time steps by %v to %v", d, f.Time)
		}
		last = f.Time
	}

	// Other Vorbis headers can't go on in the same body: it ends, and a fresh
	// GET has the new stream.
	c = clip(t, "ebml-two-documents-other")
	watching = p.watchAll(t, "other")
	again := make(chan recording, 1)
	go func() {
		first := <-watching
		again <- first
		answer, err := p.client.Get(p.base + "/stream/other")
		if err != nil {
			again <- recording{err: err}
			return
		}
		defer answer.Body.Close()
		again <- record(answer)
	}()
	summary(t, p.put(t, "other", bytes.NewReader(c.Data)))
	first, second := <-again, <-again
	if first.err != io.EOF || second.err != io.EOF {
		t.Fatalf("the bodies end with %v and %v", first.err, second.err)
	}
	if bytes.Equal(first.tracks[1].Private, second.tracks[1].Private) {
		t.Error("both bodies have the same Vorbis headers")
	}
	if !second.frames[0].Key || second.frames[0].Kind != media.Video && second.frames[1].Kind != media.Video {
		t.Error("the second body doesn't begin with a key frame")
	}
}

// TestRefusedBodies: what can't be served, and what is damaged.
func TestRefusedBodies(t *testing.T) {
	p := start(t)
	tests := []struct {
		clip   string
		status int
		says   string
	}{
		{"mkv-h264-aac", 415, "h264"},
		{"webm-vp9-opus", 415, "vp9"},
		{"webm-vp8-opus", 415, "opus"},
		{"mkv-flac", 415, "flac"},
		{"mp4-faststart", 415, "MP4"},
		{"mp4-fragmented", 415, "MP4"},
		{"mpegts", 415, "MPEG-TS"},
		{"flv", 415, "FLV"},
		{"ogg-theora-vorbis", 415, "Ogg"},
		{"wav-mono", 415, "WAV"},
		{"bad-random", 415, "no media format"},
		{"ebml-encrypted", 415, "encrypted"},
		{"bad-empty", 400, "empty"},
		{"bad-cut-in-header", 400, "headers"},
		{"bad-garbage-after-3s", 400, "malformed WebM at byte"},
		{"bad-size-2-55", 400, "malformed WebM at byte"},
	}
	for _, test := range tests {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprint(test.clip, " chunked=", chunked), func(t *testing.T) {
				t.Parallel()
				var body io.Reader = bytes.NewReader(clip(t, test.clip).Data)
				if chunked {
					body = io.MultiReader(body) // hides its length
				}
				answer := p.put(t, test.clip+strconv.FormatBool(chunked), body)
				if detail := expectProblem(t, answer, test.status); !strings.Contains(detail, test.says) {
					t.Errorf("detail %q doesn't say %q", detail, test.says)
				}
			})
		}
	}
}

// TestFramesBeforeTheFault reach viewers (ING-12).
func TestFramesBeforeTheFault(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := clip(t, "bad-garbage-after-3s")
	watching := p.watchAll(t, c.Name)
	expectProblem(t, p.put(t, c.Name, bytes.NewReader(c.Data)), 400)
	got := <-watching
	if got.err != io.EOF {
		t.Errorf("after the grace time the body ends with %v", got.err)
	}
	checkFrames(t, c, expected(c), got.frames)
}

func TestTruncated(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := clip(t, "bad-cut-in-block")
	watching := p.watchAll(t, c.Name)
	if s := summary(t, p.put(t, c.Name, bytes.NewReader(c.Data))); !s.Truncated {
		t.Errorf("truncated isn't told: %+v", s)
	}
	got := <-watching
	if got.err != io.EOF {
		t.Errorf("the body ends with %v", got.err)
	}
	checkFrames(t, c, expected(c), got.frames)
}

func TestRefusalsInOrder(t *testing.T) {
	p := start(t)
	tests := []struct {
		method, path string
		status       int
	}{
		{"PUT", "/", 404},
		{"GET", "/stream", 404},
		{"GET", "/stream/a/b", 404},
		{"GET", "/stream//a", 404},
		{"GET", "/streams/a", 404},
		{"DELETE", "/stream/a", 405},
		{"PATCH", "/stream/%00", 405},
		{"GET", "/stream/", 400},
		{"GET", "/stream/.", 400},
		{"GET", "/stream/..", 400},
		{"PUT", "/stream/%2E%2E", 400},
		{"GET", "/stream/a%2Fb", 400},
		{"GET", "/stream/a%20b", 400},
		{"PUT", "/stream/a+b", 400},
		{"HEAD", "/stream/a%2Fb", 400},
		{"OPTIONS", "/stream/a%2Fb", 400},
		{"GET", "/stream/" + strings.Repeat("x", 129), 400},
		{"GET", "/stream/" + strings.Repeat("x", 128), 404},
		{"GET", "/stream/absent", 404},
		{"HEAD", "/stream/absent", 404},
		{"POST", "/healthz", 405},
	}
	for _, test := range tests {
		t.Run(test.method+" "+test.path, func(t *testing.T) {
			conn, answer := p.raw(t, test.method+" "+test.path+" HTTP/1.1\r\nHost: x\r\n\r\n", test.method)
			defer conn.Close()
			if test.method == http.MethodHead {
				if answer.StatusCode != test.status {
					t.Errorf("status %d, want %d", answer.StatusCode, test.status)
				}
				return
			}
			expectProblem(t, answer, test.status)
			if allow := answer.Header.Get("Allow"); (test.status == 405) != (allow != "") {
				t.Errorf("Allow is %q", allow)
			}
		})
	}
}

// raw sends bytes and reads the head of the answer.
func (p *proxy) raw(t *testing.T, request, method string) (net.Conn, *http.Response) {
	t.Helper()
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	return conn, readAnswer(t, conn, method)
}

func readAnswer(t *testing.T, conn net.Conn, method string) *http.Response {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	return answer
}

// onAir publishes a clip in the background, at its own pace, and returns once
// it is live.
func (p *proxy) onAir(t *testing.T, id, name string) {
	t.Helper()
	data := clip(t, name).Data
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		answer, err := p.client.Post(p.base+"/stream/"+id, "video/webm", r)
		if err == nil {
			answer.Body.Close()
		}
	}()
	go w.Write(data) // and no end, until the test's
	t.Cleanup(func() {
		w.CloseWithError(errors.New("the test is over"))
		<-done
	})
	p.await(t, id, live.Live)
}

// TestEarlyAnswers: a refused publisher can read its status at once, whatever
// it does meanwhile (ING-5).
func TestEarlyAnswers(t *testing.T) {
	p := start(t)
	p.onAir(t, "taken", "webm-vp8")
	tests := []struct {
		name string
		head string
		send func(net.Conn) // goes on until the connection fails
	}{
		{"asks for 100-continue", "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", nil},
		{"sends nothing", "Transfer-Encoding: chunked\r\n", nil},
		{"sends nothing of a fixed length", "Content-Length: 1000000\r\n", nil},
		{"sends slowly", "Transfer-Encoding: chunked\r\n", func(c net.Conn) {
			for {
				if _, err := io.WriteString(c, "1\r\nx\r\n"); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		}},
		{"sends fast", "Transfer-Encoding: chunked\r\n", func(c net.Conn) {
			chunk := fmt.Sprintf("%x\r\n%s\r\n", 64<<10, strings.Repeat("x", 64<<10))
			for {
				if _, err := io.WriteString(c, chunk); err != nil {
					return
				}
			}
		}},
	}
	for _, test := range tests {
		for path, status := range map[string]int{"/stream/taken": 409, "/nowhere": 404, "/stream/a%2Fb": 400} {
			t.Run(test.name+" to "+path, func(t *testing.T) {
				t.Parallel()
				conn, err := net.Dial("tcp", p.addr)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				began := time.Now()
				fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: x\r\n%s\r\n", path, test.head)
				if test.send != nil {
					go test.send(conn)
				}
				answer := readAnswer(t, conn, "PUT")
				if took := time.Since(began); took > time.Second {
					t.Errorf("the status came after %v", took)
				}
				expectProblem(t, answer, status)
				if retry := answer.Header.Get("Retry-After"); (status == 409) != (retry != "") {
					t.Errorf("Retry-After is %q", retry)
				}
				io.Copy(io.Discard, conn) // an end or a reset: both close
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("the connection closed after %v", took)
				}
			})
		}
	}
}

func TestContinue(t *testing.T) {
	p := start(t)
	data := clip(t, "webm-vp8").Data
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "PUT /stream/a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", len(data))
	if answer := readAnswer(t, conn, "PUT"); answer.StatusCode != http.StatusContinue {
		t.Errorf("an accepted publisher gets %s", answer.Status)
	}
}

// TestChunkSizes: chunked bodies of any chunk size are the same body (ING-2).
func TestChunkSizes(t *testing.T) {
	p := start(t)
	c := clip(t, "ebml-known-sizes")
	for _, size := range []int{1, 7, 1000, len(c.Data)} {
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			t.Parallel()
			id := "chunks" + strconv.Itoa(size)
			watching := p.watchAll(t, id)
			conn, err := net.Dial("tcp", p.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			var request bytes.Buffer
			fmt.Fprintf(&request, "PUT /stream/%s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", id)
			for rest := c.Data; len(rest) > 0; {
				n := min(size, len(rest))
				fmt.Fprintf(&request, "%x\r\n%s\r\n", n, rest[:n])
				rest = rest[n:]
			}
			request.WriteString("0\r\n\r\n")
			go conn.Write(request.Bytes())
			if s := summary(t, readAnswer(t, conn, "PUT")); s.Bytes != int64(len(c.Data)) {
				t.Errorf("%d bytes are counted, want %d", s.Bytes, len(c.Data))
			}
			got := <-watching
			checkFrames(t, c, expected(c), got.frames)
		})
	}
}

func TestIdlePublisher(t *testing.T) {
	t.Parallel()
	p := start(t)
	r, w := io.Pipe()
	defer w.Close()
	go w.Write(clip(t, "webm-vp8").Data[:40<<10]) // and then nothing
	began := time.Now()
	expectProblem(t, p.put(t, "idle", r), http.StatusRequestTimeout)
	if took := time.Since(began); took < p.config.Idle {
		t.Errorf("the publisher was ended after %v, before its time", took)
	}
}

func TestBrokenPublisher(t *testing.T) {
	t.Parallel()
	p := start(t)
	watching := p.watchAll(t, "broken")
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	c := clip(t, "webm-vp8")
	fmt.Fprintf(conn, "PUT /stream/broken HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", len(c.Data))
	conn.Write(c.Data[:c.Frames[10].End])
	conn.Close()
	// It returns within the grace time, and goes on in the same body.
	for {
		if p.registry.State("broken") == live.Waiting {
			break
		}
		time.Sleep(time.Millisecond)
	}
	summary(t, p.put(t, "broken", bytes.NewReader(c.Data[:c.Frames[20].End])))
	got := <-watching
	if got.err != io.EOF || len(got.frames) != 11+21 {
		t.Errorf("the viewer got %d frames and %v, want 32 and a clean end", len(got.frames), got.err)
	}
}

// TestAnswers: what a viewer is told before the media (WAT-1, WAT-12, WAT-13).
func TestAnswers(t *testing.T) {
	p := start(t)
	p.onAir(t, "video", "webm-vp8-vorbis")
	p.onAir(t, "audio", "webm-vorbis")
	for _, id := range []string{"video", "audio"} {
		for _, how := range []string{"GET", "HEAD"} {
			t.Run(how+" "+id, func(t *testing.T) {
				answer := p.get(t, id, method(how), header("Range", "bytes=0-99"), header("Origin", "http://elsewhere"))
				want := map[string]string{
					"Content-Type":                id + "/webm",
					"Cache-Control":               "no-store",
					"Content-Length":              "",
					"Content-Range":               "",
					"Access-Control-Allow-Origin": "*",
				}
				if answer.StatusCode != 200 || answer.ContentLength > 0 {
					t.Errorf("status %d, length %d", answer.StatusCode, answer.ContentLength)
				}
				for name, value := range want {
					if got := answer.Header.Get(name); got != value {
						t.Errorf("%s: %q, want %q", name, got, value)
					}
				}
				if exposed := answer.Header.Get("Access-Control-Expose-Headers"); !strings.Contains(exposed, "Retry-After") {
					t.Errorf("exposed are %q", exposed)
				}
			})
		}
	}
}

func TestPreflight(t *testing.T) {
	p := start(t)
	answer := p.get(t, "any", method("OPTIONS"), header("Origin", "http://elsewhere"),
		header("Access-Control-Request-Method", "GET"), header("Access-Control-Request-Headers", "prefer"))
	if answer.StatusCode != http.StatusNoContent {
		t.Errorf("status %d", answer.StatusCode)
	}
	allowed := answer.Header.Get("Access-Control-Allow-Headers")
	for _, name := range []string{"Prefer", "Content-Range"} {
		if !strings.Contains(allowed, name) {
			t.Errorf("%s isn't allowed: %q", name, allowed)
		}
	}
	if answer := p.get(t, "absent"); answer.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Error("errors don't say Access-Control-Allow-Origin")
	}
}

// TestUnsentBody: an answer waits for no body that was announced but doesn't come.
func TestUnsentBody(t *testing.T) {
	p := start(t)
	p.onAir(t, "live", "webm-vp8")
	for _, ask := range []string{"HEAD /stream/live", "HEAD /stream/absent", "OPTIONS /stream/live", "GET /stream/live", "GET /stream/absent", "GET /healthz"} {
		began := time.Now()
		method, _, _ := strings.Cut(ask, " ")
		p.raw(t, ask+" HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n", method)
		if took := time.Since(began); took > time.Second {
			t.Errorf("%s is answered after %v", ask, took)
		}
	}
}

// TestHalfClosedViewer: who has sent all may close his half, and is held and
// served like others (WAT-10).
func TestHalfClosedViewer(t *testing.T) {
	t.Parallel()
	p := start(t)
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET /stream/a HTTP/1.1\r\nHost: x\r\nPrefer: wait=30\r\n\r\n")
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	p.awaitWaiter(t, "a")
	c := clip(t, "webm-vp8")
	published := make(chan *http.Response, 1)
	go func() { published <- p.put(t, "a", bytes.NewReader(c.Data[:c.Frames[9].End])) }()
	got := record(readAnswer(t, conn, "GET"))
	if got.err != io.EOF || len(got.frames) != 10 {
		t.Errorf("the viewer got %d frames and %v, want 10 and a clean end", len(got.frames), got.err)
	}
	summary(t, <-published)
}

// TestShortBodies: what ends or stops before a format can show.
func TestShortBodies(t *testing.T) {
	t.Parallel()
	p := start(t)
	for body, status := range map[string]int{"\x1a": 400, "\x1a\x45\xdf": 400, "\x1a\x45\xdf\xa3": 400, "RIFF": 415, "x": 415} {
		expectProblem(t, p.put(t, "short", strings.NewReader(body)), status)
	}
	r, w := io.Pipe()
	defer w.Close()
	go w.Write([]byte{0x1a})
	expectProblem(t, p.put(t, "silent", r), http.StatusRequestTimeout)
}

// TestHTTP10: plain until the close.
func TestHTTP10(t *testing.T) {
	p := start(t)
	p.onAir(t, "a", "webm-vp8")
	conn, answer := p.raw(t, "GET /stream/a HTTP/1.0\r\n\r\n", "GET")
	defer conn.Close()
	if answer.StatusCode != 200 || len(answer.TransferEncoding) > 0 || answer.ContentLength != -1 {
		t.Errorf("status %d, transfer coding %v, length %d", answer.StatusCode, answer.TransferEncoding, answer.ContentLength)
	}
	if _, err := webm.NewDemuxer(answer.Body).Document(); err != nil {
		t.Errorf("the body doesn't begin as WebM: %v", err)
	}
}

// TestLateJoin: at any moment a viewer starts at the newest key frame, in a
// cluster of its own (WAT-3, WAT-4).
func TestLateJoin(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := clip(t, "webm-vp8-vorbis")
	p.onAir(t, "a", "webm-vp8-vorbis")
	video := expected(c)[media.Video]
	for range 10 {
		answer := p.get(t, "a")
		d := webm.NewDemuxer(answer.Body)
		tracks, err := d.Document()
		if err != nil {
			t.Fatal(err)
		}
		d.Take(tracks[0], media.Video)
		d.Take(tracks[1], media.Audio)
		f, err := d.Frame()
		if err != nil || f.Kind != media.Video || !f.Key {
			t.Fatalf("the body begins with a %v, key %v: %v", f.Kind, f.Key, err)
		}
		known := false
		for _, w := range video {
			known = known || w.Key && bytes.Equal(f.Payload, c.Data[w.End-int64(w.Size):w.End])
		}
		if !known {
			t.Error("the body begins with a picture that isn't one of the publisher's key frames")
		}
		answer.Body.Close()
		time.Sleep(70 * time.Millisecond) // another place in the group of pictures
	}
}

// TestLateJoinAudio: a stream without pictures starts at any block, in a
// cluster that its times count from.
func TestLateJoinAudio(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := clip(t, "webm-vorbis")
	p.onAir(t, "a", c.Name)
	track, _ := c.Track("audio")
	frames := c.FramesOf(track.Number)
	last := time.Duration(0)
	for range 5 {
		answer := p.get(t, "a")
		d := webm.NewDemuxer(answer.Body)
		tracks, err := d.Document()
		if err != nil {
			t.Fatal(err)
		}
		d.Take(tracks[0], media.Audio)
		f, err := d.Frame()
		if err != nil {
			t.Fatalf("the body has no frame: %v", err)
		}
		known := slices.ContainsFunc(frames, func(w fixtures.Frame) bool {
			near := f.Time-w.PTS < time.Millisecond && w.PTS-f.Time < time.Millisecond
			return near && bytes.Equal(f.Payload, c.Data[w.End-int64(w.Size):w.End])
		})
		if !known || f.Time <= last {
			t.Errorf("the body begins with a packet at %v, which isn't the publisher's there, or older than the last viewer's at %v", f.Time, last)
		}
		last = f.Time
		answer.Body.Close()
		time.Sleep(70 * time.Millisecond) // another place in the cluster
	}
}

func TestPrefer(t *testing.T) {
	t.Parallel()
	tests := []struct {
		lines []string
		want  time.Duration
		ok    bool
	}{
		{nil, 0, false},
		{[]string{"wait=5"}, 5 * time.Second, true},
		{[]string{"respond-async, wait=10"}, 10 * time.Second, true},
		{[]string{"respond-async", `Wait = "7"; foo=bar`}, 7 * time.Second, true},
		{[]string{"wait=61"}, time.Minute, true},
		{[]string{"wait=99999999999999999999999"}, time.Minute, true},
		{[]string{"wait=0"}, 0, true},
		{[]string{"wait=-1"}, 0, false},
		{[]string{"wait=soon"}, 0, false},
		{[]string{`a="b, wait=c", wait=2`}, 2 * time.Second, true},
		{[]string{"wait"}, 0, false},
		{[]string{"waiting=5"}, 0, false},
	}
	for _, test := range tests {
		want := test.want
		if !test.ok {
			want = live.NoPreference
		}
		if got := prefersWait(http.Header{"Prefer": test.lines}); got != want {
			t.Errorf("%q: %v, want %v", test.lines, got, want)
		}
	}
	p := start(t)
	began := time.Now()
	expectProblem(t, p.get(t, "absent", header("Prefer", "wait=1")), 404)
	if took := time.Since(began); took < time.Second || took > 3*time.Second {
		t.Errorf("the viewer was held for %v, want 1 s", took)
	}
	watching := p.watchAll(t, "a")
	c := clip(t, "webm-vp8")
	summary(t, p.put(t, "a", bytes.NewReader(c.Data[:c.Frames[5].End])))
	if got := <-watching; got.answer.Header.Get("Preference-Applied") != "wait=30" {
		t.Errorf("Preference-Applied is %q", got.answer.Header.Get("Preference-Applied"))
	}
}

// TestHTTP2: publishers and viewers over TLS, in either version of HTTP.
func TestHTTP2(t *testing.T) {
	t.Parallel()
	s := New(Config{Idle: time.Second, Grace: time.Second, Budget: time.Second, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	server := httptest.NewUnstartedServer(nil)
	server.Config = s.HTTP()
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	defer s.Drain()
	c := clip(t, "webm-vp8-vorbis")
	data := c.Data[:c.Frames[150].End]
	for _, proto := range []string{"HTTP/2.0", "HTTP/1.1"} {
		t.Run(proto, func(t *testing.T) {
			transport := server.Client().Transport.(*http.Transport).Clone()
			if proto == "HTTP/1.1" {
				transport.ForceAttemptHTTP2 = false
				transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
				transport.TLSClientConfig.NextProtos = nil
			}
			p := &proxy{Server: s, base: server.URL, client: &http.Client{Transport: transport}}
			id := strings.ReplaceAll(proto, "/", "-")
			watching := p.watchAll(t, id)
			answer := p.put(t, id, io.MultiReader(bytes.NewReader(data)))
			if answer.Proto != proto {
				t.Errorf("the publisher speaks %s", answer.Proto)
			}
			summary(t, answer)
			got := <-watching
			if got.err != io.EOF || got.answer.Proto != proto {
				t.Fatalf("the viewer's %s body ends with %v", got.answer.Proto, got.err)
			}
			if len(got.frames) < 140 {
				t.Errorf("the viewer got %d frames", len(got.frames))
			}
			expectProblem(t, p.put(t, id+"bad", io.MultiReader(bytes.NewReader(clip(t, "bad-random").Data))), 415)
		})
	}
}

func TestHeadersAreBounded(t *testing.T) {
	p := start(t)
	conn, answer := p.raw(t, "GET / HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 70<<10)+"\r\n\r\n", "GET")
	conn.Close()
	if answer.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d", answer.StatusCode)
	}
}

// TestFault: a fault in serving a request ends that alone, and is logged (SRV-1).
func TestFault(t *testing.T) {
	var log strings.Builder
	s := New(Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
	s.registry = nil // the fault
	defer func() {
		if ended := recover(); ended != http.ErrAbortHandler {
			t.Errorf("serving ends with %v, which net/http doesn't take for an aborted request", ended)
		}
		if !strings.Contains(log.String(), "fault in serving a request") || !strings.Contains(log.String(), "/stream/a") {
			t.Errorf("the log says %q", log.String())
		}
	}()
	s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/stream/a", nil))
}

// TestFaultOfABody is the server's, not the publisher's: 500, and nothing of
// what the log has of it.
func TestFaultOfABody(t *testing.T) {
	p := endProblem(&ingest.Fault{Value: "secret", Stack: []byte("secret")})
	if p.Status != http.StatusInternalServerError || strings.Contains(p.Detail, "secret") {
		t.Errorf("%+v", p)
	}
}

// brittle is a log that can't take one message, once.
type brittle struct {
	slog.Handler
	message string
	once    *sync.Once
}

func (b brittle) WithAttrs(attrs []slog.Attr) slog.Handler {
	b.Handler = b.Handler.WithAttrs(attrs)
	return b
}

func (b brittle) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == b.message {
		b.once.Do(func() { panic("fault") })
	}
	return b.Handler.Handle(ctx, r)
}

// TestFaultOfAnEnd: a fault after a publisher's body has come is told, and ends
// that session alone (SRV-1).
func TestFaultOfAnEnd(t *testing.T) {
	p := start(t, func(c *Config) {
		c.Log = slog.New(brittle{c.Log.Handler(), "publisher done", new(sync.Once)})
	})
	data := clip(t, "webm-vp8").Data[:clip(t, "webm-vp8").Frames[5].End]
	body := func() io.Reader { return io.MultiReader(bytes.NewReader(data)) }
	expectProblem(t, p.put(t, "a", body()), http.StatusInternalServerError)
	summary(t, p.put(t, "a", body()))
}

func TestDrain(t *testing.T) {
	p := start(t)
	watching := p.watchAll(t, "a")
	published := make(chan *http.Response, 1)
	go func() {
		r, w := io.Pipe()
		defer w.Close()
		go w.Write(clip(t, "webm-vp8").Data)
		published <- p.put(t, "a", r)
	}()
	for {
		if p.registry.State("a") == live.Live {
			break
		}
		time.Sleep(time.Millisecond)
	}
	p.Drain()
	expectProblem(t, <-published, http.StatusServiceUnavailable)
	if got := <-watching; got.err != io.EOF {
		t.Errorf("the viewer's body ends with %v", got.err)
	}
	expectProblem(t, p.get(t, "a"), http.StatusServiceUnavailable)
	expectProblem(t, p.put(t, "a", strings.NewReader("x")), http.StatusServiceUnavailable)
	expectProblem(t, p.put(t, "a", strings.NewReader("x"), header("Content-Range", "bytes")), http.StatusServiceUnavailable)
	expectProblem(t, p.put(t, "a", strings.NewReader("x"), header("Content-Range", "bytes 7-7/*")), http.StatusServiceUnavailable)
}

// TestSummaryIsTheContracts pins the names that clients read.
func TestSummaryIsTheContracts(t *testing.T) {
	b, err := json.Marshal(ingest.Summary{Tracks: []ingest.Track{{Kind: media.Audio}}})
	want := `{"sessionid":"","bytes":0,"duration_ms":0,"truncated":false,"tracks":[{"kind":"audio","input_codec":"","output_codec":"","mode":"","reason":""}]}`
	if err != nil || string(b) != want {
		t.Errorf("%s %v", b, err)
	}
}
