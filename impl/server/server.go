// Package server is HTTP in front of the proxy: which request is whose, early
// answers that can be read, and what publishers and viewers are told. Media is
// left to packages ingest, live and watch.
package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"tureen/impl/access"
	"tureen/impl/api"
	"tureen/impl/live"
	"tureen/impl/problem"
	"tureen/impl/rtp"
	"tureen/impl/tokens"
	"tureen/impl/transcode"
	"tureen/impl/watch"
)

// Config is what an operator can set.
type Config struct {
	Idle   time.Duration // how long a publisher may send nothing
	Grace  time.Duration // how long a session waits for a publisher that broke off
	Budget time.Duration // how far a viewer may fall behind
	Drain  time.Duration // how long the end takes at most; the caller sees to it
	Log    *slog.Logger

	// Transcoders turn into VP8 and Vorbis what isn't; nil when there are none.
	// Who made them closes them.
	Transcoders *transcode.Pool

	Publishers Limits
	Viewers    Limits

	// RTP sends the streams to their sessions' clients, which tokens tell it;
	// nil sends nothing.
	RTP *rtp.Sender

	// Tokens are what sessions were given; nil is a table in memory, where none
	// are required.
	Tokens *tokens.Table
	Access access.Gate // who may call the API
}

// Bounds on what a client holds without sending media (SRV-2).
const (
	headerTimeout = 8 * time.Second // the contract's 10 s less what a busy machine adds
	// idleTimeout is for HTTP/2, too, whose headers only it bounds.
	idleTimeout = 10 * time.Second
	// pingAfter is how long nothing may come over HTTP/2 until the client is
	// asked whether it is there.
	pingAfter = 15 * time.Second
	// headerBytes leaves room for the 4 KiB that net/http adds of its own.
	headerBytes = 60 << 10
)

// Server serves the proxy's HTTP.
type Server struct {
	config   Config
	registry *live.Registry
	tokens   *tokens.Table
	api      *api.API
	fanout   *watch.Fanout

	untold     sync.Map // by session id, uploads that were aborted between two parts
	publishers *seats
	viewers    *seats
}

// New makes a server without any session.
func New(config Config) *Server {
	if config.RTP == nil {
		config.RTP = rtp.NewSender(nil, 0, config.Log)
	}
	if config.Tokens == nil {
		config.Tokens = tokens.New(false)
	}
	s := &Server{
		config:   config,
		registry: live.NewRegistry(config.Grace),
		tokens:   config.Tokens,
		fanout:   watch.NewFanout(config.Budget, config.Log),

		publishers: newSeats(config.Publishers),
		viewers:    newSeats(config.Viewers),
	}
	s.registry.Observe(config.RTP.Observe)
	s.api = api.New(api.Config{
		Gate: config.Access, Tokens: s.tokens, Log: config.Log,
		Resolve: func(ctx context.Context, c rtp.Client) error {
			_, err := config.RTP.Resolve(ctx, c)
			return err
		},
		Streams: s.streams, Abort: s.abort,
		Features: features(config),
		Times: map[string]time.Duration{
			"idle": config.Idle, "grace": config.Grace, "budget": config.Budget, "drain": config.Drain,
		},
	})
	s.tokens.Follow(s.granted)
	return s
}

// granted has a change of a session's tokens take effect on what is on the air.
// Viewers that are there, and a publisher, hear of it themselves.
func (s *Server) granted(session string, now tokens.Grant) {
	s.config.RTP.Set(session, now.Clients)
	if now.None() && s.tokens.Required() {
		s.registry.Abort(session, tokens.ErrRevoked) // fails only when there is nothing on the air
	}
}

// HTTP is the server for net/http, with its bounds set. Its listeners must be
// those of problem.Listen or ListenTLS.
func (s *Server) HTTP() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true) // over TLS only
	return &http.Server{
		Handler:                      s,
		ReadHeaderTimeout:            headerTimeout,
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               headerBytes,
		Protocols:                    protocols,
		HTTP2:                        &http.HTTP2Config{SendPingTimeout: pingAfter, WriteByteTimeout: s.fanout.Patience()},
		ConnContext:                  s.connected,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(s.config.Log.Handler(), slog.LevelDebug),
	}
}

// connected bounds what the kernel holds for a new connection.
func (s *Server) connected(ctx context.Context, conn net.Conn) context.Context {
	if secure, ok := conn.(interface{ NetConn() net.Conn }); ok { // of TLS
		conn = secure.NetConn()
	}
	tcp, ok := tcpOf(conn)
	if !ok {
		s.config.Log.Warn("a connection isn't TCP: what the kernel holds for it is not bounded", "client", conn.RemoteAddr())
		return ctx
	}
	if err := watch.Bound(tcp); err != nil {
		s.config.Log.Debug("connection lost at once", "client", conn.RemoteAddr(), "error", err)
	}
	return ctx
}

// tcpOf is what a plain connection consists of.
func tcpOf(conn net.Conn) (tcp *net.TCPConn, ok bool) {
	if worded, ok := conn.(*problem.Conn); ok {
		return worded.TCPConn, true
	}
	tcp, ok = conn.(*net.TCPConn)
	return tcp, ok
}

// Drain ends all sessions, publishers with 503 and viewers' bodies as whole
// ones, and takes nobody any more.
func (s *Server) Drain() { s.registry.Close() }

// Wait returns once the viewers whose connections net/http doesn't know of any
// more have gone, and RTP clients have got their farewell, or with the context's
// error.
func (s *Server) Wait(ctx context.Context) error {
	return errors.Join(s.fanout.Wait(ctx), s.config.RTP.Wait(ctx))
}

// ServeHTTP serves one request. A fault in serving it ends that request alone,
// with a line in the log.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		fault := recover()
		if fault == nil {
			return
		}
		if fault != http.ErrAbortHandler {
			s.config.Log.Error("fault in serving a request", "method", r.Method, "path", r.URL.EscapedPath(),
				"client", r.RemoteAddr, "fault", fault, "stack", string(debug.Stack()))
		}
		panic(http.ErrAbortHandler) // so that the answer doesn't read as whole
	}()
	if ambiguous(r) {
		w.Header().Set("Connection", "close")
	}
	s.route(w, r)
}

// ambiguous reports whether others may read where a request ends in another way:
// it is in chunks, and net/http hides whether it states a length, too; or it is
// of HTTP/1.0, which has no chunks, and net/http hides whether it claims some.
// What follows on its connection must not be taken for a request (RFC 9112
// §6.1).
func ambiguous(r *http.Request) bool {
	return r.ProtoMajor == 1 && (r.ProtoMinor == 0 || len(r.TransferEncoding) > 0)
}

// route goes by the path as it was sent, cut at its slashes: net/http's own mux
// would answer with redirects and plain text, and see through encoded slashes.
func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	path := segments(r)
	if len(path) > 1 && path[0] == "stream" {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("Access-Control-Expose-Headers", "Retry-After, Preference-Applied")
	}
	switch {
	case path[0] == "api":
		s.api.Serve(w, r, path[1:])
	case path[0] == "stream" && len(path) == 2:
		s.stream(w, r, path[1])
	case path[0] == "stream" && len(path) == 3 && path[2] == "sdp":
		s.sdp(w, r, path[1])
	case path[0] == "healthz" && len(path) == 1:
		s.health(w, r)
	default:
		problem.New(http.StatusNotFound, "there is nothing at this path; streams are at /stream/{session id}").Final(w, r)
	}
}

// segments are the parts of a path between its slashes, each decoded; there is
// at least one.
func segments(r *http.Request) []string {
	path := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	for i, segment := range path {
		if decoded, err := url.PathUnescape(segment); err == nil {
			path[i] = decoded
		}
	}
	return path
}

const streamMethods = "GET, HEAD, POST, PUT, OPTIONS"

var errSessionID = problem.New(http.StatusBadRequest, "a session id has "+live.IDForm)

// stream serves /stream/{id}. Refusals come in the contract's order.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, id string) {
	var serve func(http.ResponseWriter, *http.Request, string)
	switch r.Method {
	case http.MethodPut, http.MethodPost:
		serve = s.publish
	case http.MethodGet, http.MethodHead:
		serve = s.watch
	case http.MethodOptions:
		serve = func(w http.ResponseWriter, r *http.Request, _ string) { preflight(w, r, streamMethods) }
	default:
		problem.New(http.StatusMethodNotAllowed, "a stream is published by PUT or POST and watched by GET").
			Allowing(streamMethods).Final(w, r)
		return
	}
	if !live.ValidID(id) {
		errSessionID.Final(w, r)
		return
	}
	serve(w, r, id)
}

// preflight answers a browser that asks whether it may (WAT-13).
func preflight(w http.ResponseWriter, r *http.Request, methods string) {
	problem.Unread(w, r)
	h := w.Header()
	h.Set("Allow", methods)
	h.Set("Access-Control-Allow-Methods", methods)
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Range, Content-Type, Prefer, Range")
	h.Set("Access-Control-Max-Age", "86400")
	w.WriteHeader(http.StatusNoContent)
}

// health answers container engines and load balancers.
func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		problem.New(http.StatusMethodNotAllowed, "health is asked by GET").Allowing("GET, HEAD").Final(w, r)
		return
	}
	problem.Unread(w, r)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Write([]byte("ok\n")) // the asker may be gone
}

// detached is a request's context without its end where that may be mistaken:
// net/http takes an HTTP/1 client that closes its half of the connection, as it
// may once it has sent all, for one that has left.
func detached(r *http.Request) context.Context {
	if r.ProtoMajor == 1 {
		return context.WithoutCancel(r.Context())
	}
	return r.Context()
}
