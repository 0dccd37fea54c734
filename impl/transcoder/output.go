//go:build cgo

package transcoder

import (
	"io"
	"sync"

	"tureen/impl/media"
	"tureen/impl/transcode/pipe"
)

// output writes messages to the proxy, for all who have some.
type output struct {
	mu sync.Mutex // one message at a time
	w  *pipe.Writer
}

func newOutput(w io.Writer) *output { return &output{w: pipe.NewWriter(w)} }

func (o *output) message(t pipe.Type, content []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.w.Write(t, content)
}

func (o *output) json(t pipe.Type, v any) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.w.WriteJSON(t, v)
}

func (o *output) frame(f media.Frame) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.w.WriteFrame(f)
}
