package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tureen/loadgen/compare"
	"tureen/loadgen/report"
)

// relay is a server that gives every viewer all that its publisher has sent.
type relay struct {
	delay time.Duration // before each write
	room  int           // viewers that it takes at a time; 0: any number

	mu      sync.Mutex
	more    *sync.Cond
	streams map[string]*body
}

// body is one stream's bytes so far.
type body struct {
	data     []byte
	ended    bool
	watching int
}

func startRelay(t *testing.T, r *relay) string {
	t.Helper()
	r.more, r.streams = sync.NewCond(&r.mu), map[string]*body{}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	return server.URL
}

func (r *relay) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	r.mu.Lock()
	b := r.streams[request.URL.Path]
	if request.Method == http.MethodPut {
		b = &body{}
		r.streams[request.URL.Path] = b
	}
	refused := b == nil || r.room > 0 && b.watching >= r.room && request.Method == http.MethodGet
	if !refused && request.Method == http.MethodGet {
		b.watching++
	}
	r.mu.Unlock()
	switch {
	case refused:
		http.Error(w, "no", http.StatusServiceUnavailable)
	case request.Method == http.MethodPut:
		r.publish(b, request.Body)
	default:
		r.watch(w, b)
	}
}

func (r *relay) publish(b *body, from io.Reader) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		r.mu.Lock()
		b.data = append(b.data, buf[:n]...)
		b.ended = err != nil
		r.mu.Unlock()
		r.more.Broadcast()
		if err != nil {
			return
		}
	}
}

func (r *relay) watch(w http.ResponseWriter, b *body) {
	for sent := 0; ; {
		r.mu.Lock()
		for sent == len(b.data) && !b.ended {
			r.more.Wait()
		}
		piece, over := b.data[sent:], b.ended
		r.mu.Unlock()
		time.Sleep(r.delay)
		if _, err := w.Write(piece); err != nil || over {
			return
		}
		_ = http.NewResponseController(w).Flush()
		sent += len(piece)
	}
}

// quick are the flags of a short run whose verdict a busy machine doesn't take away.
func quick(args ...string) []string {
	return append(args, "--viewers", "2", "--ramp", "0s", "--duration", "500ms", "--calibration", "300ms", "--max-noise", "1m")
}

func TestObjectivesDecideTheExitCode(t *testing.T) {
	url := startRelay(t, &relay{delay: 30 * time.Millisecond})
	tests := []struct {
		slo  string
		code int
		want string
	}{
		{"lost==0,p99<1m,join_p99<1m", report.Holds, "✓ lost==0: measured 0"},
		{"p50<1ms", report.FallsShort, "✗ p50<1ms"},
		{"audio_p50>1ms,p99<fast", report.NoVerdict, `"fast" is no time`},
		{"speed<1", report.NoVerdict, `no metric "speed"`},
	}
	for _, test := range tests {
		t.Run(test.slo, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := invoke(t.Context(), quick("--target", url, "--slo", test.slo)...)
			if code != test.code || !strings.Contains(stdout+stderr, test.want) {
				t.Errorf("exit code %d, want %d and %q:\n%s%s", code, test.code, test.want, stdout, stderr)
			}
		})
	}
}

func TestBusyMachineGivesNoVerdict(t *testing.T) {
	t.Parallel()
	url := startRelay(t, &relay{})
	code, stdout, stderr := invoke(t.Context(), "--target", url, "--viewers", "1", "--duration", "100ms", "--calibration", "300ms",
		"--max-noise", "1ns", "--slo", "p99<1ns")
	if code != report.NoVerdict || !strings.Contains(stdout+stderr, "machine too busy") {
		t.Errorf("exit code %d:\n%s%s", code, stdout, stderr)
	}
}

func TestResultsAreSavedShownAndHeldAgainstEachOther(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fast, slow := startRelay(t, &relay{}), startRelay(t, &relay{delay: 600 * time.Millisecond})
	old, newer, html := filepath.Join(dir, "old.json"), filepath.Join(dir, "new.json"), filepath.Join(dir, "old.html")
	for target, file := range map[string]string{fast: old, slow: newer} {
		code, stdout, stderr := invoke(t.Context(), quick("--target", target, "--json", file, "--html", file+".html")...)
		if code != report.Holds {
			t.Fatalf("exit code %d:\n%s%s", code, stdout, stderr)
		}
	}
	tests := []struct {
		args []string
		code int
		want string
	}{
		{[]string{"diff", old, newer}, report.FallsShort, "worse"},
		{[]string{"diff", newer, old, "--worse", "10"}, report.Holds, "p50"},
		{[]string{"diff", old, filepath.Join(dir, "none.json")}, report.NoVerdict, "reading report"},
		{[]string{"diff", old, html}, report.NoVerdict, "no such file"},
		{[]string{"diff", old, old + ".html"}, report.NoVerdict, "no report"},
		{[]string{"diff", old, newer, "--worse=-1"}, report.NoVerdict, "--worse: not below 0"},
		{[]string{"show", old, newer, "--html", html}, report.Holds, "latency video"},
		{[]string{"show", old + ".html"}, report.NoVerdict, "no report"},
	}
	for _, test := range tests {
		code, stdout, stderr := invoke(t.Context(), test.args...)
		if code != test.code || !strings.Contains(stdout+stderr, test.want) {
			t.Errorf("%v: exit code %d, want %d and %q:\n%s%s", test.args, code, test.code, test.want, stdout, stderr)
		}
	}
	page, err := os.ReadFile(html)
	if err != nil || strings.Count(string(page), "Latency over time</h3>") != 2 {
		t.Errorf("page of %d bytes, error %v", len(page), err)
	}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	fast, slow := startRelay(t, &relay{}), startRelay(t, &relay{delay: 600 * time.Millisecond})
	file := filepath.Join(t.TempDir(), "compare.json")
	code, stdout, stderr := invoke(t.Context(), quick("compare", fast, slow, "--rounds", "2", "--limit", "p50<=3", "--json", file)...)
	if code != report.FallsShort || !strings.Contains(stdout, "p50 is") {
		t.Fatalf("exit code %d:\n%s%s", code, stdout, stderr)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c, err := compare.Read(data)
	if err != nil || len(c.Sizes) != 1 || len(c.Sizes[0].Figures[0].Ratios) != 2 || c.Sizes[0].Figures[0].Low < 3 {
		t.Errorf("%s: error %v", data, err)
	}
	if code, stdout, _ := invoke(t.Context(), quick("compare", slow, fast, "--rounds", "1", "--limit", "p50<=3")...); code != report.Holds {
		t.Errorf("the faster one: exit code %d:\n%s", code, stdout)
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	const room = 3
	url := startRelay(t, &relay{room: room})
	file := filepath.Join(t.TempDir(), "find.json")
	args := quick("find", "--target", url, "--limit", "8", "--precision", "0", "--json", file)
	code, stdout, stderr := invoke(t.Context(), args...)
	if code != report.Holds || !strings.Contains(stdout, "most: 3 viewers\n") {
		t.Errorf("exit code %d:\n%s%s", code, stdout, stderr)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var result found
	if err := json.Unmarshal(data, &result); err != nil || result.Most != room || len(result.Runs) != len(result.Tries) {
		t.Errorf("%+v, error %v", result, err)
	}
	if code, stdout, _ := invoke(t.Context(), append(args, "--at-least", "4")...); code != report.FallsShort {
		t.Errorf("fewer than asked for: exit code %d:\n%s", code, stdout)
	}
	if code, _, stderr := invoke(t.Context(), quick("find", "--target", "http://127.0.0.1:1")...); code != report.NoVerdict {
		t.Errorf("no target: exit code %d:\n%s", code, stderr)
	}
}

func TestFindPublishers(t *testing.T) {
	t.Parallel()
	url := startRelay(t, &relay{})
	code, stdout, stderr := invoke(t.Context(), quick("find", "--target", url, "--most", "publishers", "--limit", "2")...)
	if code != report.Holds || !strings.Contains(stdout, "most: 2 publishers, which is --limit") {
		t.Errorf("exit code %d:\n%s%s", code, stdout, stderr)
	}
}
