package watch

import (
	"io"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"time"
	"weak"

	"tureen/impl/live"
)

// trickle reads little by little, or nothing at all, until it is let loose.
type trickle struct {
	io.Reader
	tick  <-chan time.Time // when the next drop may be read; nil: never
	loose <-chan struct{}
}

// drop is read ten times a second: 1 KB/s.
const (
	drop      = 100
	dropEvery = 100 * time.Millisecond
)

func (r *trickle) Read(b []byte) (int, error) {
	select {
	case <-r.loose:
		return r.Reader.Read(b)
	default:
	}
	select {
	case <-r.loose:
		return r.Reader.Read(b)
	case <-r.tick:
		return r.Reader.Read(b[:min(len(b), drop)])
	}
}

// slowness are the ways to be slow for a time.
var slowness = map[string]func(*testing.T, seat, *trickle){
	"never reads": func(*testing.T, seat, *trickle) {},
	"reads 1 KB/s": func(t *testing.T, _ seat, r *trickle) {
		ticker := time.NewTicker(dropEvery)
		t.Cleanup(ticker.Stop)
		r.tick = ticker.C
	},
	"half-closes and stops": func(t *testing.T, s seat, _ *trickle) {
		if err := s.conn.CloseWrite(); err != nil {
			t.Error(err)
		}
	},
}

// picture is one of what a test sends: 8 Mbit/s, a group of pictures in half a
// second.
type picture struct {
	at   time.Time
	slot weak.Pointer[live.Slot]
}

const (
	pictureSize  = 10_000 // bytes
	pictureEvery = 10 * time.Millisecond
	groupOf      = 50
)

// TestBudget has viewers of every transport be slow in every way for three
// times the budget and then read on. Each gets at most budget × bit rate + 512
// KiB of media older than the budget, then goes on at a key frame (WAT-9). The
// proxy holds no slot for them that is older, and viewers that read all the
// time get every picture (WAT-7, WAT-8).
func TestBudget(t *testing.T) {
	t.Parallel()
	const (
		budget = 500 * time.Millisecond
		bound  = int(budget/pictureEvery)*pictureSize + 512<<10
		slack  = 100 * time.Millisecond // for timers on a busy machine
	)
	c := newChannel(t)
	fanout := NewFanout(budget, slog.New(slog.DiscardHandler))
	loose := make(chan struct{})
	type viewer struct {
		name string
		slow bool
		got  []int
		err  error
	}
	var viewers []*viewer
	var watching sync.WaitGroup
	watch := func(v *viewer, body io.Reader) {
		viewers = append(viewers, v)
		watching.Go(func() { v.got, v.err = numbers(t, body) })
	}
	for transport, join := range transports {
		watch(&viewer{name: transport + ", fast"}, join(t, fanout, c).body)
		for way, slow := range slowness {
			if transport == "HTTP/2" && way == "half-closes and stops" {
				continue // its connection can't be half-closed
			}
			s := join(t, fanout, c)
			r := &trickle{Reader: s.body, loose: loose}
			slow(t, s, r)
			watch(&viewer{name: transport + ", " + way, slow: true}, r)
		}
	}
	c.slot = nil // it would keep all that follows in memory
	var sent []picture
	tick := time.NewTicker(pictureEvery)
	defer tick.Stop()
	sendFor := func(d time.Duration) {
		for until := time.Now().Add(d); time.Now().Before(until); {
			<-tick.C
			p := picture{at: time.Now(), slot: weak.Make(c.stream.Tail())}
			c.send(len(sent), pictureSize, len(sent)%groupOf == 0)
			sent = append(sent, p)
		}
	}
	sendFor(3*budget + 100*time.Millisecond)
	oldest := held(sent)
	if oldest > budget+slack {
		t.Errorf("the proxy holds %v of media for who has stalled, its budget is %v", oldest, budget)
	}
	resumed := time.Now()
	close(loose)
	sendFor(3 * budget)
	c.end()
	watching.Wait()
	for _, v := range viewers {
		if v.err != io.EOF {
			t.Errorf("%s: the body ends with %v after %d pictures", v.name, v.err, len(v.got))
		}
		if !v.slow && len(v.got) != len(sent) {
			t.Errorf("%s: %d of %d pictures", v.name, len(v.got), len(sent))
		}
		if v.slow {
			old := judge(t, v.name, v.got, sent, resumed.Add(-budget))
			t.Logf("%s: %d bytes older than the budget", v.name, old)
			if old > bound {
				t.Errorf("%s: %d bytes of media older than the budget, at most %d are allowed", v.name, old, bound)
			}
		}
	}
}

// held is the age of the oldest picture that is still in memory.
func held(sent []picture) time.Duration {
	runtime.GC()
	for _, p := range sent {
		if p.slot.Value() != nil {
			return time.Since(p.at)
		}
	}
	return 0
}

// judge checks what a slow viewer got and returns how many bytes of it were
// older than a time.
func judge(t *testing.T, name string, got []int, sent []picture, limit time.Time) (old int) {
	t.Helper()
	gaps := 0
	for i, n := range got {
		if sent[n].at.Before(limit) {
			old += pictureSize
		}
		if i == 0 || n == got[i-1]+1 {
			continue
		}
		gaps++
		if n%groupOf != 0 {
			t.Errorf("%s: after a gap it goes on at picture %d, which is no key frame", name, n)
		}
	}
	if gaps == 0 || len(got) == 0 || got[len(got)-1] != len(sent)-1 {
		t.Errorf("%s: wants a gap and the last of %d pictures: %v", name, len(sent), got)
	}
	return old
}
