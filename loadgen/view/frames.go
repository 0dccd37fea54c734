package view

import (
	"fmt"
	"time"

	"tureen/loadgen/webm"
)

const (
	maxPictures = 16       // captured at once
	maxPicture  = 16 << 20 // bytes of one
)

// frames finds the frames in one viewer's body.
type frames struct {
	pool    *Pool
	id      int32
	scanner webm.Scanner
	picture []byte // of the key frame that is arriving, when it is captured
}

func (f *frames) begin() { f.scanner.Picture = f.capture }

// scan reports the frames that a piece of the body completes.
func (f *frames) scan(piece []byte, at time.Duration, report func(Event)) error {
	for len(piece) > 0 {
		n, complete, err := f.scanner.Next(piece)
		if err != nil {
			return fmt.Errorf("reading WebM: %w", err)
		}
		if piece = piece[n:]; complete {
			report(f.arrived(at))
		}
	}
	return nil
}

func (f *frames) arrived(at time.Duration) Event {
	frame := &f.scanner.Frame
	event := Event{
		Type: Arrived, Viewer: f.id, At: at, Timestamp: frame.Timestamp, Hash: frame.Hash, Size: int32(frame.Size),
		Kind: frame.Kind, Key: frame.Key,
	}
	if f.picture != nil && frame.Kind == webm.Video {
		event.Detail = &Detail{Picture: f.picture}
		f.dropPicture()
	}
	return event
}

// capture gathers a key frame's payload. Viewers receive the same pictures at about the same time, so that the few that
// begin first are enough.
func (f *frames) capture(piece []byte, first bool) {
	if first {
		f.dropPicture()
		if !f.pool.capture.Load() || f.pool.pictures.Load() >= maxPictures {
			return
		}
		f.pool.pictures.Add(1)
		f.picture = make([]byte, 0, len(piece))
	}
	if f.picture == nil {
		return
	}
	if f.picture = append(f.picture, piece...); len(f.picture) > maxPicture {
		f.dropPicture()
	}
}

func (f *frames) dropPicture() {
	if f.picture != nil {
		f.pool.pictures.Add(-1)
		f.picture = nil
	}
}
