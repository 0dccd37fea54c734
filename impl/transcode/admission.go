package transcode

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"tureen/impl/media"
	"tureen/impl/transcode/pipe"
)

// load is how much of the processors' time transcodes may take. Past it each
// would fall behind real time; what is left is for the proxy and its viewers.
const load = 0.9

// assumed is what a stream of 640×360 and 30 pictures a second is taken to cost
// until it has been measured, in processors.
const assumed = 0.15

// ripe is how old a transcode's cost must be to be believed: a publisher faster
// than real time fills all buffers first.
const ripe = 4 * time.Second

// admission bounds the number of transcodes, by a fixed limit or by what those
// that run are measured to cost.
type admission struct {
	max      int // 0 for none
	capacity float64

	mu      sync.Mutex // guards what follows, and the seats
	typical float64    // what a stream costs that nothing is known of, in processors
	seats   map[*seat]struct{}
}

func newAdmission(limit int) *admission {
	return &admission{
		max: limit, capacity: load * float64(runtime.GOMAXPROCS(0)),
		typical: assumed, seats: map[*seat]struct{}{},
	}
}

// seat is one transcode's place. Its fields are guarded by the admission.
type seat struct {
	of   *admission
	cost float64 // in processors: estimated, then measured
	born time.Time

	used time.Duration // processor time at the last measurement
	at   time.Time     // when that was
}

// admit gives a seat to one more transcode; the error is ErrCapacity.
func (a *admission) admit() (*seat, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.max > 0 && len(a.seats) >= a.max || a.max == 0 && !a.carries(a.typical, nil) {
		return nil, ErrCapacity
	}
	s := &seat{of: a, cost: a.typical, born: time.Now()}
	a.seats[s] = struct{}{}
	return s, nil
}

// carries reports whether one of that cost fits beside all but one. The first
// always does: it loses pictures rather than be refused by an empty machine.
func (a *admission) carries(cost float64, besides *seat) bool {
	others := 0
	sum := 0.0
	for s := range a.seats {
		if s != besides {
			others++
			sum += s.cost
		}
	}
	return others == 0 || sum+cost <= a.capacity
}

func (s *seat) leave() {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	delete(s.of.seats, s)
}

// fits judges a transcode once its pictures' size is known; the error is
// ErrCapacity. Cost grows a little less than with the number of pixels.
func (s *seat) fits(tracks []pipe.Track) error {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	const usual = 640 * 360
	cost := s.of.typical
	for _, t := range tracks {
		if p := t.Output.Picture; t.Output.Kind == media.Video && t.Input != t.Output.Codec {
			cost *= max(1, math.Pow(float64(p.Width*p.Height)/usual, 0.9))
		}
	}
	if s.of.max == 0 && !s.of.carries(cost, s) {
		return ErrCapacity
	}
	s.cost = max(s.cost, cost)
	return nil
}

// measure takes the processor time that the transcode's process has used.
func (s *seat) measure(pid int, now time.Time) {
	used, err := processorTime(pid)
	if err != nil {
		return // it has just ended
	}
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	if !s.at.IsZero() && now.Sub(s.born) > ripe {
		const weight = 0.3 // of the newest second
		newest := float64(used-s.used) / float64(now.Sub(s.at))
		s.cost += weight * (newest - s.cost)
	}
	s.used, s.at = used, now
}

// tick is the unit of processor time in /proc (proc_pid_stat(5)); Linux fixes
// it for user space.
const tick = time.Second / 100

// processorTime is what a process has used so far.
func processorTime(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, in brackets, may hold anything; utime and stime are fields 14
	// and 15, the 12th and 13th after it.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	if err1 != nil || err2 != nil {
		return 0, fmt.Errorf("/proc/%d/stat tells no times", pid)
	}
	return time.Duration(user+system) * tick, nil
}

// Calibration is the argument after Config.Command with which a transcoder
// encodes this much media of 640×360 and 30 pictures a second, and ends. What
// that costs is what any stream is expected to.
const (
	Calibration     = "--calibrate"
	calibrationTime = 20 * time.Second
)

// CalibrationMedia is how much is encoded for Calibration.
const CalibrationMedia = 2 * time.Second

// calibrate measures what a typical stream costs here.
func (a *admission) calibrate(ctx context.Context, c Config, start func(*exec.Cmd) error) {
	if a.max > 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, calibrationTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.Command[0], append(c.Command[1:len(c.Command):len(c.Command)], Calibration)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &diary{log: c.Log}, c.patience.death
	err := start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		if ctx.Err() != context.Canceled {
			c.Log.Warn("what transcoding costs could not be measured at the start", "error", err)
		}
		return
	}
	used, err := time.ParseDuration(strings.TrimSpace(out.String()))
	if err != nil || used <= 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.typical = float64(used) / float64(CalibrationMedia)
	c.Log.Debug("transcoding calibrated", "processors_per_stream", a.typical, "capacity", a.capacity)
}
