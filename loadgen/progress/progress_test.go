package progress

import (
	"bytes"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"tureen/loadgen/trial"
)

func TestLinesWithoutATerminal(t *testing.T) {
	var b bytes.Buffer
	show := New(&b)
	show.Phase("calibrating", 2*time.Second)
	show.Say("noise floor %d", 7)
	show.Phase("measuring", 0)
	show.Live(trial.Live{Joined: 3, Wanted: 10, P50: 1500 * time.Microsecond, P99: 20 * time.Millisecond})
	show.Live(trial.Live{Joined: 10, Wanted: 10})
	show.Phase("waiting", 0)
	show.Close()
	const want = "calibrating, 2s\nnoise floor 7\nmeasuring\n  10 of 10 viewers\nwaiting\n"
	if b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

func TestFigures(t *testing.T) {
	got := figures(trial.Live{Joined: 3, Wanted: 10, P50: 1500 * time.Microsecond, P99: 20 * time.Millisecond})
	if got != "3 of 10 viewers, p50 1.50 ms, p99 20.00 ms" {
		t.Error(got)
	}
}

func TestFilesAreNoTerminals(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if IsTerminal(file) || IsTerminal(&bytes.Buffer{}) {
		t.Error("taken for a terminal")
	}
}

// screen is what a terminal gets.
type screen struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

// Bars end with the display, in whatever phase, and can be closed twice. What they draw needs a terminal: ci's to see.
func TestBarsEnd(t *testing.T) {
	s := &screen{}
	show := newBars(s)
	show.Phase("calibrating", time.Hour)
	show.Live(trial.Live{Joined: 1, Wanted: 2, P99: time.Second})
	if text := show.beside(); !strings.Contains(text, "1h0m0s left") || !strings.Contains(text, "1 of 2 viewers") {
		t.Errorf("beside the bar: %q", text)
	}
	show.Phase("measuring", 0)
	show.Close()
	show.Close()
}
