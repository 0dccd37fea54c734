// Command tureen-conformance judges any implementation of a live transcoding proxy by its specification, from outside.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"tureen/conformance/report"
	"tureen/conformance/spec"
)

const description = `Judges a live transcoding proxy by its specification (SPEC.md), from outside.

The target runs already (--target) or is started by the suite (--exec, which can check more). Publishers and viewers are
the suite's own, with session ids of their own; a run leaves nothing behind.

Examples:
  tureen-conformance --target http://127.0.0.1:8000
  tureen-conformance --exec 'tureen --listen {addr} --idle 4s --grace 2s --budget 1s --drain 3s' --report-dir out
  tureen-conformance --exec 'other -l {addr}' --times idle=5s,grace=3s --features pacing,resume
  tureen-conformance --target http://127.0.0.1:8000 --requirement WAT-3,ING --report-dir out
  tureen-conformance --list
  tureen-conformance diff before/report.json after/report.json

Exit codes: 0 the target holds, as far as was checked; 1 it falls short; 2 the run is no verdict (bad flags, a target that
doesn't answer, nothing checked, a machine too busy, interrupted).

The flags of a run are listed by: tureen-conformance run --help`

type commands struct {
	Run  runCommand  `cmd:"" default:"withargs" help:"Judge a target (the default)."`
	Diff diffCommand `cmd:"" help:"Compare two runs, requirement by requirement."`
}

// app is what commands work with.
type app struct {
	ctx    context.Context
	stdout io.Writer
	stderr io.Writer
}

// exitError ends the program with a code. What there is to say was said.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(&app{ctx: ctx, stdout: os.Stdout, stderr: os.Stderr}, os.Args[1:]))
}

// run runs the command line and returns the exit code.
func run(a *app, args []string) int {
	var cli commands
	helped := false
	parser, err := kong.New(&cli, kong.Name("tureen-conformance"), kong.Description(description), kong.Writers(a.stdout, a.stderr),
		kong.Exit(func(int) { helped = true }), kong.Vars{"chapters": strings.Join(spec.Chapters, ", ")},
		kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 120}))
	if err != nil {
		fmt.Fprintln(a.stderr, "tureen-conformance:", err)
		return report.NoVerdict
	}
	command, err := parser.Parse(args)
	if helped {
		return report.Holds
	}
	if err == nil {
		err = command.Run(a)
	}
	var exit exitError
	switch {
	case err == nil:
		return report.Holds
	case errors.As(err, &exit):
		return int(exit)
	}
	fmt.Fprintln(a.stderr, "tureen-conformance:", err)
	return report.NoVerdict
}

// diffCommand compares two reports.
type diffCommand struct {
	Before string `arg:"" help:"A run's report.json." type:"existingfile"`
	After  string `arg:"" help:"Another's." type:"existingfile"`
}

// Run prints the requirements whose verdicts differ. Its exit code is 1 when there are any.
func (d *diffCommand) Run(a *app) error {
	before, err := report.ReadJSON(d.Before)
	if err != nil {
		return err
	}
	after, err := report.ReadJSON(d.After)
	if err != nil {
		return err
	}
	differing, err := report.WriteDiff(a.stdout, before, after)
	if err == nil && differing > 0 {
		err = exitError(report.FallsShort)
	}
	return err
}
