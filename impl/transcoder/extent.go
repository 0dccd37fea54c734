//go:build cgo

package transcoder

import (
	"sync"
	"time"

	"github.com/go-gst/go-gst/gst"

	"tureen/impl/transcode/pipe"
)

// extent is how much of a track has come, by the times of its buffers.
type extent struct {
	mu          sync.Mutex // guards what follows
	bytes       int64
	loose       int64 // of these, without a time
	first, last gst.ClockTime
	timed       bool
}

// few is how many bytes without times are still taken for little.
const few = 4 << 10

// add counts a buffer.
func (e *extent) add(b *gst.Buffer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.bytes += b.GetSize()
	at := b.PresentationTimestamp()
	if at == gst.ClockTimeNone {
		at = b.DecodingTimestamp()
	}
	switch {
	case at == gst.ClockTimeNone:
		e.loose += b.GetSize()
	case !e.timed:
		e.first, e.last, e.timed = at, at, true
	default:
		e.first, e.last = min(e.first, at), max(e.last, at)
	}
}

// held is how much that is.
func (e *extent) held() pipe.Held {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.bytes == 0:
		return pipe.HeldNone
	case time.Duration(e.last-e.first) >= pipe.LittleMedia, e.loose > few:
		return pipe.HeldMuch
	}
	return pipe.HeldLittle
}
