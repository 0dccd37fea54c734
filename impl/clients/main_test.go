package clients_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	buildTime = 5 * time.Minute  // of the proxy with nothing cached
	startTime = 30 * time.Second // until the proxy answers
	// drainTime is the proxy's default of 5 s and as much again for a machine
	// under load.
	drainTime = 10 * time.Second
)

// plain is the proxy that all tests share but those of TLS.
var plain *proxy

// tureen is the path of the proxy's binary.
var tureen string

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) (code int) {
	folder, err := os.MkdirTemp("", "tureen-clients-")
	if err != nil {
		return complain(err)
	}
	defer os.RemoveAll(folder)
	tureen = filepath.Join(folder, "tureen")
	if err := build(tureen); err != nil {
		return complain(err)
	}
	if plain, err = startProxy("http"); err != nil {
		return complain(err)
	}
	code = m.Run()
	if err := plain.stop(); err != nil {
		return complain(err)
	}
	return code
}

func complain(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// build compiles the proxy as the tests were compiled.
func build(path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), buildTime)
	defer cancel()
	args := []string{"build", "-o", path}
	if raced {
		args = append(args, "-race")
	}
	output, err := exec.CommandContext(ctx, "go", append(args, "tureen/impl/cmd/tureen")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("build the proxy: %w\n%s", err, output)
	}
	return nil
}

// proxy is a running proxy.
type proxy struct {
	base   string // scheme, address and port
	cmd    *exec.Cmd
	log    text
	exited chan struct{} // closed once err tells how
	err    error
}

// startProxy starts the proxy on a port of the system's choice and waits until
// it listens. What serves HTTPS isn't asked for its health: its certificate is
// the caller's.
func startProxy(scheme string, flags ...string) (*proxy, error) {
	p := &proxy{exited: make(chan struct{})}
	p.cmd = exec.Command(tureen, append([]string{"--listen=127.0.0.1:0", "--log=debug"}, flags...)...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.cmd.Stderr = &p.log
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start the proxy: %w", err)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the proxy: %w", err)
	}
	address := make(chan string, 1)
	go func() {
		defer close(p.exited)
		readAnnouncement(stdout, address)
		p.err = p.cmd.Wait()
	}()
	select {
	case a := <-address:
		p.base = scheme + "://" + a
	case <-p.exited:
		return nil, fmt.Errorf("the proxy ended at its start: %w\n%s", p.err, &p.log)
	case <-time.After(startTime):
		return nil, errors.Join(errors.New("the proxy doesn't say where it listens"), p.kill())
	}
	if scheme == "http" {
		if err := p.healthy(); err != nil {
			return nil, errors.Join(err, p.kill())
		}
	}
	return p, nil
}

// readAnnouncement reads what the proxy prints, to its end, and passes on where
// it listens.
func readAnnouncement(r io.Reader, address chan<- string) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if a, ok := strings.CutPrefix(lines.Text(), "tureen listens on "); ok {
			address <- a
		}
	}
}

// healthy waits for the proxy's first answer.
func (p *proxy) healthy() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+"/healthz", nil)
	if err != nil {
		return fmt.Errorf("ask the proxy for its health: %w", err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("ask the proxy for its health: %w\n%s", err, &p.log)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the proxy's health is %s\n%s", answer.Status, &p.log)
	}
	return nil
}

// url is a session's address.
func (p *proxy) url(session string) string { return p.base + "/stream/" + session }

// stop ends the proxy as an operator does and judges how it went: SRV-3, and
// SRV-1 for its whole life.
func (p *proxy) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("end the proxy: %w (it should have been running)\n%s", err, &p.log)
	}
	select {
	case <-p.exited:
	case <-time.After(drainTime):
		return errors.Join(fmt.Errorf("the proxy runs %v after SIGTERM\n%s", drainTime, &p.log), p.kill())
	}
	if p.err != nil {
		return fmt.Errorf("SIGTERM ended the proxy with: %w\n%s", p.err, &p.log)
	}
	for _, fault := range []string{"DATA RACE", "panic", "fault in the demuxer"} {
		if strings.Contains(p.log.String(), fault) {
			return fmt.Errorf("the proxy's log tells of a %s\n%s", fault, &p.log)
		}
	}
	return nil
}

func (p *proxy) kill() error {
	err := p.cmd.Process.Kill()
	<-p.exited
	return err
}

// logOf is what the proxy wrote about a session.
func (p *proxy) logOf(session string) string {
	var b strings.Builder
	for line := range strings.Lines(p.log.String()) {
		if strings.Contains(line, "session="+session+" ") {
			b.WriteString(line)
		}
	}
	return b.String()
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
