package clients_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
	if plain, err = startProxy("http", "--max-transcodes=100"); err != nil {
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
	*process
	base string // scheme, address and port
}

// startProxy starts the proxy on a port of the system's choice and waits until
// it serves. One that serves HTTPS isn't asked for its health: its certificate
// is the caller's.
func startProxy(scheme string, flags ...string) (*proxy, error) {
	return startProgram(tureen, scheme, flags...)
}

// startProgram is startProxy with a binary of the caller's.
func startProgram(path, scheme string, flags ...string) (*proxy, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	process, err := start(exec.Command(path, append([]string{"--listen=127.0.0.1:0", "--log=debug"}, flags...)...))
	if err != nil {
		return nil, err
	}
	p := &proxy{process: process}
	const listens = "tureen listens on "
	said, err := p.printed(ctx, &p.stdout, "\n") // its first line
	address, ok := strings.CutPrefix(strings.SplitN(said, "\n", 2)[0], listens)
	if err != nil || !ok {
		fault := fmt.Errorf("the proxy says at its start: %q; want %s…\n%s", said, listens, &p.stderr)
		return nil, errors.Join(fault, err, p.kill())
	}
	p.base = scheme + "://" + address
	if scheme == "http" {
		if err := p.healthy(ctx); err != nil {
			return nil, errors.Join(err, p.kill())
		}
	}
	return p, nil
}

// healthy waits for the proxy's first answer.
func (p *proxy) healthy(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+"/healthz", nil)
	if err != nil {
		return fmt.Errorf("ask the proxy for its health: %w", err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("ask the proxy for its health: %w\n%s", err, &p.stderr)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the proxy's health is %s\n%s", answer.Status, &p.stderr)
	}
	return nil
}

// url is a session's address.
func (p *proxy) url(session string) string { return p.base + "/stream/" + session }

// address is the proxy's host and port.
func (p *proxy) address() string {
	_, address, _ := strings.Cut(p.base, "://")
	return address
}

// stop ends the proxy as an operator does and judges how it went: SRV-3, and
// SRV-1 for its whole life.
func (p *proxy) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("end the proxy: %w (it should have been running)\n%s", err, &p.stderr)
	}
	select {
	case <-p.done:
	case <-time.After(drainTime):
		return errors.Join(fmt.Errorf("the proxy runs %v after SIGTERM\n%s", drainTime, &p.stderr), p.kill())
	}
	if p.err != nil {
		return fmt.Errorf("SIGTERM ended the proxy with: %w\n%s", p.err, &p.stderr)
	}
	for _, fault := range []string{"DATA RACE", "panic", "fault in the demuxer"} {
		if strings.Contains(p.stderr.String(), fault) {
			return fmt.Errorf("the proxy's log tells of a %s\n%s", fault, &p.stderr)
		}
	}
	return nil
}

func (p *proxy) kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill the proxy: %w", err)
	}
	<-p.done
	return nil
}

// logOf is what the proxy wrote about a session.
func (p *proxy) logOf(session string) string {
	var b strings.Builder
	for line := range strings.Lines(p.stderr.String()) {
		if strings.Contains(line, "session="+session+" ") {
			b.WriteString(line)
		}
	}
	return b.String()
}
