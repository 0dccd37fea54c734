// Package media holds what the suite's publishers send: bytes with the times at which they are due, and the frames that a
// viewer has to get of them. Sources come from the fixtures as they are, or are put together anew from fixtures' frames.
//
// Sending them is left to package suite, judging what arrives too.
package media

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"time"

	"tureen/conformance/webm"
	"tureen/fixtures"
	"tureen/fixtures/index"
)

// Piece is a run of bytes that is sent at once.
type Piece struct {
	Due  time.Duration // after the first piece
	Data []byte
}

// Frame is one frame of a source, in the order in which it is complete.
type Frame struct {
	Kind    string // webm.Video, webm.Audio
	Time    time.Duration
	Key     bool
	Payload []byte
	Piece   int // the piece whose last byte completes it
	Lace    int // its place in a lace or, without one, 0
}

// Source is a body to publish. Sources are shared: they must not be changed.
type Source struct {
	Name        string
	File        string // below fixtures/clips: the clip, or one much like it; empty: there is none
	ContentType string
	Pieces      []Piece
	Tracks      []webm.Track // of video and audio, the first of each kind
	Frames      []Frame      // of these tracks
	Duration    time.Duration
}

// Bytes is the whole body.
func (s *Source) Bytes() []byte {
	var b []byte
	for _, p := range s.Pieces {
		b = append(b, p.Data...)
	}
	return b
}

// Size is the body's length in bytes.
func (s *Source) Size() int {
	n := 0
	for _, p := range s.Pieces {
		n += len(p.Data)
	}
	return n
}

// Of returns the frames of one kind.
func (s *Source) Of(kind string) []Frame {
	var frames []Frame
	for _, f := range s.Frames {
		if f.Kind == kind {
			frames = append(frames, f)
		}
	}
	return frames
}

// Has reports whether there is a track of that kind.
func (s *Source) Has(kind string) bool {
	return slices.ContainsFunc(s.Tracks, func(t webm.Track) bool { return t.Kind == kind })
}

// Fixture returns a WebM or Matroska fixture as it is, each frame due at its own time.
func Fixture(name string) *Source {
	clip, err := fixtures.Open(name)
	if err != nil {
		panic("conformance: " + err.Error()) // fixtures are part of the program
	}
	parsed, err := index.Matroska(clip.Data)
	if err != nil && !clip.Malformed {
		panic(fmt.Sprintf("conformance: fixture %s: %v", name, err))
	}
	s := &Source{Name: name, File: clip.File, ContentType: clip.ContentType, Duration: clip.Duration}
	kinds := s.adopt(parsed.Tracks)
	s.schedule(clip.Data, parsed.Packets, kinds)
	return s
}

// Encoded returns a fixture of any container as it is, each frame due at its own time. Its frames have no payloads: whoever
// transcodes them makes others. For stamped video a frame's place among those of its kind, by time, is its stamp.
func Encoded(name string) *Source {
	clip, err := fixtures.Open(name)
	if err != nil {
		panic("conformance: " + err.Error()) // fixtures are part of the program
	}
	s := &Source{Name: name, File: clip.File, ContentType: clip.ContentType, Duration: clip.Duration}
	kinds := make(map[int]string)
	for _, t := range clip.Tracks {
		if (t.Kind == webm.Video || t.Kind == webm.Audio) && !s.Has(t.Kind) {
			kinds[t.Number] = t.Kind
			width, height := t.Width, t.Height
			if t.Rotation == 90 {
				width, height = height, width
			}
			s.Tracks = append(s.Tracks, webm.Track{Number: t.Number, Kind: t.Kind, Width: width, Height: height, Channels: t.Channels})
		}
	}
	packets := make([]index.Packet, len(clip.Frames))
	for i, f := range clip.Frames {
		packets[i] = index.Packet{Frame: f}
	}
	s.schedule(clip.Data, packets, kinds)
	return s
}

// Document returns one of the EBML documents of a fixture that has several, counted from 0.
func Document(name string, n int) *Source {
	clip, err := fixtures.Open(name)
	if err != nil {
		panic("conformance: " + err.Error()) // fixtures are part of the program
	}
	documents := bytes.SplitAfter(clip.Data, ebmlID)
	data := slices.Concat(ebmlID, bytes.TrimSuffix(documents[n+1], ebmlID))
	parsed, err := index.Matroska(data)
	if err != nil {
		panic(fmt.Sprintf("conformance: document %d of fixture %s: %v", n, name, err))
	}
	s := &Source{Name: fmt.Sprintf("document %d of %s", n, name), ContentType: clip.ContentType, Duration: parsed.Duration}
	kinds := s.adopt(parsed.Tracks)
	s.schedule(data, parsed.Packets, kinds)
	return s
}

// ebmlID is how a document begins (RFC 8794 §11.2.1).
var ebmlID = []byte{0x1A, 0x45, 0xDF, 0xA3}

// adopt takes over the first track of each kind, and returns the kinds by track number.
func (s *Source) adopt(tracks []index.Track) map[int]string {
	kinds := make(map[int]string)
	for _, t := range tracks {
		if (t.Kind != webm.Video && t.Kind != webm.Audio) || s.Has(t.Kind) {
			continue
		}
		kinds[t.Number] = t.Kind
		s.Tracks = append(s.Tracks, webm.Track{
			Number: t.Number, Kind: t.Kind, CodecID: t.CodecID, Private: t.CodecPrivate, Width: t.Width, Height: t.Height,
			Rate: float64(t.SampleRate), Channels: t.Channels,
		})
	}
	return kinds
}

// schedule cuts a file where frames are complete. Time goes on over the documents of a file that has several.
func (s *Source) schedule(data []byte, packets []index.Packet, kinds map[int]string) {
	var sent int64
	var first, base, latest time.Duration
	document, lace := 0, 0
	if head := bytes.Index(data, clusterID); head > 0 && len(packets) > 0 && int64(head) < packets[0].End {
		s.Pieces = append(s.Pieces, Piece{Data: data[:head]}) // so that a publisher can send the head alone
		sent = int64(head)
	}
	for i, p := range packets {
		if i == 0 {
			first = p.PTS
		}
		if p.Document != document {
			document, base, first = p.Document, latest, p.PTS
		}
		due := max(latest, base+p.PTS-first)
		if p.End > sent {
			s.Pieces = append(s.Pieces, Piece{Due: due, Data: data[sent:p.End]})
			sent, lace = p.End, 0
		} else {
			lace++
		}
		if lace == 0 {
			latest = due
		}
		if kind := kinds[p.Track]; kind != "" {
			s.Frames = append(s.Frames, Frame{
				Kind: kind, Time: base + p.PTS, Key: p.Key, Payload: p.Payload, Piece: len(s.Pieces) - 1, Lace: lace,
			})
		}
	}
	if int(sent) < len(data) {
		s.Pieces = append(s.Pieces, Piece{Due: latest, Data: data[sent:]})
	}
}

// clusterID is how a Cluster begins (RFC 9559 §5.1.3).
var clusterID = []byte{0x1F, 0x43, 0xB6, 0x75}

// Raw returns bytes that aren't media, due at once.
func Raw(name string, data []byte) *Source {
	return &Source{Name: name, Pieces: []Piece{{Data: data}}}
}

// Compose puts frames together to a WebM document of unknown sizes, with a Cluster for every key frame, and at least one a
// second. The first piece is the head alone. Times are as given; the first frame is due at 0.
func Compose(name string, tracks []webm.Track, frames []Frame) *Source {
	s := &Source{Name: name, ContentType: "video/webm", Tracks: tracks, Pieces: []Piece{{Data: webm.Head(tracks)}}}
	if len(frames) == 0 {
		return s
	}
	numbers := make(map[string]int)
	for _, t := range tracks {
		numbers[t.Kind] = t.Number
	}
	first, cluster, latest := frames[0].Time, time.Duration(-1), time.Duration(0)
	for _, f := range frames {
		var data []byte
		if cluster < 0 || f.Kind == webm.Video && f.Key || f.Time < cluster || f.Time-cluster >= time.Second {
			cluster = f.Time.Truncate(time.Millisecond)
			data = webm.ClusterHead(cluster.Milliseconds())
		}
		data = append(data, webm.SimpleBlock(numbers[f.Kind], int16((f.Time-cluster).Milliseconds()), f.Key, f.Payload)...)
		latest = max(latest, f.Time-first)
		s.Pieces = append(s.Pieces, Piece{Due: latest, Data: data})
		f.Piece, f.Lace = len(s.Pieces)-1, 0
		s.Frames = append(s.Frames, f)
	}
	s.Duration = span(s.Frames)
	return s
}

// span is the time from the first frame's start to about the last one's end.
func span(frames []Frame) time.Duration {
	first, last := frames[0].Time, frames[0].Time
	for _, f := range frames {
		first, last = min(first, f.Time), max(last, f.Time)
	}
	return last - first + 30*time.Millisecond
}

// Cut returns the frames of a source between two times, counted from its first frame, put together anew; the first is at 0.
func Cut(s *Source, from, to time.Duration) *Source {
	first := s.Frames[0].Time
	var frames []Frame
	for _, f := range s.Frames {
		if f.Time-first >= from && f.Time-first < to {
			frames = append(frames, f)
		}
	}
	cut := Compose(fmt.Sprintf("%s from %v to %v", s.Name, from, to), s.Tracks, Shift(frames, -frames[0].Time))
	cut.File = s.File
	return cut
}

// Shift returns the frames with their times moved.
func Shift(frames []Frame, by time.Duration) []Frame {
	shifted := slices.Clone(frames)
	for i := range shifted {
		shifted[i].Time += by
	}
	return shifted
}

// Ordered returns the frames in the order of their times.
func Ordered(frames []Frame) []Frame {
	ordered := slices.Clone(frames)
	slices.SortStableFunc(ordered, func(a, b Frame) int { return cmp.Compare(a.Time, b.Time) })
	return ordered
}

// Without returns a source's frames of the other kind, put together anew.
func Without(s *Source, kind string) *Source {
	tracks := slices.DeleteFunc(slices.Clone(s.Tracks), func(t webm.Track) bool { return t.Kind == kind })
	frames := slices.DeleteFunc(slices.Clone(s.Frames), func(f Frame) bool { return f.Kind == kind })
	rest := Compose(s.Name+" without "+kind, tracks, frames)
	rest.File = s.File
	return rest
}

// Dense returns a stream of real pictures at a rate that fills buffers, without sound: a source's key frames, each followed
// by its next picture, fps of them a second. Every second picture is a key frame.
func Dense(s *Source, fps int, length time.Duration) *Source {
	pictures := s.Of(webm.Video)
	var pairs []Frame
	for i, f := range pictures[:len(pictures)-1] {
		if f.Key {
			pairs = append(pairs, f, pictures[i+1])
		}
	}
	var frames []Frame
	step := time.Second / time.Duration(fps)
	for i := 0; time.Duration(i)*step < length; i++ {
		f := pairs[i%len(pairs)]
		f.Time = time.Duration(i) * step
		frames = append(frames, f)
	}
	return Compose(fmt.Sprintf("dense %s, %d fps", s.Name, fps), Without(s, webm.Audio).Tracks, frames)
}

// Stretched returns pictures of one group that never ends: a source's first key frame and, over and over, the pictures that
// follow it up to the next, with its sound.
func Stretched(s *Source, length time.Duration) *Source {
	pictures := s.Of(webm.Video)
	group := slices.IndexFunc(pictures[1:], func(f Frame) bool { return f.Key }) + 1
	var frames []Frame
	for i, f := range pictures {
		if i >= group {
			f = pictures[1+(i-1)%(group-1)]
			f.Time = pictures[i].Time
		}
		frames = append(frames, f)
	}
	frames = Ordered(append(frames, s.Of(webm.Audio)...))
	return Cut(Compose(s.Name+", one group", s.Tracks, frames), 0, length)
}

// Joined returns the source as a single piece.
func Joined(s *Source) *Source {
	joined := *s
	joined.Name += ", in one piece"
	joined.Pieces = []Piece{{Data: s.Bytes()}}
	joined.Frames = slices.Clone(s.Frames)
	for i := range joined.Frames {
		joined.Frames[i].Piece = 0
	}
	return &joined
}

// Jump returns the source with the timestamps from a time on moved, while they are sent as before.
func Jump(s *Source, from, by time.Duration) *Source {
	frames := slices.Clone(s.Frames)
	first := frames[0].Time
	for i := range frames {
		if frames[i].Time-first >= from {
			frames[i].Time += by
		}
	}
	jumped := Compose(fmt.Sprintf("%s, from %v on moved by %v", s.Name, from, by), s.Tracks, frames)
	for i := range jumped.Pieces {
		if i > 0 {
			jumped.Pieces[i].Due = s.Frames[i-1].Time - first
		}
	}
	return jumped
}

// Padded returns the source with a Void element of size bytes of padding before each piece but the first; the bytes mean
// nothing (RFC 8794 §11.3.2).
func Padded(s *Source, size int) *Source {
	void := webm.Element(webm.IDVoid, bytes.Repeat([]byte{0}, size)...)
	padded := *s
	padded.Name = fmt.Sprintf("%s with %d bytes of Void before each frame", s.Name, size)
	padded.Pieces = slices.Clone(s.Pieces)
	for i := range padded.Pieces[1:] {
		padded.Pieces[i+1].Data = slices.Concat(void, padded.Pieces[i+1].Data)
	}
	return &padded
}
