// Package find searches the most of something that a target carries, by doubling and then by bisection. What is tried,
// and how it is judged, is the caller's.
package find

import "fmt"

// Try is one step of a search.
type Try struct {
	N     int
	Holds bool
}

// Most returns the largest n from 1 to limit for which holds is true, 0 when not even 1 is, to within precision (a share
// of n; 0 is exact), and what was tried. It takes holds to be true up to some n and false from there on. An error of holds
// ends the search.
func Most(start, limit int, precision float64, holds func(n int) (bool, error)) (best int, tries []Try, err error) {
	if start < 1 || limit < start {
		return 0, nil, fmt.Errorf("searching from %d to %d: begin at 1 or more, and end no lower", start, limit)
	}
	try := func(n int) (bool, error) {
		ok, err := holds(n)
		if err == nil {
			tries = append(tries, Try{n, ok})
		}
		return ok, err
	}
	low, high := 0, limit+1 // low holds, high doesn't
	for n := start; high > limit && low < limit; n = min(2*n, limit) {
		ok, err := try(n)
		if err != nil {
			return low, tries, err
		}
		if ok {
			low = n
		} else {
			high = n
		}
	}
	for high-low > max(1, int(float64(low)*precision)) && low < limit {
		n := low + (high-low)/2
		ok, err := try(n)
		if err != nil {
			return low, tries, err
		}
		if ok {
			low = n
		} else {
			high = n
		}
	}
	return low, tries, nil
}
