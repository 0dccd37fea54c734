//go:build cgo

package transcoder

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/go-gst/go-gst/gst"
	"github.com/go-gst/go-gst/gst/app"

	"tureen/impl/media"
	"tureen/impl/transcode/pipe"
	"tureen/impl/webm"
)

// branch is one track on its way from the demuxer to the proxy. Its methods
// run in GStreamer's threads and in a goroutine of its own.
type branch struct {
	graph   *graph
	kind    media.Kind
	codec   string                 // at the publisher, as far as its container tells
	vague   bool                   // which isn't far enough
	raw     bool                   // there is nothing to decode
	refined atomic.Pointer[string] // what its decoder finds
	named   sound                  // what the container says of sound
	form    atomic.Pointer[sound]  // that it is encoded as; fixed once there
	segment *gst.Segment           // of what the demuxer gives out; its thread's

	bin     *gst.Bin
	encoder *gst.Element // nil when the track passes as it is
	waiting *gst.Element // the queue before the video encoder

	span    extent // of what came from the demuxer
	lag     lag
	beat    metronome
	next    time.Duration // the earliest time that the encoder takes
	lastKey time.Duration // of its last key frame

	track   media.Track // once opened
	headers [][]byte    // of Vorbis, as they come
	isOpen  bool
}

func newBranch(g *graph, kind media.Kind, s *gst.Structure) *branch {
	return &branch{
		graph: g, kind: kind, codec: codecOf(s), vague: !isCodec(s), raw: isRaw(s),
		named: sound{number(s, "rate"), number(s, "channels")}, segment: gst.NewSegment(),
		track: media.Track{Kind: kind, Codec: outputOf(kind)},
	}
}

// outputOf is the codec that viewers get.
func outputOf(kind media.Kind) string {
	if kind == media.Video {
		return media.VP8
	}
	return media.Vorbis
}

// passes reports whether the track's frames are what viewers get already.
func (b *branch) passes() bool { return b.codec == outputOf(b.kind) }

// The ends of a branch. Frames wait in the queue before the encoder; at most so
// many that dropping one frees the encoder soon. lag-in-frames and deadline
// make the encoder give out each picture at once.
const (
	videoChain = "videoconvert ! deinterlace fields=top ! videoflip video-direction=auto ! " +
		"videoscale name=scale add-borders=true ! capsfilter name=shape ! " +
		"queue name=waiting max-size-buffers=4 max-size-bytes=0 max-size-time=0 ! " +
		"vp8enc name=encoder deadline=1 cpu-used=8 lag-in-frames=0 end-usage=cbr keyframe-max-dist=1000 " +
		"min-quantizer=4 max-quantizer=56 buffer-initial-size=500 buffer-optimal-size=600 buffer-size=1000 " +
		"undershoot=95 static-threshold=1 timebase=1/90000 ! "
	audioChain = "audioconvert name=entry ! audioresample ! capsfilter name=shape ! vorbisenc name=encoder ! "
	sinkChain  = "appsink name=sink sync=false async=false max-buffers=8"
)

// chain describes the branch's elements.
func (b *branch) chain() string {
	entry := ""
	if b.raw {
		entry = "queue ! " // in place of the decoder's
	}
	switch {
	case !b.passes() && b.kind == media.Video:
		return entry + videoChain + sinkChain
	case !b.passes():
		return entry + audioChain + sinkChain
	case b.kind == media.Audio:
		return "vorbisparse ! queue ! " + sinkChain // an Ogg states a time a page
	}
	return "queue ! " + sinkChain
}

// begin builds the branch and links it to the pad that its track comes from.
func (b *branch) begin(pad *gst.Pad) error {
	bin, err := gst.NewBinFromString(b.chain(), true)
	if err != nil {
		return fmt.Errorf("build its elements: %w", err)
	}
	b.bin = bin
	sink, err := bin.GetElementByName("sink")
	if err != nil {
		return err
	}
	entry := bin.GetStaticPad("sink")
	if err := b.add(bin.Element); err != nil {
		return err
	}
	if !b.passes() {
		if entry, err = b.decode(entry); err != nil {
			return err
		}
	}
	watched := gst.PadProbeTypeEventDownstream | gst.PadProbeTypeBuffer
	entry.AddProbe(watched, func(_ *gst.Pad, info *gst.PadProbeInfo) gst.PadProbeReturn {
		b.feeds(info)
		return gst.PadProbeOK
	})
	if linked := pad.Link(entry); linked != gst.PadLinkOK {
		return fmt.Errorf("its elements can't be linked: %v", linked)
	}
	go b.run(app.SinkFromElement(sink))
	return nil
}

// add puts an element into the pipeline and starts it.
func (b *branch) add(e *gst.Element) error {
	if err := b.graph.pipeline.Add(e); err != nil {
		return err
	}
	if !e.SyncStateWithParent() {
		return errors.New("its elements can't be started")
	}
	return nil
}

// feeds notes how far the track has come before its decoder.
func (b *branch) feeds(info *gst.PadProbeInfo) {
	if info.Type()&gst.PadProbeTypeBuffer == 0 { // which GStreamer complains of when asked for one
		if event := info.GetEvent(); event != nil && event.Type() == gst.EventTypeSegment {
			event.CopySegment(b.segment)
		}
		return
	}
	buffer := info.GetBuffer()
	if b.span.held() != pipe.HeldMuch {
		b.span.add(buffer)
	}
	if buffer.PresentationTimestamp() == gst.ClockTimeNone && b.inOrder() {
		buffer.SetPresentationTimestamp(buffer.DecodingTimestamp()) // all that an AVI tells
	}
	at, ok := b.time(buffer.PresentationTimestamp(), b.segment)
	if !ok {
		return
	}
	if d := buffer.Duration(); b.kind == media.Audio && d != gst.ClockTimeNone {
		at += time.Duration(d)
	}
	b.graph.order.Feed(b.kind, at)
}

// inOrder reports whether the track's frames are shown in the order of decoding
// for certain.
func (b *branch) inOrder() bool { return b.kind == media.Audio || b.raw || b.codec == "mjpeg" }

// decode puts a decoder before the branch's entry, and an encoder's settings
// under what comes to it.
func (b *branch) decode(entry *gst.Pad) (*gst.Pad, error) {
	if err := b.prepare(); err != nil || b.raw {
		return entry, err
	}
	decoder, err := gst.NewElement("decodebin")
	if err != nil {
		return nil, err
	}
	// Otherwise the pipeline, and with it the other branch, goes back to waiting
	// while this decoder gets ready, which may take bytes that are behind the
	// other branch's.
	decoder.SetProperty("async-handling", true)
	_, err1 := decoder.Connect("unknown-type", b.undecodable)
	if b.vague {
		_, err := decoder.Connect("autoplug-continue", func(_ *gst.Element, _ *gst.Pad, caps *gst.Caps) bool { return b.refine(caps) })
		err1 = errors.Join(err1, err)
	}
	_, err2 := decoder.Connect("pad-added", func(_ *gst.Element, pad *gst.Pad) {
		if !entry.IsLinked() {
			pad.Link(entry) // what doesn't fit is told by the error of what can't be pushed
		}
	})
	if err := errors.Join(err1, err2, b.add(decoder)); err != nil {
		return nil, err
	}
	return decoder.GetStaticPad("sink"), nil
}

// refine names the codec by what the decoder finds on its way.
func (b *branch) refine(caps *gst.Caps) (goOn bool) {
	if b.refined.Load() != nil || caps == nil || caps.GetSize() == 0 {
		return true
	}
	if s := caps.GetStructureAt(0); isCodec(s) {
		codec := codecOf(s)
		b.refined.Store(&codec)
	}
	return true
}

// input is the codec at the publisher.
func (b *branch) input() string {
	if refined := b.refined.Load(); refined != nil {
		return *refined
	}
	return b.codec
}

// prepare has the encoder set by what comes to it.
func (b *branch) prepare() (err error) {
	get := func(name string) (e *gst.Element) {
		e, found := b.bin.GetElementByName(name)
		err = errors.Join(err, found)
		return e
	}
	shape := get("shape")
	b.encoder = get("encoder")
	entry := "entry"
	if b.kind == media.Video {
		entry, b.waiting = "scale", get("waiting")
	}
	form := get(entry)
	if err != nil {
		return err
	}
	watched := gst.PadProbeTypeEventDownstream | gst.PadProbeTypeBuffer
	form.GetStaticPad("sink").AddProbe(watched, func(_ *gst.Pad, info *gst.PadProbeInfo) gst.PadProbeReturn {
		if info.Type()&gst.PadProbeTypeBuffer != 0 {
			return gst.PadProbeRemove // what came before it is announced, rotation by a tag included
		}
		if event := info.GetEvent(); event != nil && event.Type() == gst.EventTypeCaps {
			b.shape(event.ParseCaps().GetStructureAt(0), shape)
		}
		return gst.PadProbeOK
	})
	if b.kind == media.Video {
		b.encoder.GetStaticPad("sink").AddProbe(gst.PadProbeTypeBuffer, func(_ *gst.Pad, info *gst.PadProbeInfo) gst.PadProbeReturn {
			return b.admit(time.Duration(info.GetBuffer().PresentationTimestamp()))
		})
		return nil
	}
	var origin gst.ClockTime // between the encoder's stamps and the metronome's clock
	begun, latest := false, gst.NewSegment()
	b.encoder.GetStaticPad("sink").AddProbe(watched, func(_ *gst.Pad, info *gst.PadProbeInfo) gst.PadProbeReturn {
		if info.Type()&gst.PadProbeTypeBuffer == 0 {
			return follow(info.GetEvent(), latest, begun)
		}
		buffer := info.GetBuffer()
		pts := buffer.PresentationTimestamp()
		at, ok := b.time(pts, latest)
		if !ok {
			return gst.PadProbeDrop
		}
		form := b.form.Load()
		const sample = 4 // bytes; vorbisenc takes floats (audio/x-raw, F32LE)
		now, ok := b.beat.place(at, buffer.GetSize()/int64(sample*form.channels), form.rate)
		if !ok {
			return gst.PadProbeDrop
		}
		if !begun {
			begun, origin = true, pts-gst.ClockTime(now)
		}
		buffer.SetPresentationTimestamp(origin + gst.ClockTime(now))
		return gst.PadProbeOK
	})
	return nil
}

// follow notes the segments that sound comes in. The encoder keeps the one in
// which it began: what others say is in the times that the metronome keeps.
func follow(event *gst.Event, latest *gst.Segment, begun bool) gst.PadProbeReturn {
	if event == nil || event.Type() != gst.EventTypeSegment {
		return gst.PadProbeOK
	}
	event.CopySegment(latest)
	if begun {
		return gst.PadProbeDrop
	}
	return gst.PadProbeOK
}

// undecodable tells that no decoder is there for what the track holds.
func (b *branch) undecodable(_ *gst.Element, _ *gst.Pad, caps *gst.Caps) {
	name := "something unknown"
	if caps != nil && caps.GetSize() > 0 {
		s := caps.GetStructureAt(0)
		name = s.Name()
		if id, err := s.GetValue("codec-id"); err == nil { // of a Matroska codec that GStreamer doesn't know
			name = fmt.Sprint(id)
		}
	}
	b.graph.fail(pipe.Unsupported, "the %s track needs a decoder for %s: install one of GStreamer's plug-in packages that has it, "+
		"most often gstreamer1.0-libav", b.kind, name)
}

// shape fixes what is announced by the first form that comes; later ones are
// fitted to it (FMT-6).
func (b *branch) shape(s *gst.Structure, filter *gst.Element) {
	var caps string
	if b.kind == media.Video {
		n, d := fraction(s, "pixel-aspect-ratio")
		z := fit(number(s, "width"), number(s, "height"), n, d)
		rate := 0.0
		if n, d := fraction(s, "framerate"); d > 0 {
			rate = float64(n) / float64(d)
		}
		b.encoder.SetProperty("target-bitrate", z.videoBitRate(rate, b.graph.job.MaxVideoBitRate))
		b.encoder.SetProperty("threads", z.threads(runtime.NumCPU()))
		caps = fmt.Sprintf("video/x-raw,format=I420,width=%d,height=%d,pixel-aspect-ratio=1/1", z.width, z.height)
	} else {
		form := b.settle(sound{number(s, "rate"), number(s, "channels")})
		b.encoder.SetProperty("quality", form.quality(b.graph.job.MaxAudioBitRate))
		caps = fmt.Sprintf("audio/x-raw,rate=%d,channels=%d", form.rate, form.channels)
	}
	filter.SetProperty("caps", gst.NewCapsFromString(caps))
}

// settle fixes what sound is encoded as, by the first form of it that is known:
// what an earlier publisher's was, or what comes within the contract's bounds.
func (b *branch) settle(first sound) sound {
	form := first.narrow()
	if job := b.graph.job; job.SampleRate > 0 && job.Channels > 0 {
		form = sound{job.SampleRate, job.Channels}
	}
	b.form.CompareAndSwap(nil, &form)
	return *b.form.Load()
}

func fraction(s *gst.Structure, field string) (n, d int) {
	v, err := s.GetValue(field)
	if err != nil {
		return 0, 0
	}
	switch f := v.(type) {
	case *gst.FractionValue:
		return f.Num(), f.Denom()
	case gst.FractionValue:
		return f.Num(), f.Denom()
	}
	return 0, 0
}

// admit decides on a picture that comes to the encoder, and has a key frame
// made where one is due.
func (b *branch) admit(at time.Duration) gst.PadProbeReturn {
	if at < b.next {
		return gst.PadProbeDrop
	}
	b.next = at + encoderTick
	level, _ := b.waiting.GetProperty("current-level-buffers")
	n, _ := level.(uint)
	if b.lag.drop(at, time.Since(b.graph.began)-time.Duration(b.graph.waited.Load()), n > 0) {
		return gst.PadProbeDrop
	}
	if past := at - b.lastKey; past >= keyInterval || past < 0 {
		b.lastKey = at
		b.forceKey()
	}
	return gst.PadProbeOK
}

// encoderTick is the least distance of two pictures that the encoder takes: one
// of its ticks, which are of 1/90000 s. Anything less is an error to it.
const encoderTick = time.Second/90_000 + 1

// forceKey has the encoder make its next picture a key frame.
func (b *branch) forceKey() {
	if b.encoder == nil {
		return
	}
	const event = "GstForceKeyUnit, running-time=(guint64)18446744073709551615, all-headers=(boolean)false, count=(uint)0;"
	b.encoder.GetStaticPad("src").SendEvent(gst.NewCustomEvent(gst.EventTypeCustomUpstream, gst.NewStructureFromString(event)))
}

// run takes the branch's frames until there are no more.
func (b *branch) run(sink *app.Sink) {
	for sample := sink.PullSample(); sample != nil; sample = sink.PullSample() {
		if f, ok := b.frame(sample); ok && !b.hand(f) {
			return
		}
	}
	b.graph.tell(closed{b})
	<-b.graph.announced
	if b.graph.order.Finish(b.kind) == nil {
		b.graph.tell(emptied{b})
	}
}

// frame is what a sample holds; false when that is no frame for viewers. The
// first frame opens the branch.
func (b *branch) frame(sample *gst.Sample) (media.Frame, bool) {
	buffer := sample.GetBuffer()
	if buffer == nil {
		return media.Frame{}, false
	}
	payload := buffer.Bytes()
	if len(payload) == 0 || b.kind == media.Audio && b.header(payload) {
		return media.Frame{}, false
	}
	f := media.Frame{Kind: b.kind, Key: b.kind == media.Audio || media.KeyVP8(payload), Payload: payload}
	if d := buffer.Duration(); d != gst.ClockTimeNone {
		f.Duration = time.Duration(d)
	}
	at, ok := b.time(buffer.PresentationTimestamp(), sample.GetSegment())
	if !ok || !b.isOpen && !b.open(f) {
		return media.Frame{}, false
	}
	f.Time = at
	if b.encoder != nil && b.kind == media.Audio {
		f.Time = b.beat.back(at)
	}
	return f, true
}

// time is a buffer's on the clock that its stream's tracks share.
func (b *branch) time(pts gst.ClockTime, segment *gst.Segment) (time.Duration, bool) {
	if pts == gst.ClockTimeNone || segment.GetFormat() != gst.FormatTime { // as of what has no container
		return 0, false
	}
	if b.graph.job.OwnTimes {
		return time.Duration(pts), true
	}
	at := segment.ToRunningTime(gst.FormatTime, uint64(pts))
	return time.Duration(at), at != uint64(gst.ClockTimeNone)
}

// header takes a Vorbis header packet (Vorbis I §4.2.1); false for sound.
func (b *branch) header(packet []byte) bool {
	if packet[0]&1 == 0 {
		return false
	}
	if !b.isOpen {
		b.headers = append(b.headers, packet)
	}
	return true
}

// open makes the track known by its first frame; false while it can't be.
func (b *branch) open(f media.Frame) bool {
	if b.kind == media.Video {
		if !f.Key {
			return false
		}
		b.track.Picture.Width, b.track.Picture.Height = media.SizeVP8(f.Payload)
	} else if !b.describe(b.headers) {
		return false
	}
	b.isOpen = true
	b.graph.tell(opened{b})
	return true
}

// describe sets the track by Vorbis' headers; false if they are none.
func (b *branch) describe(headers [][]byte) (ok bool) {
	b.track, ok = vorbisTrack(headers)
	return ok
}

// vorbisTrack is the track that has these headers; false if they are none.
func vorbisTrack(headers [][]byte) (media.Track, bool) {
	rate, channels, private, err := webm.PackVorbis(headers)
	if err != nil {
		return media.Track{}, false
	}
	return media.Track{
		Kind: media.Audio, Codec: media.Vorbis, SampleRate: float64(rate), Channels: channels, Private: private,
	}, true
}

// hand passes a frame on; false when the proxy doesn't take it. Until the proxy
// knows the tracks, as much is kept as the queue holds.
func (b *branch) hand(f media.Frame) bool {
	select {
	case <-b.graph.announced:
	default:
		if b.graph.order.Full(f) {
			b.wait(f)
		}
	}
	waited, err := b.graph.order.Put(f)
	b.graph.waited.Add(int64(waited))
	return err == nil
}

// wait waits until the proxy knows the tracks. Where another track is late for
// that, viewers will want what is new then: the oldest frames make room for f.
func (b *branch) wait(f media.Frame) {
	began := time.Now()
	select {
	case <-b.graph.announced:
		b.graph.waited.Add(int64(time.Since(began)))
	case <-b.graph.overdue:
		b.graph.order.Trim(f)
	}
}
