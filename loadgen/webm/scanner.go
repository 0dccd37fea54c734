// Package webm holds the load generator's own view of WebM: a scanner that finds frames in a stream of bytes as they
// arrive, a reader of whole clips, and a writer that plays a clip as an endless live stream.
//
// It shares no code with the proxy, so that it doesn't share its faults. It checks no more than it needs to find frames:
// whether a stream keeps the rules of WebM is the conformance suite's business.
package webm

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"time"
)

// seed is one for the whole process, so that equal payloads have equal hashes wherever they are met.
var seed = maphash.MakeSeed()

// Hash identifies a frame's payload within this process.
func Hash(payload []byte) uint64 { return maphash.Bytes(seed, payload) }

// Frame is what a scanner tells of a frame whose last byte it has seen.
type Frame struct {
	Kind      Kind
	Key       bool // for VP8 by the payload's own bit, else by the SimpleBlock's flag; always true for audio
	Laced     bool // the block holds more frames than this one
	Timestamp time.Duration
	Size      int    // payload bytes
	Hash      uint64 // of the payload; only of audio and of VP8 key frames, else 0
}

// Scanner walks a WebM stream that comes in pieces of any size. It holds no payload and, once past Tracks, allocates
// nothing. It needs no knowledge of where masters end, because the identifiers it descends into are unique.
type Scanner struct {
	// Frame is the frame that the last call of Next completed.
	Frame Frame
	// Picture, if set, is called with every piece of a VP8 key frame's payload in order; first marks its first piece.
	Picture func(piece []byte, first bool)

	state  state
	gather [maxHeader]byte // an element's header, an integer, or a block's header
	have   int
	id     uint32
	left   uint64 // bytes left of the element that is being read
	simple bool   // the block is a SimpleBlock

	onTracks func(content []byte, tracks []Track)
	tracks   []byte // content of Tracks so far
	video    ref
	audio    ref

	scale   uint64 // ns per tick
	cluster uint64 // the cluster's timestamp in ticks
	hashing bool
	picture bool
	started bool // a byte of the payload was seen
	vp8     bool
	hash    maphash.Hash
}

// ref is what a scanner keeps of a track.
type ref struct {
	number uint64
	known  bool
	vp8    bool
}

type state uint8

const (
	inHeader state = iota
	inSkipped
	inInteger
	inTracks
	inBlock
	inPayload
)

var errSize = errors.New("size not allowed")

// Next reads from p until a frame is complete or p is used up. It returns how many bytes it took and whether Frame is
// new. After an error the stream can't be followed any more.
func (s *Scanner) Next(p []byte) (n int, complete bool, err error) {
	for n < len(p) {
		switch s.state {
		case inHeader:
			if err := s.header(p[n]); err != nil {
				return n, false, err
			}
			n++
		case inBlock:
			if err := s.blockHeader(p[n]); err != nil {
				return n, false, err
			}
			n++
		case inInteger:
			s.gather[s.have] = p[n]
			s.have++
			n++
			if s.left--; s.left == 0 {
				if err := s.integer(); err != nil {
					return n, false, err
				}
			}
		default:
			piece := p[n:]
			if uint64(len(piece)) > s.left {
				piece = piece[:s.left]
			}
			n += len(piece)
			s.left -= uint64(len(piece))
			complete, err = s.content(piece)
			if complete || err != nil {
				return n, complete, err
			}
		}
	}
	return n, false, nil
}

// content takes a piece of an element that is skipped, collected or a payload.
func (s *Scanner) content(piece []byte) (complete bool, err error) {
	switch s.state {
	case inTracks:
		s.tracks = append(s.tracks, piece...)
	case inPayload:
		s.payload(piece)
	}
	if s.left > 0 {
		return false, nil
	}
	switch s.state {
	case inTracks:
		err = s.useTracks()
	case inPayload:
		complete = true
		if s.hashing {
			s.Frame.Hash = s.hash.Sum64()
		}
	}
	s.expectHeader()
	return complete, err
}

func (s *Scanner) expectHeader() { s.state, s.have = inHeader, 0 }

// header takes one byte of an element's identifier and size.
func (s *Scanner) header(b byte) error {
	s.gather[s.have] = b
	s.have++
	n := vintLength(s.gather[0])
	if n > 4 {
		return errIDLength
	}
	if s.have <= n {
		return nil
	}
	m := vintLength(s.gather[n])
	if m > 8 {
		return errSizeLength
	}
	if s.have < n+m {
		return nil
	}
	s.id = uint32(unsigned(s.gather[:n]))
	size, known := sizeOf(s.gather[n : n+m])
	return s.enter(size, known)
}

// enter decides what to do with the element whose header is complete.
func (s *Scanner) enter(size uint64, known bool) error {
	s.have, s.left = 0, size
	switch s.id {
	case idSegment, idCluster:
		s.state = inHeader
		return nil
	}
	if !known {
		return fmt.Errorf("element %X: unknown %w", s.id, errSize)
	}
	switch s.id {
	case idInfo, idBlockGroup:
		s.state = inHeader
		return nil
	case idEBML:
		s.scale, s.cluster = defaultScale, 0
	case idTimestamp, idTimestampScale:
		if size == 0 || size > 8 {
			return fmt.Errorf("integer %X: %w", s.id, errSize)
		}
		s.state = inInteger
		return nil
	case idTracks:
		if size > maxTracks {
			return fmt.Errorf("tracks of %d bytes: %w", size, errSize)
		}
		s.tracks = s.tracks[:0]
		s.state = inTracks
		return s.skipEmpty()
	case idSimpleBlock, idBlock:
		s.simple = s.id == idSimpleBlock
		s.state = inBlock
		if size == 0 {
			return fmt.Errorf("block: %w", errSize)
		}
		return nil
	}
	s.state = inSkipped
	return s.skipEmpty()
}

// skipEmpty leaves an element without content at once, because no byte will come for it.
func (s *Scanner) skipEmpty() error {
	if s.left == 0 {
		s.expectHeader()
	}
	return nil
}

func (s *Scanner) integer() error {
	v := unsigned(s.gather[:s.have])
	if s.id == idTimestamp {
		s.cluster = v
	} else {
		if v == 0 || v > maxScale {
			return fmt.Errorf("timestamp scale of %d ns", v)
		}
		s.scale = v
	}
	s.expectHeader()
	return nil
}

func (s *Scanner) useTracks() error {
	tracks, err := parseTracks(s.tracks)
	if err != nil {
		return err
	}
	s.video, s.audio = refOf(tracks, Video), refOf(tracks, Audio)
	if s.onTracks != nil {
		s.onTracks(s.tracks, tracks)
	}
	s.tracks = nil
	return nil
}

func refOf(tracks []Track, kind Kind) ref {
	t, ok := first(tracks, kind)
	return ref{number: t.Number, known: ok, vp8: t.Codec == "V_VP8"}
}

// HasVideo tells whether the Tracks seen so far name a video track.
func (s *Scanner) HasVideo() bool { return s.video.known }

// blockHeader takes one byte of a block's track number, relative timestamp and flags (RFC 9559 §10.1).
func (s *Scanner) blockHeader(b byte) error {
	s.gather[s.have] = b
	s.have++
	s.left--
	n := vintLength(s.gather[0])
	if n > 8 {
		return errSizeLength
	}
	if s.have < n+3 {
		if s.left == 0 {
			return fmt.Errorf("block of %d bytes: %w", s.have, errSize)
		}
		return nil
	}
	number, _ := sizeOf(s.gather[:n])
	relative := int16(unsigned(s.gather[n : n+2]))
	flags := s.gather[n+2]
	return s.enterBlock(number, relative, flags)
}

func (s *Scanner) enterBlock(number uint64, relative int16, flags byte) error {
	s.have = 0
	s.Frame = Frame{Kind: s.kind(number), Size: int(min(s.left, math.MaxInt32))}
	if s.Frame.Kind == Other || s.left == 0 {
		s.state = inSkipped
		return s.skipEmpty()
	}
	const lacing = 0x06
	s.Frame.Laced = flags&lacing != 0
	s.Frame.Key = s.Frame.Kind == Audio || s.simple && flags&0x80 != 0
	if s.scale == 0 {
		s.scale = defaultScale
	}
	if s.cluster > math.MaxInt64/2/s.scale {
		return fmt.Errorf("cluster timestamp of %d ticks", s.cluster)
	}
	ticks := int64(s.cluster) + int64(relative)
	s.Frame.Timestamp = time.Duration(ticks * int64(s.scale))
	s.vp8 = s.Frame.Kind == Video && s.video.vp8
	s.hashing, s.picture, s.started = s.Frame.Kind == Audio, false, false
	s.state = inPayload
	if s.hashing {
		s.resetHash()
	}
	return nil
}

func (s *Scanner) kind(number uint64) Kind {
	switch {
	case s.video.known && number == s.video.number:
		return Video
	case s.audio.known && number == s.audio.number:
		return Audio
	}
	return Other
}

func (s *Scanner) resetHash() {
	if s.hash.Seed() != seed {
		s.hash.SetSeed(seed)
	}
	s.hash.Reset()
}

// payload takes a piece of a frame. A VP8 frame tells in its first bit whether it is a key frame (RFC 6386 §9.1), which
// holds for BlockGroups and for servers that set no flags.
func (s *Scanner) payload(piece []byte) {
	if s.vp8 && !s.started {
		s.Frame.Key = piece[0]&1 == 0
		if s.Frame.Key {
			s.hashing, s.picture = true, s.Picture != nil
			s.resetHash()
		}
	}
	if s.hashing {
		_, _ = s.hash.Write(piece) // a maphash never fails
	}
	if s.picture {
		s.Picture(piece, !s.started)
	}
	s.started = true
}
