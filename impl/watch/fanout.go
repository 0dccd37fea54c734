package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tureen/impl/live"
)

// What the kernel may hold of a viewer's bytes. Left to itself it takes 4 MB on
// loopback before a slow viewer is felt; twice sendBuffer, its own accounting
// included, still carries 20 Mbit/s over a round trip of 100 ms.
const (
	sendBuffer = 128 << 10
	notSent    = 64 << 10 // of these at most, not yet on the wire
)

// linger is how long a viewer has to take the end of its body.
const linger = time.Second

// patience is how many budgets a viewer that takes nothing at all is kept.
const patience = 10

// ErrStalled ends a viewer that took nothing for too long.
var ErrStalled = errors.New("the viewer took nothing for too long")

// Fanout brings streams to viewers.
//
// Viewers of plain HTTP/1 are written to without a goroutine each: a few pumps
// per stream go over their viewers at every frame and write what is pending to
// each without blocking. A viewer whose socket is full gets a goroutine that
// waits for it, until it has caught up.
type Fanout struct {
	budget time.Duration
	log    *slog.Logger

	mu      sync.Mutex // guards what follows
	pumps   map[*live.Stream][]*pump
	viewers int           // of Take, not yet closed
	empty   chan struct{} // closed when the last of them is; nil while nobody waits
}

// NewFanout lets viewers fall behind by at most budget. Faults of its own go to
// the log.
func NewFanout(budget time.Duration, log *slog.Logger) *Fanout {
	return &Fanout{budget: budget, log: log, pumps: map[*live.Stream][]*pump{}}
}

// Patience is how long a viewer that takes nothing at all is kept.
func (f *Fanout) Patience() time.Duration { return patience * f.budget }

// viewer is one viewer of plain HTTP/1. It belongs to one goroutine at a time:
// its pump's or, while it lags, its own.
type viewer struct {
	position
	fanout *Fanout
	pump   *pump
	conn   *net.TCPConn
	raw    syscall.RawConn
	gone   func()
	keep   func() bool // ends what watches over the viewer's time
	closed bool

	// of the write under way
	bufs  [][]byte
	wait  bool
	wrote int
	err   error
	write func(fd uintptr) (done bool)
}

// Take writes response, which is the head of an HTTP/1 response, and then the
// stream from slot on to conn, in chunks or plain until the close. It owns conn
// from now on, and returns at once; gone is called when it has closed conn. The
// end of the context ends the body as the stream's end does.
func (f *Fanout) Take(
	until context.Context, conn *net.TCPConn, response []byte, chunked bool, stream *live.Stream, slot *live.Slot, gone func(),
) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("take a viewer's connection: %w", err)
	}
	v := &viewer{position: begin(until, stream, slot, f.budget, chunked), fanout: f, conn: conn, raw: raw, gone: gone}
	v.head = append(response, v.head...)
	v.write = v.attempt
	v.pump = f.enter(stream)
	v.keep = context.AfterFunc(until, v.pump.nudge)
	go v.follow()
	return nil
}

// Bound limits what the kernel buffers for a viewer. It must be called on every
// connection before TLS or HTTP/2 is spoken on it.
func Bound(conn *net.TCPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("bound a viewer's buffers: %w", err)
	}
	control := raw.Control(func(fd uintptr) {
		err = errors.Join(
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer),
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSent),
		)
	})
	if err = errors.Join(control, err); err != nil {
		return fmt.Errorf("bound a viewer's buffers: %w", err)
	}
	return nil
}

// push writes what is pending, if anything is. The error is io.EOF when the
// body is complete. With wait it makes one write and blocks until the kernel
// takes some of it or the connection's write deadline passes.
func (v *viewer) push(scratch [][]byte, now time.Time, wait bool) (pending bool, err error) {
	for {
		v.bufs, v.wait, v.wrote = v.gather(scratch[:0], now), wait, 0
		if v.ended() {
			return false, io.EOF
		}
		if len(v.bufs) == 0 {
			return false, nil
		}
		err := v.raw.Write(v.write)
		clear(v.bufs) // the scratch space must keep no slot alive
		v.bufs = nil
		v.sent(v.wrote)
		v.stream.Counts.BytesOut.Add(int64(v.wrote))
		if err == nil && v.err != syscall.EAGAIN {
			err = v.err
		}
		if err != nil || wait || v.err == syscall.EAGAIN {
			return true, err
		}
	}
}

// attempt is one write of all buffers at once.
func (v *viewer) attempt(fd uintptr) (done bool) {
	for {
		if len(v.bufs) == 1 {
			v.wrote, v.err = unix.Write(int(fd), v.bufs[0])
		} else {
			v.wrote, v.err = unix.Writev(int(fd), v.bufs)
		}
		if v.err != syscall.EINTR {
			break
		}
	}
	v.wrote = max(v.wrote, 0)
	return !v.wait || v.err != syscall.EAGAIN
}

// follow writes to a viewer that lags, or has just come, until it has caught up
// with its stream and its pump takes over.
func (v *viewer) follow() {
	defer v.contain()
	scratch := make([][]byte, 0, maxGather)
	progress := time.Now()
	for {
		now := time.Now()
		if err := v.conn.SetWriteDeadline(now.Add(v.budget)); err != nil {
			v.breakOff()
			return
		}
		pending, err := v.push(scratch, now, true)
		if v.wrote > 0 {
			progress = now
		}
		switch {
		case errors.Is(err, io.EOF):
			v.end()
			return
		case errors.Is(err, os.ErrDeadlineExceeded) && now.Sub(progress) < patience*v.budget:
			v.letGo()
		case errors.Is(err, os.ErrDeadlineExceeded):
			v.stream.Counts.Stalled.Add(1)
			v.close()
			return
		case err != nil:
			v.breakOff()
			return
		case !pending && v.conn.SetWriteDeadline(time.Time{}) == nil && v.pump.add(v):
			return
		case !pending && v.pump.broken():
			v.breakOff()
			return
		}
	}
}

// end closes a connection whose body is complete so that the viewer can read
// all of it (RFC 9112 §9.6).
func (v *viewer) end() {
	defer v.contain()
	defer v.close()
	v.stream.Counts.Completed.Add(1)
	if v.conn.CloseWrite() != nil || v.conn.SetReadDeadline(time.Now().Add(linger)) != nil {
		return
	}
	io.Copy(io.Discard, v.conn) // until the viewer closes too; that it breaks off instead is as good
}

// breakOff closes the connection of a viewer that is gone.
func (v *viewer) breakOff() {
	v.stream.Counts.Left.Add(1)
	v.close()
}

func (v *viewer) close() {
	if v.closed {
		return // before a fault
	}
	v.closed = true
	v.keep()
	v.conn.Close()
	v.fanout.leave(v.stream)
	v.gone()
}

// contain has a fault that is met in writing to a viewer end that viewer alone.
func (v *viewer) contain() {
	if fault := recover(); fault != nil {
		v.fanout.log.Error("fault in writing to a viewer", "viewer", v.conn.RemoteAddr(), "fault", fault, "stack", string(debug.Stack()))
		v.close()
	}
}

// leave counts a viewer of Take out.
func (f *Fanout) leave(stream *live.Stream) {
	stream.Counts.Viewers.Add(-1)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.viewers--
	if f.viewers == 0 && f.empty != nil {
		close(f.empty)
		f.empty = nil
	}
}

// Wait returns once every viewer of Take has gone, or with the context's error.
func (f *Fanout) Wait(ctx context.Context) error {
	f.mu.Lock()
	if f.viewers == 0 {
		f.mu.Unlock()
		return nil
	}
	if f.empty == nil {
		f.empty = make(chan struct{})
	}
	empty := f.empty
	f.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for viewers: %w", ctx.Err())
	}
}

// pump writes to its share of a stream's viewers.
type pump struct {
	wake chan struct{} // capacity 1: someone was added, or may watch no longer

	mu    sync.Mutex // guards what follows
	added []*viewer
	over  bool // the stream has ended; nobody is taken any more
	fault bool // it met one, which ended it before the stream
}

// enter counts a viewer of Take in and picks its pump. A stream's first viewer
// starts its pumps.
func (f *Fanout) enter(stream *live.Stream) *pump {
	stream.Counts.Viewers.Add(1)
	turn := stream.Counts.Joined.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.viewers++
	pumps, ok := f.pumps[stream]
	if !ok {
		pumps = f.start(stream)
		f.pumps[stream] = pumps
	}
	return pumps[int(turn)%len(pumps)]
}

// start starts a stream's pumps, one per processor that may be used.
func (f *Fanout) start(stream *live.Stream) []*pump {
	pumps := make([]*pump, runtime.GOMAXPROCS(0))
	slot := stream.Tail()
	var running sync.WaitGroup
	for i := range pumps {
		pumps[i] = &pump{wake: make(chan struct{}, 1)}
		running.Go(func() { pumps[i].run(slot, f.log) })
	}
	go func() {
		running.Wait()
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.pumps, stream)
	}()
	return pumps
}

// add hands a viewer that has caught up to the pump; false when there is
// nothing more to pump.
func (p *pump) add(v *viewer) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return false
	}
	p.added = append(p.added, v)
	p.nudge()
	return true
}

// nudge has the pump look after its viewers now.
func (p *pump) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// admit is the viewers added since it was last called.
func (p *pump) admit(over bool) []*viewer {
	p.mu.Lock()
	defer p.mu.Unlock()
	added := p.added
	p.added, p.over = nil, over
	return added
}

// broken reports whether a fault ended the pump.
func (p *pump) broken() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fault
}

// contain has a fault of the pump end its viewers alone.
func (p *pump) contain(viewers *[]*viewer, log *slog.Logger) {
	fault := recover()
	if fault == nil {
		return
	}
	log.Error("fault in writing to viewers", "fault", fault, "stack", string(debug.Stack()))
	for _, v := range append(*viewers, p.admit(true)...) {
		v.breakOff()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = true
}

// run pumps from slot on until the stream ends; by then each viewer has got its
// last bytes or follows by itself. A fault ends its viewers alone.
func (p *pump) run(slot *live.Slot, log *slog.Logger) {
	var viewers []*viewer
	defer p.contain(&viewers, log)
	scratch := make([][]byte, 0, maxGather)
	for over := false; !over; {
		select {
		case <-slot.Filled():
		case <-p.wake:
		}
		for slot.Next() != nil && !slot.Last {
			slot = slot.Next()
		}
		over = slot.Next() != nil && slot.Last
		viewers = append(viewers, p.admit(over)...)
		viewers = keep(viewers, scratch, time.Now())
	}
}

// keep writes to all viewers and returns those that remain the pump's.
func keep(viewers []*viewer, scratch [][]byte, now time.Time) []*viewer {
	kept := viewers[:0]
	for _, v := range viewers {
		if v.serve(scratch, now) {
			kept = append(kept, v)
		}
	}
	clear(viewers[len(kept):])
	return kept
}

// serve writes to one of a pump's viewers; false when it doesn't remain that.
func (v *viewer) serve(scratch [][]byte, now time.Time) bool {
	defer v.contain()
	pending, err := v.push(scratch, now, false)
	switch {
	case errors.Is(err, io.EOF):
		go v.end()
	case err != nil:
		v.breakOff()
	case pending:
		go v.follow()
	default:
		return true
	}
	return false
}

// Serve writes the stream from slot on as the body of an ordinary response, for
// TLS and HTTP/2. It returns when the stream or the context until has ended, and
// an error when the viewer is gone, as ctx tells, or takes nothing for too long.
func (f *Fanout) Serve(ctx, until context.Context, w http.ResponseWriter, stream *live.Stream, slot *live.Slot) error {
	stream.Counts.Viewers.Add(1)
	stream.Counts.Joined.Add(1)
	defer stream.Counts.Viewers.Add(-1)
	v := &guest{position: begin(until, stream, slot, f.budget, false), w: w, control: http.NewResponseController(w)}
	err := v.follow(ctx)
	switch err {
	case nil:
		stream.Counts.Completed.Add(1)
	case ErrStalled:
		stream.Counts.Stalled.Add(1)
	default:
		stream.Counts.Left.Add(1)
	}
	return err
}

// guest is a viewer of an ordinary response.
type guest struct {
	mu       sync.Mutex // guards position; not held while a write may block
	position position
	w        io.Writer
	control  *http.ResponseController
}

// follow writes to the viewer until the stream ends or the viewer is gone.
func (v *guest) follow(ctx context.Context) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	var bufs [][]byte
	for {
		bufs = v.position.gather(bufs[:0], time.Now())
		if v.position.ended() {
			// What ends the body is net/http's to write, and may block, too.
			return v.control.SetWriteDeadline(time.Now().Add(v.position.budget))
		}
		if len(bufs) == 0 {
			select {
			case <-v.position.slot.Filled():
			case <-v.position.until.Done():
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			continue
		}
		if err := v.write(bufs); err != nil {
			return err
		}
	}
}

// write sends what was gathered. When that takes longer than the budget, the
// place in the stream is given up meanwhile.
func (v *guest) write(bufs [][]byte) error {
	budget := v.position.budget
	deadline := time.Now().Add(patience * budget)
	if err := v.control.SetWriteDeadline(deadline); err != nil {
		return err
	}
	size := 0
	for _, b := range bufs {
		size += len(b)
	}
	v.position.sent(size)
	late := time.AfterFunc(budget, func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.position.letGo()
	})
	v.mu.Unlock()
	err := v.send(bufs)
	v.mu.Lock()
	late.Stop()
	if err != nil && !time.Now().Before(deadline) {
		return ErrStalled // which HTTP/2 would call a closed stream
	}
	if err != nil {
		return fmt.Errorf("write to a viewer: %w", err)
	}
	// HTTP/2 would reset the stream once the deadline passes, written to or not.
	return v.control.SetWriteDeadline(time.Time{})
}

func (v *guest) send(bufs [][]byte) error {
	for _, b := range bufs {
		n, err := v.w.Write(b)
		v.position.stream.Counts.BytesOut.Add(int64(n))
		if err != nil {
			return err
		}
	}
	return v.control.Flush()
}
