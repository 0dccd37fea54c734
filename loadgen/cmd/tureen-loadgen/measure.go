package main

import (
	"tureen/loadgen/progress"
	"tureen/loadgen/report"
)

type runCommand struct {
	Target    string  `required:"" placeholder:"URL" help:"Server (http://host:port or https://…), or the whole URL of a stream."`
	Session   string  `placeholder:"ID" help:"Session id of the stream; by default one of its own."`
	PublishTo string  `placeholder:"URL" help:"Where to publish when that isn't the target: http(s)://… (PUT), post://host:port/path (POST, for ffmpeg -listen 1), icecast://user:password@host:port/mount (source client)."`
	PID       []int32 `name:"pid" placeholder:"N" help:"Server processes whose CPU and memory are measured, children included. By default those that listen on the target's port, when it is of this machine."`
	work
	outputs
}

// Validate refuses what makes no run.
func (c *runCommand) Validate() error { return c.work.Validate() }

// Run measures and prints the report.
func (c *runCommand) Run(a *app) error {
	show := progress.New(a.stderr)
	defer show.Close()
	r, err := measureAt(a, &c.work, place{c.Target, c.Session, c.PublishTo, c.PID}, show)
	show.Close()
	if err != nil {
		return err
	}
	if err := r.WriteTable(a.stdout); err != nil {
		return err
	}
	if err := c.writeReport(r); err != nil {
		return err
	}
	return exitOf(r.Verdict)
}

// exitOf makes a verdict the program's exit code.
func exitOf(v report.Verdict) error {
	if v.Exit != report.Holds {
		return exitError(v.Exit)
	}
	return nil
}
