package suite

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/onsi/gomega"

	"tureen/conformance/webm"
	"tureen/conformance/wire"
)

// Viewer watches a session on a connection of its own and judges what comes.
type Viewer struct {
	ID     string
	Asked  time.Time // when its request was sent
	t      *Trial
	conn   *wire.Conn
	method string
	proto  string
	fields []string
	dial   []wire.Option
	pause  bool // reads nothing of the body before Resume
	resume chan struct{}

	mu       sync.Mutex // guards what follows
	changed  chan struct{}
	response *wire.Response
	problem  []byte // the body of an answer that isn't 200
	reader   *webm.Reader
	framing  string
	bytes    int64
	ended    time.Time
	err      error // how it ended: io.EOF is clean
	named    map[string]bool
}

// look changes how a viewer asks.
type look func(*Viewer)

func with(line string) look { return func(v *Viewer) { v.fields = append(v.fields, line) } }

func speaking(proto string) look { return func(v *Viewer) { v.proto = proto } }

// slow has the viewer read nothing of its body until Resume; the kernel takes in little for it.
func slow(v *Viewer) {
	v.pause = true
	v.dial = append(v.dial, wire.ReceiveBuffer(slowBuffer))
}

const slowBuffer = 64 << 10

// Watch sends a viewer's request and goes on reading.
func (t *Trial) Watch(id string, looks ...look) *Viewer {
	v := &Viewer{
		ID: id, t: t, method: http.MethodGet, changed: make(chan struct{}), reader: webm.NewReader(), resume: make(chan struct{}),
		named: make(map[string]bool),
	}
	for _, l := range looks {
		l(v)
	}
	v.conn = t.Dial(v.dial...)
	v.Asked = time.Now()
	err := v.conn.Send(wire.Request{Method: v.method, Path: path(id), Proto: v.proto, Fields: v.fields})
	t.Given.Expect(err).NotTo(gomega.HaveOccurred(), "sending a request")
	go v.read()
	return v
}

func (v *Viewer) signal() {
	close(v.changed)
	v.changed = make(chan struct{})
}

// read reads the answer to its end.
func (v *Viewer) read() {
	r, err := v.conn.ReadResponse()
	for err == nil && r.Status < 200 { // whatever is told before the answer
		r, err = v.conn.ReadResponse()
	}
	if err != nil {
		v.end(err)
		return
	}
	body := v.conn.Body(r, v.method)
	v.answered(r, body.Framing)
	if r.Status != http.StatusOK {
		problem, _ := io.ReadAll(io.LimitReader(body, maxAnswer))
		v.conn.Note("<", "%.600s", problem)
		v.mu.Lock()
		v.problem = problem
		v.mu.Unlock()
		v.end(nil)
		return
	}
	if v.pause {
		select {
		case <-v.resume:
		case <-v.t.ctx.Done():
		}
	}
	buffer := make([]byte, 64<<10)
	for {
		n, err := body.Read(buffer)
		v.take(buffer[:n])
		if err != nil {
			v.end(err)
			return
		}
	}
}

func (v *Viewer) answered(r *wire.Response, framing string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.response, v.framing = r, framing
	v.signal()
}

// take judges a piece of the body, and notes what comes for the first time.
func (v *Viewer) take(p []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	had := len(v.reader.Blocks)
	v.bytes += int64(len(p))
	v.reader.Feed(p, time.Now())
	for _, b := range v.reader.Blocks[had:] {
		if !v.named[b.Kind] {
			v.named[b.Kind] = true
			v.conn.Note("<", "first %s block: at byte %d, timestamp %v, key %v, %d bytes", b.Kind, b.Offset, b.Time, b.Key, b.Size)
		}
	}
	v.signal()
}

func (v *Viewer) end(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ended, v.err = time.Now(), err
	if err == io.EOF {
		v.reader.Finish()
	}
	if n := len(v.reader.Blocks); n > 0 {
		last := v.reader.Blocks[n-1]
		v.conn.Note("<", "%d blocks in %d bytes, the last of %v", n, v.bytes, last.Time)
	}
	v.signal()
}

// Resume has a slow viewer read.
func (v *Viewer) Resume() { close(v.resume) }

// Leave breaks the viewer's connection off.
func (v *Viewer) Leave() { v.conn.Reset() }

// View is what a viewer has got so far.
type View struct {
	Response *wire.Response // nil before its answer
	Tracks   []webm.Track
	Blocks   []webm.Block
	Faults   []webm.Fault
	Bytes    int64
	Over     bool
	Err      error // how it ended, once Over: io.EOF is clean
	Ended    time.Time
}

// Clean reports whether the body has ended as a whole one.
func (w View) Clean() bool { return w.Over && w.Err == io.EOF }

// Of returns the blocks of one kind.
func (w View) Of(kind string) []webm.Block {
	var blocks []webm.Block
	for _, b := range w.Blocks {
		if b.Kind == kind {
			blocks = append(blocks, b)
		}
	}
	return blocks
}

// Now is what the viewer has got so far.
func (v *Viewer) Now() View {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.view()
}

func (v *Viewer) view() View {
	r := v.reader
	return View{
		Response: v.response, Tracks: r.Tracks, Blocks: r.Blocks[:len(r.Blocks):len(r.Blocks)], Faults: r.Faults[:len(r.Faults):len(r.Faults)],
		Bytes: v.bytes, Over: !v.ended.IsZero(), Err: v.err, Ended: v.ended,
	}
}

// wait waits until a condition is met, and reports whether it was within the bound.
func (v *Viewer) wait(bound time.Duration, met func(View) bool) (View, bool) {
	timer := time.NewTimer(bound)
	defer timer.Stop()
	for {
		v.mu.Lock()
		view, changed := v.view(), v.changed
		v.mu.Unlock()
		if met(view) {
			return view, true
		}
		select {
		case <-changed:
		case <-timer.C:
			return view, false
		case <-v.t.ctx.Done():
			return view, false
		}
	}
}

// Await waits until a condition is met, which has to be within the bound.
func (v *Viewer) Await(bound time.Duration, what string, met func(View) bool) View {
	view, ok := v.wait(bound, met)
	if !ok {
		v.t.late(bound, what, "; "+view.describe())
	}
	return view
}

// describe says in short what a viewer has got.
func (w View) describe() string {
	s := fmt.Sprintf("%d pictures, %d sounds", len(w.Of(webm.Video)), len(w.Of(webm.Audio)))
	if n := len(w.Blocks); n > 0 {
		s += fmt.Sprintf(", the last of %v", w.Blocks[n-1].Time)
	}
	if w.Over {
		s += fmt.Sprintf(", and its end: %v", w.Err)
	}
	return "the viewer had got " + s
}

// Answer waits for the head of the answer.
func (v *Viewer) Answer(bound time.Duration) *wire.Response {
	v.wait(bound, func(w View) bool { return w.Over || w.Response != nil })
	v.mu.Lock()
	response, err := v.response, v.err
	v.mu.Unlock()
	if response == nil && err != nil {
		v.t.Fail("the viewer's connection ended without an answer: %v", err)
	}
	if response == nil {
		v.t.late(bound, "the answer to a viewer", "")
	}
	return response
}

// Problem is the body of an answer that isn't 200.
func (v *Viewer) Problem() []byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.problem
}

// Framing is how the body is delimited.
func (v *Viewer) Framing() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.framing
}

// AwaitBlocks waits until n blocks of a kind have come.
func (v *Viewer) AwaitBlocks(bound time.Duration, kind string, n int) View {
	return v.Await(bound, fmt.Sprintf("%d blocks of %s", n, kind), func(w View) bool { return len(w.Of(kind)) >= n })
}

// AwaitEnd waits for the end of the body, however it ends.
func (v *Viewer) AwaitEnd(bound time.Duration) View {
	return v.Await(bound, "the end of the viewer's body", func(w View) bool { return w.Over })
}

// Watching makes sure that a viewer gets the stream, on which a check builds.
func (v *Viewer) Watching(bound time.Duration) {
	view, ok := v.wait(bound, func(w View) bool { return len(w.Blocks) > 0 || w.Over })
	v.mu.Lock()
	response := v.response
	v.mu.Unlock()
	status := 0
	if response != nil {
		status = response.Status
	}
	v.t.Given.Expect(ok && len(view.Blocks) > 0 && status == http.StatusOK).To(gomega.BeTrue(),
		"a viewer that gets the stream: status %d, %s%s", status, view.describe(), faults(view, ""))
}

// faults lists what the reader found against a rule, or all.
func faults(w View, rule string) string {
	var lines []string
	for _, f := range w.Faults {
		if rule == "" || f.Rule == rule {
			lines = append(lines, f.String())
		}
		if len(lines) == 5 {
			break
		}
	}
	if len(lines) == 0 {
		return ""
	}
	return "\n" + strings.Join(lines, "\n")
}

// Keeps fails when the reader has found something against a rule.
func (t *Trial) Keeps(w View, rule string) {
	if text := faults(w, rule); text != "" {
		t.Fail("the body breaks %s:%s", rule, text)
	}
}
