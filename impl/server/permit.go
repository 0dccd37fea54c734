package server

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"tureen/impl/ingest"
	"tureen/impl/problem"
	"tureen/impl/tokens"
)

// challenge asks a publisher for its key (RFC 6750 §3).
const challenge = `Bearer realm="tureen"`

// deny answers who may not publish or watch.
func deny(err error, r *http.Request) *problem.Problem {
	switch {
	case !errors.Is(err, tokens.ErrKey):
		return problem.New(http.StatusForbidden, err.Error())
	case r.Header.Get("Authorization") == "":
		return problem.New(http.StatusUnauthorized, err.Error()+"; send Authorization: Bearer KEY").Asking(challenge)
	}
	return problem.New(http.StatusUnauthorized, "the publish key is wrong, or not sent as Authorization: Bearer KEY").
		Asking(challenge + `, error="invalid_token"`)
}

// bearer is the key that a request bears (RFC 6750 §2.1); "" without one.
func bearer(r *http.Request) string {
	fields := r.Header.Values("Authorization")
	if len(fields) != 1 {
		return ""
	}
	scheme, key, _ := strings.Cut(fields[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimLeft(key, " ")
}

// accepts judges what a publisher's body turns out to be (TOK-6) by the token
// that the session has then, and keeps its tracks for who asks.
func (s *Server) accepts(u *upload, id string) func(string, []ingest.Track) error {
	return func(mediaType string, tracks []ingest.Track) error {
		if g, ok := s.tokens.Get(id); ok && len(g.InputTypes) > 0 && !slices.Contains(g.InputTypes, mediaType) {
			return fmt.Errorf("%w: it is %s, and the session's token allows %s alone",
				ingest.ErrUnsupported, mediaType, strings.Join(g.InputTypes, ", "))
		}
		tracks = slices.Clone(tracks)
		u.tracks.Store(&tracks)
		return nil
	}
}
