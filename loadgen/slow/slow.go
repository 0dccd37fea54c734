// Package slow is viewers that a live server must not suffer from: they ask for a stream and then take it too slowly, or
// not at all. What they get isn't looked at.
package slow

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Way is a way to be slow.
type Way int

// The ways, which viewers take in turns.
const (
	NeverReads Way = iota
	Trickles       // reads 1 KB a second
	HalfCloses     // closes its half of the connection, and never reads
	Vanishes       // resets its connection after a moment, and comes again
	ways
)

const (
	receiveBuffer = 16 << 10 // bytes that the kernel may hold unread; little, so that the server feels it
	drop          = 100      // bytes that are read each dropEvery
	dropEvery     = 100 * time.Millisecond
	stay          = 500 * time.Millisecond // of one that vanishes
	again         = time.Second            // until one whose connection was refused or ended comes again
)

// Crowd is slow viewers of one stream.
type Crowd struct {
	server  Server
	running sync.WaitGroup
	stop    context.CancelFunc
}

// Server is where slow viewers go. They speak HTTP/1.1.
type Server struct {
	Address *net.TCPAddr
	Host    string      // the Host field
	TLS     *tls.Config // nil: without TLS
}

// Start has n viewers ask for a server's streams, given by their escaped paths, in turns, until Stop or the context's
// end. One whose connection ends comes again.
func Start(ctx context.Context, server Server, paths []string, n int) *Crowd {
	ctx, stop := context.WithCancel(ctx)
	c := &Crowd{server: server, stop: stop}
	for i := range n {
		c.running.Go(func() { c.watch(ctx, paths[i%len(paths)], Way(i)%ways) })
	}
	return c
}

// Stop closes all connections.
func (c *Crowd) Stop() {
	c.stop()
	c.running.Wait()
}

func (c *Crowd) watch(ctx context.Context, path string, way Way) {
	for ctx.Err() == nil {
		c.visit(ctx, path, way) // however that ends
		pause(ctx, again)
	}
}

// visit is one connection of a viewer's. It returns when the server has closed it, or the viewer has.
func (c *Crowd) visit(ctx context.Context, path string, way Way) error {
	ctx, done := context.WithCancel(ctx)
	defer done()
	var dialer net.Dialer
	dialed, err := dialer.DialContext(ctx, "tcp", c.server.Address.String())
	if err != nil {
		return fmt.Errorf("connecting a slow viewer: %w", err)
	}
	tcp := dialed.(*net.TCPConn)
	defer tcp.Close()
	context.AfterFunc(ctx, func() { _ = tcp.Close() })
	if err := tcp.SetReadBuffer(receiveBuffer); err != nil {
		return fmt.Errorf("bounding a slow viewer: %w", err)
	}
	conn := net.Conn(tcp)
	if c.server.TLS != nil {
		conn = tls.Client(tcp, c.server.TLS)
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: tureen-loadgen\r\n\r\n", path, c.server.Host); err != nil {
		return fmt.Errorf("asking as a slow viewer: %w", err)
	}
	switch way {
	case Vanishes:
		pause(ctx, stay)
		return tcp.SetLinger(0)
	case HalfCloses:
		if err := tcp.CloseWrite(); err != nil {
			return fmt.Errorf("half-closing: %w", err)
		}
	}
	return linger(ctx, conn, way)
}

// linger stays, reading as is the viewer's way.
func linger(ctx context.Context, conn net.Conn, way Way) error {
	if way != Trickles {
		<-ctx.Done()
		return nil
	}
	for buf := make([]byte, drop); ctx.Err() == nil; {
		if _, err := io.ReadFull(conn, buf); err != nil {
			return fmt.Errorf("reading slowly: %w", err)
		}
		pause(ctx, dropEvery)
	}
	return nil
}

// pause waits for a time or the context's end.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
