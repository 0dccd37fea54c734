package find

import (
	"errors"
	"testing"
)

func TestMost(t *testing.T) {
	tests := []struct {
		name                     string
		start, limit, most, want int
		precision                float64
		tries                    int // at most
	}{
		{"between powers of two", 1, 1000, 37, 37, 0, 13},
		{"a power of two", 1, 1000, 64, 64, 0, 14},
		{"not even one", 1, 1000, 0, 0, 0, 1},
		{"less than where it starts", 100, 1000, 3, 3, 0, 9},
		{"the limit holds", 10, 100, 5000, 100, 0, 5},
		{"just the limit", 1, 1, 1, 1, 0, 1},
		{"just below the limit", 1, 100, 99, 99, 0, 15},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			best, tries, err := Most(test.start, test.limit, test.precision, func(n int) (bool, error) {
				if n < 1 || n > test.limit {
					t.Errorf("tried %d", n)
				}
				return n <= test.most, nil
			})
			if err != nil || best != test.want || len(tries) > test.tries {
				t.Errorf("found %d in %d tries, error %v; want %d in at most %d: %v", best, len(tries), err, test.want, test.tries, tries)
			}
		})
	}
}

func TestPrecisionSavesTries(t *testing.T) {
	const most = 777
	holds := func(n int) (bool, error) { return n <= most, nil }
	_, exact, err := Most(1, 100_000, 0, holds)
	if err != nil {
		t.Fatal(err)
	}
	best, rough, err := Most(1, 100_000, 0.1, holds)
	if err != nil || len(rough) >= len(exact) || best > most || float64(best) < most*0.9 {
		t.Errorf("%d in %d tries, exactly in %d, error %v", best, len(rough), len(exact), err)
	}
}

func TestErrorsEndTheSearch(t *testing.T) {
	broken := errors.New("broken")
	best, tries, err := Most(1, 100, 0, func(n int) (bool, error) {
		if n == 8 {
			return false, broken
		}
		return true, nil
	})
	if !errors.Is(err, broken) || best != 4 || len(tries) != 3 {
		t.Errorf("found %d, tries %v, error %v", best, tries, err)
	}
	if _, _, err := Most(0, 10, 0, nil); err == nil {
		t.Error("a search from 0 is no error")
	}
	if _, _, err := Most(5, 4, 0, nil); err == nil {
		t.Error("a search from 5 to 4 is no error")
	}
}
