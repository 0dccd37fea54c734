package webm

import (
	"errors"
	"fmt"
	"time"
)

// ClipFrame is a frame of a clip that is held whole.
type ClipFrame struct {
	Frame
	Payload []byte // part of the clip's bytes
	End     int64  // offset of the byte after its last one
	track   uint64
}

// Clip is a parsed file: its head, and the frames of its first video and first audio track in the order of the file.
type Clip struct {
	Tracks []Track
	Frames []ClipFrame

	ebml   []byte // the EBML header element
	tracks []byte // the content of Tracks
	heads  int    // how many Tracks there were
}

// ErrNotPlain marks a clip whose blocks can't be sent again one by one: it has laces or encoded tracks, or is several
// documents in a row.
var ErrNotPlain = errors.New("clip has laces, content encodings or several documents")

// Parse reads a whole WebM or Matroska file. The clip refers to data. With ErrNotPlain the clip is returned too: its
// frames are where and when they are said to be, but their payloads are not frames.
func Parse(data []byte) (*Clip, error) {
	id, _, rest, err := element(data)
	if err != nil || id != idEBML {
		return nil, errors.New("no WebM or Matroska: it doesn't begin with an EBML header")
	}
	clip := &Clip{ebml: data[:len(data)-len(rest)]}
	s := Scanner{onTracks: clip.keepTracks}
	for at := 0; at < len(data); {
		n, complete, err := s.Next(data[at:])
		at += n
		if err != nil {
			return nil, fmt.Errorf("at byte %d: %w", at, err)
		}
		if complete {
			clip.add(&s, data, at)
		}
	}
	if len(clip.Frames) == 0 {
		return nil, errors.New("no frame of a video or audio track in it")
	}
	return clip, clip.plain()
}

func (c *Clip) keepTracks(content []byte, tracks []Track) {
	c.heads++
	c.tracks, c.Tracks = append([]byte(nil), content...), tracks
}

func (c *Clip) add(s *Scanner, data []byte, end int) {
	f := ClipFrame{Frame: s.Frame, Payload: data[end-s.Frame.Size : end], End: int64(end), track: s.video.number}
	if f.Kind == Audio {
		f.track = s.audio.number
	}
	f.Hash = Hash(f.Payload)
	c.Frames = append(c.Frames, f)
}

func (c *Clip) plain() error {
	if c.heads > 1 {
		return ErrNotPlain
	}
	for _, t := range c.Tracks {
		if t.Encoded && t.Kind != Other {
			return ErrNotPlain
		}
	}
	for _, f := range c.Frames {
		if f.Laced {
			return ErrNotPlain
		}
	}
	return nil
}

// Has tells whether the clip has frames of a kind.
func (c *Clip) Has(kind Kind) bool {
	for _, f := range c.Frames {
		if f.Kind == kind {
			return true
		}
	}
	return false
}

// Codec returns the CodecID of the first track of a kind, or nothing.
func (c *Clip) Codec(kind Kind) string {
	t, _ := first(c.Tracks, kind)
	return t.Codec
}

// maxInCluster is how long a cluster may become; a block's relative timestamp has 16 bits of milliseconds.
const maxInCluster = 5 * time.Second

// Writer plays a clip's frames as one endless WebM stream of unknown size, in ticks of 1 ms.
type Writer struct {
	clip    *Clip
	begun   bool
	cluster time.Duration
	video   bool
}

// NewWriter returns a writer of the clip's frames. The clip must be plain.
func NewWriter(clip *Clip) *Writer { return &Writer{clip: clip, video: clip.Has(Video)} }

// unknownSize is the reserved size of eight bytes, RFC 8794 §6.2.
var unknownSize = []byte{0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}

// Append appends the bytes of one frame at the given time, behind the stream's head and a new cluster where they are
// needed, and returns the extended slice. Times must not fall by more than 32 s below the newest key frame's.
func (w *Writer) Append(dst []byte, f *ClipFrame, at time.Duration) []byte {
	if !w.begun {
		dst = w.appendHead(dst)
	}
	at = at.Round(time.Millisecond)
	if !w.begun || f.Key && f.Kind == Video || at-w.cluster >= maxInCluster {
		w.cluster = at
		dst = append(appendID(dst, idCluster), unknownSize...)
		dst = appendUnsigned(dst, idTimestamp, uint64(at.Milliseconds()))
	}
	w.begun = true
	return w.appendBlock(dst, f, int16((at - w.cluster).Milliseconds()))
}

func (w *Writer) appendHead(dst []byte) []byte {
	dst = append(dst, w.clip.ebml...)
	dst = append(appendID(dst, idSegment), unknownSize...)
	var info []byte
	info = appendUnsigned(info, idTimestampScale, defaultScale)
	info = appendElement(info, idMuxingApp, []byte("tureen-loadgen"))
	info = appendElement(info, idWritingApp, []byte("tureen-loadgen"))
	dst = appendElement(dst, idInfo, info)
	return appendElement(dst, idTracks, w.clip.tracks)
}

func (w *Writer) appendBlock(dst []byte, f *ClipFrame, relative int16) []byte {
	var head [12]byte
	h := appendSize(head[:0], int(f.track))
	h = append(h, byte(uint16(relative)>>8), byte(relative), 0)
	if f.Key {
		h[len(h)-1] = 0x80
	}
	dst = appendSize(appendID(dst, idSimpleBlock), len(h)+len(f.Payload))
	return append(append(dst, h...), f.Payload...)
}
