package report

import (
	"bytes"
	"encoding/xml"
	"strings"
	"testing"

	"tureen/conformance/spec"
	"tureen/conformance/wire"
)

func all(spec.Requirement) bool { return true }

// result is a check's result.
func result(requirement string, v Verdict) Result {
	return Result{Requirement: requirement, Chapter: "watch", Level: spec.Must, Check: "it works", Verdict: v, Message: "why"}
}

// TestOutcome: only a run in which something passed and nothing is in doubt holds.
func TestOutcome(t *testing.T) {
	precondition := result("WAT-2", NotRun)
	precondition.Precondition = true
	tests := []struct {
		name   string
		report Report
		code   int
	}{
		{"nothing", Report{}, NoVerdict},
		{"a pass", Report{Checks: []Result{result("WAT-1", Pass)}}, Holds},
		{"a pass and what wasn't run", Report{Checks: []Result{result("WAT-1", Pass), result("WAT-2", NotRun)}}, Holds},
		{"a pass and a warning", Report{Checks: []Result{result("WAT-1", Pass), result("WAT-2", Warn)}}, Holds},
		{"only what isn't applicable", Report{Checks: []Result{result("WAT-1", NotApplicable)}}, NoVerdict},
		{"only what wasn't run", Report{Checks: []Result{result("WAT-1", NotRun)}}, NoVerdict},
		{"a failure", Report{Checks: []Result{result("WAT-1", Pass), result("WAT-2", Fail)}}, FallsShort},
		{"a harness error", Report{Checks: []Result{result("WAT-1", Pass), result("WAT-2", Harness)}}, NoVerdict},
		{"a failure and a harness error", Report{Checks: []Result{result("WAT-1", Fail), result("WAT-2", Harness)}}, FallsShort},
		{"a failed precondition", Report{Checks: []Result{result("WAT-1", Pass), precondition}}, NoVerdict},
		{"an interrupted run", Report{Problem: "interrupted", Checks: []Result{result("WAT-1", Pass)}}, NoVerdict},
	}
	for _, test := range tests {
		if code, why := test.report.Outcome(); code != test.code || why == "" {
			t.Errorf("%s: exit code %d (%s), want %d", test.name, code, why, test.code)
		}
	}
}

// TestStanding: a requirement's verdict is the gravest of its checks', and without any it never passes.
func TestStanding(t *testing.T) {
	r := Report{Checks: []Result{
		result("WAT-1", Pass), result("WAT-1", NotRun), result("WAT-2", Pass), result("WAT-2", Fail), result("WAT-3", NotApplicable),
		result("WAT-3", Pass),
	}}
	r.Judge(all)
	want := map[string]Verdict{"WAT-1": NotRun, "WAT-2": Fail, "WAT-3": Pass, "WAT-4": NotRun}
	for _, s := range r.Requirements {
		if v, ok := want[s.ID]; ok && s.Verdict != v {
			t.Errorf("%s: %s, want %s", s.ID, s.Verdict, v)
		}
		if s.ID == "WAT-4" && s.Message != "no check yet" {
			t.Errorf("a requirement without a check: %q", s.Message)
		}
	}
}

// TestForms: what comes from the wire can't break a report's form.
func TestForms(t *testing.T) {
	nasty := result("WAT-1", Fail)
	nasty.Message = "<script>alert(1)</script> ]]> \x00\x01\xff \"quoted\""
	nasty.Evidence = []wire.Event{{At: 0.5, Conn: 1, Dir: "<", Text: "<i>\x02"}}
	nasty.Repeat = []string{"curl 'http://x/<a>'"}
	r := Report{Schema: Schema, Target: "<img src=x>", Checks: []Result{nasty, result("ING-1", Pass)}}
	r.Judge(all)
	var page, junit, text bytes.Buffer
	if err := r.WriteHTML(&page); err != nil {
		t.Fatal(err)
	}
	for _, forbidden := range []string{"<script", "<img", "<i>"} {
		if strings.Contains(page.String(), forbidden) {
			t.Errorf("the page has %q", forbidden)
		}
	}
	if err := r.WriteJUnit(&junit); err != nil {
		t.Fatal(err)
	}
	var parsed struct {
		Failures int `xml:"failures,attr"`
		Skipped  int `xml:"skipped,attr"`
	}
	if err := xml.Unmarshal(junit.Bytes(), &parsed); err != nil || parsed.Failures != 1 || parsed.Skipped == 0 {
		t.Errorf("junit: %v, %+v", err, parsed)
	}
	if err := r.WriteSummary(&text); err != nil || !strings.Contains(text.String(), "FAIL  WAT-1") || !strings.Contains(text.String(), "exit code 1") {
		t.Errorf("%v: %s", err, text.String())
	}
}

// TestNoVerdictInJUnit: a run that is no verdict can't be green.
func TestNoVerdictInJUnit(t *testing.T) {
	r := Report{Problem: "the run was interrupted", Checks: []Result{result("WAT-1", Pass)}}
	var junit bytes.Buffer
	if err := r.WriteJUnit(&junit); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(junit.String(), `errors="1"`) || !strings.Contains(junit.String(), "interrupted") {
		t.Errorf("%s", junit.String())
	}
}
