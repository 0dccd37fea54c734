package webm

import (
	"errors"
	"math/bits"
)

// Element identifiers, RFC 8794 §11 and RFC 9559 §5.1.
const (
	idEBML           = 0x1A45DFA3
	idSegment        = 0x18538067
	idInfo           = 0x1549A966
	idTimestampScale = 0x2AD7B1
	idMuxingApp      = 0x4D80
	idWritingApp     = 0x5741
	idTracks         = 0x1654AE6B
	idTrackEntry     = 0xAE
	idTrackNumber    = 0xD7
	idTrackType      = 0x83
	idCodecID        = 0x86
	idEncodings      = 0x6D80
	idCluster        = 0x1F43B675
	idTimestamp      = 0xE7
	idSimpleBlock    = 0xA3
	idBlockGroup     = 0xA0
	idBlock          = 0xA1
)

const (
	maxHeader    = 12      // a four byte identifier and an eight byte size, RFC 8794 §5 and §6
	maxTracks    = 1 << 20 // a Tracks element larger than this is no stream's head
	maxScale     = 1e9     // TimestampScale in ns: a tick of more than a second can't time frames
	defaultScale = 1e6     // RFC 9559 §5.1.2.9: ticks of 1 ms
)

var (
	errIDLength   = errors.New("element identifier longer than four bytes")
	errSizeLength = errors.New("element size longer than eight bytes")
	errTruncated  = errors.New("element cut short")
)

// vintLength is the length in bytes that a variable-size integer's first byte tells, 9 for an invalid one.
func vintLength(first byte) int { return bits.LeadingZeros8(first) + 1 }

// sizeOf decodes a size whose length is len(p); known is false for the reserved all-ones value (RFC 8794 §6.2).
func sizeOf(p []byte) (size uint64, known bool) {
	size = uint64(p[0]) & (0xFF >> len(p))
	for _, b := range p[1:] {
		size = size<<8 | uint64(b)
	}
	return size, size != 1<<(7*len(p))-1
}

// unsigned decodes a big-endian unsigned integer of at most eight bytes.
func unsigned(p []byte) uint64 {
	var v uint64
	for _, b := range p {
		v = v<<8 | uint64(b)
	}
	return v
}

// element splits the first element of known size off p.
func element(p []byte) (id uint32, content, rest []byte, err error) {
	if len(p) == 0 {
		return 0, nil, nil, errTruncated
	}
	n := vintLength(p[0])
	if n > 4 {
		return 0, nil, nil, errIDLength
	}
	if len(p) <= n {
		return 0, nil, nil, errTruncated
	}
	m := vintLength(p[n])
	if m > 8 {
		return 0, nil, nil, errSizeLength
	}
	if len(p) < n+m {
		return 0, nil, nil, errTruncated
	}
	size, known := sizeOf(p[n : n+m])
	body := p[n+m:]
	if !known || size > uint64(len(body)) {
		return 0, nil, nil, errTruncated
	}
	return uint32(unsigned(p[:n])), body[:size], body[size:], nil
}

func appendID(dst []byte, id uint32) []byte {
	for shift := 24; shift >= 0; shift -= 8 {
		if b := byte(id >> shift); b != 0 || id>>shift != 0 {
			dst = append(dst, b)
		}
	}
	return dst
}

// appendSize appends the shortest size that isn't the reserved all-ones value.
func appendSize(dst []byte, size int) []byte {
	n := 1
	for uint64(size) >= 1<<(7*n)-1 {
		n++
	}
	v := uint64(size) | 1<<(7*n)
	for shift := 8 * (n - 1); shift >= 0; shift -= 8 {
		dst = append(dst, byte(v>>shift))
	}
	return dst
}

func appendElement(dst []byte, id uint32, content []byte) []byte {
	return append(appendSize(appendID(dst, id), len(content)), content...)
}

func appendUnsigned(dst []byte, id uint32, v uint64) []byte {
	n := max(1, (bits.Len64(v)+7)/8)
	dst = appendSize(appendID(dst, id), n)
	for shift := 8 * (n - 1); shift >= 0; shift -= 8 {
		dst = append(dst, byte(v>>shift))
	}
	return dst
}
