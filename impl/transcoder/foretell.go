//go:build cgo

package transcoder

import (
	"fmt"
	"time"

	"github.com/go-gst/go-gst/gst"
	"github.com/go-gst/go-gst/gst/app"

	"tureen/impl/media"
)

// foretell is a sound track of which nothing has come, so that a stream whose
// microphone is still off can be announced with its sound: the encoder writes
// the same headers for the same form, so silence tells them. False where that
// can't be.
func (b *branch) foretell() (media.Track, bool) {
	if !b.foretellable() {
		return media.Track{}, false
	}
	form := b.settle(b.named)
	pipeline, err := gst.NewPipelineFromString(fmt.Sprintf(
		"audiotestsrc wave=silence num-buffers=4 ! audio/x-raw,rate=%d,channels=%d ! vorbisenc quality=%f ! appsink name=sink sync=false",
		form.rate, form.channels, form.quality(b.graph.job.MaxAudioBitRate)))
	if err != nil {
		return media.Track{}, false
	}
	element, err := pipeline.GetElementByName("sink")
	if err != nil || pipeline.SetState(gst.StatePlaying) != nil {
		return media.Track{}, false
	}
	defer pipeline.SetState(gst.StateNull)
	sink := app.SinkFromElement(element)
	var headers [][]byte
	for len(headers) < 3 {
		sample := sink.TryPullSample(gst.ClockTime(time.Second))
		if sample == nil {
			return media.Track{}, false
		}
		if packet := sample.GetBuffer().Bytes(); len(packet) > 0 && packet[0]&1 == 1 {
			headers = append(headers, packet)
		}
	}
	return vorbisTrack(headers)
}

// foretellable reports whether the container says enough of the track.
func (b *branch) foretellable() bool {
	return b.kind == media.Audio && !b.vague && !b.passes() && b.named.rate > 0 && b.named.channels > 0
}
