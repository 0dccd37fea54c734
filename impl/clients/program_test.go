package clients_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// testTime bounds every test: what takes longer hangs.
const testTime = 60 * time.Second

// begin makes a test parallel to the others and bounds its time.
func begin(t *testing.T) context.Context {
	t.Helper()
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), testTime)
	t.Cleanup(cancel)
	return ctx
}

var sessions atomic.Int64

// newSession is a session id that no other test has, nor this one in its next
// run. When the test fails, what the proxy wrote about it is shown.
func newSession(t *testing.T, p *proxy) string {
	t.Helper()
	name := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
			return c
		}
		return '-'
	}, t.Name())
	id := fmt.Sprintf("%s.%d", name, sessions.Add(1))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the proxy on %s:\n%s", id, p.logOf(id))
		}
	})
	return id
}

// need returns where a program is, the first of names that exists.
func need(t *testing.T, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	missing(t, strings.Join(names, " or "))
	return ""
}

func missing(t *testing.T, what string) {
	t.Helper()
	report := t.Skipf
	if os.Getenv("CI") != "" {
		report = t.Fatalf
	}
	report("%s is missing on this machine: ci/setup installs it", what)
}

// process is a program that runs, or ran.
type process struct {
	cmd    *exec.Cmd
	stdout text
	stderr text
	done   chan struct{} // closed once err tells how it ended
	err    error
}

// start starts a program. It is killed with the tests should they be killed:
// the kernel does that when the thread ends that started it (prctl(2),
// PR_SET_PDEATHSIG), so a goroutine keeps that thread for it.
func start(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if cmd.Stdout == nil {
		cmd.Stdout = &p.stdout
	}
	cmd.Stderr = &p.stderr
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

// printed waits until a program has written a text to one of its outputs, and
// returns all that it has written there.
func (p *process) printed(ctx context.Context, output *text, wanted string) (string, error) {
	for {
		written, more := output.state()
		if strings.Contains(written, wanted) {
			return written, nil
		}
		select {
		case <-more:
		case <-p.done:
			return written, fmt.Errorf("%s ended, error: %w, and hasn't written %q", p.cmd.Path, p.err, wanted)
		case <-ctx.Done():
			return written, fmt.Errorf("%s doesn't write %q: %w", p.cmd.Path, wanted, ctx.Err())
		}
	}
}

// text is a buffer that may be read while a process writes to it.
type text struct {
	mu   sync.Mutex
	b    strings.Builder
	more chan struct{} // closed at the next write; nil while nobody asked
}

func (t *text) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.more != nil {
		close(t.more)
		t.more = nil
	}
	return t.b.Write(p)
}

// state is what was written, and a channel that is closed at the next write.
func (t *text) state() (written string, more <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.more == nil {
		t.more = make(chan struct{})
	}
	return t.b.String(), t.more
}

func (t *text) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

// program is a client that runs.
type program struct {
	*process
	name string
}

// option changes a command before it starts.
type option func(*exec.Cmd)

func withInput(r io.Reader) option  { return func(c *exec.Cmd) { c.Stdin = r } }
func withOutput(w io.Writer) option { return func(c *exec.Cmd) { c.Stdout = w } }
func inFolder(folder string) option { return func(c *exec.Cmd) { c.Dir = folder } }

// words are a command line's, of which none holds a space.
func words(line string) []string { return strings.Fields(line) }

// args are the words of a command line's parts.
func args(parts ...[]string) []string { return slices.Concat(parts...) }

// run starts a program, which lives no longer than the test. What it wrote to
// stderr is shown when the test fails.
func run(ctx context.Context, t *testing.T, name string, arguments []string, options ...option) *program {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, need(t, name), arguments...)
	cmd.WaitDelay = time.Second
	for _, o := range options {
		o(cmd)
	}
	p, err := start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		<-p.done
		if t.Failed() {
			t.Logf("%s\nended with: %v\n%s", cmd, p.err, &p.stderr)
		}
	})
	return &program{p, name}
}

// kill ends a program as nothing but SIGKILL does: it can't do anything about it.
func (p *program) kill(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGKILL)
}

// interrupt ends a program as people do.
func (p *program) interrupt(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGINT)
}

func (p *program) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatalf("sending %v to %s: %v", s, p.name, err)
	}
	<-p.done
}

// succeeds waits until the program has ended, with exit code 0.
func (p *program) succeeds(t *testing.T) {
	t.Helper()
	<-p.done
	if p.err != nil {
		t.Fatalf("%s failed: %v", p.name, p.err)
	}
}

// quiet expects that the program has complained of nothing.
func (p *program) quiet(t *testing.T) {
	t.Helper()
	if complaint := p.stderr.String(); complaint != "" {
		t.Errorf("%s complains: %s", p.name, complaint)
	}
}

// pipe is a pipe between two programs; each end is closed here once its program
// has it.
func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatalf("making a pipe: %v", err)
	}
	t.Cleanup(func() {
		if err := errors.Join(ignoreClosed(r.Close()), ignoreClosed(w.Close())); err != nil {
			t.Errorf("closing a pipe: %v", err)
		}
	})
	return r, w
}

func ignoreClosed(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}
