//go:build cgo

package transcoder

import (
	"fmt"
	"time"

	"github.com/go-gst/go-gst/gst"
	"github.com/go-gst/go-gst/gst/app"

	"tureen/impl/media"
)

// foretell makes a sound track known before any of it has come, so that a
// stream whose microphone is still off can be announced with its sound: the
// encoder writes the same headers for the same form, so silence tells them.
func (b *branch) foretell() bool {
	if b.isOpen || b.track.Private != nil {
		return true
	}
	if b.kind != media.Audio || b.passes() || b.named.rate <= 0 || b.named.channels <= 0 {
		return false
	}
	form := b.form(b.named)
	pipeline, err := gst.NewPipelineFromString(fmt.Sprintf(
		"audiotestsrc wave=silence num-buffers=4 ! audio/x-raw,rate=%d,channels=%d ! vorbisenc quality=%f ! appsink name=sink sync=false",
		form.rate, form.channels, form.quality(b.graph.job.MaxAudioBitRate)))
	if err != nil {
		return false
	}
	element, err := pipeline.GetElementByName("sink")
	if err != nil || pipeline.SetState(gst.StatePlaying) != nil {
		return false
	}
	defer pipeline.SetState(gst.StateNull)
	sink := app.SinkFromElement(element)
	var headers [][]byte
	for len(headers) < 3 {
		sample := sink.TryPullSample(gst.ClockTime(time.Second))
		if sample == nil {
			return false
		}
		if packet := sample.GetBuffer().Bytes(); len(packet) > 0 && packet[0]&1 == 1 {
			headers = append(headers, packet)
		}
	}
	return b.describe(headers)
}
