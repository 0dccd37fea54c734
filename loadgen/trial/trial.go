// Package trial runs one measurement: it calibrates, publishes, lets viewers join, and reports what they saw. The parts
// are other packages'; this one is the order in which they play.
package trial

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
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
	liveTimeout    = 15 * time.Second       // within which what is published elsewhere must be live at the target
	probeInterval  = 100 * time.Millisecond // between looks at whether it is
	stagger        = 40 * time.Millisecond  // over which several streams' beginnings are spread
)

// Config says what to measure.
type Config struct {
	Target      Target
	Ingest      *publish.Config // where to publish when that isn't the target itself; its Source isn't used
	Publishers  int             // streams at once, each with its share of the viewers; 0: one
	Source      *publish.Source
	Noise       *publish.Source // what calibrates; must be Traceable
	Viewers     int
	HTTP2       bool          // viewers speak HTTP/2
	Churn       time.Duration // the mean time that viewers stay before they leave, to return later; 0: they stay
	Seed        uint64        // of what is random
	Slow        int           // viewers that join half way and take too little
	Late        time.Duration // the latency above which a frame counts as late; 0: measure.DefaultLate
	SLO         report.SLO    // what else must hold
	Ramp        time.Duration // in which the viewers join, evenly
	Duration    time.Duration // from the last join on
	Calibration time.Duration
	Threads     int           // that read the viewers' sockets; 0 lets the machine decide
	PIDs        []int32       // the server's processes; none: found by the port
	MaxNoise    time.Duration // above which the machine can't measure; 0: report.MaxNoise
	Progress    Progress
}

// Progress is told how a run goes.
type Progress interface {
	// Say tells what happens.
	Say(format string, args ...any)
	// Phase begins a phase that takes about so long.
	Phase(name string, length time.Duration)
	// Live gives the figures so far, about once a second.
	Live(Live)
}

// Live is how far a run has come.
type Live struct {
	Joined, Wanted int // viewers, or visits of those that come and go
	P50, P99       time.Duration
}

// Silent is the progress that nobody looks at.
type Silent struct{}

// Say says nothing.
func (Silent) Say(string, ...any) {}

// Phase says nothing.
func (Silent) Phase(string, time.Duration) {}

// Live says nothing.
func (Silent) Live(Live) {}

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
	visits    []visit
	groups    []*measure.Group // of the streams, once viewers join
	chart     *measure.Chart
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
	if t.chart != nil {
		t.report.Result = measure.Sum(t.groups...)
		t.report.Timeline, t.report.Heat = t.chart.Points(), t.chart.Heat()
		t.report.ShareStreams(t.groups)
	}
	t.report.Judge(t.cfg.MaxNoise, t.cfg.SLO)
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
		cfg.Progress = Silent{}
	}
	cfg.MaxNoise = cmp.Or(cfg.MaxNoise, report.MaxNoise)
	cfg.Late = cmp.Or(cfg.Late, measure.DefaultLate)
	cfg.Publishers = max(cfg.Publishers, 1)
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
	if err := cfg.check(); err != nil {
		return nil, err
	}
	want := uint64(cfg.Viewers + cfg.Slow + cfg.Publishers + spareFiles)
	if cfg.Churn > 0 {
		want += uint64(cfg.Viewers) // for those that haven't quite left
	}
	if limit, err := proc.RaiseDescriptors(want); err != nil || limit < want {
		return nil, fmt.Errorf("%w: %d viewers need %d open files, the limit is %d (ulimit -n)", ErrNoRun, cfg.Viewers+cfg.Slow, want, limit)
	}
	t := &trial{cfg: cfg, epoch: time.Now(), visits: plan(&cfg)}
	t.report = report.New(t.epoch)
	t.report.Settings = report.Settings{
		Target: cfg.Target.Base(), Path: cfg.Target.Path, Input: cfg.Source.Name, Looped: cfg.Source.Period > 0,
		Viewers: cfg.Viewers, Slow: cfg.Slow, Ramp: cfg.Ramp.Seconds(), Duration: cfg.Duration.Seconds(), Threads: cfg.Threads,
		Publishers: cfg.Publishers, Churn: cfg.Churn.Seconds(), Seed: cfg.Seed, Late: cfg.Late.Microseconds(),
		Protocol: cfg.protocol(), Measurable: cfg.Source.Measurable(),
	}
	var err error
	if t.pool, err = view.Start(cfg.Threads, t.epoch); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoRun, err)
	}
	return t, nil
}

// check refuses what several publishers can't do.
func (c *Config) check() error {
	switch {
	case c.Publishers > c.Viewers:
		return fmt.Errorf("%w: %d publishers need a viewer each, there are %d", ErrNoRun, c.Publishers, c.Viewers)
	case c.Publishers > 1 && c.Ingest != nil:
		return fmt.Errorf("%w: published elsewhere there is one stream, not %d", ErrNoRun, c.Publishers)
	case c.Publishers > 1 && strings.ContainsRune(c.Target.Path, '?'):
		return fmt.Errorf("%w: several streams are told apart by their paths' ends, so that there is no room for a query", ErrNoRun)
	case c.Churn < 0 || c.Churn > 0 && c.Churn < shortest:
		return fmt.Errorf("%w: viewers must stay %v on average at least", ErrNoRun, shortest)
	}
	return nil
}

// protocol says in words how viewers speak.
func (c *Config) protocol() string {
	name := "HTTP/1.1"
	if c.HTTP2 {
		name = "HTTP/2"
	}
	if c.Target.TLS != nil {
		name += " over TLS"
	}
	return name
}

// streams returns the run's streams, whose schedules begin from a moment on.
func (t *trial) streams(start time.Duration) []*stream {
	streams := make([]*stream, t.cfg.Publishers)
	for i := range streams {
		path := t.cfg.Target.Path
		if len(streams) > 1 {
			path = fmt.Sprintf("%s-%d", path, i+1)
		}
		streams[i] = &stream{path: path, start: start + stagger*time.Duration(i)/time.Duration(len(streams))}
	}
	return streams
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
	t.cfg.Progress.Phase("calibrating over a loop-back pipe", t.cfg.Calibration)
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
		t.measureNoise(ctx)
		before := t.report.Noise.Before
		p99 := before.Quantile99()
		if before.Count > 0 && p99 <= t.cfg.MaxNoise || ctx.Err() != nil {
			break
		}
		if try == calibrations && before.Count == 0 {
			stop()
			return nil, fmt.Errorf("%w: machine too busy: nothing came through the loop-back pipe in %v, tried %d times",
				ErrNoRun, t.cfg.Calibration, try)
		}
		if try == calibrations {
			break
		}
		if before.Count == 0 {
			t.cfg.Progress.Say("nothing came through the loop-back pipe")
		} else {
			t.cfg.Progress.Say("noise floor %v at p99, above %v", p99, t.cfg.MaxNoise)
		}
		t.cfg.Progress.Phase("calibrating again", t.cfg.Calibration)
	}
	return stop, nil
}

// measureNoise measures the noise floor once.
func (t *trial) measureNoise(ctx context.Context) {
	t.collector.Do(t.noise.Reset)
	sleep(ctx, max(t.cfg.Calibration, calibrateMin)+leadTime)
	t.collector.Do(func() { t.report.Noise.Before = t.noise.Latencies() })
}

// startNoise lets one viewer for each thread join the pipe, and publishes to them.
func (t *trial) startNoise(ctx, pipeCtx context.Context, pipe *loopback.Pipe, running *sync.WaitGroup) error {
	target := Target{Address: pipe.Address(), Host: pipe.Address().String(), Path: "/"}
	start := t.since() + leadTime
	viewers := make([]view.Viewer, t.cfg.Threads)
	for i := range viewers {
		// These are numbered behind the target's viewers.
		viewers[i] = target.viewer(int32(len(t.visits)+i), target.Path, t.since())
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
	streams := t.streams(0)
	t.cfg.Progress.Phase("publishing", warmUp)
	sendTo, err := t.dialAll(ctx, streams)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoRun, err)
	}
	defer sendTo.close()
	// The publishers go on after an interruption, until what is on its way has arrived.
	sending, stopSending := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSending()
	alive, ended := context.WithCancel(ctx)
	defer ended()
	start := t.since() + leadTime
	for _, s := range streams {
		s.start += start
	}
	sendTo.run(sending, t.epoch, streams, ended)
	sleep(alive, warmUp)
	if err = t.awaitLive(alive, streams); err == nil {
		t.watch(alive, streams)
	} else if alive.Err() != nil {
		err = nil // the publisher's end, or ours, says more
	}
	// The viewers go first, so that the streams' end is none of theirs.
	t.stopViewers()
	stopSending()
	sendTo.done.Wait()
	t.reportPublishers(sendTo, streams)
	if err == nil && t.chart == nil {
		return t.neverBegan(ctx, sendTo)
	}
	return err
}

// watch lets the viewers join and waits for the end of the run and until what is due by then has arrived.
func (t *trial) watch(ctx context.Context, streams []*stream) {
	if ctx.Err() != nil {
		return
	}
	alone := t.usage()
	t.before, t.ownBefore, t.peak = alone.server.Resident, alone.self.Resident, 0
	first := t.since() + leadTime
	full := first + t.cfg.Ramp
	end := full + t.cfg.Duration
	if last, once := t.cfg.Source.End(); once {
		end = min(end, streams[0].start+last+1)
	}
	t.cfg.Progress.Phase(fmt.Sprintf("%d viewers join", t.cfg.Viewers), t.cfg.Ramp)
	t.join(streams, first, end)
	t.sampleUntil(ctx, full)
	t.cfg.Progress.Phase("measuring", end-full)
	from := t.usage()
	if t.cfg.Slow > 0 {
		crowd := t.joinSlow(ctx, streams, t.halfWay(first))
		defer crowd.Stop()
	}
	t.sampleUntil(ctx, end)
	t.reportUsage(from, t.usage())

	if now := t.since(); now < end {
		end = now
		t.collector.Do(func() {
			for _, g := range t.groups {
				g.EndAt(end)
			}
		})
	}
	t.report.Length = max(end-first, 0).Seconds()
	t.cfg.Progress.Phase("waiting for frames on their way", settleTime)
	t.settle(settleTime)
	t.collector.Do(func() { t.report.Noise.During = t.noise.Latencies() })
	if p99 := t.report.Noise.During.Quantile99(); p99 > t.cfg.MaxNoise {
		t.report.Warn("the noise floor rose to %v at p99 during the run, by the target's own load or by others': "+
			"latencies are no better than that", p99)
	}
}

// join hands the viewers to the pool.
func (t *trial) join(streams []*stream, first, end time.Duration) {
	all := t.seat(streams, t.visits, first)
	t.chart = measure.NewChart(first, end-first, len(all))
	for _, s := range streams {
		group := measure.NewGroup(t.cfg.Source, s.start, end, s.viewers)
		group.ReadStamp = stamp.Read
		group.NeedPictures = t.pool.CapturePictures
		group.Late, group.Chart = t.cfg.Late, t.chart
		if t.cfg.Slow > 0 {
			group.SplitAt(t.halfWay(first))
		}
		t.groups = append(t.groups, group)
		t.collector.Add(group)
	}
	if !t.cfg.Source.Traceable() {
		t.pool.CapturePictures()
	}
	if t.cfg.HTTP2 || t.cfg.Target.TLS != nil {
		web := &view.Web{TLS: t.cfg.Target.TLS, HTTP2: t.cfg.HTTP2}
		for i := range all {
			all[i].Web = web
		}
	}
	t.collector.Do(t.noise.Reset)
	t.pool.Join(all)
}

// halfWay is when slow viewers join: half of the duration after the last of those who are measured.
func (t *trial) halfWay(first time.Duration) time.Duration {
	return first + t.cfg.Ramp + t.cfg.Duration/2
}

// joinSlow waits for the moment and has the slow viewers join beside those that are measured.
func (t *trial) joinSlow(ctx context.Context, streams []*stream, at time.Duration) *slow.Crowd {
	t.sampleUntil(ctx, at)
	t.cfg.Progress.Say("%d slow viewers join", t.cfg.Slow)
	var paths []string
	for _, s := range streams {
		paths = append(paths, s.path)
	}
	server := slow.Server{Address: t.cfg.Target.Address, Host: t.cfg.Target.Host, TLS: t.cfg.Target.TLS}
	return slow.Start(ctx, server, paths, t.cfg.Slow)
}

// settle waits until all has come, a time at most.
func (t *trial) settle(limit time.Duration) {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for deadline := t.since() + limit; t.since() < deadline && !t.settled(); {
		<-ticker.C
	}
}

func (t *trial) settled() bool {
	for _, g := range t.groups {
		if !t.collector.Settled(g) {
			return false
		}
	}
	return true
}

// sampleUntil looks at the server's memory, and tells how it goes, until the moment or the context's end.
func (t *trial) sampleUntil(ctx context.Context, end time.Duration) {
	for ctx.Err() == nil && t.since() < end {
		sleep(ctx, min(sampleInterval, end-t.since()))
		t.sampleMemory()
		t.cfg.Progress.Live(t.live())
	}
}

func (t *trial) live() Live {
	live := Live{Wanted: len(t.visits)}
	t.collector.Do(func() {
		for _, g := range t.groups {
			live.Joined += g.Joined()
		}
		latency := measure.LatenciesOf(t.groups...)
		live.P50, live.P99 = time.Duration(latency.P50)*time.Microsecond, latency.Quantile99()
	})
	return live
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
