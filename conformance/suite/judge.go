package suite

import (
	"fmt"
	"time"

	"tureen/conformance/media"
	"tureen/conformance/webm"
)

// spread is by how much timestamps may differ after one constant offset: 1 ms either way.
const spread = 2 * time.Millisecond

// match is where a view's blocks of one kind lie among a source's frames.
type match struct {
	blocks []webm.Block
	frames []media.Frame // those of the source from the first block's on
	first  int           // among the source's frames of that kind
}

// matched finds the source's frame that each block is, by payload: the blocks have to be frames in a row, none altered, none
// left out.
func matched(w View, s *media.Source, kind string) (match, error) {
	blocks, frames := w.Of(kind), s.Of(kind)
	if len(blocks) == 0 {
		return match{}, fmt.Errorf("no %s block came", kind)
	}
	best, reach := -1, 0
	for i, f := range frames {
		if webm.Hash(f.Payload) != blocks[0].Hash {
			continue
		}
		n := 0
		for n < len(blocks) && i+n < len(frames) && webm.Hash(frames[i+n].Payload) == blocks[n].Hash {
			n++
		}
		if n > reach {
			best, reach = i, n
		}
	}
	switch {
	case best < 0:
		return match{}, fmt.Errorf("the first %s block (byte %d, %d bytes of payload) is no frame of the publisher's", kind, blocks[0].Offset, blocks[0].Size)
	case reach < len(blocks):
		return match{}, astray(blocks[reach], frames, best+reach, kind)
	}
	return match{blocks: blocks, frames: frames[best : best+reach], first: best}, nil
}

// astray says what is wrong with a block that isn't the frame that was to come.
func astray(b webm.Block, frames []media.Frame, want int, kind string) error {
	for i, f := range frames {
		if webm.Hash(f.Payload) == b.Hash {
			return fmt.Errorf("after %s frame %d came frame %d (byte %d)", kind, want-1, i, b.Offset)
		}
	}
	if want >= len(frames) {
		return fmt.Errorf("a %s block follows the publisher's last frame (byte %d)", kind, b.Offset)
	}
	return fmt.Errorf("the %s block at byte %d isn't the publisher's frame %d: %d bytes of payload, which had %d",
		kind, b.Offset, want, b.Size, len(frames[want].Payload))
}

// untouched judges that what came are the source's frames, payloads bit by bit and timestamps with one offset for all tracks.
// So many frames may have other times as WAT-5 allows to be moved.
func untouched(w View, s *media.Source, moved int) error {
	var least, most time.Duration
	any := false
	for _, t := range s.Tracks {
		m, err := matched(w, s, t.Kind)
		if err != nil {
			return err
		}
		for i, f := range m.frames {
			if f.Lace > 0 {
				continue
			}
			offset := m.blocks[i].Time - f.Time
			if !any {
				any, least, most = true, offset, offset
			}
			low, high := min(least, offset), max(most, offset)
			if high-low > spread {
				if moved--; moved >= 0 {
					continue
				}
				return fmt.Errorf("the offset of timestamps isn't constant: %s frame %d (byte %d) is at %v instead of %v, %v; before it was %v to %v",
					t.Kind, m.first+i, m.blocks[i].Offset, m.blocks[i].Time, f.Time, offset, least, most)
			}
			least, most = low, high
		}
	}
	return nil
}

// whole judges that a viewer who waited before the publisher began got all of a source: pictures from the first key frame on,
// sound from that one's time on, and both to the end.
func whole(w View, s *media.Source, moved int) error {
	if err := untouched(w, s, moved); err != nil {
		return err
	}
	start := time.Duration(-1)
	for _, f := range s.Of(webm.Video) {
		if f.Key {
			start = f.Time
			break
		}
	}
	for _, t := range s.Tracks {
		want := 0
		for _, f := range s.Of(t.Kind) {
			if f.Time >= start {
				want++
			}
		}
		// Times that lie within a millisecond of the key frame's may be on either side of it.
		if got := len(w.Of(t.Kind)); got < want-1 || got > want+1 {
			return fmt.Errorf("%d %s frames came of %d", got, t.Kind, want)
		}
		frames, blocks := s.Of(t.Kind), w.Of(t.Kind)
		if blocks[len(blocks)-1].Hash != webm.Hash(frames[len(frames)-1].Payload) {
			return fmt.Errorf("the last %s frame didn't come", t.Kind)
		}
	}
	return nil
}

// unannounced is how many of a source's frames step back further than any before: WAT-5 lets these be moved.
func unannounced(s *media.Source) int {
	var newest, furthest time.Duration
	n := 0
	for _, f := range s.Frames {
		newest = max(newest, f.Time)
		if back := newest - f.Time; back > furthest {
			furthest = back
			n++
		}
	}
	return n
}

// allOf is met when the last frame of each of a source's tracks has come.
func allOf(s *media.Source) func(View) bool {
	return func(w View) bool {
		for _, t := range s.Tracks {
			frames, blocks := s.Of(t.Kind), w.Of(t.Kind)
			if len(blocks) == 0 || blocks[len(blocks)-1].Hash != webm.Hash(frames[len(frames)-1].Payload) {
				return false
			}
		}
		return true
	}
}

// lags returns how long after its piece was sent each matched block of a kind arrived.
func lags(m match, sent []time.Time) []time.Duration {
	var all []time.Duration
	for i, f := range m.frames {
		if f.Piece < len(sent) {
			all = append(all, m.blocks[i].Arrived.Sub(sent[f.Piece]))
		}
	}
	return all
}
