package suite

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"tureen/conformance/report"
	"tureen/conformance/target"
)

// Run is one run of checks against a target.
type Run struct {
	Target *target.Target
	Prefix string // of all session ids; a faulty target may choose its fault by it
	Lanes  *Lanes // how many checks run at once; nil: DefaultLanes
	Seed   int64
	// Done, if set, is called with each result as it comes, one at a time.
	Done func(report.Result)

	token string
	noise *noise
}

// Lanes bound how many checks run at once, in one run or in several that share them.
type Lanes struct {
	checks     chan struct{}
	transcodes chan struct{} // for checks of transcoding besides
}

// NewLanes returns n lanes, a few of them for checks of transcoding.
func NewLanes(n int) *Lanes {
	return &Lanes{checks: make(chan struct{}, n), transcodes: make(chan struct{}, atOnce)}
}

// DefaultLanes is how many checks run at once; they mostly wait.
const DefaultLanes = 32

// Job is a check that was started.
type Job struct {
	Check *Check

	done   chan struct{}
	result report.Result
}

// Result waits for the check's end.
func (j *Job) Result() report.Result {
	<-j.done
	return j.result
}

// Start starts the checks in their order, as many at once as there are lanes. When the context ends, those that haven't begun
// are not run.
func (r *Run) Start(ctx context.Context, checks []*Check) []*Job {
	r.token = strings.ToLower(rand.Text()[:6])
	if r.Lanes == nil {
		r.Lanes = NewLanes(DefaultLanes)
	}
	jobs := make([]*Job, len(checks))
	for i, c := range checks {
		jobs[i] = &Job{Check: c, done: make(chan struct{})}
	}
	noisy, quiet := context.WithCancel(context.WithoutCancel(ctx))
	r.noise = listen(noisy)
	go func() {
		defer quiet()
		r.work(ctx, jobs)
	}()
	return jobs
}

// work runs the jobs and returns when all are done.
func (r *Run) work(ctx context.Context, jobs []*Job) {
	var all sync.WaitGroup
	var told sync.Mutex
	for _, j := range jobs {
		r.Lanes.checks <- struct{}{}
		all.Go(func() {
			defer func() { <-r.Lanes.checks }()
			defer close(j.done)
			j.result = r.one(ctx, j.Check)
			if r.Done != nil {
				told.Lock()
				defer told.Unlock()
				r.Done(j.result)
			}
		})
	}
	all.Wait()
}

// one runs a check, unless the run or its target has ended.
func (r *Run) one(ctx context.Context, c *Check) report.Result {
	skipped := report.Result{
		Requirement: c.Requirement, Chapter: c.Chapter, Level: c.Level, Feature: c.Feature, Check: c.Text, Verdict: report.NotRun,
	}
	if ctx.Err() != nil {
		skipped.Message = "the run was interrupted"
		return skipped
	}
	if err := r.crashed(); err != nil {
		skipped.Message = fmt.Sprintf("the target's process had ended: %v", err)
		return skipped
	}
	result := r.conduct(ctx, c)
	if err := r.crashed(); err != nil && result.Verdict != report.Pass {
		result.Verdict, result.Message = report.NotRun, fmt.Sprintf("the target's process ended meanwhile: %v", err)
	}
	return result
}

func (r *Run) crashed() error {
	if r.Target.Process == nil {
		return nil
	}
	return r.Target.Process.Crashed()
}

// noise watches how late this process gets its turn: what a busy machine does to every time that is measured here.
type noise struct {
	mu   sync.Mutex
	late []lateness
}

type lateness struct {
	at time.Time
	by time.Duration
}

const (
	noiseEvery = 10 * time.Millisecond
	noiseFloor = 20 * time.Millisecond // less isn't worth noting
)

// listen watches until the context ends.
func listen(ctx context.Context) *noise {
	n := &noise{}
	go func() {
		ticker := time.NewTicker(noiseEvery)
		defer ticker.Stop()
		last := time.Now()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			now := time.Now()
			if by := now.Sub(last) - noiseEvery; by > noiseFloor {
				n.mu.Lock()
				n.late = append(n.late, lateness{at: now, by: by})
				n.mu.Unlock()
			}
			last = now
		}
	}()
	return n
}

// worst is the longest time for which the process was held up between two moments.
func (n *noise) worst(from, to time.Time) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	var worst time.Duration
	for _, l := range n.late {
		if l.at.After(from) && l.at.Add(-l.by).Before(to) {
			worst = max(worst, l.by)
		}
	}
	return worst
}

// cpuPressure is for how long so far at least one task of this machine has been waiting for a processor (Linux' pressure stall
// information); false where nobody tells.
func cpuPressure() (time.Duration, bool) {
	text, err := os.ReadFile("/proc/pressure/cpu")
	if err != nil {
		return 0, false
	}
	_, total, found := strings.Cut(string(text), "total=")
	total, _, _ = strings.Cut(total, "\n")
	micros, err := strconv.ParseInt(total, 10, 64)
	return time.Duration(micros) * time.Microsecond, found && err == nil
}
