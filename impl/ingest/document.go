package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tureen/impl/interleave"
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
	block    []byte            // room for a frame on its way to the transcoder
	order    *interleave.Queue // of what passes and what comes back; nil when nothing passes
	began    time.Time
	first    time.Duration // the first frame's time
	newest   time.Duration // the latest one's
	item     media.Item    // the tracks that pass
	late     atomic.Bool   // the others are, and not waited for any more
	alone    atomic.Bool   // they have gone on without them
}

// lateTrack is how long what passes waits until the transcoder knows its tracks.
// That takes it a second as a rule, and pictures may be as late as their next key
// frame.
const lateTrack = 11 * time.Second

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
	reach := new(time.Duration)
	for kind := range p.passages {
		p.passages[kind] = newPassage(first.Time, reach)
	}
	if len(p.item.Tracks) > 0 {
		p.order = interleave.New(lateTrack, p.write)
		p.order.Open(media.Video)
		p.order.Open(media.Audio)
	}
	p.decoding, err = r.decode(codecs(cut), pipe.Job{OwnTimes: true}, func(decoded []pipe.Track) (media.Item, error) {
		return join(taken, decoded)
	}, func(f media.Frame) bool { return p.emit(r, f) }, p.fatal)
	if err != nil {
		return err
	}
	defer p.interleave()()
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

// interleave begins to put the tracks in order, which end ends.
func (p *parting) interleave() (end func()) {
	if p.order == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { p.order.Run(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
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

// emit puts a frame back onto the publisher's clock and hands it on; false when
// there is no use for more.
func (p *parting) emit(r *reading, f media.Frame) bool {
	f.Time = p.passages[f.Kind].back(f.Time)
	f.Sent = f.Time
	if p.order == nil {
		return r.hand(media.Item{Frame: f})
	}
	_, err := p.order.Put(f)
	return err == nil
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
	number, passage := p.numbers[f.Kind], p.passages[f.Kind]
	switch {
	case number == 0:
		passage.back(passage.there(f.Time)) // which the other track's clock is held against
		if _, err := p.order.Put(f); err != nil {
			return p.broken()
		}
		return nil
	case p.alone.Load():
		return nil
	case p.order != nil:
		p.order.Feed(f.Kind, f.Time)
	}
	f.Time = passage.there(f.Time)
	p.block = webm.AppendFrame(p.block[:0], number, f)
	if _, err := p.process.Write(p.block); err != nil {
		return p.broken()
	}
	return nil
}

// errEnded is a publisher that has been ended.
var errEnded = errors.New("the publisher has been ended")

// write hands on a frame in its turn.
func (p *parting) write(f media.Frame) error {
	if !p.known() {
		if err := p.await(); err != nil {
			return err
		}
	}
	if !p.reading.hand(media.Item{Frame: f}) {
		return errEnded
	}
	return nil
}

// await waits until viewers know of the tracks. What passes goes on without a
// transcoded track that doesn't come.
func (p *parting) await() error {
	timer := time.NewTimer(time.Until(p.began.Add(lateTrack)))
	defer timer.Stop()
	select {
	case <-p.announced:
		return nil
	case <-p.over:
	case <-timer.C:
		p.late.Store(true)
		p.process.Close()
		<-p.over
		if !p.known() {
			if !p.reading.hand(p.item) {
				return errEnded
			}
			p.alone.Store(true)
		}
	}
	if !p.known() {
		return errUnknown
	}
	return nil
}

// errUnknown is a transcoder that ended before it knew its tracks.
var errUnknown = errors.New("the transcoder knows no tracks")

// fatal reports whether the transcoder's failure is the document's.
func (p *parting) fatal(known bool) bool { return p.order == nil || !known && !p.late.Load() }

// known reports whether viewers have been told of the tracks.
func (p *parting) known() bool {
	select {
	case <-p.announced:
		return true
	default:
		return p.alone.Load()
	}
}

// broken is why the transcoder takes no more; nil when its tracks have ended
// and others go on.
func (p *parting) broken() error {
	<-p.over
	if p.known() && p.order != nil {
		return p.close(true)
	}
	if p.err == nil {
		return fmt.Errorf("%w: it ended before its body", ErrTranscoder)
	}
	return p.reading.outcome(p.err)
}

// close says that the tracks that are transcoded, or those that aren't, have
// ended, and returns when their last frames have been handed on.
func (p *parting) close(transcoded bool) error {
	for kind, number := range p.numbers {
		if (number > 0) == transcoded {
			if err := p.order.Finish(media.Kind(kind)); err != nil {
				return err
			}
		}
	}
	return nil
}

// finish takes the document to its end: the frames that still wait, and what the
// transcoder still has.
func (p *parting) finish() error {
	p.ending.Store(true)
	p.process.End() // when it fails, p.err says why
	if p.order != nil && p.close(false) != nil {
		return p.broken()
	}
	if <-p.over; p.err == nil && p.order == nil {
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
