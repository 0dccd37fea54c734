// Package wire holds HTTP/1 over raw connections: every byte of a request is the caller's, and what comes back is seen as
// it is: interim answers, early answers, the framing of bodies, how and when connections end. All of it is noted with times.
//
// What an answer has to be is left to package suite.
package wire

import (
	"fmt"
	"sync"
	"time"
)

// maxEvents bounds a transcript; a check that needs more says what matters in its verdict.
const maxEvents = 300

// Event is one line of a transcript.
type Event struct {
	At   float64 `json:"at"`   // seconds since the check began
	Conn int     `json:"conn"` // counts the check's connections from 1; 0: the check itself
	Dir  string  `json:"dir"`  // ">" sent, "<" received, "=" noted
	Text string  `json:"text"`
}

// Transcript is what went over a check's connections. Its methods may be called at the same time.
type Transcript struct {
	Agent string // the User-Agent of its requests

	began time.Time

	mu     sync.Mutex // guards what follows
	conns  int
	events []Event
	lost   int // events beyond maxEvents
	curls  []string
}

// NewTranscript begins a transcript now.
func NewTranscript() *Transcript { return &Transcript{Agent: "tureen-conformance", began: time.Now()} }

// Since is the time of a moment on the transcript's clock.
func (t *Transcript) Since(at time.Time) time.Duration { return at.Sub(t.began) }

// Note adds a line.
func (t *Transcript) Note(conn int, dir, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.events) == maxEvents {
		t.lost++
		return
	}
	t.events = append(t.events, Event{
		At: time.Since(t.began).Round(100 * time.Microsecond).Seconds(), Conn: conn, Dir: dir, Text: fmt.Sprintf(format, args...),
	})
}

// Events returns the lines so far.
func (t *Transcript) Events() []Event {
	t.mu.Lock()
	defer t.mu.Unlock()
	events := append([]Event(nil), t.events...)
	if t.lost > 0 {
		events = append(events, Event{At: time.Since(t.began).Seconds(), Dir: "=", Text: fmt.Sprintf("%d more events", t.lost)})
	}
	return events
}

// Curls returns command lines that repeat the requests, in order, each once.
func (t *Transcript) Curls() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.curls...)
}

// maxCurls is enough to repeat a check by; one with more requests repeats one of them.
const maxCurls = 6

func (t *Transcript) curl(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.curls {
		if c == line {
			return
		}
	}
	if len(t.curls) < maxCurls {
		t.curls = append(t.curls, line)
	}
}

func (t *Transcript) connection() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conns++
	return t.conns
}
