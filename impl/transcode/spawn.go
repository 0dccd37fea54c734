package transcode

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// spawner starts processes, all from one thread: the kernel ends each of them
// when the thread ends that started it (prctl(2), PR_SET_PDEATHSIG), which
// Go's ordinary threads may do at any time. So they go when the proxy does,
// however it ends.
type spawner struct {
	requests chan request

	mu      sync.Mutex // guards what follows
	running map[*Process]struct{}
}

type request struct {
	cmd  *exec.Cmd
	done chan error
}

func newSpawner() *spawner {
	s := &spawner{requests: make(chan request), running: map[*Process]struct{}{}}
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		for r := range s.requests {
			r.done <- r.cmd.Start()
		}
	}()
	return s
}

// close ends the spawner's thread, and with it what it has started.
func (s *spawner) close() { close(s.requests) }

// start starts a command.
func (s *spawner) start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr.Setpgid = true // the terminal's Ctrl-C is for the proxy, which ends its streams properly
	r := request{cmd, make(chan error)}
	s.requests <- r
	return <-r.done
}

// spawn starts a transcoder.
func (s *spawner) spawn(c Config) (*Process, error) {
	in, feed, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start a transcoder: %w", err)
	}
	defer in.Close()
	frames, out, err := os.Pipe()
	if err != nil {
		feed.Close()
		return nil, fmt.Errorf("start a transcoder: %w", err)
	}
	defer out.Close()
	cmd := exec.Command(c.Command[0], c.Command[1:]...)
	cmd.WaitDelay = c.patience.death / 2 // for what it may have started, and which holds its outputs
	t := newProcess(cmd, feed, frames, c.Log, c.patience)
	cmd.Stdout, cmd.Stderr = t.said, t.said
	cmd.ExtraFiles = []*os.File{in, out} // 3 and 4
	if err := s.start(cmd); err != nil {
		feed.Close()
		frames.Close()
		return nil, fmt.Errorf("start a transcoder: %w", err)
	}
	s.mu.Lock()
	s.running[t] = struct{}{}
	s.mu.Unlock()
	t.forget = func() {
		s.mu.Lock()
		delete(s.running, t)
		s.mu.Unlock()
	}
	return t, nil
}

// killAll ends all processes.
func (s *spawner) killAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for t := range s.running {
		t.discard()
	}
}
