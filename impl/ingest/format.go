package ingest

import (
	"bytes"
	"slices"

	"tureen/impl/media"
)

// sniffLength is how many bytes recognise looks at.
const sniffLength = 12

// magic is the id that begins every WebM (RFC 8794 §11.2.1).
const magic = "\x1A\x45\xDF\xA3"

// matroska is what recognise calls WebM too.
const matroska = "WebM or Matroska"

// recognise names the container that a body begins as, by its first bytes
// whatever its Content-Type says; "" when it is none of the known ones.
func recognise(b []byte) string {
	at := func(offset int, magic string) bool {
		return len(b) >= offset+len(magic) && bytes.Equal(b[offset:offset+len(magic)], []byte(magic))
	}
	switch {
	case at(0, magic):
		return matroska
	case at(4, "ftyp"), at(4, "styp"), at(4, "moov"), at(4, "moof"), at(4, "mdat"): // ISO/IEC 14496-12 §4.3
		return "MP4"
	case at(0, "FLV\x01"):
		return "FLV"
	case at(0, "OggS"): // RFC 3533 §6
		return "Ogg"
	case at(0, "RIFF") && at(8, "WAVE"):
		return "WAV"
	case at(0, "RIFF") && at(8, "AVI "):
		return "AVI"
	case at(0, "fLaC"): // RFC 9639 §6
		return "FLAC"
	case at(0, "ID3"):
		return "MP3"
	case len(b) >= 2 && b[0] == 0xFF && b[1]&0xF6 == 0xF0: // ADTS: layer 0
		return "AAC"
	case len(b) >= 2 && b[0] == 0xFF && b[1]&0xE6 == 0xE2: // MPEG audio: layer III
		return "MP3"
	case len(b) >= 2 && b[0] == 0x47 && b[1]&0x80 == 0: // ISO/IEC 13818-1 §2.4.3.2: sync byte, no error
		return "MPEG-TS"
	}
	return ""
}

// subtypes are the containers' media types without their first half (TOK-6).
var subtypes = map[string]string{
	"MP4": "mp4", "FLV": "x-flv", "Ogg": "ogg", "WAV": "wav", "AVI": "x-msvideo", "FLAC": "flac", "MP3": "mpeg", "AAC": "aac",
	"MPEG-TS": "mp2t",
}

// mediaType is that of a body: of a container as recognise names it, or an EBML
// document's type, with the tracks that are taken from it.
func mediaType(container string, tracks []Track) string {
	if subtype, ok := subtypes[container]; ok {
		container = subtype
	}
	if slices.ContainsFunc(tracks, func(t Track) bool { return t.Kind == media.Video }) {
		return "video/" + container
	}
	return "audio/" + container
}
