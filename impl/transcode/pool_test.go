package transcode

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tureen/impl/transcode/pipe"
)

// spared are the pool's spares.
func (p *Pool) spared() []*Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*Process(nil), p.spares...)
}

func spares(n int) func(*Config) { return func(c *Config) { c.Spares = n } }

// TestNone: a pool without a command, and no pool at all, can't transcode.
func TestNone(t *testing.T) {
	p := NewPool(Config{})
	defer p.Close()
	for _, p := range []*Pool{nil, p} {
		if _, err := p.Start(t.Context(), pipe.Job{}); p.Available() || !errors.Is(err, ErrNone) {
			t.Errorf("available %t, a start ends with %v", p.Available(), err)
		}
	}
}

// TestCommandThatIsnt: a program that can't be run is told of.
func TestCommandThatIsnt(t *testing.T) {
	p, j := pool(t, "", func(c *Config) { c.Command, c.Spares = []string{"/nowhere/at/all"}, 1 })
	if _, err := p.Start(t.Context(), pipe.Job{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a start ends with %v", err)
	}
	if said := j.String(); !strings.Contains(said, "/nowhere/at/all") {
		t.Errorf("the log says %q", said)
	}
}

// TestSpares: streams that begin at once get transcoders that are there
// already, and others take their place at once.
func TestSpares(t *testing.T) {
	p, j := pool(t, "echoes", spares(2))
	was := p.spared()
	if len(was) != 2 {
		t.Fatalf("%d spares", len(was))
	}
	var got [2]*Process
	var starts sync.WaitGroup
	for i := range got {
		starts.Go(func() {
			process, err := p.Start(t.Context(), pipe.Job{Session: "id7"})
			if err != nil {
				t.Error(err)
			}
			got[i] = process
		})
	}
	starts.Wait()
	if !(got[0] == was[0] && got[1] == was[1] || got[0] == was[1] && got[1] == was[0]) {
		t.Error("the streams didn't get the spares")
	}
	if n := len(p.spared()); n != 2 {
		t.Errorf("%d spares are there after the starts", n)
	}
	for _, process := range got {
		go func() {
			process.Write([]byte("some"))
			process.End()
		}()
		if _, err := process.Tracks(); err != nil {
			t.Error(err)
		}
		if _, err := process.Frame(); err != io.EOF {
			t.Error(err)
		}
		process.Close()
	}
	if n := len(children(t, os.Getpid())); n != 2 {
		t.Errorf("%d processes run, want the spares alone", n)
	}
	if said := j.String(); said != "" {
		t.Errorf("the log says %s", said)
	}
}

// TestNoSpares: each stream starts a transcoder of its own.
func TestNoSpares(t *testing.T) {
	p, _ := pool(t, "echoes", spares(0))
	if n := len(children(t, os.Getpid())); n != 0 {
		t.Errorf("%d processes run", n)
	}
	if frames, err := outcome(t, p, true); frames != 1 || err != io.EOF {
		t.Errorf("%d frames, %v", frames, err)
	}
}

// TestDeadSpare: a spare that ends is replaced, told of, and no stream sees it.
func TestDeadSpare(t *testing.T) {
	p, j := pool(t, "echoes", spares(1))
	dead := p.spared()[0]
	dead.cmd.Process.Kill()
	eventually(t, "another spare", func() bool { now := p.spared(); return len(now) == 1 && now[0] != dead })
	if said := j.String(); !strings.Contains(said, `a spare transcoder has ended" reason="was ended by signal 9 (killed)"`) {
		t.Errorf("the log says %s", said)
	}
	// In the moment after its death it may be taken.
	spare := p.spared()[0]
	spare.cmd.Process.Kill()
	<-spare.ended
	if frames, err := outcome(t, p, true); frames != 1 || err != io.EOF {
		t.Errorf("%d frames, %v", frames, err)
	}
}

// TestSparesThatAllEnd are not started as fast as they can be.
func TestSparesThatAllEnd(t *testing.T) {
	p, j := pool(t, "exits-at-once 3", spares(1), func(c *Config) { c.patience.respawn, c.patience.maxRespawn = time.Millisecond, time.Hour })
	eventually(t, "the eighth start", func() bool { return strings.Count(j.String(), "a spare transcoder has ended") == 8 })
	if said := j.String(); !strings.Contains(said, "next=1ms") || !strings.Contains(said, "next=128ms") {
		t.Errorf("the log says %s", said)
	}
	if _, err := p.Start(t.Context(), pipe.Job{Session: "id7"}); err == nil || !strings.Contains(err.Error(), "exit code 3") {
		t.Errorf("a start ends with %v", err)
	}
}

// TestStartGivenUp: a start that nobody waits for any more ends at once.
func TestStartGivenUp(t *testing.T) {
	for _, n := range []int{0, 1} {
		p, j := pool(t, "never", spares(n))
		cause := errors.New("the cause")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(50*time.Millisecond, func() { cancel(cause) })
		if _, err := p.Start(ctx, pipe.Job{Session: "id7"}); !errors.Is(err, cause) {
			t.Errorf("the start ends with %v", err)
		}
		if said := j.String(); said != "" {
			t.Errorf("the log says %s", said)
		}
	}
}

// TestCloseAtAnyTime: a pool's end ends starts that wait and streams that run,
// and refuses others.
func TestCloseAtAnyTime(t *testing.T) {
	for _, behaviour := range []string{"never", "ignores", "echoes", "floods", "exits-at-once 1"} {
		t.Run(behaviour, func(t *testing.T) {
			c := Config{Command: fake(behaviour), Max: 9, Spares: 2, Log: quietLog(), patience: hasty}
			p := NewPool(c)
			var streams sync.WaitGroup
			for range 4 {
				streams.Go(func() {
					process, err := p.Start(t.Context(), pipe.Job{Session: "id7"})
					if err != nil {
						return
					}
					defer process.Close()
					go process.Write([]byte("some"))
					for _, err = process.Tracks(); err == nil; {
						_, err = process.Frame()
					}
				})
			}
			p.Close()
			if left := children(t, os.Getpid()); len(left) > 0 {
				t.Errorf("the processes %v are left", left)
			}
			streams.Wait()
			if _, err := p.Start(t.Context(), pipe.Job{}); !errors.Is(err, errClosed) {
				t.Errorf("a start ends with %v", err)
			}
		})
	}
}

// TestKilledProxy: no transcoder outlives a proxy that is killed, not even one
// that ignores everything.
func TestKilledProxy(t *testing.T) {
	for behaviour, want := range map[string]int{"ignores": 2, "echoes": 3, "deaf": 3} {
		t.Run(behaviour, func(t *testing.T) {
			proxy := exec.CommandContext(t.Context(), os.Args[0], asProxy, behaviour)
			out, err := proxy.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := proxy.Start(); err != nil {
				t.Fatal(err)
			}
			if said, err := bufio.NewReader(out).ReadString('\n'); said != "held\n" || err != nil {
				t.Fatalf("the proxy says %q, %v", said, err)
			}
			var pids []int
			eventually(t, "all transcoders run", func() bool {
				pids = children(t, proxy.Process.Pid)
				return len(pids) == want
			})
			proxy.Process.Kill()
			proxy.Wait() // it was killed
			eventually(t, "all transcoders have gone", func() bool {
				for _, pid := range pids {
					if syscall.Kill(pid, 0) == nil && !zombie(t, pid) {
						return false
					}
				}
				return true
			})
		})
	}
}

// TestLeftAlone: a transcoder ends by itself when its pipe closes, should it
// outlive the proxy in any other way.
func TestLeftAlone(t *testing.T) {
	p, _ := pool(t, "echoes")
	process, err := p.Start(t.Context(), pipe.Job{Session: "id7"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := process.Write([]byte("some")); err != nil {
		t.Fatal(err)
	}
	process.feed.Close()
	select {
	case <-process.ended:
	case <-time.After(10 * time.Second):
		t.Error("it runs on")
	}
	process.Close()
}
