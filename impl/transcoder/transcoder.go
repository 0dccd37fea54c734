//go:build cgo

package transcoder

import (
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/go-gst/go-gst/gst"

	"tureen/impl/transcode/pipe"
)

// Available reports whether this build can transcode.
const Available = true

// errAlone is the end of the pipe without a word: the proxy is gone.
var errAlone = errors.New("the proxy is gone")

// Run transcodes one stream: it reads messages to a transcoder from in, writes
// those from one to out, and returns when the last is written or the proxy is
// gone. The process must end then: GStreamer's threads may still run, or hang.
func Run(in io.Reader, out io.Writer) error {
	// The work is done in GStreamer's threads. With more than one processor Go
	// spins in search of work at every frame, a seventh of what encoding costs.
	runtime.GOMAXPROCS(1)
	gst.Init(nil)
	preload()
	o := newOutput(out)
	if err := o.message(pipe.Ready, nil); err != nil {
		return fmt.Errorf("say that the transcoder is ready: %w", err)
	}
	r := pipe.NewReader(in)
	job, err := start(r)
	if err != nil {
		return err
	}
	g, err := newGraph(job, o)
	if err != nil {
		return o.json(pipe.Failed, &pipe.Failure{Reason: pipe.Fault, Text: err.Error()})
	}
	input := &input{reader: r, graph: g}
	go input.run()
	return g.run()
}

// start waits for the job.
func start(r *pipe.Reader) (job pipe.Job, err error) {
	kind, content, err := r.Read()
	switch {
	case err != nil:
		return job, errAlone // a spare that was never needed
	case kind != pipe.Start:
		return job, fmt.Errorf("%w: %q before a job", pipe.ErrProtocol, kind)
	}
	return job, pipe.Unmarshal(content, &job)
}

// preload loads what most streams need, so that the first of them doesn't wait
// for it.
func preload() {
	for _, name := range []string{
		"appsrc", "appsink", "typefind", "decodebin", "queue", "capsfilter", "videoconvert", "videoscale", "videoflip", "deinterlace",
		"audioconvert", "audioresample", "vp8enc", "vorbisenc", "qtdemux", "tsdemux", "flvdemux", "matroskademux", "oggdemux",
		"h264parse", "aacparse", "avdec_h264", "avdec_aac", "opusdec", "vp9dec",
	} {
		if e, err := gst.NewElement(name); err == nil { // what is missing is told where it is needed
			e.SetState(gst.StateReady)
			e.SetState(gst.StateNull)
		}
	}
}

// input brings the proxy's messages to the graph.
type input struct {
	reader *pipe.Reader
	graph  *graph
}

func (i *input) run() {
	for {
		kind, content, err := i.reader.Read()
		if err != nil {
			i.graph.tell(alone{})
			return
		}
		switch kind {
		case pipe.Data:
			i.graph.push(content)
		case pipe.End:
			i.graph.end()
		case pipe.Pause:
			i.graph.pause()
		case pipe.KeyNow:
			i.graph.keyNow()
		}
	}
}
