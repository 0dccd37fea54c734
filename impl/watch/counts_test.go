package watch

import (
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"
)

// completes is what is counted of a viewer that gets the whole body: as
// completed, as left and as stalled.
const completes = "1 0 0"

// TestCounts: each viewer is counted in once, and out by how it ended.
func TestCounts(t *testing.T) {
	t.Parallel()
	const leaves, stalls = "0 1 0", "0 0 1"
	read := func(s seat) {
		go func() {
			io.Copy(io.Discard, s.body) // to the end, or until the test closes it
			s.conn.Close()
		}()
	}
	tests := []struct {
		ending string
		leave  func(seat)
		want   string
	}{
		{"reads to the end", read, completes},
		{"half-closes and reads on", func(s seat) { s.conn.CloseWrite(); read(s) }, completes},
		{"leaves", func(s seat) { s.conn.Close() }, leaves},
		{"resets", func(s seat) { s.conn.SetLinger(0); s.conn.Close() }, leaves},
		{"never reads", func(seat) {}, stalls},
		{"half-closes and never reads", func(s seat) { s.conn.CloseWrite() }, stalls},
	}
	for name, join := range transports {
		for _, test := range tests {
			t.Run(name+"/"+test.ending, func(t *testing.T) {
				t.Parallel()
				want := test.want
				if name == "HTTP/2" && test.ending[:4] == "half" {
					want = leaves // its connection can't be half-closed
				}
				testCounts(t, join, test.leave, want)
			})
		}
	}
}

func testCounts(t *testing.T, join transport, leave func(seat), want string) {
	const budget = 20 * time.Millisecond // patience is ten times that
	c := newChannel(t)
	counts := c.stream.Counts
	leave(join(t, NewFanout(budget, slog.New(slog.DiscardHandler)), c))
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for n := 0; counts.Viewers.Load() > 0; n++ {
		switch {
		case n < 20, want != completes:
			c.send(n, 20<<10, true)
		case n == 20:
			c.end()
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the viewer is counted as watching for good")
		}
	}
	if want != completes {
		c.end()
	}
	got := fmt.Sprint(counts.Completed.Load(), counts.Left.Load(), counts.Stalled.Load())
	if got != want || counts.Joined.Load() != 1 {
		t.Errorf("completed, left, stalled are counted as %s of %d, want %s of 1", got, counts.Joined.Load(), want)
	}
}
