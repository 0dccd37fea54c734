//go:build cgo

package transcoder

import (
	"fmt"
	"time"

	"github.com/go-gst/go-gst/gst"
	"golang.org/x/sys/unix"
)

// Calibrate encodes media of 640×360, 30 pictures a second and stereo sound, and
// returns the processor time that it took.
func Calibrate(media time.Duration) (time.Duration, error) {
	gst.Init(nil)
	pictures := int(media / (time.Second / 30))
	before := used()
	pipeline, err := gst.NewPipelineFromString(fmt.Sprintf(
		"videotestsrc num-buffers=%d pattern=ball ! video/x-raw,format=I420,width=640,height=360,framerate=30/1 ! "+
			"queue ! vp8enc deadline=1 cpu-used=8 lag-in-frames=0 end-usage=cbr target-bitrate=1200000 ! fakesink sync=false "+
			"audiotestsrc num-buffers=%d ! audio/x-raw,rate=48000,channels=2 ! vorbisenc ! fakesink sync=false", pictures, int(media.Seconds()*48000/1024)))
	if err != nil {
		return 0, fmt.Errorf("calibrate: %w", err)
	}
	if err := pipeline.SetState(gst.StatePlaying); err != nil {
		return 0, fmt.Errorf("calibrate: %w", err)
	}
	m := pipeline.GetPipelineBus().TimedPopFiltered(gst.ClockTime(20*time.Second), gst.MessageEOS|gst.MessageError)
	if m == nil || m.Type() != gst.MessageEOS {
		return 0, fmt.Errorf("calibrate: the pipeline doesn't come to its end")
	}
	return used() - before, nil
}

// used is the processor time of this process.
func used() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
