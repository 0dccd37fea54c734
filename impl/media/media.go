// Package media holds what flows through the proxy between ingest and output:
// tracks and frames. It knows no container, no wire format and no clock.
package media

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"
)

// Kind tells a stream's two tracks apart: a stream has at most one of each, so
// the kind also names the track.
type Kind uint8

// The kinds of track that a stream can have. Video sorts first: of two frames
// with the same time, the picture goes out before the sound.
const (
	Video Kind = iota
	Audio
	Kinds // how many kinds there are
)

// String is the contract's word for the kind.
func (k Kind) String() string {
	switch k {
	case Video:
		return "video"
	case Audio:
		return "audio"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// MarshalJSON writes the contract's word for the kind.
func (k Kind) MarshalJSON() ([]byte, error) { return json.Marshal(k.String()) }

// UnmarshalJSON reads it.
func (k *Kind) UnmarshalJSON(b []byte) error {
	switch string(b) {
	case `"video"`:
		*k = Video
	case `"audio"`:
		*k = Audio
	default:
		return fmt.Errorf("%s is no kind of track", b)
	}
	return nil
}

// Codecs that leave the proxy.
const (
	VP8    = "vp8"
	Vorbis = "vorbis"
)

// Track describes one track of a stream as its viewers get it.
type Track struct {
	Kind            Kind
	Codec           string        // VP8 or Vorbis
	Private         []byte        // Matroska's CodecPrivate
	DefaultDuration time.Duration // of a frame; 0 when not stated
	Picture         Picture       // of video
	SampleRate      float64       // Hz, of audio
	Channels        int           // of audio
}

// Picture is the size of a video track's pictures.
type Picture struct {
	Width, Height               int // coded pixels
	DisplayWidth, DisplayHeight int // 0 when not stated
	DisplayUnit                 int // RFC 9559 §5.1.4.1.28.14
	CropTop, CropBottom         int // pixels
	CropLeft, CropRight         int // pixels
}

// Frame is one coded picture or packet of sound.
type Frame struct {
	Kind Kind
	Key  bool // a decoder can start here
	// Time is the presentation time on the publisher's own clock.
	Time time.Duration
	// Sent is the presentation time of the block that brought the frame. It
	// is earlier than Time for the later frames of a lace.
	Sent time.Duration
	// Duration is 0 when unknown.
	Duration time.Duration
	Payload  []byte
}

// KeyVP8 reports whether a VP8 frame is a key frame: bit 0 of the frame tag is
// clear and the start code follows (RFC 6386 §9.1). Containers' own flags can
// lie; a viewer that starts at anything else shows rubbish.
func KeyVP8(payload []byte) bool {
	return len(payload) >= 10 && payload[0]&1 == 0 &&
		payload[3] == 0x9d && payload[4] == 0x01 && payload[5] == 0x2a
}

// SizeVP8 is the size that a VP8 key frame states, in pixels (RFC 6386 §9.1).
func SizeVP8(key []byte) (width, height int) {
	const mask = 1<<14 - 1 // the two bits above ask for scaling
	return int(binary.LittleEndian.Uint16(key[6:])) & mask, int(binary.LittleEndian.Uint16(key[8:])) & mask
}

// Item is what ingest hands to a live stream: the tracks of a new document, a
// mark, or the next frame.
type Item struct {
	Tracks []Track // nil but for a document
	// KeyFrame asks for a key frame soon, without waiting for it; nil where
	// nobody can be asked. It comes with Tracks.
	KeyFrame func()
	// Last says that nothing follows, though more items may be tried to be handed
	// on.
	Last bool
	// Mark is called once every frame before it has been handed on and has
	// played; nil but for a mark.
	Mark  func()
	Frame Frame
}
