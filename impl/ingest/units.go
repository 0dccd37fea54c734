package ingest

import (
	"encoding/binary"
	"fmt"
)

// units follow a container's outermost parts, to tell whether a body ends
// inside of one.
type units interface {
	// add follows further bytes. The error is a body that can't be decoded.
	add(b []byte) error
	// inside reports whether a part has begun and not ended.
	inside() bool
	// paused reports whether headers may have ended, and media yet be to come.
	paused() bool
	// indexLast reports whether media came before what tells where it is.
	indexLast() bool
}

// newUnits follow a container that recognise names.
func newUnits(format string) units {
	switch format {
	case "MP4":
		return &boxes{}
	case "MPEG-TS":
		return &parts{head: 1, size: func([]byte) int64 { return 188 }} // ISO/IEC 13818-1 §2.4.3.2
	case "FLV":
		return &parts{head: flvHead, size: flvSize}
	case "Ogg":
		return &parts{head: oggHead, size: oggSize}
	}
	return &parts{head: 1, size: func([]byte) int64 { return 1 }, bare: true}
}

// parts is a container of one part after the other, each of which tells its size
// in its first bytes.
type parts struct {
	head int                     // how many bytes size looks at, at least
	size func(head []byte) int64 // of the whole part; 0 while the head isn't complete
	seen []byte                  // of the head
	left int64                   // of the part
	bare bool                    // there are no headers that go by themselves
}

func (r *parts) add(b []byte) error {
	for len(b) > 0 {
		if r.left > 0 {
			n := min(r.left, int64(len(b)))
			r.left -= n
			b = b[n:]
			continue
		}
		r.seen = append(r.seen, b[0])
		b = b[1:]
		if len(r.seen) < r.head {
			continue
		}
		if size := r.size(r.seen); size > 0 {
			r.left = size - int64(len(r.seen))
			r.seen = r.seen[:0]
		}
	}
	return nil
}

func (r *parts) inside() bool    { return r.left > 0 || len(r.seen) > 0 }
func (r *parts) paused() bool    { return !r.bare && !r.inside() }
func (r *parts) indexLast() bool { return false }

// flvSize is that of an FLV's header, or of a tag with the size field behind it
// (Adobe's specification of FLV 10.1, annexes E.2 to E.4).
func flvSize(head []byte) int64 {
	const sizeField = 4
	if string(head[:3]) == "FLV" {
		return 9 + sizeField
	}
	return 11 + int64(head[1])<<16 + int64(head[2])<<8 + int64(head[3]) + sizeField
}

const flvHead = 4

// oggSize is that of an Ogg page: its header, the table of its segments, and
// what that adds up to (RFC 3533 §6).
func oggSize(head []byte) int64 {
	segments := int(head[oggHead-1])
	if len(head) < oggHead+segments {
		return 0
	}
	size := int64(oggHead + segments)
	for _, s := range head[oggHead:] {
		size += int64(s)
	}
	return size
}

const oggHead = 27

// boxes follow an MP4 (ISO/IEC 14496-12 §4.2).
type boxes struct {
	seen    []byte // of a box's header
	left    int64  // of the box; negative when it takes all the rest
	index   bool   // a moov has begun
	late    bool   // an mdat came before it
	skipped int64  // bytes of such
}

// maxUnindexed is how much media may come before an MP4's index. All of it has
// to be kept until then.
const maxUnindexed = 8 << 20

const indexLast = "this MP4 holds its index behind its media, so that nothing can be played before all of it has come: " +
	"make it fast-start (ffmpeg -i clip.mp4 -c copy -movflags +faststart fast.mp4) or fragmented"

func (x *boxes) add(b []byte) error {
	for len(b) > 0 {
		if x.left != 0 {
			n := int64(len(b))
			if x.left > 0 {
				n = min(x.left, n)
				x.left -= n
			}
			b = b[n:]
			if x.late && !x.index {
				if x.skipped += n; x.skipped > maxUnindexed {
					return fmt.Errorf("%w: %s", ErrUnsupported, indexLast)
				}
			}
			continue
		}
		x.seen = append(x.seen, b[0])
		b = b[1:]
		x.begin()
	}
	return nil
}

// begin takes a box's header once it is whole.
func (x *boxes) begin() {
	const short, long = 8, 16
	if len(x.seen) < short {
		return
	}
	size, head := int64(binary.BigEndian.Uint32(x.seen)), int64(short)
	if size == 1 { // the size follows in 64 bits
		if len(x.seen) < long {
			return
		}
		size, head = int64(binary.BigEndian.Uint64(x.seen[short:])), long
	}
	switch string(x.seen[4:8]) {
	case "moov":
		x.index = true
	case "mdat":
		x.late = x.late || !x.index
	}
	x.seen = x.seen[:0]
	switch {
	case size == 0:
		x.left = -1
	default:
		x.left = max(size-head, 0)
	}
}

func (x *boxes) inside() bool    { return x.left > 0 || len(x.seen) > 0 }
func (x *boxes) paused() bool    { return !x.inside() }
func (x *boxes) indexLast() bool { return x.late && !x.index }
