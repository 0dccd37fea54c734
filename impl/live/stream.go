// Package live holds the sessions that are on the air: who publishes, the
// stream's clock, the newest group of pictures, and the bytes that every viewer
// gets. It knows neither HTTP nor how a publisher's bytes become frames;
// outputs read a stream at their own pace and never hold it up.
package live

import (
	"bytes"
	"strconv"
	"sync/atomic"
	"time"

	"tureen/impl/media"
	"tureen/impl/webm"
)

// Past these a group of pictures isn't replayed to a new viewer, who waits for
// the next key frame instead (WAT-4).
const (
	maxReplay      = 10 * time.Second
	maxReplayBytes = 8 << 20
	// maxReplayFrames is far more than cameras and microphones make in 10 s:
	// tiny frames take more memory than their bytes.
	maxReplayFrames = 16 << 10
)

// maxCluster is the longest a cluster gets, as players expect of WebM. Video
// begins one at each key frame besides.
const maxCluster = 5 * time.Second

// Stream is what one body of a viewer holds: a header, then slots in order. One
// goroutine appends; any number read, without locks.
type Stream struct {
	ready chan struct{} // closed when the tracks are known
	ended chan struct{} // closed at the end
	// observed is called then; nil when nobody wants to know.
	observed func()

	tracks  []media.Track // fixed once ready
	header  []byte        // likewise
	numbers [media.Kinds]int
	video   bool

	tail  atomic.Pointer[Slot] // the one to be filled next
	start atomic.Pointer[Slot] // the newest one to start at; nil when none is young enough

	cluster    time.Duration // the open cluster's time
	open       bool          // whether there is one
	sinceStart int           // bytes, from start on

	clock clock // the publisher's, kept here for the next one to go on

	asks   atomic.Pointer[func()] // has the publisher make a key frame; nil, or of nil, where it can't be asked
	asked  atomic.Int64           // when that was last done, in nanoseconds of Unix time
	latest atomic.Int64           // when the newest frame came, likewise

	// Counts are the session's, to which outputs add what they did.
	Counts *Counts
}

// Counts are a session's counters, for the log and the API, over all of its
// publishers and streams.
type Counts struct {
	BytesIn   atomic.Int64 // of publishers' bodies
	Viewers   atomic.Int64 // watching now
	Joined    atomic.Int64 // that ever watched
	Completed atomic.Int64 // viewers whose body was written to its end
	Left      atomic.Int64 // viewers that broke off
	Skipped   atomic.Int64 // times a viewer was moved on to a later key frame
	Stalled   atomic.Int64 // viewers cut off because they took nothing
	BytesOut  atomic.Int64 // of bodies to all viewers, of packets to all RTP clients
}

// Slot is the place of one frame in a stream. It is filled once, and then never
// changes. A reader that holds a slot keeps those after it in memory, so it
// must not hold on to one for longer than its latency budget.
type Slot struct {
	next   atomic.Pointer[Slot] // nil until this one is filled
	filled chan struct{}        // closed then

	// What follows may be read once Next is not nil.

	Sequence uint64
	Arrived  time.Time
	// Last reports whether the stream has ended: the slot holds no frame, its
	// chunk closes the body, and none follows.
	Last bool
	// Start reports whether a body can begin here: at a key frame of video,
	// anywhere in a stream without.
	Start bool
	// Kind, Time and Payload are the frame's; the time is on the stream's clock.
	Kind    media.Kind
	Time    time.Duration
	Payload []byte // within Media

	cluster time.Duration // of its cluster
	opens   bool          // whether it begins that
	chunk   []byte        // its bytes as an HTTP/1.1 chunk
	media   []byte        // its bytes alone, within chunk
}

// Next is the slot after this one; nil while this one isn't filled.
func (s *Slot) Next() *Slot { return s.next.Load() }

// Filled is closed once the slot is filled.
func (s *Slot) Filled() <-chan struct{} { return s.filled }

// Media is the slot's WebM bytes.
func (s *Slot) Media() []byte { return s.media }

// Chunk is the same framed as a chunk of HTTP/1.1; of the last slot, the chunk
// that closes a body.
func (s *Slot) Chunk() []byte { return s.chunk }

// Lead is what a body that jumps to this slot needs before its bytes: the
// header of the cluster that it is inside of, if it doesn't begin one.
func (s *Slot) Lead() []byte {
	if s.opens {
		return nil
	}
	return webm.AppendCluster(nil, s.cluster)
}

func newSlot(sequence uint64) *Slot {
	return &Slot{filled: make(chan struct{}), Sequence: sequence}
}

func newStream(counts *Counts) *Stream {
	s := &Stream{ready: make(chan struct{}), ended: make(chan struct{}), clock: newClock(), Counts: counts}
	s.tail.Store(newSlot(0))
	return s
}

// Video reports whether the stream has pictures.
func (s *Stream) Video() bool { return s.video }

// Header is what every body begins with.
func (s *Stream) Header() []byte { return s.header }

// Tracks are the stream's tracks. They may not be changed.
func (s *Stream) Tracks() []media.Track { return s.tracks }

// Tail is the slot that the next frame will fill.
func (s *Stream) Tail() *Slot { return s.tail.Load() }

// Newest is the newest slot at which a body can start, if it is no older than
// maxAge; the tail otherwise, from which a reader goes on to the next Start.
func (s *Stream) Newest(now time.Time, maxAge time.Duration) *Slot {
	tail := s.Tail() // first: a start that comes in between is after it
	if start := s.start.Load(); start != nil && now.Sub(start.Arrived) <= maxAge {
		return start
	}
	return tail
}

// Join is the slot at which a new viewer starts. Where pictures are being
// encoded, a key frame is asked for rather than an old one played again: what is
// replayed, the viewer stays behind by.
func (s *Stream) Join(now time.Time) *Slot {
	tail := s.Tail() // first: a key frame that comes in between is after it
	if s.newKeyFrame(now) {
		return tail
	}
	return s.Newest(now, maxReplay)
}

const (
	// fresh is how old a key frame may be to be replayed although a newer one
	// could be had.
	fresh = 400 * time.Millisecond
	// flowing is how old the newest frame may be: from a publisher that pauses
	// no key frame will come.
	flowing = 200 * time.Millisecond
	// seldom is how long key frames are not asked for again: they are large.
	seldom = 400 * time.Millisecond
)

// newKeyFrame asks for a key frame if that is worth it, and reports whether one
// is on its way.
func (s *Stream) newKeyFrame(now time.Time) bool {
	ask, start := s.asks.Load(), s.start.Load()
	if ask == nil || *ask == nil || start == nil || now.Sub(start.Arrived) <= fresh ||
		now.Sub(time.Unix(0, s.latest.Load())) > flowing {
		return false
	}
	asked := s.asked.Load()
	if now.Sub(time.Unix(0, asked)) > seldom && s.asked.CompareAndSwap(asked, now.UnixNano()) {
		(*ask)()
	}
	return true
}

func (s *Stream) isReady() bool {
	select {
	case <-s.ready:
		return true
	default:
		return false
	}
}

// begin makes the tracks known.
func (s *Stream) begin(tracks []media.Track) {
	s.tracks, s.header = tracks, webm.Header(tracks)
	for i, t := range tracks {
		s.numbers[t.Kind] = i + 1
		s.video = s.video || t.Kind == media.Video
	}
	close(s.ready)
}

// continues reports whether a body of this stream can go on with other tracks:
// the same kinds, and Vorbis that the decoder set up by the header understands
// (REC-2).
func (s *Stream) continues(tracks []media.Track) bool {
	if len(tracks) != len(s.tracks) {
		return false
	}
	for i, t := range tracks {
		old := s.tracks[i]
		if t.Kind != old.Kind || t.Codec != old.Codec {
			return false
		}
		if t.Kind == media.Audio && !sameVorbis(old, t) {
			return false
		}
	}
	return true
}

func sameVorbis(a, b media.Track) bool {
	if a.SampleRate != b.SampleRate || a.Channels != b.Channels {
		return false
	}
	old, err1 := webm.VorbisHeaders(a.Private)
	fresh, err2 := webm.VorbisHeaders(b.Private)
	const blockSizes = 28 // byte of the identification header, Vorbis I §4.2.2
	return err1 == nil && err2 == nil && len(old[0]) > blockSizes && len(fresh[0]) > blockSizes &&
		old[0][blockSizes] == fresh[0][blockSizes] && bytes.Equal(old[2], fresh[2])
}

// append adds a frame at a time of the stream's clock, which never falls.
func (s *Stream) append(f media.Frame, at time.Duration, now time.Time) {
	slot := s.Tail()
	slot.Arrived = now
	s.latest.Store(now.UnixNano())
	slot.Start = f.Key && (f.Kind == media.Video || !s.video)
	slot.Kind, slot.Time = f.Kind, at
	at = at.Round(time.Millisecond)
	slot.opens = !s.open || (s.video && slot.Start) || at-s.cluster > maxCluster
	if slot.opens {
		s.open, s.cluster = true, at
	}
	slot.cluster = s.cluster
	s.serialise(slot, f, at)
	s.mark(slot, now)
	s.fill(slot)
}

// serialise writes a frame's bytes once for all viewers.
func (s *Stream) serialise(slot *Slot, f media.Frame, at time.Duration) {
	const headers = 32 // of a cluster and a block
	b := make([]byte, sizeRoom, sizeRoom+headers+len(f.Payload)+len(crlf))
	if slot.opens {
		b = webm.AppendCluster(b, at)
	}
	b = webm.AppendSimpleBlock(b, s.numbers[f.Kind], at-s.cluster, f.Key, f.Payload)
	slot.media = b[sizeRoom:]
	slot.Payload = slot.media[len(slot.media)-len(f.Payload):]
	slot.chunk = closeChunk(b)
}

// sizeRoom is left free before a chunk's data for its size: up to eight
// hexadecimal digits and CR LF.
const (
	sizeRoom = 10
	crlf     = "\r\n"
)

// LastChunk closes a body in chunks, without trailers (RFC 9112 §7.1).
const LastChunk = "0\r\n\r\n"

// Chunk frames b as a chunk of HTTP/1.1 (RFC 9112 §7.1).
func Chunk(b []byte) []byte {
	room := make([]byte, sizeRoom, sizeRoom+len(b)+len(crlf))
	return closeChunk(append(room, b...))
}

// closeChunk frames the data that follows the first sizeRoom bytes of b.
func closeChunk(b []byte) []byte {
	var digits [sizeRoom]byte
	size := append(strconv.AppendInt(digits[:0], int64(len(b)-sizeRoom), 16), crlf...)
	begin := sizeRoom - len(size)
	copy(b[begin:], size)
	return append(b, crlf...)[begin:]
}

// mark keeps the newest place to start, while it is worth replaying.
func (s *Stream) mark(slot *Slot, now time.Time) {
	if slot.Start {
		s.start.Store(slot)
		s.sinceStart = 0
	}
	s.sinceStart += len(slot.media)
	start := s.start.Load()
	if start == nil {
		return
	}
	frames := slot.Sequence - start.Sequence
	if s.sinceStart > maxReplayBytes || frames > maxReplayFrames || now.Sub(start.Arrived) > maxReplay {
		s.start.Store(nil)
	}
}

// fill hands a slot to the readers.
func (s *Stream) fill(slot *Slot) {
	next := newSlot(slot.Sequence + 1)
	s.tail.Store(next)
	slot.next.Store(next)
	close(slot.filled)
}

// end ends all bodies as whole ones.
func (s *Stream) end() {
	slot := s.Tail()
	slot.Arrived, slot.Last = time.Now(), true
	slot.chunk = []byte(LastChunk)
	s.start.Store(nil)
	slot.next.Store(newSlot(slot.Sequence + 1)) // never filled; the tail stays, for readers yet to come
	close(slot.filled)
	close(s.ended)
	if s.observed != nil {
		s.observed()
	}
}
