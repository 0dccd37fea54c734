// Package publish holds the publisher: what it sends (a clip's frames with the moments they are due), and the sending of
// it over HTTP/1.1 in real time.
//
// The schedule is open: a frame's due time never moves because the target stalled, so that a stall shows as latency.
// Watching the stream and judging it are left to other packages.
package publish

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tureen/fixtures"
	"tureen/loadgen/webm"
)

// Frame is one frame of a source, with times counted from the start of the source.
type Frame struct {
	Kind   webm.Kind
	Number int           // counts from 0 in its track in order of presentation; in stamped pictures it is the stamp
	PTS    time.Duration // presentation time; the earliest of the source is 0
	Due    time.Duration // when its last byte is to be sent
	Key    bool
	Hash   uint64 // webm.Hash of the payload, where Source.Hashed

	clip *webm.ClipFrame // what is muxed, in a looped source
	end  int64           // bytes of the file up to the frame's end, in a source that is sent once
}

// Source is a clip with its schedule.
type Source struct {
	Name        string
	ContentType string
	Frames      []Frame       // of the first video and the first audio track, in the order they are sent
	Period      time.Duration // the length of a loop; 0 when the source is sent once
	Hashed      bool          // the frames' hashes are known, so that frames passed through can be told by them
	Restarts    bool          // the timestamps begin anew in the middle, so that a viewer's can't be foretold

	codecs map[webm.Kind]string
	clip   *webm.Clip
	data   []byte
}

// ErrInput is wrapped by the errors of inputs that can't be used.
var ErrInput = errors.New("unusable input")

// Open returns the source for the name of a fixture or the path of a WebM or Matroska file.
func Open(name string) (*Source, error) {
	clip, err := fixtures.Open(name)
	if err == nil {
		return fromFixture(clip)
	}
	if !errors.Is(err, fixtures.ErrUnknown) {
		return nil, err
	}
	if looksLikeFile(name) {
		return fromFile(name)
	}
	return nil, fmt.Errorf("%w: %w; or give the path of a WebM file", ErrInput, err)
}

func looksLikeFile(name string) bool {
	_, err := os.Stat(name)
	return err == nil || strings.ContainsRune(name, filepath.Separator) || filepath.Ext(name) != ""
}

func fromFile(path string) (*Source, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInput, err)
	}
	clip, err := webm.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w (only WebM and Matroska files have an index to send them by)", ErrInput, path, err)
	}
	return Loop(filepath.Base(path), clip, 0), nil
}

func fromFixture(f *fixtures.Clip) (*Source, error) {
	if f.Malformed {
		return nil, fmt.Errorf("%w: fixture %s is malformed on purpose", ErrInput, f.Name)
	}
	if f.Container == "webm" || f.Container == "matroska" {
		if clip, err := webm.Parse(f.Data); err == nil {
			s := Loop(f.Name, clip, f.Duration)
			s.ContentType = f.ContentType
			return s, nil
		}
	}
	return Once(f)
}

// Loop returns the source that plays a clip over and over with rising timestamps. A loop lasts length, or, where that is
// 0 or less than the clip holds, until the end of the last frame.
func Loop(name string, clip *webm.Clip, length time.Duration) *Source {
	s := &Source{Name: name, ContentType: "video/webm", Hashed: true, codecs: map[webm.Kind]string{}, clip: clip}
	if !clip.Has(webm.Video) {
		s.ContentType = "audio/webm"
	}
	for _, kind := range []webm.Kind{webm.Video, webm.Audio} {
		s.codecs[kind] = codecs[clip.Codec(kind)]
	}
	for i := range clip.Frames {
		f := &clip.Frames[i]
		s.Frames = append(s.Frames, Frame{Kind: f.Kind, PTS: f.Timestamp, Key: f.Key, Hash: f.Hash, clip: f})
	}
	s.rebase()
	s.schedule()
	slices.SortStableFunc(s.Frames, func(a, b Frame) int {
		return cmp.Or(cmp.Compare(a.Due, b.Due), cmp.Compare(a.Kind, b.Kind))
	})
	s.Period = s.period(length)
	return s
}

// Once returns the source that sends a fixture's bytes as they are, a single time.
func Once(f *fixtures.Clip) (*Source, error) {
	s := &Source{Name: f.Name, ContentType: f.ContentType, data: f.Data}
	video, hasVideo := f.Track("video")
	audio, hasAudio := f.Track("audio")
	s.codecs = map[webm.Kind]string{webm.Video: video.Codec, webm.Audio: audio.Codec}
	for _, frame := range f.Frames {
		out := Frame{PTS: frame.PTS, Key: frame.Key, end: frame.End}
		switch {
		case hasVideo && frame.Track == video.Number:
			out.Kind = webm.Video
		case hasAudio && frame.Track == audio.Number:
			out.Kind = webm.Audio
		default:
			continue
		}
		s.Frames = append(s.Frames, out)
	}
	if len(s.Frames) == 0 {
		return nil, fmt.Errorf("%w: fixture %s has no frames", ErrInput, f.Name)
	}
	s.joinRestarts()
	s.rebase()
	s.schedule()
	s.dueInOrder()
	return s, nil
}

// restart is how far timestamps must fall to be a new beginning rather than another order.
const restart = 500 * time.Millisecond

// joinRestarts lets what begins anew follow what came before, so that it is sent after it and not with it. Only a track
// that falls behind itself does: containers may hold a second of pictures before that second's sound.
func (s *Source) joinRestarts() {
	var shift, newest time.Duration
	reached := map[webm.Kind]time.Duration{}
	for i := range s.Frames {
		f := &s.Frames[i]
		if at, seen := reached[f.Kind]; seen && f.PTS+shift < at-restart {
			shift = newest - f.PTS
			s.Restarts = true
		}
		f.PTS += shift
		newest = max(newest, f.PTS)
		reached[f.Kind] = max(reached[f.Kind], f.PTS)
	}
}

// dueInOrder makes frames due in the order in which their bytes can only be sent: one that is stored late holds up what
// is stored behind it, and those that end together, in a lace, come together, with the last of them.
func (s *Source) dueInOrder() {
	for i := 1; i < len(s.Frames); i++ {
		s.Frames[i].Due = max(s.Frames[i].Due, s.Frames[i-1].Due)
	}
	for i := len(s.Frames) - 2; i >= 0; i-- {
		if s.Frames[i].end == s.Frames[i+1].end {
			s.Frames[i].Due = s.Frames[i+1].Due
		}
	}
}

// rebase makes the earliest presentation time 0.
func (s *Source) rebase() {
	earliest := s.Frames[0].PTS
	for _, f := range s.Frames {
		earliest = min(earliest, f.PTS)
	}
	for i := range s.Frames {
		s.Frames[i].PTS -= earliest
	}
}

// schedule numbers each track's frames and sets when they are due: at their presentation times, except that frames
// stored in another order than presented (B-frames) take these times in the order in which they are stored.
func (s *Source) schedule() {
	for _, kind := range []webm.Kind{webm.Video, webm.Audio} {
		var stored []*Frame
		for i := range s.Frames {
			if s.Frames[i].Kind == kind {
				stored = append(stored, &s.Frames[i])
			}
		}
		presented := slices.Clone(stored)
		slices.SortStableFunc(presented, func(a, b *Frame) int { return cmp.Compare(a.PTS, b.PTS) })
		for i, f := range presented {
			f.Number = i
			stored[i].Due = f.PTS
		}
	}
}

// period returns how long one loop lasts, in whole milliseconds because that is what timestamps count.
func (s *Source) period(length time.Duration) time.Duration {
	var last, end time.Duration
	for _, kind := range []webm.Kind{webm.Video, webm.Audio} {
		if times := s.presented(kind); len(times) > 0 {
			newest := times[len(times)-1]
			last = max(last, newest)
			end = max(end, newest+interval(times))
		}
	}
	if length > last {
		end = length
	}
	return max(end.Round(time.Millisecond), time.Millisecond)
}

// Interval returns the usual distance between two frames of a kind, 0 when there are fewer than two.
func (s *Source) Interval(kind webm.Kind) time.Duration { return interval(s.presented(kind)) }

func (s *Source) presented(kind webm.Kind) []time.Duration {
	var times []time.Duration
	for _, f := range s.Frames {
		if f.Kind == kind {
			times = append(times, f.PTS)
		}
	}
	slices.Sort(times)
	return times
}

func interval(times []time.Duration) time.Duration {
	if len(times) < 2 {
		return 0
	}
	gaps := make([]time.Duration, len(times)-1)
	for i := range gaps {
		gaps[i] = times[i+1] - times[i]
	}
	slices.Sort(gaps)
	return gaps[len(gaps)/2]
}

// Has tells whether the source has frames of a kind.
func (s *Source) Has(kind webm.Kind) bool {
	return slices.ContainsFunc(s.Frames, func(f Frame) bool { return f.Kind == kind })
}

// codecs are the short names of the codecs that a live stream carries, by their Matroska names.
var codecs = map[string]string{"V_VP8": "vp8", "A_VORBIS": "vorbis"}

// Passable tells whether the track of a kind needs no transcoding: it is VP8 or Vorbis.
func (s *Source) Passable(kind webm.Kind) bool {
	return s.codecs[kind] == "vp8" || s.codecs[kind] == "vorbis"
}

// Traceable tells whether a viewer's scanner can tell this source's frames by their hashes when they are passed through:
// it hashes VP8 key frames and sound.
func (s *Source) Traceable() bool {
	if s.Has(webm.Video) {
		return s.Hashed && s.Passable(webm.Video)
	}
	return s.Hashed && s.Passable(webm.Audio)
}

// Measurable says in words what viewers' frames can be told by, and so what is measured of each track.
func (s *Source) Measurable() string {
	var parts []string
	for _, kind := range []webm.Kind{webm.Video, webm.Audio} {
		switch {
		case !s.Has(kind):
		case s.Hashed && s.Passable(kind):
			parts = append(parts, kind.String()+" by its bytes"+map[webm.Kind]string{webm.Video: " in key frames, or by their stamps"}[kind])
		case kind == webm.Video:
			parts = append(parts, "video by the stamps in its key frames")
		case s.Has(webm.Video):
			parts = append(parts, "audio by the video's times, lost only in gaps")
		default:
			parts = append(parts, "audio alone, not measurable when it is transcoded")
		}
	}
	if s.Period == 0 {
		parts = append(parts, fmt.Sprintf("sent once: %v at most", s.Frames[len(s.Frames)-1].Due.Round(100*time.Millisecond)))
	}
	return strings.Join(parts, "; ")
}

// End returns when the last byte of a source that is sent once is due, and false for a looped one.
func (s *Source) End() (time.Duration, bool) {
	if s.Period > 0 {
		return 0, false
	}
	return s.Frames[len(s.Frames)-1].Due, true
}

// stream yields a source's bytes frame by frame.
type stream struct {
	source *Source
	writer *webm.Writer
	next   int
	loop   time.Duration // what is added to this loop's times
	sent   int64         // bytes of a source that is sent once
}

func (s *Source) stream() *stream {
	out := &stream{source: s}
	if s.Period > 0 {
		out.writer = webm.NewWriter(s.clip)
	}
	return out
}

// append appends the next frame's bytes to dst and tells when they are due; false at the end of the source.
func (s *stream) append(dst []byte) (out []byte, due time.Duration, ok bool) {
	if s.next == len(s.source.Frames) {
		if s.source.Period == 0 {
			return dst, 0, false
		}
		s.next, s.loop = 0, s.loop+s.source.Period
	}
	f := &s.source.Frames[s.next]
	s.next++
	if s.writer != nil {
		return s.writer.Append(dst, f.clip, f.PTS+s.loop), f.Due + s.loop, true
	}
	end := max(f.end, s.sent)
	if s.next == len(s.source.Frames) {
		end = int64(len(s.source.data))
	}
	dst = append(dst, s.source.data[s.sent:end]...)
	s.sent = end
	return dst, f.Due, true
}
