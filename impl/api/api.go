// Package api is the REST calls under /api/: who may call, what a call's
// parameters must be, and the documents that answer. Tokens are kept by package
// tokens; what is on the air is asked of the server that the calls are part of.
package api

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"tureen/impl/access"
	"tureen/impl/problem"
	"tureen/impl/rtp"
	"tureen/impl/tokens"
)

// Config is what the calls need.
type Config struct {
	Gate   access.Gate
	Tokens *tokens.Table
	// Resolve judges where RTP is to be sent. The error is rtp.ErrForbidden,
	// rtp.ErrUnresolved or the context's.
	Resolve func(context.Context, rtp.Client) error
	// Streams is what is on the air, in any order.
	Streams func() []Stream
	// Abort ends a session and waits for its end. The error is live.ErrAbsent or
	// the context's.
	Abort func(ctx context.Context, session string) error
	Log   *slog.Logger

	// What the description states of the implementation (API-9).
	Features []string
	Times    map[string]time.Duration
}

// API serves the calls.
type API struct {
	config      Config
	description []byte // openapi.json, as it is sent
}

// New makes the calls ready.
func New(config Config) *API {
	return &API{config: config, description: describe(config.Features, config.Times)}
}

// call is one of the calls. A call that is made by GET answers HEAD as well.
type call struct {
	method     string
	parameters []parameter
	serve      func(*API, *http.Request, values) (status int, body any, err *problem.Problem)
}

// calls are all of them, by what follows /api/ in their paths.
var calls = map[string]call{
	"add-token": {http.MethodPost, []parameter{
		{name: "type", required: true},
		{name: "sessionid", required: true},
		{name: "udp-clients"},
		{name: "input-types"},
		{name: "ttl"},
		{name: "publish-key"},
	}, (*API).addToken},
	"revoke-token": {http.MethodDelete, []parameter{{name: "sessionid", required: true}}, (*API).revokeToken},
	"list-tokens":  {http.MethodGet, nil, (*API).listTokens},
	"list-streams": {http.MethodGet, nil, (*API).listStreams},
	"abort-stream": {http.MethodDelete, []parameter{{name: "sessionid", required: true}}, (*API).abortStream},
	"openapi.json": {http.MethodGet, nil, (*API).describeItself},
}

// allow is the methods of a call, as Allow lists them.
func (c call) allow() string {
	if c.method == http.MethodGet {
		return "GET, HEAD"
	}
	return c.method
}

// takes reports whether a request's method is the call's.
func (c call) takes(method string) bool {
	return method == c.method || c.method == http.MethodGet && method == http.MethodHead
}

// Serve answers a request for a path under /api/, of which the decoded segments
// that follow are given. Who may not call learns nothing more (TOK-1).
func (a *API) Serve(w http.ResponseWriter, r *http.Request, path []string) {
	if err := a.config.Gate.Check(r); err != nil {
		a.config.Log.Debug("API call refused", "client", access.Client(r, a.config.Gate.Proxies), "host", r.Host, "reason", err)
		problem.New(http.StatusForbidden, err.Error()).Final(w, r)
		return
	}
	status, body, refused := a.answer(r, path)
	if refused != nil {
		refused.Final(w, r)
		return
	}
	problem.Unread(w, r)
	send(w, r, status, body)
}

// patience is how long a call may take.
const patience = 5 * time.Second

// bounded is a context for what a call waits for. A client that closes its half
// of the connection, as it may, doesn't end it.
func bounded(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(r.Context()), patience)
}

func (a *API) answer(r *http.Request, path []string) (status int, body any, refused *problem.Problem) {
	name := ""
	if len(path) == 1 {
		name = path[0]
	}
	c, ok := calls[name]
	switch {
	case !ok:
		return 0, nil, problem.New(http.StatusNotFound, "there is no such call; /api/openapi.json describes those there are")
	case !c.takes(r.Method):
		return 0, nil, problem.New(http.StatusMethodNotAllowed, name+" is called by "+c.method).Allowing(c.allow())
	}
	values, err := parse(r.URL.RawQuery, c.parameters)
	if err != nil {
		return 0, nil, problem.New(http.StatusBadRequest, err.Error())
	}
	return c.serve(a, r, values)
}

// send answers with a document of JSON.
func send(w http.ResponseWriter, r *http.Request, status int, body any) {
	b, ok := body.([]byte)
	if !ok {
		var buffer bytes.Buffer
		encoder := json.NewEncoder(&buffer)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(body); err != nil {
			panic(err) // the documents below have fields that can be encoded
		}
		b = buffer.Bytes()
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		w.Write(b) // the client may be gone
	}
}
