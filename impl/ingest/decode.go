package ingest

import (
	"errors"
	"fmt"
	"io"

	"tureen/impl/media"
	"tureen/impl/transcode"
	"tureen/impl/transcode/pipe"
)

// decoding is a transcoder at work on a body, or on some of its tracks. One
// goroutine feeds it; another, in collect, hands on what comes out.
type decoding struct {
	process   *transcode.Process
	reading   *reading
	announced chan struct{} // closed once its tracks have been handed on
	over      chan struct{} // closed once it is gone
	err       error         // why, once it is; nil at its proper end
}

// decode starts a transcoder. begin makes the item that its tracks are handed
// on with, place puts a frame's time onto the publisher's clock.
func (r *reading) decode(job pipe.Job, begin func([]pipe.Track) (media.Item, error), place func(*media.Frame)) (*decoding, error) {
	job.Session = r.publisher.ID()
	job.SampleRate, job.Channels = r.publisher.Sound()
	process, err := r.transcoders.Start(job)
	if err != nil {
		return nil, r.outcome(err)
	}
	d := &decoding{process: process, reading: r, announced: make(chan struct{}), over: make(chan struct{})}
	go d.collect(begin, place)
	go func() {
		select {
		case <-r.publisher.Done():
			process.Close()
		case <-d.over:
		}
	}()
	return d, nil
}

// collect hands on what the transcoder gives out.
func (d *decoding) collect(begin func([]pipe.Track) (media.Item, error), place func(*media.Frame)) {
	defer close(d.over)
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
		if place(&f); !d.reading.hand(media.Item{Frame: f}) {
			return
		}
	}
}

func hasVideo(tracks []pipe.Track) bool {
	return len(tracks) > 0 && tracks[0].Output.Kind == media.Video && tracks[0].Input != tracks[0].Output.Codec
}

// end feeds no more, and returns once the last frame has been handed on.
func (d *decoding) end() error {
	d.process.End() // when it fails, d.err says why
	<-d.over
	return d.reading.outcome(d.err)
}

// failed reports whether the transcoder is gone before its time.
func (d *decoding) failed() bool {
	select {
	case <-d.over:
		return true
	default:
		return false
	}
}

// outcome is what a transcoder's end means for the body. A body that broke off
// is judged by that, whatever its decoders made of the rest.
func (r *reading) outcome(err error) error {
	var failure *pipe.Failure
	var crash *transcode.CrashError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, transcode.ErrNone):
		return fmt.Errorf("%w: %s, and %w; %s", ErrUnsupported, r.foreign, err, accepted)
	case errors.As(err, &failure) && failure.Reason == pipe.Unsupported:
		return fmt.Errorf("%w: %w", ErrUnsupported, failure)
	case r.source.broken():
		return nil
	case errors.As(err, &failure) && failure.Reason == pipe.Malformed:
		return fmt.Errorf("%w: %w", ErrMalformed, failure)
	case failure != nil, errors.As(err, &crash), errors.Is(err, pipe.ErrProtocol):
		return fmt.Errorf("%w: %w", ErrTranscoder, err)
	}
	return err
}

// container has a transcoder take apart all of a body that isn't Matroska.
func (r *reading) container(body io.Reader, format string) error {
	r.foreign = "no media format begins like this"
	if format != "" {
		r.foreign = "it is " + format
	}
	d, err := r.decode(pipe.Job{}, func(tracks []pipe.Track) (media.Item, error) {
		var item media.Item
		for _, t := range tracks {
			item.Tracks = append(item.Tracks, t.Output)
			r.tracks = append(r.tracks, told(t.Output.Kind, t.Input, t.Input == t.Output.Codec))
		}
		return item, r.hooks.Accept(mediaType(format, r.tracks), r.tracks)
	}, func(*media.Frame) {})
	if err != nil {
		return err
	}
	r.whole = d
	r.units = newUnits(format)
	if err := d.feed(body, r.units); err != nil {
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
	for {
		n, err := body.Read(b)
		if n > 0 {
			if err := u.add(b[:n]); err != nil {
				return err
			}
			if _, err := d.process.Write(b[:n]); err != nil {
				return nil // d.err says why
			}
		}
		if err != nil {
			return nil // the source has it
		}
	}
}

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
