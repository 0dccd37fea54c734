package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"tureen/loadgen/compare"
	"tureen/loadgen/page"
	"tureen/loadgen/report"
)

type diffCommand struct {
	Old   string  `arg:"" type:"path" help:"JSON report of the earlier run."`
	New   string  `arg:"" type:"path" help:"JSON report of the later one."`
	Worse float64 `default:"0.2" placeholder:"SHARE" help:"By what share of the old a figure may be worse (${default}: a fifth)."`
}

// Help is what --help says besides.
func (c *diffCommand) Help() string {
	return `Holds a run against an earlier one of the same work. A figure is worse when it has risen by more than --worse, and by more
than 0.5 ms, 1 MiB (16 KiB for a viewer), 1 % of a core, 1 of fairness or, of counts, nothing.

Exit codes: 0 nothing is worse; 1 something is; 2 the reports can't be held against each other.

Example:
  tureen-loadgen diff yesterday.json today.json --worse 0.1`
}

// Validate refuses a share that is none.
func (c *diffCommand) Validate() error {
	if c.Worse < 0 {
		return errors.New("--worse: not below 0")
	}
	return nil
}

// Run prints how each figure went.
func (c *diffCommand) Run(a *app) error {
	var reports [2]*report.Report
	for i, name := range []string{c.Old, c.New} {
		data, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("reading report: %w", err)
		}
		if reports[i], err = report.Read(data); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	changes, err := compare.Diff(reports[0], reports[1], c.Worse)
	if err != nil {
		return err
	}
	if err := compare.WriteChanges(a.stdout, changes); err != nil {
		return err
	}
	if compare.Worse(changes) {
		return exitError(report.FallsShort)
	}
	return nil
}

type showCommand struct {
	Files []string `arg:"" type:"path" help:"JSON of runs and comparisons."`
	HTML  string   `name:"html" type:"path" placeholder:"FILE" help:"Write them as one web page."`
	Title string   `default:"tureen-loadgen" help:"The page's heading."`
}

// Help is what --help says besides.
func (c *showCommand) Help() string {
	return `Prints the tables of results that were saved with --json, and draws them all on one page.

Example:
  tureen-loadgen show passthrough.json transcoding.json --html both.html`
}

// Run prints the tables and writes the page. Its exit code says nothing of the verdicts.
func (c *showCommand) Run(a *app) error {
	var runs []*report.Report
	var comparisons []*compare.Comparison
	for _, name := range c.Files {
		data, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("reading result: %w", err)
		}
		var head struct{ Schema string }
		if err := json.Unmarshal(data, &head); err != nil {
			return fmt.Errorf("%s: %w: %w", name, report.ErrReport, err)
		}
		table := func(io.Writer) error { return nil }
		switch head.Schema {
		case compare.Schema:
			var one *compare.Comparison
			if one, err = compare.Read(data); err == nil {
				comparisons, table = append(comparisons, one), one.WriteTable
			}
		default:
			var one *report.Report
			if one, err = report.Read(data); err == nil {
				runs, table = append(runs, one), one.WriteTable
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := table(a.stdout); err != nil {
			return err
		}
		fmt.Fprintln(a.stdout)
	}
	return writeFile(c.HTML, func(w io.Writer) error { return page.Write(w, c.Title, runs, comparisons) })
}

type metricsCommand struct{}

// Run lists what an SLO can bound.
func (metricsCommand) Run(a *app) error {
	fmt.Fprintf(a.stdout, "What --slo can bound, by < <= == != >= >; counts of frames in per cent, too:\n\n%s", report.Metrics())
	return nil
}
