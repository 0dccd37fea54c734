package webm

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// unknownSize is the size of an element whose size isn't stated: all data bits
// of the code are one, whatever its width (RFC 8794 §6.2).
const unknownSize = -1

// vintWidth is the length in bytes of a variable-size integer by its first
// byte (RFC 8794 §4); 9 when the byte can't begin one.
func vintWidth(first byte) int { return bits.LeadingZeros8(first) + 1 }

// sizeOf is the value of a size code of 1 to 8 bytes, or unknownSize.
func sizeOf(code []byte) int64 {
	v := uint64(code[0]) & (0xFF >> len(code))
	for _, b := range code[1:] {
		v = v<<8 | uint64(b)
	}
	if v == 1<<(7*len(code))-1 {
		return unknownSize
	}
	return int64(v)
}

// element is one element held in memory.
type element struct {
	id   uint32
	data []byte
}

// cut takes the first element off b. It reports false when b doesn't begin
// with a whole one.
func cut(b []byte) (e element, rest []byte, ok bool) {
	if len(b) == 0 || vintWidth(b[0]) > 4 || len(b) < vintWidth(b[0])+1 {
		return e, nil, false
	}
	for _, c := range b[:vintWidth(b[0])] {
		e.id = e.id<<8 | uint32(c)
	}
	b = b[vintWidth(b[0]):]
	width := vintWidth(b[0])
	if width > 8 || len(b) < width {
		return e, nil, false
	}
	size := sizeOf(b[:width])
	b = b[width:]
	if size == unknownSize || size > int64(len(b)) {
		return e, nil, false
	}
	e.data = b[:size]
	return e, b[size:], true
}

// uint is the value of an unsigned integer element (RFC 8794 §7.2); false when
// it is longer than 8 bytes.
func (e element) uint() (v uint64, ok bool) {
	if len(e.data) > 8 {
		return 0, false
	}
	for _, b := range e.data {
		v = v<<8 | uint64(b)
	}
	return v, true
}

// float is the value of a float element (RFC 8794 §7.3).
func (e element) float() (float64, bool) {
	switch len(e.data) {
	case 0:
		return 0, true
	case 4:
		return float64(math.Float32frombits(binary.BigEndian.Uint32(e.data))), true
	case 8:
		return math.Float64frombits(binary.BigEndian.Uint64(e.data)), true
	}
	return 0, false
}
