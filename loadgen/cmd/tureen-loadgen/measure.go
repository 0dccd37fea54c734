package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"tureen/loadgen/publish"
	"tureen/loadgen/report"
	"tureen/loadgen/trial"
)

type runCommand struct {
	Target      string        `required:"" placeholder:"URL" help:"Server (http://host:port), or the whole URL of a stream."`
	Session     string        `placeholder:"ID" help:"Session id of the stream; by default one of its own."`
	Input       string        `default:"webm-load" placeholder:"NAME|FILE" help:"Fixture, or WebM or Matroska file, to publish (${default}). What can be looped plays without a seam; the rest is sent once."`
	Viewers     int           `default:"100" help:"Number of viewers."`
	Slow        int           `default:"0" help:"Number of slow viewers that join beside them half way: they never read, read 1 KB/s, half-close, or vanish and come again. Latencies are then also reported without and beside them."`
	Ramp        time.Duration `default:"1s" help:"Time over which the viewers join. The schedule doesn't wait for their answers."`
	Duration    time.Duration `default:"30s" help:"Time to measure after the last viewer is to join."`
	PID         []int32       `name:"pid" placeholder:"N" help:"Server processes whose CPU and memory are measured, children included. By default those that listen on the target's port, when it is of this machine."`
	Calibration time.Duration `default:"2s" help:"Time to measure the noise floor before."`
	Threads     int           `default:"0" help:"Threads that read the viewers' sockets; 0 chooses by the machine's cores."`
	JSON        string        `name:"json" type:"path" placeholder:"FILE" help:"Write the report as JSON too."`
}

// Validate refuses what makes no run.
func (c *runCommand) Validate() error {
	switch {
	case c.Viewers < 1:
		return errors.New("--viewers: at least 1")
	case c.Slow < 0:
		return errors.New("--slow: not below 0")
	case c.Duration <= 0:
		return errors.New("--duration: more than 0")
	case c.Ramp < 0:
		return errors.New("--ramp: not below 0")
	case c.Calibration < 0:
		return errors.New("--calibration: not below 0")
	case c.Threads < 0:
		return errors.New("--threads: not below 0")
	}
	return nil
}

// noiseInput calibrates where the input itself can't go through the loop-back pipe unread.
const noiseInput = "webm-load"

// Run measures and prints the report.
func (c *runCommand) Run(a *app) error {
	target, err := trial.ParseTarget(a.ctx, c.Target, c.Session)
	if err != nil {
		return err
	}
	source, err := publish.Open(c.Input)
	if err != nil {
		return err
	}
	noise := source
	if !source.Traceable() {
		if noise, err = publish.Open(noiseInput); err != nil {
			return fmt.Errorf("opening the input for calibration: %w", err)
		}
	}
	r, err := trial.Run(a.ctx, trial.Config{
		Target: target, Source: source, Noise: noise, Viewers: c.Viewers, Slow: c.Slow, Ramp: c.Ramp, Duration: c.Duration,
		Calibration: c.Calibration, Threads: c.Threads, PIDs: c.PID, Progress: a.progress,
	})
	if err != nil {
		return err
	}
	if err := c.print(a, r); err != nil {
		return err
	}
	if r.Verdict.Exit != report.Holds {
		return exitError(r.Verdict.Exit)
	}
	return nil
}

func (c *runCommand) print(a *app, r *report.Report) error {
	if err := r.WriteTable(a.stdout); err != nil {
		return err
	}
	if c.JSON == "" {
		return nil
	}
	file, err := os.Create(c.JSON)
	if err != nil {
		return fmt.Errorf("writing report: %w", err)
	}
	if err := r.WriteJSON(file); err != nil {
		_ = file.Close()
		return err
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("writing report: %w", err)
	}
	return nil
}
