package webm

import (
	"encoding/binary"
	"errors"
	"time"

	"tureen/impl/media"
)

// reading is what the demuxer needs to turn one track's blocks into frames.
type reading struct {
	kind            media.Kind
	codec           string
	defaultDuration time.Duration
	sampleRate      float64      // Hz
	vorbis          *vorbisClock // nil when not Vorbis, or its headers can't be read
	encodings       []encoding
}

func newReading(t Track, kind media.Kind) *reading {
	r := &reading{kind: kind, codec: t.Codec, defaultDuration: t.DefaultDuration, sampleRate: t.SampleRate, encodings: t.encodings}
	if t.Codec == media.Vorbis {
		if clock, err := newVorbisClock(t.Private); err == nil {
			r.vorbis = clock
		}
	}
	return r
}

// duration is how long a frame lasts, 0 when unknown. It must see every packet
// of the track in order.
func (r *reading) duration(payload []byte) time.Duration {
	if r.vorbis != nil {
		return r.vorbis.duration(payload)
	}
	if r.defaultDuration > 0 || r.kind == media.Video {
		return r.defaultDuration
	}
	return packetDuration(r.codec, payload, r.sampleRate)
}

// key reports whether a frame is a key frame: of VP8 the frame itself tells, of
// sound each is one, of others the container is believed.
func (r *reading) key(payload []byte, said bool) bool {
	switch {
	case r.codec == media.VP8:
		return media.KeyVP8(payload)
	case r.kind == media.Audio:
		return true
	}
	return said
}

// blockTrack reads the track number that begins a block (RFC 9559 §10.1).
func blockTrack(b []byte) (number uint64, width int, ok bool) {
	width = vintWidth(b[0])
	if width > 8 || width > len(b) {
		return 0, 0, false
	}
	n := sizeOf(b[:width])
	return uint64(n), width, n > 0
}

// flagKey is the bit of a SimpleBlock's flags that marks a key frame (RFC 9559
// §10.2).
const flagKey = 0x80

// frames takes a block apart into its frames and queues them. key is what the
// container says of them.
func (d *Demuxer) frames(block []byte, duration time.Duration, key bool) error {
	number, width, _ := blockTrack(block)
	if len(block) < width+3 {
		return d.malformed("a block of %d bytes has no room for its header", len(block))
	}
	r := d.tracks[number]
	relative := int64(int16(binary.BigEndian.Uint16(block[width:])))
	flags := block[width+2]
	payloads, err := unlace(block[width+3:], flags>>1&3)
	if err != nil {
		return d.malformed("%v", err)
	}
	sent := d.units(d.cluster) + time.Duration(relative)*d.scale
	at := sent
	room := MaxFrame // for all of a lace: what is small on the wire may be large decoded
	for _, p := range payloads {
		if p, err = decode(p, r.encodings, scopeFrames, room); err != nil {
			return d.malformed("a frame: %v", err)
		}
		room -= len(p)
		f := media.Frame{Kind: r.kind, Key: r.key(p, key), Time: at, Sent: sent, Duration: r.duration(p), Payload: p}
		if len(payloads) == 1 && duration > 0 {
			f.Duration = duration
		}
		at += f.Duration
		if len(p) > 0 { // an empty one tells a decoder nothing
			d.queue = append(d.queue, f)
		}
	}
	return nil
}

var errLacing = errors.New("a block's lacing doesn't fit its size")

// unlace splits a block's data into frames by its lacing (RFC 9559 §10.3):
// 0 none, 1 Xiph, 2 fixed size, 3 EBML.
func unlace(b []byte, lacing byte) ([][]byte, error) {
	if lacing == 0 {
		return [][]byte{b}, nil
	}
	if len(b) == 0 {
		return nil, errLacing
	}
	count := int(b[0]) + 1
	b = b[1:]
	var sizes []int
	var err error
	switch lacing {
	case 1:
		sizes, b, err = xiphSizes(b, count-1)
	case 2:
		if len(b)%count != 0 {
			return nil, errLacing
		}
		for range count - 1 {
			sizes = append(sizes, len(b)/count)
		}
	default:
		sizes, b, err = ebmlSizes(b, count-1)
	}
	if err != nil {
		return nil, err
	}
	frames := make([][]byte, 0, count)
	for _, size := range sizes {
		if size < 0 || size > len(b) {
			return nil, errLacing
		}
		frames = append(frames, b[:size:size])
		b = b[size:]
	}
	return append(frames, b), nil
}

// xiphSizes reads n sizes, each a sum of bytes up to the first below 255.
func xiphSizes(b []byte, n int) (sizes []int, rest []byte, err error) {
	for range n {
		size := 0
		for {
			if len(b) == 0 {
				return nil, nil, errLacing
			}
			c := b[0]
			b = b[1:]
			size += int(c)
			if c < 255 {
				break
			}
		}
		sizes = append(sizes, size)
	}
	return sizes, b, nil
}

// ebmlSizes reads n sizes: the first as it is, each further one as a signed
// difference to the one before (RFC 9559 §10.3.3).
func ebmlSizes(b []byte, n int) (sizes []int, rest []byte, err error) {
	size := int64(0)
	for i := range n {
		if len(b) == 0 || vintWidth(b[0]) > min(8, len(b)) {
			return nil, nil, errLacing
		}
		width := vintWidth(b[0])
		v := sizeOf(b[:width])
		if v == unknownSize {
			v = 1<<(7*width) - 1
		}
		if i > 0 {
			v -= 1<<(7*width-1) - 1
		}
		b = b[width:]
		size += v
		if size < 0 || size > MaxFrame {
			return nil, nil, errLacing
		}
		sizes = append(sizes, int(size))
	}
	return sizes, b, nil
}
