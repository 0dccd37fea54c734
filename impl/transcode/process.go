package transcode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"tureen/impl/media"
	"tureen/impl/transcode/pipe"
	"tureen/impl/webm"
)

// CrashError is a transcoder that ended, or had to be, without a word.
type CrashError struct{ Reason string }

func (e *CrashError) Error() string { return "the transcoder " + e.Reason }

// Process is one transcoder. Write, End and Pause belong to one goroutine,
// Tracks and Frame to another; the rest may be called by any.
type Process struct {
	cmd      *exec.Cmd
	feed     *os.File
	frames   *os.File
	said     *diary
	log      *slog.Logger
	patience patience
	forget   func()
	spare    bool

	sending  sync.Mutex // one message at a time
	writer   *pipe.Writer
	reader   *pipe.Reader
	asked    atomic.Bool    // Pause was
	paused   chan pipe.Held // the answer
	ended    chan struct{}  // closed when the process is gone
	watchdog watchdog
	kinds    [media.Kinds]bool // announced; belongs to who reads

	mu      sync.Mutex // guards what follows
	session string
	seat    *seat // nil for a spare
	gone    bool  // the process is
	closed  bool  // by the proxy: how it ends is no news
	crash   *CrashError
}

func newProcess(cmd *exec.Cmd, feed, frames *os.File, log *slog.Logger, p patience) *Process {
	return &Process{
		cmd: cmd, feed: feed, frames: frames, said: &diary{log: log}, log: log, patience: p,
		writer: pipe.NewWriter(feed), reader: pipe.NewReader(frames), watchdog: watchdog{patience: p},
		paused: make(chan pipe.Held, 1), ended: make(chan struct{}),
	}
}

// live watches the process until it is gone.
func (t *Process) live() {
	defer close(t.ended)
	defer t.leave()
	defer t.forget()
	gone := make(chan struct{})
	var err error
	go func() {
		err = t.cmd.Wait()
		close(gone)
	}()
	ticker := time.NewTicker(t.patience.check)
	defer ticker.Stop()
	for {
		select {
		case <-gone:
			t.said.flush()
			if reason := reasonOf(err); t.crashed(reason) && reason != endedEarly {
				t.report()
			}
			t.feed.Close()
			return
		case now := <-ticker.C:
			t.check(now)
			if s := t.seated(); s != nil {
				s.measure(t.cmd.Process.Pid, now)
			}
		}
	}
}

// sit takes a seat for as long as the process lives.
func (t *Process) sit(s *seat) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.seat = s; t.gone {
		s.leave()
	}
}

// seated is the transcoder's seat; nil while it has none.
func (t *Process) seated() *seat {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seat
}

// leave gives up the seat of a process that is gone.
func (t *Process) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gone = true; t.seat != nil {
		t.seat.leave()
	}
}

// endedEarly is the reason of one that ended with exit code 0, which is wrong
// only if it hasn't said that it is done.
const endedEarly = "ended early"

// reasonOf tells how a process ended.
func reasonOf(err error) string {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return endedEarly
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return fmt.Sprintf("was ended by signal %d (%v)", int(status.Signal()), status.Signal())
	}
	return fmt.Sprintf("ended with exit code %d", exit.ExitCode())
}

// crashed notes why the process is gone, or must go, and reports whether that is
// news. The first reason is the true one.
func (t *Process) crashed(reason string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.crash != nil {
		return false
	}
	t.crash = &CrashError{reason}
	return !t.closed && t.session != "" // a spare is the pool's matter
}

// report has the log tell of a crash.
func (t *Process) report() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.log.Warn("transcoder crashed", "session", t.session, "pid", t.cmd.Process.Pid, "reason", t.crash.Reason)
}

// fell is crashed for one that still runs: it is ended for it.
func (t *Process) fell(reason string) {
	if t.crashed(reason) {
		t.report()
	}
	t.kill()
}

// check ends a process that makes no progress.
func (t *Process) check(now time.Time) {
	if limit, hangs := t.watchdog.hangs(now); hangs {
		t.fell(fmt.Sprintf("made nothing of what it took for %v, and was ended", limit))
	}
}

func (t *Process) kill() { t.cmd.Process.Kill() } // fails when it is gone already

// discard ends a process that is of no use any more.
func (t *Process) discard() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.kill()
}

// begin waits until the transcoder is ready and gives it its job.
func (t *Process) begin(ctx context.Context, job pipe.Job) error {
	t.said.about(job.Session)
	t.mu.Lock()
	t.session = job.Session
	t.mu.Unlock()
	defer context.AfterFunc(ctx, t.discard)()
	t.frames.SetReadDeadline(time.Now().Add(t.patience.ready)) // pipes can
	kind, _, err := t.reader.Read()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		t.fell(fmt.Sprintf("wasn't ready after %v, and was ended", t.patience.ready))
		err = t.why(err)
	case errors.Is(err, pipe.ErrProtocol):
		err = t.nonsense(err)
	case err == nil && kind != pipe.Ready:
		err = t.nonsense(fmt.Errorf("%w: %q where it should be ready", pipe.ErrProtocol, kind))
	case err != nil:
		err = t.why(err)
	}
	t.frames.SetReadDeadline(time.Time{})
	if err == nil {
		t.sending.Lock()
		defer t.sending.Unlock()
		if t.writer.WriteJSON(pipe.Start, job) != nil {
			err = t.why(io.EOF)
		}
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return fmt.Errorf("start a transcoder: %w", err)
	}
	return nil
}

// Write feeds bytes of the body, and waits while the transcoder has enough. An
// error says only that it takes no more; Frame says why.
func (t *Process) Write(b []byte) (int, error) {
	t.watchdog.feed(len(b), time.Now())
	defer func() { t.watchdog.taken(time.Now()) }()
	if err := t.send(pipe.Data, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (t *Process) send(kind pipe.Type, content []byte) error {
	t.sending.Lock()
	defer t.sending.Unlock()
	if err := t.writer.Write(kind, content); err != nil {
		return fmt.Errorf("feed a transcoder: %w", err)
	}
	return nil
}

// End says that the body has come to its end: what has been fed still comes out.
func (t *Process) End() error {
	t.watchdog.end(time.Now())
	return t.send(pipe.End, nil)
}

// Pause waits until all that was fed has been taken apart, and tells how much
// it held.
func (t *Process) Pause() pipe.Held {
	t.watchdog.feed(0, time.Now()) // until it answers
	defer func() { t.watchdog.taken(time.Now()) }()
	t.asked.Store(true)
	if t.send(pipe.Pause, nil) != nil {
		return pipe.HeldMuch
	}
	select {
	case held := <-t.paused:
		return held
	case <-t.ended:
		return pipe.HeldMuch
	}
}

// KeyFrame asks for a key frame. It never waits for the transcoder.
func (t *Process) KeyFrame() {
	if t.sending.TryLock() { // otherwise it is busy, and its next key frame near
		go func() {
			defer t.sending.Unlock()
			t.writer.Write(pipe.KeyNow, nil) // fails with the transcoder
		}()
	}
}

// Tracks waits for the tracks that the transcoder will give out, video first.
// The errors are those of Frame, and ErrCapacity.
func (t *Process) Tracks() ([]pipe.Track, error) {
	kind, content, err := t.next()
	if err != nil {
		return nil, err
	}
	if kind != pipe.Tracks {
		return nil, t.nonsense(fmt.Errorf("%w: %q before the tracks", pipe.ErrProtocol, kind))
	}
	var a pipe.Announcement
	if err := pipe.Unmarshal(content, &a); err != nil {
		return nil, t.nonsense(err)
	}
	if err := validate(a.Tracks); err != nil {
		return nil, t.nonsense(err)
	}
	t.kinds = kindsOf(a.Tracks)
	if s := t.seated(); s != nil {
		if err := s.fits(a.Tracks); err != nil {
			return nil, err
		}
	}
	t.watchdog.begin()
	return a.Tracks, nil
}

// validate holds an announcement against what viewers' headers need: the
// transcoder has read hostile bytes.
func validate(tracks []pipe.Track) error {
	var seen [media.Kinds]bool
	for _, t := range tracks {
		o := t.Output
		if o.Kind >= media.Kinds || seen[o.Kind] || o.Kind == media.Video && seen[media.Audio] {
			return fmt.Errorf("%w: tracks out of order", pipe.ErrProtocol)
		}
		seen[o.Kind] = true
		if o.Kind == media.Video && (o.Codec != media.VP8 || !inside(o.Picture.Width, maxSide) || !inside(o.Picture.Height, maxSide)) {
			return fmt.Errorf("%w: a video track of %s of %d×%d", pipe.ErrProtocol, o.Codec, o.Picture.Width, o.Picture.Height)
		}
		if o.Kind == media.Audio {
			if _, err := webm.VorbisHeaders(o.Private); err != nil || o.Codec != media.Vorbis ||
				!(o.SampleRate > 0 && o.SampleRate <= maxRate) || !inside(o.Channels, maxChannels) {
				return fmt.Errorf("%w: an audio track of %s without headers", pipe.ErrProtocol, o.Codec)
			}
		}
	}
	if len(tracks) == 0 {
		return fmt.Errorf("%w: no tracks", pipe.ErrProtocol)
	}
	return nil
}

// What VP8 (RFC 6386 §9.1) and Vorbis (Vorbis I §4.2.2) can hold.
const (
	maxSide     = 1<<14 - 1 // pixels
	maxChannels = 255
	maxRate     = 1<<32 - 1 // Hz
)

func inside(n, most int) bool { return n > 0 && n <= most }

func kindsOf(tracks []pipe.Track) (kinds [media.Kinds]bool) {
	for _, t := range tracks {
		kinds[t.Output.Kind] = true
	}
	return kinds
}

// Frame is the next frame. The error is io.EOF after the last one, a
// *pipe.Failure, or a *CrashError.
func (t *Process) Frame() (media.Frame, error) {
	kind, content, err := t.next()
	switch {
	case err != nil:
		return media.Frame{}, err
	case kind == pipe.Done:
		return media.Frame{}, io.EOF
	case kind != pipe.Frame:
		return media.Frame{}, t.nonsense(fmt.Errorf("%w: %q where a frame should be", pipe.ErrProtocol, kind))
	}
	f, err := pipe.UnmarshalFrame(content)
	if err == nil && !t.kinds[f.Kind] {
		err = fmt.Errorf("%w: a frame of a track that wasn't announced", pipe.ErrProtocol)
	}
	if err != nil {
		return media.Frame{}, t.nonsense(err)
	}
	return f, nil
}

// next is the next message that isn't the answer to another.
func (t *Process) next() (pipe.Type, []byte, error) {
	for {
		t.watchdog.wait(time.Now())
		kind, content, err := t.reader.Read()
		t.watchdog.hear()
		switch {
		case errors.Is(err, pipe.ErrProtocol):
			return 0, nil, t.nonsense(err)
		case err != nil:
			return 0, nil, t.why(err)
		case kind == pipe.Paused:
			if err := t.answered(content); err != nil {
				return 0, nil, err
			}
		case kind == pipe.Failed:
			var f pipe.Failure
			if err := pipe.Unmarshal(content, &f); err != nil {
				return 0, nil, t.nonsense(err)
			}
			return 0, nil, &f
		default:
			return kind, content, nil
		}
	}
}

// answered takes the answer to Pause.
func (t *Process) answered(content []byte) error {
	if len(content) != 1 || pipe.Held(content[0]) > pipe.HeldMuch {
		return t.nonsense(fmt.Errorf("%w: the answer to a pause", pipe.ErrProtocol))
	}
	if !t.asked.CompareAndSwap(true, false) {
		return t.nonsense(fmt.Errorf("%w: an answer to a pause that nobody made", pipe.ErrProtocol))
	}
	t.paused <- pipe.Held(content[0]) // has room
	return nil
}

// nonsense ends a transcoder that said something wrong.
func (t *Process) nonsense(err error) error {
	t.fell("spoke nonsense: " + err.Error())
	return err
}

// why is the reason for which nothing can be read any more: it is in how the
// process ended.
func (t *Process) why(err error) error {
	timer := time.NewTimer(t.patience.death)
	defer timer.Stop()
	select {
	case <-t.ended:
	case <-timer.C:
		t.fell("closed its pipe, and was ended")
		<-t.ended
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.crash.Reason == endedEarly && !t.closed {
		t.log.Warn("transcoder crashed", "session", t.session, "pid", t.cmd.Process.Pid, "reason", endedEarly)
	}
	return t.crash
}

// Close ends the transcoder and returns when it is gone.
func (t *Process) Close() {
	t.discard()
	<-t.ended
	t.frames.Close()
}
