package view

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	batchSize  = 512                   // events gathered before they are handed on
	batchAge   = 50 * time.Millisecond // or how long they may wait
	batchQueue = 4096                  // batches that may wait for whoever takes them

	spareBatches = 64
)

// Viewer is one viewer to be.
type Viewer struct {
	ID      int32
	Address *net.TCPAddr
	Host    string        // the Host field
	Path    string        // escaped path of the stream
	Join    time.Duration // since the epoch; the schedule doesn't wait for other viewers' answers
	Leave   time.Duration // since the epoch, when it closes its connection; 0: when the pool stops
	Read    *atomic.Int64 // counts the bytes read, HTTP included (TLS and HTTP/2: bodies alone); may be shared, and nil
	Web     *Web          // how it speaks, when that isn't plain HTTP/1.1
}

// Pool runs viewers on a few threads.
type Pool struct {
	epoch    time.Time
	batches  chan []Event
	free     chan []Event
	loops    []*loop
	capture  atomic.Bool
	pictures atomic.Int32 // being captured
	stopping atomic.Bool
	running  sync.WaitGroup

	web     context.Context // of the viewers with a goroutine each
	stopWeb context.CancelFunc
	visits  sync.WaitGroup
	mu      sync.Mutex
	batch   []Event // theirs
}

// Start starts a pool with that many threads. Events' times count from the epoch.
func Start(threads int, epoch time.Time) (*Pool, error) {
	p := &Pool{epoch: epoch, batches: make(chan []Event, batchQueue), free: make(chan []Event, spareBatches)}
	for range threads {
		l, err := newLoop(p)
		if err != nil {
			for _, l := range p.loops {
				l.release()
			}
			return nil, fmt.Errorf("starting viewers' thread: %w", err)
		}
		p.loops = append(p.loops, l)
	}
	for _, l := range p.loops {
		p.running.Go(l.run)
	}
	p.web, p.stopWeb = context.WithCancel(context.Background())
	p.running.Go(p.flushWeb)
	return p, nil
}

// Events returns the channel of batches; it is closed when the pool has stopped. Whoever takes a batch hands it to
// Recycle in the end. Events of one viewer come in order.
func (p *Pool) Events() <-chan []Event { return p.batches }

// Recycle takes back a batch.
func (p *Pool) Recycle(batch []Event) {
	clear(batch)
	select {
	case p.free <- batch[:0]:
	default:
	}
}

// fresh returns an empty batch.
func (p *Pool) fresh() []Event {
	select {
	case batch := <-p.free:
		return batch
	default:
		return make([]Event, 0, batchSize)
	}
}

// Join adds viewers, spread evenly over the threads, in the order of their Join times. Those that don't speak plain
// HTTP/1.1 get a goroutine each.
func (p *Pool) Join(viewers []Viewer) {
	var plain []Viewer
	for _, v := range viewers {
		if v.Web == nil {
			plain = append(plain, v)
			continue
		}
		p.visits.Go(func() { p.visit(v) })
	}
	viewers = plain
	for i, l := range p.loops {
		var mine []Viewer
		for n := i; n < len(viewers); n += len(p.loops) {
			mine = append(mine, viewers[n])
		}
		l.add(mine)
	}
}

// CapturePictures makes the events of VP8 key frames carry their payload from now on, for at most one of several viewers
// that receive the same.
func (p *Pool) CapturePictures() { p.capture.Store(true) }

// Stop closes all connections, waits for the threads to end and closes the channel of events.
func (p *Pool) Stop() {
	p.stopping.Store(true)
	p.stopWeb()
	p.visits.Wait()
	for _, l := range p.loops {
		l.wake()
	}
	p.running.Wait()
	close(p.batches)
}

// since returns now as events count it.
func (p *Pool) since() time.Duration { return time.Since(p.epoch) }

// dial begins a connection without waiting for it.
func dial(address *net.TCPAddr) (fd int, err error) {
	family, sockaddr := unix.AF_INET6, unix.Sockaddr(nil)
	if ip := address.IP.To4(); ip != nil {
		family, sockaddr = unix.AF_INET, &unix.SockaddrInet4{Port: address.Port, Addr: [4]byte(ip)}
	} else if ip := address.IP.To16(); ip != nil {
		sockaddr = &unix.SockaddrInet6{Port: address.Port, Addr: [16]byte(ip)}
	} else {
		return -1, fmt.Errorf("no address: %v", address)
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("opening a socket: %w", err)
	}
	if err := unix.Connect(fd, sockaddr); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("connecting: %w", err)
	}
	return fd, nil
}
