// Package webm holds the suite's own view of WebM: a reader that judges a live body by the rules of WAT-2, WAT-3 and WAT-5
// while it arrives, and the few functions that put documents together for publishers to send.
//
// It shares no code with any proxy, so that it doesn't share its faults. What the frames show and sound like is left to
// others.
package webm

import (
	"errors"
	"math"
	"math/bits"
)

// Element IDs of RFC 8794 §11 and RFC 9559 §5.
const (
	IDEBML               = 0x1A45DFA3
	idEBMLVersion        = 0x4286
	idEBMLReadVersion    = 0x42F7
	idEBMLMaxIDLength    = 0x42F2
	idEBMLMaxSizeLength  = 0x42F3
	idDocType            = 0x4282
	idDocTypeVersion     = 0x4287
	idDocTypeReadVersion = 0x4285
	IDVoid               = 0xEC
	idCRC32              = 0xBF

	IDSegment     = 0x18538067
	idSeekHead    = 0x114D9B74
	idInfo        = 0x1549A966
	idTracks      = 0x1654AE6B
	IDCluster     = 0x1F43B675
	idCues        = 0x1C53BB6B
	idAttachments = 0x1941A469
	idChapters    = 0x1043A770
	idTags        = 0x1254C367

	idTimestampScale = 0x2AD7B1
	idMuxingApp      = 0x4D80
	idWritingApp     = 0x5741

	idTrackEntry       = 0xAE
	idTrackNumber      = 0xD7
	idTrackUID         = 0x73C5
	idTrackType        = 0x83
	idCodecID          = 0x86
	idCodecPrivate     = 0x63A2
	idContentEncodings = 0x6D80
	idVideo            = 0xE0
	idPixelWidth       = 0xB0
	idPixelHeight      = 0xBA
	idAudio            = 0xE1
	idSampling         = 0xB5
	idChannels         = 0x9F

	idTimestamp      = 0xE7
	IDSimpleBlock    = 0xA3
	idBlockGroup     = 0xA0
	idBlock          = 0xA1
	idReferenceBlock = 0xFB
)

// segmentLevel are the elements that end a Cluster of unknown size, because they can't be its children.
var segmentLevel = map[uint32]bool{
	IDSegment: true, IDEBML: true, idSeekHead: true, idInfo: true, idTracks: true, IDCluster: true, idCues: true,
	idAttachments: true, idChapters: true, idTags: true,
}

// errShort says that more bytes must come before an element's head can be read.
var errShort = errors.New("more bytes must come")

// Errors of element heads.
var (
	errIDLength   = errors.New("an element ID longer than four bytes")
	errSizeLength = errors.New("an element size longer than eight bytes")
	errIDBits     = errors.New("an element ID with nothing but zeros or ones, which RFC 8794 §5 reserves")
)

// vintWidth is the length in bytes that a variable-size integer's first byte tells, 9 for an invalid one.
func vintWidth(first byte) int { return bits.LeadingZeros8(first) + 1 }

// header is the head of an element: its ID, its size (-1: unknown) and its own length.
type header struct {
	id     uint32
	size   int64
	length int
}

// readHeader reads an element's ID and size (RFC 8794 §5 and §6).
func readHeader(p []byte) (header, error) {
	if len(p) == 0 {
		return header{}, errShort
	}
	n := vintWidth(p[0])
	if n > 4 {
		return header{}, errIDLength
	}
	if len(p) <= n {
		return header{}, errShort
	}
	id := uint32(Uint(p[:n]))
	if data := id &^ (1 << (7 * n)); data == 0 || data == 1<<(7*n)-1 {
		return header{}, errIDBits
	}
	m := vintWidth(p[n])
	if m > 8 {
		return header{}, errSizeLength
	}
	if len(p) < n+m {
		return header{}, errShort
	}
	size := int64(Uint(p[n:n+m]) &^ (1 << (7 * m)))
	if size == 1<<(7*m)-1 {
		size = -1
	}
	return header{id: id, size: size, length: n + m}, nil
}

// Uint decodes a big-endian unsigned integer of at most eight bytes.
func Uint(p []byte) uint64 {
	var v uint64
	for _, b := range p {
		v = v<<8 | uint64(b)
	}
	return v
}

// float decodes an EBML float of four or eight bytes; anything else is not a number.
func float(p []byte) float64 {
	switch len(p) {
	case 4:
		return float64(math.Float32frombits(uint32(Uint(p))))
	case 8:
		return math.Float64frombits(Uint(p))
	}
	return math.NaN()
}

// Element returns an element with the shortest size that is allowed.
func Element(id uint32, content ...byte) []byte {
	width := 1
	for uint64(len(content)) >= 1<<(7*width)-1 {
		width++
	}
	return append(appendSize(appendID(nil, id), uint64(len(content)), width), content...)
}

// Unknown returns the head of an element of unknown size, coded in width bytes.
func Unknown(id uint32, width int) []byte {
	return appendSize(appendID(nil, id), 1<<(7*width)-1, width)
}

// Claim returns the head of an element that claims a size, whatever follows it.
func Claim(id uint32, size uint64) []byte { return appendSize(appendID(nil, id), size, 8) }

// UintElement returns an element that holds an unsigned integer.
func UintElement(id uint32, v uint64) []byte {
	content := make([]byte, max(1, (bits.Len64(v)+7)/8))
	for i := range content {
		content[i] = byte(v >> (8 * (len(content) - 1 - i)))
	}
	return Element(id, content...)
}

func appendID(dst []byte, id uint32) []byte {
	for shift := 24; shift >= 0; shift -= 8 {
		if id>>shift != 0 {
			dst = append(dst, byte(id>>shift))
		}
	}
	return dst
}

func appendSize(dst []byte, size uint64, width int) []byte {
	size |= 1 << (7 * width)
	for shift := 8 * (width - 1); shift >= 0; shift -= 8 {
		dst = append(dst, byte(size>>shift))
	}
	return dst
}
