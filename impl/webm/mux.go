package webm

import (
	"encoding/binary"
	"math"
	"time"

	"tureen/impl/media"
)

// app names the writer in every body (RFC 9559 §5.1.2.13).
const app = "tureen"

// MaxRelative is the most that a block's time can lie past its cluster's
// (RFC 9559 §10.1: a signed 16-bit number, of milliseconds here).
const MaxRelative = math.MaxInt16 * time.Millisecond

// Header is what every body begins with: the EBML header, a Segment of unknown
// size, Info and Tracks. Track i of tracks gets number i+1; no track is laced.
func Header(tracks []media.Track) []byte {
	var entries []byte
	for i, t := range tracks {
		entries = appendBytes(entries, idTrackEntry, trackEntry(uint64(i+1), t))
	}

	return preamble("webm", time.Millisecond, entries)
}

// preamble begins a document of a type, whose times count in units of scale,
// with track entries that have been written.
func preamble(docType string, scale time.Duration, entries []byte) []byte {
	ebml := appendUint(nil, idEBMLVersion, 1)
	ebml = appendUint(ebml, idEBMLReadVer, 1)
	ebml = appendUint(ebml, idEBMLMaxID, 4)
	ebml = appendUint(ebml, idEBMLMaxSize, 8)
	ebml = appendBytes(ebml, idDocType, []byte(docType))
	ebml = appendUint(ebml, idDocTypeVersion, 4)
	ebml = appendUint(ebml, idDocTypeReadVer, 2) // 2 is the first with SimpleBlock

	info := appendUint(nil, idTimestampScale, uint64(scale))
	info = appendBytes(info, idMuxingApp, []byte(app))
	info = appendBytes(info, idWritingApp, []byte(app))

	b := appendBytes(nil, idEBML, ebml)
	b = appendUnknown(b, idSegment)
	b = appendBytes(b, idInfo, info)
	return appendBytes(b, idTracks, entries)
}

func trackEntry(number uint64, t media.Track) []byte {
	b := appendUint(nil, idTrackNumber, number)
	b = appendUint(b, idTrackUID, number)
	b = appendUint(b, idFlagLacing, 0)
	if t.DefaultDuration > 0 {
		b = appendUint(b, idDefaultDuration, uint64(t.DefaultDuration))
	}
	if t.Kind == media.Video {
		b = appendUint(b, idTrackType, trackTypeVideo)
		b = appendBytes(b, idCodecID, []byte("V_VP8"))
		return appendBytes(b, idVideo, pictureElements(t.Picture))
	}
	b = appendUint(b, idTrackType, trackTypeAudio)
	b = appendBytes(b, idCodecID, []byte("A_VORBIS"))
	b = appendBytes(b, idCodecPrivate, t.Private)
	rate := binary.BigEndian.AppendUint64(nil, math.Float64bits(t.SampleRate))
	audio := appendBytes(nil, idSamplingFrequency, rate)
	audio = appendUint(audio, idChannels, uint64(t.Channels))
	return appendBytes(b, idAudio, audio)
}

func pictureElements(p media.Picture) []byte {
	b := appendUint(nil, idPixelWidth, uint64(p.Width))
	b = appendUint(b, idPixelHeight, uint64(p.Height))
	optional := []struct {
		id    uint32
		value int
	}{
		{idPixelCropTop, p.CropTop},
		{idPixelCropBottom, p.CropBottom},
		{idPixelCropLeft, p.CropLeft},
		{idPixelCropRight, p.CropRight},
		{idDisplayWidth, p.DisplayWidth},
		{idDisplayHeight, p.DisplayHeight},
		{idDisplayUnit, p.DisplayUnit},
	}
	for _, o := range optional {
		if o.value > 0 {
			b = appendUint(b, o.id, uint64(o.value))
		}
	}
	return b
}

// AppendCluster begins a cluster of unknown size at a time of whole
// milliseconds, which its blocks' times count from.
func AppendCluster(b []byte, at time.Duration) []byte {
	b = appendUnknown(b, idCluster)
	return appendUint(b, idTimestamp, uint64(at.Milliseconds()))
}

// AppendSimpleBlock adds a frame whose time lies relative past its cluster's,
// in whole milliseconds from 0 to MaxRelative. Track numbers are at most 126.
func AppendSimpleBlock(b []byte, number int, relative time.Duration, key bool, payload []byte) []byte {
	b = appendID(b, idSimpleBlock)
	b = appendSize(b, len(payload)+4)
	b = append(b, 0x80|byte(number))
	b = binary.BigEndian.AppendUint16(b, uint16(relative.Milliseconds()))
	flags := byte(0)
	if key {
		flags = flagKey
	}
	b = append(b, flags)
	return append(b, payload...)
}

func appendID(b []byte, id uint32) []byte {
	for shift := 24; shift >= 0; shift -= 8 {
		if id>>shift > 0 {
			b = append(b, byte(id>>shift))
		}
	}
	return b
}

// appendSize writes a size in the fewest bytes that don't read as unknown.
func appendSize(b []byte, size int) []byte {
	width := 1
	for size >= 1<<(7*width)-1 {
		width++
	}
	code := uint64(size) | 1<<(7*width)
	for shift := 8 * (width - 1); shift >= 0; shift -= 8 {
		b = append(b, byte(code>>shift))
	}
	return b
}

// appendUnknown begins a master of unknown size, in the 8-byte form that every
// player knows from live streams.
func appendUnknown(b []byte, id uint32) []byte {
	b = appendID(b, id)
	return append(b, 0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF)
}

func appendBytes(b []byte, id uint32, data []byte) []byte {
	b = appendID(b, id)
	b = appendSize(b, len(data))
	return append(b, data...)
}

func appendUint(b []byte, id uint32, v uint64) []byte {
	width := 1
	for width < 8 && v>>(8*width) > 0 {
		width++
	}
	b = appendID(b, id)
	b = appendSize(b, width)
	for shift := 8 * (width - 1); shift >= 0; shift -= 8 {
		b = append(b, byte(v>>shift))
	}
	return b
}
