// Package loopback holds the pipe by which the generator measures itself: a server inside its own process that hands a
// publisher's bytes to viewers unread. What a frame takes through it is the machine's and the generator's own share of
// what is measured at a real target.
package loopback

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// writeTimeout is how long a viewer may take no bytes before it is dropped.
const writeTimeout = 5 * time.Second

// Pipe is a server on a loop-back port: what a PUT with a chunked body sends is what every GET receives, from the moment
// the GET came.
type Pipe struct {
	listener net.Listener
	serving  sync.WaitGroup

	mu      sync.Mutex
	viewers map[net.Conn]struct{}
	joined  chan struct{}
}

// Listen opens a pipe, which ends with the context.
func Listen(ctx context.Context) (*Pipe, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("opening the loop-back pipe: %w", err)
	}
	p := &Pipe{listener: listener, viewers: map[net.Conn]struct{}{}, joined: make(chan struct{}, 1)}
	p.serving.Go(func() { p.accept(ctx) })
	return p, nil
}

// Address returns where the pipe listens.
func (p *Pipe) Address() *net.TCPAddr { return p.listener.Addr().(*net.TCPAddr) }

// AwaitViewers waits until that many viewers have joined.
func (p *Pipe) AwaitViewers(ctx context.Context, n int) error {
	for {
		p.mu.Lock()
		have := len(p.viewers)
		p.mu.Unlock()
		if have >= n {
			return nil
		}
		select {
		case <-p.joined:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d viewers joined the loop-back pipe: %w", have, n, ctx.Err())
		}
	}
}

// Wait waits until the pipe has ended.
func (p *Pipe) Wait() { p.serving.Wait() }

func (p *Pipe) accept(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { _ = p.listener.Close() })
	defer stop()
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.serving.Go(func() {
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer stop()
			p.serve(conn)
		})
	}
}

// serve handles one connection; what goes wrong on it is seen at its other end, which is the generator too.
func (p *Pipe) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	r := bufio.NewReader(conn)
	request, err := http.ReadRequest(r)
	if err != nil {
		return
	}
	if request.Method == http.MethodGet {
		p.watch(conn, r)
		return
	}
	if _, err := io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
		return
	}
	// The chunks go on as they are, so that nothing is parsed or copied twice.
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		if err != nil {
			return
		}
		p.send(buf[:n])
	}
}

// watch keeps a viewer until it goes.
func (p *Pipe) watch(conn net.Conn, r io.Reader) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: video/webm\r\nTransfer-Encoding: chunked\r\n\r\n"
	if _, err := io.WriteString(conn, head); err != nil {
		return
	}
	p.mu.Lock()
	p.viewers[conn] = struct{}{}
	p.mu.Unlock()
	select {
	case p.joined <- struct{}{}:
	default:
	}
	_, _ = io.Copy(io.Discard, r)
	p.mu.Lock()
	delete(p.viewers, conn)
	p.mu.Unlock()
}

func (p *Pipe) send(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.viewers {
		_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := conn.Write(b); err != nil {
			delete(p.viewers, conn)
		}
	}
}
