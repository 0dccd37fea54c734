package main

import (
	"errors"
	"fmt"
	"time"

	"tureen/loadgen/compare"
	"tureen/loadgen/progress"
	"tureen/loadgen/report"
)

type compareCommand struct {
	A          string  `arg:"" help:"The target that the other is held against."`
	B          string  `arg:"" help:"The other target."`
	NameA      string  `default:"A" help:"What to call A."`
	NameB      string  `default:"B" help:"What to call B."`
	PublishToA string  `placeholder:"URL" help:"Where to publish for A when that isn't A itself; see run --help."`
	PublishToB string  `placeholder:"URL" help:"The same for B."`
	PIDA       []int32 `name:"pid-a" placeholder:"N" help:"A's processes, when they aren't those that listen on its port."`
	PIDB       []int32 `name:"pid-b" placeholder:"N" help:"B's."`
	Sizes      []int   `placeholder:"N,…" help:"Numbers of viewers to compare with, one after the other; by default --viewers alone."`
	Rounds     int     `default:"3" help:"How often each target takes its turn."`
	Limit      string  `placeholder:"LIMITS" help:"Highest ratios of B's figures to A's that hold, such as 'p99<=1.25,cpu<=1.15'; the median of the pairs counts."`
	Title      string  `help:"Heading of table and page."`
	work
	outputs
}

// Help is what --help says besides.
func (c *compareCommand) Help() string {
	return `Does the same work on both targets in turn, A B A B, and reports the ratios B to A pair by pair with their spread, so that
what the machine does besides touches both alike.

Exit codes: 0 B holds and stays within --limit; 1 it doesn't; 2 no verdict on one of the runs. What A falls short in is
in the JSON, and decides nothing.

Example:
  tureen-loadgen compare http://127.0.0.1:8000 http://127.0.0.1:8001 --sizes 100,400 --rounds 5 --limit 'p99<=1.25'`
}

// Validate refuses what makes no comparison.
func (c *compareCommand) Validate() error {
	if c.Rounds < 1 {
		return errors.New("--rounds: at least 1")
	}
	for _, n := range c.Sizes {
		if n < 1 {
			return errors.New("--sizes: each at least 1")
		}
	}
	if _, err := compare.ParseLimits(c.Limit); err != nil {
		return fmt.Errorf("--limit: %w", err)
	}
	return c.work.Validate()
}

// Run compares and prints the table.
func (c *compareCommand) Run(a *app) error {
	limits, err := compare.ParseLimits(c.Limit)
	if err != nil {
		return err
	}
	sizes := c.Sizes
	if len(sizes) == 0 {
		sizes = []int{c.Viewers}
	}
	if c.Title == "" {
		c.Title = fmt.Sprintf("%s and %s", c.NameA, c.NameB)
	}
	result := compare.New(c.Title, time.Now(), compare.Side{Name: c.NameA, Target: c.A}, compare.Side{Name: c.NameB, Target: c.B})
	for _, viewers := range sizes {
		sides, err := c.rounds(a, viewers)
		if err != nil {
			return err
		}
		result.Add(sides[0], sides[1])
	}
	result.Judge(limits)
	if err := result.WriteTable(a.stdout); err != nil {
		return err
	}
	if err := c.writeComparison(result); err != nil {
		return err
	}
	return exitOf(result.Verdict)
}

// rounds measures both targets in turn with one number of viewers.
func (c *compareCommand) rounds(a *app, viewers int) (sides [2][]*report.Report, err error) {
	w := c.work
	w.Viewers, w.Publishers = viewers, min(w.Publishers, viewers)
	places := [2]place{{c.A, "", c.PublishToA, c.PIDA}, {c.B, "", c.PublishToB, c.PIDB}}
	names := [2]string{c.NameA, c.NameB}
	for round := range c.Rounds {
		for side, at := range places {
			show := progress.New(a.stderr)
			show.Say("%d viewers, round %d of %d: %s", viewers, round+1, c.Rounds, names[side])
			r, err := measureAt(a, &w, at, show)
			show.Close()
			if err != nil {
				return sides, fmt.Errorf("%s: %w", names[side], err)
			}
			sides[side] = append(sides[side], r)
		}
	}
	return sides, nil
}
