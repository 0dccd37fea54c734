package report

import (
	_ "embed" // the page
	"fmt"
	"html/template"
	"io"
	"strings"
)

//go:embed report.html
var page string

var htmlTemplate = template.Must(template.New("report").Funcs(template.FuncMap{
	"markdown": markdown,
	"class":    func(v Verdict) string { return strings.ReplaceAll(string(v), " ", "-") },
	"first":    func(s string) string { line, _, _ := strings.Cut(s, "\n"); return line },
}).Parse(page))

// markdown renders the little that requirements' texts use: code in backquotes.
func markdown(text string) template.HTML {
	var b strings.Builder
	for i, part := range strings.Split(text, "`") {
		escaped := template.HTMLEscapeString(part)
		if i%2 == 1 {
			escaped = "<code>" + escaped + "</code>"
		}
		b.WriteString(escaped)
	}
	return template.HTML(b.String())
}

// pageData is what the page shows.
type pageData struct {
	*Report
	Code     int
	Why      string
	Verdicts []Verdict
	Chapters []chapter
}

type chapter struct {
	Name         string
	Counts       []int // in the order of Verdicts
	Requirements []requirement
}

type requirement struct {
	Standing
	Results []Result
}

// WriteHTML writes one page that needs nothing else.
func (r *Report) WriteHTML(w io.Writer) error {
	data := pageData{Report: r, Verdicts: []Verdict{Pass, Fail, Warn, NotApplicable, NotRun, Harness}}
	data.Code, data.Why = r.Outcome()
	for _, s := range r.Requirements {
		if n := len(data.Chapters); n == 0 || data.Chapters[n-1].Name != s.Chapter {
			data.Chapters = append(data.Chapters, chapter{Name: s.Chapter, Counts: make([]int, len(data.Verdicts))})
		}
		c := &data.Chapters[len(data.Chapters)-1]
		q := requirement{Standing: s}
		for _, result := range r.Checks {
			if result.Requirement == s.ID {
				q.Results = append(q.Results, result)
			}
		}
		for i, v := range data.Verdicts {
			if s.Verdict == v {
				c.Counts[i]++
			}
		}
		c.Requirements = append(c.Requirements, q)
	}
	if err := htmlTemplate.Execute(w, data); err != nil {
		return fmt.Errorf("writing the page: %w", err)
	}
	return nil
}
