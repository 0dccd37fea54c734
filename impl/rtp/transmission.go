package rtp

import (
	"context"
	"crypto/rand"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"tureen/impl/live"
	"tureen/impl/media"
)

// When sender reports go out (RTP-4): soon after the first packets, by when both
// tracks have begun, and then regularly.
const (
	firstReport = 250 * time.Millisecond
	reportEvery = 4 * time.Second
)

const (
	// gather is how long the first frames of a stream wait until its clients'
	// names are resolved; a slower one starts at a later key frame.
	gather = 50 * time.Millisecond
	// playOut is how long packets that wait at a stream's end may yet go out.
	playOut = 500 * time.Millisecond
)

// transmission is one stream's being sent to its session's clients. But for
// wanted and addresses it belongs to one goroutine, which never waits for a
// client: a socket takes a packet at once or not at all.
type transmission struct {
	sender *Sender
	stream *live.Stream
	log    *slog.Logger

	id      uint32 // of its description
	cname   string // of all sources (RFC 7022 §4.2: random, for this stream alone)
	sources [media.Kinds]*source
	vorbis  *vorbis // nil without sound

	wanted chan []Client // capacity 1: the clients that it is to have from now on; none ends it
	found  chan opening
	// addresses are the open sockets' by client, for the SDP. The sender's lock
	// guards them.
	addresses map[Client]*sockets

	destinations []*destination
	epoch        time.Time     // the wall's time at the stream's time 0; zero before the first frame
	at           time.Duration // the newest frame's time
	reportAt     time.Time     // zero while there is nothing to report
	dropped      int           // packets that found no time
}

func newTransmission(s *Sender, session string, stream *live.Stream) *transmission {
	t := &transmission{
		sender: s, stream: stream, log: s.log.With("session", session), id: s.random(), cname: rand.Text(),
		wanted: make(chan []Client, 1), found: make(chan opening), addresses: map[Client]*sockets{},
	}
	for _, track := range stream.Tracks() {
		t.add(track)
	}
	return t
}

func (t *transmission) add(track media.Track) {
	if track.Kind == media.Video {
		t.sources[media.Video] = newVideo(t.sender.random)
		return
	}
	v, err := parseVorbis(track.Private)
	if err != nil {
		t.log.Warn("a track is left out of RTP", "kind", track.Kind, "error", err)
		return
	}
	t.vorbis, t.sources[media.Audio] = v, newAudio(v, t.sender.random)
}

// kinds are the tracks that are sent.
func (t *transmission) kinds() (kinds [media.Kinds]bool) {
	for kind, s := range t.sources {
		kinds[kind] = s != nil
	}
	return kinds
}

// set replaces the clients; none ends the transmission. It is called with the
// sender locked, so that there is always room for the newest ones.
func (t *transmission) set(clients []Client) {
	select {
	case <-t.wanted: // an earlier wish, not seen yet
	default:
	}
	t.wanted <- clients
}

// run sends from slot on until the stream ends or nobody is to get it.
func (t *transmission) run(slot *live.Slot) {
	ctx, cancel := context.WithCancel(context.Background())
	defer t.leave()
	defer t.contain()
	defer cancel()
	t.reconcile(ctx, <-t.wanted)
	t.gather()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-slot.Filled():
			for ; slot.Next() != nil && !slot.Last; slot = slot.Next() {
				t.take(slot, time.Now())
			}
			if slot.Next() != nil {
				t.send(time.Now())
				t.playOut()
				return
			}
		case clients := <-t.wanted:
			if len(clients) == 0 {
				return
			}
			t.reconcile(ctx, clients)
		case o := <-t.found:
			t.install(o)
		case <-timer.C:
		}
		now := time.Now()
		t.send(now)
		if !t.reportAt.IsZero() && !now.Before(t.reportAt) {
			t.report(false)
			t.reportAt = now.Add(reportEvery)
		}
		timer.Reset(t.sleep(now))
	}
}

// contain has a fault end this transmission alone.
func (t *transmission) contain() {
	if fault := recover(); fault != nil {
		t.log.Error("fault in sending RTP", "fault", fault, "stack", string(debug.Stack()))
	}
}

// leave ends what is sent to everyone.
func (t *transmission) leave() {
	defer t.sender.done()
	defer t.contain()
	for _, d := range t.destinations {
		t.drop(d)
	}
	if t.dropped > 0 {
		t.log.Warn("this machine was too slow for RTP", "dropped", t.dropped)
	}
}

// reconcile has the destinations be these clients. Those that are there already
// notice nothing.
func (t *transmission) reconcile(ctx context.Context, clients []Client) {
	t.destinations = slices.DeleteFunc(t.destinations, func(d *destination) bool {
		gone := !slices.Contains(clients, d.client)
		if gone {
			t.drop(d)
		}
		return gone
	})
	for _, c := range clients {
		if !slices.ContainsFunc(t.destinations, func(d *destination) bool { return d.client == c }) {
			t.destinations = append(t.destinations, t.begin(ctx, c))
		}
	}
}

// begin opens a client's sockets or, where that can take time, starts the search
// for its address.
func (t *transmission) begin(ctx context.Context, c Client) *destination {
	ctx, cancel := context.WithCancel(ctx)
	d := &destination{client: c, log: t.log.With("client", c), forget: cancel}
	o := &opener{destination: d, policy: t.sender.policy, kinds: t.kinds(), seats: &t.sender.seats, found: t.found}
	if c.named() {
		go o.run(ctx)
		return d
	}
	s, err := o.look(ctx)
	if t.settle(opening{d, s, err}); err != nil {
		go o.run(ctx)
	}
	return d
}

// drop ends what is sent to a client, with a farewell.
func (t *transmission) drop(d *destination) {
	d.forget()
	t.place(d, nil)
}

// gather waits until an address is known, or known to be unknown, for each
// client with a name, but not for long.
func (t *transmission) gather() {
	late := time.NewTimer(gather)
	defer late.Stop()
	for _, d := range t.destinations {
		if !d.client.named() {
			continue
		}
		select {
		case o := <-t.found:
			t.install(o)
		case <-late.C:
			return
		}
	}
}

// install takes over what was found for a destination.
func (t *transmission) install(o opening) {
	d := o.destination
	if !slices.Contains(t.destinations, d) { // it was dropped at this very moment
		if o.sockets != nil {
			o.sockets.close()
		}
		return
	}
	t.settle(o)
}

// settle has a destination use what was found for it.
func (t *transmission) settle(o opening) {
	d := o.destination
	t.place(d, o.sockets)
	trouble := ""
	if o.err != nil {
		trouble = o.err.Error()
	}
	if trouble != "" && trouble != d.troubled {
		d.log.Warn("an RTP client can't be sent to; it is tried again", "error", trouble)
	}
	d.troubled = trouble
}

// place has a destination use other sockets, or none. Whoever was sent to by
// the ones before is told that this is over.
func (t *transmission) place(d *destination, s *sockets) {
	if d.began {
		t.reportTo(d, true)
	}
	d.close()
	d.sockets = s
	t.sender.mu.Lock()
	defer t.sender.mu.Unlock()
	if s == nil {
		delete(t.addresses, d.client)
		return
	}
	t.addresses[d.client] = s
}

// take makes a slot's packets, and starts those who wait for a place to start.
func (t *transmission) take(slot *live.Slot, now time.Time) {
	if t.epoch.IsZero() {
		t.epoch = slot.Arrived.Add(-slot.Time)
	}
	t.at = slot.Time
	source := t.sources[slot.Kind]
	if source == nil {
		return
	}
	if slot.Start {
		t.start(slot.Sequence, now)
	}
	t.dropped += source.take(slot)
}

func (t *transmission) start(slot uint64, now time.Time) {
	for _, d := range t.destinations {
		if d.sockets == nil || d.began {
			continue
		}
		d.start(slot)
		if soon := now.Add(firstReport); t.reportAt.IsZero() || soon.Before(t.reportAt) {
			t.reportAt = soon
		}
	}
}

// send sends the packets whose turn it is to everyone.
func (t *transmission) send(now time.Time) {
	for _, source := range t.sources {
		if source == nil {
			continue
		}
		for _, p := range source.queue.take(now) {
			source.sent(p.packet)
			n := t.sendOne(rtpPort(source.kind), p)
			t.stream.Counts.BytesOut.Add(int64(n * len(p.packet)))
		}
	}
}

// sendOne sends one packet to all who have begun by then, and tells how many
// those are.
func (t *transmission) sendOne(port int, p paced) (clients int) {
	for _, d := range t.destinations {
		if d.began && d.from <= p.slot {
			d.write(port, p.packet)
			d.packets++
			clients++
		}
	}
	return clients
}

// sleep is how long nothing has to be done by itself.
func (t *transmission) sleep(now time.Time) time.Duration {
	at := now.Add(time.Hour)
	if !t.reportAt.IsZero() {
		at = t.reportAt
	}
	for _, source := range t.sources {
		if source == nil {
			continue
		}
		if wake, ok := source.queue.wake(); ok && wake.Before(at) {
			at = wake
		}
	}
	return max(0, at.Sub(now))
}

// playOut sends what waits yet when the stream has ended, for a short time.
func (t *transmission) playOut() {
	t.reportAt = time.Time{}
	for until := time.Now().Add(playOut); ; {
		now := time.Now()
		t.send(now)
		sleep := t.sleep(now)
		if now.Add(sleep).After(until) {
			return
		}
		time.Sleep(sleep)
	}
}

// report sends everyone a sender report of each source.
func (t *transmission) report(bye bool) {
	for _, d := range t.destinations {
		if d.began {
			t.reportTo(d, bye)
		}
	}
}

// reportTo sends one client a report of each source, which maps its time to one
// clock: the stream's, begun at the wall's time of the first frame. It stands
// still while a publisher is away, as the timestamps do, so that the mapping
// never moves (RFC 3550 §6.4.1 lets a sender choose its clock).
func (t *transmission) reportTo(d *destination, bye bool) {
	for _, source := range t.sources {
		if source != nil {
			d.write(rtcpPort(source.kind), source.report(t.at, t.epoch.Add(t.at), t.cname, bye))
		}
	}
}
