package suite

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/onsi/gomega"

	"tureen/conformance/report"
	"tureen/conformance/spec"
	"tureen/conformance/target"
	"tureen/conformance/wire"
)

// Trial is one run of a check against a target. Its methods belong to the check's goroutine.
type Trial struct {
	// Gomega asserts what the requirement demands: a failure is the target's.
	gomega.Gomega
	// Given asserts what the check builds on: a failure means that it wasn't run.
	Given gomega.Gomega

	Target *target.Target
	Times  target.Times
	Script *wire.Transcript
	Rand   *rand.Rand

	ctx     context.Context
	check   *Check
	run     *Run
	number  int // of attempts
	ids     int
	began   time.Time
	waited  time.Duration // tasks of this machine for a processor, when the check began
	pressed bool          // waited is known
	cleanup []func()
	conns   connections
}

// connections are those of a trial that are open.
type connections struct {
	mu  sync.Mutex
	all []*wire.Conn
}

// outcome ends a check early; it is thrown as a panic and caught in conduct.
type outcome struct {
	verdict      report.Verdict
	message      string
	precondition bool
	overloaded   bool
}

// attempts is how often a check is tried that the machine is too busy for. One that fails on a machine where hardly a task gets
// its turn at once has failed when all attempts have.
const attempts = 3

// starved is a share of time in which tasks wait for a processor that makes even a reader of 30 pictures a second miss some.
const starved = 0.9

// conduct runs a check and returns what became of it.
func (r *Run) conduct(ctx context.Context, c *Check) report.Result {
	for i := 1; ; i++ {
		result, inDoubt := r.attempt(ctx, c, i)
		if !inDoubt || i == attempts || ctx.Err() != nil {
			r.temper(c, &result)
			return result
		}
	}
}

// attempt runs a check once, and tells too whether another attempt may come to something else.
func (r *Run) attempt(ctx context.Context, c *Check, number int) (result report.Result, inDoubt bool) {
	ctx, cancel := context.WithTimeout(ctx, c.Limit)
	defer cancel()
	t := &Trial{
		Target: r.Target, Times: r.Target.Times, Script: wire.NewTranscript(), ctx: ctx, check: c, run: r, number: number, began: time.Now(),
		Rand: rand.New(rand.NewPCG(uint64(r.Seed), uint64(len(c.Text)))),
	}
	t.Script.Agent = fmt.Sprintf("tureen-conformance (%s%s.%d)", r.Prefix, strings.ToLower(c.Requirement), c.Number) // a line in the target's log tells why
	t.waited, t.pressed = cpuPressure()
	t.Gomega = gomega.NewGomega(func(message string, _ ...int) { panic(outcome{verdict: report.Fail, message: message}) })
	t.Given = gomega.NewGomega(func(message string, _ ...int) {
		panic(outcome{verdict: report.NotRun, message: "precondition: " + message, precondition: true})
	})
	stop := context.AfterFunc(ctx, t.conns.close) // so that no reading or writing outlasts the check
	defer stop()
	o := t.perform()
	failed := o.verdict == report.Fail || o.precondition
	inDoubt = o.overloaded || failed && t.pressure() > starved
	t.clean()
	return report.Result{
		Requirement: c.Requirement, Chapter: c.Chapter, Level: c.Level, Feature: c.Feature, Check: c.Text,
		Verdict: o.verdict, Message: strings.TrimSpace(o.message), Precondition: o.precondition,
		Seconds: time.Since(t.began).Round(time.Millisecond).Seconds(), Evidence: t.Script.Events(), Repeat: t.Script.Curls(),
	}, inDoubt
}

// perform runs the check's body.
func (t *Trial) perform() (o outcome) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case outcome:
			o = v
			if o.verdict == report.Fail && t.ctx.Err() != nil {
				o = t.unfinished(o.message)
			}
		default:
			o = outcome{verdict: report.Harness, message: fmt.Sprintf("the check itself failed: %v (%s)", v, t.check.Place)}
		}
	}()
	t.check.body(t)
	return outcome{verdict: report.Pass}
}

// unfinished is the outcome of a check whose time ran out, or whose run was interrupted.
func (t *Trial) unfinished(message string) outcome {
	if errors.Is(context.Cause(t.ctx), context.DeadlineExceeded) {
		return outcome{verdict: report.Fail, message: fmt.Sprintf("after %v, which is all that the check may take: %s", t.check.Limit, message)}
	}
	return outcome{verdict: report.NotRun, message: "the run was interrupted"}
}

// temper turns a failure into what it means where a SHOULD was missed or a feature isn't declared.
func (r *Run) temper(c *Check, result *report.Result) {
	features := r.Target.Features
	declared := c.Feature == "" || features.Has(c.Feature)
	switch {
	case !declared && result.Verdict == report.Pass:
		result.Verdict, result.Message = report.NotApplicable, c.Feature+" isn't declared, though this check would pass"
	case !declared && (result.Verdict == report.Fail || result.Precondition):
		result.Verdict, result.Precondition = report.NotApplicable, false
		result.Message = c.Feature + " isn't declared; " + result.Message
	case result.Verdict == report.Fail && c.Level != spec.Must:
		result.Verdict = report.Warn
	}
}

// clean undoes what the check did, the latest first.
func (t *Trial) clean() {
	for i := len(t.cleanup) - 1; i >= 0; i-- {
		t.cleanup[i]()
	}
	t.conns.close()
}

// onEnd has f called when the check ends.
func (t *Trial) onEnd(f func()) { t.cleanup = append(t.cleanup, f) }

func (c *connections) add(conn *wire.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, conn)
}

func (c *connections) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.all {
		conn.Close()
	}
}

// Fail ends the check: the target doesn't do what it has to.
func (t *Trial) Fail(format string, args ...any) {
	panic(outcome{verdict: report.Fail, message: fmt.Sprintf(format, args...)})
}

// Skip ends the check, which can't be run; the message says why.
func (t *Trial) Skip(format string, args ...any) {
	panic(outcome{verdict: report.NotRun, message: fmt.Sprintf(format, args...)})
}

// Overloaded ends the check because the machine is too busy to tell. It is tried again.
func (t *Trial) Overloaded(format string, args ...any) {
	panic(outcome{verdict: report.Harness, message: "overloaded: " + fmt.Sprintf(format, args...), overloaded: true})
}

// ID returns a session id that nobody else uses.
func (t *Trial) ID() string {
	t.ids++
	return fmt.Sprintf("%s%s.%s.%d.%d.%d", t.run.Prefix, t.run.token, strings.ToLower(t.check.Requirement), t.check.Number, t.number, t.ids)
}

// Dial connects to the target.
func (t *Trial) Dial(options ...wire.Option) *wire.Conn {
	conn, err := wire.Dial(t.ctx, t.Target.Base, t.Script, options...)
	t.Given.Expect(err).NotTo(gomega.HaveOccurred(), "a connection to the target")
	t.conns.add(conn)
	return conn
}

// InTime judges a time that something took. Where the suite was held up by as much, or the machine was too busy for times like
// that, it gives no verdict.
func (t *Trial) InTime(took, bound time.Duration, what string) {
	if took <= bound {
		return
	}
	held := t.run.noise.worst(time.Now().Add(-took), time.Now())
	pressed := t.pressure() > tooBusy && took <= bound+max(min(bound, second), second/2)
	if took-2*held <= bound || pressed {
		t.Overloaded("%s took %v, %s", what, took.Round(time.Millisecond), t.busyness(held))
	}
	t.Fail("%s took %v, which may be %v", what, took.Round(time.Millisecond), bound)
}

// late ends the check because something didn't come in time.
func (t *Trial) late(bound time.Duration, what, so string) {
	held := t.run.noise.worst(time.Now().Add(-bound), time.Now())
	if held > bound/3 || t.pressure() > tooBusy && bound < second {
		t.Overloaded("%s didn't come within %v, %s", what, bound, t.busyness(held))
	}
	t.Fail("%s didn't come within %v%s", what, bound, so)
}

// FailUnlessHeld ends the check: the target does something too late, or too early. Where the suite itself was held up for
// longer than a time during the check, or the machine was too busy, that is no verdict.
func (t *Trial) FailUnlessHeld(longer time.Duration, format string, args ...any) {
	held := t.run.noise.worst(t.began, time.Now())
	if held > longer || t.pressure() > tooBusy {
		t.Overloaded("%s, %s", fmt.Sprintf(format, args...), t.busyness(held))
	}
	t.Fail(format, args...)
}

// tooBusy is a share of time in which tasks of this machine had to wait for a processor beyond which short times say nothing
// about a target that may run beside the suite.
const tooBusy = 0.5

// pressure is that share since the check began.
func (t *Trial) pressure() float64 {
	waited, ok := cpuPressure()
	if !ok || !t.pressed {
		return 0
	}
	return float64(waited-t.waited) / float64(time.Since(t.began))
}

func (t *Trial) busyness(held time.Duration) string {
	return fmt.Sprintf("but the suite itself was held up for %v meanwhile, and tasks waited for a processor in %.0f %% of the time",
		held.Round(time.Millisecond), 100*t.pressure())
}

// After waits until a moment, or the check's end.
func (t *Trial) After(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.ctx.Done():
		t.Fail("waiting for %v", d)
	}
}

// path is a session's path.
func path(id string) string { return "/stream/" + id }
