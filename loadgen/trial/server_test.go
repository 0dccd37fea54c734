package trial

import (
	"bytes"
	"context"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"tureen/loadgen/webm"
)

// server is a small live server with faults to order: what is PUT goes to every GET, late ones get the head and what has
// come since the newest key frame.
type server struct {
	// onFrame returns how often a viewer is sent a frame, after what delay; nil sends it once, at once. Frames are counted
	// from 0 for each viewer, in what it is sent live.
	onFrame func(viewer, n int, f webm.Frame) (times int, delay time.Duration)
	// onWatch may answer a viewer itself.
	onWatch func(viewer int, w http.ResponseWriter) (answered bool)
	// breakAfter breaks a viewer's body after that many frames; 0 doesn't.
	breakAfter int
	// as has frames sent on as frames of this clip, number by number: what a transcoder makes of a stamped clip in another
	// format.
	as *webm.Clip
	// failAfter ends the publisher with 500 after that many frames; 0 doesn't.
	failAfter int

	mu      sync.Mutex
	head    []byte
	recent  []unit // since the newest key frame
	viewers map[int]chan unit
	count   int

	protocols []string // of viewers' requests, by TLS
}

// unit is the bytes that end with a frame's last one.
type unit struct {
	data  []byte
	frame webm.Frame
}

func serve(t *testing.T, s *server) string {
	t.Helper()
	s.viewers = map[int]chan unit{}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /stream/{id}", s.publish)
	mux.HandleFunc("GET /stream/{id}", s.watch)
	listening := httptest.NewServer(mux)
	t.Cleanup(listening.Close)
	return listening.URL
}

var clusterID = []byte{0x1F, 0x43, 0xB6, 0x75}

func (s *server) publish(w http.ResponseWriter, r *http.Request) {
	defer s.end()
	var scanner webm.Scanner
	var data []byte
	transcode := s.transcoder()
	buf := make([]byte, 16<<10)
	for frames := 0; ; {
		n, err := r.Body.Read(buf)
		for p := buf[:n]; len(p) > 0; {
			used, complete, scanErr := scanner.Next(p)
			if scanErr != nil {
				http.Error(w, scanErr.Error(), http.StatusBadRequest)
				return
			}
			data = append(data, p[:used]...)
			p = p[used:]
			if complete {
				s.send(transcode(unit{data, scanner.Frame}))
				data = nil
				frames++
			}
		}
		if err == io.EOF {
			return
		}
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		if s.failAfter > 0 && frames >= s.failAfter {
			http.Error(w, "out of order", http.StatusInternalServerError)
			return
		}
	}
}

// transcoder returns what makes frames of another clip of frames, or leaves them as they are.
func (s *server) transcoder() func(u unit) unit {
	if s.as == nil {
		return func(u unit) unit { return u }
	}
	clips := map[webm.Kind][]*webm.ClipFrame{}
	for i := range s.as.Frames {
		f := &s.as.Frames[i]
		clips[f.Kind] = append(clips[f.Kind], f)
	}
	writer := webm.NewWriter(s.as)
	count := map[webm.Kind]int{}
	return func(u unit) unit {
		frames := clips[u.frame.Kind]
		f := frames[count[u.frame.Kind]%len(frames)]
		count[u.frame.Kind]++
		frame := f.Frame
		frame.Timestamp = u.frame.Timestamp
		return unit{writer.Append(nil, f, frame.Timestamp), frame}
	}
}

func (s *server) send(u unit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := bytes.Index(u.data, clusterID); s.head == nil {
		s.head, u.data = u.data[:at], u.data[at:]
	}
	if u.frame.Kind == webm.Video && u.frame.Key {
		s.recent = nil
	}
	s.recent = append(s.recent, u)
	for _, viewer := range s.viewers {
		viewer <- u
	}
}

func (s *server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, viewer := range s.viewers {
		close(viewer)
		delete(s.viewers, id)
	}
}

func (s *server) join() (id int, replay []unit, live chan unit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id = s.count
	s.count++
	live = make(chan unit, 10_000)
	s.viewers[id] = live
	return id, append([]unit{{data: s.head}}, s.recent...), live
}

func (s *server) watch(w http.ResponseWriter, r *http.Request) {
	id, replay, live := s.join()
	if s.onWatch != nil && s.onWatch(id, w) {
		return
	}
	w.Header().Set("Content-Type", "video/webm")
	for _, u := range replay {
		_, _ = w.Write(u.data)
	}
	_ = http.NewResponseController(w).Flush()
	for n := 0; ; n++ {
		u, ok := next(r.Context(), live)
		if !ok {
			return
		}
		if s.breakAfter > 0 && n >= s.breakAfter {
			panic(http.ErrAbortHandler)
		}
		s.write(w, id, n, u)
	}
}

func next(ctx context.Context, live chan unit) (unit, bool) {
	select {
	case u, ok := <-live:
		return u, ok
	case <-ctx.Done():
		return unit{}, false
	}
}

func (s *server) write(w http.ResponseWriter, id, n int, u unit) {
	times := 1
	if s.onFrame != nil {
		var delay time.Duration
		times, delay = s.onFrame(id, n, u.frame)
		time.Sleep(delay)
	}
	for range times {
		_, _ = w.Write(u.data)
	}
	_ = http.NewResponseController(w).Flush()
}

func serveHandler(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	listening := httptest.NewServer(handler)
	t.Cleanup(listening.Close)
	return listening.URL
}

// serveTLS serves a server by TLS, with HTTP/2, and returns whom to trust.
func serveTLS(t *testing.T, s *server) (url string, trust *x509.CertPool) {
	t.Helper()
	s.viewers = map[int]chan unit{}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /stream/{id}", s.publish)
	mux.HandleFunc("GET /stream/{id}", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.protocols = append(s.protocols, r.Proto)
		s.mu.Unlock()
		s.watch(w, r)
	})
	listening := httptest.NewUnstartedServer(mux)
	listening.EnableHTTP2 = true
	listening.Config.ErrorLog = log.New(io.Discard, "", 0) // slow viewers don't take leave
	listening.StartTLS()
	t.Cleanup(listening.Close)
	roots := x509.NewCertPool()
	roots.AddCert(listening.Certificate())
	return listening.URL, roots
}

// several is a server of several streams, each a server of its own.
func several(t *testing.T, paths ...string) (url string, streams map[string]*server) {
	t.Helper()
	streams = map[string]*server{}
	mux := http.NewServeMux()
	for _, path := range paths {
		s := &server{viewers: map[int]chan unit{}}
		streams[path] = s
		mux.HandleFunc("PUT "+path, s.publish)
		mux.HandleFunc("GET "+path, s.watch)
	}
	listening := httptest.NewServer(mux)
	t.Cleanup(listening.Close)
	return listening.URL, streams
}
