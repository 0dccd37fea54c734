package rtp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math"

	"tureen/impl/webm"
)

// vorbis is what RTP needs to know of a Vorbis track.
type vorbis struct {
	ident         uint32 // names the configuration in each packet; 24 bits
	configuration []byte // what a decoder is set up with, packed
	rate          uint32 // Hz
	channels      uint8
}

// errVorbis is a Vorbis track that can't go out by RTP.
var errVorbis = errors.New("its Vorbis headers don't fit RTP")

// Where the identification header holds what is needed of it (Vorbis I §4.2.2).
const (
	vorbisChannels = 11
	vorbisRate     = 12
	vorbisIDLength = 30
)

// noComments is a comment header that says nothing (Vorbis I §5.2.1). A decoder
// must be given one; the publisher's may be larger than all else.
const noComments = "\x03vorbis" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x01"

// parseVorbis reads Matroska's CodecPrivate.
func parseVorbis(private []byte) (*vorbis, error) {
	headers, err := webm.VorbisHeaders(private)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errVorbis, err)
	}
	id, setup := headers[0], headers[2]
	if len(id) != vorbisIDLength {
		return nil, fmt.Errorf("%w: the identification header has %d bytes, want %d", errVorbis, len(id), vorbisIDLength)
	}
	v := &vorbis{rate: binary.LittleEndian.Uint32(id[vorbisRate:]), channels: id[vorbisChannels]}
	if v.rate == 0 || v.channels == 0 {
		return nil, fmt.Errorf("%w: %d channels of %d Hz", errVorbis, v.channels, v.rate)
	}
	sum := fnv.New32a()
	sum.Write(id) // into memory: neither can fail
	sum.Write(setup)
	v.ident = sum.Sum32() >> 8
	length := len(id) + len(noComments) + len(setup)
	if length > math.MaxUint16 {
		return nil, fmt.Errorf("%w: the setup header has %d bytes", errVorbis, len(setup))
	}
	v.configuration = pack(v.ident, length, id, setup)
	return v, nil
}

// pack writes a configuration (RFC 5215 §3.2.1): the number of them, its ident
// and length, the number of headers less one, the sizes of all but the last.
func pack(ident uint32, length int, id, setup []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, 1)
	b = append(b, byte(ident>>16), byte(ident>>8), byte(ident))
	b = binary.BigEndian.AppendUint16(b, uint16(length))
	b = append(b, 2, byte(len(id)), byte(len(noComments))) // less than 128, so that seven bits hold each
	b = append(b, id...)
	b = append(b, noComments...)
	return append(b, setup...)
}

// The parts of a payload's fourth byte (RFC 5215 §2.2): whether it is a
// fragment, and how many whole packets it holds. Its data type is 0, raw.
const (
	wholePacket  = 0<<6 | 1
	firstPart    = 1 << 6
	furtherPart  = 2 << 6
	lastPart     = 3 << 6
	vorbisHeader = 4 + 2 // ident and that byte, and the length of what follows
)

// payloads is one Vorbis packet as the payloads of RTP packets. Each goes out
// alone: waiting for another to share its payload would add to the delay.
func (v *vorbis) payloads(packet []byte) [][]byte {
	const room = maxPayload - vorbisHeader
	if len(packet) == 0 {
		return nil
	}
	if len(packet) <= room {
		return [][]byte{v.payload(wholePacket, packet)}
	}
	all := make([][]byte, 0, len(packet)/room+1)
	part := byte(firstPart)
	for ; len(packet) > room; packet = packet[room:] {
		all = append(all, v.payload(part, packet[:room]))
		part = furtherPart
	}
	return append(all, v.payload(lastPart, packet))
}

func (v *vorbis) payload(part byte, data []byte) []byte {
	b := make([]byte, 0, vorbisHeader+len(data))
	b = append(b, byte(v.ident>>16), byte(v.ident>>8), byte(v.ident), part)
	b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
	return append(b, data...)
}
