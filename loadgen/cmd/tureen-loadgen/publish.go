package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"tureen/fixtures"
	"tureen/loadgen/publish"
	"tureen/loadgen/report"
	"tureen/loadgen/trial"
)

type publishCommand struct {
	Target   string        `required:"" placeholder:"URL" help:"Whole URL of the stream, or of the server with --session."`
	Session  string        `placeholder:"ID" help:"Session id of the stream; by default one of its own."`
	Input    string        `default:"webm-load" placeholder:"NAME|FILE" help:"Fixture, or WebM or Matroska file (${default}). What can be looped plays without a seam; the rest is sent once."`
	Duration time.Duration `default:"0" help:"How long to publish; 0 until it is interrupted."`
	trusting
}

// Help is what --help says besides.
func (c *publishCommand) Help() string {
	return `Sends each frame when it is due, with timestamps that go on from loop to loop, until Ctrl-C, and then ends the stream
cleanly.

Example:
  tureen-loadgen publish --target http://127.0.0.1:8000/stream/demo`
}

// Validate refuses a duration that is none.
func (c *publishCommand) Validate() error {
	if c.Duration < 0 {
		return errors.New("--duration: not below 0")
	}
	return c.trusting.Validate()
}

// Run publishes until the time is over, the input ends or the program is interrupted.
func (c *publishCommand) Run(a *app) error {
	target, err := trial.ParseTarget(a.ctx, c.Target, c.Session)
	if err != nil {
		return err
	}
	if err := c.trust(target.TLS); err != nil {
		return err
	}
	source, err := publish.Open(c.Input)
	if err != nil {
		return err
	}
	p, err := publish.Dial(a.ctx, target.Publisher(source))
	if err != nil {
		return err
	}
	defer func() { _ = p.Close() }()
	a.progress("publishing %s to %s", source.Name, target.URL())
	ctx := a.ctx
	if c.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.Duration)
		defer cancel()
	}
	answer, err := p.Run(ctx, time.Now())
	stats := p.Stats()
	a.progress("%d frames, %d bytes, own lag %s ms at p99", stats.Frames, stats.Bytes,
		fmt.Sprintf("%.1f", float64(stats.Lag.ValueAtQuantile(99))/1000))
	if err != nil {
		a.progress("tureen-loadgen: %v", err)
		return exitError(report.FallsShort)
	}
	a.progress("answered %d %s", answer.Status, strings.TrimSpace(answer.Body))
	return nil
}

// measurable says what is measured of an input.
func measurable(name string) string {
	source, err := publish.Open(name)
	switch {
	case err != nil:
		return "can't be published: " + err.Error()
	case source.Restarts:
		return "can be published, but not measured: its timestamps begin anew"
	}
	return source.Measurable()
}

type listCommand struct{}

// Run lists the fixtures.
func (listCommand) Run(a *app) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	for _, name := range fixtures.Names() {
		clip, err := fixtures.Open(name)
		if err != nil {
			return err
		}
		if clip.Malformed {
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%.1f s\t%d kB\t%s\t%s\n", name, clip.Container, clip.Duration.Seconds(), len(clip.Data)/1000, clip.Description, measurable(name))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("listing inputs: %w", err)
	}
	return nil
}
