package transcoder

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// leak is set for the process that the test starts of itself.
const leak = "TUREEN_TEST_LEAK"

// TestConfine: what takes more memory than a transcoder may gets none, and so
// ends, long before the machine has none left.
func TestConfine(t *testing.T) {
	if os.Getenv(leak) != "" {
		os.Exit(takeAll())
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestConfine$")
	cmd.Env = append(os.Environ(), leak+"=1")
	output, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != refused {
		t.Errorf("the process ends with %v, want it refused\n%s", err, output)
	}
}

// How takeAll ends.
const (
	refused = 40 + iota
	unbounded
	unconfined
)

// takeAll takes memory as a leak in C does, none of which is used: it is refused
// at the bound, not where the machine ends.
func takeAll() int {
	if Confine() != nil {
		return unconfined
	}
	const step = 64 << 20
	for taken := 0; taken < maxData; taken += step {
		_, err := unix.Mmap(-1, 0, step, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if errors.Is(err, unix.ENOMEM) {
			return refused
		}
	}
	return unbounded
}
