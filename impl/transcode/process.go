package transcode

import (
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

const (
	// startTime is how long a transcoder may take until it is ready, with
	// GStreamer's registry yet to be made.
	startTime = 30 * time.Second
	// silence is how long a transcoder may give nothing out while it takes the
	// body in, or is to come to its end.
	silence = 10 * time.Second
	// firstSilence is likewise until it has made something of the body, beyond
	// what it takes itself to give up.
	firstSilence = 15 * time.Second
)

// CrashError is a transcoder that ended, or had to be, without a word.
type CrashError struct{ Reason string }

func (e *CrashError) Error() string { return "the transcoder " + e.Reason }

// Process is one transcoder. Write, End and Pause belong to one goroutine,
// Tracks and Frame to another; the rest may be called by any.
type Process struct {
	cmd    *exec.Cmd
	feed   *os.File
	frames *os.File
	said   *diary
	forget func()
	spare  bool
	seat   atomic.Pointer[seat]

	sending sync.Mutex // one message at a time
	writer  *pipe.Writer
	reader  *pipe.Reader
	paused  chan bool     // the answers to Pause
	read    chan struct{} // closed when nothing more is read
	once    sync.Once     // closes it
	ended   chan struct{} // closed when the process is gone

	mu      sync.Mutex // guards what follows
	heard   time.Time  // when the last message came, or the first bytes after it went in
	waiting bool       // for a message
	taken   bool       // bytes went in since the last one
	fed     time.Time  // when bytes last went in
	feeding bool       // they wait to be taken
	over    bool       // nothing follows
	began   bool       // tracks are known
	crash   *CrashError
}

func newProcess(cmd *exec.Cmd, feed, frames *os.File, log *slog.Logger) *Process {
	return &Process{
		cmd: cmd, feed: feed, frames: frames, said: &diary{log: log},
		writer: pipe.NewWriter(feed), reader: pipe.NewReader(frames),
		paused: make(chan bool, 1), read: make(chan struct{}), ended: make(chan struct{}),
	}
}

// live watches the process until it is gone.
func (t *Process) live() {
	defer close(t.ended)
	defer t.forget()
	gone := make(chan struct{})
	var err error
	go func() {
		err = t.cmd.Wait()
		close(gone)
	}()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-gone:
			t.crashed(reasonOf(err))
			t.feed.Close()
			return
		case now := <-ticker.C:
			t.check(now)
			if s := t.seat.Load(); s != nil {
				s.measure(t.cmd.Process.Pid, now)
			}
		}
	}
}

// reasonOf tells how a process ended.
func reasonOf(err error) string {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return "ended early"
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return fmt.Sprintf("was ended by signal %d (%v)", int(status.Signal()), status.Signal())
	}
	return fmt.Sprintf("ended with exit code %d", exit.ExitCode())
}

// crashed notes why the process is gone; the first reason is the true one.
func (t *Process) crashed(reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.crash == nil {
		t.crash = &CrashError{reason}
	}
}

// check ends a process that makes no progress.
func (t *Process) check(now time.Time) {
	t.mu.Lock()
	limit := silence
	if !t.began {
		limit = firstSilence
	}
	goesOn := t.feeding || t.over || now.Sub(t.fed) < limit/2
	hangs := t.waiting && t.taken && goesOn && now.Sub(t.heard) > limit
	t.mu.Unlock()
	if hangs {
		t.crashed(fmt.Sprintf("made nothing of what it took for %v, and was ended", limit))
		t.kill()
	}
}

func (t *Process) kill() { t.cmd.Process.Kill() } // fails when it is gone already

// begin waits until the transcoder is ready and gives it its job.
func (t *Process) begin(job pipe.Job) error {
	t.said.about(job.Session)
	t.frames.SetReadDeadline(time.Now().Add(startTime)) // pipes can
	kind, _, err := t.reader.Read()
	if err == nil && kind != pipe.Ready {
		err = fmt.Errorf("%w: %q where it should be ready", pipe.ErrProtocol, kind)
	}
	if err != nil {
		return fmt.Errorf("start a transcoder: %w", err)
	}
	t.frames.SetReadDeadline(time.Time{})
	t.sending.Lock()
	defer t.sending.Unlock()
	if err := t.writer.WriteJSON(pipe.Start, job); err != nil {
		return fmt.Errorf("start a transcoder: %w", err)
	}
	return nil
}

// Write feeds bytes of the body, and waits while the transcoder has enough. An
// error says only that it takes no more; Frame says why.
func (t *Process) Write(b []byte) (int, error) {
	t.feeds(true)
	defer t.feeds(false)
	if err := t.send(pipe.Data, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// feeds notes that bytes are about to go in, or have.
func (t *Process) feeds(now bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.feeding, t.fed = now, time.Now()
	if !t.taken {
		t.taken, t.heard = true, t.fed
	}
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
	t.feeds(false)
	t.mu.Lock()
	t.over = true
	t.mu.Unlock()
	return t.send(pipe.End, nil)
}

// Pause waits until all that was fed has been taken in, and reports whether it
// held more than headers.
func (t *Process) Pause() (holds bool) {
	if t.send(pipe.Pause, nil) != nil {
		return true
	}
	select {
	case holds = <-t.paused:
		return holds
	case <-t.read:
		return true
	case <-t.ended: // it had come to its own end before
		return true
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
		return nil, fmt.Errorf("%w: %q before the tracks", pipe.ErrProtocol, kind)
	}
	var a pipe.Announcement
	if err := pipe.Unmarshal(content, &a); err != nil {
		return nil, err
	}
	if err := validate(a.Tracks); err != nil {
		return nil, err
	}
	if s := t.seat.Load(); s != nil {
		if err := s.fits(a.Tracks); err != nil {
			return nil, err
		}
	}
	t.mu.Lock()
	t.began = true
	t.mu.Unlock()
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
		if o.Kind == media.Video && (o.Codec != media.VP8 || o.Picture.Width <= 0 || o.Picture.Height <= 0) {
			return fmt.Errorf("%w: a video track of %s without size", pipe.ErrProtocol, o.Codec)
		}
		if o.Kind == media.Audio {
			if _, err := webm.VorbisHeaders(o.Private); err != nil || o.Codec != media.Vorbis || !(o.SampleRate > 0) || o.Channels <= 0 {
				return fmt.Errorf("%w: an audio track of %s without headers", pipe.ErrProtocol, o.Codec)
			}
		}
	}
	if len(tracks) == 0 {
		return fmt.Errorf("%w: no tracks", pipe.ErrProtocol)
	}
	return nil
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
		return media.Frame{}, fmt.Errorf("%w: %q where a frame should be", pipe.ErrProtocol, kind)
	}
	return pipe.UnmarshalFrame(content)
}

// next is the next message that isn't the answer to another.
func (t *Process) next() (pipe.Type, []byte, error) {
	for {
		t.listen(true)
		kind, content, err := t.reader.Read()
		t.listen(false)
		switch {
		case err != nil:
			t.once.Do(func() { close(t.read) })
			return 0, nil, t.why(err)
		case kind == pipe.Paused:
			select {
			case t.paused <- len(content) > 0 && content[0] != 0:
			default: // nobody asked so often
			}
		case kind == pipe.Failed:
			var f pipe.Failure
			if err := pipe.Unmarshal(content, &f); err != nil {
				return 0, nil, err
			}
			return 0, nil, &f
		default:
			return kind, content, nil
		}
	}
}

// listen notes that a message is waited for, or has come.
func (t *Process) listen(waiting bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting, t.heard = waiting, time.Now()
	if !waiting {
		t.taken = false
	}
}

// why is the reason for which nothing can be read any more.
func (t *Process) why(err error) error {
	if errors.Is(err, pipe.ErrProtocol) {
		return err
	}
	t.kill() // it closed its end, or died: the reason is in how it ended
	<-t.ended
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.crash
}

// Close ends the transcoder and returns when it is gone.
func (t *Process) Close() {
	t.kill()
	<-t.ended
	t.frames.Close()
}
