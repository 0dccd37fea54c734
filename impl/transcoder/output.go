//go:build cgo

package transcoder

import (
	"io"
	"sync"
	"time"

	"tureen/impl/media"
	"tureen/impl/transcode/pipe"
)

// output writes messages to the proxy. Both tracks write to it.
type output struct {
	mu      sync.Mutex // guards what follows
	w       *pipe.Writer
	blocked time.Duration // spent in waiting for the proxy to read, or to know the tracks
}

func newOutput(w io.Writer) *output { return &output{w: pipe.NewWriter(w)} }

// shortWrite is what a write takes that doesn't wait for the reader.
const shortWrite = time.Millisecond

// write runs one write, and counts the time that it had to wait.
func (o *output) write(write func() error) error {
	asked := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	began := time.Now()
	err := write()
	if took := time.Since(began); took > shortWrite {
		o.blocked += time.Since(asked)
	}
	return err
}

// wait counts time that frames had to wait.
func (o *output) wait(d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.blocked += d
}

// waited is how long they have waited so far.
func (o *output) waited() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.blocked
}

func (o *output) message(t pipe.Type, content []byte) error {
	return o.write(func() error { return o.w.Write(t, content) })
}

func (o *output) json(t pipe.Type, v any) error {
	return o.write(func() error { return o.w.WriteJSON(t, v) })
}

func (o *output) frame(f media.Frame) error {
	return o.write(func() error { return o.w.WriteFrame(f) })
}
