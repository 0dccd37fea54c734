// Package progress shows people how a run goes: bars on a terminal, plain lines elsewhere. What is measured, and what
// comes of it, is left to others.
package progress

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/sys/unix"

	"tureen/loadgen/trial"
)

const (
	redraw    = 200 * time.Millisecond
	lineEvery = 10 * time.Second // between two plain lines of figures
	barWidth  = 24
)

// Display shows progress; it is a trial.Progress that must be closed.
type Display interface {
	trial.Progress
	// Close leaves the screen to others. It may be called again.
	Close()
}

// New returns a display that draws on w when that is a terminal, and writes lines to it otherwise.
func New(w io.Writer) Display {
	if IsTerminal(w) {
		return newBars(w)
	}
	return &lines{w: w}
}

// IsTerminal tells whether a writer is a terminal that can be drawn on: one that knows how wide it is.
func IsTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	return err == nil && size.Col > 0
}

// figures says in words how far a run has come.
func figures(l trial.Live) string {
	text := fmt.Sprintf("%d of %d viewers", l.Joined, l.Wanted)
	if l.P99 > 0 {
		text += fmt.Sprintf(", p50 %s, p99 %s", milliseconds(l.P50), milliseconds(l.P99))
	}
	return text
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.2f ms", d.Seconds()*1000) }

// lines is progress in lines.
type lines struct {
	mu     sync.Mutex
	w      io.Writer
	said   time.Time
	latest trial.Live
	fresh  bool // latest hasn't been said
}

func (l *lines) Say(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.w, format+"\n", args...)
}

func (l *lines) Phase(name string, length time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fresh {
		fmt.Fprintln(l.w, " ", figures(l.latest))
		l.fresh = false
	}
	if length > 0 {
		name += fmt.Sprintf(", %v", length.Round(100*time.Millisecond))
	}
	fmt.Fprintln(l.w, name)
	l.said = time.Now()
}

func (l *lines) Live(live trial.Live) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.latest, l.fresh = live, true
	if time.Since(l.said) < lineEvery {
		return
	}
	fmt.Fprintln(l.w, " ", figures(live))
	l.said, l.fresh = time.Now(), false
}

func (l *lines) Close() {}

// bars is progress on a terminal: a bar for the phase that runs, with the figures beside it.
type bars struct {
	screen *mpb.Progress
	stop   chan struct{}
	ticks  sync.WaitGroup
	once   sync.Once

	mu     sync.Mutex
	bar    *mpb.Bar
	began  time.Time
	length time.Duration
	live   string
}

func newBars(w io.Writer) *bars {
	b := &bars{screen: mpb.New(mpb.WithOutput(w), mpb.WithRefreshRate(redraw), mpb.WithWidth(barWidth)), stop: make(chan struct{})}
	b.ticks.Go(b.tick)
	return b
}

func (b *bars) Say(format string, args ...any) {
	_, _ = fmt.Fprintf(b.screen, format+"\n", args...) // above the bars
}

func (b *bars) Phase(name string, length time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.endPhase()
	b.began, b.length = time.Now(), length
	b.bar = b.screen.New(max(length.Milliseconds(), 1), mpb.BarStyle().Rbound("]"),
		mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name(name+" ")),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return b.beside() })))
}

// beside is what stands beside the bar.
func (b *bars) beside() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	left := max(b.length-time.Since(b.began), 0).Round(time.Second)
	text := fmt.Sprintf("%v left", left)
	if b.live != "" {
		text += "  " + b.live
	}
	return text
}

// endPhase takes the bar away; the lock is held.
func (b *bars) endPhase() {
	if b.bar != nil {
		b.bar.Abort(true)
		b.bar = nil
	}
}

func (b *bars) Live(live trial.Live) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.live = figures(live)
}

// tick moves the bar on with time.
func (b *bars) tick() {
	ticker := time.NewTicker(redraw)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-b.stop:
			return
		}
		b.mu.Lock()
		bar, at := b.bar, min(time.Since(b.began), b.length).Milliseconds()
		b.mu.Unlock()
		if bar != nil {
			bar.SetCurrent(max(at-1, 0)) // short of complete: the phase's end is told, not guessed
		}
	}
}

func (b *bars) Close() {
	b.once.Do(func() {
		close(b.stop)
		b.ticks.Wait()
		b.mu.Lock()
		b.endPhase()
		b.mu.Unlock()
		b.screen.Wait()
	})
}
