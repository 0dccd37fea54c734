package view

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"tureen/fixtures"
	"tureen/loadgen/webm"
)

// webServer serves a handler by TLS or plain, with the protocols that net/http has.
func webServer(t *testing.T, secure bool, handler http.HandlerFunc) (*httptest.Server, *tls.Config) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // some viewers break off
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetHTTP2(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	if !secure {
		server.Start()
		t.Cleanup(server.Close)
		return server, nil
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return server, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
}

// watchWeb runs viewers until all have ended, and returns their events by viewer.
func watchWeb(t *testing.T, viewers []Viewer) map[int32][]Event {
	t.Helper()
	pool, err := Start(1, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pool.CapturePictures()
	pool.Join(viewers)
	got := map[int32][]Event{}
	ended := 0
	for batch := range pool.Events() {
		for _, e := range batch {
			got[e.Viewer] = append(got[e.Viewer], e)
			if e.Type == Ended {
				ended++
			}
		}
		pool.Recycle(batch)
		if ended == len(viewers) {
			ended = -1
			go pool.Stop()
		}
	}
	return got
}

func TestWebViewers(t *testing.T) {
	clip, err := fixtures.Open("webm-vp8-vorbis")
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := webm.Parse(clip.Data)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name          string
		secure, http2 bool
		proto         string
	}{
		{"HTTP/1.1 over TLS", true, false, "HTTP/1.1"},
		{"HTTP/2 over TLS", true, true, "HTTP/2.0"},
		{"HTTP/2 by prior knowledge", false, true, "HTTP/2.0"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server, trust := webServer(t, test.secure, func(w http.ResponseWriter, r *http.Request) {
				if r.Proto != test.proto || (r.TLS != nil) != test.secure || r.URL.Path != "/stream/a" {
					t.Errorf("%s %s, TLS %v", r.Proto, r.URL, r.TLS != nil)
				}
				_, _ = io.Copy(w, bytes.NewReader(clip.Data))
			})
			var viewers []Viewer
			for id := range int32(3) {
				viewers = append(viewers, Viewer{
					ID: id, Address: server.Listener.Addr().(*net.TCPAddr), Host: server.Listener.Addr().String(), Path: "/stream/a",
					Web: &Web{TLS: trust, HTTP2: test.http2},
				})
			}
			for id, events := range watchWeb(t, viewers) {
				if len(events) != len(parsed.Frames)+3 || events[0].Type != Connected || events[1].Status != 200 {
					t.Fatalf("viewer %d: %d events for %d frames, beginning with %+v", id, len(events), len(parsed.Frames), events[0])
				}
				if last := events[len(events)-1]; last.Type != Ended || last.Reason != Finished {
					t.Errorf("viewer %d ended with %+v", id, last)
				}
				if e := events[2]; e.Hash != parsed.Frames[0].Hash || e.Timestamp != parsed.Frames[0].Timestamp {
					t.Errorf("viewer %d: first frame %+v", id, e)
				}
			}
		})
	}
}

func TestWhyWebViewersEnd(t *testing.T) {
	tests := []struct {
		name    string
		handler http.HandlerFunc
		trusted bool
		want    Reason
	}{
		{"refused", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", http.StatusForbidden) }, true, Refused},
		{"cut off", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte{0x1A, 0x45})
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, true, Broken},
		{"no WebM", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 10)) }, true, Unreadable},
		{"not trusted", func(http.ResponseWriter, *http.Request) {}, false, Unreached},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server, trust := webServer(t, true, test.handler)
			if !test.trusted {
				trust.RootCAs = x509.NewCertPool()
			}
			events := watchWeb(t, []Viewer{{
				Address: server.Listener.Addr().(*net.TCPAddr), Host: server.Listener.Addr().String(), Path: "/", Web: &Web{TLS: trust, HTTP2: true},
			}})[0]
			last := events[len(events)-1]
			if last.Reason != test.want || last.Detail == nil {
				t.Errorf("ended as %v, want %v", last.Reason, test.want)
			}
		})
	}
}

// Viewers leave when they are to, whatever they speak, and those that stay are not disturbed.
func TestViewersLeave(t *testing.T) {
	gone := make(chan struct{}, 2)
	server, _ := webServer(t, false, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		gone <- struct{}{}
	})
	const stay = 200 * time.Millisecond
	at := Viewer{Address: server.Listener.Addr().(*net.TCPAddr), Host: server.Listener.Addr().String(), Path: "/", Leave: stay}
	plain, web := at, at
	plain.ID, web.ID, web.Web = 0, 1, &Web{HTTP2: true}
	for id, events := range watchWeb(t, []Viewer{plain, web}) {
		last := events[len(events)-1]
		if last.Type != Ended || last.Reason != Stopped || last.At < stay {
			t.Errorf("viewer %d ended with %+v", id, last)
		}
	}
	for range 2 {
		select {
		case <-gone:
		case <-time.After(10 * time.Second):
			t.Fatal("the server still has a viewer that has left")
		}
	}
}

// A pool that stops takes along viewers that haven't joined yet.
func TestStopBeforeAJoin(t *testing.T) {
	pool, err := Start(1, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pool.Join([]Viewer{{Join: time.Hour, Web: &Web{}}})
	go pool.Stop()
	var last Event
	for batch := range pool.Events() {
		last = batch[len(batch)-1]
	}
	if last.Type != Ended || last.Reason != Stopped || errors.Is(pool.web.Err(), context.DeadlineExceeded) {
		t.Errorf("ended with %+v", last)
	}
}
