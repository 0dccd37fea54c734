package faults

import (
	"bufio"
	"io"
	"net/http/httputil"

	"golang.org/x/sys/unix"
)

// peerClosed reports whether the other side of a socket has closed it.
func peerClosed(fd int) bool {
	polled := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(polled, 0)
	return err == nil && n > 0 && polled[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
}

// unchunked passes a body on without its chunks, to the connection's end.
func (x *exchange) unchunked(in *bufio.Reader) { io.Copy(x.client, httputil.NewChunkedReader(in)) }
