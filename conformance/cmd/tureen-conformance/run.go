package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"tureen/conformance/report"
	"tureen/conformance/spec"
	"tureen/conformance/suite"
	"tureen/conformance/target"
)

// runCommand judges a target.
type runCommand struct {
	Target      string `help:"Judge the implementation that answers at this URL." placeholder:"URL" xor:"target"`
	Exec        string `help:"Start this command, in which {addr} stands for the address to listen on, and stop it at the end. It is started again where a check has to stop it." placeholder:"COMMAND" xor:"target"`
	TokenTarget string `help:"With --target: the same implementation in the mode in which sessions need tokens; this machine has to be its token server. Otherwise what needs it isn't run." placeholder:"URL"`
	TokenExec   string `help:"With --exec: the command that starts it in that mode; otherwise --exec's with --token-server=127.0.0.1/32 added." placeholder:"COMMAND"`
	SmallExec   string `help:"A command that starts it so that it takes one publisher and two viewers at most (SRV-4)." placeholder:"COMMAND"`

	Features    string   `help:"The optional features it has, with commas; none or all. Otherwise what it tells itself (API-9) counts; where it tells nothing, checks of optional features only probe." placeholder:"LIST"`
	Times       string   `help:"Its times where they aren't the defaults and it doesn't tell them: idle=10s,grace=10s,budget=3s,drain=5s." placeholder:"LIST"`
	Requirement []string `help:"Only these requirements, by their numbers or the letters before them." placeholder:"ID,…"`
	Chapter     []string `help:"Only these chapters: ${chapters}." placeholder:"NAME,…"`
	Parallel    int      `default:"32" help:"How many checks run at once (${default}); they mostly wait."`
	Seed        int64    `help:"Seed of what is random, to repeat a run; 0 takes one by chance."`
	ReportDir   string   `help:"Write report.html, report.json and junit.xml into this folder." type:"path" placeholder:"DIR"`
	List        bool     `help:"List the checks that would be run, and the requirements without one; run nothing."`
	Ginkgo      bool     `help:"Show Ginkgo's own output too."`
}

// Run judges and reports.
func (c *runCommand) Run(a *app) error {
	selected, err := c.selection()
	if err != nil {
		return err
	}
	checks := slices.DeleteFunc(slices.Clone(suite.All()), func(k *suite.Check) bool {
		r, _ := spec.Find(k.Requirement)
		return !selected(r)
	})
	if c.List {
		return list(a.stdout, checks, selected)
	}
	if len(checks) == 0 {
		return errors.New("the requirements that were asked for have no checks yet: nothing was checked")
	}
	t, err := c.open(a.ctx)
	if err != nil {
		return err
	}
	r := c.judge(a, t, checks)
	c.conclude(a.ctx, t, r)
	r.Judge(selected)
	if err := r.WriteSummary(a.stdout); err != nil {
		return err
	}
	if c.ReportDir != "" {
		if err := c.write(r, t); err != nil {
			return err
		}
		fmt.Fprintf(a.stdout, "report: %s\n", filepath.Join(c.ReportDir, "report.html"))
	}
	if code := r.ExitCode(); code != report.Holds {
		return exitError(code)
	}
	return nil
}

// selection tells which requirements were asked for.
func (c *runCommand) selection() (func(spec.Requirement) bool, error) {
	for _, chapter := range c.Chapter {
		if !slices.Contains(spec.Chapters, chapter) {
			return nil, fmt.Errorf("there is no chapter %q: they are %s", chapter, strings.Join(spec.Chapters, ", "))
		}
	}
	named := func(r spec.Requirement, want string) bool {
		letters, _, _ := strings.Cut(r.ID, "-")
		return strings.EqualFold(r.ID, want) || strings.EqualFold(letters, want)
	}
	for _, want := range c.Requirement {
		if !slices.ContainsFunc(spec.All(), func(r spec.Requirement) bool { return named(r, want) }) {
			return nil, fmt.Errorf("there is no requirement %q; --list has all", want)
		}
	}
	return func(r spec.Requirement) bool {
		byChapter := len(c.Chapter) == 0 || slices.Contains(c.Chapter, r.Chapter)
		byName := len(c.Requirement) == 0 || slices.ContainsFunc(c.Requirement, func(want string) bool { return named(r, want) })
		return byChapter && byName
	}, nil
}

// list prints the checks.
func list(w io.Writer, checks []*suite.Check, selected func(spec.Requirement) bool) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range spec.All() {
		if !selected(r) {
			continue
		}
		any := false
		for _, c := range checks {
			if c.Requirement == r.ID {
				any = true
				fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", c.Requirement, c.Level, c.Feature, c.Text)
			}
		}
		switch {
		case r.Excluded != "":
			fmt.Fprintf(table, "%s\t%s\t%s\t- excluded: %s\n", r.ID, r.Level, r.Feature, r.Excluded)
		case !any:
			fmt.Fprintf(table, "%s\t%s\t%s\t- no check yet\n", r.ID, r.Level, r.Feature)
		}
	}
	return table.Flush()
}

// open reaches or starts the target.
func (c *runCommand) open(ctx context.Context) (*target.Target, error) {
	t := &target.Target{Times: target.DefaultTimes}
	switch {
	case c.Target != "":
		var err error
		if t.Base, err = target.ParseURL(c.Target); err != nil {
			return nil, err
		}
		if c.TokenTarget != "" {
			if t.Token, err = target.ParseURL(c.TokenTarget); err != nil {
				return nil, err
			}
		}
		t.Name = c.Target
	case c.Exec != "":
		t.Name = c.Exec
	default:
		return nil, errors.New("what is to be judged? Give --target URL or --exec COMMAND; --help has examples")
	}
	given, err := c.declared(t)
	if err != nil {
		return nil, err
	}
	if c.Exec != "" {
		t.Start = func(ctx context.Context) (*target.Process, error) { return target.StartProcess(ctx, c.Exec) }
		if t.Process, err = t.Start(ctx); err != nil {
			return nil, err
		}
		t.Base = t.Process.Base
	}
	if c.SmallExec != "" {
		t.StartSmall = func(ctx context.Context) (*target.Process, error) { return target.StartProcess(ctx, c.SmallExec) }
	}
	err = t.Alive(ctx)
	if err == nil {
		err = t.Describe(ctx)
	}
	if err != nil {
		c.close(t)
		return nil, err
	}
	given(t)
	if err := c.openTokens(ctx, t); err != nil {
		c.close(t)
		return nil, err
	}
	return t, nil
}

// openTokens starts the target in its other mode too, where it has one.
func (c *runCommand) openTokens(ctx context.Context, t *target.Target) error {
	if c.Exec == "" || c.TokenExec == "" && t.Features.Known && !t.Features.Has("token-server") {
		return nil
	}
	command := c.TokenExec
	if command == "" {
		command = c.Exec + " --token-server=127.0.0.1/32"
	}
	p, err := target.StartProcess(ctx, command)
	if err != nil && c.TokenExec == "" && !t.Features.Known {
		return nil // it never said that it could
	}
	if err != nil {
		return fmt.Errorf("with a token server: %w", err)
	}
	t.TokenProcess, t.Token = p, p.Base
	return nil
}

// declared reads what was said of the target, which goes before what it says of itself.
func (c *runCommand) declared(t *target.Target) (func(*target.Target), error) {
	if _, err := t.Times.ParseTimes("idle=1s"); err != nil {
		return nil, err
	}
	if c.Times != "" {
		if _, err := t.Times.ParseTimes(c.Times); err != nil {
			return nil, fmt.Errorf("--times: %w", err)
		}
	}
	features := target.Features{}
	if c.Features != "" {
		var err error
		if features, err = target.ParseFeatures(c.Features); err != nil {
			return nil, fmt.Errorf("--features: %w", err)
		}
	}
	return func(t *target.Target) {
		if c.Times != "" {
			t.Times, _ = t.Times.ParseTimes(c.Times) // it was read above
		}
		if c.Features != "" {
			t.Features = features
		}
	}, nil
}

// close stops a target that was started.
func (c *runCommand) close(t *target.Target) {
	for _, p := range []*target.Process{t.Process, t.TokenProcess} {
		if p != nil {
			p.Stop(t.Times.Drain + 2*time.Second)
		}
	}
}

// judge runs the checks.
func (c *runCommand) judge(a *app, t *target.Target, checks []*suite.Check) *report.Report {
	if c.Seed == 0 {
		c.Seed = rand.Int64N(1 << 31)
	}
	host, _ := os.Hostname()
	r := &report.Report{
		Schema: report.Schema, Suite: version(), Target: t.Name, Version: t.Version, Features: t.Features, Times: t.Times,
		Machine: fmt.Sprintf("%s, %s/%s, %d CPUs", host, runtime.GOOS, runtime.GOARCH, runtime.NumCPU()),
		Started: time.Now(), Seed: c.Seed, Selection: strings.Join(append(slices.Clone(c.Requirement), c.Chapter...), ", "),
	}
	live := newConsole(a.stderr, len(checks))
	run := &suite.Run{Target: t, Prefix: "conformance.", Lanes: suite.NewLanes(c.Parallel), Seed: c.Seed, Done: live.done}
	out := io.Discard
	if c.Ginkgo {
		out = a.stdout
	}
	r.Checks = run.RunSpecs(a.ctx, failer{}, checks, out)
	live.close()
	r.Seconds = time.Since(r.Started).Seconds()
	return r
}

// failer is for Ginkgo, whose opinion of a run the report's outcome makes up for.
type failer struct{}

func (failer) Fail() {}

// conclude looks at how the target stands after the checks, and stops it.
func (c *runCommand) conclude(ctx context.Context, t *target.Target, r *report.Report) {
	for _, p := range []*target.Process{t.Process, t.TokenProcess} {
		if p == nil {
			continue
		}
		if err := p.Crashed(); err != nil {
			r.Checks = append(r.Checks, crashed(err, p.Log()))
		}
	}
	switch {
	case ctx.Err() != nil:
		r.Problem = "the run was interrupted"
	case t.Process == nil || t.Process.Crashed() == nil:
		if err := t.Alive(ctx); err != nil {
			r.Problem = "after the checks " + err.Error()
		}
	}
	c.close(t)
}

// crashed is the failure of a target whose process ended by itself: some request did that (SRV-1).
func crashed(err error, log string) report.Result {
	r, _ := spec.Find("SRV-1")
	if len(log) > 4000 {
		log = "…" + log[len(log)-4000:]
	}
	return report.Result{
		Requirement: r.ID, Chapter: r.Chapter, Level: r.Level, Check: "the process outlives the checks", Verdict: report.Fail,
		Message: fmt.Sprintf("the process ended while it was being checked: %v\n%s", err, log),
	}
}

// write writes the report's files, and what a process of the suite's has said.
func (c *runCommand) write(r *report.Report, t *target.Target) error {
	if err := r.WriteFiles(c.ReportDir); err != nil {
		return err
	}
	if t.Process == nil {
		return nil
	}
	if err := os.WriteFile(filepath.Join(c.ReportDir, "target.log"), []byte(t.Process.Log()), 0o644); err != nil {
		return fmt.Errorf("writing the target's log: %w", err)
	}
	return nil
}

// version is the suite's, as it was built.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	revision := ""
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			revision = " " + s.Value[:min(12, len(s.Value))]
		}
	}
	return "tureen-conformance " + info.Main.Version + revision
}
