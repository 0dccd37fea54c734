package server

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"tureen/impl/ingest"
	"tureen/impl/live"
)

// errFull is a server that takes no more publishers, or viewers, for now.
var errFull = errors.New("there are as many as the server, or it from one address, takes at once; try again later")

// publish serves PUT and POST.
func (s *Server) publish(w http.ResponseWriter, r *http.Request, id string) {
	span, err := contentRange(r)
	series, conflict := s.series(id, r)
	switch {
	case s.registry.Closed():
		endProblem(live.ErrClosed).final(w, r)
	case conflict:
		endProblem(live.ErrTaken).final(w, r)
	case err != nil:
		endProblem(err).final(w, r)
	case span != nil && (span.begin > 0 || series != nil && series.GivesWay() == nil):
		s.proceed(w, r, series, span)
	default:
		s.begin(w, r, id, span)
	}
}

// series is the publisher's body that a request may go on with; nil when there
// is none. One that it can neither go on with nor take the place of is a
// conflict.
func (s *Server) series(id string, r *http.Request) (u *upload, conflict bool) {
	source := s.registry.Source(id)
	if source == nil {
		return nil, false
	}
	u, ok := source.(*upload)
	if ok && u.from == address(r) && u.open() {
		return u, false
	}
	return nil, source.GivesWay() == nil
}

// begin serves the first request of a publisher's body, which mostly is all.
func (s *Server) begin(w http.ResponseWriter, r *http.Request, id string, place *span) {
	first := s.part(w, r, place)
	u := newUpload(address(r), s.config.Idle, first)
	// The body may outlast the request, and what follows tells when it breaks off.
	publisher, err := s.registry.Take(context.WithoutCancel(r.Context()), id, u)
	if err != nil {
		endProblem(err).final(w, r)
		return
	}
	if !s.publishers.take(u.from) {
		publisher.End(live.Ended)
		endProblem(errFull).final(w, r)
		return
	}
	log := s.config.Log.With("session", id, "publisher", r.RemoteAddr)
	log.Info("publisher accepted", "method", r.Method, "agent", r.UserAgent())
	go s.feed(log, u, publisher)
	u.answer(w, r, first)
}

// proceed serves a request that goes on with a body.
func (s *Server) proceed(w http.ResponseWriter, r *http.Request, u *upload, place *span) {
	if u == nil {
		refusal(http.StatusRequestedRangeNotSatisfiable, "there is no body that this part goes on with; begin one with byte 0").final(w, r)
		return
	}
	p := s.part(w, r, place)
	if err := u.add(p); err != nil {
		endProblem(err).final(w, r)
		return
	}
	u.answer(w, r, p)
}

func (s *Server) part(w http.ResponseWriter, r *http.Request, place *span) *part {
	p := &part{Reader: r.Body, control: http.NewResponseController(w), idle: s.config.Idle, read: make(chan struct{})}
	switch {
	case place != nil:
		p.begin, p.end, p.last = place.begin, place.end, place.last
	case r.ContentLength >= 0:
		p.end, p.unmarked = r.ContentLength, true
	default:
		p.last = true
	}
	return p
}

// address is where a request comes from.
func address(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap()
}

// answer tells a publisher what became of the body so far, or of all of it.
func (u *upload) answer(w http.ResponseWriter, r *http.Request, p *part) {
	settled := u.settled
	if !p.unmarked {
		settled = nil
	}
	select {
	case <-p.read:
		w.WriteHeader(http.StatusOK)
		return
	case <-settled:
		summarise(w, u.partial)
		return
	case <-u.over:
		u.conclude(w, r, p)
	}
}

// conclude answers with the publisher's end.
func (u *upload) conclude(w http.ResponseWriter, r *http.Request, p *part) {
	switch {
	case u.err == nil:
		summarise(w, u.summary)
	case errors.Is(u.err, errReplaced): // right after it had settled
		summarise(w, u.partial)
	default:
		p.leave()
		endProblem(u.err).final(w, r)
		<-u.read
	}
}

// feed runs a publisher to its end.
func (s *Server) feed(log *slog.Logger, u *upload, p *live.Publisher) {
	defer close(u.over)
	began := time.Now()
	u.summary, u.read, u.err = ingest.Run(u, p, u.settle)
	s.publishers.leave(u.from)
	p.End(ending(u.err))
	logEnd(log, p, began, u.summary, u.err)
}

// ending is the kind of end that an error makes.
func ending(err error) live.Ending {
	switch {
	case err == nil, errors.Is(err, errReplaced):
		return live.Clean
	case errors.Is(err, live.ErrClosed), errors.Is(err, ingest.ErrEmpty):
		return live.Ended
	}
	return live.Broken
}

func logEnd(log *slog.Logger, p *live.Publisher, began time.Time, summary ingest.Summary, err error) {
	stats := p.Stats()
	attrs := []any{
		"bytes", summary.Bytes, "after", time.Since(began).Round(time.Millisecond), "media", stats.Duration,
		"pictures", stats.Frames[0], "sounds", stats.Frames[1], "dropped", stats.Dropped,
	}
	c := p.Counts() // of the session, over all of its publishers
	attrs = append(attrs, "viewers", c.Viewers.Load(), "joined", c.Joined.Load(),
		"completed", c.Completed.Load(), "left", c.Left.Load(),
		"skipped", c.Skipped.Load(), "stalled", c.Stalled.Load(), "bytes_out", c.BytesOut.Load())
	var fault *ingest.Fault
	switch {
	case ending(err) == live.Clean:
		log.Info("publisher done", attrs...)
	case errors.As(err, &fault):
		log.Error("publisher ended by a fault", append(attrs, "fault", fault.Value, "stack", string(fault.Stack))...)
	default:
		log.Warn("publisher ended early", append(attrs, "error", err)...)
	}
}

// endProblem is what a publisher is told of an end that isn't clean.
func endProblem(err error) *problem {
	var fault *ingest.Fault
	switch {
	case errors.Is(err, live.ErrTaken):
		return refusal(http.StatusConflict, "somebody is publishing under this session id already").withRetry()
	case errors.Is(err, errSettling), errors.Is(err, errCrowded):
		return refusal(http.StatusConflict, err.Error()).withRetry()
	case errors.Is(err, errGap):
		return refusal(http.StatusRequestedRangeNotSatisfiable, err.Error())
	case errors.Is(err, live.ErrClosed), errors.Is(err, errFull):
		return refusal(http.StatusServiceUnavailable, err.Error()).withRetry()
	case errors.Is(err, errIdle), errors.Is(err, errSilent):
		return refusal(http.StatusRequestTimeout, err.Error())
	case errors.Is(err, ingest.ErrEmpty):
		return refusal(http.StatusBadRequest, "the body is empty; send media in it")
	case errors.Is(err, ingest.ErrUnsupported):
		return refusal(http.StatusUnsupportedMediaType, detail(err, ingest.ErrUnsupported))
	case errors.As(err, &fault):
		return refusal(http.StatusInternalServerError, "a fault of the server's ended the session; its log has more")
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
