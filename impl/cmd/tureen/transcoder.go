package main

import (
	"fmt"
	"os"

	"tureen/impl/transcode"
	"tureen/impl/transcoder"
)

// child is the process that transcodes one stream. The proxy starts it; it
// isn't for people.
type child struct {
	Calibrate bool `help:"Print the processor time that a typical stream takes, and end."`
}

// The pipes that the proxy gives a transcoder.
const (
	feedDescriptor   = 3
	framesDescriptor = 4
)

// Run transcodes until the stream ends, and ends the process: GStreamer's
// threads may not.
func (c *child) Run() error {
	if c.Calibrate {
		used, err := transcoder.Calibrate(transcode.CalibrationMedia)
		if err != nil {
			return err
		}
		fmt.Println(used)
		return nil
	}
	if err := transcoder.Confine(); err != nil {
		return fmt.Errorf("confine the transcoder: %w", err)
	}
	err := transcoder.Run(os.NewFile(feedDescriptor, "feed"), os.NewFile(framesDescriptor, "frames"))
	if err != nil {
		return fmt.Errorf("transcode: %w", err)
	}
	os.Exit(0)
	return nil
}

// transcoderCommand runs this program as a transcoder; nil when it can't be one.
func transcoderCommand() []string {
	path, err := os.Executable()
	if err != nil || !transcoder.Available {
		return nil
	}
	return []string{path, "transcoder"}
}
