package server

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"tureen/impl/ingest"
	"tureen/impl/live"
	"tureen/impl/media"
	"tureen/impl/rtp"
	"tureen/impl/tokens"
)

// BenchmarkListStreams lists a thousand streams, each with a token, over and
// over, while another one's pictures go out as fast as they can. It reports how
// long a list takes, and of the pictures' ways from the publisher to the place
// where viewers read them the median and the longest, beside the same without
// lists: a list must take no more than 20 ms, and hold no picture up.
func BenchmarkListStreams(b *testing.B) {
	s := New(Config{Idle: time.Minute, Grace: time.Minute, Budget: time.Second, Log: slog.New(slog.DiscardHandler)})
	const streams = 1000
	for i := range streams {
		benchStream(b, s, fmt.Sprintf("stream%d", i))
	}
	ask := func() *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1/api/list-streams", nil)
		r.RemoteAddr = "127.0.0.1:5"
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w
	}
	if w := ask(); w.Code != http.StatusOK || w.Body.Len() < streams*100 {
		b.Fatalf("%d %.200s", w.Code, w.Body)
	}
	items, stream := benchStream(b, s, "measured")
	began := time.Now()
	alone := benchMedia(items, stream, began, func() bool { return false })
	listing := make(chan []time.Duration)
	ctx, stop := context.WithCancel(b.Context())
	go func() { listing <- benchMedia(items, stream, began, func() bool { return ctx.Err() == nil }) }()
	var slowest time.Duration
	for b.Loop() {
		asked := time.Now()
		ask()
		slowest = max(slowest, time.Since(asked))
	}
	stop()
	beside := <-listing
	b.ReportMetric(float64(slowest.Microseconds())/1000, "slowest-ms")
	b.ReportMetric(float64(alone[len(alone)/2].Microseconds()), "picture-median-alone-µs")
	b.ReportMetric(float64(beside[len(beside)/2].Microseconds()), "picture-median-µs")
	b.ReportMetric(float64(alone[len(alone)-1].Microseconds()), "picture-longest-alone-µs")
	b.ReportMetric(float64(beside[len(beside)-1].Microseconds()), "picture-longest-µs")
}

// benchStream puts a stream on the air that has tokens.
func benchStream(b *testing.B, s *Server, id string) (chan<- media.Item, *live.Stream) {
	b.Helper()
	g := tokens.Grant{Session: id, HTTP: true, Clients: []rtp.Client{{Host: "127.0.0.1", Port: 5000}}}
	if _, err := s.tokens.Set(g); err != nil {
		b.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodPut, "/stream/"+id, nil)
	u := newUpload(r, s.address(r), time.Minute, &part{last: true})
	u.tracks.Store(&[]ingest.Track{{Kind: media.Video, InputCodec: "vp8", OutputCodec: "vp8", Mode: "passthrough", Reason: "it passes"}})
	p, err := s.registry.Take(b.Context(), id, u)
	if err != nil {
		b.Fatal(err)
	}
	items, ended := make(chan media.Item), make(chan struct{})
	go func() {
		defer close(ended)
		p.Run(items) // until the benchmark ends
		p.End(live.Ended)
	}()
	b.Cleanup(func() { <-ended })
	items <- media.Item{Tracks: []media.Track{{Kind: media.Video, Codec: media.VP8, Picture: media.Picture{Width: 640, Height: 360}}}}
	stream, _, err := s.registry.Watch(b.Context(), id, live.NoPreference)
	if err != nil {
		b.Fatal(err)
	}
	return items, stream
}

// benchMedia sends a thousand pictures or more, and tells how long each took,
// sorted.
func benchMedia(items chan<- media.Item, stream *live.Stream, began time.Time, more func() bool) (took []time.Duration) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for len(took) < 1000 || more() {
		<-tick.C
		tail, sent := stream.Tail(), time.Now()
		at := sent.Sub(began)
		items <- media.Item{Frame: media.Frame{Kind: media.Video, Key: true, Time: at, Sent: at, Duration: time.Millisecond, Payload: make([]byte, 1000)}}
		<-tail.Filled()
		took = append(took, time.Since(sent))
	}
	slices.Sort(took)
	return took
}
