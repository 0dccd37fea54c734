package webm

import "fmt"

// Kind is what a track holds.
type Kind uint8

// The kinds of track; Other is what a live stream has no use for.
const (
	Other Kind = iota
	Video
	Audio
)

// String returns "video", "audio" or "other".
func (k Kind) String() string {
	switch k {
	case Video:
		return "video"
	case Audio:
		return "audio"
	}
	return "other"
}

// Track is one TrackEntry.
type Track struct {
	Number  uint64
	Kind    Kind
	Codec   string // CodecID, for example "V_VP8"
	Encoded bool   // has ContentEncodings: a block's bytes aren't the frame's
}

// Track types of RFC 9559 §5.1.4.1.3.
const (
	typeVideo = 1
	typeAudio = 2
)

// parseTracks reads the content of a Tracks element.
func parseTracks(p []byte) ([]Track, error) {
	var tracks []Track
	for len(p) > 0 {
		id, content, rest, err := element(p)
		if err != nil {
			return nil, fmt.Errorf("reading tracks: %w", err)
		}
		if p = rest; id != idTrackEntry {
			continue
		}
		track, err := parseTrack(content)
		if err != nil {
			return nil, fmt.Errorf("reading track %d: %w", len(tracks)+1, err)
		}
		tracks = append(tracks, track)
	}
	return tracks, nil
}

func parseTrack(p []byte) (Track, error) {
	var t Track
	for len(p) > 0 {
		id, content, rest, err := element(p)
		if err != nil {
			return t, err
		}
		p = rest
		switch id {
		case idTrackNumber, idTrackType:
			if len(content) > 8 {
				return t, fmt.Errorf("integer of %d bytes", len(content))
			}
			if v := unsigned(content); id == idTrackNumber {
				t.Number = v
			} else {
				t.Kind = kindOf(v)
			}
		case idCodecID:
			t.Codec = string(content)
		case idEncodings:
			t.Encoded = true
		}
	}
	return t, nil
}

func kindOf(trackType uint64) Kind {
	switch trackType {
	case typeVideo:
		return Video
	case typeAudio:
		return Audio
	}
	return Other
}

// first returns the first track of a kind, as a server chooses it.
func first(tracks []Track, kind Kind) (Track, bool) {
	for _, t := range tracks {
		if t.Kind == kind {
			return t, true
		}
	}
	return Track{}, false
}
