package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"tureen/loadgen/find"
	"tureen/loadgen/page"
	"tureen/loadgen/progress"
	"tureen/loadgen/report"
)

type findCommand struct {
	Target    string  `required:"" placeholder:"URL" help:"Server (http://host:port or https://…), or the whole URL of a stream."`
	Session   string  `placeholder:"ID" help:"Session id of the stream; by default one of its own."`
	PublishTo string  `placeholder:"URL" help:"Where to publish when that isn't the target; see run --help."`
	PID       []int32 `name:"pid" placeholder:"N" help:"Server processes whose CPU and memory are measured."`
	Most      string  `enum:"viewers,publishers" default:"viewers" help:"What to find the most of: viewers, or publishers (with an --input that is transcoded: transcodes), each with a viewer of its own."`
	From      int     `default:"1" help:"How many to begin with."`
	Limit     int     `default:"1000" help:"How many to try at most."`
	Precision float64 `default:"0.05" help:"End when the answer is known to this share of it; 0 finds it exactly."`
	AtLeast   int     `default:"1" help:"Exit with 1 when fewer hold."`
	work
	outputs
}

// Help is what --help says besides.
func (c *findCommand) Help() string {
	return `Doubles the number until the SLO (without --slo: any fault) no longer holds, and then halves the distance. Each step is a
run of its own. A step in which the machine was too busy is repeated once and then ends the search with exit code 2.

Examples:
  tureen-loadgen find --target http://127.0.0.1:8000 --slo 'p99<20ms,lost==0' --duration 10s
  tureen-loadgen find --target http://127.0.0.1:8000 --most publishers --input mkv-h264-aac --limit 64 --slo 'p99<100ms'`
}

// Validate refuses what makes no search.
func (c *findCommand) Validate() error {
	switch {
	case c.From < 1 || c.Limit < c.From:
		return errors.New("--from and --limit: from 1 or more to no less than that")
	case c.Precision < 0 || c.Precision >= 1:
		return errors.New("--precision: from 0 to below 1")
	}
	return c.work.Validate()
}

// found is the outcome of a search.
type found struct {
	Schema string           `json:"schema"`
	Of     string           `json:"of"` // what was searched the most of
	Most   int              `json:"most"`
	SLO    string           `json:"slo"`
	Tries  []find.Try       `json:"tries"`
	Runs   []*report.Report `json:"runs"` // one for each try
}

const findSchema = "tureen-loadgen-find/1"

// Run searches, and prints each step and the answer.
func (c *findCommand) Run(a *app) error {
	result := found{Schema: findSchema, Of: c.Most, SLO: c.SLO}
	var err error
	result.Most, result.Tries, err = find.Most(c.From, c.Limit, c.Precision, func(n int) (bool, error) {
		r, err := c.step(a, n)
		if err != nil {
			return false, err
		}
		result.Runs = append(result.Runs, r)
		word := "holds"
		if r.Verdict.Exit != report.Holds {
			word = "falls short: " + strings.Join(r.Verdict.Reasons, "; ")
		}
		fmt.Fprintf(a.stdout, "%d %s: p99 %.2f ms; %s\n", n, c.Most, float64(r.Worst().Microseconds())/1000, word)
		return r.Verdict.Exit == report.Holds, nil
	})
	if err != nil {
		return fmt.Errorf("after %d tries, of which %d %s held: %w", len(result.Tries), result.Most, c.Most, err)
	}
	fmt.Fprintf(a.stdout, "most: %d %s", result.Most, c.Most)
	if result.Most == c.Limit {
		fmt.Fprint(a.stdout, ", which is --limit")
	}
	fmt.Fprintln(a.stdout)
	if err := c.write(&result); err != nil {
		return err
	}
	if result.Most < c.AtLeast {
		return exitError(report.FallsShort)
	}
	return nil
}

// step measures with n of what is searched.
func (c *findCommand) step(a *app, n int) (*report.Report, error) {
	w := c.work
	if c.Most == "publishers" {
		w.Publishers, w.Viewers = n, n
	} else {
		w.Viewers, w.Publishers = n, min(w.Publishers, n)
	}
	for try := 1; ; try++ {
		show := progress.New(a.stderr)
		show.Say("trying %d %s", n, c.Most)
		r, err := measureAt(a, &w, place{c.Target, c.Session, c.PublishTo, c.PID}, show)
		show.Close()
		switch {
		case err != nil:
			return nil, err
		case r.Verdict.Exit != report.NoVerdict:
			return r, nil
		case try == 2 || a.ctx.Err() != nil:
			return nil, fmt.Errorf("no verdict with %d %s: %s", n, c.Most, strings.Join(r.Verdict.Reasons, "; "))
		}
	}
}

func (c *findCommand) write(result *found) error {
	err := writeFile(c.JSON, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		if err := e.Encode(result); err != nil {
			return fmt.Errorf("writing result: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return writeFile(c.HTML, func(w io.Writer) error {
		return page.Write(w, fmt.Sprintf("Most %s: %d", result.Of, result.Most), result.Runs, nil)
	})
}
