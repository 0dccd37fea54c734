package view

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	readSize = 64 << 10
	maxReads = 4 // of one viewer in a row, so that one that catches up doesn't hold up the others
	maxReady = 256

	// longestWait is how long a loop may wait in the kernel, and how often it yields. From a goroutine that does neither
	// leave the kernel nor yield for 10 ms the runtime takes the processor away, and then looks for more of them every
	// 20 µs for a while, which costs 5 % of a core.
	longestWait = 8 * time.Millisecond
)

// wakeID marks the event that wakes a loop; viewers are numbered from 0.
const wakeID = -1

// loop is one thread's share of the viewers. All but add and wake run on its own goroutine.
type loop struct {
	pool    *Pool
	epoll   int
	eventfd int

	mu    sync.Mutex
	added []Viewer

	joins   []Viewer
	leaves  []leave // by their moments
	conns   []*conn // by place
	vacant  []int32 // places in conns
	buf     []byte
	batch   []Event
	batched time.Duration // when the batch's first event was added
	yielded time.Duration // when the loop last let others run
}

// leave is a viewer's departure to come.
type leave struct {
	at   time.Duration
	conn *conn
}

// conn is one viewer.
type conn struct {
	loop     *loop
	place    int32
	fd       int
	gone     bool
	request  []byte // not yet sent; nil once it is
	bytes    *atomic.Int64
	answered bool
	response response
	frames
}

func newLoop(p *Pool) (*loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("creating epoll: %w", err)
	}
	eventfd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(epoll)
		return nil, fmt.Errorf("creating eventfd: %w", err)
	}
	l := &loop{pool: p, epoll: epoll, eventfd: eventfd, buf: make([]byte, readSize)}
	l.batch = p.fresh()
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: wakeID}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, eventfd, &event); err != nil {
		l.release()
		return nil, fmt.Errorf("watching eventfd: %w", err)
	}
	return l, nil
}

func (l *loop) release() {
	_ = unix.Close(l.epoll)
	_ = unix.Close(l.eventfd)
}

func (l *loop) add(viewers []Viewer) {
	l.mu.Lock()
	l.added = append(l.added, viewers...)
	l.mu.Unlock()
	l.wake()
}

// wake may fail only when the counter is full, and then the loop is about to wake anyway.
func (l *loop) wake() { _, _ = unix.Write(l.eventfd, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }

func (l *loop) run() {
	defer l.release()
	ready := make([]unix.EpollEvent, maxReady)
	for !l.pool.stopping.Load() {
		n, err := l.wait(ready)
		if err != nil && !errors.Is(err, unix.EINTR) {
			l.endAll(Broken, fmt.Errorf("waiting for sockets: %w", err))
			break
		}
		for i := range max(n, 0) {
			l.handle(&ready[i])
		}
		l.join()
		l.depart()
		l.flush(false)
		l.yield()
	}
	l.endAll(Stopped, nil)
	l.flush(true)
}

// yield lets the runtime see now and then that the loop is not stuck.
func (l *loop) yield() {
	if now := l.pool.since(); now-l.yielded >= longestWait {
		l.yielded = now
		runtime.Gosched()
	}
}

// wait waits until sockets are ready or something else is to be done.
func (l *loop) wait(ready []unix.EpollEvent) (int, error) {
	if n, err := readyNow(l.epoll, ready); n > 0 || err != nil {
		return n, err
	}
	return unix.EpollWait(l.epoll, ready, l.timeout())
}

// timeout returns how long to wait in ms: until the next viewer joins at most.
func (l *loop) timeout() int {
	wait := longestWait
	if len(l.leaves) > 0 {
		wait = min(wait, l.leaves[0].at-l.pool.since())
	}
	if len(l.joins) > 0 {
		wait = min(wait, l.joins[0].Join-l.pool.since())
	}
	return int(max(wait+time.Millisecond-1, 0) / time.Millisecond)
}

func (l *loop) handle(event *unix.EpollEvent) {
	if event.Fd == wakeID {
		var counter [8]byte
		_, _ = unix.Read(l.eventfd, counter[:])
		l.mu.Lock()
		l.joins = append(l.joins, l.added...)
		l.added = nil
		l.mu.Unlock()
		return
	}
	c := l.conns[event.Fd]
	if c == nil {
		return // ended earlier in this round
	}
	if c.request != nil {
		c.connected()
		return
	}
	c.read()
}

// join begins the connections that are due.
func (l *loop) join() {
	for len(l.joins) > 0 && l.joins[0].Join <= l.pool.since() {
		l.connect(l.joins[0])
		l.joins = l.joins[1:]
	}
}

// depart ends the viewers who were to stay until now.
func (l *loop) depart() {
	for len(l.leaves) > 0 && l.leaves[0].at <= l.pool.since() {
		if c := l.leaves[0].conn; !c.gone {
			c.end(Stopped, nil)
		}
		l.leaves = l.leaves[1:]
	}
}

func (l *loop) connect(v Viewer) {
	c := &conn{loop: l, fd: -1, place: l.vacancy(), bytes: v.Read, frames: frames{pool: l.pool, id: v.ID}}
	if v.Leave > 0 {
		at, _ := slices.BinarySearchFunc(l.leaves, v.Leave, func(a leave, t time.Duration) int { return cmp.Compare(a.at, t) })
		l.leaves = slices.Insert(l.leaves, at, leave{v.Leave, c})
	}
	l.conns[c.place] = c
	c.request = fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: tureen-loadgen\r\nAccept: */*\r\n\r\n", v.Path, v.Host)
	c.frames.begin()
	fd, err := dial(v.Address)
	if err != nil {
		c.end(Unreached, err)
		return
	}
	c.fd = fd
	event := unix.EpollEvent{Events: unix.EPOLLOUT, Fd: c.place}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		c.end(Unreached, fmt.Errorf("watching a socket: %w", err))
	}
}

func (l *loop) vacancy() int32 {
	if n := len(l.vacant); n > 0 {
		place := l.vacant[n-1]
		l.vacant = l.vacant[:n-1]
		return place
	}
	l.conns = append(l.conns, nil)
	return int32(len(l.conns) - 1)
}

func (l *loop) endAll(reason Reason, err error) {
	for _, c := range l.conns {
		if c != nil {
			c.end(reason, err)
		}
	}
}

func (l *loop) report(e Event) {
	if len(l.batch) == 0 {
		l.batched = e.At
	}
	l.batch = append(l.batch, e)
	if len(l.batch) == cap(l.batch) {
		l.flush(true)
	}
}

// flush hands on the batch, if it is old enough or must go.
func (l *loop) flush(now bool) {
	if len(l.batch) == 0 || !now && l.pool.since()-l.batched < batchAge {
		return
	}
	l.pool.batches <- l.batch
	l.batch = l.pool.fresh()
}

// connected sends the request on a connection that stands or has failed.
func (c *conn) connected() {
	code, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = unix.Errno(code)
	}
	if err != nil {
		c.end(Unreached, fmt.Errorf("connecting: %w", err))
		return
	}
	at := c.loop.pool.since()
	n, err := unix.Write(c.fd, c.request)
	if errors.Is(err, unix.EAGAIN) {
		return
	}
	if err != nil {
		c.end(Unreached, fmt.Errorf("sending the request: %w", err))
		return
	}
	if c.request = c.request[n:]; len(c.request) > 0 {
		return
	}
	c.request = nil
	c.loop.report(Event{Type: Connected, Viewer: c.id, At: at})
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: c.place}
	if err := unix.EpollCtl(c.loop.epoll, unix.EPOLL_CTL_MOD, c.fd, &event); err != nil {
		c.end(Unreached, fmt.Errorf("watching a socket: %w", err))
	}
}

// read takes what has arrived.
func (c *conn) read() {
	buf := c.loop.buf
	for range maxReads {
		n, err := readNow(c.fd, buf)
		at := c.loop.pool.since()
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			return
		case err != nil:
			c.cutOff(err)
			return
		case n == 0:
			c.cutOff(io.ErrUnexpectedEOF)
			return
		}
		if c.bytes != nil {
			c.bytes.Add(int64(n))
		}
		if !c.take(buf[:n], at) || n < len(buf) {
			return
		}
	}
}

// cutOff ends a viewer whose connection has ended.
func (c *conn) cutOff(err error) {
	switch {
	case !c.answered:
		c.end(Unreached, fmt.Errorf("awaiting the response: %w", err))
	case c.response.clean() && errors.Is(err, io.ErrUnexpectedEOF):
		c.end(Finished, nil)
	default:
		c.end(Broken, fmt.Errorf("reading the body: %w", err))
	}
}

// take feeds bytes that were read at a moment to the response and the scanner; false when the viewer has ended.
func (c *conn) take(p []byte, at time.Duration) bool {
	for len(p) > 0 {
		piece, rest, err := c.response.next(p)
		if err != nil {
			c.end(Unreadable, err)
			return false
		}
		if p = rest; c.response.status != 0 && !c.answer(at) {
			return false
		}
		if err := c.scan(piece, at, c.loop.report); err != nil {
			c.end(Unreadable, err)
			return false
		}
		if c.response.state == ended {
			c.end(Finished, nil)
			return false
		}
	}
	return true
}

// answer reports the response's head once; false when it is a refusal.
func (c *conn) answer(at time.Duration) bool {
	if c.answered {
		return true
	}
	c.answered = true
	c.loop.report(Event{Type: Answered, Viewer: c.id, At: at, Status: int16(c.response.status)})
	if c.response.status != http.StatusOK {
		c.end(Refused, fmt.Errorf("status %d", c.response.status))
		return false
	}
	return true
}

func (c *conn) end(reason Reason, err error) {
	c.gone = true
	if c.fd >= 0 {
		_ = unix.Close(c.fd) // which takes it out of epoll too
	}
	c.dropPicture()
	c.loop.conns[c.place] = nil
	c.loop.vacant = append(c.loop.vacant, c.place)
	event := Event{Type: Ended, Viewer: c.id, At: c.loop.pool.since(), Reason: reason}
	if err != nil {
		event.Detail = &Detail{Err: err}
	}
	c.loop.report(event)
}
