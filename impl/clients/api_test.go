package clients_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// curlCalls makes a call of the API by curl and expects a status. It returns the
// answer's body.
func (p *proxy) curlCalls(ctx context.Context, t *testing.T, status int, method, call string, flags ...string) string {
	t.Helper()
	curl := run(ctx, t, "curl", args(words("-sS -g -w %{stderr}%{http_code}%{content_type} -X "+method), flags, []string{p.base + "/api/" + call}))
	curl.succeeds(t)
	contentType := "application/json"
	if status >= http.StatusBadRequest {
		contentType = "application/problem+json"
	}
	if got, want := curl.stderr.String(), fmt.Sprint(status, contentType); got != want {
		t.Errorf("%s %s: %s %s, want %s", method, call, got, &curl.stdout, want)
	}
	return curl.stdout.String()
}

// tureenAt runs the command line's client against a proxy.
func tureenAt(ctx context.Context, t *testing.T, p *proxy, line ...string) *process {
	t.Helper()
	cmd := exec.CommandContext(ctx, tureen, line...)
	cmd.Env = append(os.Environ(), "TUREEN_URL="+p.base)
	client, err := start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// says waits for a client's success and returns what it printed.
func says(t *testing.T, client *process) string {
	t.Helper()
	<-client.done
	if client.err != nil {
		t.Fatalf("%v: %v\n%s", client.cmd.Args, client.err, &client.stderr)
	}
	return client.stdout.String()
}

// TestTokenServer has curl publish and watch as tokens come and go: refused
// before it sends anything, let in, ended within a second or so by the command
// line's client.
func TestTokenServer(t *testing.T) {
	ctx := begin(t)
	need(t, "curl")
	p := startOwn(t, "http", "--token-server=127.0.0.1/255.255.255.255", "--token-file="+filepath.Join(t.TempDir(), "tokens"))
	path := file(t, open(t, plainClip))
	tests := map[string]struct {
		end       []string
		kept      bool // the token
		publisher string
	}{
		"revoke": {end: words("token revoke"), publisher: "revoked"},
		"abort":  {end: words("stream abort"), publisher: "aborted", kept: true},
	}
	for name, test := range tests {
		session := newSession(t, p)
		refused := run(ctx, t, "curl", args(curlPublishes(p.url(session)), []string{"-T", path}))
		<-refused.done
		if said := refused.stderr.String(); refused.err == nil || !strings.Contains(said, "< HTTP/1.1 403") || strings.Contains(said, "100 Continue") {
			t.Errorf("%s: publishing without a token: %v\n%s", name, refused.err, said)
		}
		if status := statusOf(ctx, t, p.url(session)); status != http.StatusForbidden {
			t.Errorf("%s: watching without a token: %d", name, status)
		}
		if table := says(t, tureenAt(ctx, t, p, "token", "add", session)); !strings.Contains(table, session) {
			t.Errorf("%s: the token added is shown as %q", name, table)
		}
		viewer, body := curlWatches(ctx, t, p.url(session), "-H", "Prefer: wait=30")
		asks(ctx, t, viewer)
		publisher := run(ctx, t, "curl", args(curlPublishes(p.url(session)), []string{"-T", path}))
		body.await(ctx, t, loopRate)
		if table := says(t, tureenAt(ctx, t, p, words("stream list")...)); !strings.Contains(table, "vp8 640x360, vorbis 48000x2") {
			t.Errorf("%s: the stream is listed as %q", name, table)
		}
		ended := time.Now()
		says(t, tureenAt(ctx, t, p, append(test.end, session)...))
		<-publisher.done
		if !strings.Contains(publisher.stderr.String(), "< HTTP/1.1 410") || !strings.Contains(publisher.stdout.String(), test.publisher) {
			t.Errorf("%s: the publisher gets %s\n%s", name, &publisher.stdout, &publisher.stderr)
		}
		viewer.succeeds(t)
		body.clean(t)
		if took := body.ended.Sub(ended); took > 2*time.Second { // the contract's 1 s, and as much for a machine under load
			t.Errorf("%s: the viewer's body ends after %v", name, took)
		}
		want := map[bool]int{false: http.StatusForbidden, true: http.StatusNotFound}[test.kept]
		if status := statusOf(ctx, t, p.url(session)); status != want {
			t.Errorf("%s: then watching gives %d, want %d", name, status, want)
		}
	}
}

// TestWhoMayCall calls the API from several of this machine's addresses.
func TestWhoMayCall(t *testing.T) {
	ctx := begin(t)
	need(t, "curl")
	closed := startOwn(t, "http", "--token-server=127.0.0.2", "--token-server=192.0.2.0/24", "--trusted-proxy=127.0.0.3", "--api-host=tureen.example")
	allowed := startOwn(t, "http", "--api-allow=192.0.2.1/32", "--trusted-proxy=127.0.0.3")
	tests := []struct {
		p      *proxy
		status int
		flags  string
	}{
		{closed, 403, ""},
		{closed, 403, "--interface 127.0.0.1"},
		{closed, 200, "--interface 127.0.0.2"},
		{closed, 403, "--interface 127.0.0.3"},
		{closed, 200, "--interface 127.0.0.3 -H X-Forwarded-For:192.0.2.77"},
		{closed, 403, "--interface 127.0.0.3 -H X-Forwarded-For:192.0.2.77,198.51.100.1"},
		{closed, 403, "--interface 127.0.0.4 -H X-Forwarded-For:192.0.2.77"},
		{closed, 200, "--interface 127.0.0.2 -H Host:tureen.example"},
		{closed, 403, "--interface 127.0.0.2 -H Host:rebound.example"},
		{closed, 403, "--interface 127.0.0.2 -H Origin:http://elsewhere.example"},
		{allowed, 200, ""},
		{allowed, 200, "--interface 127.0.0.9"},
		{allowed, 200, "--interface 127.0.0.3 -H X-Forwarded-For:192.0.2.1"},
		{allowed, 403, "--interface 127.0.0.3 -H X-Forwarded-For:192.0.2.2"},
	}
	for _, test := range tests {
		test.p.curlCalls(ctx, t, test.status, "GET", "list-tokens", words(test.flags)...)
		if test.status == http.StatusForbidden {
			test.p.curlCalls(ctx, t, http.StatusForbidden, "PATCH", "nothing", words(test.flags)...)
		}
	}
	second := startOwn(t, "http", "--listen=[::1]:0", "--token-server=::1/128")
	second.curlCalls(ctx, t, 200, "GET", "list-tokens")
}

// nearlyAnHour reports whether a time from now is an hour less what the calls
// have taken.
func nearlyAnHour(s string) bool {
	d, err := time.ParseDuration(s)
	return err == nil && d <= time.Hour && d > time.Hour-testTime
}

// TestClientPrints: tables, JSON and errors of the command line's client.
func TestClientPrints(t *testing.T) {
	ctx := begin(t)
	p := startOwn(t, "http")
	add := tureenAt(ctx, t, p, words("token add a --ttl 1h --input-types video/webm,video/mp4 --udp-clients 127.0.0.1:5000,[::1]:6000 --publish-key 0123456789abcdef")...)
	columns := func(table string) (rows [][]string) {
		for line := range strings.Lines(table) {
			rows = append(rows, strings.Fields(line))
		}
		return rows
	}
	rows := columns(says(t, add))
	if len(rows) != 4 || !slices.Equal(rows[0], words("SESSION TYPE CLIENT INPUT TYPES EXPIRES")) ||
		len(rows[1]) != 6 || !slices.Equal(rows[1][:5], words("a http - video/webm,video/mp4 in")) || !nearlyAnHour(rows[1][5]) ||
		!slices.Equal(rows[3][:3], words("a rtp-udp [::1]:6000")) {
		t.Errorf("the tokens added are shown as %q", rows)
	}
	if table := says(t, tureenAt(ctx, t, p, words("token list")...)); table != add.stdout.String() {
		t.Logf("a second has passed: %s", table) // "in 59m59s"
	}
	for _, call := range [][2]string{
		{"token list --json", `"sessionid":"a"`},
		{"token add b --json", `[{"sessionid":"b","type":"http","host":null,"port":null}]`},
		{"token revoke b --json", `[{"sessionid":"b","type":"http","host":null,"port":null}]`},
		{"token add c --type rtp-udp --udp-clients [::1]:700", "c        rtp-udp  [::1]:700"},
		{"stream list --json", "[]"},
		{"stream list", "SESSION  STATE"},
	} {
		line, want := call[0], call[1]
		if got := says(t, tureenAt(ctx, t, p, words(line)...)); !strings.Contains(got, want) || strings.Contains(line, "json") && !json.Valid([]byte(got)) {
			t.Errorf("%s prints %q, want %q", line, got, want)
		}
	}
	for line, want := range map[string]string{
		"token revoke nobody":                       "404 Not Found: the session has no tokens",
		"stream abort nobody":                       "404 Not Found",
		"token add a/b":                             "400 Bad Request: the parameter sessionid",
		"token add a --udp-clients h:1":             "even",
		"token add a --publish-key short":           "publish-key",
		"token add a --ttl 1.5s":                    "whole seconds",
		"token add a --type smoke":                  "--type",
		"token add":                                 "<session>",
		"token list --url http://127.0.0.1:1":       "no proxy answers at http://127.0.0.1:1",
		"token list --url nonsense":                 "tureen:",
		"stream watch --interval 0s":                "--interval",
		"serve --token-server localhost":            "ADDR/MASK",
		"serve --token-server 10.0.0.0/255.0.255.0": "255.255.255.0",
	} {
		client := tureenAt(ctx, t, p, words(line)...)
		<-client.done
		var exit *exec.ExitError
		if said := client.stderr.String(); !errors.As(client.err, &exit) || exit.ExitCode() <= 0 || !strings.Contains(said, want) {
			t.Errorf("%s: %v, %q, want %q", line, client.err, said, want)
		}
	}
}

// TestClientWatches: stream watch prints look after look, until it is told to
// end.
func TestClientWatches(t *testing.T) {
	ctx := begin(t)
	air := onAir(ctx, t, plain)
	client := tureenAt(ctx, t, plain, "stream", "watch", air.session, "--interval", "10ms", "--json")
	if _, err := client.printed(ctx, &client.stdout, "]\n["); err != nil { // twice
		t.Fatal(err)
	}
	if err := client.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	looks := strings.Split(strings.TrimSpace(says(t, client)), "\n")
	for _, look := range looks {
		var streams []struct{ SessionID, State string }
		if err := json.Unmarshal([]byte(look), &streams); err != nil || len(streams) != 1 || streams[0].SessionID != air.session || streams[0].State != "live" {
			t.Errorf("a look is %q, %v", look, err)
		}
	}
}

// TestTokensSurviveKills kills the proxy at any instant while curl adds tokens,
// over and over: what was acknowledged is there when it comes again.
func TestTokensSurviveKills(t *testing.T) {
	ctx := begin(t)
	path := filepath.Join(t.TempDir(), "tokens.json")
	var known []string
	for round := range 6 {
		p, err := startProxy("http", "--token-file="+path)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		var listed []struct{ SessionID string }
		if err := json.Unmarshal([]byte(p.curlCalls(ctx, t, 200, "GET", "list-tokens")), &listed); err != nil {
			t.Fatal(err)
		}
		there := map[string]bool{}
		for _, token := range listed {
			there[token.SessionID] = true
		}
		for _, session := range known {
			if !there[session] {
				t.Errorf("round %d: the token of %s is lost", round, session)
			}
		}
		known = append(known, addUntilKilled(ctx, t, p, round)...)
	}
	if len(known) == 0 {
		t.Error("no token was ever acknowledged")
	}
	if err := os.Truncate(path, 100); err != nil {
		t.Fatal(err)
	}
	p, err := startProxy("http", "--token-file="+path)
	if err == nil {
		p.kill()
		t.Fatal("the proxy starts with half a token file")
	}
	if said := err.Error(); !strings.Contains(said, "is damaged: it breaks off") || !strings.Contains(said, path) {
		t.Errorf("with half a token file it says %s", said)
	}
}

// addUntilKilled adds tokens until the proxy is killed, at a moment that chance
// decides, and returns the acknowledged ones' sessions.
func addUntilKilled(ctx context.Context, t *testing.T, p *proxy, round int) (acknowledged []string) {
	t.Helper()
	var adding sync.WaitGroup
	var mu sync.Mutex // guards acknowledged
	enough := make(chan struct{})
	after := rand.IntN(40)
	for client := range 3 {
		adding.Go(func() {
			for i := 0; ; i++ {
				session := fmt.Sprintf("r%d.c%d.%d", round, client, i)
				request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.base+"/api/add-token?type=http&sessionid="+session, nil)
				if err != nil {
					t.Error(err)
					return
				}
				answer, err := http.DefaultClient.Do(request)
				if err != nil {
					return // it was killed
				}
				answer.Body.Close()
				mu.Lock()
				acknowledged = append(acknowledged, session)
				if len(acknowledged) == after+1 {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	select {
	case <-enough:
	case <-ctx.Done():
		t.Error("the proxy takes no tokens")
	}
	if err := p.kill(); err != nil {
		t.Fatal(err)
	}
	adding.Wait()
	return acknowledged
}
