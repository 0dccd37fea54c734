// Package report holds verdicts: of checks, of requirements, of a whole run; and the forms in which they are published: JSON
// with a versioned schema, JUnit XML, one self-contained HTML page, a short text, and the difference of two runs.
//
// How a verdict is come by is left to package suite.
package report

import (
	"time"

	"tureen/conformance/spec"
	"tureen/conformance/target"
	"tureen/conformance/wire"
)

// Verdict is what became of a check or a requirement.
type Verdict string

// The verdicts.
const (
	Pass          Verdict = "pass"
	Fail          Verdict = "fail"
	Warn          Verdict = "warn"           // a SHOULD or MAY was missed
	NotApplicable Verdict = "not applicable" // of a feature that the target doesn't declare
	NotRun        Verdict = "not run"        // the message says why; never to be read as a pass
	Harness       Verdict = "harness error"  // the suite's own fault, or the machine's
)

// Result is what became of one check.
type Result struct {
	Requirement string     `json:"requirement"`
	Chapter     string     `json:"chapter"`
	Level       spec.Level `json:"level"`
	Feature     string     `json:"feature,omitempty"`
	Check       string     `json:"check"` // what it expects, in one line
	Verdict     Verdict    `json:"verdict"`
	Message     string     `json:"message,omitempty"` // what came instead, or why it wasn't run
	// Precondition is set where a check wasn't run because something that it builds on failed.
	Precondition bool         `json:"precondition,omitempty"`
	Seconds      float64      `json:"seconds"`
	Evidence     []wire.Event `json:"evidence,omitempty"`
	Repeat       []string     `json:"repeat,omitempty"` // curl lines
}

// Standing is what became of one requirement.
type Standing struct {
	spec.Requirement
	Verdict Verdict `json:"verdict"`
	Message string  `json:"message,omitempty"`
	Checks  int     `json:"checks"`
}

// Schema names the form of report.json. Its number rises when a reader of the form before would be misled.
const Schema = "tureen-conformance-report/1"

// Report is a whole run.
type Report struct {
	Schema       string          `json:"schema"`
	Suite        string          `json:"suite"` // its version
	Target       string          `json:"target"`
	Version      string          `json:"version,omitempty"` // what the target says of itself
	Features     target.Features `json:"features"`
	Times        target.Times    `json:"times"` // in nanoseconds
	Machine      string          `json:"machine"`
	Started      time.Time       `json:"started"`
	Seconds      float64         `json:"seconds"`
	Seed         int64           `json:"seed"`
	Selection    string          `json:"selection,omitempty"` // what was asked for, if not everything
	Problem      string          `json:"problem,omitempty"`   // why the run is no verdict
	Requirements []Standing      `json:"requirements"`
	Checks       []Result        `json:"checks"`
}

// weight orders verdicts: a requirement's is the heaviest of its checks'.
var weight = map[Verdict]int{NotApplicable: 1, Pass: 2, Warn: 3, NotRun: 4, Harness: 5, Fail: 6}

// Judge fills in the requirements' standings from the checks' results. Selected tells which requirements were asked for.
func (r *Report) Judge(selected func(spec.Requirement) bool) {
	r.Requirements = nil
	for _, requirement := range spec.All() {
		if selected(requirement) {
			r.Requirements = append(r.Requirements, r.standing(requirement))
		}
	}
}

func (r *Report) standing(requirement spec.Requirement) Standing {
	s := Standing{Requirement: requirement}
	for _, c := range r.Checks {
		if c.Requirement != requirement.ID {
			continue
		}
		s.Checks++
		if weight[c.Verdict] > weight[s.Verdict] {
			s.Verdict, s.Message = c.Verdict, c.Message
		}
	}
	switch {
	case s.Checks > 0:
	case requirement.Excluded != "":
		s.Verdict, s.Message = NotRun, "excluded: "+requirement.Excluded
	default:
		s.Verdict, s.Message = NotRun, "no check yet"
	}
	return s
}

// Count is the number of checks with a verdict.
func (r *Report) Count(v Verdict) int {
	n := 0
	for _, c := range r.Checks {
		if c.Verdict == v {
			n++
		}
	}
	return n
}

// Exit codes of the program.
const (
	Holds      = 0
	FallsShort = 1
	NoVerdict  = 2
)

// ExitCode tells what the run says of its target: that it holds, that it falls short, or nothing.
func (r *Report) ExitCode() int {
	code, _ := r.Outcome()
	return code
}

// Outcome is the exit code, and in a few words why.
func (r *Report) Outcome() (int, string) {
	switch {
	case r.Problem != "":
		return NoVerdict, r.Problem
	case r.Count(Fail) > 0:
		return FallsShort, "the target falls short of the specification"
	case r.Count(Harness) > 0:
		return NoVerdict, "the suite or its machine failed"
	case r.preconditions() > 0:
		return NoVerdict, "checks couldn't be run, because what they build on failed"
	case r.Count(Pass) == 0:
		return NoVerdict, "nothing was checked"
	}
	return Holds, "the target holds, as far as was checked"
}

func (r *Report) preconditions() int {
	n := 0
	for _, c := range r.Checks {
		if c.Precondition {
			n++
		}
	}
	return n
}
