// Command tureen-loadgen measures a live streaming proxy from outside: it publishes a stamped clip in real time, lets
// many viewers join, and reports how late each frame came, what was lost, and what the server spent on it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"

	"tureen/loadgen/report"
)

const description = `Measures a live streaming proxy from outside.

It publishes a clip in real time by PUT, lets viewers GET it, and reports end-to-end latency (from the moment a frame was
due to be sent to the moment a viewer has read its last byte), lost frames, join times, and the CPU and memory of the
server's processes when they are on this machine.

Examples:
  tureen-loadgen --target http://127.0.0.1:8000
  tureen-loadgen --target http://127.0.0.1:8000 --viewers 1000 --ramp 5s --duration 1m --json run.json
  tureen-loadgen --target http://127.0.0.1:8000/live/any-path --input clip.webm --pid 4711
  tureen-loadgen --target https://127.0.0.1:8443 --http2 --insecure --churn 10s --html run.html
  tureen-loadgen --target http://127.0.0.1:8000 --publishers 4 --slo 'p99<75ms,lost==0,join_p99<20ms'
  tureen-loadgen find --target http://127.0.0.1:8000 --slo 'p99<20ms' --duration 10s
  tureen-loadgen compare http://127.0.0.1:8000 http://127.0.0.1:8001 --rounds 5
  tureen-loadgen diff old.json new.json
  tureen-loadgen publish --target http://127.0.0.1:8000/stream/demo
  tureen-loadgen list

Exit codes: 0 the target holds; 1 it falls short (of --slo; lost frames, refused viewers, a stream that broke); 2 no
verdict (bad flags, no target, a machine too busy to measure, interrupted).

The flags of a measurement are listed by: tureen-loadgen run --help`

type commands struct {
	Run     runCommand     `cmd:"" default:"withargs" help:"Measure a target (the default)."`
	Find    findCommand    `cmd:"" help:"Find the most viewers, or publishers, for which an SLO holds."`
	Compare compareCommand `cmd:"" help:"Do the same work on two targets in turn."`
	Diff    diffCommand    `cmd:"" help:"Hold a saved run against an earlier one."`
	Show    showCommand    `cmd:"" help:"Print saved results, and draw them on one page."`
	Publish publishCommand `cmd:"" help:"Publish an endless live stream and measure nothing."`
	Metrics metricsCommand `cmd:"" help:"List what an SLO can bound."`
	List    listCommand    `cmd:"" help:"List the inputs."`
}

// app is what commands work with.
type app struct {
	ctx    context.Context
	stdout io.Writer
	stderr io.Writer
}

// progress prints what is going on.
func (a *app) progress(format string, args ...any) { fmt.Fprintf(a.stderr, format+"\n", args...) }

// exitError ends the program with a code. What there is to say was said.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

func main() {
	// Threads that wait in the kernel must not wait for the runtime's permission to go on: the kernel alone shall decide
	// who runs on the few cores, or a garbage collection delays what is being measured.
	runtime.GOMAXPROCS(max(8, 2*runtime.NumCPU()))
	debug.SetGCPercent(400)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	os.Exit(run(&app{ctx: ctx, stdout: os.Stdout, stderr: os.Stderr}, os.Args[1:]))
}

// run runs the command line and returns the exit code.
func run(a *app, args []string) (code int) {
	var cli commands
	helped := false
	parser, err := kong.New(&cli, kong.Name("tureen-loadgen"), kong.Description(description), kong.Writers(a.stdout, a.stderr),
		kong.Exit(func(int) { helped = true }), kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 120}))
	if err != nil {
		fmt.Fprintln(a.stderr, "tureen-loadgen:", err)
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
	fmt.Fprintln(a.stderr, "tureen-loadgen:", err)
	return report.NoVerdict
}
