package webm

import (
	"encoding/binary"
	"time"

	"tureen/impl/media"
)

// Document begins a Matroska document that holds tracks as they were declared,
// for one who is to decode them. Their encodings are undone, and times are in
// nanoseconds. What follows are AppendFrame's clusters.
func Document(tracks []Track) []byte {
	var entries []byte
	for _, t := range tracks {
		entries = appendBytes(entries, idTrackEntry, t.plain())
	}

	return preamble("matroska", time.Nanosecond, entries)
}

// plain is the track's entry with its encodings undone.
func (t Track) plain() []byte {
	var b []byte
	for rest := t.entry; len(rest) > 0; {
		e, after, ok := cut(rest)
		if !ok {
			break // it was read once; this can't be
		}
		rest = after
		switch e.id {
		case idContentEncodings, idCodecPrivate, idCRC32, idVoid:
		default:
			b = appendBytes(b, e.id, e.data)
		}
	}
	if len(t.Private) > 0 {
		b = appendBytes(b, idCodecPrivate, t.Private)
	}
	return b
}

// AppendFrame adds a frame of the track with that number, in a cluster of its
// own. Its time must not be negative.
func AppendFrame(b []byte, number uint64, f media.Frame) []byte {
	track := appendSize(nil, int(number))
	block := len(track) + 3 + len(f.Payload)
	stamp := appendUint(nil, idTimestamp, uint64(f.Time))
	head := appendSize(appendID(nil, idSimpleBlock), block)

	b = appendID(b, idCluster)
	b = appendSize(b, len(stamp)+len(head)+block)
	b = append(b, stamp...)
	b = append(b, head...)
	b = append(b, track...)
	b = binary.BigEndian.AppendUint16(b, 0) // at the cluster's time
	flags := byte(0)
	if f.Key {
		flags = flagKey
	}
	b = append(b, flags)
	return append(b, f.Payload...)
}
