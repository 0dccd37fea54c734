package webm

import (
	"encoding/binary"
	"math"
	"slices"
	"time"
)

// Head returns an EBML header, the head of a Segment of unknown size, Info and Tracks: what a live document begins with.
// Timestamps are in milliseconds.
func Head(tracks []Track) []byte {
	var entries []byte
	for _, t := range tracks {
		entries = append(entries, entry(t)...)
	}
	return slices.Concat(
		Element(IDEBML, slices.Concat(
			UintElement(idEBMLVersion, 1), UintElement(idEBMLReadVersion, 1), UintElement(idEBMLMaxIDLength, 4),
			UintElement(idEBMLMaxSizeLength, 8), Element(idDocType, []byte("webm")...),
			UintElement(idDocTypeVersion, 4), UintElement(idDocTypeReadVersion, 2))...),
		Unknown(IDSegment, 8),
		Element(idInfo, slices.Concat(
			UintElement(idTimestampScale, uint64(time.Millisecond)),
			Element(idMuxingApp, []byte("conformance")...), Element(idWritingApp, []byte("conformance")...))...),
		Element(idTracks, entries...),
	)
}

// entry returns a TrackEntry.
func entry(t Track) []byte {
	content := slices.Concat(
		UintElement(idTrackNumber, uint64(t.Number)), UintElement(idTrackUID, uint64(t.Number)),
		UintElement(idTrackType, trackTypes[t.Kind]), Element(idCodecID, []byte(t.CodecID)...))
	if len(t.Private) > 0 {
		content = append(content, Element(idCodecPrivate, t.Private...)...)
	}
	if t.Kind == Video {
		return Element(idTrackEntry, append(content, Element(idVideo, slices.Concat(
			UintElement(idPixelWidth, uint64(t.Width)), UintElement(idPixelHeight, uint64(t.Height)))...)...)...)
	}
	rate := binary.BigEndian.AppendUint64(nil, math.Float64bits(t.Rate))
	return Element(idTrackEntry, append(content, Element(idAudio, slices.Concat(
		Element(idSampling, rate...), UintElement(idChannels, uint64(t.Channels)))...)...)...)
}

// ClusterHead returns the head of a Cluster of unknown size and its Timestamp in milliseconds.
func ClusterHead(ms int64) []byte {
	return append(Unknown(IDCluster, 8), UintElement(idTimestamp, uint64(ms))...)
}

// SimpleBlock returns a block of one frame, relative milliseconds after its Cluster's Timestamp.
func SimpleBlock(track int, relative int16, key bool, payload []byte) []byte {
	flags := byte(0)
	if key {
		flags = flagKey
	}
	content := make([]byte, 0, 4+len(payload))
	content = append(content, 0x80|byte(track))
	content = binary.BigEndian.AppendUint16(content, uint16(relative))
	content = append(content, flags)
	return Element(IDSimpleBlock, append(content, payload...)...)
}
