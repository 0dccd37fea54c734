package server

import (
	"net/netip"
	"sync"
)

// Limits bound how many publishers or viewers there may be at once (SRV-4). A
// bound of 0 is none.
type Limits struct {
	Total      int
	PerAddress int // an IPv6 network of 64 bits counts as one
}

// seats are the places that publishers or viewers take.
type seats struct {
	limits Limits

	mu    sync.Mutex // guards what follows
	taken int
	by    map[netip.Addr]int // no entry is 0
}

func newSeats(limits Limits) *seats {
	return &seats{limits: limits, by: map[netip.Addr]int{}}
}

// free reports whether there is a seat for a client.
func (s *seats) free(client netip.Addr) bool {
	client = network(client)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.has(client)
}

func (s *seats) has(client netip.Addr) bool {
	return !reached(s.taken, s.limits.Total) && !reached(s.by[client], s.limits.PerAddress)
}

// take gives a seat to a client; false when there is none. It must be given
// back with leave.
func (s *seats) take(client netip.Addr) bool {
	client = network(client)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.has(client) {
		return false
	}
	s.taken++
	s.by[client]++
	return true
}

func reached(n, limit int) bool { return limit > 0 && n >= limit }

func (s *seats) leave(client netip.Addr) {
	client = network(client)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken--
	if s.by[client]--; s.by[client] == 0 {
		delete(s.by, client)
	}
}

// network is what counts as one address: of IPv6, where a client has a whole
// network to choose from, that network (RFC 4291 §2.5.4).
func network(addr netip.Addr) netip.Addr {
	const bits = 64
	if !addr.Is6() {
		return addr
	}
	prefix, err := addr.Prefix(bits)
	if err != nil {
		return addr
	}
	return prefix.Addr()
}
