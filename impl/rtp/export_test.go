package rtp

// Number has sources that begin from now on start their numbers, one after the
// other, at n and what follows.
func (s *Sender) Number(n uint32) {
	s.random = func() uint32 { n++; return n - 1 }
}
