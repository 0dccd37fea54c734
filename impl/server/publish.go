package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"tureen/impl/ingest"
	"tureen/impl/live"
)

// errIdle is a publisher that sent nothing for the idle time.
var errIdle = errors.New("the publisher sent nothing for too long")

// publish serves PUT and POST.
func (s *Server) publish(w http.ResponseWriter, r *http.Request, id string) {
	publisher, err := s.registry.Take(detached(r), id)
	if err != nil {
		endProblem(err).final(w, r)
		return
	}
	log := s.config.Log.With("session", id, "publisher", r.RemoteAddr)
	log.Info("publisher accepted", "method", r.Method, "agent", r.UserAgent())
	body := &body{Reader: r.Body, control: http.NewResponseController(w), idle: s.config.Idle}
	summary, read, err := feed(log, body, publisher)
	if err == nil {
		summarise(w, summary)
		return
	}
	body.leave()
	endProblem(err).final(w, r)
	<-read
}

// feed runs a publisher to its end, which the session learns of in any case.
func feed(log *slog.Logger, body *body, p *live.Publisher) (summary ingest.Summary, read <-chan struct{}, err error) {
	began := time.Now()
	err = ingest.ErrBroken // what a panic leaves
	defer func() {
		p.End(broken(err))
		logEnd(log, p, began, summary, err)
	}()
	return ingest.Run(body, p)
}

// broken reports whether an end has a grace time.
func broken(err error) bool {
	return err != nil && !errors.Is(err, live.ErrClosed) && !errors.Is(err, ingest.ErrEmpty)
}

func logEnd(log *slog.Logger, p *live.Publisher, began time.Time, summary ingest.Summary, err error) {
	stats := p.Stats()
	attrs := []any{
		"bytes", summary.Bytes, "after", time.Since(began).Round(time.Millisecond), "media", stats.Duration,
		"pictures", stats.Frames[0], "sounds", stats.Frames[1], "dropped", stats.Dropped,
	}
	if c := p.Counts(); c != nil {
		attrs = append(attrs, "viewers", c.Viewers.Load(), "joined", c.Joined.Load(),
			"skipped", c.Skipped.Load(), "stalled", c.Stalled.Load(), "bytes_out", c.BytesOut.Load())
	}
	if err != nil {
		log.Warn("publisher ended early", append(attrs, "error", err)...)
		return
	}
	log.Info("publisher done", attrs...)
}

// endProblem is what a publisher is told of an end that isn't clean.
func endProblem(err error) *problem {
	switch {
	case errors.Is(err, live.ErrTaken):
		return refusal(http.StatusConflict, "somebody is publishing under this session id already").withRetry()
	case errors.Is(err, live.ErrClosed):
		return refusal(http.StatusServiceUnavailable, err.Error()).withRetry()
	case errors.Is(err, errIdle):
		return refusal(http.StatusRequestTimeout, errIdle.Error())
	case errors.Is(err, ingest.ErrEmpty):
		return refusal(http.StatusBadRequest, "the body is empty; send media in it")
	case errors.Is(err, ingest.ErrUnsupported):
		return refusal(http.StatusUnsupportedMediaType, detail(err, ingest.ErrUnsupported))
	default:
		return refusal(http.StatusBadRequest, err.Error())
	}
}

// detail is an error's text without the sentinel's that the status says already.
func detail(err, sentinel error) string {
	return strings.TrimPrefix(err.Error(), sentinel.Error()+": ")
}

func summarise(w http.ResponseWriter, summary ingest.Summary) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	json.NewEncoder(w).Encode(summary) // the publisher may be gone
}

// body is a publisher's body. Each read may take the idle time; time in which
// the proxy doesn't read doesn't count (ING-13).
type body struct {
	io.Reader
	control *http.ResponseController
	idle    time.Duration

	mu   sync.Mutex // guards what follows and the read deadline
	over bool       // the publisher has its answer
}

// leave has reading end soon: the deadline is the answer's from now on.
func (b *body) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	b.control.SetReadDeadline(time.Now().Add(farewell)) // fails only with the connection
}

// extend allows for another read.
func (b *body) extend() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return nil
	}
	if err := b.control.SetReadDeadline(time.Now().Add(b.idle)); err != nil {
		return fmt.Errorf("bound a publisher's silence: %w", err)
	}
	return nil
}

func (b *body) Read(p []byte) (int, error) {
	if err := b.extend(); err != nil {
		return 0, err
	}
	n, err := b.Reader.Read(p)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return n, errIdle
	case err == io.EOF:
		b.control.SetReadDeadline(time.Time{}) // the next request has its own
	}
	return n, err
}
