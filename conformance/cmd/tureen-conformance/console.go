package main

import (
	"fmt"
	"io"
	"os"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/sys/unix"

	"tureen/conformance/report"
)

// console shows how a run goes on: a bar on a terminal, and a line for each check that isn't as it should be anywhere.
type console struct {
	out io.Writer
	all *mpb.Progress
	bar *mpb.Bar
}

func newConsole(w io.Writer, checks int) *console {
	c := &console{out: w}
	if !isTerminal(w) {
		fmt.Fprintf(w, "running %d checks\n", checks)
		return c
	}
	c.all = mpb.New(mpb.WithOutput(w), mpb.WithWidth(60))
	c.bar = c.all.AddBar(int64(checks),
		mpb.PrependDecorators(decor.Name("checks "), decor.CountersNoUnit("%d/%d")),
		mpb.AppendDecorators(decor.Elapsed(decor.ET_STYLE_GO)), mpb.BarRemoveOnComplete())
	c.out = c.all
	return c
}

// isTerminal reports whether a person looks at it.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// done counts a check and names what went wrong.
func (c *console) done(r report.Result) {
	switch r.Verdict {
	case report.Fail, report.Warn, report.Harness:
		fmt.Fprintf(c.out, "%s  %s %s\n", r.Verdict, r.Requirement, r.Check)
	}
	if c.bar != nil {
		c.bar.Increment()
	}
}

func (c *console) close() {
	if c.all == nil {
		return
	}
	c.bar.SetTotal(-1, true) // interrupted runs don't fill it
	c.all.Wait()
}
