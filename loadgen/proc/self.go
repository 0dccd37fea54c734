package proc

import (
	"fmt"
	"os"

	"github.com/shirou/gopsutil/v4/process"
	"golang.org/x/sys/unix"
)

// Self returns what this process has used, its CPU time to the microsecond.
func Self() (Usage, error) {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		return Usage{}, fmt.Errorf("reading own CPU time: %w", err)
	}
	u := Usage{Processes: 1}
	u.User = seconds(float64(r.Utime.Sec) + float64(r.Utime.Usec)/1e6)
	u.System = seconds(float64(r.Stime.Sec) + float64(r.Stime.Usec)/1e6)
	p, err := process.NewProcess(int32(os.Getpid()))
	if err != nil {
		return u, fmt.Errorf("finding own process: %w", err)
	}
	memory, err := p.MemoryInfo()
	if err != nil {
		return u, fmt.Errorf("reading own memory: %w", err)
	}
	u.Resident = memory.RSS
	return u, nil
}

// RaiseDescriptors raises this process' limit of open files so that want fit, and returns the limit then in force, which
// may be lower.
func RaiseDescriptors(want uint64) (uint64, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("reading the limit of open files: %w", err)
	}
	if limit.Cur >= want {
		return limit.Cur, nil
	}
	raised := unix.Rlimit{Cur: want, Max: max(want, limit.Max)}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &raised); err == nil {
		return want, nil
	}
	// Only root may raise the hard limit.
	raised = unix.Rlimit{Cur: min(want, limit.Max), Max: limit.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &raised); err != nil {
		return limit.Cur, fmt.Errorf("raising the limit of open files: %w", err)
	}
	return raised.Cur, nil
}
