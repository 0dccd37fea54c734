package clients_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"testing"
	"time"

	"tureen/loadgen/webm"
)

// Element identifiers that a viewer's body may hold: RFC 8794 §11, RFC 9559 §5.1.
const (
	idEBML        = 0x1A45DFA3
	idDocType     = 0x4282
	idSegment     = 0x18538067
	idInfo        = 0x1549A966
	idScale       = 0x2AD7B1
	idTracks      = 0x1654AE6B
	idEntry       = 0xAE
	idNumber      = 0xD7
	idType        = 0x83
	idCodec       = 0x86
	idLacing      = 0x9C
	idVideo       = 0xE0
	idWidth       = 0xB0
	idHeight      = 0xBA
	idCluster     = 0x1F43B675
	idTimestamp   = 0xE7
	idSimpleBlock = 0xA3
)

// frame is a frame of a publisher's or of a viewer's body.
type frame struct {
	kind    webm.Kind
	key     bool
	at      time.Duration
	payload []byte
}

// track is a TrackEntry.
type track struct {
	number        uint64
	kind          webm.Kind
	codec         string
	width, height int
}

// body is what a viewer got.
type body struct {
	tracks []track
	frames []frame
}

// reader takes a viewer's body apart and refuses what the contract doesn't
// allow there (WAT-2, WAT-3, WAT-5). It is strict: no element that a player
// could do without.
type reader struct {
	rest    []byte
	body    body
	opened  bool          // there was a cluster
	cluster time.Duration // its time
	newest  time.Duration
	picture bool // a picture was read
	fresh   bool // none in this cluster
}

// parse reads a whole body.
func parse(b []byte) (body, error) {
	r := reader{rest: b}
	if err := r.head(); err != nil {
		return r.body, fmt.Errorf("body of %d bytes, head: %w", len(b), err)
	}
	for len(r.rest) > 0 {
		at := len(b) - len(r.rest)
		if err := r.element(); err != nil {
			return r.body, fmt.Errorf("body of %d bytes, at %d: %w", len(b), at, err)
		}
	}
	if len(r.body.frames) == 0 {
		return r.body, errors.New("body holds no frame")
	}
	return r.body, nil
}

// head reads up to the first cluster.
func (r *reader) head() error {
	ebml, err := r.master(idEBML)
	if err != nil {
		return err
	}
	if doctype := string(find(ebml, idDocType)); doctype != "webm" {
		return fmt.Errorf("document type %q", doctype)
	}
	id, size, err := r.next()
	if err != nil || id != idSegment || size != unknown {
		return fmt.Errorf("element %X of %d bytes, want a Segment of unknown size: %w", id, size, err)
	}
	info, err := r.master(idInfo)
	if err != nil {
		return err
	}
	if scale := find(info, idScale); scale != nil && unsigned(scale) != uint64(time.Millisecond) {
		return fmt.Errorf("timestamp scale of %d ns", unsigned(scale))
	}
	tracks, err := r.master(idTracks)
	if err != nil {
		return err
	}
	return r.tracks(tracks)
}

func (r *reader) tracks(content []byte) error {
	inner := reader{rest: content}
	for len(inner.rest) > 0 {
		entry, err := inner.master(idEntry)
		if err != nil {
			return err
		}
		if lacing := find(entry, idLacing); lacing == nil || unsigned(lacing) != 0 {
			return errors.New("a track may be laced")
		}
		t := track{number: unsigned(find(entry, idNumber)), codec: string(find(entry, idCodec))}
		switch video := find(entry, idVideo); unsigned(find(entry, idType)) {
		case 1:
			t.kind = webm.Video
			t.width, t.height = int(unsigned(find(video, idWidth))), int(unsigned(find(video, idHeight)))
		case 2:
			t.kind = webm.Audio
		}
		if want := map[webm.Kind]string{webm.Video: "V_VP8", webm.Audio: "A_VORBIS"}[t.kind]; want == "" || t.codec != want {
			return fmt.Errorf("track of kind %v with codec %q", t.kind, t.codec)
		}
		r.body.tracks = append(r.body.tracks, t)
	}
	return nil
}

// element reads a cluster's beginning or a block.
func (r *reader) element() error {
	id, size, err := r.next()
	switch {
	case err != nil:
		return err
	case id == idCluster:
		return r.openCluster()
	case id == idSimpleBlock && r.opened:
		content, err := r.take(size)
		if err != nil {
			return err
		}
		return r.block(content)
	}
	return fmt.Errorf("element %X doesn't belong here", id)
}

func (r *reader) openCluster() error {
	content, err := r.master(idTimestamp)
	if err != nil {
		return err
	}
	at := time.Duration(unsigned(content)) * time.Millisecond
	if r.opened && at < r.cluster {
		return fmt.Errorf("cluster at %v after one at %v", at, r.cluster)
	}
	r.opened, r.fresh, r.cluster = true, true, at
	return nil
}

func (r *reader) block(content []byte) error {
	if len(content) < 5 || content[0]&0x80 == 0 {
		return fmt.Errorf("block of %d bytes", len(content))
	}
	f := frame{kind: r.kind(uint64(content[0] & 0x7F)), key: content[3]&0x80 != 0, payload: content[4:]}
	relative := time.Duration(int16(binary.BigEndian.Uint16(content[1:]))) * time.Millisecond
	f.at = r.cluster + relative
	const lacing = 0x06
	switch {
	case f.kind == webm.Other:
		return fmt.Errorf("block of track %d, which isn't announced", content[0]&0x7F)
	case content[3]&lacing != 0:
		return errors.New("laced block")
	case relative < 0:
		return fmt.Errorf("block %v before its cluster's time", -relative)
	case f.at < r.newest:
		return fmt.Errorf("block at %v after one at %v", f.at, r.newest)
	case f.kind == webm.Video && f.key != (f.payload[0]&1 == 0): // RFC 6386 §9.1
		return fmt.Errorf("picture at %v is flagged key=%t and isn't", f.at, f.key)
	}
	if err := r.start(f); err != nil {
		return err
	}
	r.newest = f.at
	r.body.frames = append(r.body.frames, f)
	return nil
}

// start judges the beginning of a body with pictures (WAT-3).
func (r *reader) start(f frame) error {
	if f.kind != webm.Video {
		return nil
	}
	defer func() { r.picture, r.fresh = true, false }()
	if r.picture {
		return nil
	}
	if !f.key || !r.fresh {
		return fmt.Errorf("the first picture is key=%t and first of its cluster=%t", f.key, r.fresh)
	}
	if earlier := r.body.frames; len(earlier) > 0 && earlier[0].at < f.at {
		return fmt.Errorf("sound at %v before the first picture at %v", earlier[0].at, f.at)
	}
	return nil
}

func (r *reader) kind(number uint64) webm.Kind {
	for _, t := range r.body.tracks {
		if t.number == number {
			return t.kind
		}
	}
	return webm.Other
}

// unknown is the size of an element whose end only shows (RFC 8794 §6.2).
const unknown = ^uint64(0)

var errCut = errors.New("it ends inside an element")

// next reads an element's identifier and size.
func (r *reader) next() (id, size uint64, err error) {
	if id, _, err = r.number(4); err != nil {
		return 0, 0, fmt.Errorf("identifier: %w", err)
	}
	size, width, err := r.number(8)
	if err != nil {
		return id, 0, fmt.Errorf("size of element %X: %w", id, err)
	}
	size &^= 1 << (7 * width)
	if size == 1<<(7*width)-1 {
		size = unknown
	}
	return id, size, nil
}

// number reads a variable-size integer of at most so many bytes, its marker
// included (RFC 8794 §4).
func (r *reader) number(most int) (v uint64, width int, err error) {
	if len(r.rest) == 0 {
		return 0, 0, errCut
	}
	width = bits.LeadingZeros8(r.rest[0]) + 1
	if width > most {
		return 0, width, fmt.Errorf("%d bytes long", width)
	}
	b, err := r.take(uint64(width))
	return unsigned(b), width, err
}

func (r *reader) take(n uint64) ([]byte, error) {
	if n > uint64(len(r.rest)) {
		return nil, errCut
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b, nil
}

// master reads the element of known size that must come next.
func (r *reader) master(want uint64) ([]byte, error) {
	id, size, err := r.next()
	if err != nil {
		return nil, err
	}
	if id != want || size == unknown {
		return nil, fmt.Errorf("element %X where %X of known size is due", id, want)
	}
	return r.take(size)
}

// find is the content of the first child with that identifier; nil without one.
func find(content []byte, want uint64) []byte {
	r := reader{rest: content}
	for len(r.rest) > 0 {
		id, size, err := r.next()
		if err != nil {
			return nil
		}
		child, err := r.take(size)
		if err != nil {
			return nil
		}
		if id == want {
			return child
		}
	}
	return nil
}

func unsigned(b []byte) (v uint64) {
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v
}

// miniature is the smallest body with both tracks: a key frame, a sound and
// another picture, at 0, 5 and 9 ms.
func miniature() []byte {
	element := func(id uint64, contents ...[]byte) []byte {
		content := bytes.Join(contents, nil)
		var head []byte
		for shift := 24; shift >= 0; shift -= 8 {
			if id>>shift > 0 {
				head = append(head, byte(id>>shift))
			}
		}
		return append(append(head, 0x80|byte(len(content))), content...)
	}
	endless := func(id uint64) []byte {
		head := element(id)
		return append(head[:len(head)-1], 0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF)
	}
	entry := func(number, kind byte, codec string, more ...[]byte) []byte {
		return element(idEntry, element(idNumber, []byte{number}), element(idType, []byte{kind}),
			element(idLacing, []byte{0}), element(idCodec, []byte(codec)), bytes.Join(more, nil))
	}
	size := element(idVideo, element(idWidth, []byte{32}), element(idHeight, []byte{18}))
	return bytes.Join([][]byte{
		element(idEBML, element(idDocType, []byte("webm"))),
		endless(idSegment),
		element(idInfo),
		element(idTracks, entry(1, 1, "V_VP8", size), entry(2, 2, "A_VORBIS")),
		endless(idCluster), element(idTimestamp, []byte{0}),
		element(idSimpleBlock, []byte{0x81, 0, 0, 0x80, 0}),
		element(idSimpleBlock, []byte{0x82, 0, 5, 0x80, 7}),
		element(idSimpleBlock, []byte{0x81, 0, 9, 0, 1}),
	}, nil)
}

// TestParseSeesFaults makes sure that the reader of viewers' bodies can say no.
func TestParseSeesFaults(t *testing.T) {
	good := miniature()
	if _, err := parse(good); err != nil {
		t.Fatalf("a good body: %v", err)
	}
	tests := map[string]func([]byte) []byte{
		"cut in a block":        func(b []byte) []byte { return b[:len(b)-1] },
		"another document type": func(b []byte) []byte { return bytes.Replace(b, []byte("webm"), []byte("mkva"), 1) },
		"another codec":         func(b []byte) []byte { return bytes.Replace(b, []byte("V_VP8"), []byte("V_VP9"), 1) },
		"laced track": func(b []byte) []byte {
			return bytes.Replace(b, []byte{idLacing, 0x81, 0}, []byte{idLacing, 0x81, 1}, 1)
		},
		"laced block": func(b []byte) []byte {
			return bytes.Replace(b, []byte{0x82, 0, 5, 0x80}, []byte{0x82, 0, 5, 0x82}, 1)
		},
		"step back": func(b []byte) []byte {
			return bytes.Replace(b, []byte{0x81, 0, 9, 0}, []byte{0x81, 0, 4, 0}, 1)
		},
		"before its cluster": func(b []byte) []byte {
			return bytes.Replace(b, []byte{0x82, 0, 5, 0x80}, []byte{0x82, 0xFF, 0xFF, 0x80}, 1)
		},
		"begins without a key frame": func(b []byte) []byte {
			return bytes.Replace(b, []byte{0x81, 0, 0, 0x80, 0}, []byte{0x81, 0, 0, 0, 1}, 1)
		},
		"wrong key flag": func(b []byte) []byte {
			return bytes.Replace(b, []byte{0x81, 0, 9, 0, 1}, []byte{0x81, 0, 9, 0x80, 1}, 1)
		},
		"unknown track": func(b []byte) []byte {
			return bytes.Replace(b, []byte{0x82, 0, 5, 0x80}, []byte{0x83, 0, 5, 0x80}, 1)
		},
		"element of another kind": func(b []byte) []byte { return append(b, 0xEC, 0x80) },
		"no frames":               func([]byte) []byte { return good[:bytes.Index(good, []byte{0x1F, 0x43, 0xB6, 0x75})] },
	}
	for name, spoil := range tests {
		if _, err := parse(spoil(bytes.Clone(good))); err == nil {
			t.Errorf("%s: no fault found", name)
		}
	}
}
