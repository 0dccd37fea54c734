package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tureen/fixtures"
	"tureen/loadgen/report"
)

// invoke runs the program's command line.
func invoke(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, errs strings.Builder
	code = run(&app{ctx: ctx, stdout: &out, stderr: &errs}, args)
	return code, out.String(), errs.String()
}

func TestUsage(t *testing.T) {
	tests := []struct {
		args string
		code int
		want string // in what is printed
	}{
		{"--help", report.Holds, "tureen-loadgen --target http://127.0.0.1:8000 --viewers 1000"},
		{"--help", report.Holds, "Exit codes: 0"},
		{"publish --help", report.Holds, "tureen-loadgen publish --target http://127.0.0.1:8000/stream/demo"},
		{"list", report.Holds, "webm-load"},
		{"", report.NoVerdict, "--target"},
		{"--target x --viewers 0", report.NoVerdict, "--viewers: at least 1"},
		{"--target x --duration 0s", report.NoVerdict, "--duration: more than 0"},
		{"--target x --ramp=-1s", report.NoVerdict, "--ramp: not below 0"},
		{"--target x --frames 3", report.NoVerdict, "unknown flag --frames"},
		{"--target 127.0.0.1:8000", report.NoVerdict, "no http or https URL"},
		{"--target http://127.0.0.1:1 --input no-such", report.NoVerdict, "unknown fixture"},
		{"--target http://127.0.0.1:1 --calibration 100ms", report.NoVerdict, "refused"},
		{"metrics", report.Holds, "join_p99"},
		{"find --help", report.Holds, "tureen-loadgen find --target"},
		{"compare --help", report.Holds, "tureen-loadgen compare http://"},
		{"diff --help", report.Holds, "tureen-loadgen diff yesterday.json today.json"},
		{"--target x --publishers 0", report.NoVerdict, "--publishers: at least 1"},
		{"--target x --churn 1s", report.NoVerdict, "--churn: at least 2s"},
		{"--target x --late 0s", report.NoVerdict, "--late: more than 0"},
		{"--target x --insecure --ca f", report.NoVerdict, "--insecure and --ca"},
		{"--target https://127.0.0.1:1 --ca /dev/null", report.NoVerdict, "no certificate in /dev/null"},
		{"--target x --slo p99", report.NoVerdict, "compares nothing"},
		{"--target http://127.0.0.1:1 --publish-to nowhere", report.NoVerdict, "no URL with a host"},
		{"find --target x --from 0", report.NoVerdict, "--from and --limit"},
		{"find --target x --precision 1", report.NoVerdict, "--precision"},
		{"compare a b --rounds 0", report.NoVerdict, "--rounds: at least 1"},
		{"compare a b --sizes 1,0", report.NoVerdict, "--sizes: each at least 1"},
		{"compare a b --limit p99", report.NoVerdict, "unreadable limit"},
		{"publish --target http://127.0.0.1:1", report.NoVerdict, "refused"},
		{"publish --target http://127.0.0.1:1 --duration=-1s", report.NoVerdict, "--duration: not below 0"},
	}
	for _, test := range tests {
		t.Run(test.args, func(t *testing.T) {
			code, stdout, stderr := invoke(t.Context(), strings.Fields(test.args)...)
			if code != test.code || !strings.Contains(stdout+stderr, test.want) {
				t.Errorf("exit code %d, want %d and %q in:\n%s%s", code, test.code, test.want, stdout, stderr)
			}
		})
	}
}

func TestListNamesEveryUsableInput(t *testing.T) {
	_, stdout, _ := invoke(t.Context(), "list")
	for _, name := range fixtures.Names() {
		clip, err := fixtures.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(stdout, name+" ") == clip.Malformed {
			t.Errorf("%s: malformed %v, in the list or not:\n%s", name, clip.Malformed, stdout)
		}
	}
}

func TestRunWritesJSON(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			http.Error(w, "full", http.StatusServiceUnavailable)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	defer server.Close()
	path := filepath.Join(t.TempDir(), "run.json")
	code, stdout, stderr := invoke(t.Context(), "--target", server.URL, "--viewers", "2", "--ramp", "0s",
		"--duration", "100ms", "--calibration", "300ms", "--json", path)
	var r report.Report
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &r); err != nil || r.Schema != report.Schema || r.Verdict.Exit != code {
		t.Errorf("verdict %+v, error %v", r.Verdict, err)
	}
	if r.Verdict.Exit == report.NoVerdict {
		t.Skipf("this machine is too busy: %v", r.Verdict.Reasons)
	}
	if code != report.FallsShort || r.Viewers.Refused[503] != 2 || !strings.Contains(stdout, "2 viewers refused with 503") {
		t.Errorf("exit code %d:\n%s%s", code, stdout, stderr)
	}
}

func TestPublish(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil || n == 0 || r.URL.Path != "/stream/demo" {
			t.Errorf("%s: %d bytes, error %v", r.URL, n, err)
		}
		_, _ = io.WriteString(w, "well done")
	}))
	defer server.Close()
	code, _, stderr := invoke(t.Context(), "publish", "--target", server.URL+"/stream/demo", "--duration", "300ms")
	if code != report.Holds || !strings.Contains(stderr, "answered 200 well done") {
		t.Errorf("exit code %d:\n%s", code, stderr)
	}
}

func TestPublishThatBreaks(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadFull(r.Body, make([]byte, 1000))
		panic(http.ErrAbortHandler)
	}))
	defer server.Close()
	if code, _, stderr := invoke(t.Context(), "publish", "--target", server.URL, "--session", "demo"); code != report.FallsShort {
		t.Errorf("exit code %d, want %d:\n%s", code, report.FallsShort, stderr)
	}
}
