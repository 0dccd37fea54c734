package transcode

import (
	"errors"
	"io"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"tureen/impl/media"
	"tureen/impl/transcode/pipe"
)

func admissionOf(max int, capacity, typical float64) *admission {
	a := newAdmission(max)
	a.capacity, a.typical = capacity, typical
	return a
}

// TestFixedLimit: so many and no more, whatever they cost; a seat that is given
// up, once or twice, is free again.
func TestFixedLimit(t *testing.T) {
	a := admissionOf(2, 0.1, 5)
	var seats []*seat
	for range 2 {
		s, err := a.admit()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.fits(pictures(3840, 2160)); err != nil {
			t.Errorf("a fixed limit judges cost: %v", err)
		}
		seats = append(seats, s)
	}
	if _, err := a.admit(); !errors.Is(err, ErrCapacity) {
		t.Errorf("the third: %v", err)
	}
	seats[0].leave()
	seats[0].leave()
	if _, err := a.admit(); err != nil {
		t.Errorf("after one has left: %v", err)
	}
	if _, err := a.admit(); !errors.Is(err, ErrCapacity) {
		t.Errorf("a seat given up twice is free twice: %v", err)
	}
}

func pictures(width, height int) []pipe.Track {
	return []pipe.Track{{Input: "h264", Output: media.Track{
		Kind: media.Video, Codec: media.VP8, Picture: media.Picture{Width: width, Height: height},
	}}}
}

// TestCost: as many are taken as their cost allows; the first always is.
func TestCost(t *testing.T) {
	a := admissionOf(0, 1, 0.3)
	var seats []*seat
	for range 3 {
		s, err := a.admit()
		if err != nil {
			t.Fatal(err)
		}
		seats = append(seats, s)
	}
	if _, err := a.admit(); !errors.Is(err, ErrCapacity) {
		t.Errorf("1.2 of 1 processors: %v", err)
	}
	for _, s := range seats[1:] {
		s.leave()
	}
	if err := seats[0].fits(pictures(3840, 2160)); err != nil {
		t.Errorf("the only one is refused for its size: %v", err)
	}
	if _, err := a.admit(); !errors.Is(err, ErrCapacity) {
		t.Errorf("beside a big one: %v", err)
	}
	seats[0].leave()

	one, err1 := a.admit()
	two, err2 := a.admit()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if err := one.fits(pictures(640, 360)); err != nil {
		t.Errorf("a usual one: %v", err)
	}
	if err := two.fits(pictures(1920, 1080)); !errors.Is(err, ErrCapacity) {
		t.Errorf("nine times the pixels beside another: %v", err)
	}
	if err := two.fits([]pipe.Track{{Input: "opus", Output: media.Track{Kind: media.Audio, Codec: media.Vorbis}}}); err != nil {
		t.Errorf("sound alone: %v", err)
	}
	if err := two.fits([]pipe.Track{{Input: media.VP8, Output: pictures(3840, 2160)[0].Output}}); err != nil {
		t.Errorf("big pictures that pass: %v", err)
	}
}

// TestMeasured: what a transcode is measured to cost is what counts, once it has
// run for a while.
func TestMeasured(t *testing.T) {
	a := admissionOf(0, 1, 0.6)
	s, err := a.admit()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.admit(); !errors.Is(err, ErrCapacity) {
		t.Fatalf("1.2 of 1 processors: %v", err)
	}
	now := s.born
	// This process uses little in no time at all: seconds go by for the seat alone.
	for range 4 {
		s.measure(os.Getpid(), now)
		now = now.Add(time.Second)
	}
	if s.cost != 0.6 {
		t.Errorf("within its first seconds it is measured as %v", s.cost)
	}
	for range 60 {
		now = now.Add(time.Second)
		s.measure(os.Getpid(), now)
	}
	if s.cost > 0.1 {
		t.Errorf("one that does nothing costs %v", s.cost)
	}
	if _, err := a.admit(); err != nil {
		t.Errorf("beside one that does nothing: %v", err)
	}
	before := s.cost
	s.measure(1<<30, now) // a process that isn't
	if s.cost != before {
		t.Error("a process that is gone is measured")
	}
}

// TestProcessorTime: a process's own time, whatever its name holds.
func TestProcessorTime(t *testing.T) {
	before, err := processorTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	x := 0.0
	for began := time.Now(); time.Since(began) < 10*time.Second; {
		for i := range 1 << 16 {
			x += math.Sqrt(float64(i))
		}
		if after, err := processorTime(os.Getpid()); err != nil || after > before {
			return
		}
	}
	t.Errorf("no time has gone by, or an error came (%v)", x)
}

// TestCalibration: the cost that the transcoder states is taken; nonsense and
// failure leave what is assumed.
func TestCalibration(t *testing.T) {
	for behaviour, typical := range map[string]float64{"costs 500ms": 0.25, "costs -1s": assumed, "costs much": assumed} {
		p, _ := pool(t, behaviour)
		a := newAdmission(0)
		a.calibrate(t.Context(), p.config, p.spawner.start)
		if a.typical != typical {
			t.Errorf("%s: a stream costs %v, want %v", behaviour, a.typical, typical)
		}
	}
	p, j := pool(t, "")
	p.config.Command = []string{"/bin/false"}
	newAdmission(0).calibrate(t.Context(), p.config, p.spawner.start)
	if said := j.String(); !strings.Contains(said, "could not be measured") {
		t.Errorf("the log says %q", said)
	}
}

// TestSeats: a stream's seat is free when its transcoder is gone, however it
// went; one refused gets no transcoder.
func TestSeats(t *testing.T) {
	for _, behaviour := range []string{"echoes", "exits 1", "exits-at-once 1", "dies 9", "fails it", "claims", "then-hangs", "never"} {
		t.Run(behaviour, func(t *testing.T) {
			p, _ := pool(t, behaviour, func(c *Config) { c.Max = 1; c.patience.ready = 200 * time.Millisecond })
			for range 3 {
				if _, err := outcome(t, p, true); errors.Is(err, ErrCapacity) {
					t.Fatal("the stream before has left no seat")
				}
			}
		})
	}
}

// TestNoCapacity: the stream past the limit is refused at once, the others go on.
func TestNoCapacity(t *testing.T) {
	p, _ := pool(t, "echoes", spares(2), func(c *Config) { c.Max = 1 })
	process, err := p.Start(t.Context(), pipe.Job{Session: "id7"})
	if err != nil {
		t.Fatal(err)
	}
	defer process.Close()
	if _, err := p.Start(t.Context(), pipe.Job{Session: "id8"}); !errors.Is(err, ErrCapacity) || !strings.Contains(err.Error(), "try again later") {
		t.Errorf("the second: %v", err)
	}
	if n := len(p.spared()); n != 2 {
		t.Errorf("%d spares are left by one that was refused", n)
	}
	go func() {
		process.Write([]byte("some"))
		process.End()
	}()
	if _, err := process.Tracks(); err != nil {
		t.Error(err)
	}
	if _, err := process.Frame(); err != io.EOF {
		t.Error(err)
	}
}

// TestTooBig: a stream whose pictures turn out to be too big beside the others is
// refused then.
func TestTooBig(t *testing.T) {
	p, _ := pool(t, "echoes", func(c *Config) { c.Max = 0 })
	p.admission.mu.Lock()
	p.admission.capacity, p.admission.typical = 1, 0.01
	p.admission.seats[&seat{cost: 0.995}] = struct{}{}
	p.admission.mu.Unlock()
	defer func() { clear(p.admission.seats) }()
	if _, err := outcome(t, p, true); !errors.Is(err, ErrCapacity) {
		t.Errorf("the stream ends with %v", err)
	}
}
