package report

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"tureen/conformance/spec"
)

// WriteSummary writes what a person at a console wants to know: what isn't as it should be, the chapters, the outcome.
func (r *Report) WriteSummary(w io.Writer) error {
	for _, c := range r.Checks {
		if c.Verdict == Pass || c.Verdict == NotApplicable || c.Verdict == NotRun && !c.Precondition {
			continue
		}
		fmt.Fprintf(w, "\n%s  %s %s\n    %s\n", strings.ToUpper(string(c.Verdict)), c.Requirement, c.Check,
			strings.ReplaceAll(c.Message, "\n", "\n    "))
		for _, line := range c.Repeat {
			fmt.Fprintf(w, "    repeat: %s\n", line)
		}
	}
	r.writeGaps(w)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	verdicts := []Verdict{Pass, Fail, Warn, NotApplicable, NotRun, Harness}
	fmt.Fprintf(table, "\nchecks")
	for _, v := range verdicts {
		fmt.Fprintf(table, "\t%s", v)
	}
	fmt.Fprintln(table)
	for _, chapter := range spec.Chapters {
		counts := make(map[Verdict]int)
		any := false
		for _, c := range r.Checks {
			if c.Chapter == chapter {
				counts[c.Verdict]++
				any = true
			}
		}
		if !any {
			continue
		}
		fmt.Fprint(table, chapter)
		for _, v := range verdicts {
			fmt.Fprintf(table, "\t%d", counts[v])
		}
		fmt.Fprintln(table)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	code, why := r.Outcome()
	_, err := fmt.Fprintf(w, "\n%s: %s; %d of %d requirements were checked, in %.0f s (exit code %d)\n",
		r.Target, why, r.checked(), len(r.Requirements), r.Seconds, code)
	return err
}

// writeGaps lists the requirements about which the run says nothing, by reason.
func (r *Report) writeGaps(w io.Writer) {
	reasons := []string{}
	by := make(map[string][]string)
	for _, s := range r.Requirements {
		if s.Verdict != NotRun && s.Verdict != NotApplicable {
			continue
		}
		message, _, _ := strings.Cut(s.Message, "\n")
		reason, _, _ := strings.Cut(string(s.Verdict)+": "+message, ";")
		if by[reason] == nil {
			reasons = append(reasons, reason)
		}
		by[reason] = append(by[reason], s.ID)
	}
	if len(reasons) > 0 {
		fmt.Fprintln(w)
	}
	for _, reason := range reasons {
		fmt.Fprintf(w, "%s\n    %s\n", reason, strings.Join(by[reason], " "))
	}
}

// checked is the number of requirements that have a verdict of their own.
func (r *Report) checked() int {
	n := 0
	for _, s := range r.Requirements {
		if s.Verdict == Pass || s.Verdict == Fail || s.Verdict == Warn {
			n++
		}
	}
	return n
}

// WriteDiff writes two runs side by side, by requirement: those whose verdicts differ. It returns how many those are.
func WriteDiff(w io.Writer, a, b *Report) (int, error) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "requirement\t%s\t%s\n", a.title(), b.title())
	differing := 0
	for _, requirement := range spec.All() {
		va, ma := a.of(requirement.ID)
		vb, mb := b.of(requirement.ID)
		if va == vb {
			continue
		}
		differing++
		fmt.Fprintf(table, "%s\t%s\t%s\n", requirement.ID, va, vb)
		for _, m := range []string{ma, mb} {
			if line, _, _ := strings.Cut(m, "\n"); line != "" {
				fmt.Fprintf(table, "\t\t\t%.140s\n", line)
			}
		}
	}
	if err := table.Flush(); err != nil {
		return differing, err
	}
	_, err := fmt.Fprintf(w, "%d of %d requirements differ\n", differing, len(spec.All()))
	return differing, err
}

func (r *Report) title() string { return strings.TrimSpace(r.Target + " " + r.Version) }

// of is what became of a requirement; one that the run wasn't asked for is told as that.
func (r *Report) of(id string) (Verdict, string) {
	for _, s := range r.Requirements {
		if s.ID == id {
			return s.Verdict, s.Message
		}
	}
	return "not asked for", ""
}
