package rtp

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"tureen/impl/media"
)

// destination is a client that a stream is being sent to. It belongs to the
// transmission's goroutine.
type destination struct {
	client Client
	log    *slog.Logger
	forget context.CancelFunc // ends what looks for its address

	sockets *sockets // nil while it has no address
	began   bool     // whether it gets packets
	from    uint64   // sequence of the slot from which on

	packets  int // RTP packets sent
	refused  int // of all, those after which the client's host said that nothing listens
	lost     int // of all, those that this machine's network didn't take
	told     [clientPorts]bool
	troubled string // what kept it from being sent to, as it was logged
}

// start has the client get packets from a slot on.
func (d *destination) start(slot uint64) {
	d.began, d.from = true, slot
	d.log.Info("RTP begins", "address", d.sockets.to)
}

// write sends one packet to one of the client's ports. What the network says of
// it is counted, and logged once: there is nothing else to be done.
func (d *destination) write(port int, packet []byte) {
	s := d.sockets.all[port]
	if s == nil {
		return
	}
	err := s.write(packet)
	for tries := 0; errors.Is(err, syscall.ECONNREFUSED) && tries < maxRefusals; tries++ {
		// That was the answer to an earlier packet; this one wasn't sent for it.
		d.refused++
		d.tell(port, "an RTP client refuses packets: nothing listens there; they are sent all the same", err)
		err = s.write(packet)
	}
	if err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
		d.lost++
		d.tell(port, "packets to an RTP client are lost on this machine", err)
	}
}

// maxRefusals is how many answers to earlier packets one packet may meet: late
// ones come together.
const maxRefusals = 4

func (d *destination) tell(port int, message string, err error) {
	if !d.told[port] {
		d.told[port] = true
		d.log.Warn(message, "port", int(d.sockets.to.Port())+port, "error", err)
	}
}

// close ends what is sent to the client.
func (d *destination) close() {
	if d.sockets == nil {
		return
	}
	d.sockets.close()
	d.sockets = nil
	if d.began {
		d.began = false
		d.log.Info("RTP ends", "packets", d.packets, "refused", d.refused, "lost", d.lost)
	}
}

// How often an address is looked for.
const (
	// refresh is how long a name's address is taken for right.
	refresh    = 30 * time.Second
	firstRetry = time.Second
	maxRetry   = 30 * time.Second
)

// opening is what was found for a destination: its sockets, or the error that
// leaves it without.
type opening struct {
	destination *destination
	sockets     *sockets
	err         error
}

// opener looks for a destination's address, as long as that may change. It runs
// in a goroutine of its own, so that a slow name keeps nobody else waiting.
type opener struct {
	*destination
	policy Policy
	kinds  [media.Kinds]bool
	seats  *seats
	found  chan<- opening

	current netip.AddrPort // the address that was handed over
}

// run ends when the context does, or when nothing can change any more.
func (o *opener) run(ctx context.Context) {
	retry := firstRetry
	for {
		wait := refresh
		sockets, err := o.look(ctx)
		if err != nil {
			wait, retry = retry, min(2*retry, maxRetry)
		} else {
			retry = firstRetry
		}
		if (sockets != nil || err != nil) && !o.hand(ctx, sockets, err) {
			return
		}
		if !o.client.named() && err == nil {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// look is new sockets if the address that is in use isn't right any more. The
// policy judges it each time; a name that can't be resolved for a while keeps
// its address.
func (o *opener) look(ctx context.Context) (*sockets, error) {
	addresses, err := o.policy.resolve(ctx, o.client)
	switch {
	case err != nil && o.current.IsValid() && !errors.Is(err, ErrForbidden):
		return nil, nil
	case err != nil:
		return nil, err
	case slices.Contains(addresses, o.current):
		return nil, nil
	case !o.seats.take():
		return nil, errFull
	}
	s, err := connect(addresses[0], o.kinds)
	if err != nil {
		o.seats.leave()
		return nil, err
	}
	closing := s.close
	s.close = func() { closing(); o.seats.leave() }
	return s, nil
}

// hand hands over what was found; false when nobody takes it any more.
func (o *opener) hand(ctx context.Context, s *sockets, err error) bool {
	o.current = netip.AddrPort{}
	if s != nil {
		o.current = s.to
	}
	select {
	case o.found <- opening{o.destination, s, err}:
		return true
	case <-ctx.Done():
		if s != nil {
			s.close()
		}
		return false
	}
}
