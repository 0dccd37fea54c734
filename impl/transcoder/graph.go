//go:build cgo

package transcoder

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-gst/go-gst/gst"
	"github.com/go-gst/go-gst/gst/app"

	"tureen/impl/interleave"
	"tureen/impl/media"
	"tureen/impl/transcode/pipe"
)

// graph is the pipeline of one stream:
//
//	appsrc → typefind ─┬─▶ demuxer ─┬─▶ branch of the first video track
//	                   │            └─▶ branch of the first audio track
//	                   └─▶ the branch of a stream without container
//
// GStreamer's threads add branches and tell of what happens; the goroutine in
// run decides what to make of it, and is the one that ends the graph.
type graph struct {
	job      pipe.Job
	out      *output
	pipeline *gst.Pipeline
	source   *app.Source
	find     *gst.Element
	events   chan any
	began    time.Time
	order    *interleave.Queue
	waited   atomic.Int64 // nanoseconds that frames had to wait for the proxy, or for it to know the tracks

	announced chan struct{}     // closed when the proxy knows the tracks
	accepted  [media.Kinds]bool // which these are; fixed then
	overdue   chan struct{}     // closed when a track had its time to come
	bytes     atomic.Int64      // of the body
	body      atomic.Bool       // has ended
	known     atomic.Bool       // the format has been recognised
	bursts    atomic.Bool       // its tracks come in turns, each for a second or more

	mu       sync.Mutex // guards what follows
	head     head
	branches [media.Kinds]*branch
}

// What GStreamer's threads and the input tell run.
type (
	// alone tells that the proxy is gone.
	alone struct{}
	// whole tells that the container has no further tracks.
	whole struct{}
	// opened tells that a branch's track is known.
	opened struct{ *branch }
	// closed tells that a branch has its last frame.
	closed struct{ *branch }
	// emptied tells that it has also passed on all of them.
	emptied struct{ *branch }
)

// sourceBytes is how much of the body waits for the demuxer at most. What waits
// in pipes is delay to a stream that can't be read as fast as it comes.
const sourceBytes = 128 << 10

func newGraph(job pipe.Job, out *output) (*graph, error) {
	pipeline, err := gst.NewPipelineFromString(fmt.Sprintf(
		"appsrc name=source is-live=true block=true max-bytes=%d format=bytes stream-type=stream ! typefind name=find", sourceBytes))
	if err != nil {
		return nil, fmt.Errorf("build a pipeline: %w", err)
	}
	source, err1 := pipeline.GetElementByName("source")
	find, err2 := pipeline.GetElementByName("find")
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("build a pipeline: %w", err)
	}
	g := &graph{
		job: job, out: out, pipeline: pipeline, source: app.SrcFromElement(source), find: find, began: time.Now(),
		events:    make(chan any, 64),
		announced: make(chan struct{}), overdue: make(chan struct{}),
	}
	g.order = interleave.New(interleave.Span, g.frame)
	find.GetStaticPad("sink").AddProbe(gst.PadProbeTypeEventDownstream, func(_ *gst.Pad, info *gst.PadProbeInfo) gst.PadProbeReturn {
		if event := info.GetEvent(); event != nil && event.Type() == gst.EventTypeCustomDownstream {
			g.paused()
			return gst.PadProbeDrop // it has told all
		}
		return gst.PadProbeOK
	})
	if _, err := find.Connect("have-type", g.recognised); err != nil {
		return nil, fmt.Errorf("build a pipeline: %w", err)
	}
	if err := pipeline.SetState(gst.StatePlaying); err != nil {
		return nil, fmt.Errorf("start a pipeline: %w", err)
	}
	return g, nil
}

// frame sends a frame of a track that the proxy knows.
func (g *graph) frame(f media.Frame) error {
	if !g.accepted[f.Kind] {
		return nil
	}
	return g.out.frame(f)
}

// tell has run know of something.
func (g *graph) tell(event any) { g.events <- event }

// fail ends the graph for a reason.
func (g *graph) fail(reason pipe.Reason, format string, args ...any) {
	g.tell(&pipe.Failure{Reason: reason, Text: fmt.Sprintf(format, args...)})
}

// push feeds bytes of the body; it waits while the demuxer has enough.
func (g *graph) push(b []byte) {
	if len(b) == 0 {
		return
	}
	buffer := gst.NewBufferFromBytes(b)
	g.bytes.Add(int64(len(b)))
	g.mu.Lock()
	g.head.add(b)
	g.mu.Unlock()
	g.source.PushBuffer(buffer) // fails only when the graph has, which tells so itself
	runtime.KeepAlive(buffer)
}

// end says that the body has come to its end.
func (g *graph) end() {
	g.body.Store(true)
	g.source.EndStream()
}

// pause sends a mark after the bytes so far. Where it comes by, all of them have
// been taken apart.
func (g *graph) pause() {
	g.source.SendEvent(gst.NewCustomEvent(gst.EventTypeCustomDownstream, gst.NewStructureFromString("tureen-pause;")))
}

// mostHeaders is more than a live encoder sends before its first frame. Some
// demuxers, ASF's for one, take more than that in before they give anything out.
const mostHeaders = 64 << 10

// paused tells the proxy how much of media the body held when it paused.
func (g *graph) paused() {
	held := pipe.HeldNone
	for _, b := range g.present() {
		held = max(held, b.span.held())
	}
	if held == pipe.HeldNone && g.bytes.Load() > mostHeaders {
		held = pipe.HeldMuch
	}
	g.out.message(pipe.Paused, []byte{byte(held)}) // fails with the proxy
}

// keyNow has the next picture encoded as a key frame.
func (g *graph) keyNow() {
	g.mu.Lock()
	video := g.branches[media.Video]
	g.mu.Unlock()
	if video != nil {
		video.forceKey()
	}
}

// recognised goes on with what typefind has found.
func (g *graph) recognised(find *gst.Element, _ uint, caps *gst.Caps) {
	g.known.Store(true)
	s := caps.GetStructureAt(0)
	source := find.GetStaticPad("src")
	if name := demuxerOf(s); name != "" {
		if err := g.demux(name, source); err != nil {
			g.fail(pipe.Unsupported, "it needs %s, which this server lacks: %v; install GStreamer's plug-ins", name, err)
		}
		return
	}
	kind, ok := kindOf(s)
	if !ok {
		g.fail(pipe.Unsupported, "it is %s, which holds neither pictures nor sound that can be read", s.Name())
		return
	}
	g.branch(kind, source, caps)
	g.tell(whole{})
}

// demux has a container taken apart.
func (g *graph) demux(name string, source *gst.Pad) error {
	demuxer, err := gst.NewElement(name)
	if err != nil {
		return err
	}
	g.bursts.Store(name == "qtdemux" || name == "oggdemux") // by fragments, by pages
	if err := g.pipeline.Add(demuxer); err != nil {
		return err
	}
	_, err1 := demuxer.Connect("pad-added", func(_ *gst.Element, pad *gst.Pad) { g.added(pad) })
	_, err2 := demuxer.Connect("no-more-pads", func(*gst.Element) { g.tell(whole{}) })
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if !demuxer.SyncStateWithParent() {
		return errors.New("it can't be started")
	}
	if linked := source.Link(demuxer.GetStaticPad("sink")); linked != gst.PadLinkOK {
		return fmt.Errorf("it can't be linked: %v", linked)
	}
	return nil
}

// added takes the first video and the first audio track that a container has
// (FMT-7). The others stay unlinked, which demuxers are content with.
func (g *graph) added(pad *gst.Pad) {
	caps := pad.GetCurrentCaps()
	if caps == nil {
		caps = pad.QueryCaps(nil)
	}
	if caps == nil || caps.GetSize() == 0 {
		return
	}
	if kind, ok := kindOf(caps.GetStructureAt(0)); ok {
		g.branch(kind, pad, caps)
	}
}

// branch begins a track that comes from a pad: a demuxer's, or what there is
// without one.
func (g *graph) branch(kind media.Kind, pad *gst.Pad, caps *gst.Caps) {
	g.mu.Lock()
	taken := g.branches[kind] != nil
	var b *branch
	if !taken {
		b = newBranch(g, kind, caps.GetStructureAt(0))
		g.branches[kind] = b
	}
	g.mu.Unlock()
	if taken {
		return
	}
	if err := b.begin(pad); err != nil {
		g.fail(pipe.Fault, "a track of %s: %v", b.codec, err)
	}
}
