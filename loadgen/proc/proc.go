// Package proc measures what processes use: CPU time and resident memory of a server with its children, found by the
// port it listens on, and of the generator itself. It sees processes of this machine only.
package proc

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	psnet "github.com/shirou/gopsutil/v4/net"
	"github.com/shirou/gopsutil/v4/process"
)

// ErrNotFound is wrapped by Find's error when no process of this machine that can be seen listens on the address.
var ErrNotFound = errors.New("no process found")

// Usage is what a set of processes has used since they began, but for Resident, which is of now.
type Usage struct {
	User, System time.Duration
	Resident     uint64 // bytes
	Processes    int
}

// Find returns the processes, other than this one, that listen on a TCP address of this machine.
func Find(address *net.TCPAddr) ([]int32, error) {
	local, err := isLocal(address.IP)
	if err != nil {
		return nil, err
	}
	if !local {
		return nil, fmt.Errorf("%w: %s is not of this machine", ErrNotFound, address.IP)
	}
	connections, err := psnet.Connections("tcp")
	if err != nil {
		return nil, fmt.Errorf("listing connections: %w", err)
	}
	var pids []int32
	for _, c := range connections {
		if c.Status == "LISTEN" && int(c.Laddr.Port) == address.Port && c.Pid > 0 && c.Pid != int32(os.Getpid()) {
			pids = append(pids, c.Pid)
		}
	}
	if len(pids) == 0 {
		return nil, fmt.Errorf("%w that listens on port %d", ErrNotFound, address.Port)
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

func isLocal(ip net.IP) (bool, error) {
	if ip.IsLoopback() || ip.IsUnspecified() {
		return true, nil
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return false, fmt.Errorf("listing addresses: %w", err)
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.Equal(ip) {
			return true, nil
		}
	}
	return false, nil
}

// Watcher adds up what processes and their children use. It remembers what those used that have ended, as far as it has
// seen it, so it should be asked from time to time.
type Watcher struct {
	roots []int32

	mu   sync.Mutex
	last map[key]Usage
}

// key tells a process from a later one that bears the same number.
type key struct {
	pid     int32
	created int64
}

// Watch returns a watcher of these processes and their children. All must exist.
func Watch(pids []int32) (*Watcher, error) {
	for _, pid := range pids {
		if ok, err := process.PidExists(pid); err != nil || !ok {
			return nil, fmt.Errorf("%w with number %d", ErrNotFound, pid)
		}
	}
	return &Watcher{roots: pids, last: map[key]Usage{}}, nil
}

// Processes returns the numbers of the processes that were given, without children.
func (w *Watcher) Processes() []int32 { return w.roots }

// Usage returns what is used by now.
func (w *Watcher) Usage() Usage {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k, u := range w.last {
		u.Resident, u.Processes = 0, 0
		w.last[k] = u
	}
	seen := map[int32]bool{}
	for _, pid := range w.roots {
		w.visit(pid, seen)
	}
	var sum Usage
	for _, u := range w.last {
		sum.User += u.User
		sum.System += u.System
		sum.Resident += u.Resident
		sum.Processes += u.Processes
	}
	return sum
}

// visit reads a process and its children. One that ends meanwhile keeps its last figures.
func (w *Watcher) visit(pid int32, seen map[int32]bool) {
	if seen[pid] {
		return
	}
	seen[pid] = true
	p, err := process.NewProcess(pid)
	if err != nil {
		return
	}
	created, err := p.CreateTime()
	if err != nil {
		return
	}
	if u, err := usageOf(p); err == nil {
		w.last[key{pid, created}] = u
	}
	children, err := p.Children()
	if err != nil {
		return
	}
	for _, child := range children {
		w.visit(child.Pid, seen)
	}
}

func usageOf(p *process.Process) (Usage, error) {
	times, err := p.Times()
	if err != nil {
		return Usage{}, fmt.Errorf("reading CPU time: %w", err)
	}
	memory, err := p.MemoryInfo()
	if err != nil {
		return Usage{}, fmt.Errorf("reading memory: %w", err)
	}
	return Usage{User: seconds(times.User), System: seconds(times.System), Resident: memory.RSS, Processes: 1}, nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
