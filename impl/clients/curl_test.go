package clients_test

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
)

// curlWatches has curl join a stream; its body is recorded as it comes, which
// it can be only because of -N, and it prints the answer's head to stderr.
func curlWatches(ctx context.Context, t *testing.T, url string, flags ...string) (*program, *recording) {
	t.Helper()
	r, w := pipe(t)
	always := words("-sS -N -v -w %{stderr}%{http_version}/%{http_code}/")
	curl := run(ctx, t, "curl", args(always, flags, []string{url}), withOutput(w))
	w.Close()
	return curl, record(r)
}

// asks waits until curl has sent its request.
func asks(ctx context.Context, t *testing.T, curl *program) {
	t.Helper()
	if _, err := curl.printed(ctx, &curl.stderr, "> GET "); err != nil {
		t.Fatal(err)
	}
}

// answerOf is the last answer's head as curl -v shows it: its version, and its
// header fields.
func answerOf(t *testing.T, curl *program) (version string, h http.Header) {
	t.Helper()
	h = http.Header{}
	for line := range strings.Lines(curl.stderr.String()) {
		line, ok := strings.CutPrefix(line, "< ")
		if !ok {
			continue
		}
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "HTTP/") {
			version, h = line, http.Header{}
		} else if name, value, ok := strings.Cut(line, ":"); ok {
			h.Add(name, strings.TrimSpace(value))
		}
	}
	return version, h
}

// TestCurlWatches has curl join late in each way that HTTP over plain TCP has.
func TestCurlWatches(t *testing.T) {
	ctx := begin(t)
	tests := map[string]struct {
		flags   string
		chunked bool
	}{
		"HTTP/1.1": {flags: "--http1.1", chunked: true},
		"HTTP/1.0": {flags: "--http1.0"},
		"Range":    {flags: "-r 0-99", chunked: true},
	}
	need(t, "curl")
	air := onAir(ctx, t, plain)
	t.Run("HEAD", func(t *testing.T) { testHead(ctx, t, air) })
	type watching struct {
		*program
		*recording
	}
	curls := map[string]watching{}
	for name, test := range tests {
		curl, recording := curlWatches(ctx, t, air.url, words(test.flags)...)
		curls[name] = watching{curl, recording}
	}
	for _, w := range curls {
		w.await(ctx, t, loopRate) // it flows
	}
	air.end()
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			curl := curls[name].program
			curl.succeeds(t)
			air.checkLate(t, curls[name].whole(t))
			version, h := answerOf(t, curl)
			if !strings.Contains(version, " 200") || h.Get("Content-Type") != "video/webm" ||
				h.Get("Content-Range") != "" || h.Get("Content-Length") != "" {
				t.Errorf("curl was answered %s with %v", version, h)
			}
			if chunked := h.Get("Transfer-Encoding") == "chunked"; chunked != test.chunked {
				t.Errorf("the body is chunked: %t, want %t", chunked, test.chunked)
			}
		})
	}
}

// testHead asks for the head alone (WAT-12).
func testHead(ctx context.Context, t *testing.T, air *broadcast) {
	curl := run(ctx, t, "curl", []string{"-sS", "-I", air.url})
	curl.succeeds(t)
	answer, err := http.ReadResponse(bufio.NewReader(strings.NewReader(curl.stdout.String())),
		&http.Request{Method: http.MethodHead})
	if err != nil {
		t.Fatalf("curl -I prints: %v", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Type") != "video/webm" ||
		answer.Header.Get("Cache-Control") != "no-store" || answer.Header.Get("Content-Length") != "" {
		t.Errorf("curl -I is answered %s with %v", answer.Status, answer.Header)
	}
}
