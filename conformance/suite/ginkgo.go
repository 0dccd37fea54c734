package suite

import (
	"context"
	"fmt"
	"io"
	"time"

	. "github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/formatter"

	"tureen/conformance/report"
	"tureen/conformance/spec"
)

// patience is what a spec may take beyond its check's own limit.
const patience = 10 * time.Second

// RunSpecs runs checks as Ginkgo specs and returns all results in the checks' order. Ginkgo writes to out in its own manner,
// and marks t as failed for failures and harness errors. It can be run once in a process.
func (r *Run) RunSpecs(ctx context.Context, t GinkgoTestingT, checks []*Check, out io.Writer) []report.Result {
	jobs := r.Start(ctx, checks)
	// One container around all: Ginkgo shuffles outer ones, and a spec's time counts from when the one before it is done.
	Describe("conformance", func() {
		for _, chapter := range spec.Chapters {
			describe(chapter, jobs)
		}
	})
	config, reporter := GinkgoConfiguration()
	config.RandomSeed = r.Seed
	reporter.NoColor, reporter.Succinct = true, true
	formatter.ColorableStdOut = out
	RunSpecs(t, "conformance", config, reporter)
	results := make([]report.Result, len(jobs))
	for i, j := range jobs {
		results[i] = j.Result() // those too that Ginkgo left out when it was interrupted
	}
	return results
}

// describe declares a chapter's checks as specs.
func describe(chapter string, jobs []*Job) {
	Describe(chapter, Label(chapter), func() {
		for _, j := range jobs {
			c := j.Check
			if c.Chapter != chapter {
				continue
			}
			It(c.Requirement+": "+c.Text, c.labels(), SpecTimeout(c.Limit+patience), func(SpecContext) { tell(j.Result()) })
		}
	})
}

// labels are what Ginkgo's filters go by.
func (c *Check) labels() Labels {
	labels := Label(c.Requirement, string(c.Level))
	if c.Feature != "" {
		labels = append(labels, "feature:"+c.Feature)
	}
	return labels
}

// tell gives a result to Ginkgo, which knows fewer verdicts.
func tell(result report.Result) {
	switch result.Verdict {
	case report.Pass, report.Warn:
		AddReportEntry(string(result.Verdict), result.Message, ReportEntryVisibilityNever)
	case report.Fail, report.Harness:
		Fail(fmt.Sprintf("%s: %s", result.Verdict, result.Message))
	default:
		Skip(fmt.Sprintf("%s: %s", result.Verdict, result.Message))
	}
}
