package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"tureen/impl/rtp"
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
		{[]string{"--max-rtp-clients=-1"}, "", "--max-rtp-clients must not be negative"},
		{[]string{"--rtp-allow=10.0.0.0/33"}, "", "is no ADDR/MASK"},
		{[]string{"--max-publishers-per-address=-1"}, "", "--max-publishers-per-address must not be negative"},
		{[]string{"--tls-cert", "/dev/null"}, "", "must be used together"},
		{[]string{"--log", "loud"}, "", "must be one of"},
		{[]string{"--token-server", "localhost"}, "", "is no ADDR/MASK"},
		{[]string{"--token-server", "10.0.0.0/8", "--token-server", "10.0.0.0/33"}, "", "is no ADDR/MASK"},
		{[]string{"--api-allow", "10.0.0.0/255.0.255.0"}, "", "is no ADDR/MASK"},
		{[]string{"--trusted-proxy", "[::1]"}, "", "is no ADDR/MASK"},
		{[]string{"--api-host", "tureen.example:8000"}, "", "without scheme and port"},
		{[]string{"--config", file}, "token-server: [10.0.0.0/8, x]", "is no ADDR/MASK"},
		{[]string{"token", "add", "a", "--ttl=1ms"}, "", "whole seconds"},
		{[]string{"stream", "watch", "--interval=0s"}, "", "--interval must be more than 0"},
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

// TestGate: who may call the API is read from wherever it is set, and the mode
// that goes with it is announced.
func TestGate(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tureen.yaml")
	if err := os.WriteFile(file, []byte("token-server: [10.0.0.0/255.0.0.0, \"::1\"]\napi-host: [a.example, b.example]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TUREEN_TRUSTED_PROXY", "192.0.2.1,2001:db8::/32")
	p, err := parse(t, "--config", file, "--api-allow", "172.17.0.0/16", "--api-allow=172.18.0.1")
	if err != nil {
		t.Fatal(err)
	}
	g := p.Serve.gate()
	got := list(g.Servers) + "; " + list(g.Allowed) + "; " + list(g.Proxies) + "; " + strings.Join(g.Hosts, ", ")
	want := "10.0.0.0/8, ::1/128; 172.17.0.0/16, 172.18.0.1/32; 192.0.2.1/32, 2001:db8::/32; a.example, b.example"
	if got != want {
		t.Errorf("the gate is %s, want %s", got, want)
	}
	if mode := p.Serve.mode(); !strings.Contains(mode, "10.0.0.0/8, ::1/128 alone") {
		t.Errorf("it announces %q", mode)
	}
	for line, says := range map[string]string{"": "sessions are open", "--api-allow=172.17.0.0/16": "this machine and 172.17.0.0/16"} {
		p, err := parse(t, strings.Fields(line)...)
		if err != nil {
			t.Fatal(err)
		}
		if mode := p.Serve.mode(); !strings.Contains(mode, says) {
			t.Errorf("%q announces %q, want %q", line, mode, says)
		}
		if table, err := p.Serve.tokens(); err != nil || table.Required() {
			t.Errorf("%q requires tokens: %v", line, err)
		}
	}
}

// TestLimits are the operator's, or what open files allow.
func TestLimits(t *testing.T) {
	tests := []struct {
		args                []string
		files               uint64
		publishers, viewers server.Limits
		clients             int
	}{
		{nil, 1024, server.Limits{Total: 96}, server.Limits{Total: 768}, 24},
		{nil, 0, server.Limits{Total: 1}, server.Limits{Total: 1}, 1}, // they couldn't be told
		{[]string{"--max-viewers=7", "--max-viewers-per-address=2"}, 1024, server.Limits{Total: 96}, server.Limits{Total: 7, PerAddress: 2}, 24},
		{[]string{"--max-publishers=5", "--max-publishers-per-address=1"}, 1024, server.Limits{Total: 5, PerAddress: 1}, server.Limits{Total: 768}, 24},
		{[]string{"--max-rtp-clients=3"}, 1024, server.Limits{Total: 96}, server.Limits{Total: 768}, 3},
	}
	for _, test := range tests {
		c, err := parse(t, test.args...)
		if err != nil {
			t.Fatal(err)
		}
		publishers, viewers, clients := c.Serve.limits(test.files)
		if publishers != test.publishers || viewers != test.viewers || clients != test.clients {
			t.Errorf("%v with %d files: %+v, %+v, %d", test.args, test.files, publishers, viewers, clients)
		}
	}
}

// TestPolicy: the operator's networks take the place of the usual ones, wherever
// they are named.
func TestPolicy(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tureen.yaml")
	if err := os.WriteFile(file, []byte("rtp-allow: [10.0.0.0/8, 192.0.2.1]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		args        []string
		environment string
		want        string
	}{
		{nil, "", fmt.Sprint(rtp.DefaultPolicy())},
		{[]string{"--rtp-allow=10.0.0.0/8", "--rtp-allow=fd00::/8"}, "", "[10.0.0.0/8 fd00::/8]"},
		{[]string{"--rtp-allow=192.0.2.1/255.255.255.255,::1"}, "", "[192.0.2.1/32 ::1/128]"},
		{nil, "0.0.0.0/0,::/0", "[0.0.0.0/0 ::/0]"},
		{[]string{"--config", file}, "", "[10.0.0.0/8 192.0.2.1/32]"},
	}
	for _, test := range tests {
		if test.environment != "" {
			t.Setenv("TUREEN_RTP_ALLOW", test.environment)
		}
		c, err := parse(t, test.args...)
		os.Unsetenv("TUREEN_RTP_ALLOW")
		if err != nil {
			t.Errorf("%v, %q: %v", test.args, test.environment, err)
			continue
		}
		if got := fmt.Sprint(c.Serve.policy()); got != test.want {
			t.Errorf("%v, %q: RTP may be sent to %s, want %s", test.args, test.environment, got, test.want)
		}
	}
}
