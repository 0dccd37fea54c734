//go:build cgo

package transcoder

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/go-gst/go-gst/gst"

	"tureen/impl/media"
	"tureen/impl/transcode/pipe"
)

const (
	// lateSound is how long pictures wait for sound that the container
	// announces and that doesn't come: a fragmented MP4 holds two seconds of
	// pictures, as a rule, before their sound.
	lateSound = 2500 * time.Millisecond
	// laterSound is likewise where sound comes beside its pictures, and can be
	// announced before it does.
	laterSound = 400 * time.Millisecond
	// unannounced is how long a track is waited for that the container may hold
	// or not: an MPEG-TS or FLV never says that it has no further ones.
	unannounced = time.Second
	// latePictures is how long sound waits for pictures: a stream that is
	// joined in the middle begins to be seen with its next key frame.
	latePictures = 10 * time.Second
	// unknown is how long a format may stay unrecognised once this much of the
	// body has come, or all of it: the contract allows 5 s (ING-11).
	unknown      = 4 * time.Second
	unknownBytes = 1 << 20
	// farewell is how long frames from before a fault may take to come out.
	farewell = 500 * time.Millisecond
)

// course is how far a graph has come. It belongs to run.
type course struct {
	whole     bool      // the container has no further tracks
	since     time.Time // when the first track, or all of them, were known
	enough    time.Time // when so much of the body had come that it should have been recognised
	announced bool
	opened    []*branch
	closed    []*branch
	emptied   int
	failure   *pipe.Failure
	failed    time.Time
}

// run takes the graph to its end, and says how that was.
func (g *graph) run() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go g.listen()
	go g.write(ctx)
	var c course
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case e := <-g.events:
			if _, gone := e.(alone); gone {
				return errAlone
			}
			c.note(e)
		case <-ticker.C:
		}
		if end := g.advance(&c, time.Now()); end != nil {
			return end()
		}
	}
}

// write has frames written once the proxy knows their tracks.
func (g *graph) write(ctx context.Context) {
	select {
	case <-g.announced:
		g.order.Run(ctx)
	case <-ctx.Done():
	}
}

// note keeps what has happened.
func (c *course) note(event any) {
	switch e := event.(type) {
	case whole:
		c.whole = true
	case opened:
		c.opened = append(c.opened, e.branch)
	case closed:
		c.closed = append(c.closed, e.branch)
	case emptied:
		c.emptied++
	case *pipe.Failure:
		if c.failure == nil { // the first is the cause of the others
			c.failure, c.failed = e, time.Now()
		}
	}
	if c.since.IsZero() && (c.whole || len(c.opened) > 0) {
		c.since = time.Now()
	}
}

// advance does what is due, and is what ends the graph once that is.
func (g *graph) advance(c *course, now time.Time) (end func() error) {
	branches := g.present()
	c.whole = c.whole || len(branches) > 0 && g.announces(branches)
	if !c.announced && (c.settled(branches, now) || c.failure != nil && len(c.opened) > 0) {
		c.announced = true
		if err := g.announce(c, branches); err != nil {
			return func() error { return err }
		}
	}
	if !c.announced && !c.since.IsZero() && now.Sub(c.since) > lateSound {
		g.hurry()
	}
	switch {
	case c.announced && c.emptied == len(branches):
		if c.failure != nil {
			return func() error { return g.out.json(pipe.Failed, c.failure) }
		}
		return func() error { return g.out.message(pipe.Done, nil) }
	case c.failure != nil && (!c.announced || now.Sub(c.failed) > farewell):
		return func() error { return g.out.json(pipe.Failed, g.judge(c.failure, c.announced)) }
	case !c.announced && c.whole && len(branches) == 0:
		return func() error {
			return g.out.json(pipe.Failed, &pipe.Failure{Reason: pipe.Unsupported, Text: "it has neither a video nor an audio track"})
		}
	case !c.announced && len(c.closed) > 0 && len(c.closed) == len(branches) && len(c.opened) == 0:
		return func() error {
			return g.out.json(pipe.Failed, &pipe.Failure{Reason: pipe.Malformed, Text: "none of its frames can be decoded"})
		}
	}
	return g.unrecognised(c, now)
}

// unrecognised ends a graph that had all its time to make something of the body.
func (g *graph) unrecognised(c *course, now time.Time) (end func() error) {
	if c.announced || !c.enough.IsZero() && now.Sub(c.enough) < unknown {
		return nil
	}
	if c.enough.IsZero() {
		if g.body.Load() || g.bytes.Load() >= unknownBytes {
			c.enough = now
		}
		return nil
	}
	f := &pipe.Failure{Reason: pipe.Unsupported, Text: "nothing in it can be recognised"}
	switch {
	case len(g.present()) > 0 && now.Sub(c.enough) < latePictures && !g.body.Load():
		return nil // a decoder waits for its key frame
	case g.known.Load() && g.body.Load():
		f = &pipe.Failure{Reason: pipe.Malformed, Text: "it ends inside its headers"}
	case g.known.Load():
		f.Text = "nothing in it can be decoded"
	}
	return func() error { return g.out.json(pipe.Failed, f) }
}

// present are the branches begun, video first.
func (g *graph) present() []*branch {
	g.mu.Lock()
	defer g.mu.Unlock()
	var list []*branch
	for _, b := range g.branches {
		if b != nil {
			list = append(list, b)
		}
	}
	return list
}

// announces reports whether the container says that it holds only the tracks of
// these branches, without GStreamer's noticing.
func (g *graph) announces(branches []*branch) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.head.kinds() == len(branches)
}

// hurry lets branches that wait for others go on.
func (g *graph) hurry() {
	select {
	case <-g.overdue:
	default:
		close(g.overdue)
	}
}

// settled reports whether the tracks are to be announced: all are known, or
// those that aren't had their time.
func (c *course) settled(branches []*branch, now time.Time) bool {
	if c.since.IsZero() {
		return false
	}
	wait := time.Duration(0)
	if !c.whole {
		wait = unannounced
	}
	missing := false
	for _, b := range branches {
		if slices.Contains(c.opened, b) || slices.Contains(c.closed, b) {
			continue
		}
		missing = true
		if b.kind == media.Video {
			wait = max(wait, latePictures)
		} else {
			wait = max(wait, b.lateness())
		}
	}
	if len(c.opened) == 0 && missing && !c.foretold(branches) {
		return false
	}
	return len(branches) > 0 && (len(c.opened) > 0 || missing) && now.Sub(c.since) >= wait
}

// lateness is how long a sound track is waited for.
func (b *branch) lateness() time.Duration {
	if b.graph.bursts.Load() || !b.foretellable() {
		return lateSound
	}
	return laterSound
}

// foretold reports whether all tracks can be announced before they come.
func (c *course) foretold(branches []*branch) bool {
	return !slices.ContainsFunc(branches, func(b *branch) bool { return !b.foretellable() })
}

// announce tells the proxy the tracks.
func (g *graph) announce(c *course, branches []*branch) error {
	var a pipe.Announcement
	for _, b := range branches {
		var track media.Track
		if slices.Contains(c.opened, b) {
			track = b.track
		} else if foretold, ok := b.foretell(); ok {
			track = foretold
		} else {
			continue
		}
		g.accepted[b.kind] = true
		g.order.Open(b.kind)
		a.Tracks = append(a.Tracks, pipe.Track{Input: b.input(), Output: track})
	}
	if err := g.out.json(pipe.Tracks, a); err != nil {
		return err
	}
	close(g.announced)
	return nil
}

// listen waits for GStreamer's errors.
func (g *graph) listen() {
	bus := g.pipeline.GetPipelineBus()
	for {
		m := bus.TimedPop(gst.ClockTimeNone)
		if m == nil {
			continue
		}
		if m.Type() != gst.MessageError {
			continue
		}
		err := m.ParseError()
		reason := pipe.Malformed
		if ours(m.Source()) {
			reason = pipe.Fault
		}
		g.fail(reason, "%s: %s", m.Source(), strings.TrimRight(err.Error(), "."))
	}
}

// ours reports whether an element is of those whose faults aren't the body's.
func ours(element string) bool {
	return element == "encoder" || element == "sink" || element == "scale" || element == "shape"
}

// judge is what a failure means to the publisher.
func (g *graph) judge(f *pipe.Failure, announced bool) *pipe.Failure {
	if announced || f.Reason != pipe.Malformed {
		return f
	}
	switch {
	case !g.known.Load():
		return &pipe.Failure{Reason: pipe.Unsupported, Text: "no media format that this server knows begins like this"}
	case !g.body.Load():
		return &pipe.Failure{Reason: pipe.Unsupported, Text: "it can't be decoded: " + f.Text}
	}
	return &pipe.Failure{Reason: pipe.Malformed, Text: "it ends inside its headers"}
}
