package slow

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestCrowd: each viewer asks, and is slow in its way; all are gone after Stop.
func TestCrowd(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	const request = "GET /stream/a HTTP/1.1\r\nHost: b\r\nUser-Agent: tureen-loadgen\r\n\r\n"
	var serving sync.WaitGroup
	ends := make(chan error, ways)
	var sent [ways]int
	crowd := Start(t.Context(), Server{Address: listener.Addr().(*net.TCPAddr), Host: "b"}, []string{"/stream/a"}, int(ways))
	for i := range ways {
		conn, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		serving.Go(func() {
			defer conn.Close()
			head := make([]byte, len(request))
			if _, err := io.ReadFull(conn, head); err != nil || string(head) != request {
				t.Errorf("a viewer asks %q: %v", head, err)
			}
			conn.SetWriteDeadline(time.Now().Add(time.Second))
			n, fault := conn.Write(make([]byte, 64<<20)) // far more than kernels hold
			sent[i] = n
			_, err := conn.Read(head)
			if errors.Is(fault, syscall.ECONNRESET) {
				err = fault
			}
			ends <- err
		})
	}
	var halfClosed, reset int
	for range 2 { // those two who end something by themselves
		switch err := <-ends; {
		case err == io.EOF:
			halfClosed++
		case errors.Is(err, syscall.ECONNRESET):
			reset++
		}
	}
	if halfClosed != 1 || reset != 1 {
		t.Errorf("%d viewers half-closed and %d reset their connections, want 1 and 1", halfClosed, reset)
	}
	listener.Close() // the one who vanished comes again, and finds nobody
	crowd.Stop()
	serving.Wait()
	for i, n := range sent {
		if n > 16<<20 {
			t.Errorf("viewer %d took %d bytes within a second", i, n)
		}
	}
}
