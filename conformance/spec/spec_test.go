package spec

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestSpecification: SPEC.md and the table state the same requirements in the same order.
func TestSpecification(t *testing.T) {
	text, err := os.ReadFile("../SPEC.md")
	if err != nil {
		t.Fatal(err)
	}
	written := requirementsOf(t, string(text))
	if len(written) != len(All()) {
		t.Errorf("SPEC.md has %d requirements, the table %d", len(written), len(All()))
	}
	for i, w := range written[:min(len(written), len(All()))] {
		r := All()[i]
		if r.ID != w.ID || r.Level != w.Level || r.Feature != w.Feature || r.Text != w.Text || r.Chapter != w.Chapter {
			t.Errorf("number %d:\n SPEC.md  %+v\n table    %+v", i+1, w, r)
		}
	}
}

var (
	heading   = regexp.MustCompile(`^### (\S+)$`)
	statement = regexp.MustCompile(`^(MUST|SHOULD|MAY)(?: \[([a-z-]+)\])?\. \*\*(.+)\*\*$`)
)

// chapterOf gives SPEC.md's headings the chapters' names.
var chapterOf = map[string]string{
	"General": "general", "Ingest": "ingest", "Watching": "watch", "Format": "format", "Reconnect": "reconnect",
	"RTP over UDP": "rtp", "REST API": "api", "Token server": "token", "Service": "service", "Latency": "latency",
}

// requirementsOf reads the requirements out of SPEC.md.
func requirementsOf(t *testing.T, text string) []Requirement {
	t.Helper()
	var all []Requirement
	chapter := ""
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			name, _, _ := strings.Cut(title, ":")
			chapter = chapterOf[name]
		}
		m := heading.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		s := statement.FindStringSubmatch(lines[min(i+2, len(lines)-1)])
		if s == nil {
			t.Errorf("SPEC.md:%d: %s isn't followed by its level and bold text", i+1, m[1])
			continue
		}
		all = append(all, Requirement{ID: m[1], Chapter: chapter, Level: Level(s[1]), Feature: s[2], Text: s[3]})
	}
	return all
}

func TestBadTables(t *testing.T) {
	tests := []struct{ table, says string }{
		{"- {id: ING1, chapter: ingest, level: MUST, text: x}", "no requirement's number"},
		{"- {id: ING-1, chapter: sport, level: MUST, text: x}", "no chapter"},
		{"- {id: ING-1, chapter: ingest, level: WILL, text: x}", "no level"},
		{"- {id: ING-1, chapter: ingest, level: MUST, feature: wings, text: x}", "no feature"},
		{"- {id: ING-1, chapter: ingest, level: MUST}", "no text"},
		{"- {id: ING-1, chapter: ingest, level: MUST, text: x, excluded: a, gaps: [b]}", "still to come"},
		{"- {id: ING-1, chapter: ingest, level: MUST, text: x}\n- {id: ING-1, chapter: ingest, level: MUST, text: x}", "twice"},
		{"- {id: ING-1, chapter: ingest, level: MUST, text: x, txet: y}", "not found"},
	}
	for _, test := range tests {
		if _, err := parse([]byte(test.table)); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want it to say %q", test.table, err, test.says)
		}
	}
}

func TestFind(t *testing.T) {
	if r, ok := Find("REC-2"); !ok || r.Feature != "resume" || r.Level != Must {
		t.Errorf("REC-2: %+v, %v", r, ok)
	}
	if r, ok := Find("REC-99"); ok {
		t.Errorf("REC-99: %+v", r)
	}
}
