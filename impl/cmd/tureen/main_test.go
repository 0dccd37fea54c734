package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"tureen/impl/server"
)

// parse reads a command line as main does.
func parse(t *testing.T, args ...string) (*program, error) {
	t.Helper()
	var p program
	parser, err := kong.New(&p, options()...)
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(args)
	return &p, err
}

// TestPrecedence: the command line wins over the environment, that over the
// file, and that over the defaults.
func TestPrecedence(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tureen.yaml")
	if err := os.WriteFile(file, []byte("listen: file:1\nidle: 1s\ngrace: 1s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TUREEN_LISTEN", "environment:1")
	t.Setenv("TUREEN_IDLE", "2s")
	p, err := parse(t, "--config", file, "--listen", "line:1")
	if err != nil {
		t.Fatal(err)
	}
	c := p.Serve
	if c.Listen != "line:1" || c.Idle != 2*time.Second || c.Grace != time.Second || c.Budget != 3*time.Second {
		t.Errorf("listen %q, idle %v, grace %v, budget %v", c.Listen, c.Idle, c.Grace, c.Budget)
	}
}

func TestBadConfiguration(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tureen.yaml")
	tests := []struct {
		args []string
		yaml string
		says string
	}{
		{[]string{"--idle", "0s"}, "", "--idle must be more than 0"},
		{[]string{"--budget=-1s"}, "", "--budget must be more than 0"},
		{[]string{"--grace=-1s"}, "", "--grace must not be negative"},
		{[]string{"--max-viewers=-1"}, "", "--max-viewers must not be negative"},
		{[]string{"--max-publishers-per-address=-1"}, "", "--max-publishers-per-address must not be negative"},
		{[]string{"--tls-cert", "/dev/null"}, "", "must be used together"},
		{[]string{"--log", "loud"}, "", "must be one of"},
		{[]string{"--lissten", ":1"}, "", "unknown flag"},
		{[]string{"--config", file}, "lissten: :1", `sets "lissten", which is no flag`},
		{[]string{"--config", file}, "[", "isn't YAML"},
		{[]string{"--config", file}, "idle: soon", "expected duration"},
		{[]string{"--config", "/nowhere"}, "", "no such file"},
	}
	for _, test := range tests {
		if err := os.WriteFile(file, []byte(test.yaml), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := parse(t, test.args...); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%v %q: %v, want it to say %q", test.args, test.yaml, err, test.says)
		}
	}
}

// TestLimits are the operator's, or what open files allow.
func TestLimits(t *testing.T) {
	tests := []struct {
		args                []string
		files               uint64
		publishers, viewers server.Limits
	}{
		{nil, 1024, server.Limits{Total: 96}, server.Limits{Total: 864}},
		{nil, 0, server.Limits{Total: 1}, server.Limits{Total: 1}}, // they couldn't be told
		{[]string{"--max-viewers=7", "--max-viewers-per-address=2"}, 1024, server.Limits{Total: 96}, server.Limits{Total: 7, PerAddress: 2}},
		{[]string{"--max-publishers=5", "--max-publishers-per-address=1"}, 1024, server.Limits{Total: 5, PerAddress: 1}, server.Limits{Total: 864}},
	}
	for _, test := range tests {
		c, err := parse(t, test.args...)
		if err != nil {
			t.Fatal(err)
		}
		if publishers, viewers := c.Serve.limits(test.files); publishers != test.publishers || viewers != test.viewers {
			t.Errorf("%v with %d files: %+v, %+v", test.args, test.files, publishers, viewers)
		}
	}
}
