package ingest

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"tureen/impl/media"
	"tureen/impl/transcode"
	"tureen/impl/transcode/pipe"
)

// decoding is a transcoder at work on a body, or on some of its tracks. One
// goroutine feeds it; another, in collect, hands on what comes out.
type decoding struct {
	process   *transcode.Process
	reading   *reading
	announced chan struct{}         // closed once its tracks have been handed on
	over      chan struct{}         // closed once it is gone
	err       error                 // why, once it is; nil at its proper end
	ending    atomic.Bool           // the body has come to its end
	fatal     func(known bool) bool // whether the body ends with it, as viewers know its tracks or not
}

// decode starts a transcoder for what a person calls so; "" is what nobody
// knows. begin makes the item that its tracks are handed on with; emit hands on
// a frame, and tells whether there is use for another. fatal is whether its
// failure is the body's.
func (r *reading) decode(
	what string, job pipe.Job, begin func([]pipe.Track) (media.Item, error), emit func(media.Frame) bool, fatal func(known bool) bool,
) (*decoding, error) {
	job.Session = r.publisher.ID()
	job.SampleRate, job.Channels = r.publisher.Sound()
	process, err := r.transcoders.Start(r.publisher.Context(), job)
	switch {
	case errors.Is(err, transcode.ErrNone) && what == "":
		return nil, fmt.Errorf("%w: no media format that this server knows begins like this; %s", ErrUnsupported, accepted)
	case errors.Is(err, transcode.ErrNone):
		return nil, fmt.Errorf("%w: it is %s, which would have to be transcoded, and %w; %s", ErrUnsupported, what, err, accepted)
	case err != nil:
		return nil, r.outcome(err)
	}
	d := &decoding{process: process, reading: r, announced: make(chan struct{}), over: make(chan struct{}), fatal: fatal}
	go d.collect(begin, emit)
	go func() {
		select {
		case <-r.publisher.Context().Done():
			process.Close()
		case <-d.over:
		}
	}()
	return d, nil
}

// collect hands on what the transcoder gives out.
func (d *decoding) collect(begin func([]pipe.Track) (media.Item, error), emit func(media.Frame) bool) {
	defer close(d.over)
	defer d.fail()
	defer d.process.Close()
	defer contain(&d.err)
	tracks, err := d.process.Tracks()
	if err != nil {
		d.err = err
		return
	}
	item, err := begin(tracks)
	if err != nil {
		d.err = err
		return
	}
	if hasVideo(tracks) {
		item.KeyFrame = d.process.KeyFrame
	}
	if !d.reading.hand(item) {
		return
	}
	close(d.announced)
	for {
		f, err := d.process.Frame()
		if err != nil {
			if err != io.EOF {
				d.err = err
			}
			return
		}
		if !emit(f) {
			return
		}
	}
}

// fail ends a body that goes on, and whose publisher may be silent, once its
// transcoder has failed.
func (d *decoding) fail() {
	known := false
	select {
	case <-d.announced:
		known = true
	default:
	}
	if d.err == nil || d.ending.Load() || !d.fatal(known) {
		return
	}
	d.reading.failure = d.err
	close(d.reading.failed)
	d.reading.hand(media.Item{Last: true})
}

func hasVideo(tracks []pipe.Track) bool {
	return len(tracks) > 0 && tracks[0].Output.Kind == media.Video && tracks[0].Input != tracks[0].Output.Codec
}

// end feeds no more, and returns once the last frame has been handed on.
func (d *decoding) end() error {
	d.ending.Store(true)
	d.process.End() // when it fails, d.err says why
	<-d.over
	return d.reading.outcome(d.err)
}

// outcome is what a transcoder's end means for the body. A body that broke off
// is judged by that, whatever its decoders made of the rest.
func (r *reading) outcome(err error) error {
	if err = judgeTranscoder(err); r.source.broken() && (errors.Is(err, ErrMalformed) || errors.Is(err, ErrTranscoder)) {
		return nil
	}
	return err
}

// judgeTranscoder is what a transcoder's end means for a body that goes on.
func judgeTranscoder(err error) error {
	var failure *pipe.Failure
	var fault *Fault
	switch {
	case err == nil, errors.As(err, &fault), errors.Is(err, transcode.ErrCapacity), errors.Is(err, ErrUnsupported):
		return err
	case errors.As(err, &failure) && failure.Reason == pipe.Unsupported:
		return fmt.Errorf("%w: %w", ErrUnsupported, failure)
	case errors.As(err, &failure) && failure.Reason == pipe.Malformed:
		return fmt.Errorf("%w: %w", ErrMalformed, failure)
	}
	return fmt.Errorf("%w: %w", ErrTranscoder, err)
}

// container has a transcoder take apart all of a body that isn't Matroska.
func (r *reading) container(body io.Reader, format string) error {
	d, err := r.decode(format, pipe.Job{}, func(tracks []pipe.Track) (media.Item, error) {
		var item media.Item
		for _, t := range tracks {
			item.Tracks = append(item.Tracks, t.Output)
			r.tracks = append(r.tracks, told(t.Output.Kind, t.Input, t.Input == t.Output.Codec))
		}
		return item, r.hooks.Accept(mediaType(format, r.tracks), r.tracks)
	}, func(f media.Frame) bool { return r.hand(media.Item{Frame: f}) }, func(bool) bool { return true })
	if err != nil {
		return err
	}
	r.whole, r.format = d, format
	r.units = newUnits(format)
	if err := d.feed(body, r.units); err != nil {
		d.ending.Store(true) // its end is no failure of its own
		d.process.Close()
		<-d.over
		return err
	}
	err = d.end()
	if late := r.units.indexLast(); late && errors.Is(err, ErrUnsupported) {
		return fmt.Errorf("%w: %s", ErrUnsupported, indexLast)
	}
	return err
}

// feed gives the body to the transcoder up to its end, or until that takes no
// more. The error is a body that can't be decoded, by where its parts are.
func (d *decoding) feed(body io.Reader, u units) error {
	b := make([]byte, feedBuffer)
	taken, trailing := true, 0
	for {
		n, err := body.Read(b)
		if n > 0 {
			if err := u.add(b[:n]); err != nil {
				return err
			}
		}
		if n > 0 && taken {
			if _, err := d.process.Write(b[:n]); err != nil {
				taken = false
				if <-d.over; d.err != nil {
					return nil // end says so
				}
			}
		}
		if !taken {
			if trailing += n; trailing > maxTrailing {
				return fmt.Errorf("%w: its media has come to its end, and the body goes on", ErrMalformed)
			}
		}
		if err != nil {
			return nil // the source has it
		}
	}
}

// maxTrailing is how much may follow media that has come to its end: tags, and
// tables for players that seek.
const maxTrailing = 1 << 20

const feedBuffer = 32 << 10

// told is what a publisher is told of a track.
func told(kind media.Kind, input string, passes bool) Track {
	output := outputs[kind]
	if passes {
		return Track{
			Kind: kind, InputCodec: input, OutputCodec: output, Mode: "passthrough",
			Reason: input + " is what viewers get, so it is passed through untouched",
		}
	}
	return Track{
		Kind: kind, InputCodec: input, OutputCodec: output, Mode: "transcode",
		Reason: fmt.Sprintf("viewers get %s, so %s is transcoded", output, input),
	}
}

// outputs are the codecs that viewers get.
var outputs = map[media.Kind]string{media.Video: media.VP8, media.Audio: media.Vorbis}
