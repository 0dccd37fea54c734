package rtp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"tureen/impl/live"
	"tureen/impl/media"
)

// errFull is a client for which there are no sockets.
var errFull = errors.New("RTP goes to as many clients as the limit allows")

// Sender sends live streams to their sessions' clients.
type Sender struct {
	policy Policy
	log    *slog.Logger
	seats  seats
	random func() uint32 // what a source's numbers start at

	mu            sync.Mutex // guards what follows; taken after the registry's, if both are
	clients       map[string][]Client
	streams       map[string]*live.Stream // those on the air
	transmissions map[string]*transmission
	running       int
	idle          chan struct{} // closed when none runs any more; nil while nobody waits
}

// NewSender sends where the policy allows, to at most limit clients at once
// (each takes four sockets); 0 is no limit.
func NewSender(policy Policy, limit int, log *slog.Logger) *Sender {
	return &Sender{
		policy: policy, log: log, seats: seats{limit: int64(limit)}, random: rand.Uint32,
		clients: map[string][]Client{}, streams: map[string]*live.Stream{}, transmissions: map[string]*transmission{},
	}
}

// Resolve is where a client is, if anything may be sent there, like
// Policy.Resolve.
func (s *Sender) Resolve(ctx context.Context, c Client) (netip.AddrPort, error) {
	return s.policy.Resolve(ctx, c)
}

// Observe has a stream sent from its first frame on. It is a live.Observer.
func (s *Sender) Observe(session string, stream *live.Stream) (ended func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[session] = stream
	s.start(session)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.streams, session)
		delete(s.transmissions, session) // which ends by itself when it has sent all
	}
}

// Set replaces a session's clients, with effect within 1 s on a stream that is
// on the air; nil ends what is sent of it. The session need not be there yet.
func (s *Sender) Set(session string, clients []Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clients = slices.Clone(clients)
	if s.clients[session] = clients; len(clients) == 0 {
		delete(s.clients, session)
	}
	t := s.transmissions[session]
	switch {
	case t == nil:
		s.start(session)
		return
	case len(clients) == 0:
		delete(s.transmissions, session)
	}
	t.set(clients)
}

// start sends a session's stream if it has one and clients for it.
func (s *Sender) start(session string) {
	stream, clients := s.streams[session], s.clients[session]
	if stream == nil || len(clients) == 0 {
		return
	}
	t := newTransmission(s, session, stream)
	if t.kinds() == [media.Kinds]bool{} {
		return // it has said why
	}
	s.transmissions[session] = t
	t.set(clients)
	s.running++
	go t.run(stream.Tail())
}

// done counts a transmission out.
func (s *Sender) done() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
	if s.running == 0 && s.idle != nil {
		close(s.idle)
		s.idle = nil
	}
}

// Destinations are a session's clients, in the order in which they were set.
func (s *Sender) Destinations(session string) []Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.clients[session])
}

// Wait returns once nothing is sent any more, or with the context's error.
func (s *Sender) Wait(ctx context.Context) error {
	s.mu.Lock()
	if s.running == 0 {
		s.mu.Unlock()
		return nil
	}
	if s.idle == nil {
		s.idle = make(chan struct{})
	}
	idle := s.idle
	s.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for RTP: %w", ctx.Err())
	}
}

// seats are the places that clients take.
type seats struct {
	limit int64 // 0 is none
	taken atomic.Int64
}

func (s *seats) take() bool {
	if n := s.taken.Add(1); s.limit > 0 && n > s.limit {
		s.taken.Add(-1)
		return false
	}
	return true
}

func (s *seats) leave() { s.taken.Add(-1) }
