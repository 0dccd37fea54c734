package publish

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tureen/fixtures"
)

// short is a fixture's first half second, to be sent once.
func short(t *testing.T) *Source {
	t.Helper()
	clip, err := fixtures.Open("mpegts")
	if err != nil {
		t.Fatal(err)
	}
	cut := *clip
	for i, f := range clip.Frames {
		if f.PTS-clip.Frames[0].PTS > 500*time.Millisecond {
			cut.Frames, cut.Data = clip.Frames[:i], clip.Data[:clip.Frames[i-1].End]
			break
		}
	}
	s, err := Once(&cut)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func dialTest(t *testing.T, source *Source, handler http.HandlerFunc) (*Publisher, error) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	address := strings.TrimPrefix(server.URL, "http://")
	p, err := Dial(t.Context(), Config{Address: address, Host: address, Path: "/stream/x", Source: source})
	if err == nil {
		t.Cleanup(func() { _ = p.Close() })
	}
	return p, err
}

func TestPublishesInRealTime(t *testing.T) {
	source := short(t)
	got := make(chan []byte, 1)
	p, err := dialTest(t, source, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPut || r.URL.Path != "/stream/x" || r.Header.Get("Content-Type") != "video/mp2t" {
			t.Errorf("%s %s %v: %v", r.Method, r.URL, r.Header, err)
		}
		got <- body
		_, _ = io.WriteString(w, "summary")
	})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	answer, err := p.Run(t.Context(), begin)
	took := time.Since(begin)
	if err != nil || answer.Status != http.StatusOK || answer.Body != "summary" {
		t.Fatalf("answer %+v, error %v", answer, err)
	}
	if body := <-got; !bytes.Equal(body, source.data) {
		t.Errorf("%d bytes arrived of %d", len(body), len(source.data))
	}
	if end, _ := source.End(); took < end {
		t.Errorf("sent in %v what lasts %v", took, end)
	}
	stats := p.Stats()
	if stats.Bytes != int64(len(source.data)) || stats.Frames == 0 || stats.Lag.TotalCount() != stats.Frames {
		t.Errorf("stats %+v", stats)
	}
}

func TestRefusalBeforeTheBody(t *testing.T) {
	_, err := dialTest(t, short(t), func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "taken", http.StatusConflict)
	})
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Status != http.StatusConflict || !strings.Contains(err.Error(), "taken") {
		t.Errorf("error %v, want the refusal", err)
	}
}

func TestAnswerBeforeTheBodysEnd(t *testing.T) {
	p, err := dialTest(t, openSource(t, "webm-load"), func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		_, _ = io.ReadFull(r.Body, make([]byte, 1000))
		http.Error(w, "what is this", http.StatusUnsupportedMediaType)
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Run(t.Context(), time.Now())
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Status != http.StatusUnsupportedMediaType {
		t.Errorf("error %v, want the answer 415", err)
	}
}

func TestContextEndsTheBodyCleanly(t *testing.T) {
	clean := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	p, err := dialTest(t, openSource(t, "webm-load"), func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadFull(r.Body, make([]byte, 50_000))
		cancel()
		if err == nil {
			_, err = io.Copy(io.Discard, r.Body)
		}
		clean <- err
	})
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := p.Run(ctx, time.Now()); err != nil || answer.Status != http.StatusOK {
		t.Errorf("answer %+v, error %v", answer, err)
	}
	if err := <-clean; err != nil {
		t.Errorf("body ended with %v", err)
	}
}

func TestLostConnection(t *testing.T) {
	p, err := dialTest(t, openSource(t, "webm-load"), func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadFull(r.Body, make([]byte, 1000))
		panic(http.ErrAbortHandler)
	})
	if err != nil {
		t.Fatal(err)
	}
	var refused *RefusedError
	if _, err := p.Run(t.Context(), time.Now()); err == nil || errors.As(err, &refused) {
		t.Errorf("error %v, want that of a lost connection", err)
	}
}

// The schedule stays where it is when a target stalls, and the stall isn't taken for the generator's own lag.
func TestStallDoesNotMoveTheSchedule(t *testing.T) {
	const stall = 300 * time.Millisecond
	source := short(t)
	conn, target := net.Pipe() // without buffers, so that a stalled reader stalls the writer
	p := &Publisher{cfg: Config{Source: source}, conn: conn, answers: make(chan answer)}
	p.stats.Lag, p.stats.Stall = NewHistogram(), NewHistogram()
	go func() {
		time.Sleep(stall)
		_, _ = io.Copy(io.Discard, target)
	}()
	begin := time.Now()
	if err := p.send(t.Context(), begin); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin)
	_ = conn.Close()
	if end, _ := source.End(); took > end+stall/2 {
		t.Errorf("took %v for what lasts %v: the stall moved the schedule", took, end)
	}
	stats := p.Stats()
	if got := time.Duration(stats.Stall.Max()) * time.Microsecond; got < stall-50*time.Millisecond {
		t.Errorf("longest write %v, want %v", got, stall)
	}
	if got := time.Duration(stats.Lag.Max()) * time.Microsecond; got > stall/2 {
		t.Errorf("own lag %v during the target's stall", got)
	}
}
