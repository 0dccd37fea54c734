package webm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"time"
)

// The kinds of track.
const (
	Video = "video"
	Audio = "audio"
)

// trackTypes are TrackType's values (RFC 9559 §5.1.4.1.3).
var trackTypes = map[string]uint64{Video: 1, Audio: 2}

// Block flags of RFC 9559 §10.1 and §10.2.
const (
	flagKey      = 0x80
	flagReserved = 0x70
	flagLacing   = 0x06
)

// maxElement is the largest element that is held while it arrives: no frame of a live stream is bigger.
const maxElement = 32 << 20

// seed is one for the whole process, so that equal payloads have equal hashes wherever they are met.
var seed = maphash.MakeSeed()

// Hash identifies a frame's payload within this process.
func Hash(payload []byte) uint64 { return maphash.Bytes(seed, payload) }

// Fault is a rule that a body breaks.
type Fault struct {
	Rule   string // the requirement, for example "WAT-5"
	Offset int64  // of the element, in bytes from the body's beginning
	At     time.Time
	Text   string
}

func (f Fault) String() string { return fmt.Sprintf("%s, byte %d: %s", f.Rule, f.Offset, f.Text) }

// Track is a TrackEntry.
type Track struct {
	Number        int
	Kind          string // Video, Audio, or empty
	CodecID       string // for example "V_VP8"
	Private       []byte // CodecPrivate
	Width, Height int    // pixels
	Rate          float64
	Channels      int
}

// Block is one frame of a body.
type Block struct {
	Track   int
	Kind    string
	Time    time.Duration
	Key     bool   // as the block says
	Hash    uint64 // of the payload
	Size    int    // payload bytes
	Payload []byte // of pictures that say in themselves that they are key frames
	Offset  int64  // of the block's element
	Cluster int64  // offset of its Cluster
	Arrived time.Time
}

// Reader judges a WebM body that comes in pieces. After a fault that hides where the next element is, it reads no more.
type Reader struct {
	Tracks []Track
	Blocks []Block
	Faults []Fault
	// Each, if set, is called with each block and its payload, which is valid only during the call.
	Each func(b Block, payload []byte)

	pending []byte
	offset  int64 // of pending's first byte
	at      time.Time
	lost    bool

	begun                   bool // the EBML header has come
	segment, info, headDone bool
	scale                   int64 // ns

	cluster     int64 // offset of the open Cluster, -1 without one
	clusterEnd  int64 // of a Cluster of known size, else -1
	clusterTime int64 // ticks; -1 before its Timestamp
	lastCluster int64
	lastTime    int64 // ticks
	anyBlock    bool
	early       []Block // audio before the first picture
	anyVideo    bool
}

// NewReader returns a reader at a body's beginning.
func NewReader() *Reader {
	return &Reader{scale: int64(time.Millisecond), cluster: -1, clusterEnd: -1, clusterTime: -1}
}

// Feed takes the next piece of the body and the time at which it came.
func (r *Reader) Feed(p []byte, at time.Time) {
	if r.lost {
		return
	}
	r.at = at
	r.pending = append(r.pending, p...)
	for !r.lost && r.step() {
	}
	r.pending = append([]byte(nil), r.pending...) // what is done needs no memory
}

// Finish judges the end of a body that ended as a whole one.
func (r *Reader) Finish() {
	switch {
	case r.lost:
	case len(r.pending) > 0:
		r.fault("WAT-2", "the body ends inside an element")
	case r.clusterEnd > r.offset:
		r.fault("WAT-2", "the body ends %d bytes before its last Cluster", r.clusterEnd-r.offset)
	case !r.headDone:
		r.fault("WAT-2", "the body ends before its Tracks")
	}
}

// Offset is the number of bytes that were understood.
func (r *Reader) Offset() int64 { return r.offset }

// Head reports whether the tracks are known.
func (r *Reader) Head() bool { return r.headDone }

func (r *Reader) fault(rule, format string, args ...any) {
	r.Faults = append(r.Faults, Fault{Rule: rule, Offset: r.offset, At: r.at, Text: fmt.Sprintf(format, args...)})
}

// lose notes a fault behind which nothing can be understood.
func (r *Reader) lose(format string, args ...any) {
	r.fault("WAT-2", format, args...)
	r.lost = true
}

// step takes one element's head, or a whole element. It reports whether there may be more to take.
func (r *Reader) step() bool {
	if r.cluster >= 0 && r.clusterEnd == r.offset {
		r.leaveCluster()
	}
	h, err := readHeader(r.pending)
	if errors.Is(err, errShort) {
		return false
	}
	if err != nil {
		r.lose("%v", err)
		return false
	}
	if !r.begun && h.id != IDEBML {
		r.lose("the body begins with element %X instead of an EBML header", h.id)
		return false
	}
	if h.id == IDSegment || h.id == IDCluster {
		r.enter(h)
		r.take(h.length)
		return true
	}
	if h.size < 0 {
		r.lose("element %X has an unknown size, which only Segment and Cluster may have", h.id)
		return false
	}
	if h.size > maxElement {
		r.lose("element %X claims %d bytes", h.id, h.size)
		return false
	}
	whole := h.length + int(h.size)
	if len(r.pending) < whole {
		return false
	}
	r.element(h, r.pending[h.length:whole])
	r.take(whole)
	return true
}

// take drops what was dealt with.
func (r *Reader) take(n int) {
	r.pending = r.pending[n:]
	r.offset += int64(n)
}

// enter begins a Segment or a Cluster.
func (r *Reader) enter(h header) {
	if h.id == IDSegment {
		if r.segment {
			r.fault("WAT-2", "a second Segment")
		}
		if h.size >= 0 {
			r.fault("WAT-2", "the Segment states a size of %d bytes", h.size)
		}
		r.segment = true
		return
	}
	if !r.headDone {
		r.fault("WAT-2", "a Cluster before Tracks")
	}
	if r.cluster >= 0 {
		r.leaveCluster()
	}
	r.cluster, r.clusterEnd, r.clusterTime = r.offset, -1, -1
	if h.size >= 0 {
		r.clusterEnd = r.offset + int64(h.length) + h.size
	}
}

// leaveCluster closes the open Cluster.
func (r *Reader) leaveCluster() {
	if r.clusterEnd > r.offset {
		r.fault("WAT-2", "element inside a Cluster that can only follow it, %d bytes before the Cluster's end", r.clusterEnd-r.offset)
	}
	r.cluster, r.clusterEnd, r.clusterTime = -1, -1, -1
}

// element takes a whole element. Unknown ones are allowed anywhere (RFC 8794 §3).
func (r *Reader) element(h header, body []byte) {
	if r.cluster >= 0 && segmentLevel[h.id] {
		r.leaveCluster()
	}
	if r.clusterEnd >= 0 && r.offset+int64(h.length+len(body)) > r.clusterEnd {
		r.fault("WAT-2", "element %X reaches beyond its Cluster's end", h.id)
	}
	switch h.id {
	case IDEBML:
		r.ebml(body)
	case idInfo:
		r.takeInfo(body)
	case idTracks:
		r.takeTracks(body)
	case idTimestamp:
		r.timestamp(body)
	case IDSimpleBlock:
		r.block(body, func(flags byte) bool { return flags&flagKey != 0 })
	case idBlockGroup:
		r.group(body)
	}
}

// children calls f with each child of a master element. What can't be read is a fault.
func (r *Reader) children(name string, body []byte, f func(id uint32, content []byte)) {
	for len(body) > 0 {
		h, err := readHeader(body)
		switch {
		case errors.Is(err, errShort), err == nil && (h.size > int64(len(body)-h.length)):
			r.fault("WAT-2", "%s ends inside one of its elements", name)
			return
		case err != nil:
			r.fault("WAT-2", "%s: %v", name, err)
			return
		case h.size < 0:
			r.fault("WAT-2", "%s: element %X has an unknown size", name, h.id)
			return
		}
		end := h.length + int(h.size)
		f(h.id, body[h.length:end])
		body = body[end:]
	}
}

// ebml takes the EBML header (RFC 8794 §11.2); absent elements have their defaults.
func (r *Reader) ebml(body []byte) {
	if r.begun {
		r.fault("WAT-2", "a second EBML header")
	}
	r.begun = true
	docType, read, maxID, maxSize, version, readVersion := "", uint64(1), uint64(4), uint64(8), uint64(1), uint64(1)
	r.children("the EBML header", body, func(id uint32, b []byte) {
		switch id {
		case idEBMLReadVersion:
			read = Uint(b)
		case idEBMLMaxIDLength:
			maxID = Uint(b)
		case idEBMLMaxSizeLength:
			maxSize = Uint(b)
		case idDocType:
			docType = string(b)
		case idDocTypeVersion:
			version = Uint(b)
		case idDocTypeReadVersion:
			readVersion = Uint(b)
		}
	})
	if docType != "webm" {
		r.fault("WAT-2", "DocType is %q", docType)
	}
	if read != 1 || maxID != 4 || maxSize > 8 || readVersion > version || readVersion == 0 {
		r.fault("WAT-2", "EBMLReadVersion %d, EBMLMaxIDLength %d, EBMLMaxSizeLength %d, DocTypeVersion %d, DocTypeReadVersion %d",
			read, maxID, maxSize, version, readVersion)
	}
}

// takeInfo takes the Info element (RFC 9559 §5.1.2).
func (r *Reader) takeInfo(body []byte) {
	if !r.segment {
		r.fault("WAT-2", "Info outside a Segment")
	}
	if r.info {
		r.fault("WAT-2", "a second Info")
	}
	r.info = true
	muxing, writing := false, false
	r.children("Info", body, func(id uint32, b []byte) {
		switch id {
		case idTimestampScale:
			r.scale = int64(Uint(b))
		case idMuxingApp:
			muxing = true
		case idWritingApp:
			writing = true
		}
	})
	if r.scale <= 0 || r.scale > int64(time.Second) {
		r.fault("WAT-2", "TimestampScale is %d ns", r.scale)
		r.scale = int64(time.Millisecond)
	}
	if !muxing || !writing {
		r.fault("WAT-2", "Info lacks MuxingApp or WritingApp, which RFC 9559 demands")
	}
}

// takeTracks takes the Tracks element (RFC 9559 §5.1.4).
func (r *Reader) takeTracks(body []byte) {
	if r.headDone {
		r.fault("WAT-2", "a second Tracks")
		return
	}
	if !r.info {
		r.fault("WAT-2", "Tracks before Info")
	}
	r.headDone = true
	r.children("Tracks", body, func(id uint32, b []byte) {
		if id == idTrackEntry {
			r.takeTrack(b)
		}
	})
	if len(r.Tracks) == 0 {
		r.fault("WAT-2", "Tracks without a track")
	}
}

func (r *Reader) takeTrack(body []byte) {
	var t Track
	uid, kind := uint64(0), uint64(0)
	t.Rate, t.Channels = 8000, 1 // RFC 9559 §5.1.4.1.29.1 and .3
	r.children("a TrackEntry", body, func(id uint32, b []byte) {
		switch id {
		case idTrackNumber:
			t.Number = int(Uint(b))
		case idTrackUID:
			uid = Uint(b)
		case idTrackType:
			kind = Uint(b)
		case idCodecID:
			t.CodecID = string(b)
		case idCodecPrivate:
			t.Private = append([]byte(nil), b...)
		case idContentEncodings:
			r.fault("WAT-2", "a track has ContentEncodings, which WebM players don't know")
		case idVideo, idAudio:
			r.children("a track's settings", b, t.setting)
		}
	})
	for name, v := range trackTypes {
		if v == kind {
			t.Kind = name
		}
	}
	r.judgeTrack(t, uid)
	r.Tracks = append(r.Tracks, t)
}

func (t *Track) setting(id uint32, b []byte) {
	switch id {
	case idPixelWidth:
		t.Width = int(Uint(b))
	case idPixelHeight:
		t.Height = int(Uint(b))
	case idSampling:
		t.Rate = float(b)
	case idChannels:
		t.Channels = int(Uint(b))
	}
}

func (r *Reader) judgeTrack(t Track, uid uint64) {
	if t.Number < 1 || t.Number > 126 || uid == 0 {
		r.fault("WAT-2", "a track has number %d and UID %d", t.Number, uid)
	}
	for _, other := range r.Tracks {
		if other.Number == t.Number {
			r.fault("WAT-2", "two tracks have number %d", t.Number)
		}
		if other.Kind == t.Kind {
			r.fault("WAT-2", "two tracks of kind %q", t.Kind)
		}
	}
	switch {
	case t.Kind == Video && t.CodecID == "V_VP8":
		if t.Width == 0 || t.Height == 0 {
			r.fault("WAT-2", "the video track is of %d×%d pixels", t.Width, t.Height)
		}
	case t.Kind == Audio && t.CodecID == "A_VORBIS":
		r.judgeVorbis(t)
	default:
		r.fault("WAT-2", "a track of kind %q has the codec %s", t.Kind, t.CodecID)
	}
}

// judgeVorbis compares a track's settings with its identification header (Vorbis I §4.2.2).
func (r *Reader) judgeVorbis(t Track) {
	ident, _, setup, err := VorbisHeaders(t.Private)
	if err != nil {
		r.fault("WAT-2", "the audio track's CodecPrivate: %v", err)
		return
	}
	channels, rate := int(ident[11]), float64(binary.LittleEndian.Uint32(ident[12:]))
	if math.Abs(t.Rate-rate) > 0.5 || t.Channels != channels {
		r.fault("WAT-2", "the audio track states %d channels at %v Hz, its Vorbis header %d at %v", t.Channels, t.Rate, channels, rate)
	}
	if len(setup) < 8 || string(setup[:7]) != "\x05vorbis" {
		r.fault("WAT-2", "the audio track's CodecPrivate has no Vorbis setup header")
	}
}

// VorbisHeaders splits a CodecPrivate into Vorbis' three headers (Matroska codec mappings, A_VORBIS).
func VorbisHeaders(private []byte) (ident, comment, setup []byte, err error) {
	if len(private) < 3 || private[0] != 2 {
		return nil, nil, nil, errors.New("not three laced packets")
	}
	rest := private[1:]
	var sizes [2]int
	for i := range sizes {
		for {
			if len(rest) == 0 {
				return nil, nil, nil, errors.New("cut short")
			}
			b := rest[0]
			rest = rest[1:]
			sizes[i] += int(b)
			if b != 255 {
				break
			}
		}
	}
	if len(rest) < sizes[0]+sizes[1] || sizes[0] != 30 || string(rest[:7]) != "\x01vorbis" {
		return nil, nil, nil, errors.New("no Vorbis identification header")
	}
	return rest[:sizes[0]], rest[sizes[0] : sizes[0]+sizes[1]], rest[sizes[0]+sizes[1]:], nil
}

// timestamp takes a Cluster's Timestamp.
func (r *Reader) timestamp(body []byte) {
	if r.cluster < 0 || r.clusterTime >= 0 || len(body) > 8 {
		r.fault("WAT-2", "a Timestamp outside a Cluster, a second one, or one of %d bytes", len(body))
		return
	}
	r.clusterTime = int64(Uint(body) & math.MaxInt64)
	if r.clusterTime < r.lastCluster {
		r.fault("WAT-5", "a Cluster's Timestamp falls from %d to %d", r.lastCluster, r.clusterTime)
	}
	r.lastCluster = r.clusterTime
}

// group takes a BlockGroup; without a reference its block is a key frame (RFC 9559 §5.1.3.5.5).
func (r *Reader) group(body []byte) {
	var block []byte
	key := true
	r.children("a BlockGroup", body, func(id uint32, b []byte) {
		switch id {
		case idBlock:
			block = b
		case idReferenceBlock:
			key = false
		}
	})
	if block == nil {
		r.fault("WAT-2", "a BlockGroup without a Block")
		return
	}
	r.block(block, func(byte) bool { return key })
}

// block takes a Block or SimpleBlock (RFC 9559 §10).
func (r *Reader) block(body []byte, isKey func(flags byte) bool) {
	if len(body) < 5 || vintWidth(body[0]) != 1 {
		r.fault("WAT-2", "a block of %d bytes, or of a track number beyond 126", len(body))
		return
	}
	if r.cluster < 0 || r.clusterTime < 0 {
		r.fault("WAT-2", "a block outside a Cluster, or before the Cluster's Timestamp")
		return
	}
	number, relative, flags, payload := int(body[0]&0x7f), int16(binary.BigEndian.Uint16(body[1:])), body[3], body[4:]
	track, ok := r.track(number)
	if !ok {
		r.fault("WAT-2", "a block of track %d, which Tracks doesn't name", number)
		return
	}
	if flags&flagLacing != 0 {
		r.fault("WAT-2", "a laced block")
	}
	if flags&flagReserved != 0 {
		r.fault("WAT-2", "a block's reserved flags are set: %#02x", flags)
	}
	if relative < 0 {
		r.fault("WAT-5", "a block's relative timestamp is %d", relative)
	}
	b := Block{
		Track: number, Kind: track.Kind, Time: time.Duration((r.clusterTime + int64(relative)) * r.scale), Key: isKey(flags),
		Hash: Hash(payload), Size: len(payload), Offset: r.offset, Cluster: r.cluster, Arrived: r.at,
	}
	if b.Kind == Video && payload[0]&1 == 0 { // RFC 6386 §9.1: 0 for a key frame
		b.Payload = append([]byte(nil), payload...)
	}
	r.judgeOrder(r.clusterTime + int64(relative))
	r.judgeStart(b)
	r.Blocks = append(r.Blocks, b)
	if r.Each != nil {
		r.Each(b, payload)
	}
}

func (r *Reader) track(number int) (Track, bool) {
	for _, t := range r.Tracks {
		if t.Number == number {
			return t, true
		}
	}
	return Track{}, false
}

// judgeOrder: timestamps never fall.
func (r *Reader) judgeOrder(ticks int64) {
	if r.anyBlock && ticks < r.lastTime {
		r.fault("WAT-5", "a block's timestamp falls from %d to %d", r.lastTime, ticks)
	}
	r.anyBlock, r.lastTime = true, max(ticks, r.lastTime)
}

// judgeStart: the first picture is a key frame, and no sound before it is older. Later key frames must say that they are.
func (r *Reader) judgeStart(b Block) {
	switch {
	case b.Kind != Video:
		if !r.anyVideo {
			r.early = append(r.early, b)
		}
		return
	case r.anyVideo:
		if b.Key != (b.Payload != nil) {
			r.fault("WAT-2", "a picture's key frame flag is %v, which its payload contradicts", b.Key)
		}
		return
	}
	r.anyVideo = true
	if !b.Key || b.Payload == nil {
		r.fault("WAT-3", "the first picture is no key frame (by its flag: %v; by its payload: %v)", b.Key, b.Payload != nil)
	}
	for _, sound := range r.early {
		if sound.Time < b.Time {
			r.fault("WAT-3", "sound of %v before the first picture, which is of %v", sound.Time, b.Time)
			break
		}
	}
	r.early = nil
}
