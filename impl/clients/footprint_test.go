package clients_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// transcoders are the processes that a proxy has started and that haven't ended,
// or whose end it hasn't taken note of.
func (p *proxy) transcoders(t *testing.T) (pids []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has just ended
		}
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if fields[1] == strconv.Itoa(p.cmd.Process.Pid) {
			pid, err := strconv.Atoi(strings.Split(path, "/")[2])
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// startAlone starts a proxy that the test ends itself.
func startAlone(t *testing.T, flags ...string) *proxy {
	t.Helper()
	p, err := startProxy("http", flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.kill(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// footprint is what a proxy holds of the system.
type footprint struct {
	transcoders, descriptors int
	memory                   int // resident, in KiB
}

func (p *proxy) footprint(t *testing.T) (f footprint) {
	t.Helper()
	f.transcoders = len(p.transcoders(t))
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	f.descriptors = len(files)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(string(regexp.MustCompile(`VmRSS:\s+(\d+)`).FindSubmatch(status)[1]), &f.memory); err != nil {
		t.Fatal(err)
	}
	return f
}

// quiet waits until a proxy with one spare has nothing else to do, and returns
// what it holds then.
func (p *proxy) quiet(t *testing.T, files int) footprint {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		f, said := p.footprint(t), p.stderr.String()
		over := strings.Count(said, "publisher accepted") == strings.Count(said, "publisher done")+strings.Count(said, "publisher ended")
		if over && f.transcoders == 1 && (files == 0 || f.descriptors <= files) {
			return f
		}
		if time.Now().After(deadline) {
			t.Errorf("the proxy still holds %+v; want one transcoder, and %d descriptors", f, files)
			return f
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// dump ends a proxy by SIGQUIT, and is the stacks of its goroutines.
func (p *proxy) dump(t *testing.T) []string {
	t.Helper()
	for _, fault := range []string{"DATA RACE", "panic", "level=ERROR"} {
		if said := p.stderr.String(); strings.Contains(said, fault) {
			t.Errorf("the proxy's log tells of a %s\n%s", fault, said)
		}
	}
	if err := p.cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	<-p.done
	_, stacks, _ := strings.Cut(p.stderr.String(), "SIGQUIT: quit")
	return strings.Split(stacks, "\n\n")
}

// checkGoroutines expects that a proxy which has nothing to do has no goroutine
// left of what it did. It ends with that.
func (p *proxy) checkGoroutines(t *testing.T) {
	t.Helper()
	spare := 0
	stacks := p.dump(t)
	for _, stack := range stacks {
		if strings.Contains(stack, "transcode.(*Process).live(") {
			spare++
		}
		for _, of := range []string{"tureen/impl/ingest.", "tureen/impl/live.", "server.(*Server).publish", "transcode.(*Pool).Start"} {
			if strings.Contains(stack, of) {
				t.Errorf("a goroutine is left:\n%s", stack)
			}
		}
	}
	const idle = 60 // the runtime's, the listener's, the spare's
	if spare != 1 || len(stacks) > idle {
		t.Errorf("%d goroutines are left, of which %d watch a transcoder; want one of these", len(stacks), spare)
	}
}

// growth is how much memory the tests let a proxy keep, in KiB: what its heap
// and its threads' stacks need at most, far less than its streams have taken.
const growth = 64 << 10

// checkFootprint expects that a proxy has come back to what it held before.
func (p *proxy) checkFootprint(t *testing.T, before footprint) {
	t.Helper()
	after := p.quiet(t, before.descriptors)
	t.Logf("before: %+v, after: %+v", before, after)
	if after.memory > before.memory+growth {
		t.Errorf("the proxy takes %d KiB, %d before", after.memory, before.memory)
	}
}
