package report

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// WriteFiles writes report.json, junit.xml and report.html into a folder, which is made if it isn't there.
func (r *Report) WriteFiles(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making the report's folder: %w", err)
	}
	for name, write := range map[string]func(io.Writer) error{
		"report.json": r.WriteJSON, "junit.xml": r.WriteJUnit, "report.html": r.WriteHTML,
	} {
		if err := writeFile(filepath.Join(dir, name), write); err != nil {
			return fmt.Errorf("writing the report: %w", err)
		}
	}
	return nil
}

func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// WriteJSON writes the report in the form that Schema names.
func (r *Report) WriteJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", " ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(r)
}

// ReadJSON reads a report.json. It refuses one of another schema.
func ReadJSON(path string) (*Report, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading a report: %w", err)
	}
	var r Report
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("reading a report: %s: %w", path, err)
	}
	if r.Schema != Schema {
		return nil, fmt.Errorf("reading a report: %s is of schema %q, this program reads %q", path, r.Schema, Schema)
	}
	return &r, nil
}

// JUnit's elements, as Jenkins, GitLab and GitHub's actions read them.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Skipped  int          `xml:"skipped,attr"`
		Time     string       `xml:"time,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Errors   int         `xml:"errors,attr"`
		Skipped  int         `xml:"skipped,attr"`
		Time     string      `xml:"time,attr"`
		Stamp    string      `xml:"timestamp,attr"`
		Cases    []junitCase `xml:"testcase"`
		seconds  float64
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		Time    string        `xml:"time,attr"`
		Failure *junitMessage `xml:"failure"`
		Error   *junitMessage `xml:"error"`
		Skipped *junitMessage `xml:"skipped"`
		Output  string        `xml:"system-out,omitempty"`
	}
	junitMessage struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr"`
		Text    string `xml:",chardata"`
	}
)

// WriteJUnit writes the checks as test cases, a suite for each chapter. A run that is no verdict has an error of its own, so
// that nobody takes it for passed.
func (r *Report) WriteJUnit(w io.Writer) error {
	all := junitSuites{Name: "conformance of " + r.Target, Time: seconds(r.Seconds)}
	chapters := make(map[string]int)
	for _, c := range r.Checks {
		i, ok := chapters[c.Chapter]
		if !ok {
			i = len(all.Suites)
			chapters[c.Chapter] = i
			all.Suites = append(all.Suites, junitSuite{Name: c.Chapter, Stamp: r.stamp()})
		}
		all.Suites[i].add(c.junit(), c.Seconds)
	}
	for _, s := range r.Requirements {
		if s.Checks == 0 {
			i, ok := chapters[s.Chapter]
			if !ok {
				i = len(all.Suites)
				chapters[s.Chapter] = i
				all.Suites = append(all.Suites, junitSuite{Name: s.Chapter, Stamp: r.stamp()})
			}
			all.Suites[i].add(junitCase{
				Class: "conformance." + s.Chapter, Name: s.ID, Time: seconds(0), Skipped: &junitMessage{Message: s.Message, Type: string(NotRun)},
			}, 0)
		}
	}
	if code, why := r.Outcome(); code == NoVerdict {
		broken := junitSuite{Name: "run", Stamp: r.stamp()}
		broken.add(junitCase{
			Class: "conformance.run", Name: "the run is a verdict", Time: seconds(r.Seconds),
			Error: &junitMessage{Message: why, Type: "no verdict"},
		}, 0)
		all.Suites = append(all.Suites, broken)
	}
	for i := range all.Suites {
		s := &all.Suites[i]
		s.Time = seconds(s.seconds)
		all.Tests += s.Tests
		all.Failures += s.Failures
		all.Errors += s.Errors
		all.Skipped += s.Skipped
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	encoder := xml.NewEncoder(w)
	encoder.Indent("", " ")
	if err := encoder.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func (r *Report) stamp() string { return r.Started.UTC().Format("2006-01-02T15:04:05") }

func (s *junitSuite) add(c junitCase, seconds float64) {
	s.Cases = append(s.Cases, c)
	s.Tests++
	s.seconds += seconds
	switch {
	case c.Failure != nil:
		s.Failures++
	case c.Error != nil:
		s.Errors++
	case c.Skipped != nil:
		s.Skipped++
	}
}

func seconds(s float64) string { return fmt.Sprintf("%.3f", s) }

// junit is the check as a test case.
func (c Result) junit() junitCase {
	j := junitCase{Class: "conformance." + c.Chapter, Name: c.Requirement + ": " + c.Check, Time: seconds(c.Seconds)}
	firstLine, _, _ := strings.Cut(c.Message, "\n")
	m := &junitMessage{Message: firstLine, Type: string(c.Verdict), Text: printable(c.Message)}
	switch c.Verdict {
	case Pass:
		return j
	case Fail:
		j.Failure = m
	case Harness:
		j.Error = m
	case Warn:
		j.Output = "warning: " + printable(c.Message)
		return j
	default:
		j.Skipped = m
	}
	var b strings.Builder
	for _, e := range c.Evidence {
		fmt.Fprintf(&b, "%9.4f #%d %s %s\n", e.At, e.Conn, e.Dir, printable(e.Text))
	}
	j.Output = b.String()
	return j
}

// printable drops what XML can't hold.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0xFFFE || r == 0xFFFF {
			return '�'
		}
		return r
	}, s)
}
