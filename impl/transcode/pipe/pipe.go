// Package pipe holds what goes over the two pipes between the proxy and a
// transcoder: messages of a type, a length and content. Either side may have
// died in the middle of one, and the transcoder parses hostile bytes in C, so
// the reading is as strict as that of anything from outside. Processes and
// media are others' concern.
package pipe

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"tureen/impl/media"
)

// Type is what a message is.
type Type byte

// The messages to a transcoder. Its input ends with End; a pipe that closes
// without one means that the proxy is gone.
const (
	Start  Type = 'S' // a Job: once, first
	Data   Type = 'D' // bytes of the publisher's body
	End    Type = 'E' // the body has ended; nothing follows
	Pause  Type = 'P' // answer with Paused once all Data so far has been taken apart
	KeyNow Type = 'K' // the next picture shall be a key frame
)

// The messages from a transcoder. Done or Failed is the last.
const (
	Ready  Type = 'R' // it waits for its Start
	Tracks Type = 'T' // an Announcement: before the first frame, once
	Frame  Type = 'F' // a frame of one of these tracks
	Paused Type = 'Q' // one byte: a Held
	Done   Type = 'Z' // every frame has been sent
	Failed Type = 'X' // a Failure
)

// Held is how much of media the body had when it paused.
type Held byte

// How much.
const (
	HeldNone   Held = iota // nothing but headers
	HeldLittle             // less than LittleMedia
	HeldMuch               // more, or it can't be told
)

// LittleMedia is more than an encoder sends in one piece before it would go on.
const LittleMedia = time.Second

// MaxMessage is the most bytes that a message holds: the largest frame's.
const MaxMessage = 8 << 20

// Job is what a transcoder is to do.
type Job struct {
	Session string `json:"session"` // for its log
	// OwnTimes is set for Matroska that the proxy wrote itself: frames are to
	// keep its times. Those of other containers count from where they begin.
	OwnTimes bool `json:"own_times,omitempty"`
	// SampleRate and Channels are what transcoded sound is to have, so that
	// viewers of an earlier publisher can go on; 0 for what fits.
	SampleRate int `json:"sample_rate,omitempty"` // Hz
	Channels   int `json:"channels,omitempty"`
	// MaxVideoBitRate and MaxAudioBitRate are the ceilings of the encoders, in
	// bit/s; 0 for none.
	MaxVideoBitRate int `json:"max_video_bit_rate,omitempty"`
	MaxAudioBitRate int `json:"max_audio_bit_rate,omitempty"`
}

// Announcement tells the tracks that will come, video first.
type Announcement struct {
	Tracks []Track `json:"tracks"`
}

// Track is a transcoded track.
type Track struct {
	Input  string      `json:"input"` // its codec at the publisher, by the contract's names
	Output media.Track `json:"output"`
}

// Reason is why a transcoder failed.
type Reason string

// The reasons.
const (
	Unsupported Reason = "unsupported" // it can't be recognised or decoded (ING-11)
	Malformed   Reason = "malformed"   // the bytes are damaged, or end inside their headers (ING-12)
	Fault       Reason = "fault"       // anything else: not the body's
)

// Failure is why a transcoder gave up.
type Failure struct {
	Reason Reason `json:"reason"`
	Text   string `json:"text"` // for a person, lower case, no end
}

func (f *Failure) Error() string { return f.Text }

// ErrProtocol is a message that can't be one.
var ErrProtocol = errors.New("not a message of the transcoder's protocol")

// header is a message's type and the length of its content, in network order.
const headerLength = 1 + 4

// Writer writes messages. Its methods are for one goroutine at a time.
type Writer struct{ w io.Writer }

// NewWriter writes to w, unbuffered: each message is one write or two.
func NewWriter(w io.Writer) *Writer { return &Writer{w} }

// Write sends a message with this content.
func (w *Writer) Write(t Type, content []byte) error {
	head := binary.BigEndian.AppendUint32([]byte{byte(t)}, uint32(len(content)))
	if len(content) <= small {
		_, err := w.w.Write(append(head, content...))
		return err
	}
	if _, err := w.w.Write(head); err != nil {
		return err
	}
	_, err := w.w.Write(content)
	return err
}

// small is what is cheaper to copy than to write by a call of its own.
const small = 4 << 10

// WriteJSON sends a message that holds v.
func (w *Writer) WriteJSON(t Type, v any) error {
	content, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write a message: %w", err)
	}
	return w.Write(t, content)
}

// Of a frame's message: kind, flags, time and duration in nanoseconds.
const (
	frameHead = 1 + 1 + 8 + 8
	flagKey   = 1
)

// WriteFrame sends a frame, without its Sent.
func (w *Writer) WriteFrame(f media.Frame) error {
	content := make([]byte, 0, frameHead+len(f.Payload))
	flags := byte(0)
	if f.Key {
		flags = flagKey
	}
	content = append(content, byte(f.Kind), flags)
	content = binary.BigEndian.AppendUint64(content, uint64(f.Time))
	content = binary.BigEndian.AppendUint64(content, uint64(f.Duration))
	return w.Write(Frame, append(content, f.Payload...))
}

// Reader reads messages.
type Reader struct{ r *bufio.Reader }

// NewReader reads from r.
func NewReader(r io.Reader) *Reader { return &Reader{bufio.NewReader(r)} }

// Read is the next message. The error is io.EOF between two messages,
// io.ErrUnexpectedEOF inside of one, or ErrProtocol. It allocates as content
// arrives, not as it is claimed.
func (r *Reader) Read() (Type, []byte, error) {
	var head [headerLength]byte
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		return 0, nil, err
	}
	length := binary.BigEndian.Uint32(head[1:])
	if length > MaxMessage {
		return 0, nil, fmt.Errorf("%w: of %d bytes", ErrProtocol, length)
	}
	const step = 64 << 10
	content := make([]byte, min(length, step))
	for filled := 0; ; {
		n, err := io.ReadFull(r.r, content[filled:])
		if err != nil {
			return 0, nil, fmt.Errorf("read a message: %w", unexpected(err))
		}
		if filled += n; filled == int(length) {
			return Type(head[0]), content, nil
		}
		grown := make([]byte, min(int(length), 2*filled))
		copy(grown, content)
		content = grown
	}
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Unmarshal reads a message's JSON. The error is ErrProtocol.
func Unmarshal(content []byte, v any) error {
	if err := json.Unmarshal(content, v); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return nil
}

// UnmarshalFrame reads a frame's message, of which the payload is a part. The
// error is ErrProtocol.
func UnmarshalFrame(content []byte) (media.Frame, error) {
	if len(content) < frameHead {
		return media.Frame{}, fmt.Errorf("%w: a frame of %d bytes", ErrProtocol, len(content))
	}
	f := media.Frame{
		Kind:     media.Kind(content[0]),
		Key:      content[1]&flagKey != 0,
		Time:     time.Duration(binary.BigEndian.Uint64(content[2:])),
		Duration: time.Duration(binary.BigEndian.Uint64(content[10:])),
		Payload:  content[frameHead:],
	}
	f.Sent = f.Time
	if f.Kind >= media.Kinds || f.Duration < 0 || len(f.Payload) == 0 {
		return media.Frame{}, fmt.Errorf("%w: a frame of kind %d that lasts %v, with %d bytes", ErrProtocol, content[0], f.Duration, len(f.Payload))
	}
	return f, nil
}
