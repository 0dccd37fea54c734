package report

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"tureen/loadgen/measure"
)

// Exit codes of the program, and of a verdict.
const (
	Holds      = 0
	FallsShort = 1
	NoVerdict  = 2
)

// MaxNoise is the 99th percentile of the noise floor above which a machine can't measure.
const MaxNoise = 25 * time.Millisecond

// minTranscoded is the share of the pictures that must survive being transcoded.
const minTranscoded = 0.95

// Verdict is what a report comes to.
type Verdict struct {
	Exit    int      `json:"exit"`
	Result  string   `json:"result"` // "holds", "falls short" or "no verdict"
	Reasons []string `json:"reasons"`

	SLO []Checked `json:"slo,omitempty"` // each condition of --slo
}

// Judge sets the verdict. What makes a run worthless goes before what the target did in it: among that is a noise floor
// above maxNoise, which is MaxNoise except in tests. What an SLO names is judged by it, everything else as without one.
func (r *Report) Judge(maxNoise time.Duration, slo SLO) {
	r.Verdict = Verdict{Exit: Holds, Result: "holds", Reasons: []string{}}
	unknown, missed := r.check(slo)
	if worthless := append(r.worthless(maxNoise), unknown...); len(worthless) > 0 {
		r.Verdict.Exit, r.Verdict.Result, r.Verdict.Reasons = NoVerdict, "no verdict", worthless
		return
	}
	if faults := append(missed, r.faults(slo)...); len(faults) > 0 {
		r.Verdict.Exit, r.Verdict.Result, r.Verdict.Reasons = FallsShort, "falls short", faults
	}
}

// check holds the objectives against the report and lists those that can't be judged and those that are missed.
func (r *Report) check(slo SLO) (unknown, missed []string) {
	for _, c := range slo {
		result, known := c.check(r)
		r.Verdict.SLO = append(r.Verdict.SLO, result)
		switch {
		case !known:
			unknown = append(unknown, fmt.Sprintf("%s: not measured", c.Text))
		case !result.Holds:
			missed = append(missed, fmt.Sprintf("%s: measured %s", c.Text, result.Measured))
		}
	}
	return unknown, missed
}

// worthless lists why the run says nothing about the target.
func (r *Report) worthless(maxNoise time.Duration) []string {
	var why []string
	if p99 := r.Noise.Before.Quantile99(); p99 > maxNoise {
		why = append(why, fmt.Sprintf("machine too busy: noise floor %v at p99, above %v", p99, maxNoise))
	}
	if p99 := r.Publisher.Lag.Quantile99(); p99 > maxNoise {
		why = append(why, fmt.Sprintf("machine too busy: the publisher wrote %v late at p99, above %v", p99, maxNoise))
	}
	if r.Cut {
		why = append(why, "interrupted")
	}
	if len(why) == 0 && r.untold() {
		why = append(why, "nothing measured: no frame that arrived could be told to be one of the publisher's; "+
			"the target transcodes, and the input's pictures bear no stamp")
	}
	if len(why) == 0 && !r.Measured() && len(r.faults(nil)) == 0 {
		why = append(why, "nothing measured: no frame was due while a viewer watched")
	}
	return why
}

// untold tells whether pictures came but none was identified.
func (r *Report) untold() bool { return !r.Measured() && r.Unidentified > 0 }

// faults lists in what the target falls short, besides what the objectives are about.
func (r *Report) faults(slo SLO) []string {
	var faults []string
	add := func(n int, format string) {
		if n > 0 {
			faults = append(faults, fmt.Sprintf(format, n))
		}
	}
	if r.Publisher.Error != "" {
		faults = append(faults, "publishing broke: "+r.Publisher.Error)
	}
	refused := r.Viewers.Refused
	if slo.Names("refused") {
		refused = nil
	}
	for _, status := range slices.Sorted(maps.Keys(refused)) {
		faults = append(faults, fmt.Sprintf("%d viewers refused with %d", r.Viewers.Refused[status], status))
	}
	if !slo.Names("failed") {
		add(r.Viewers.Unreached, "%d viewers failed to connect")
		add(r.Viewers.Unanswered, "%d viewers got no answer")
		add(r.Viewers.Silent, "%d viewers got no frame to begin with")
		add(r.Viewers.Finished, "%d viewers' bodies ended before the stream did")
		add(r.Viewers.Broken, "%d viewers' bodies broke off")
		add(r.Viewers.Unreadable, "%d viewers' bodies were unreadable")
	}
	for _, kind := range slices.Sorted(maps.Keys(r.Tracks)) {
		faults = append(faults, trackFaults(kind, r.Tracks[kind], slo)...)
	}
	add(int(r.Discontinuities), "timestamps and pictures part %d times")
	return faults
}

func trackFaults(kind string, t *measure.Track, slo SLO) []string {
	var faults []string
	add := func(n int64, format string) {
		if n > 0 {
			faults = append(faults, fmt.Sprintf(format, n, kind))
		}
	}
	allowed := int64(0)
	if kind == "video" && t.Mode == measure.Transcoded {
		allowed = t.Expected - int64(float64(t.Expected)*minTranscoded)
	}
	if t.Lost > allowed && !slo.Names("lost") {
		faults = append(faults, fmt.Sprintf("%d of %d %s frames lost", t.Lost, t.Expected, kind))
	}
	if !slo.Names("duplicated") {
		add(t.Duplicated, "%d %s frames came twice")
	}
	add(t.Disordered, "%d %s frames came out of order")
	add(t.Unmatched, "%d %s frames match none of the publisher's")
	add(t.Altered, "%d %s frames were altered")
	return faults
}
