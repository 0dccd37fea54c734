package api

import (
	"errors"
	"net/http"
	"time"

	"tureen/impl/access"
	"tureen/impl/problem"
	"tureen/impl/rtp"
	"tureen/impl/tokens"
)

// Token is one token as it is listed (API-3).
type Token struct {
	SessionID  string     `json:"sessionid"`
	Type       string     `json:"type"` // http or rtp-udp
	Host       *string    `json:"host"` // nil for http
	Port       *uint16    `json:"port"` // likewise
	InputTypes []string   `json:"input_types,omitempty"`
	Expires    *time.Time `json:"expires,omitempty"`
}

// tokensOf is a session's tokens: one per UDP client, and the one for HTTP.
func tokensOf(all []Token, g tokens.Grant) []Token {
	t := Token{SessionID: g.Session, Type: typeHTTP, InputTypes: g.InputTypes}
	if !g.Expires.IsZero() {
		t.Expires = &g.Expires
	}
	if g.HTTP {
		all = append(all, t)
	}
	t.Type = typeRTP
	for _, c := range g.Clients {
		t.Host, t.Port = &c.Host, &c.Port
		all = append(all, t)
	}
	return all
}

func (a *API) addToken(r *http.Request, v values) (status int, body any, refused *problem.Problem) {
	g, err := v.grant(time.Now())
	if err != nil {
		return 0, nil, problem.New(http.StatusBadRequest, err.Error())
	}
	ctx, cancel := bounded(r)
	defer cancel()
	for _, c := range g.Clients {
		if err := a.config.Resolve(ctx, c); err != nil {
			return 0, nil, unreachable(err)
		}
	}
	replaced, err := a.config.Tokens.Set(g)
	if err != nil {
		return 0, nil, a.unstored(err)
	}
	attrs := []any{
		"session", g.Session, "client", access.Client(r, a.config.Gate.Proxies), "replaced", replaced,
		"http", g.HTTP, "rtp", g.Clients, "input_types", g.InputTypes, "key", g.Key != tokens.Key{},
	}
	if !g.Expires.IsZero() {
		attrs = append(attrs, "expires", g.Expires)
	}
	a.config.Log.Info("token added", attrs...)
	if status = http.StatusCreated; replaced {
		status = http.StatusOK
	}
	return status, tokensOf(nil, g), nil
}

// unreachable answers a client that RTP can't or may not be sent to (TOK-5).
func unreachable(err error) *problem.Problem {
	status := http.StatusBadRequest
	if errors.Is(err, rtp.ErrForbidden) {
		status = http.StatusForbidden
	}
	return problem.New(status, "the parameter udp-clients: "+err.Error())
}

// unstored answers a change that couldn't be kept.
func (a *API) unstored(err error) *problem.Problem {
	a.config.Log.Error("tokens can't be kept", "error", err)
	return problem.New(http.StatusInternalServerError, "the token file can't be written, so nothing was changed; the server's log has more")
}

func (a *API) revokeToken(r *http.Request, v values) (status int, body any, refused *problem.Problem) {
	session, err := v.session()
	if err != nil {
		return 0, nil, problem.New(http.StatusBadRequest, err.Error())
	}
	g, err := a.config.Tokens.Revoke(session)
	switch {
	case errors.Is(err, tokens.ErrNone):
		return 0, nil, problem.New(http.StatusNotFound, "the session has no tokens")
	case err != nil:
		return 0, nil, a.unstored(err)
	}
	a.config.Log.Info("token revoked", "session", session, "client", access.Client(r, a.config.Gate.Proxies))
	return http.StatusOK, tokensOf(nil, g), nil
}

func (a *API) listTokens(*http.Request, values) (status int, body any, refused *problem.Problem) {
	all := []Token{} // as an empty array, not null
	for _, g := range a.config.Tokens.All() {
		all = tokensOf(all, g)
	}
	return http.StatusOK, all, nil
}
