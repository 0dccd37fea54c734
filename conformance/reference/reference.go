// Package reference builds the reference implementation and starts it, with short times, for the suite's own tests. It knows
// the implementation as a program with flags, and nothing more of it.
package reference

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"tureen/conformance/target"
)

// Short times, so that nothing waits for a default of 10 s.
const (
	flags    = " --listen {addr} --idle 4s --grace 2s --budget 1s --drain 3s --log warn"
	times    = "idle=4s,grace=2s,budget=1s,drain=3s"
	features = "pacing,wait,resume,content-range,rtp-udp,token-server,input-types,token-expiry,publish-key"
)

// Start builds and starts the reference. It ends with the test.
func Start(t testing.TB) *target.Target {
	t.Helper()
	return start(t, nil, flags+" --max-transcodes 40", features+",transcode")
}

// StartPassthrough starts the reference without its transcoder, which is much less work for the machine.
func StartPassthrough(t testing.TB) *target.Target {
	t.Helper()
	return start(t, []string{"CGO_ENABLED=0"}, flags, features)
}

func start(t testing.TB, environment []string, flags, features string) *target.Target {
	t.Helper()
	program := filepath.Join(t.TempDir(), "tureen")
	build := exec.Command("go", "build", "-o", program, "tureen/impl/cmd/tureen")
	build.Env = append(os.Environ(), environment...)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the reference: %v\n%s", err, out)
	}
	r := &target.Target{Name: "reference"}
	var err error
	if r.Features, err = target.ParseFeatures(features); err != nil {
		t.Fatal(err)
	}
	if r.Times, err = target.DefaultTimes.ParseTimes(times); err != nil {
		t.Fatal(err)
	}
	r.Start = func(ctx context.Context) (*target.Process, error) { return target.StartProcess(ctx, program+flags) }
	r.StartSmall = func(ctx context.Context) (*target.Process, error) {
		return target.StartProcess(ctx, program+flags+" --max-publishers 1 --max-viewers 2")
	}
	r.Process = run(t, program+flags)
	r.TokenProcess = run(t, program+flags+" --token-server=127.0.0.1/32")
	r.Base, r.Token = r.Process.Base, r.TokenProcess.Base
	return r
}

// run starts a command that ends with the test.
func run(t testing.TB, command string) *target.Process {
	t.Helper()
	p, err := target.StartProcess(t.Context(), command)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(5 * time.Second) })
	return p
}
