package compare

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"tureen/loadgen/report"
)

// ErrUnlike is wrapped by Diff's error for reports of different work.
var ErrUnlike = errors.New("reports can't be held against each other")

// Change is how one metric went from an old report to a new one, in its base unit.
type Change struct {
	Metric   string
	Old, New float64
	Worse    bool // past what is allowed
}

// Diff holds a new report against an old one of the same work. A figure is worse when it has risen by more than the
// allowed share of the old one, and by more than what is noise at any size (see report.Floor).
func Diff(old, new *report.Report, allowed float64) ([]Change, error) {
	if err := alike(old, new); err != nil {
		return nil, err
	}
	var changes []Change
	for _, metric := range compared {
		was, okOld := old.Value(metric)
		is, okNew := new.Value(metric)
		if !okOld || !okNew {
			continue
		}
		worse := is > was*(1+allowed) && is-was > report.Floor(metric)
		changes = append(changes, Change{metric, was, is, worse})
	}
	return changes, nil
}

// alike refuses reports that have no verdict or are of different work.
func alike(old, new *report.Report) error {
	for name, r := range map[string]*report.Report{"old": old, "new": new} {
		if r.Verdict.Exit == report.NoVerdict {
			return fmt.Errorf("%w: the %s one has no verdict: %s", ErrUnlike, name, strings.Join(r.Verdict.Reasons, "; "))
		}
	}
	a, b := old.Settings, new.Settings
	for _, s := range []struct {
		name     string
		old, new any
	}{
		{"input", a.Input, b.Input},
		{"number of viewers", a.Viewers, b.Viewers},
		{"number of slow viewers", a.Slow, b.Slow},
		{"number of publishers", a.Publishers, b.Publishers},
		{"ramp", a.Ramp, b.Ramp},
		{"churn", a.Churn, b.Churn},
		{"bound of lateness", a.Late, b.Late},
		{"protocol", a.Protocol, b.Protocol},
	} {
		if s.old != s.new {
			return fmt.Errorf("%w: the %s was %v and is %v", ErrUnlike, s.name, s.old, s.new)
		}
	}
	return nil
}

// Worse tells whether any change is for the worse.
func Worse(changes []Change) bool {
	for _, c := range changes {
		if c.Worse {
			return true
		}
	}
	return false
}

// WriteChanges writes changes for people.
func WriteChanges(w io.Writer, changes []Change) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "metric\told\tnew\tchange\t")
	for _, c := range changes {
		change, mark := "–", ""
		if c.Old > 0 {
			change = fmt.Sprintf("%+.1f %%", 100*(c.New/c.Old-1))
		}
		if c.Worse {
			mark = "worse"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", c.Metric, report.Words(c.Metric, c.Old), report.Words(c.Metric, c.New), change, mark)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("writing changes: %w", err)
	}
	return nil
}
