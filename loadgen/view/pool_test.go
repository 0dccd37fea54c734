package view

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"tureen/fixtures"
	"tureen/loadgen/webm"
)

// watch runs viewers of a server until each has ended or want frames have arrived, and returns their events.
func watch(t *testing.T, url string, threads, viewers, want int) []Event {
	t.Helper()
	p, err := Start(threads, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	p.CapturePictures()
	address, err := net.ResolveTCPAddr("tcp", url)
	if err != nil {
		t.Fatal(err)
	}
	var joining []Viewer
	for i := range viewers {
		joining = append(joining, Viewer{ID: int32(i), Address: address, Host: url, Path: "/", Join: time.Duration(i) * time.Millisecond})
	}
	p.Join(joining)
	var stop sync.Once
	var stopping sync.WaitGroup
	defer stopping.Wait()
	var events []Event
	ended, frames := 0, 0
	for batch := range p.Events() {
		for _, e := range batch {
			if e.Type == Ended {
				ended++
			}
			if e.Type == Arrived {
				frames++
			}
			events = append(events, e)
		}
		p.Recycle(batch)
		if ended == viewers || want > 0 && frames >= want {
			stop.Do(func() { stopping.Go(p.Stop) })
		}
	}
	return events
}

func address(s *httptest.Server) string { return s.Listener.Addr().String() }

func TestPoolReportsWhatArrives(t *testing.T) {
	clip, err := fixtures.Open("webm-vp8-vorbis")
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := webm.Parse(clip.Data)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.Copy(w, bytes.NewReader(clip.Data))
	}))
	defer server.Close()
	const viewers = 5
	got := map[int32][]Event{}
	pictures := 0
	for _, e := range watch(t, address(server), 2, viewers, 0) {
		got[e.Viewer] = append(got[e.Viewer], e)
		if e.Detail != nil && e.Detail.Picture != nil {
			pictures++
			if webm.Hash(e.Detail.Picture) != e.Hash {
				t.Error("captured picture is not the frame's payload")
			}
		}
	}
	for viewer := range int32(viewers) {
		events := got[viewer]
		if len(events) != len(parsed.Frames)+3 {
			t.Fatalf("viewer %d: %d events for %d frames", viewer, len(events), len(parsed.Frames))
		}
		if events[0].Type != Connected || events[1].Type != Answered || events[1].Status != 200 {
			t.Errorf("viewer %d began with %+v", viewer, events[:2])
		}
		if last := events[len(events)-1]; last.Type != Ended || last.Reason != Finished {
			t.Errorf("viewer %d ended with %+v", viewer, last)
		}
		for i, f := range parsed.Frames {
			e := events[i+2]
			if e.Type != Arrived || e.Timestamp != f.Timestamp || e.Kind != f.Kind || int(e.Size) != f.Size || e.At < events[i+1].At {
				t.Errorf("viewer %d, frame %d: %+v, want %+v", viewer, i, e, f.Frame)
				break
			}
			if e.Hash != 0 && e.Hash != f.Hash {
				t.Errorf("viewer %d, frame %d: another payload", viewer, i)
			}
		}
	}
	if pictures == 0 {
		t.Error("no picture was captured")
	}
}

func TestPoolTellsWhyViewersEnd(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	tests := []struct {
		name    string
		handler http.HandlerFunc
		want    Reason
	}{
		{"nobody listens", nil, Unreached},
		{"hung up on", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, Unreached},
		{"refused", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", http.StatusForbidden) }, Refused},
		{"cut off", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte{0x1A, 0x45})
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, Broken},
		{"no WebM", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 10)) }, Unreadable},
		{"empty", func(http.ResponseWriter, *http.Request) {}, Finished},
		{"no HTTP", func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				panic(err)
			}
			fmt.Fprint(conn, "220 mail\r\n\r\n")
			_ = conn.Close()
		}, Unreadable},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server := closed
			if test.handler != nil {
				server = httptest.NewServer(test.handler)
				defer server.Close()
			}
			events := watch(t, address(server), 1, 1, 0)
			if last := events[len(events)-1]; last.Type != Ended || last.Reason != test.want {
				t.Errorf("ended with %+v, want %v", last, test.want)
			}
		})
	}
}

// A pool that is stopped leaves no viewer behind.
func TestPoolStops(t *testing.T) {
	clip, err := fixtures.Open("webm-vp8")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(clip.Data)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	defer server.Close()
	const viewers = 10
	ended := map[int32]Reason{}
	for _, e := range watch(t, address(server), 2, viewers, viewers*100) {
		if e.Type == Ended {
			ended[e.Viewer] = e.Reason
		}
	}
	for viewer, reason := range ended {
		if reason != Stopped {
			t.Errorf("viewer %d: %v", viewer, reason)
		}
	}
	if len(ended) == 0 {
		t.Error("no viewer was told to have ended")
	}
}
