package publish

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	dialTimeout     = 5 * time.Second
	continueTimeout = time.Second      // how long to wait for 100 Continue, as curl does
	stopTimeout     = 2 * time.Second  // how long a blocked write may go on once the publisher is to end
	answerTimeout   = 10 * time.Second // how long to wait for the answer to a whole body
	maxAnswer       = 64 << 10
)

// Config tells a publisher where to send what.
type Config struct {
	Address string // host:port to connect to
	Host    string // the Host field
	Path    string // escaped path of the stream
	Source  *Source
	TLS     *tls.Config   // nil: without TLS
	Manner  Manner        // of publishing; PUT by default
	Login   *url.Userinfo // of an Icecast source
}

// Manner is how a server wants to be published to.
type Manner string

// The manners of publishing.
const (
	Put     Manner = ""        // PUT with a chunked body; the final answer comes after it
	Icecast Manner = "icecast" // Icecast's source protocol: SOURCE, a 200, then the bytes until the connection ends
	Post    Manner = "post"    // POST with a chunked body to which 200 may come at once, as from ffmpeg with -listen 1
)

// head returns the request's head.
func (c *Config) head() string {
	var b strings.Builder
	switch c.Manner {
	case Icecast:
		fmt.Fprintf(&b, "SOURCE %s HTTP/1.0\r\n", c.Path)
	case Post:
		fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nTransfer-Encoding: chunked\r\n", c.Path)
	default:
		fmt.Fprintf(&b, "PUT %s HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n", c.Path)
	}
	fmt.Fprintf(&b, "Host: %s\r\nUser-Agent: tureen-loadgen\r\nContent-Type: %s\r\n", c.Host, c.Source.ContentType)
	if c.Login != nil {
		password, _ := c.Login.Password()
		fmt.Fprintf(&b, "Authorization: Basic %s\r\n",
			base64.StdEncoding.EncodeToString([]byte(c.Login.Username()+":"+password)))
	}
	b.WriteString("\r\n")
	return b.String()
}

// Publisher is one publisher's connection.
type Publisher struct {
	cfg     Config
	conn    net.Conn
	answers chan answer // closed after the final one

	mu    sync.Mutex
	stats Stats
}

// Stats is what a publisher has done so far.
type Stats struct {
	Frames int64
	Bytes  int64                   // of the body, transfer coding not counted
	Lag    *hdrhistogram.Histogram // µs that a write began later than it could: the generator's own lateness
	Stall  *hdrhistogram.Histogram // µs that a write took: the target's back-pressure
}

// Answer is the target's final answer.
type Answer struct {
	Status int
	Body   string
}

type answer struct {
	Answer
	err error
}

// RefusedError is the target's refusal of a publisher, before or after it began.
type RefusedError struct{ Answer }

func (e *RefusedError) Error() string {
	text := fmt.Sprintf("publisher was answered %d %s", e.Status, http.StatusText(e.Status))
	if body := strings.TrimSpace(e.Body); body != "" {
		text += ": " + body
	}
	return text
}

// NewHistogram returns a histogram of µs up to a minute with three significant digits, as all of the generator's are.
func NewHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, 60_000_000, 3) }

// Dial connects to the target, sends the request's head and waits until the target takes or refuses it. A target that
// doesn't answer to Expect: 100-continue within a second is taken to accept.
func Dial(ctx context.Context, cfg Config) (*Publisher, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("connecting publisher: %w", err)
	}
	if cfg.TLS != nil {
		secure := tls.Client(conn, cfg.TLS)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, fmt.Errorf("connecting publisher: %w", err)
		}
		conn = secure
	}
	p := &Publisher{cfg: cfg, conn: conn, answers: make(chan answer, 2)}
	p.stats.Lag, p.stats.Stall = NewHistogram(), NewHistogram()
	if _, err := io.WriteString(conn, cfg.head()); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("sending publisher's request: %w", err)
	}
	go p.readAnswers()
	if err := p.awaitAcceptance(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return p, nil
}

func (p *Publisher) awaitAcceptance(ctx context.Context) error {
	select {
	case a := <-p.answers:
		if a.err == nil && a.Status != http.StatusContinue {
			return &RefusedError{a.Answer}
		}
		return a.err
	case <-time.After(p.cfg.patience()):
		if p.cfg.Manner == Icecast {
			return fmt.Errorf("the server has not answered to SOURCE within %v", answerTimeout)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// patience is how long the target may take to accept.
func (c *Config) patience() time.Duration {
	if c.Manner == Icecast {
		return answerTimeout
	}
	return continueTimeout
}

// readAnswers ends with the connection, or with the final answer.
func (p *Publisher) readAnswers() {
	defer close(p.answers)
	r := bufio.NewReader(p.conn)
	request := &http.Request{Method: http.MethodPut}
	continued := false
	for {
		response, err := http.ReadResponse(r, request)
		if err != nil {
			p.answers <- answer{err: fmt.Errorf("reading the answer to the publisher: %w", err)}
			return
		}
		if p.cfg.Manner != Put && response.StatusCode == http.StatusOK {
			p.answers <- answer{Answer: Answer{Status: http.StatusContinue}}
			_, err := io.Copy(io.Discard, r)
			p.answers <- answer{err: fmt.Errorf("the server has ended the publisher's connection: %w", cmp.Or(err, io.ErrUnexpectedEOF))}
			return
		}
		if response.StatusCode >= 200 {
			body, _ := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
			_ = response.Body.Close()
			p.answers <- answer{Answer: Answer{response.StatusCode, string(body)}}
			return
		}
		if response.StatusCode == http.StatusContinue && !continued {
			continued = true
			p.answers <- answer{Answer: Answer{Status: http.StatusContinue}}
		}
	}
}

// Run sends the source from the start time on until it ends or the context does, ends the body cleanly and returns the
// target's final answer. An answer before that, or a broken connection, is an error.
func (p *Publisher) Run(ctx context.Context, start time.Time) (Answer, error) {
	stop := context.AfterFunc(ctx, func() { _ = p.conn.SetWriteDeadline(time.Now().Add(stopTimeout)) })
	defer stop()
	if err := p.send(ctx, start); err != nil {
		return p.broken(err)
	}
	if p.cfg.Manner != Put {
		return p.leave()
	}
	_ = p.conn.SetDeadline(time.Now().Add(answerTimeout))
	if _, err := io.WriteString(p.conn, "0\r\n\r\n"); err != nil {
		return p.broken(err)
	}
	for a := range p.answers {
		if a.err != nil {
			return Answer{}, a.err
		}
		if a.Status == http.StatusContinue {
			continue
		}
		if a.Status/100 != 2 {
			return a.Answer, &RefusedError{a.Answer}
		}
		return a.Answer, nil
	}
	return Answer{}, errors.New("publisher got no answer")
}

// leave ends a body whose answer came before it. That answer stands.
func (p *Publisher) leave() (Answer, error) {
	if p.cfg.Manner == Post {
		if _, err := io.WriteString(p.conn, "0\r\n\r\n"); err != nil {
			return p.broken(err)
		}
	}
	_ = p.conn.Close()
	return Answer{Status: http.StatusOK}, nil
}

// broken prefers the target's own words, which may be on the way, to the connection's error.
func (p *Publisher) broken(err error) (Answer, error) {
	var early *RefusedError
	if errors.As(err, &early) {
		return early.Answer, err
	}
	_ = p.conn.SetReadDeadline(time.Now().Add(stopTimeout))
	for a := range p.answers {
		if a.err == nil && a.Status != http.StatusContinue {
			return a.Answer, &RefusedError{a.Answer}
		}
	}
	return Answer{}, fmt.Errorf("sending to the target: %w", err)
}

// send writes each frame at its due time, with one write, and one chunk where there are chunks.
func (p *Publisher) send(ctx context.Context, start time.Time) error {
	const room = 10 // for a chunk's size in up to eight hexadecimal digits, CR and LF
	clock, err := newAlarm()
	if err != nil {
		return err
	}
	defer clock.close()
	s := p.cfg.Source.stream()
	buf := make([]byte, room, 256<<10)
	free := start // when the previous write was done
	for {
		var due time.Duration
		var ok bool
		buf, due, ok = s.append(buf[:room])
		if !ok {
			return nil
		}
		at := start.Add(due)
		if !clock.until(ctx, at) {
			return nil
		}
		if err := p.early(); err != nil {
			return err
		}
		size := len(buf) - room
		if size == 0 {
			continue
		}
		begin := time.Now()
		from := room
		if p.cfg.Manner != Icecast {
			from -= len(appendChunkSize(buf[:0:room], size))
			appendChunkSize(buf[from:from:room], size)
			buf = append(buf, '\r', '\n')
		}
		if _, err := p.conn.Write(buf[from:]); err != nil {
			if ctx.Err() != nil {
				return fmt.Errorf("target took nothing more at the end: %w", err)
			}
			return err
		}
		end := time.Now()
		could := at
		if free.After(at) {
			could = free
		}
		p.record(size, begin.Sub(could), end.Sub(begin))
		free = end
	}
}

// appendChunkSize appends a chunk's first line.
func appendChunkSize(dst []byte, size int) []byte { return fmt.Appendf(dst, "%x\r\n", size) }

// early returns the answer that came before the body's end, if one did.
func (p *Publisher) early() error {
	select {
	case a, ok := <-p.answers:
		switch {
		case !ok:
			return errors.New("connection has ended")
		case a.err != nil:
			return a.err
		case a.Status != http.StatusContinue:
			return &RefusedError{a.Answer}
		}
	default:
	}
	return nil
}

func (p *Publisher) record(size int, lag, stall time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Frames++
	p.stats.Bytes += int64(size)
	_ = p.stats.Lag.RecordValue(clamp(lag, p.stats.Lag))
	_ = p.stats.Stall.RecordValue(clamp(stall, p.stats.Stall))
}

// clamp makes a duration a value that the histogram takes.
func clamp(d time.Duration, h *hdrhistogram.Histogram) int64 {
	return min(max(d.Microseconds(), 0), h.HighestTrackableValue())
}

// Stats returns a copy of what was done so far.
func (p *Publisher) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Lag, s.Stall = hdrhistogram.Import(s.Lag.Export()), hdrhistogram.Import(s.Stall.Export())
	return s
}

// Close breaks the connection, if Run has not ended it.
func (p *Publisher) Close() error { return p.conn.Close() }
