package suite

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"tureen/conformance/reference"
	"tureen/conformance/report"
	"tureen/conformance/spec"
)

// TestReference judges the reference implementation. Every check has to pass; none may be left out. Where the machine is too
// busy for some, that is said; for many, it is a failure.
func TestReference(t *testing.T) {
	run := &Run{Target: reference.Start(t), Prefix: "conformance.", Seed: 1}
	results := run.RunSpecs(t.Context(), quiet{}, All(), io.Discard)
	unclear := 0
	for _, r := range results {
		told := fmt.Sprintf("%s: %s %s (%.1f s)\n%s%s", r.Verdict, r.Requirement, r.Check, r.Seconds, r.Message, evidence(r))
		switch r.Verdict {
		case report.Pass:
		case report.Harness:
			unclear++
			t.Log(told)
		default:
			t.Error(told)
		}
	}
	if unclear > len(results)/10 {
		t.Errorf("%d of %d checks gave no verdict: this machine is too busy", unclear, len(results))
	}
	if err := run.Target.Process.Crashed(); err != nil {
		t.Errorf("the reference ended: %v\n%s", err, run.Target.Process.Log())
	}
}

// quiet is for Ginkgo, which takes what has no verdict for a failure.
type quiet struct{}

func (quiet) Fail() {}

func evidence(r report.Result) string {
	var b strings.Builder
	for _, e := range r.Evidence {
		fmt.Fprintf(&b, "\n  %9.4f #%d %s %.400s", e.At, e.Conn, e.Dir, strings.ReplaceAll(e.Text, "\n", "\n      "))
	}
	return b.String()
}

var update = flag.Bool("update", false, "write COVERAGE.md anew")

// TestCoverage: every requirement has checks, is excluded, or says what is missing; and COVERAGE.md says the same.
func TestCoverage(t *testing.T) {
	checks := make(map[string]int)
	for _, c := range All() {
		checks[c.Requirement]++
	}
	var b strings.Builder
	b.WriteString(coverageHead)
	for _, r := range spec.All() {
		n := checks[r.ID]
		switch {
		case r.Excluded != "" && n > 0:
			t.Errorf("%s is excluded but has %d checks", r.ID, n)
		case r.Excluded == "" && n == 0 && len(r.Gaps) == 0:
			t.Errorf("%s has no check, no exclusion, and doesn't say what is missing", r.ID)
		}
		missing := strings.Join(r.Gaps, "; ")
		if r.Excluded != "" {
			missing = "excluded: " + r.Excluded
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %d | %s |\n", r.ID, r.Level, r.Feature, n, missing)
	}
	const path = "../COVERAGE.md"
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	written, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(written) != b.String() {
		t.Error("COVERAGE.md differs from the table and the checks: go test ./conformance/suite -run TestCoverage -update")
	}
}

const coverageHead = `# What is checked

Made from spec/requirements.yaml and the suite's checks; a test fails when it differs. A requirement without a check is reported
as "not run", never as a pass.

| requirement | level | feature | checks | not looked at yet |
|---|---|---|---|---|
`

// TestChecks: texts tell checks apart, and labels and levels are what filters go by.
func TestChecks(t *testing.T) {
	seen := make(map[string]bool)
	for _, c := range All() {
		if key := c.Requirement + c.Text; seen[key] {
			t.Errorf("two checks are %s: %s", c.Requirement, c.Text)
		} else {
			seen[key] = true
		}
		if strings.HasSuffix(c.Text, ".") || c.Limit <= 0 || !strings.Contains(c.Place, ".go:") {
			t.Errorf("%s %q: limit %v, place %s", c.Requirement, c.Text, c.Limit, c.Place)
		}
	}
}
