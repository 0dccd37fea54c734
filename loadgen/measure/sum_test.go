package measure

import (
	"testing"
	"time"

	"tureen/loadgen/view"
	"tureen/loadgen/webm"
)

// playTo has a group with a chart see what a server plays to viewers, each after the fault of its own.
func playTo(t *testing.T, viewers []view.Viewer, faults ...func(n int, e view.Event) []view.Event) (*Group, *Chart) {
	t.Helper()
	source := open(t, "webm-load")
	g := NewGroup(source, start, end, viewers)
	g.Chart = NewChart(request, end-request, len(viewers))
	for i, v := range viewers {
		s := server{source: source, until: end + time.Second, fault: faults[i]}
		s.play(request, func(e *view.Event) {
			e.Viewer = v.ID
			g.handle(e)
		})
	}
	return g, g.Chart
}

// from delays all frames that are due from a moment on, by a time each.
func from(at time.Duration, by func(since time.Duration) time.Duration) func(int, view.Event) []view.Event {
	return func(_ int, e view.Event) []view.Event {
		if since := e.At - at; since >= 0 {
			e.At += by(since)
		}
		return []view.Event{e}
	}
}

func fine(_ int, e view.Event) []view.Event { return []view.Event{e} }

func two() []view.Viewer { return []view.Viewer{{ID: 0, Join: request}, {ID: 1, Join: request}} }

func TestLateFramesAndUnfairness(t *testing.T) {
	const more = DefaultLate + 50*time.Millisecond
	g, chart := playTo(t, two(), fine, from(request+time.Second, func(time.Duration) time.Duration { return more }))
	r := g.Result()
	video := r.Tracks["video"]
	late := due(open(t, "webm-load"), webm.Video, request+time.Second)
	if video.Late < late-1 || video.Late > late+1 || video.Lost != 0 {
		t.Errorf("%d late, want %d; %d lost", video.Late, late, video.Lost)
	}
	if r.Each[0].Late != 0 || r.Each[1].Late < late || r.Each[0].P99 > 3000 || r.Each[1].P99 < more.Microseconds() {
		t.Errorf("viewers %+v", r.Each)
	}
	f := r.Fairness
	if f.Viewers != 2 || f.Best != r.Each[0].P99 || f.Worst != r.Each[1].P99 {
		t.Errorf("fairness %+v", f)
	}
	points := chart.Points()
	if points[0].Max > 3000 || points[3].P99 < more.Microseconds() || points[3].P50 > more.Microseconds()+10_000 {
		t.Errorf("over time: %+v", points)
	}
	rows := chart.Heat().Rows
	if len(rows) != 2 || rows[0][3] > 3000 || rows[1][3] < more.Microseconds() || rows[1][0] > 3000 {
		t.Errorf("heat: %v", rows)
	}
	var counted int64
	for _, b := range r.Histograms["latency video"].Buckets {
		counted += b[1]
	}
	if counted != video.Latency.Count {
		t.Errorf("the histogram holds %d of %d frames", counted, video.Latency.Count)
	}
}

func TestStalls(t *testing.T) {
	const pause = 800 * time.Millisecond
	// Nothing comes for a while; then all comes at once, and it goes on as before.
	freeze := from(request+2*time.Second, func(since time.Duration) time.Duration { return max(pause-since, 0) })
	// A viewer's stream ends without an end.
	dies := func(_ int, e view.Event) []view.Event {
		if e.At > end-2*time.Second {
			return nil
		}
		return []view.Event{e}
	}
	g, _ := playTo(t, two(), freeze, dies)
	r := g.Result()
	if r.Stalls.Count != 2 || r.Stalls.Viewers != 2 || r.Each[0].Stalls != 1 || r.Each[1].Stalls != 1 {
		t.Fatalf("stalls %+v, viewers %+v", r.Stalls, r.Each)
	}
	for i, want := range []time.Duration{pause, 2 * time.Second} {
		if got := time.Duration(r.Each[i].Stalled) * time.Microsecond; (got - want).Abs() > 100*time.Millisecond {
			t.Errorf("viewer %d stalled for %v, want %v", i, got, want)
		}
	}
	if r.Tracks["video"].Lost == 0 || r.Each[0].Lost != 0 || r.Each[1].Lost == 0 {
		t.Errorf("lost %+v", r.Each)
	}
	// Slower than the bound but steady is no stall, and neither is a delay that grows slowly.
	grows := from(request, func(since time.Duration) time.Duration { return since / 10 })
	if g, _ := playTo(t, two(), grows, fine); g.Result().Stalls.Count != 0 {
		t.Errorf("a growing delay: %+v", g.Result().Stalls)
	}
}

// For a viewer that leaves, frames count that are due well before.
func TestLeaving(t *testing.T) {
	source := open(t, "webm-load")
	leave := request + 4*time.Second
	gone := func(_ int, e view.Event) []view.Event {
		if e.At >= leave {
			return nil
		}
		return []view.Event{e}
	}
	viewers := two()
	viewers[0].Leave = leave
	g, _ := playTo(t, viewers, gone, fine)
	before := g.Result().Each[0]
	g.handle(&view.Event{Type: view.Ended, Viewer: 0, At: leave, Reason: view.Stopped})
	r := g.Result()
	if r.Each[0] != before || before.Frames == 0 || len(g.spare) != 1 || g.takeHistogram().TotalCount() != 0 {
		t.Errorf("it had seen %+v, and once it is gone %+v; %d histograms to spare", before, r.Each[0], len(g.spare))
	}
	stayed := due(source, webm.Video, request)
	counted := stayed - due(source, webm.Video, leave-Farewell)
	if v := r.Tracks["video"]; v.Lost != 0 || v.Expected != counted+stayed || r.Stalls.Count != 0 {
		t.Errorf("expected %d, want %d and %d; lost %d; stalls %+v", v.Expected, counted, stayed, v.Lost, r.Stalls)
	}
}

// What several groups have seen adds up.
func TestSum(t *testing.T) {
	one, _ := playTo(t, two(), fine, video(30, func(view.Event) []view.Event { return nil }))
	other, _ := playTo(t, two(), fine, video(30, func(e view.Event) []view.Event { return []view.Event{e, e} }))
	a, b, all := one.Result(), other.Result(), Sum(one, other)
	v, x, y := all.Tracks["video"], a.Tracks["video"], b.Tracks["video"]
	if v.Expected != x.Expected+y.Expected || v.Lost != 1 || v.Duplicated != 1 || v.Mode != Passthrough ||
		v.Latency.Count != x.Latency.Count+y.Latency.Count || all.Viewers.Watching != 4 || len(all.Each) != 4 || all.Each[1].Lost != 1 {
		t.Errorf("sum %+v of %+v and %+v; viewers %+v", v, x, y, all.Each)
	}
	if empty := Sum(); empty.Measured() || empty.Viewers.Wanted != 0 {
		t.Errorf("of nothing: %+v", empty)
	}
}

// However long and crowded a run is, its chart stays small.
func TestChartIsBounded(t *testing.T) {
	c := NewChart(0, 10*time.Hour, 5000)
	c.note(4999, 10*time.Hour-1, time.Second)
	c.note(0, 11*time.Hour, time.Second) // behind the end
	c.note(0, 0, time.Millisecond)
	points, heat := c.Points(), c.Heat()
	if len(points) > maxColumns+1 || len(heat.Rows) != maxRows || len(heat.Rows[0]) > maxColumns+1 {
		t.Errorf("%d points, %d rows", len(points), len(heat.Rows))
	}
	if points[0].Count != 1 || points[len(points)-1].Count != 1 || heat.Rows[0][0] != 1000 || heat.Rows[maxRows-1][len(points)-1] != 1_000_000 {
		t.Errorf("points %+v", points)
	}
}
