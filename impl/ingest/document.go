package ingest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

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
	r.tracks, r.parting = nil, nil
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
	began    time.Time
	first    time.Duration // the first frame's time
	newest   time.Duration // the latest one's
	item     media.Item    // the tracks that pass
	alone    bool          // they have gone on without the others
}

// What passes waits until the transcoder knows its tracks. That takes it a
// second as a rule, and pictures may be as late as their next key frame.
const (
	maxHeld   = 8 << 20 // bytes
	lateTrack = 11 * time.Second
)

// part hands on a document some of whose tracks are transcoded.
func (r *reading) part(d *webm.Demuxer, taken, cut []webm.Track) error {
	p := &parting{began: time.Now(), item: passing(taken)}
	for _, t := range cut {
		p.numbers[t.Kind] = t.Number
	}
	// The clocks of the tracks begin together: the first frame tells where.
	first, err := d.Frame()
	if err != nil {
		return err
	}
	p.first = first.Time
	for kind := range p.passages {
		p.passages[kind] = newPassage(first.Time)
	}
	p.decoding, err = r.decode(codecs(cut), pipe.Job{OwnTimes: true}, func(decoded []pipe.Track) (media.Item, error) {
		return join(taken, decoded)
	}, p.place)
	if err != nil {
		return err
	}
	r.parting = p
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

// codecs names those of tracks.
func codecs(tracks []webm.Track) string {
	var names []string
	for _, t := range tracks {
		names = append(names, t.Codec)
	}
	return strings.Join(names, " and ")
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

// passing is the item of the tracks that pass.
func passing(taken []webm.Track) (item media.Item) {
	for _, t := range taken {
		if passes(t) {
			item.Tracks = append(item.Tracks, t.Track)
		}
	}
	return item
}

// span is how much has come.
func (p *parting) span() time.Duration { return p.newest - p.first }

// take sends a frame on its way. The error is the transcoder's, when nothing
// can go on without it.
func (p *parting) take(f media.Frame) error {
	p.newest = max(p.newest, f.Time)
	number := p.numbers[f.Kind]
	switch {
	case number > 0 && p.alone:
		return nil
	case number > 0:
		f.Time = p.passages[f.Kind].there(f.Time)
		p.block = webm.AppendFrame(p.block[:0], number, f)
		if _, err := p.process.Write(p.block); err != nil {
			return p.broken()
		}
		return nil
	case p.known():
		return p.release(&f)
	}
	p.held = append(p.held, f)
	p.size += len(f.Payload)
	if p.size < maxHeld && f.Time-p.held[0].Time < lateTrack && !p.failed() {
		return nil
	}
	timer := time.NewTimer(time.Until(p.began.Add(lateTrack)))
	defer timer.Stop()
	select {
	case <-p.announced:
		return p.release(nil)
	case <-p.over:
		return p.broken()
	case <-timer.C:
		return p.goOn()
	}
}

// known reports whether viewers have been told of the tracks.
func (p *parting) known() bool {
	select {
	case <-p.announced:
		return true
	default:
		return p.alone
	}
}

// goOn has what passes go on without a transcoded track that doesn't come.
func (p *parting) goOn() error {
	p.process.Close()
	<-p.over
	if !p.known() {
		if p.alone = true; !p.reading.hand(p.item) {
			return errEnded
		}
	}
	return p.release(nil)
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
	if p.known() && p.somePass() {
		return nil
	}
	if p.err == nil {
		return fmt.Errorf("%w: it ended before its body", ErrTranscoder)
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
	select {
	case <-p.announced:
		if err := p.release(nil); err != nil {
			return err
		}
	case <-p.over:
	}
	if <-p.over; p.err == nil {
		return nil
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
