package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is an implementation that runs as a process of the suite's.
type Process struct {
	Base *url.URL

	cmd    *exec.Cmd
	output *tail
	exited chan struct{}

	mu      sync.Mutex // guards what follows
	stopped bool       // the suite has told it to end
	err     error      // of its end, once exited is closed
}

// placeholder stands for the address in a command.
const placeholder = "{addr}"

// startTimeout is how long a process may take until it accepts connections.
const startTimeout = 30 * time.Second

// StartProcess runs a command, in which {addr} stands for the address to listen on, and returns once it accepts connections
// there. The command goes through sh, so that it may be quoted as on a command line.
func StartProcess(ctx context.Context, command string) (*Process, error) {
	if !strings.Contains(command, placeholder) {
		return nil, fmt.Errorf("the command %q doesn't say where %s, the address to listen on, belongs", command, placeholder)
	}
	var err error
	for range 3 { // another program may take the port that was free a moment ago
		var p *Process
		if p, err = start(ctx, command); err == nil {
			return p, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

func start(ctx context.Context, command string) (*Process, error) {
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	p := &Process{
		Base: &url.URL{Scheme: "http", Host: addr}, output: &tail{}, exited: make(chan struct{}),
		cmd: exec.Command("/bin/sh", "-c", "exec "+strings.ReplaceAll(command, placeholder, addr)),
	}
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	// A group of its own: Ctrl-C at the suite is not for the target, and its children end with it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the target: %w", err)
	}
	go func() {
		err := p.cmd.Wait()
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		close(p.exited)
	}()
	if err := p.awaitListening(ctx); err != nil {
		p.Stop(time.Second)
		return nil, fmt.Errorf("%w%s", err, p.said())
	}
	return p, nil
}

// freeAddress is an address of the loopback on which nobody listens.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("finding a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// awaitListening tries to connect until it works, the process ends, or it has taken too long.
func (p *Process) awaitListening(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		conn, err := net.DialTimeout("tcp", p.Base.Host, time.Second)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-again.C:
		case <-p.exited:
			return fmt.Errorf("the target ended before it listened on %s: %v", p.Base.Host, p.Err())
		case <-ctx.Done():
			return fmt.Errorf("the target doesn't listen on %s: %w", p.Base.Host, ctx.Err())
		}
	}
}

// said is the end of the process's output, for an error's text.
func (p *Process) said() string {
	if text := strings.TrimSpace(p.output.String()); text != "" {
		return "; it said:\n" + text
	}
	return ""
}

// Log is the end of the process's output.
func (p *Process) Log() string { return p.output.String() }

// PID is the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Err is how the process ended: nil for exit code 0.
func (p *Process) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Crashed is how the process ended without having been told to; nil while it runs.
func (p *Process) Crashed() error {
	select {
	case <-p.exited:
	default:
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.stopped:
		return nil
	case p.err == nil:
		return errors.New("exit code 0")
	}
	return p.err
}

// Terminate sends SIGTERM.
func (p *Process) Terminate() error {
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("telling the target to end: %w", err)
	}
	return nil
}

// Stop ends the process: by SIGTERM, and after the patience with all its children by SIGKILL.
func (p *Process) Stop(patience time.Duration) {
	select {
	case <-p.exited:
	default:
		if p.Terminate() == nil {
			timer := time.NewTimer(patience)
			defer timer.Stop()
			select {
			case <-p.exited:
			case <-timer.C:
			}
		}
	}
	syscall.Kill(-p.PID(), syscall.SIGKILL) // of a group that may be gone already
	<-p.exited
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailBytes = 64 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if extra := len(t.text) - tailBytes; extra > 0 {
		t.text = append([]byte(nil), t.text[extra:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.Clone(t.text))
}
