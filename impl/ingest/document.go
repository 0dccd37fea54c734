package ingest

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"tureen/impl/media"
	"tureen/impl/transcode/pipe"
	"tureen/impl/webm"
)

// document hands one EBML document on; the error says what ended it. Each track
// goes its own way (FMT-3): one that viewers can have passes, frame by frame as
// it is; the others are cut out, and written as a document of their own to a
// transcoder, which so never sees what passes, nor the publisher's EBML.
func (r *reading) document(d *webm.Demuxer) error {
	declared, err := d.Document()
	if err != nil {
		return err
	}
	taken, err := choose(declared)
	if err != nil {
		return err
	}
	r.tracks, r.partly = nil, false
	r.demuxer = d
	defer func() { r.demuxer = nil }()
	var cut []webm.Track // to be transcoded
	for _, t := range taken {
		d.Take(t, t.Kind)
		r.tracks = append(r.tracks, told(t.Kind, t.Codec, passes(t)))
		if !passes(t) {
			cut = append(cut, t)
		}
	}
	if err := r.hooks.Accept(mediaType(d.DocType(), r.tracks), r.tracks); err != nil {
		return err
	}
	if len(cut) == 0 {
		return r.pass(d, taken)
	}
	return r.part(d, taken, cut)
}

// pass hands on a document whose tracks all pass.
func (r *reading) pass(d *webm.Demuxer, taken []webm.Track) error {
	item := media.Item{}
	for _, t := range taken {
		item.Tracks = append(item.Tracks, t.Track)
	}
	for r.hand(item) {
		frame, err := d.Frame()
		if err != nil {
			return err
		}
		item = media.Item{Frame: frame}
	}
	return nil
}

// parting is a document of which some tracks are transcoded.
type parting struct {
	*decoding
	numbers  [media.Kinds]uint64 // of the tracks that are; 0 of those that pass
	passages [media.Kinds]*passage
	block    []byte        // room for a frame on its way to the transcoder
	held     []media.Frame // that pass, until all tracks are known
	size     int           // of these, in bytes
}

// maxHeld bounds what passes and must wait until the transcoder knows its
// tracks. It takes no longer than a second for that.
const maxHeld = 8 << 20

// part hands on a document some of whose tracks are transcoded.
func (r *reading) part(d *webm.Demuxer, taken, cut []webm.Track) error {
	p := &parting{}
	var codecs []string
	for _, t := range cut {
		p.numbers[t.Kind] = t.Number
		codecs = append(codecs, t.Codec)
	}
	r.foreign = "it holds " + strings.Join(codecs, " and ")
	// The clocks of the tracks begin together: the first frame tells where.
	first, err := d.Frame()
	if err != nil {
		return err
	}
	r.partly = true
	for kind := range p.passages {
		p.passages[kind] = newPassage(first.Time)
	}
	p.decoding, err = r.decode(pipe.Job{OwnTimes: true}, func(decoded []pipe.Track) (media.Item, error) {
		return join(taken, decoded)
	}, p.place)
	if err != nil {
		return err
	}
	p.process.Write(webm.Document(cut)) // when it fails, p.err says why
	for frame := first; ; {
		if err := p.take(frame); err != nil {
			p.end() // what it says is a consequence
			return err
		}
		if frame, err = d.Frame(); err != nil {
			break
		}
	}
	if end := p.finish(); end != nil {
		return end
	}
	return err
}

// join puts the tracks that pass and those that were decoded together.
func join(taken []webm.Track, decoded []pipe.Track) (media.Item, error) {
	item := media.Item{}
	for _, t := range taken {
		track := t.Track
		if !passes(t) {
			i := slices.IndexFunc(decoded, func(d pipe.Track) bool { return d.Output.Kind == t.Kind })
			if i < 0 {
				continue // nothing of it has come in all that time
			}
			track = decoded[i].Output
		}
		item.Tracks = append(item.Tracks, track)
	}
	return item, nil
}

// place puts a frame back onto the publisher's clock.
func (p *parting) place(f *media.Frame) {
	f.Time = p.passages[f.Kind].back(f.Time)
	f.Sent = f.Time
}

// take sends a frame on its way. The error is the transcoder's, when nothing
// can go on without it.
func (p *parting) take(f media.Frame) error {
	if number := p.numbers[f.Kind]; number > 0 {
		f.Time = p.passages[f.Kind].there(f.Time)
		p.block = webm.AppendFrame(p.block[:0], number, f)
		if _, err := p.process.Write(p.block); err != nil {
			return p.broken()
		}
		return nil
	}
	select {
	case <-p.announced:
		return p.release(&f)
	default:
	}
	p.held = append(p.held, f)
	if p.size += len(f.Payload); p.size < maxHeld && !p.failed() {
		return nil
	}
	select {
	case <-p.announced:
		return p.release(nil)
	case <-p.over:
		return p.broken()
	}
}

// errEnded is a publisher that has been ended.
var errEnded = errors.New("the publisher has been ended")

// release hands on the frames that were held, and then one more, if any.
func (p *parting) release(next *media.Frame) error {
	held := p.held
	p.held, p.size = nil, 0
	if next != nil {
		held = append(held, *next)
	}
	for _, f := range held {
		if !p.reading.hand(media.Item{Frame: f}) {
			return errEnded
		}
	}
	return nil
}

// broken is why the transcoder takes no more; nil when its tracks have ended
// and others go on.
func (p *parting) broken() error {
	<-p.over
	select {
	case <-p.announced:
		if p.somePass() {
			return nil
		}
	default:
	}
	if p.err == nil {
		return errEnded
	}
	return p.reading.outcome(p.err)
}

// somePass reports whether some tracks aren't the transcoder's.
func (p *parting) somePass() bool {
	return len(p.reading.tracks) > 1 && slices.Contains(p.numbers[:], 0)
}

// finish takes the document to its end: the frames that are still held, and
// what the transcoder still has.
func (p *parting) finish() error {
	p.process.End() // when it fails, p.err says why
	if len(p.held) > 0 {
		select {
		case <-p.announced:
			if err := p.release(nil); err != nil {
				return err
			}
		case <-p.over:
		}
	}
	return p.broken()
}

// choose takes the first video and the first audio track (FMT-7), video first.
func choose(declared []webm.Track) ([]webm.Track, error) {
	var taken []webm.Track
	first := func(is func(webm.Track) bool, kind media.Kind) error {
		i := slices.IndexFunc(declared, is)
		if i < 0 {
			return nil
		}
		t := declared[i]
		t.Kind = kind
		taken = append(taken, t)
		return servable(t)
	}
	if err := first(webm.Track.IsVideo, media.Video); err != nil {
		return nil, err
	}
	if err := first(webm.Track.IsAudio, media.Audio); err != nil {
		return nil, err
	}
	if len(taken) == 0 {
		return nil, fmt.Errorf("%w: it has neither a video nor an audio track", ErrUnsupported)
	}
	return taken, nil
}

// passes reports whether a track is what viewers get already.
func passes(t webm.Track) bool { return t.Codec == outputs[t.Kind] }

// maxPrivate bounds what a body begins with, which is held for every viewer that
// hasn't read it yet: Vorbis' headers take 4 to 10 KB, in bytes.
const maxPrivate = 256 << 10

// servable checks that a track can be read and, if it passes, that viewers can
// be told what they need.
func servable(t webm.Track) error {
	refuse := func(why string) error {
		return fmt.Errorf("%w: track %d (%s): %s", ErrUnsupported, t.Number, t.Kind, why)
	}
	switch {
	case t.Unreadable != "":
		return refuse(t.Unreadable)
	case !passes(t):
		return nil
	case t.Kind == media.Video && (t.Picture.Width == 0 || t.Picture.Height == 0):
		return refuse("it states no picture size")
	}
	if t.Kind == media.Audio {
		if len(t.Private) > maxPrivate {
			return refuse(fmt.Sprintf("its Vorbis headers take %d bytes, more than %d; leave pictures out of its comments", len(t.Private), maxPrivate))
		}
		if _, err := webm.VorbisHeaders(t.Private); err != nil {
			return refuse(err.Error())
		}
	}
	return nil
}
