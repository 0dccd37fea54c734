package faults

import (
	"context"
	"fmt"
	"hash/fnv"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tureen/conformance/reference"
	"tureen/conformance/report"
	"tureen/conformance/spec"
	"tureen/conformance/suite"
	"tureen/conformance/target"
)

// lanes is how many checks run at once, over all faults.
const lanes = 56

// whole has every fault meet the whole suite, as before a release; otherwise it meets its chapter, and of each other requirement
// than its own one check.
var whole = os.Getenv("TUREEN_FAULTS") == "whole"

// longCheck is the limit of checks that other requirements' faults don't meet in CI.
const longCheck = 55 * time.Second

// behindProxies puts faulty proxies before an implementation.
func behindProxies(t *testing.T, good *target.Target, faults []*Fault) *target.Target {
	t.Helper()
	faulty := *good
	faulty.Base, faulty.Token = before(t, good.Base, faults), before(t, good.Token, faults)
	// Instances that checks start for themselves have a proxy of their own.
	behind := func(start func(context.Context) (*target.Process, error)) func(context.Context) (*target.Process, error) {
		return func(ctx context.Context) (*target.Process, error) {
			p, err := start(ctx)
			if err == nil {
				p.Base = before(t, p.Base, faults)
			}
			return p, err
		}
	}
	faulty.Start, faulty.StartSmall = behind(good.Start), behind(good.StartSmall)
	return &faulty
}

// before starts a faulty proxy before an implementation.
func before(t *testing.T, base *url.URL, faults []*Fault) *url.URL {
	t.Helper()
	proxy, err := Start(base.Host, faults)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	return proxy.Base
}

// TestFaults: of each fault, the check of its requirement fails for its reason, and no other but its consequences.
func TestFaults(t *testing.T) {
	passthrough := behindProxies(t, reference.StartPassthrough(t), All())
	transcoding := behindProxies(t, reference.Start(t), All())
	shared := suite.NewLanes(lanes)
	var all sync.WaitGroup
	var mu sync.Mutex
	found, tried := 0, 0
	for _, f := range All() {
		if only := os.Getenv("TUREEN_FAULT"); only != "" && !strings.HasPrefix(f.Name, only) {
			continue
		}
		tried++
		faulty := passthrough
		if r, _ := spec.Find(f.Requirement); r.Feature == "transcode" || whole {
			faulty = transcoding
		}
		all.Go(func() {
			run := &suite.Run{Target: faulty, Prefix: f.Name + "~", Seed: 1, Lanes: shared}
			if judge(t, f, run.Start(t.Context(), checksFor(f))) {
				mu.Lock()
				defer mu.Unlock()
				found++
			}
		})
	}
	all.Wait()
	t.Logf("mutation score: %d of %d faults found for their reason", found, tried)
}

// checksFor chooses the checks that a fault meets: all of its requirement, and one of each other in its chapter, which isn't
// always the same.
func checksFor(f *Fault) []*suite.Check {
	if whole {
		return suite.All()
	}
	own, _ := spec.Find(f.Requirement)
	others := make(map[string][]*suite.Check)
	var checks []*suite.Check
	for _, c := range suite.All() {
		switch {
		case c.Requirement == f.Requirement:
			checks = append(checks, c)
		case c.Chapter == own.Chapter && c.Limit <= longCheck:
			others[c.Requirement] = append(others[c.Requirement], c)
		}
	}
	luck := fnv.New32()
	luck.Write([]byte(f.Name))
	for _, r := range spec.All() {
		if of := others[r.ID]; len(of) > 0 {
			checks = append(checks, of[int(luck.Sum32()>>1)%len(of)])
		}
	}
	return checks
}

// judge reports whether a fault was found for its reason, and complains of everything else that failed.
func judge(t *testing.T, f *Fault, jobs []*suite.Job) bool {
	found, ok := false, true
	var own []string
	for _, j := range jobs {
		r := j.Result()
		failed := r.Verdict == report.Fail || r.Verdict == report.Warn
		switch {
		case r.Requirement == f.Requirement:
			found = found || failed && strings.Contains(r.Message, f.Reason)
			if r.Verdict != report.Pass {
				own = append(own, fmt.Sprintf("%s, %s: %s", r.Verdict, r.Check, r.Message))
			}
		case failed && !slices.Contains(f.Also, r.Requirement):
			ok = false
			t.Errorf("fault %s: the check %s fails too: %s: %s", f.Name, r.Requirement, r.Check, r.Message)
		case r.Verdict == report.Harness:
			t.Logf("fault %s: no verdict of %s: %s: %s", f.Name, r.Requirement, r.Check, r.Message)
		}
	}
	if !found {
		t.Errorf("fault %s: no check of %s says %q; those that don't pass say:\n%s", f.Name, f.Requirement, f.Reason, strings.Join(own, "\n"))
	}
	return found && ok
}

// TestCatalogue: every fault breaks a requirement that has checks, and its name can begin a session id.
func TestCatalogue(t *testing.T) {
	seen := make(map[string]bool)
	for _, f := range All() {
		r, ok := spec.Find(f.Requirement)
		if !ok || f.Reason == "" || seen[f.Name] || len(f.Name) > 40 || !strings.HasPrefix(f.Name, strings.ToLower(r.ID)+"-") {
			t.Errorf("fault %q of requirement %q for reason %q", f.Name, f.Requirement, f.Reason)
		}
		seen[f.Name] = true
	}
}

// TestEveryRequirement: what has checks has a fault that they find.
func TestEveryRequirement(t *testing.T) {
	broken := make(map[string]bool)
	for _, f := range All() {
		broken[f.Requirement] = true
	}
	for _, c := range suite.All() {
		if !broken[c.Requirement] {
			t.Errorf("no fault breaks %s, which has checks", c.Requirement)
			broken[c.Requirement] = true
		}
	}
}

// TestHarmless: what the specification leaves open fails no check.
func TestHarmless(t *testing.T) {
	target := behindProxies(t, reference.StartPassthrough(t), harmless)
	shared := suite.NewLanes(lanes)
	var all sync.WaitGroup
	for _, f := range harmless {
		if only := os.Getenv("TUREEN_FAULT"); only != "" && !strings.HasPrefix(f.Name, only) {
			continue
		}
		all.Go(func() {
			run := &suite.Run{Target: target, Prefix: f.Name + "~", Seed: 1, Lanes: shared}
			for _, j := range run.Start(t.Context(), sample()) {
				r := j.Result()
				switch r.Verdict {
				case report.Pass:
				case report.NotApplicable: // of transcoding
				case report.Harness:
					t.Logf("%s: no verdict of %s: %s: %s", f.Name, r.Requirement, r.Check, r.Message)
				default:
					t.Errorf("%s: %s, %s: %s: %s", f.Name, r.Verdict, r.Requirement, r.Check, r.Message)
				}
			}
		})
	}
	all.Wait()
}

// sample chooses checks of every requirement for a harmless variation.
func sample() []*suite.Check {
	var checks []*suite.Check
	n := make(map[string]int)
	for _, c := range suite.All() {
		if n[c.Requirement]++; whole || n[c.Requirement] <= 2 && c.Limit <= longCheck {
			checks = append(checks, c)
		}
	}
	return checks
}

// mediaChapters are those in which a server that does nothing must pass nothing.
var mediaChapters = []string{"ingest", "watch", "format", "reconnect"}

// TestNullServer: a server that accepts everything, answers 200 and does nothing earns no pass.
func TestNullServer(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(server.Close)
	base, err := target.ParseURL(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	nothing := &target.Target{Base: base, Times: target.DefaultTimes, Features: target.Features{Known: true, Names: spec.Features}}
	run := &suite.Run{Target: nothing, Prefix: "null.", Seed: 1, Lanes: suite.NewLanes(200)}
	for _, j := range run.Start(t.Context(), suite.All()) {
		r := j.Result()
		if r.Verdict == report.Pass && slices.Contains(mediaChapters, r.Chapter) {
			t.Errorf("a server that does nothing passes %s: %s", r.Requirement, r.Check)
		}
	}
}
