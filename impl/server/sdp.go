package server

import (
	"errors"
	"net/http"

	"tureen/impl/live"
	"tureen/impl/problem"
	"tureen/impl/rtp"
)

const sdpMethods = "GET, HEAD, OPTIONS"

// sdp serves /stream/{id}/sdp: how to receive what is sent of a session by RTP
// (RTP-5). Refusals come in the contract's order.
func (s *Server) sdp(w http.ResponseWriter, r *http.Request, id string) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodOptions {
		problem.New(http.StatusMethodNotAllowed, "the description of a stream's RTP is read by GET").Allowing(sdpMethods).Final(w, r)
		return
	}
	if !live.ValidID(id) {
		errSessionID.Final(w, r)
		return
	}
	if r.Method == http.MethodOptions {
		preflight(w, r, sdpMethods)
		return
	}
	if s.registry.Closed() {
		refuseViewer(w, r, live.ErrClosed)
		return
	}
	if err := s.tokens.Describe(id); err != nil {
		refuseViewer(w, r, err)
		return
	}
	client, err := asked(r)
	if err != nil {
		problem.New(http.StatusBadRequest, "parameter client: "+err.Error()).Final(w, r)
		return
	}
	description, err := s.describeRTP(id, client)
	if err != nil {
		problem.New(http.StatusNotFound, err.Error()).Final(w, r)
		return
	}
	problem.Unread(w, r)
	w.Header().Set("Content-Type", "application/sdp") // RFC 8866 §8.1
	w.Header().Set("Cache-Control", "no-store")
	w.Write(description) // the asker may be gone; of HEAD nothing is written
}

// asked is the client whose description a request is for; the zero Client
// leaves the choice.
func asked(r *http.Request) (c rtp.Client, err error) {
	if s := r.URL.Query().Get("client"); s != "" {
		return rtp.ParseClient(s)
	}
	return c, nil
}

var (
	errNoRTP    = errors.New("nothing of this session is sent by RTP: it needs a token of type rtp-udp, and a publisher")
	errNoClient = errors.New("that client is none of the session's; without the parameter client the first one is described")
)

// describeRTP is the description of a live session's RTP. The error is fit for
// who asked.
func (s *Server) describeRTP(id string, c rtp.Client) ([]byte, error) {
	if s.registry.State(id) != live.Live {
		return nil, errNoRTP
	}
	switch description, err := s.config.RTP.Describe(id, c); {
	case errors.Is(err, rtp.ErrNoClient):
		return nil, errNoClient
	case err != nil:
		return nil, errNoRTP
	default:
		return description, nil
	}
}
