package trial

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"tureen/loadgen/measure"
	"tureen/loadgen/view"
)

// shortest is how long a viewer that comes and goes stays at least, so that frames count for it.
const shortest = 2 * measure.Farewell

// visit is one stay of one viewer. Times are since the first viewer's join.
type visit struct {
	viewer int
	join   time.Duration
	leave  time.Duration // 0: it stays to the end
}

// plan lists every visit of a run in order of joining. It is the same for the same seed.
func plan(cfg *Config) []visit {
	var visits []visit
	for i := range cfg.Viewers {
		first := cfg.Ramp * time.Duration(i) / time.Duration(cfg.Viewers)
		if cfg.Churn == 0 {
			visits = append(visits, visit{viewer: i, join: first})
			continue
		}
		chance := rand.New(rand.NewPCG(cfg.Seed, uint64(i)))
		visits = append(visits, comeAndGo(i, first, cfg.Ramp+cfg.Duration, cfg.Churn, chance)...)
	}
	slices.SortStableFunc(visits, func(a, b visit) int { return cmp.Compare(a.join, b.join) })
	return visits
}

// comeAndGo lists the visits of a viewer that stays half to one and a half of the mean time, and then is away for up to
// half of it.
func comeAndGo(viewer int, join, end, mean time.Duration, chance *rand.Rand) []visit {
	var visits []visit
	for join < end {
		v := visit{viewer: viewer, join: join}
		stay := max(mean/2+time.Duration(chance.Int64N(int64(mean))), shortest)
		if join+stay >= end {
			return append(visits, v)
		}
		v.leave = join + stay
		visits = append(visits, v)
		join = v.leave + time.Duration(chance.Int64N(int64(mean/2)+1))
		if join > end-shortest {
			return visits
		}
	}
	return visits
}

// stream is one of the streams of a run.
type stream struct {
	path    string
	start   time.Duration // of its schedule, since the epoch
	viewers []view.Viewer // with consecutive identifiers
}

// seat shares visits among streams, viewer by viewer in turns, and numbers them from 0 on, stream by stream.
func (t *trial) seat(streams []*stream, visits []visit, first time.Duration) []view.Viewer {
	var id int32
	var all []view.Viewer
	for k, s := range streams {
		for _, v := range visits {
			if v.viewer%len(streams) != k {
				continue
			}
			viewer := t.cfg.Target.viewer(id, s.path, first+v.join)
			if viewer.Read = &t.read; v.leave > 0 {
				viewer.Leave = first + v.leave
			}
			s.viewers = append(s.viewers, viewer)
			id++
		}
		all = append(all, s.viewers...)
	}
	slices.SortStableFunc(all, func(a, b view.Viewer) int { return cmp.Compare(a.Join, b.Join) })
	return all
}
