package clients_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
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

// program is a client that runs.
type program struct {
	name   string
	cmd    *exec.Cmd
	stdout text
	stderr text
	done   chan struct{} // closed once err tells how it ended
	err    error
}

// option changes a command before it starts.
type option func(*exec.Cmd)

func withInput(r io.Reader) option  { return func(c *exec.Cmd) { c.Stdin = r } }
func withOutput(w io.Writer) option { return func(c *exec.Cmd) { c.Stdout = w } }
func inFolder(folder string) option { return func(c *exec.Cmd) { c.Dir = folder } }
func (p *program) String() string   { return p.name }
func words(line string) []string    { return strings.Fields(line) }
func args(parts ...[]string) (all []string) {
	for _, part := range parts {
		all = append(all, part...)
	}
	return all
}

// run starts a program, which lives no longer than the test.
func run(ctx context.Context, t *testing.T, name string, arguments []string, options ...option) *program {
	t.Helper()
	p := &program{name: name, done: make(chan struct{})}
	ctx, cancel := context.WithCancel(ctx)
	p.cmd = exec.CommandContext(ctx, need(t, name), arguments...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	p.cmd.WaitDelay = time.Second
	for _, o := range options {
		o(p.cmd)
	}
	t.Cleanup(func() {
		cancel()
		if p.cmd.Process != nil {
			<-p.done
		}
		if t.Failed() {
			t.Logf("%s\nended with: %v\n%s", p.cmd, p.err, &p.stderr)
		}
	})
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	go func() {
		defer close(p.done)
		p.err = p.cmd.Wait()
	}()
	return p
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
