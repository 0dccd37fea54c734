package main

import (
	"fmt"
	"io"
	"os"

	"tureen/loadgen/compare"
	"tureen/loadgen/page"
	"tureen/loadgen/report"
)

// outputs is the files that results go to.
type outputs struct {
	JSON string `name:"json" type:"path" placeholder:"FILE" help:"Write the result as JSON, raw histograms included."`
	HTML string `name:"html" type:"path" placeholder:"FILE" help:"Write the result as one self-contained web page."`
}

func (o *outputs) writeReport(r *report.Report) error {
	if err := writeFile(o.JSON, r.WriteJSON); err != nil {
		return err
	}
	return writeFile(o.HTML, func(w io.Writer) error { return page.Write(w, title, []*report.Report{r}, nil) })
}

func (o *outputs) writeComparison(c *compare.Comparison) error {
	if err := writeFile(o.JSON, c.WriteJSON); err != nil {
		return err
	}
	return writeFile(o.HTML, func(w io.Writer) error { return page.Write(w, title, nil, []*compare.Comparison{c}) })
}

// title is a page's where nothing better is known.
const title = "tureen-loadgen"

// writeFile writes a file, if it has a name.
func writeFile(name string, write func(w io.Writer) error) error {
	if name == "" {
		return nil
	}
	file, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("writing result: %w", err)
	}
	if err := write(file); err != nil {
		_ = file.Close()
		return err
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("writing result: %w", err)
	}
	return nil
}
