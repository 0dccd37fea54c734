package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tureen/conformance/report"
)

// programs are the suite and the reference, built once.
var programs struct{ suite, reference string }

func TestMain(m *testing.M) { os.Exit(build(m)) }

func build(m *testing.M) int {
	dir, err := os.MkdirTemp("", "conformance")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	programs.suite, programs.reference = filepath.Join(dir, "suite"), filepath.Join(dir, "reference")
	for program, source := range map[string]string{
		programs.suite: "tureen/conformance/cmd/tureen-conformance", programs.reference: "tureen/impl/cmd/tureen",
	} {
		cmd := exec.Command("go", "build", "-o", program, source)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			panic(string(out))
		}
	}
	return m.Run()
}

// program runs the suite and returns its exit code and all that it printed.
func program(t *testing.T, args ...string) (int, string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), programs.suite, args...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

func referenceCommand() string { return programs.reference + " --listen {addr} --log error" }

// TestExitCodes: nothing that isn't a verdict reads as one.
func TestExitCodes(t *testing.T) {
	nothing := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(nothing.Close)
	dead := httptest.NewServer(nil)
	dead.Close()
	tests := []struct {
		name string
		args []string
		code int
		says string
	}{
		{"help", []string{"--help"}, 0, "Exit codes"},
		{"help of a run", []string{"run", "--help"}, 0, "--report-dir"},
		{"list", []string{"--list"}, 0, "whenever a viewer joins"},
		{"list tells what is missing", []string{"--list"}, 0, "no check yet"},
		{"no target", nil, 2, "Give --target URL or --exec COMMAND"},
		{"two targets", []string{"--target", nothing.URL, "--exec", "x {addr}"}, 2, "can't be used together"},
		{"unknown flag", []string{"--tarhget", nothing.URL}, 2, "unknown flag"},
		{"target with a path", []string{"--target", nothing.URL + "/stream/x"}, 2, "has a path"},
		{"target without a scheme", []string{"--target", "127.0.0.1:8000"}, 2, "target's URL"},
		{"dead target", []string{"--target", dead.URL}, 2, "doesn't answer"},
		{"unknown requirement", []string{"--target", nothing.URL, "--requirement", "WAT-99"}, 2, `no requirement "WAT-99"`},
		{"unknown chapter", []string{"--target", nothing.URL, "--chapter", "sport"}, 2, `no chapter "sport"`},
		{"requirement without a check", []string{"--target", nothing.URL, "--requirement", "LAT-1"}, 2, "nothing was checked"},
		{"unknown feature", []string{"--target", nothing.URL, "--features", "wings"}, 2, `no feature "wings"`},
		{"bad times", []string{"--target", nothing.URL, "--times", "idle=soon"}, 2, "idle=2s"},
		{"unknown time", []string{"--target", nothing.URL, "--times", "lunch=1s"}, 2, `no time "lunch"`},
		{"command without an address", []string{"--exec", "true"}, 2, "doesn't say where {addr}"},
		{"command that ends", []string{"--exec", "echo out of order {addr}; exit 3"}, 2, "out of order"},
		{"not applicable is no pass", []string{"--target", nothing.URL, "--features", "none", "--requirement", "ING-16"}, 2, "nothing was checked"},
		{"a server that does nothing", []string{"--target", nothing.URL, "--features", "all", "--requirement", "WAT-1,WAT-12"}, 1, "FAIL  WAT-1"},
		{"the reference", []string{"--exec", referenceCommand(), "--features", "all", "--requirement", "API-7,GEN-3"}, 0, "the target holds"},
		{"a feature that isn't declared", []string{"--exec", referenceCommand(), "--features", "wait", "--requirement", "ING-16,API-7"}, 0, "content-range isn't declared"},
		{"a process that dies", []string{"--exec", "timeout -s KILL 2 " + referenceCommand(), "--features", "all", "--requirement", "ING-7"}, 1, "SRV-1 the process outlives"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			code, out := program(t, test.args...)
			if code != test.code || !strings.Contains(out, test.says) {
				t.Errorf("exit code %d, want %d and %q in:\n%s", code, test.code, test.says, out)
			}
		})
	}
}

// TestInterrupted: a run that is interrupted is no verdict, stops what it started, and leaves a report that says so.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mark := filepath.Join(dir, "pid")
	command := "sh -c 'echo $$ > " + mark + "; exec " + referenceCommand() + "'"
	cmd := exec.CommandContext(t.Context(), programs.suite, "--exec", command, "--features", "all", "--report-dir", dir)
	var out bytes.Buffer
	cmd.Stdout = &out
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAtLeast(stderr, make([]byte, 7), 7); err != nil { // "running 130 checks"
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond) // in the middle of them, wherever that is
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, stderr)
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != report.NoVerdict {
		t.Errorf("%v, want exit code 2:\n%s", err, out.String())
	}
	r, err := report.ReadJSON(filepath.Join(dir, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	if r.Problem != "the run was interrupted" || r.ExitCode() != report.NoVerdict || len(r.Checks) < 100 {
		t.Errorf("problem %q, exit code %d, %d checks", r.Problem, r.ExitCode(), len(r.Checks))
	}
	pid, err := os.ReadFile(mark)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/proc/" + strings.TrimSpace(string(pid))); err == nil {
		t.Error("the target still runs")
	}
}

// TestReports: three forms of the same run, and the difference of two.
func TestReports(t *testing.T) {
	t.Parallel()
	good, bad := t.TempDir(), t.TempDir()
	if code, out := program(t, "--exec", referenceCommand(), "--features", "all", "--requirement", "WAT-12,API-7", "--report-dir", good); code != 0 {
		t.Fatal(out)
	}
	nothing := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(nothing.Close)
	if code, out := program(t, "--target", nothing.URL, "--features", "all", "--requirement", "WAT-12,API-7", "--report-dir", bad); code != 1 {
		t.Fatal(out)
	}
	var junit struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Cases    []struct {
			Failure *struct{} `xml:"failure"`
		} `xml:"testsuite>testcase"`
	}
	if err := xml.Unmarshal(read(t, bad, "junit.xml"), &junit); err != nil {
		t.Fatal(err)
	}
	if junit.Failures == 0 || junit.Tests != len(junit.Cases) {
		t.Errorf("junit.xml: %+v", junit)
	}
	var plain map[string]any
	if err := json.Unmarshal(read(t, bad, "report.json"), &plain); err != nil || plain["schema"] != report.Schema {
		t.Errorf("report.json: %v, schema %v", err, plain["schema"])
	}
	page := string(read(t, bad, "report.html"))
	for _, want := range []string{"falls short", "WAT-12", "HEAD", "curl -sS", nothing.URL, "User-Agent: tureen-conformance"} {
		if !strings.Contains(page, want) {
			t.Errorf("report.html lacks %q", want)
		}
	}
	if strings.Contains(page, "src=") || strings.Contains(page, "@import") {
		t.Error("report.html needs other files")
	}
	if log := string(read(t, good, "target.log")); !strings.Contains(log, "tureen listens") {
		t.Errorf("target.log: %q", log)
	}
	before, after := filepath.Join(good, "report.json"), filepath.Join(bad, "report.json")
	if code, out := program(t, "diff", before, before); code != 0 || !strings.Contains(out, "0 of") {
		t.Errorf("diff of a report with itself: exit code %d\n%s", code, out)
	}
	if code, out := program(t, "diff", before, after); code != 1 || !strings.Contains(out, "API-7") || !strings.Contains(out, "fail") {
		t.Errorf("diff of a good and a bad one: exit code %d\n%s", code, out)
	}
	if code, out := program(t, "diff", before, filepath.Join(bad, "junit.xml")); code != 2 {
		t.Errorf("diff with what is no report: exit code %d\n%s", code, out)
	}
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}
