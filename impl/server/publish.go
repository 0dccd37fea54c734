package server

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"tureen/impl/access"
	"tureen/impl/ingest"
	"tureen/impl/live"
	"tureen/impl/problem"
	"tureen/impl/tokens"
	"tureen/impl/transcode"
)

// errFull is a server that takes no more publishers, or viewers, for now.
var errFull = errors.New("there are as many as the server, or it from one address, takes at once; try again later")

// publish serves PUT and POST.
func (s *Server) publish(w http.ResponseWriter, r *http.Request, id string) {
	span, err := contentRange(r)
	series, conflict := s.series(id, r)
	permit, denied := s.tokens.Publish(id, bearer(r))
	switch {
	case s.registry.Closed():
		endProblem(live.ErrClosed).Final(w, r)
	case denied != nil:
		deny(denied, r).Final(w, r)
	case conflict:
		endProblem(live.ErrTaken).Final(w, r)
	case series == nil && (err != nil || span != nil && span.begin > 0) && !s.publishers.free(s.address(r)):
		endProblem(errFull).Final(w, r) // which goes before what is wrong with a Content-Range
	case err != nil:
		endProblem(err).Final(w, r)
	case span != nil && (span.begin > 0 || series != nil && series.GivesWay() == nil):
		s.proceed(w, r, id, series, span)
	default:
		s.begin(permit, w, r, id, span)
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
	if ok && u.from == s.address(r) && u.open() {
		return u, false
	}
	return nil, source.GivesWay() == nil
}

// begin serves the first request of a publisher's body, which mostly is all.
// The permit ends when it may publish no longer; nothing else does, for the body
// may outlast the request, and what follows tells when it breaks off.
func (s *Server) begin(permit context.Context, w http.ResponseWriter, r *http.Request, id string, place *span) {
	first := s.part(w, r, place)
	u := newUpload(r, s.address(r), s.config.Idle, first)
	publisher, err := s.registry.Take(permit, id, u)
	if err != nil {
		endProblem(err).Final(w, r)
		return
	}
	if !s.publishers.take(u.from) {
		publisher.End(live.Ended)
		endProblem(errFull).Final(w, r)
		return
	}
	u.counts = publisher.Counts()
	log := s.config.Log.With("session", id, "publisher", r.RemoteAddr)
	log.Info("publisher accepted", "method", r.Method, "agent", r.UserAgent())
	go s.feed(log, u, publisher)
	u.answer(w, r, first)
}

// proceed serves a request that goes on with a body.
func (s *Server) proceed(w http.ResponseWriter, r *http.Request, id string, u *upload, place *span) {
	if u == nil && s.endedBetween(id, s.address(r)) {
		endProblem(live.ErrAborted).Final(w, r)
		return
	}
	if u == nil {
		problem.New(http.StatusRequestedRangeNotSatisfiable, "there is no body that this part goes on with; begin one with byte 0").Final(w, r)
		return
	}
	p := s.part(w, r, place)
	if err := u.add(r, p); err != nil {
		endProblem(err).Final(w, r)
		return
	}
	u.answer(w, r, p)
}

// endedBetween reports whether a publisher whose body comes in parts was aborted
// between two of them, and so hasn't heard of it.
func (s *Server) endedBetween(id string, from netip.Addr) bool {
	u, ok := s.untold.Load(id)
	return ok && u.(*upload).from == from
}

// remember has the next part of an aborted body be told, for as long as it may
// take to come.
func (s *Server) remember(id string, u *upload) {
	if !errors.Is(u.err, live.ErrAborted) || !u.open() {
		return
	}
	s.untold.Store(id, u)
	time.AfterFunc(s.config.Idle, func() { s.untold.CompareAndDelete(id, u) })
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
func (s *Server) address(r *http.Request) netip.Addr {
	return access.Client(r, s.config.Access.Proxies)
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
		endProblem(u.err).Final(w, r)
		<-u.read
	}
}

// feed runs a publisher to its end. A fault in that ends this session alone.
func (s *Server) feed(log *slog.Logger, u *upload, p *live.Publisher) {
	defer close(u.over)
	defer func() {
		if fault := recover(); fault != nil {
			u.err = &ingest.Fault{Value: fault, Stack: debug.Stack()}
			log.Error("fault in ending a publisher", "fault", fault, "stack", string(debug.Stack()))
		}
	}()
	began := time.Now()
	u.summary, u.read, u.err = ingest.Run(u, p, s.config.Transcoders, ingest.Hooks{Paused: u.settle, Accept: s.accepts(u, p.ID())})
	s.publishers.leave(u.from)
	s.remember(p.ID(), u) // before who aborts hears of the end
	p.End(ending(u.err))
	logEnd(log, p, began, u.summary, u.err)
}

// ending is the kind of end that an error makes.
func ending(err error) live.Ending {
	switch {
	case err == nil, errors.Is(err, errReplaced):
		return live.Clean
	case errors.Is(err, live.ErrClosed), errors.Is(err, live.ErrAborted), errors.Is(err, tokens.ErrRevoked),
		errors.Is(err, ingest.ErrEmpty), errors.Is(err, transcode.ErrCapacity):
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
func endProblem(err error) *problem.Problem {
	var fault *ingest.Fault
	switch {
	case errors.Is(err, live.ErrTaken):
		return problem.New(http.StatusConflict, "somebody is publishing under this session id already").WithRetry()
	case errors.Is(err, errSettling), errors.Is(err, errCrowded):
		return problem.New(http.StatusConflict, err.Error()).WithRetry()
	case errors.Is(err, errGap):
		return problem.New(http.StatusRequestedRangeNotSatisfiable, err.Error())
	case errors.Is(err, live.ErrClosed), errors.Is(err, errFull), errors.Is(err, transcode.ErrCapacity):
		return problem.New(http.StatusServiceUnavailable, err.Error()).WithRetry()
	case errors.Is(err, live.ErrAborted), errors.Is(err, tokens.ErrRevoked):
		return problem.New(http.StatusGone, err.Error())
	case errors.Is(err, errIdle), errors.Is(err, errSilent):
		return problem.New(http.StatusRequestTimeout, err.Error())
	case errors.Is(err, ingest.ErrEmpty):
		return problem.New(http.StatusBadRequest, "the body is empty; send media in it")
	case errors.Is(err, ingest.ErrUnsupported):
		return problem.New(http.StatusUnsupportedMediaType, detail(err, ingest.ErrUnsupported))
	case errors.Is(err, ingest.ErrTranscoder):
		return problem.New(http.StatusInternalServerError, err.Error())
	case errors.As(err, &fault):
		return problem.New(http.StatusInternalServerError, "a fault of the server's ended the session; its log has more")
	default:
		return problem.New(http.StatusBadRequest, err.Error())
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
