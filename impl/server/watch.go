package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"tureen/impl/live"
	"tureen/impl/problem"
	"tureen/impl/tokens"
)

// maxWait is the longest that a viewer may ask to be held by Prefer: wait (WAT-10).
const maxWait = 60 // seconds

var errAbsent = problem.New(http.StatusNotFound, "nothing is published under this session id; with Prefer: wait=N the answer waits up to N seconds for it")

// watch serves GET and HEAD.
func (s *Server) watch(w http.ResponseWriter, r *http.Request, id string) {
	problem.Unread(w, r)
	permit, denied := s.tokens.Watch(id)
	switch {
	case s.registry.Closed():
		refuseViewer(w, r, live.ErrClosed)
		return
	case denied != nil:
		refuseViewer(w, r, denied)
		return
	case r.Method == http.MethodHead:
		s.head(w, r, id)
		return
	}
	wait, from := prefersWait(r.Header), s.address(r)
	if !s.viewers.take(from) {
		refuseViewer(w, r, s.full(id, wait))
		return
	}
	kept := false
	defer func() {
		if !kept {
			s.viewers.leave(from)
		}
	}()
	stream, slot, err := s.await(permit, r, id, wait)
	if err != nil {
		refuseViewer(w, r, err)
		return
	}
	if wait != live.NoPreference {
		w.Header().Set("Preference-Applied", fmt.Sprintf("wait=%d", int(wait.Seconds())))
	}
	s.describe(w.Header(), stream)
	if r.ProtoMajor == 1 && r.TLS == nil {
		err = s.hijack(permit, w, r, stream, slot, func() { s.viewers.leave(from) })
		kept = err == nil
	} else {
		err = s.fanout.Serve(detached(r), permit, w, stream, slot)
	}
	if err != nil {
		s.config.Log.Debug("viewer broke off", "session", id, "viewer", r.RemoteAddr, "error", err)
		panic(http.ErrAbortHandler) // so that the body doesn't read as whole
	}
}

// await finds a viewer's stream, while it may watch.
func (s *Server) await(permit context.Context, r *http.Request, id string, wait time.Duration) (*live.Stream, *live.Slot, error) {
	ctx, cancel := context.WithCancelCause(detached(r))
	defer cancel(nil)
	defer context.AfterFunc(permit, func() { cancel(context.Cause(permit)) })()
	return s.registry.Watch(ctx, id, wait)
}

// full is why a viewer is refused for whom there is no seat.
func (s *Server) full(id string, wait time.Duration) error {
	switch {
	case s.registry.Closed():
		return live.ErrClosed
	case wait <= 0 && s.registry.State(id) == live.Absent:
		return live.ErrAbsent
	}
	return errFull
}

// refuseViewer answers a viewer who gets no stream.
func refuseViewer(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, live.ErrAbsent):
		errAbsent.Final(w, r)
	case errors.Is(err, tokens.ErrForbidden), errors.Is(err, tokens.ErrRevoked):
		deny(err, r).Final(w, r)
	case errors.Is(err, live.ErrClosed), errors.Is(err, errFull):
		problem.New(http.StatusServiceUnavailable, err.Error()).WithRetry().Final(w, r)
	default:
		panic(http.ErrAbortHandler) // the viewer has left; nothing may read as an answer
	}
}

// head answers as GET would, but never waits (WAT-10, WAT-12).
func (s *Server) head(w http.ResponseWriter, r *http.Request, id string) {
	stream, err := s.registry.Peek(id)
	if err != nil {
		refuseViewer(w, r, err)
		return
	}
	s.describe(w.Header(), stream)
	w.WriteHeader(http.StatusOK)
}

// describe sets the header fields of a viewer's answer (WAT-1).
func (s *Server) describe(h http.Header, stream *live.Stream) {
	h.Set("Content-Type", "audio/webm")
	if stream.Video() {
		h.Set("Content-Type", "video/webm")
	}
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
}

// hijack hands the connection of plain HTTP/1 over to the fan-out, so that
// net/http keeps neither a goroutine nor buffers for the viewer. Without an
// error gone is called when the viewer has gone.
func (s *Server) hijack(
	permit context.Context, w http.ResponseWriter, r *http.Request, stream *live.Stream, slot *live.Slot, gone func(),
) error {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return fmt.Errorf("take the connection over: %w", err)
	}
	tcp, ok := tcpOf(conn)
	if !ok {
		conn.Close()
		return fmt.Errorf("a viewer's connection is a %T, not TCP", conn)
	}
	chunked := r.ProtoAtLeast(1, 1)
	if err := s.fanout.Take(permit, tcp, response(w.Header(), chunked), chunked, stream, slot, gone); err != nil {
		conn.Close()
		return err
	}
	return nil
}

// response is the head of a hijacked answer.
func response(h http.Header, chunked bool) []byte {
	h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	h.Set("Connection", "close")
	if chunked {
		h.Set("Transfer-Encoding", "chunked")
	}
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 200 OK\r\n")
	h.Write(&b) // into memory: it can't fail
	b.WriteString("\r\n")
	return b.Bytes()
}

// prefersWait reads Prefer: wait=N (RFC 7240 §4.3). What is malformed is ignored.
func prefersWait(h http.Header) time.Duration {
	for _, line := range h.Values("Prefer") {
		for _, preference := range strings.Split(line, ",") {
			preference, _, _ = strings.Cut(preference, ";") // its parameters
			name, value, _ := strings.Cut(preference, "=")
			if !strings.EqualFold(strings.TrimSpace(name), "wait") {
				continue
			}
			seconds, err := strconv.ParseUint(unquote(strings.TrimSpace(value)), 10, 64)
			if err != nil && !errors.Is(err, strconv.ErrRange) {
				continue
			}
			return time.Duration(min(seconds, maxWait)) * time.Second
		}
	}
	return live.NoPreference
}

// unquote takes a quoted string's quotes off (RFC 7240 §2 allows both forms).
func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}
