package api

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"tureen/impl/access"
	"tureen/impl/ingest"
	"tureen/impl/live"
	"tureen/impl/problem"
)

// Stream is one stream as it is listed (API-4).
type Stream struct {
	SessionID string    `json:"sessionid"`
	State     string    `json:"state"` // live or waiting
	Started   time.Time `json:"started"`
	Publisher string    `json:"publisher"` // its last host:port
	Tracks    []Track   `json:"tracks"`
	Viewers   int64     `json:"viewers"`
	BytesIn   int64     `json:"bytes_in"`  // of publishers' bodies
	BytesOut  int64     `json:"bytes_out"` // of viewers' bodies
	RTP       []string  `json:"rtp"`       // each host:port
}

// Track is one of a stream's tracks: what becomes of the publisher's (FMT-5),
// and what viewers get.
type Track struct {
	ingest.Track
	Width      int     `json:"width,omitempty"`       // of video, in pixels
	Height     int     `json:"height,omitempty"`      // likewise
	SampleRate float64 `json:"sample_rate,omitempty"` // of audio, in Hz
	Channels   int     `json:"channels,omitempty"`    // likewise
}

func (a *API) listStreams(*http.Request, values) (status int, body any, refused *problem.Problem) {
	all := append([]Stream{}, a.config.Streams()...) // an empty array, not null
	for i := range all {
		all[i].RTP = []string{}
		g, _ := a.config.Tokens.Get(all[i].SessionID)
		for _, c := range g.Clients {
			all[i].RTP = append(all[i].RTP, c.String())
		}
	}
	slices.SortFunc(all, func(a, b Stream) int { return strings.Compare(a.SessionID, b.SessionID) })
	return http.StatusOK, all, nil
}

// Aborted is what abort-stream answers.
type Aborted struct {
	SessionID string `json:"sessionid"`
}

func (a *API) abortStream(r *http.Request, v values) (status int, body any, refused *problem.Problem) {
	session, err := v.session()
	if err != nil {
		return 0, nil, problem.New(http.StatusBadRequest, err.Error())
	}
	ctx, cancel := bounded(r)
	defer cancel()
	switch err := a.config.Abort(ctx, session); {
	case errors.Is(err, live.ErrAbsent):
		return 0, nil, problem.New(http.StatusNotFound, err.Error())
	case err != nil:
		return 0, nil, problem.New(http.StatusInternalServerError, "the stream is told to end, and hasn't yet: "+err.Error())
	}
	a.config.Log.Info("stream aborted", "session", session, "client", access.Client(r, a.config.Gate.Proxies))
	return http.StatusOK, Aborted{session}, nil
}
