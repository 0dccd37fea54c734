package server

import (
	"context"
	"time"

	"tureen/impl/api"
	"tureen/impl/ingest"
	"tureen/impl/live"
	"tureen/impl/media"
)

// streams is what is on the air, for the API. It holds no lock but the
// registry's, and that for as long as it takes to note what there is.
func (s *Server) streams() []api.Stream {
	all := s.registry.Snapshots()
	list := make([]api.Stream, len(all))
	for i, snapshot := range all {
		list[i] = overview(snapshot)
	}
	return list
}

func overview(s live.Snapshot) api.Stream {
	o := api.Stream{
		SessionID: s.ID, State: s.State.String(), Started: s.Started.UTC().Truncate(time.Millisecond),
		Viewers: s.Counts.Viewers.Load(), BytesIn: s.Counts.BytesIn.Load(), BytesOut: s.Counts.BytesOut.Load(),
		Tracks: []api.Track{},
	}
	u, ok := s.Source.(*upload)
	if !ok {
		return o
	}
	o.Publisher = *u.peer.Load()
	if tracks := u.tracks.Load(); tracks != nil {
		for _, t := range *tracks {
			o.Tracks = append(o.Tracks, trackOf(t, s.Tracks))
		}
	}
	return o
}

// trackOf joins what was made of a publisher's track with what viewers get.
func trackOf(t ingest.Track, output []media.Track) api.Track {
	joined := api.Track{Track: t}
	for _, o := range output {
		switch {
		case o.Kind != t.Kind:
		case o.Kind == media.Video:
			joined.Width, joined.Height = o.Picture.Width, o.Picture.Height
		default:
			joined.SampleRate, joined.Channels = o.SampleRate, o.Channels
		}
	}
	return joined
}

// abort ends a session for the API, and returns once it has ended.
func (s *Server) abort(ctx context.Context, session string) error {
	ended, err := s.registry.Abort(session, live.ErrAborted)
	if err != nil {
		return err
	}
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// features are the contract's, of those that this process has (API-9).
func features(config Config) []string {
	all := []string{
		"pacing", "wait", "content-range", "rtp-udp", "token-server", "input-types", "token-expiry", "publish-key", "latency",
	}
	if config.Grace > 0 {
		all = append(all, "resume")
	}
	if config.Transcoders.Available() {
		all = append(all, "transcode")
	}
	return all
}
