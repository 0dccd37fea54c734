// Package webm reads and writes WebM as it streams: a demuxer that turns a
// publisher's bytes into frames the moment their last byte is in, and a muxer
// that turns frames into the bytes of a live body. Which tracks a stream takes,
// its clock and its viewers are others' concern.
package webm

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"tureen/impl/media"
)

// What the demuxer holds of a publisher's bytes is bounded by these, whatever
// sizes the bytes claim.
const (
	// MaxFrame is the most bytes of one block, and of one frame once
	// decompressed: an intra-coded 4K picture takes about a quarter of it.
	MaxFrame = 8 << 20
	// MaxUnknown is how many bytes in a row may go by without an element that
	// RFC 9559 defines in that place.
	MaxUnknown = 64 << 10
	maxHead    = 1 << 20 // the EBML header, Info; padding included
	maxTracks  = 4 << 20
	// maxHeaders is where the Tracks must have come, whatever stands before them.
	maxHeaders = 16 << 20
	readBuffer = 32 << 10
)

// maxDuration is the longest that is believed of one frame: a publisher is held
// back for as long as its last one lasts.
const maxDuration = time.Minute

// Errors of a body that is WebM but ends early or can't be served. A body
// that isn't well formed gives a *MalformedError.
var (
	// ErrNewDocument comes from Frame where another EBML document begins.
	ErrNewDocument = errors.New("another EBML document begins")
	// ErrCutFrame is a body that ends in the middle of a block.
	ErrCutFrame = fmt.Errorf("the body ends in the middle of a frame: %w", io.ErrUnexpectedEOF)
	// ErrCutHeader is a body that ends before its tracks are known, or inside an
	// element before its first Cluster.
	ErrCutHeader = fmt.Errorf("the body ends inside its headers: %w", io.ErrUnexpectedEOF)
	// ErrUnsupported is a body that is well formed but holds what can't be
	// read, such as an encrypted track.
	ErrUnsupported = errors.New("unsupported")
)

// MalformedError says where a body stops being WebM.
type MalformedError struct {
	Offset int64 // bytes from the body's first
	Reason string
}

func (e *MalformedError) Error() string {
	return fmt.Sprintf("malformed WebM at byte %d: %s", e.Offset, e.Reason)
}

// Demuxer reads WebM and Matroska front to back. It reads no further ahead
// than what has arrived and hands each frame out as soon as it is complete.
type Demuxer struct {
	r      *bufio.Reader
	offset int64

	open    []master // the masters walked into, outermost first
	inFrame bool     // a block was begun
	inside  bool     // an element was begun
	begun   bool     // the document's first Cluster was
	unknown int64    // bytes since the last element known in its place

	pending bool // an EBML header was read, its tracks are still to be
	docType string

	scale   time.Duration // of a timestamp unit
	cluster int64         // the open cluster's timestamp, in units
	tracks  map[uint64]*reading
	queue   []media.Frame // the rest of a lace
}

// master is an element with children that the demuxer is inside of.
type master struct {
	level level
	end   int64 // offset; unknownSize when only the next element tells
}

// NewDemuxer reads from r.
func NewDemuxer(r io.Reader) *Demuxer {
	return &Demuxer{r: bufio.NewReaderSize(r, readBuffer)}
}

// Document reads up to where the tracks of the next EBML document are known. Of
// its tracks none is read until Take. The error is io.EOF when the body ends
// before a document begins, ErrCutHeader inside one.
func (d *Demuxer) Document() ([]Track, error) {
	tracks, err := d.document()
	if err == nil || (!errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF)) {
		return tracks, err
	}
	if d.offset == 0 {
		return nil, io.EOF
	}
	return nil, ErrCutHeader
}

func (d *Demuxer) document() ([]Track, error) {
	d.scale = time.Millisecond
	d.tracks = map[uint64]*reading{}
	d.begun = false
	if !d.pending {
		if err := d.ebmlHeader(); err != nil {
			return nil, err
		}
	}
	begin := d.offset
	for {
		id, size, err := d.next()
		if err != nil {
			return nil, err
		}
		if id != idSegment && d.offset-begin+max(size, 0) > maxHeaders {
			return nil, d.malformed("no Tracks within %d MiB", maxHeaders>>20)
		}
		switch id {
		case idSegment:
			d.enter(levelSegment, size)
		case idInfo:
			err = d.info(size)
		case idTracks:
			d.pending = false
			return d.readTracks(size)
		case idCluster:
			return nil, d.malformed("a Cluster comes before the Tracks")
		case idEBML:
			return nil, d.malformed("an EBML header follows another without Tracks between them")
		default:
			err = d.skip(size)
		}
		if err != nil {
			return nil, err
		}
	}
}

func (d *Demuxer) ebmlHeader() error {
	id, size, err := d.next()
	if err != nil {
		return err
	}
	if id != idEBML {
		return d.malformed("no EBML header at the start")
	}
	return d.readEBML(size)
}

// readEBML reads the header's children (RFC 8794 §11.2).
func (d *Demuxer) readEBML(size int64) error {
	d.pending, d.docType = true, "matroska"
	body, err := d.whole(size, maxHead, "EBML header")
	if err != nil {
		return err
	}
	return d.children(body, "EBML", func(e element) error {
		if e.id == idDocType && !isMatroska(e.data) {
			return fmt.Errorf("%w: an EBML document of type %q", ErrUnsupported, printable(e.data))
		}
		if e.id == idDocType {
			d.docType = trimNUL(e.data)
		}
		return nil
	})
}

// DocType is what the document calls itself: "webm" or "matroska".
func (d *Demuxer) DocType() string { return d.docType }

func isMatroska(docType []byte) bool {
	s := trimNUL(docType)
	return s == "webm" || s == "matroska"
}

// trimNUL is the text of a string element, which NULs may pad (RFC 8794 §7.4).
func trimNUL(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// printable is what of b can be shown to a person.
func printable(b []byte) string {
	if len(b) > 32 {
		b = b[:32]
	}
	return trimNUL(b)
}

func (d *Demuxer) info(size int64) error {
	body, err := d.whole(size, maxHead, "Info")
	if err != nil {
		return err
	}
	return d.children(body, "Info", func(e element) error {
		if e.id != idTimestampScale {
			return nil
		}
		scale, ok := e.uint()
		if !ok || scale == 0 || scale > uint64(time.Second) {
			return d.malformed("a TimestampScale that is no unit of time")
		}
		d.scale = time.Duration(scale)
		return nil
	})
}

// Take has the frames of a track read. The frames come with the kind given.
func (d *Demuxer) Take(t Track, kind media.Kind) { d.tracks[t.Number] = newReading(t, kind) }

// Frame is the next frame of the tracks taken, in the body's order. The error
// is ErrNewDocument where Document must be called next, io.EOF at a clean end,
// ErrCutHeader when the body ends inside its headers, ErrCutFrame inside a block,
// or what the reader gave.
func (d *Demuxer) Frame() (media.Frame, error) {
	for {
		if len(d.queue) > 0 {
			f := d.queue[0]
			d.queue = slices.Delete(d.queue, 0, 1)
			return f, nil
		}
		if err := d.advance(); err != nil {
			if d.InHeader() {
				err = cutHeader(err)
			}
			return media.Frame{}, err
		}
	}
}

// advance reads one element below the Segment.
func (d *Demuxer) advance() error {
	id, size, err := d.next()
	if err != nil {
		return err
	}
	switch id {
	case idEBML:
		if err := d.readEBML(size); err != nil {
			return cutHeader(err)
		}
		return ErrNewDocument
	case idSegment:
		d.enter(levelSegment, size)
	case idCluster:
		d.cluster, d.begun = 0, true
		d.enter(levelCluster, size)
	case idInfo:
		err = d.info(size)
	case idTimestamp:
		d.cluster, err = d.uint(size, "cluster's Timestamp")
	case idSimpleBlock:
		d.inFrame = true
		err = d.block(size)
	case idBlockGroup:
		d.inFrame = true
		err = d.blockGroup(size)
	default: // a second Tracks too: RFC 9559 §5.1.4 has it repeat the first
		err = d.skip(size)
	}
	d.inFrame = false
	return err
}

func cutHeader(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrCutHeader
	}
	return err
}

// blockGroup reads a group's block and its duration, which may follow the block.
func (d *Demuxer) blockGroup(size int64) error {
	if size == unknownSize || size > 2*MaxFrame {
		return d.malformed("a BlockGroup of %s", sizeText(size))
	}
	d.enter(levelBlockGroup, size)
	end := d.offset + size
	var block []byte
	var duration int64
	key := true
	for d.offset < end {
		id, size, err := d.step()
		if err != nil {
			return cutFrame(err)
		}
		switch id {
		case idBlock:
			block, err = d.blockBytes(size)
		case idBlockDuration:
			duration, err = d.uint(size, "BlockDuration")
		case idReferenceBlock:
			key = false
			err = d.skip(size)
		default:
			err = d.skip(size)
		}
		if err != nil {
			return cutFrame(err)
		}
	}
	if block == nil {
		return nil
	}
	lasts := d.units(duration)
	if lasts > maxDuration {
		lasts = 0
	}
	return d.frames(block, lasts, key)
}

// block reads a SimpleBlock.
func (d *Demuxer) block(size int64) error {
	block, err := d.blockBytes(size)
	if err != nil || block == nil {
		return cutFrame(err)
	}
	_, width, _ := blockTrack(block)
	return d.frames(block, 0, len(block) > width+2 && block[width+2]&flagKey != 0)
}

// blockBytes reads a block whole; nil when its track isn't taken.
func (d *Demuxer) blockBytes(size int64) ([]byte, error) {
	if size == unknownSize || size > MaxFrame {
		return nil, d.malformed("a block of %s", sizeText(size))
	}
	if size < 4 {
		return nil, d.malformed("a block of %s has no room for its header", sizeText(size))
	}
	head, err := d.r.Peek(int(min(size, 8)))
	if err != nil {
		return nil, err
	}
	number, _, ok := blockTrack(head)
	if !ok {
		return nil, d.malformed("a block with a damaged track number")
	}
	if d.tracks[number] == nil {
		return nil, d.skip(size)
	}
	return d.read(size)
}

// cutFrame names what an end of input inside a block means.
func cutFrame(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrCutFrame
	}
	return err
}

// InFrame reports whether the body would end in the middle of a frame if it
// ended where the demuxer reads on. It is for the reader, to be called from Read.
func (d *Demuxer) InFrame() bool { return d.inFrame }

// InHeader reports whether the body would end inside its headers, which last to
// the first Cluster, if it ended there; likewise. Between two of their elements
// it wouldn't.
func (d *Demuxer) InHeader() bool { return d.inside && !d.begun }

// units turns a count of the document's timestamp units into time. It is
// clipped, with room for sums, rather than let overflow.
func (d *Demuxer) units(n int64) time.Duration {
	const most = int64(1) << 60 // 36 years
	return time.Duration(min(n, most/int64(d.scale))) * d.scale
}

// next reads the id and size of the next element that is known in its place.
// The end of the input between two elements is io.EOF.
func (d *Demuxer) next() (id uint32, size int64, err error) {
	for id == 0 && err == nil {
		d.inside = false
		id, size, err = d.step()
	}
	return id, size, err
}

// step reads one element's id and size. One that is unknown in its place is
// skipped and has id 0, which no element has.
func (d *Demuxer) step() (id uint32, size int64, err error) {
	d.leave()
	start := d.offset
	inFrame := d.inFrame
	id, size, err = d.header()
	d.inFrame = inFrame
	if err != nil {
		if d.offset > start && d.level() >= levelCluster {
			err = cutFrame(err)
		}
		return 0, 0, err
	}
	d.place(id)
	if err := d.fits(id, size); err != nil {
		return 0, 0, err
	}
	if d.level().known(id) {
		d.unknown = 0
		return id, size, nil
	}
	d.unknown += d.offset - start + size
	if size == unknownSize || size > MaxUnknown || d.unknown > MaxUnknown {
		return 0, 0, d.malformed("%d KiB without an element that RFC 9559 knows", MaxUnknown>>10)
	}
	return 0, 0, d.skip(size)
}

// place leaves the masters of unknown size that element id can't be inside of
// (RFC 8794 §6.2).
func (d *Demuxer) place(id uint32) {
	for len(d.open) > 0 {
		m := d.open[len(d.open)-1]
		if m.end != unknownSize || m.level.known(id) {
			return
		}
		outer := levelTop
		if m.level == levelCluster {
			outer = levelSegment
		}
		if !outer.known(id) && !startsDocument(id) {
			return
		}
		d.open = d.open[:len(d.open)-1]
	}
}

// fits checks an element's size against the masters around it.
func (d *Demuxer) fits(id uint32, size int64) error {
	for _, m := range d.open {
		if m.end == unknownSize {
			continue
		}
		if size > m.end-d.offset || m.end < d.offset {
			return d.malformed("element %#x of %s is larger than what it is in", id, sizeText(size))
		}
	}
	if id == idCRC32 && size != 4 || (id == idPosition || id == idPrevSize) && size > 8 {
		return d.malformed("element %#x of %s", id, sizeText(size))
	}
	if size == unknownSize && id != idSegment && id != idCluster && d.level().known(id) {
		return d.malformed("element %#x may not be of unknown size", id)
	}
	return nil
}

// enter walks into a master whose header has just been read.
func (d *Demuxer) enter(l level, size int64) {
	for len(d.open) > 0 && d.open[len(d.open)-1].level >= l {
		d.open = d.open[:len(d.open)-1]
	}
	end := int64(unknownSize)
	if size != unknownSize {
		end = d.offset + size
	}
	d.open = append(d.open, master{l, end})
}

// leave walks out of the masters that end here, with what they hold.
func (d *Demuxer) leave() {
	for i, m := range d.open {
		if m.end != unknownSize && d.offset >= m.end {
			d.open = d.open[:i]
			return
		}
	}
}

func (d *Demuxer) level() level {
	if len(d.open) == 0 {
		return levelTop
	}
	return d.open[len(d.open)-1].level
}

// header reads an element's id and size.
func (d *Demuxer) header() (id uint32, size int64, err error) {
	first, err := d.readByte()
	if err != nil {
		return 0, 0, err
	}
	d.inFrame = d.inFrame || d.level() >= levelCluster
	d.inside = true
	width := vintWidth(first)
	if width > 4 {
		return 0, 0, d.malformed("no element begins with %#02x", first)
	}
	id = uint32(first)
	for range width - 1 {
		b, err := d.readByte()
		if err != nil {
			return 0, 0, err
		}
		id = id<<8 | uint32(b)
	}
	var code [8]byte
	if code[0], err = d.readByte(); err != nil {
		return 0, 0, err
	}
	if width = vintWidth(code[0]); width > 8 {
		return 0, 0, d.malformed("element %#x has a size of more than 8 bytes", id)
	}
	for i := 1; i < width; i++ {
		if code[i], err = d.readByte(); err != nil {
			return 0, 0, err
		}
	}
	return id, sizeOf(code[:width]), nil
}

func (d *Demuxer) readByte() (byte, error) {
	b, err := d.r.ReadByte()
	if err == nil {
		d.offset++
	}
	return b, err
}

// uint reads an unsigned integer element; one past 63 bits is malformed.
func (d *Demuxer) uint(size int64, what string) (int64, error) {
	if size > 8 {
		return 0, d.malformed("a %s of %s", what, sizeText(size))
	}
	b, err := d.read(size)
	if err != nil {
		return 0, err
	}
	v, _ := element{data: b}.uint()
	if v > 1<<63-1 {
		return 0, d.malformed("a %s past 63 bits", what)
	}
	return int64(v), nil
}

// whole reads an element that is needed at once, of at most limit bytes.
func (d *Demuxer) whole(size, limit int64, what string) ([]byte, error) {
	if size == unknownSize || size > limit {
		return nil, d.malformed("the %s takes %s; at most %d are read", what, sizeText(size), limit)
	}
	return d.read(size)
}

// read takes size bytes. It allocates as they arrive and not as they are
// claimed; a size that is reached in one step costs one allocation.
func (d *Demuxer) read(size int64) ([]byte, error) {
	const step = 64 << 10
	b := make([]byte, min(size, step))
	filled := 0
	for {
		n, err := io.ReadFull(d.r, b[filled:])
		d.offset += int64(n)
		if err != nil {
			return nil, fmt.Errorf("read: %w", unexpected(err))
		}
		filled += n
		if int64(filled) == size {
			return b, nil
		}
		grown := make([]byte, min(size, int64(2*filled)))
		copy(grown, b)
		b = grown
	}
}

// skip passes over size bytes.
func (d *Demuxer) skip(size int64) error {
	for size > 0 {
		n, err := d.r.Discard(int(min(size, 1<<30)))
		d.offset += int64(n)
		size -= int64(n)
		if err != nil {
			return fmt.Errorf("skip: %w", unexpected(err))
		}
	}
	return nil
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (d *Demuxer) malformed(format string, args ...any) error {
	return &MalformedError{Offset: d.offset, Reason: fmt.Sprintf(format, args...)}
}

func sizeText(size int64) string {
	if size == unknownSize {
		return "unknown size"
	}
	return fmt.Sprintf("%d bytes", size)
}
