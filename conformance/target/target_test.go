package target

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

func TestParseTimes(t *testing.T) {
	got, err := DefaultTimes.ParseTimes("idle=2s,drain=500ms")
	if want := (Times{Idle: 2 * time.Second, Grace: 10 * time.Second, Budget: 3 * time.Second, Drain: time.Second / 2}); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "idle", "idle=", "idle=0s", "idle=-1s", "lunch=1s", "idle=1s,"} {
		if _, err := DefaultTimes.ParseTimes(bad); err == nil {
			t.Errorf("%q is no error", bad)
		}
	}
}

func TestParseFeatures(t *testing.T) {
	if f, err := ParseFeatures("pacing,wait"); err != nil || !f.Known || !f.Has("wait") || f.Has("resume") {
		t.Errorf("%+v, %v", f, err)
	}
	if f, err := ParseFeatures("none"); err != nil || !f.Known || len(f.Names) > 0 {
		t.Errorf("none: %+v, %v", f, err)
	}
	if _, err := ParseFeatures("pacing,wings"); err == nil {
		t.Error("wings are no feature")
	}
}

// TestDescribe: what a target tells of itself counts; what makes no sense is left out.
func TestDescribe(t *testing.T) {
	answer := `{"info":{"title":"Soup","version":"2","x-features":["wait"],"x-times":{"idle":1.5,"lunch":3}}}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/openapi.json" {
			http.NotFound(w, r)
			return
		}
		w.Write([]byte(answer))
	}))
	t.Cleanup(server.Close)
	base, err := ParseURL(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	soup := Target{Base: base, Times: DefaultTimes}
	if err := soup.Describe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if soup.Version != "Soup 2" || !soup.Features.Known || !soup.Features.Has("wait") || soup.Times.Idle != 1500*time.Millisecond || soup.Times.Grace != 10*time.Second {
		t.Errorf("%+v", soup)
	}
	answer = "no JSON"
	silent := Target{Base: base, Times: DefaultTimes}
	if err := silent.Describe(t.Context()); err != nil || silent.Features.Known || silent.Times != DefaultTimes {
		t.Errorf("%v, %+v", err, silent)
	}
	if err := (&Target{Base: &url.URL{Scheme: "http", Host: "127.0.0.1:1"}}).Alive(t.Context()); err == nil {
		t.Error("nobody answers, and it is alive")
	}
}

// TestProcess: a process is waited for, ended, and its crash told from its end.
func TestProcess(t *testing.T) {
	if os.Getenv("ACT") != "" {
		act(os.Getenv("ACT"))
	}
	command := func(as string) string {
		return "env ACT=" + as + " ADDR={addr} " + os.Args[0] + " -test.run=TestProcess$"
	}
	p, err := StartProcess(t.Context(), command("serve"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Crashed(); err != nil {
		t.Errorf("it runs, and has crashed: %v", err)
	}
	p.Stop(10 * time.Second)
	if err := p.Crashed(); err != nil {
		t.Errorf("it was told to end, and has crashed: %v", err)
	}
	crashing, err := StartProcess(t.Context(), command("crash"))
	if err != nil {
		t.Fatal(err)
	}
	<-crashing.Exited()
	if crashing.Crashed() == nil {
		t.Error("it ended by itself, and hasn't crashed")
	}
	if _, err := StartProcess(t.Context(), command("fail")); err == nil || !strings.Contains(err.Error(), "no soup today") {
		t.Errorf("%v, want what it said", err)
	}
}

// act is a target's process.
func act(as string) {
	if as == "fail" {
		println("no soup today")
		os.Exit(3)
	}
	if as == "crash" {
		time.AfterFunc(300*time.Millisecond, func() { os.Exit(4) })
	}
	panic(http.ListenAndServe(os.Getenv("ADDR"), http.NotFoundHandler()))
}
