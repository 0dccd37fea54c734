// Package spec holds the numbered requirements of SPEC.md as a table: which there are, how binding each is, and what the
// suite doesn't look at yet. The checks themselves are left to package suite.
package spec

import (
	"bytes"
	_ "embed" // the table
	"fmt"
	"regexp"
	"slices"
	"sync"

	"gopkg.in/yaml.v3"
)

// Level says how binding a requirement or a check is (RFC 2119).
type Level string

// The levels.
const (
	Must   Level = "MUST"
	Should Level = "SHOULD"
	May    Level = "MAY"
)

// Requirement is one numbered requirement.
type Requirement struct {
	ID       string   `yaml:"id" json:"id"`
	Chapter  string   `yaml:"chapter" json:"chapter"`
	Level    Level    `yaml:"level" json:"level"`
	Feature  string   `yaml:"feature" json:"feature,omitempty"` // empty: core
	Text     string   `yaml:"text" json:"text"`                 // one line, Markdown
	Excluded string   `yaml:"excluded" json:"excluded,omitempty"`
	Gaps     []string `yaml:"gaps" json:"gaps,omitempty"`
}

// Chapters in SPEC.md's order.
var Chapters = []string{"general", "ingest", "watch", "format", "reconnect", "rtp", "api", "token", "service", "latency"}

// Features that an implementation may leave out.
var Features = []string{
	"transcode", "pacing", "wait", "resume", "content-range", "rtp-udp", "token-server", "input-types", "token-expiry",
	"publish-key", "latency",
}

//go:embed requirements.yaml
var table []byte

// All returns the requirements in SPEC.md's order. The slice is shared: it must not be changed.
var All = sync.OnceValue(func() []Requirement {
	all, err := parse(table)
	if err != nil {
		panic("conformance: " + err.Error()) // the table is part of the program, and tested
	}
	return all
})

// Find returns the requirement of that number.
func Find(id string) (Requirement, bool) {
	i := slices.IndexFunc(All(), func(r Requirement) bool { return r.ID == id })
	if i < 0 {
		return Requirement{}, false
	}
	return All()[i], true
}

// parse reads a table and refuses what makes no sense.
func parse(data []byte) ([]Requirement, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	var all []Requirement
	if err := decoder.Decode(&all); err != nil {
		return nil, fmt.Errorf("reading the table of requirements: %w", err)
	}
	seen := make(map[string]bool)
	for _, r := range all {
		if err := r.valid(); err != nil {
			return nil, err
		}
		if seen[r.ID] {
			return nil, fmt.Errorf("requirement %s is there twice", r.ID)
		}
		seen[r.ID] = true
	}
	return all, nil
}

var idPattern = regexp.MustCompile(`^[A-Z]{3}-[1-9][0-9]*$`)

func (r Requirement) valid() error {
	switch {
	case !idPattern.MatchString(r.ID):
		return fmt.Errorf("%q is no requirement's number", r.ID)
	case !slices.Contains(Chapters, r.Chapter):
		return fmt.Errorf("%s: there is no chapter %q", r.ID, r.Chapter)
	case r.Level != Must && r.Level != Should && r.Level != May:
		return fmt.Errorf("%s: there is no level %q", r.ID, r.Level)
	case r.Feature != "" && !slices.Contains(Features, r.Feature):
		return fmt.Errorf("%s: there is no feature %q", r.ID, r.Feature)
	case r.Text == "":
		return fmt.Errorf("%s has no text", r.ID)
	case r.Excluded != "" && len(r.Gaps) > 0:
		return fmt.Errorf("%s is excluded: what is still to come of it?", r.ID)
	}
	return nil
}
