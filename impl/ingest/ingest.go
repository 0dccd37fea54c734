// Package ingest turns a publisher's body into the frames of a live stream: it
// recognises the format from the bytes, chooses the tracks, and judges how the
// body ended. HTTP is left to its caller, the stream's clock to package live.
package ingest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"tureen/impl/live"
	"tureen/impl/media"
	"tureen/impl/transcode"
	"tureen/impl/transcode/pipe"
	"tureen/impl/webm"
)

// Errors of Run besides the publisher's own cause of ending.
var (
	// ErrEmpty is a body without a byte.
	ErrEmpty = errors.New("the body is empty")
	// ErrMalformed is a body that breaks its container's rules.
	ErrMalformed = errors.New("the body is damaged")
	// ErrUnsupported is a body that can't be recognised or served.
	ErrUnsupported = errors.New("the body can't be served")
	// ErrTranscoder is a transcoder that failed, which is not the body's fault as
	// far as can be told.
	ErrTranscoder = errors.New("the transcoder failed")
	// ErrBroken is a body that did not come to its end; the reader's error is
	// wrapped beside it.
	ErrBroken = errors.New("the body broke off")
)

// Fault is a fault of this program, met with a body.
type Fault struct {
	Value any    // that of the panic
	Stack []byte // as text
}

func (f *Fault) Error() string { return fmt.Sprintf("the server's own fault: %v", f.Value) }

// ErrPause comes from a body's Read, alone, where it isn't known yet whether
// more of the body will come.
var ErrPause = errors.New("the body may end here")

// Summary is what a publisher is told at the end (ING-10).
type Summary struct {
	SessionID  string  `json:"sessionid"`
	Bytes      int64   `json:"bytes"`       // of the body, transfer coding removed
	DurationMS int64   `json:"duration_ms"` // from the first frame's start to the last one's end
	Truncated  bool    `json:"truncated"`   // the body ended in the middle of a frame
	Tracks     []Track `json:"tracks"`
}

// Track tells what becomes of a publisher's track (FMT-5).
type Track struct {
	Kind        media.Kind `json:"kind"`
	InputCodec  string     `json:"input_codec"`
	OutputCodec string     `json:"output_codec"`
	Mode        string     `json:"mode"`
	Reason      string     `json:"reason"`
}

// Hooks are what Run tells its caller of, and asks it for.
type Hooks struct {
	// Paused is called after each ErrPause, once all before it was handed on,
	// with what the summary is so far; but inside of headers a pause is taken for
	// the end.
	Paused func(Summary)
	// Accept is asked once a document's tracks are known and nothing of it has
	// gone out yet. The type is of the bytes, like "video/webm". An error that
	// wraps ErrUnsupported refuses the body.
	Accept func(mediaType string, tracks []Track) error
}

// Run feeds the body to the publisher until it ends, and returns once every
// frame was handed on. When it returns early, for the publisher was ended or
// the body is at fault, the caller must make body.Read return; Run's reader
// ends with that, and closes the channel returned.
//
// What can't pass as it is goes through transcoders; the error is
// transcode.ErrCapacity when there is none to be had for now.
func Run(body io.Reader, p *live.Publisher, transcoders *transcode.Pool, hooks Hooks) (s Summary, read <-chan struct{}, err error) {
	r := &reading{
		items: make(chan media.Item, 2), done: make(chan struct{}), failed: make(chan struct{}), publisher: p, transcoders: transcoders, hooks: hooks,
	}
	r.source = &source{body: body, pause: r.pause, done: p.Context().Done()}
	go r.run()
	if err := r.handOn(); err != nil {
		return Summary{SessionID: p.ID()}, r.done, err
	}
	select {
	case <-r.done:
	case <-r.failed:
		return Summary{SessionID: p.ID()}, r.done, judgeTranscoder(r.failure)
	}
	s = r.summary(errors.Is(r.err, webm.ErrCutFrame) || r.units != nil && r.units.inside())
	s.DurationMS = p.Stats().Duration.Milliseconds()
	return s, r.done, r.judge()
}

// handOn has the publisher take what is read. The error is the cause of an
// early end.
func (r *reading) handOn() (err error) {
	defer contain(&err)
	return r.publisher.Run(r.items)
}

// contain turns a panic into a *Fault: hostile bytes must not end more than
// their own session.
func contain(err *error) {
	if fault := recover(); fault != nil {
		*err = &Fault{Value: fault, Stack: debug.Stack()}
	}
}

// source counts a body's bytes, bounds how fast they are read, and keeps the
// error that ended it.
type source struct {
	body     io.Reader
	pause    func() (more bool)
	done     <-chan struct{} // closed when the publisher is to end
	throttle throttle
	bytes    int64
	err      error
}

func (s *source) Read(b []byte) (int, error) {
	for s.err == nil {
		n, err := s.body.Read(b)
		s.bytes += int64(n)
		s.throttle.take(n, s.done)
		if err == ErrPause && s.pause() {
			continue
		}
		if s.err = err; err == ErrPause {
			s.err = io.EOF
		}
		return n, s.err
	}
	return 0, s.err
}

// broken reports whether the body has ended otherwise than at its end.
func (s *source) broken() bool { return s.err != nil && s.err != io.EOF }

// reading reads one body. What it finds may be read once done is closed.
type reading struct {
	source      *source
	items       chan media.Item
	done        chan struct{}
	publisher   *live.Publisher
	transcoders *transcode.Pool
	hooks       Hooks
	tracks      []Track
	err         error // what ended it; io.EOF at a clean end

	failed  chan struct{} // closed when a transcoder has failed while the body goes on
	failure error         // why, once it is

	demuxer *webm.Demuxer // of a document; nil inside of headers
	parting *parting      // of a document of which some tracks are transcoded, once frames of it have come

	whole  *decoding // of a container that isn't Matroska
	units  units     // of that
	format string    // of that, as recognise names it
}

func (r *reading) run() {
	defer close(r.done)
	defer close(r.items)
	r.err = r.read()
}

func (r *reading) read() (err error) {
	defer contain(&err)
	buffered := bufio.NewReaderSize(r.source, sniffLength)
	head, err := buffered.Peek(sniffLength)
	switch {
	case err != nil && err != io.EOF, len(head) == 0:
		return err
	case len(head) < len(magic) && strings.HasPrefix(magic, string(head)):
		return webm.ErrCutHeader
	}
	if format := recognise(head); format != matroska {
		return r.container(buffered, format)
	}
	demuxer := webm.NewDemuxer(buffered)
	for err = error(webm.ErrNewDocument); errors.Is(err, webm.ErrNewDocument); {
		err = r.document(demuxer)
	}
	return err
}

// pause has paused called in its turn; false when the body is to end instead:
// what a transcoder still has of it comes out only then. Of a body that is no
// more than what an encoder sends at first that is let be, and the summary is of
// what has come out.
func (r *reading) pause() bool {
	var s Summary
	switch {
	case r.whole != nil && r.format == "":
		return false // what nobody knows has no headers either
	case r.whole != nil:
		if held := r.whole.process.Pause(); held == pipe.HeldMuch || held == pipe.HeldNone && !r.units.paused() {
			return false
		}
		s = r.sofar(r.whole)
	case r.demuxer == nil || r.demuxer.InHeader():
		return false
	case r.parting != nil:
		if r.parting.span() >= pipe.LittleMedia {
			return false
		}
		s = r.sofar(r.parting.decoding)
	default:
		s = r.summary(r.demuxer.InFrame())
	}
	return r.hand(media.Item{Mark: func() {
		s.DurationMS = r.publisher.Stats().Duration.Milliseconds()
		r.hooks.Paused(s)
	}})
}

// sofar is the summary of a body that a transcoder is at work on.
func (r *reading) sofar(d *decoding) Summary {
	s := Summary{SessionID: r.publisher.ID(), Bytes: r.source.bytes}
	select {
	case <-d.announced:
		s.Tracks = r.tracks
	default: // they are being made
	}
	return s
}

// summary is that of what has been read, but for its duration.
func (r *reading) summary(truncated bool) Summary {
	return Summary{SessionID: r.publisher.ID(), Bytes: r.source.bytes, Truncated: truncated, Tracks: r.tracks}
}

// accepted ends every refusal of a format with its cure.
const accepted = "send WebM with VP8 and Vorbis, as ffmpeg makes it with -c:v libvpx -c:a libvorbis -f webm"

// hand passes an item on; false when the publisher is ended.
func (r *reading) hand(item media.Item) bool {
	select {
	case r.items <- item:
		return true
	case <-r.publisher.Context().Done():
		return false
	}
}

// judge says how the body ended: nil for a clean end.
func (r *reading) judge() error {
	var malformed *webm.MalformedError
	var fault *Fault
	switch {
	case errors.As(r.err, &malformed):
		return fmt.Errorf("%w: %w", ErrMalformed, r.err)
	case errors.Is(r.err, webm.ErrUnsupported) && !errors.Is(r.err, ErrUnsupported):
		return fmt.Errorf("%w: %s", ErrUnsupported, strings.TrimPrefix(r.err.Error(), webm.ErrUnsupported.Error()+": "))
	case errors.Is(r.err, ErrUnsupported), errors.Is(r.err, ErrMalformed), errors.Is(r.err, ErrTranscoder),
		errors.Is(r.err, transcode.ErrCapacity), errors.As(r.err, &fault):
		return r.err
	case r.source.broken():
		return fmt.Errorf("%w: %w", ErrBroken, r.source.err)
	case r.source.bytes == 0:
		return ErrEmpty
	case errors.Is(r.err, webm.ErrCutHeader):
		return fmt.Errorf("%w: %w", ErrMalformed, r.err)
	case r.err == nil, errors.Is(r.err, io.EOF), errors.Is(r.err, io.ErrUnexpectedEOF), errors.Is(r.err, webm.ErrCutFrame):
		return nil
	}
	return r.err
}
