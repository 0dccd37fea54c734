package suite

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/onsi/gomega"

	"tureen/conformance/media"
	"tureen/conformance/wire"
)

// Publisher sends a source over a connection of its own, each piece when it is due.
type Publisher struct {
	ID     string
	Source *media.Source

	t       *Trial
	conn    *wire.Conn
	method  string
	fields  []string
	length  int // of a fixed length; -1: chunked
	sizes   func() int
	tail    string // an extension of each chunk
	trailer string
	torn    bool
	expect  bool
	flood   bool

	mu       sync.Mutex // guards what follows
	changed  chan struct{}
	until    time.Duration // pieces due from here on wait
	head     bool          // all but the first piece wait
	end      bool          // the body ends with the last piece sent
	anew     bool          // the next piece is due now
	late     time.Duration // by which a piece was sent after it was due, at most
	sent     []time.Time   // of each piece
	written  error         // of a write that failed
	done     bool          // nothing is written any more
	interim  []int
	answered *Answer
	lost     error // instead of an answer
}

// Answer is a final answer with its body.
type Answer struct {
	*wire.Response
	Body  []byte
	Ended error // of the body; nil: whole
}

// mode changes how a publisher sends.
type mode func(*Publisher)

func by(method string) mode { return func(p *Publisher) { p.method = method } }

// fixed sends the body with a Content-Length.
func fixed(p *Publisher) { p.length = p.Source.Size() }

// chunks chooses the sizes of chunks; otherwise each piece is one.
func chunks(size func() int) mode { return func(p *Publisher) { p.sizes = size } }

// until has pieces that are due later wait for Continue or Finish.
func until(d time.Duration) mode { return func(p *Publisher) { p.until = d } }

// headOnly has all but the first piece, which is the document's head, wait for Continue.
func headOnly(p *Publisher) { p.until, p.head = 0, true }

// flood sends as fast as the target takes it.
func flood(p *Publisher) { p.flood = true }

// torn sends the first pieces in writes of a few bytes that know nothing of chunks.
func torn(p *Publisher) { p.torn = true }

// expecting asks for 100 Continue and sends nothing before an answer.
func expecting(p *Publisher) { p.expect = true }

const forever = time.Duration(1<<62 - 1)

// Publish begins to send a source. Whatever becomes of the check, the publisher ends with it.
func (t *Trial) Publish(id string, s *media.Source, modes ...mode) *Publisher {
	p := &Publisher{
		ID: id, Source: s, t: t, method: http.MethodPut, length: -1, until: forever, changed: make(chan struct{}),
		fields: []string{"Content-Type: video/webm"},
	}
	for _, m := range modes {
		m(p)
	}
	p.end = p.until == forever
	p.conn = t.Dial()
	t.onEnd(p.leave)
	head := wire.Request{Method: p.method, Path: path(id), Fields: p.fields, Body: "clip.webm"}
	if s.File != "" {
		head.Body = "fixtures/clips/" + s.File
	}
	if p.length >= 0 {
		head.Fields = append(head.Fields, fmt.Sprintf("Content-Length: %d", p.length))
	} else {
		head.Fields = append(head.Fields, "Transfer-Encoding: chunked")
	}
	if p.expect {
		head.Fields = append(head.Fields, "Expect: 100-continue")
	}
	t.Given.Expect(p.conn.Send(head)).To(gomega.Succeed(), "sending a request")
	p.conn.Note("=", "publishes %s", s.Name)
	go p.listen()
	go p.write()
	return p
}

// leave ends the body as a whole one where that is possible, so that the session doesn't wait for another publisher.
func (p *Publisher) leave() {
	p.mu.Lock()
	open := !p.done && p.answered == nil && p.lost == nil && p.length < 0
	p.done = true
	p.signal()
	p.mu.Unlock()
	if open {
		p.conn.SetWriteDeadline(time.Now().Add(farewell)) // a target that doesn't read must not hold the suite up
		p.conn.EndChunks("")
	}
	p.conn.Close()
}

// farewell is the patience at the end of a check with a target that doesn't read.
const farewell = 200 * time.Millisecond

// signal wakes those who wait; the caller holds the lock.
func (p *Publisher) signal() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// write sends the pieces.
func (p *Publisher) write() {
	if p.expect && !p.allowed() {
		return
	}
	began := time.Now()
	for i, piece := range p.Source.Pieces {
		if !p.turn(i, piece.Due) {
			return
		}
		if p.renewed() {
			began = time.Now().Add(-piece.Due)
		}
		if wait := time.Until(began.Add(piece.Due)); wait > 0 && !p.flood && !p.sleep(wait) {
			return
		}
		p.note(time.Since(began.Add(piece.Due)))
		if !p.put(i, piece.Data) {
			return
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.close()
}

// note keeps the worst lateness.
func (p *Publisher) note(late time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.late = max(p.late, late)
}

// lateness is by how much a piece was sent after it was due, at most.
func (p *Publisher) lateness() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.late
}

// allowed waits for 100 Continue; a final answer means that nothing is to be sent.
func (p *Publisher) allowed() bool {
	for {
		p.mu.Lock()
		changed, may, stop := p.changed, len(p.interim) > 0, p.answered != nil || p.lost != nil || p.done
		p.mu.Unlock()
		switch {
		case stop:
			return false
		case may:
			return true
		}
		select {
		case <-changed:
		case <-p.t.ctx.Done():
			return false
		}
	}
}

// turn waits until a piece may be sent. It is false when none may any more.
func (p *Publisher) turn(i int, due time.Duration) bool {
	for {
		p.mu.Lock()
		if p.done || p.end && due >= p.until {
			p.close()
			p.mu.Unlock()
			return false
		}
		changed, may := p.changed, due < p.until || p.head && i == 0
		p.mu.Unlock()
		if may {
			return true
		}
		select {
		case <-changed:
		case <-p.t.ctx.Done():
			return false
		}
	}
}

// renewed reports, once, that the schedule begins anew.
func (p *Publisher) renewed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	anew := p.anew
	p.anew = false
	return anew
}

func (p *Publisher) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.t.ctx.Done():
		return false
	}
}

// put sends one piece. Once the target has answered there is no use in sending more, unless it floods.
func (p *Publisher) put(i int, data []byte) bool {
	p.mu.Lock()
	over := p.done
	p.mu.Unlock()
	if over {
		return false
	}
	err := p.send(data, i)
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.signal()
	if err != nil {
		p.written, p.done = err, true
		return false
	}
	p.sent = append(p.sent, time.Now())
	return !p.done
}

// tornPieces are so many that no buffer hides them.
const tornPieces = 8

func (p *Publisher) send(data []byte, i int) error {
	if p.length >= 0 {
		return p.conn.Write(data)
	}
	var framed []byte
	for len(data) > 0 {
		n := len(data)
		if p.sizes != nil {
			n = min(n, p.sizes())
		}
		framed = append(fmt.Appendf(framed, "%x%s\r\n", n, p.tail), data[:n]...)
		framed = append(framed, "\r\n"...)
		data = data[n:]
	}
	if !p.torn || i >= tornPieces {
		return p.conn.Write(framed)
	}
	for len(framed) > 0 {
		n := min(len(framed), 1+i%5)
		if err := p.conn.Write(framed[:n]); err != nil {
			return err
		}
		framed = framed[n:]
	}
	return nil
}

// close ends the body; the caller holds the lock.
func (p *Publisher) close() {
	if !p.done && p.length < 0 {
		p.written = p.conn.EndChunks(p.trailer)
	}
	p.done = true
	p.signal()
}

// Continue has pieces sent that are due before a time, or all and the end. With anew the first of them is due now, otherwise
// what is overdue is sent at once.
func (p *Publisher) Continue(until time.Duration, anew bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.until, p.anew, p.end = until, anew, until == forever
	p.signal()
}

// Finish ends the body after the pieces that may be sent now.
func (p *Publisher) Finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end = true
	p.signal()
}

// Break resets the connection.
func (p *Publisher) Break() {
	p.mu.Lock()
	p.done = true
	p.signal()
	p.mu.Unlock()
	p.conn.Reset()
}

// AwaitSent waits until every piece that is due before a time was sent, and returns when the last one was.
func (p *Publisher) AwaitSent(due time.Duration) time.Time {
	n := 0
	for n < len(p.Source.Pieces) && p.Source.Pieces[n].Due < due {
		n++
	}
	bound := due + 10*time.Second
	p.await(bound, fmt.Sprintf("an end of sending what is due before %v", due), func() bool {
		return len(p.sent) >= n || p.answered != nil || p.lost != nil
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.sent) < n {
		p.t.Given.Expect(p.describe()).To(gomega.Equal("going on"), "a publisher that sends until %v", due)
	}
	return p.sent[n-1]
}

// describe says how the publisher stands; the caller holds the lock.
func (p *Publisher) describe() string {
	switch {
	case p.answered != nil:
		return fmt.Sprintf("answered %d %s", p.answered.Status, p.answered.Body)
	case p.lost != nil:
		return p.lost.Error()
	case p.written != nil:
		return p.written.Error()
	}
	return "going on"
}

// SentAt is when each piece was sent, so far.
func (p *Publisher) SentAt() []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]time.Time(nil), p.sent...)
}

// Interim are the 1xx statuses that came.
func (p *Publisher) Interim() []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]int(nil), p.interim...)
}

// await waits for a condition, which is called with the lock held and has to be met within the bound.
func (p *Publisher) await(bound time.Duration, what string, met func() bool) {
	if !p.wait(bound, met) {
		p.t.late(bound, what, "")
	}
}

// told waits until a publisher that asks for 100 Continue has that or another answer, on which a check builds.
func (p *Publisher) told() {
	ok := p.wait(tolerance, func() bool { return len(p.interim) > 0 || p.answered != nil || p.lost != nil })
	p.t.Given.Expect(ok).To(gomega.BeTrue(), "an answer within %v to a publisher that asks for 100 Continue", tolerance)
}

// wait reports whether a condition is met within the bound.
func (p *Publisher) wait(bound time.Duration, met func() bool) bool {
	timer := time.NewTimer(bound)
	defer timer.Stop()
	for {
		p.mu.Lock()
		ok, changed := met(), p.changed
		p.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-timer.C:
			return false
		case <-p.t.ctx.Done():
			return false
		}
	}
}

// listen reads the answers.
func (p *Publisher) listen() {
	for {
		r, err := p.conn.ReadResponse()
		if err == nil && r.Status < 200 {
			p.mu.Lock()
			p.interim = append(p.interim, r.Status)
			p.signal()
			p.mu.Unlock()
			continue
		}
		a, err := p.answer(r, err)
		p.mu.Lock()
		p.answered, p.lost = a, err
		p.signal()
		p.mu.Unlock()
		return
	}
}

// maxAnswer is more than any summary or problem needs.
const maxAnswer = 1 << 20

func (p *Publisher) answer(r *wire.Response, err error) (*Answer, error) {
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(p.conn.Body(r, p.method), maxAnswer))
	if len(body) > 0 {
		p.conn.Note("<", "%.600s", body)
	}
	return &Answer{Response: r, Body: body, Ended: err}, nil
}

// errNone says that a publisher has no answer yet.
var errNone = errors.New("no answer")

// Peek is the final answer if there is one.
func (p *Publisher) Peek() (*Answer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.answered != nil:
		return p.answered, nil
	case p.lost != nil:
		return nil, p.lost
	}
	return nil, errNone
}

// Answer waits for the final answer.
func (p *Publisher) Answer(bound time.Duration) *Answer {
	p.await(bound, "the publisher's answer", func() bool { return p.answered != nil || p.lost != nil })
	a, err := p.Peek()
	if err != nil {
		p.t.Fail("the publisher's connection ended without an answer: %v", err)
	}
	return a
}

// Summary is what a publisher is told of a body that was taken whole (ING-10).
type Summary struct {
	SessionID  *string        `json:"sessionid"`
	Bytes      *int64         `json:"bytes"`
	DurationMS *float64       `json:"duration_ms"`
	Truncated  *bool          `json:"truncated"`
	Tracks     []SummaryTrack `json:"tracks"`
}

// SummaryTrack is a track as FMT-5 reports it.
type SummaryTrack struct {
	Kind        string `json:"kind"`
	InputCodec  string `json:"input_codec"`
	OutputCodec string `json:"output_codec"`
	Mode        string `json:"mode"`
	Reason      string `json:"reason"`
}

// Accepted waits for the answer, which has to be 200 with a summary.
func (p *Publisher) Accepted(bound time.Duration) Summary {
	a := p.Answer(bound)
	p.t.Expect(a.Status).To(gomega.Equal(http.StatusOK), "the publisher's status; the answer was: %s", a.Body)
	var s Summary
	if err := json.Unmarshal(a.Body, &s); err != nil {
		p.t.Fail("the answer to a publisher whose body was taken isn't a JSON summary: %v: %.200q", err, a.Body)
	}
	return s
}
