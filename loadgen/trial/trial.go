// Package trial runs one measurement: it calibrates, publishes, lets viewers join, and reports what they saw. The parts
// are other packages'; this one is the order in which they play.
package trial

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"tureen/fixtures/stamp"
	"tureen/loadgen/loopback"
	"tureen/loadgen/measure"
	"tureen/loadgen/proc"
	"tureen/loadgen/publish"
	"tureen/loadgen/report"
	"tureen/loadgen/slow"
	"tureen/loadgen/view"
)

const (
	warmUp         = time.Second            // the publisher's time alone, in which the target learns the tracks
	settleTime     = 2 * time.Second        // how long frames may come after the end before they are lost
	pollInterval   = 50 * time.Millisecond  // between looks at whether all has come
	sampleInterval = time.Second            // between looks at the server's memory
	leadTime       = 20 * time.Millisecond  // between setting up and the first frame
	calibrations   = 3                      // how often a busy machine is given the chance to calm down
	calibrateMin   = 100 * time.Millisecond // less measures nothing
	spareFiles     = 64                     // descriptors for all but the viewers
)

// Config says what to measure.
type Config struct {
	Target      Target
	Source      *publish.Source
	Noise       *publish.Source // what calibrates; must be Traceable
	Viewers     int
	Slow        int           // viewers that join half way and take too little
	Ramp        time.Duration // in which the viewers join, evenly
	Duration    time.Duration // from the last join on
	Calibration time.Duration
	Threads     int           // that read the viewers' sockets; 0 lets the machine decide
	PIDs        []int32       // the server's processes; none: found by the port
	MaxNoise    time.Duration // above which the machine can't measure; 0: report.MaxNoise
	Progress    func(format string, args ...any)
}

// ErrNoRun is wrapped by errors that mean that nothing could be measured.
var ErrNoRun = errors.New("nothing measured")

// trial is a run in progress.
type trial struct {
	cfg       Config
	epoch     time.Time
	report    *report.Report
	pool      *view.Pool
	collector measure.Collector
	noise     *measure.Group
	group     *measure.Group
	server    *proc.Watcher
	before    uint64 // the server's resident memory without viewers, in bytes
	peak      uint64 // the most of it seen since
	ownBefore uint64 // the generator's own
	read      atomic.Int64

	collecting sync.WaitGroup
	stopPool   sync.Once
}

// Run measures, and returns a report with its verdict even when the context ends early. An error means that there is
// nothing to report.
func Run(ctx context.Context, cfg Config) (*report.Report, error) {
	t, err := start(cfg)
	if err != nil {
		return nil, err
	}
	t.collecting.Go(func() { t.collector.Run(t.pool) })
	err = t.run(ctx)
	t.stopViewers()
	if err != nil {
		return nil, err
	}
	t.report.Cut = ctx.Err() != nil
	t.report.BytesRead = t.read.Load()
	if t.group != nil {
		t.report.Result = t.group.Result()
	}
	t.report.Judge(t.cfg.MaxNoise)
	return t.report, nil
}

// stopViewers closes all viewers' connections and waits until their events are handled.
func (t *trial) stopViewers() {
	t.stopPool.Do(func() {
		t.pool.Stop()
		t.collecting.Wait()
	})
}

func start(cfg Config) (*trial, error) {
	if cfg.Progress == nil {
		cfg.Progress = func(string, ...any) {}
	}
	cfg.MaxNoise = cmp.Or(cfg.MaxNoise, report.MaxNoise)
	if cfg.Threads == 0 {
		// One thread reads well over 100,000 frames a second; more would only take cores from a server beside it.
		cfg.Threads = min(max(runtime.NumCPU()/2, 1), 4)
	}
	if cfg.Viewers < 1 || cfg.Duration <= 0 || cfg.Ramp < 0 || cfg.Slow < 0 {
		return nil, fmt.Errorf("%w: at least one viewer, a duration above zero and no negative ramp are needed", ErrNoRun)
	}
	if cfg.Source.Restarts {
		return nil, fmt.Errorf("%w: timestamps of %s begin anew in the middle, so that frames can't be told apart", ErrNoRun, cfg.Source.Name)
	}
	want := uint64(cfg.Viewers + cfg.Slow + spareFiles)
	if limit, err := proc.RaiseDescriptors(want); err != nil || limit < want {
		return nil, fmt.Errorf("%w: %d viewers need %d open files, the limit is %d (ulimit -n)", ErrNoRun, cfg.Viewers+cfg.Slow, want, limit)
	}
	t := &trial{cfg: cfg, epoch: time.Now()}
	t.report = report.New(t.epoch)
	t.report.Settings = report.Settings{
		Target: cfg.Target.Base(), Path: cfg.Target.Path, Input: cfg.Source.Name, Looped: cfg.Source.Period > 0,
		Viewers: cfg.Viewers, Slow: cfg.Slow, Ramp: cfg.Ramp.Seconds(), Duration: cfg.Duration.Seconds(), Threads: cfg.Threads,
	}
	var err error
	if t.pool, err = view.Start(cfg.Threads, t.epoch); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoRun, err)
	}
	return t, nil
}

func (t *trial) since() time.Duration { return time.Since(t.epoch) }

func (t *trial) run(ctx context.Context) error {
	stopNoise, err := t.calibrate(ctx)
	if err != nil {
		return err
	}
	defer stopNoise()
	if ctx.Err() != nil || t.report.Noise.Before.Quantile99() > t.cfg.MaxNoise {
		return nil // the verdict says why
	}
	t.findServer()
	return t.measure(ctx)
}

// calibrate measures the noise floor and leaves the pipe running, to measure it during the run too.
func (t *trial) calibrate(ctx context.Context) (stop func(), err error) {
	t.cfg.Progress("calibrating for %v over a loop-back pipe", t.cfg.Calibration)
	pipeCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	pipe, err := loopback.Listen(pipeCtx)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("%w: %w", ErrNoRun, err)
	}
	var running sync.WaitGroup
	stop = func() {
		cancel()
		running.Wait()
		pipe.Wait()
	}
	if err := t.startNoise(ctx, pipeCtx, pipe, &running); err != nil {
		cancel()
		running.Wait()
		pipe.Wait()
		return nil, err
	}
	for try := 1; ; try++ {
		if err := t.measureNoise(ctx); err != nil {
			stop()
			return nil, err
		}
		p99 := t.report.Noise.Before.Quantile99()
		if p99 <= t.cfg.MaxNoise || try == calibrations || ctx.Err() != nil {
			break
		}
		t.cfg.Progress("noise floor %v at p99, above %v; calibrating again", p99, t.cfg.MaxNoise)
	}
	return stop, nil
}

// measureNoise measures the noise floor once.
func (t *trial) measureNoise(ctx context.Context) error {
	t.collector.Do(t.noise.Reset)
	sleep(ctx, max(t.cfg.Calibration, calibrateMin)+leadTime)
	t.collector.Do(func() { t.report.Noise.Before = t.noise.Latencies() })
	if ctx.Err() == nil && t.report.Noise.Before.Count == 0 {
		return fmt.Errorf("%w: nothing came through the loop-back pipe in %v", ErrNoRun, t.cfg.Calibration)
	}
	return nil
}

// startNoise lets one viewer for each thread join the pipe, and publishes to them.
func (t *trial) startNoise(ctx, pipeCtx context.Context, pipe *loopback.Pipe, running *sync.WaitGroup) error {
	target := Target{Address: pipe.Address(), Host: pipe.Address().String(), Path: "/"}
	start := t.since() + leadTime
	viewers := make([]view.Viewer, t.cfg.Threads)
	for i := range viewers {
		// These are numbered behind the target's viewers.
		viewers[i] = target.viewer(t.cfg.Viewers+i, t.since())
	}
	t.noise = measure.NewGroup(t.cfg.Noise, start, never, viewers)
	t.collector.Add(t.noise)
	t.pool.Join(viewers)
	waitCtx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := pipe.AwaitViewers(waitCtx, len(viewers)); err != nil {
		return fmt.Errorf("%w: %w", ErrNoRun, err)
	}
	publisher, err := publish.Dial(ctx, target.Publisher(t.cfg.Noise))
	if err != nil {
		return fmt.Errorf("%w: loop-back pipe: %w", ErrNoRun, err)
	}
	running.Go(func() {
		sendCtx, cancel := context.WithCancel(pipeCtx)
		defer cancel()
		_, _ = publisher.Run(sendCtx, t.epoch.Add(start)) // ends with the pipe, which takes no leave
	})
	context.AfterFunc(pipeCtx, func() { _ = publisher.Close() })
	return nil
}

// never is later than any run ends.
const never = time.Duration(1) << 62

// findServer begins to watch the server's processes, if they can be found.
func (t *trial) findServer() {
	pids := t.cfg.PIDs
	if len(pids) == 0 {
		var err error
		if pids, err = proc.Find(t.cfg.Target.Address); err != nil {
			t.report.Warn("no CPU and memory of the server: %v (--pid names its processes)", err)
			return
		}
	}
	watcher, err := proc.Watch(pids)
	if err != nil {
		t.report.Warn("no CPU and memory of the server: %v", err)
		return
	}
	t.server = watcher
}

func (t *trial) measure(ctx context.Context) error {
	t.cfg.Progress("publishing %s to %s%s", t.cfg.Source.Name, t.cfg.Target.Base(), t.cfg.Target.Path)
	publisher, err := publish.Dial(ctx, t.cfg.Target.Publisher(t.cfg.Source))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoRun, err)
	}
	defer func() { _ = publisher.Close() }()
	// The publisher goes on after an interruption, until what is on its way has arrived.
	sending, stopSending := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSending()
	alive, ended := context.WithCancel(ctx)
	defer ended()
	start := t.since() + leadTime
	var end outcome
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		defer ended()
		end.answer, end.err = publisher.Run(sending, t.epoch.Add(start))
		end.early = sending.Err() == nil
	}()
	sleep(alive, warmUp)
	t.watch(alive, start)
	// The viewers go first, so that the stream's end is none of theirs.
	t.stopViewers()
	stopSending()
	<-sent
	t.reportPublisher(publisher.Stats(), end)
	if t.group == nil {
		return t.neverBegan(ctx, end)
	}
	return nil
}

// outcome is how publishing ended.
type outcome struct {
	answer publish.Answer
	err    error
	early  bool // before it was told to
}

// reportPublisher reports what became of the publisher. A target that answers nothing at the end has still carried the
// stream.
func (t *trial) reportPublisher(stats publish.Stats, end outcome) {
	p := report.Publisher{
		Frames: stats.Frames, Bytes: stats.Bytes, Lag: measure.SpreadOf(stats.Lag), Stall: measure.SpreadOf(stats.Stall),
		Status: end.answer.Status,
	}
	var refused *publish.RefusedError
	switch {
	case end.err == nil:
	case end.early, errors.As(end.err, &refused):
		p.Error = end.err.Error()
	default:
		t.report.Warn("the publisher's end: %v", end.err)
	}
	t.report.Publisher = p
}

// neverBegan explains why no viewer joined.
func (t *trial) neverBegan(ctx context.Context, end outcome) error {
	if ctx.Err() != nil {
		return nil
	}
	if end.err != nil {
		return fmt.Errorf("%w: %w", ErrNoRun, end.err)
	}
	return fmt.Errorf("%w: %s is over before viewers join", ErrNoRun, t.cfg.Source.Name)
}

// watch lets the viewers join and waits for the end of the run and until what is due by then has arrived.
func (t *trial) watch(ctx context.Context, start time.Duration) {
	if ctx.Err() != nil {
		return
	}
	alone := t.usage()
	t.before, t.ownBefore, t.peak = alone.server.Resident, alone.self.Resident, 0
	first := t.since() + leadTime
	full := first + t.cfg.Ramp
	end := full + t.cfg.Duration
	if last, once := t.cfg.Source.End(); once {
		end = min(end, start+last+1)
	}
	t.join(start, first, end)
	t.cfg.Progress("%d viewers join within %v", t.cfg.Viewers, t.cfg.Ramp)
	sleep(ctx, full-t.since())
	t.cfg.Progress("measuring for %v", t.cfg.Duration)
	from := t.usage()
	if t.cfg.Slow > 0 {
		crowd := t.joinSlow(ctx, t.halfWay(first))
		defer crowd.Stop()
	}
	t.sampleUntil(ctx, end)
	t.reportUsage(from, t.usage())

	if now := t.since(); now < end {
		end = now
		t.collector.Do(func() { t.group.EndAt(end) })
	}
	t.report.Length = max(end-first, 0).Seconds()
	t.cfg.Progress("waiting up to %v for frames on their way", settleTime)
	t.settle(settleTime)
	t.collector.Do(func() { t.report.Noise.During = t.noise.Latencies() })
	if p99 := t.report.Noise.During.Quantile99(); p99 > t.cfg.MaxNoise {
		t.report.Warn("the noise floor rose to %v at p99 during the run, by the target's own load or by others': "+
			"latencies are no better than that", p99)
	}
}

// join hands the viewers to the pool.
func (t *trial) join(start, first, end time.Duration) {
	viewers := make([]view.Viewer, t.cfg.Viewers)
	for i := range viewers {
		viewers[i] = t.cfg.Target.viewer(i, first+t.cfg.Ramp*time.Duration(i)/time.Duration(len(viewers)))
		viewers[i].Read = &t.read
	}
	group := measure.NewGroup(t.cfg.Source, start, end, viewers)
	group.ReadStamp = stamp.Read
	group.NeedPictures = t.pool.CapturePictures
	if !t.cfg.Source.Traceable() {
		t.pool.CapturePictures()
	}
	if t.cfg.Slow > 0 {
		group.SplitAt(t.halfWay(first))
	}
	t.group = group
	t.collector.Add(group)
	t.collector.Do(t.noise.Reset)
	t.pool.Join(viewers)
}

// halfWay is when slow viewers join: half of the duration after the last of those who are measured.
func (t *trial) halfWay(first time.Duration) time.Duration {
	return first + t.cfg.Ramp + t.cfg.Duration/2
}

// joinSlow waits for the moment and has the slow viewers join beside those that are measured.
func (t *trial) joinSlow(ctx context.Context, at time.Duration) *slow.Crowd {
	t.sampleUntil(ctx, at)
	t.cfg.Progress("%d slow viewers join", t.cfg.Slow)
	return slow.Start(ctx, t.cfg.Target.Address, t.cfg.Target.Host, t.cfg.Target.Path, t.cfg.Slow)
}

// settle waits until all has come, a time at most.
func (t *trial) settle(limit time.Duration) {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for deadline := t.since() + limit; t.since() < deadline && !t.collector.Settled(t.group); {
		<-ticker.C
	}
}

// sampleUntil looks at the server's memory until the moment, or the context's end.
func (t *trial) sampleUntil(ctx context.Context, end time.Duration) {
	for ctx.Err() == nil && t.since() < end {
		sleep(ctx, min(sampleInterval, end-t.since()))
		t.sampleMemory()
	}
}

// sleep waits for a time or the context's end.
func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
