package webm

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"tureen/impl/media"
)

// Track is a track as a document declares it.
type Track struct {
	Number uint64
	Type   uint64 // RFC 9559 §5.1.4.1.3
	Codec  string // the contract's short name, or Matroska's id in lower case
	// Unreadable says why the track's frames can't be read; empty when they can.
	Unreadable string
	media.Track
	encodings []encoding
	entry     []byte // as it was declared
}

// IsVideo reports whether the track holds pictures.
func (t Track) IsVideo() bool { return t.Type == trackTypeVideo }

// IsAudio reports whether the track holds sound.
func (t Track) IsAudio() bool { return t.Type == trackTypeAudio }

// encoding is one ContentEncoding, to be undone on each frame (RFC 9559 §5.1.4.1.31).
type encoding struct {
	order    uint64
	scope    uint64 // bit 0: the frames, bit 1: CodecPrivate
	zlib     bool
	stripped []byte // what header stripping took off each frame
}

const (
	scopeFrames  = 1
	scopePrivate = 2
)

// Each encoding costs a copy of every frame, and header stripping lets few
// bytes stand for many: real files have one or two encodings, that strip a few
// bytes.
const (
	maxEncodings = 4
	maxStripped  = 1 << 10
)

// codecs maps Matroska's codec ids to the contract's names. An id that ends in
// a slash stands for all that begin with it.
var codecs = map[string]string{
	"V_VP8": media.VP8, "V_VP9": "vp9", "V_AV1": "av1", "V_THEORA": "theora",
	"V_MPEG4/ISO/AVC": "h264", "V_MPEGH/ISO/HEVC": "h265", "V_MPEG4/ISO/ASP": "mpeg4",
	"V_MPEG4/ISO/SP": "mpeg4", "V_MPEG4/ISO/AP": "mpeg4", "V_MPEG2": "mpeg2", "V_MPEG1": "mpeg1",
	"V_MJPEG": "mjpeg", "A_VORBIS": media.Vorbis, "A_OPUS": "opus", "A_AAC": "aac",
	"A_AAC/": "aac", "A_MPEG/L3": "mp3", "A_MPEG/L2": "mp2", "A_FLAC": "flac", "A_PCM/": "pcm",
	"A_AC3": "ac3", "A_EAC3": "eac3",
}

func codecName(id string) string {
	if name, ok := codecs[id]; ok {
		return name
	}
	if slash := strings.IndexByte(id, '/'); slash >= 0 {
		if name, ok := codecs[id[:slash+1]]; ok {
			return name
		}
	}
	return strings.ToLower(id)
}

func (d *Demuxer) readTracks(size int64) ([]Track, error) {
	body, err := d.whole(size, maxTracks, "Tracks")
	if err != nil {
		return nil, err
	}
	var tracks []Track
	seen := map[uint64]bool{}
	err = d.children(body, "Tracks", func(e element) error {
		if e.id != idTrackEntry {
			return nil
		}
		t, err := d.trackEntry(e.data)
		if err == nil && seen[t.Number] {
			return d.malformed("two tracks with the number %d", t.Number)
		}
		seen[t.Number] = true
		tracks = append(tracks, t)
		return err
	})
	if err != nil {
		return nil, err
	}
	return tracks, nil
}

// children calls visit for each child of a master held in memory, but for the
// empty ones: they stand for their default (RFC 8794 §6.1), which is what an
// absent one does.
func (d *Demuxer) children(body []byte, name string, visit func(element) error) error {
	for len(body) > 0 {
		e, rest, ok := cut(body)
		if !ok {
			return d.malformed("the children of %s don't fill it", name)
		}
		body = rest
		if len(e.data) == 0 {
			continue
		}
		if err := visit(e); err != nil {
			return err
		}
	}
	return nil
}

func (d *Demuxer) trackEntry(body []byte) (Track, error) {
	t := Track{entry: bytes.Clone(body)}
	t.SampleRate, t.Channels = 8000, 1 // defaults of RFC 9559 §5.1.4.1.29
	var duration uint64
	var bad error
	number := func(e element) uint64 {
		v, ok := e.uint()
		if !ok && bad == nil {
			bad = d.malformed("element %#x of a track has %d bytes", e.id, len(e.data))
		}
		return v
	}
	err := d.children(body, "TrackEntry", func(e element) error {
		switch e.id {
		case idTrackNumber:
			t.Number = number(e)
		case idTrackType:
			t.Type = number(e)
		case idDefaultDuration:
			duration = number(e)
		case idCodecID:
			t.Codec = codecName(trimNUL(e.data))
		case idCodecPrivate:
			t.Private = bytes.Clone(e.data)
		case idVideo:
			return d.video(e.data, &t.Picture)
		case idAudio:
			return d.audio(e.data, &t.Track)
		case idContentEncodings:
			return d.encodings(e.data, &t)
		}
		return nil
	})
	if err = errors.Join(err, bad); err != nil {
		return t, err
	}
	if t.Number == 0 {
		return t, d.malformed("a track without a number")
	}
	if duration < uint64(maxDuration) {
		t.DefaultDuration = time.Duration(duration)
	}
	t.Track.Codec = t.Codec
	return t, d.decodePrivate(&t)
}

// pictureLimit bounds what is believed of a picture's size: VP8 codes 14 bits.
const pictureLimit = 1 << 16

func (d *Demuxer) video(body []byte, p *media.Picture) error {
	fields := map[uint32]*int{
		idPixelWidth: &p.Width, idPixelHeight: &p.Height,
		idDisplayWidth: &p.DisplayWidth, idDisplayHeight: &p.DisplayHeight, idDisplayUnit: &p.DisplayUnit,
		idPixelCropTop: &p.CropTop, idPixelCropBottom: &p.CropBottom,
		idPixelCropLeft: &p.CropLeft, idPixelCropRight: &p.CropRight,
	}
	return d.children(body, "Video", func(e element) error {
		field := fields[e.id]
		if field == nil {
			return nil
		}
		v, ok := e.uint()
		if !ok || v >= pictureLimit {
			return d.malformed("a picture's measure %#x is out of range", e.id)
		}
		*field = int(v)
		return nil
	})
}

func (d *Demuxer) audio(body []byte, t *media.Track) error {
	return d.children(body, "Audio", func(e element) error {
		switch e.id {
		case idSamplingFrequency:
			rate, ok := e.float()
			if !ok || !(rate > 0 && rate < 1e7) {
				return d.malformed("a SamplingFrequency that is none")
			}
			t.SampleRate = rate
		case idChannels:
			n, ok := e.uint()
			if !ok || n == 0 || n > 255 {
				return d.malformed("a number of Channels that is none")
			}
			t.Channels = int(n)
		}
		return nil
	})
}

func (d *Demuxer) encodings(body []byte, t *Track) error {
	err := d.children(body, "ContentEncodings", func(e element) error {
		if e.id != idContentEncoding {
			return nil
		}
		return d.encoding(e.data, t)
	})
	// The encoding with the highest order was applied last (RFC 9559
	// §5.1.4.1.31.2), so it is the first to be undone.
	slices.SortStableFunc(t.encodings, func(a, b encoding) int {
		switch {
		case a.order > b.order:
			return -1
		case a.order < b.order:
			return 1
		}
		return 0
	})
	return err
}

func (d *Demuxer) encoding(body []byte, t *Track) error {
	enc := encoding{scope: scopeFrames, zlib: true}
	kind, algorithm := uint64(0), uint64(compressionZlib)
	err := d.children(body, "ContentEncoding", func(e element) error {
		switch e.id {
		case idContentEncodingOrder:
			enc.order, _ = e.uint()
		case idContentEncodingScope:
			enc.scope, _ = e.uint()
		case idContentEncodingType:
			kind, _ = e.uint()
		case idContentCompression:
			return d.children(e.data, "ContentCompression", func(e element) error {
				switch e.id {
				case idContentCompAlgo:
					algorithm, _ = e.uint()
				case idContentCompSettings:
					enc.stripped = bytes.Clone(e.data)
				}
				return nil
			})
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case len(t.encodings) == maxEncodings || len(enc.stripped) > maxStripped:
		t.Unreadable = "no encoder stacks or strips as much as its frames' coding claims"
		return nil
	case kind != 0:
		t.Unreadable = "it is encrypted"
	case algorithm == compressionHeader:
		enc.zlib = false
	case algorithm != compressionZlib:
		t.Unreadable = fmt.Sprintf("its frames are compressed by algorithm %d (zlib and header stripping can be read)", algorithm)
	}
	t.encodings = append(t.encodings, enc)
	return nil
}

func (d *Demuxer) decodePrivate(t *Track) error {
	if t.Unreadable != "" {
		return nil
	}
	private, err := decode(t.Private, t.encodings, scopePrivate, maxTracks)
	if err != nil {
		return d.malformed("a track's CodecPrivate: %v", err)
	}
	t.Private = private
	return nil
}

// decode undoes the encodings that apply to scope. What comes out is at most
// limit bytes.
func decode(b []byte, encodings []encoding, scope uint64, limit int) ([]byte, error) {
	for _, enc := range encodings {
		if enc.scope&scope == 0 {
			continue
		}
		if !enc.zlib {
			b = slices.Concat(enc.stripped, b)
			continue
		}
		var err error
		if b, err = inflate(b, limit); err != nil {
			return nil, err
		}
	}
	if len(b) > limit {
		return nil, errTooLarge
	}
	return b, nil
}

var errTooLarge = fmt.Errorf("a block holds more than %d bytes once decoded", MaxFrame)

// inflate decompresses at most limit bytes.
func inflate(b []byte, limit int) ([]byte, error) {
	z, err := zlib.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	plain, err := io.ReadAll(io.LimitReader(z, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	if len(plain) > limit {
		return nil, errTooLarge
	}
	return plain, nil
}
