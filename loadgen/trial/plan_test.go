package trial

import (
	"reflect"
	"testing"
	"time"
)

func TestPlan(t *testing.T) {
	cfg := Config{Viewers: 4, Ramp: 2 * time.Second, Duration: 10 * time.Second}
	for i, v := range plan(&cfg) {
		if want := (visit{viewer: i, join: time.Duration(i) * 500 * time.Millisecond}); v != want {
			t.Errorf("visit %d: %+v, want %+v", i, v, want)
		}
	}
	cfg.Ramp = 0
	for _, v := range plan(&cfg) {
		if v.join != 0 || v.leave != 0 {
			t.Errorf("at once: %+v", v)
		}
	}
}

func TestPlanOfChurn(t *testing.T) {
	cfg := Config{Viewers: 50, Ramp: time.Second, Duration: time.Minute, Churn: 10 * time.Second, Seed: 7}
	visits := plan(&cfg)
	if !reflect.DeepEqual(visits, plan(&cfg)) {
		t.Error("the same seed gives other visits")
	}
	other := cfg
	other.Seed = 8
	if reflect.DeepEqual(visits, plan(&other)) {
		t.Error("another seed gives the same visits")
	}
	away := map[int]time.Duration{} // until when a viewer is there; -1: to the end
	var stays time.Duration
	var left int
	for i, v := range visits {
		if i > 0 && v.join < visits[i-1].join {
			t.Fatalf("visit %d begins before the one before it", i)
		}
		until, been := away[v.viewer]
		if been && (until < 0 || v.join < until) {
			t.Errorf("viewer %d comes at %v, there until %v", v.viewer, v.join, until)
		}
		if away[v.viewer] = -1; v.leave > 0 {
			away[v.viewer] = v.leave
			stay := v.leave - v.join
			if stay < cfg.Churn/2 || stay > cfg.Churn*3/2 {
				t.Errorf("a stay of %v", stay)
			}
			stays += stay
			left++
		}
	}
	if len(away) != cfg.Viewers || left < 100 {
		t.Errorf("%d viewers, %d departures", len(away), left)
	}
	if mean := stays / time.Duration(left); mean < cfg.Churn*8/10 || mean > cfg.Churn*12/10 {
		t.Errorf("stays of %v on average", mean)
	}
}
