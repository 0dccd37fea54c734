package clients_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"testing"
	"time"

	"tureen/loadgen/webm"
)

// endTime is how long a body may stay open after its last frame: WAT-11's
// second. A publisher taken for broken would have viewers wait for the grace
// time, ten times that.
const endTime = time.Second

// fileEndTime is the same after a request of fixed length, which might have
// been gone on with by another one (ING-16, WAT-11).
const fileEndTime = 2 * time.Second

// recording follows a viewer's body as it comes.
type recording struct {
	done chan struct{} // closed at the body's end

	mu       sync.Mutex // guards what follows
	body     []byte
	pictures int
	newest   time.Duration // the latest frame's time
	changed  chan struct{} // closed at the next picture
	last     time.Time     // when the last bytes came
	ended    time.Time
	err      error // nil after a clean end
}

// record reads r to its end.
func record(r io.Reader) *recording {
	v := &recording{done: make(chan struct{}), changed: make(chan struct{})}
	go func() {
		defer close(v.done)
		v.read(r)
	}()
	return v
}

func (v *recording) read(r io.Reader) {
	var scanner webm.Scanner
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		fault := v.add(&scanner, buf[:n])
		switch {
		case err == io.EOF && fault == nil:
			v.end(nil)
			return
		case fault != nil:
			v.end(fault)
			return
		case err != nil:
			v.end(err)
			return
		}
	}
}

func (v *recording) add(scanner *webm.Scanner, p []byte) error {
	if len(p) == 0 {
		return nil // the end, which must not count as bytes that came
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.body, v.last = append(v.body, p...), time.Now()
	for len(p) > 0 {
		n, complete, err := scanner.Next(p)
		if err != nil {
			return fmt.Errorf("following a body: %w", err)
		}
		p = p[n:]
		if complete {
			v.newest = scanner.Frame.Timestamp
		}
		if complete && scanner.Frame.Kind == webm.Video {
			v.pictures++
			close(v.changed)
			v.changed = make(chan struct{})
		}
	}
	return nil
}

func (v *recording) end(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ended, v.err = time.Now(), err
}

// state is how many pictures have come, and a channel that is closed at the next.
func (v *recording) state() (pictures int, changed <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.pictures, v.changed
}

// time is that of the latest frame that has come.
func (v *recording) time() time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.newest
}

// await waits until so many pictures have come.
func (v *recording) await(ctx context.Context, t *testing.T, pictures int) {
	t.Helper()
	for {
		have, changed := v.state()
		if have >= pictures {
			return
		}
		select {
		case <-changed:
		case <-v.done:
			t.Fatalf("the body ended after %d pictures, error: %v", have, v.err)
		case <-ctx.Done():
			t.Fatalf("waited for %d pictures, %d came: %v", pictures, have, ctx.Err())
		}
	}
}

// whole waits for the body's end, which must be clean and prompt, and takes the
// body apart.
func (v *recording) whole(t *testing.T) body {
	t.Helper()
	return v.wholeWithin(t, endTime)
}

// wholeWithin is whole with a body that may stay open for so long.
func (v *recording) wholeWithin(t *testing.T, end time.Duration) body {
	t.Helper()
	b := v.clean(t)
	if late := v.ended.Sub(v.last); late > end {
		t.Errorf("the body stayed open for %v after its last frame, want at most %v", late, end)
	}
	return b
}

// clean is whole for a publisher that doesn't end with its last frame.
func (v *recording) clean(t *testing.T) body {
	t.Helper()
	<-v.done
	if v.err != nil {
		t.Fatalf("the body broke off after %d bytes: %v", len(v.body), v.err)
	}
	b, err := parse(v.body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// viewer is an ordinary viewer: Go's own client.
type viewer struct {
	*recording
	answer chan *http.Response // holds the answer once there is one
}

// watch asks for a stream and returns when the request is written. With wait it
// is held until the stream starts (WAT-10).
func watch(ctx context.Context, t *testing.T, url string, wait bool) *viewer {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	written := make(chan struct{})
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest: func(httptrace.WroteRequestInfo) { close(written) },
	})
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if wait {
		request.Header.Set("Prefer", "wait=60")
	}
	body, sink := io.Pipe()
	v := &viewer{record(body), make(chan *http.Response, 1)}
	t.Cleanup(func() { cancel(); <-v.done })
	go func() { sink.CloseWithError(v.get(request, sink)) }()
	select {
	case <-written:
	case <-v.done:
		t.Fatalf("asking for %s: %v", url, v.err)
	}
	return v
}

func (v *viewer) get(request *http.Request, sink io.Writer) error {
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("watching: %w", err)
	}
	defer answer.Body.Close()
	v.answer <- answer
	if answer.StatusCode != http.StatusOK {
		return errors.New("watching: " + answer.Status)
	}
	_, err = io.Copy(sink, answer.Body)
	return err
}

// statusOf is how a viewer is answered that doesn't wait.
func statusOf(ctx context.Context, t *testing.T, url string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		t.Fatalf("watching: %v", err)
	}
	answer.Body.Close()
	return answer.StatusCode
}
