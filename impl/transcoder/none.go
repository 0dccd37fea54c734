//go:build !cgo

package transcoder

import (
	"errors"
	"io"
	"time"
)

// Available reports whether this build can transcode.
const Available = false

var errNone = errors.New("this build can't transcode: it was made without cgo")

// Run fails: this build has no GStreamer.
func Run(io.Reader, io.Writer) error { return errNone }

// Calibrate fails likewise.
func Calibrate(time.Duration) (time.Duration, error) { return 0, errNone }
