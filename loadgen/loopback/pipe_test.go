package loopback

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
)

func TestPipeHandsBytesToEveryViewer(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p, err := Listen(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Wait()
	defer cancel()
	url := "http://" + p.Address().String()

	var viewers []io.Reader
	for range 2 {
		response, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		viewers = append(viewers, response.Body)
	}
	if err := p.AwaitViewers(ctx, 2); err != nil {
		t.Fatal(err)
	}

	publisher, err := net.Dial("tcp", p.Address().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = publisher.Close() }()
	fmt.Fprintf(publisher, "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
	if line, err := bufio.NewReader(publisher).ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("answered %q, error %v", line, err)
	}
	fmt.Fprintf(publisher, "5\r\nhello\r\n")
	for i, viewer := range viewers {
		got := make([]byte, 5)
		if _, err := io.ReadFull(viewer, got); err != nil || string(got) != "hello" {
			t.Errorf("viewer %d read %q, error %v", i, got, err)
		}
	}
}

func TestAwaitViewersEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p, err := Listen(ctx)
	if err != nil {
		t.Fatal(err)
	}
	waiting, stop := context.WithCancel(ctx)
	stop()
	if err := p.AwaitViewers(waiting, 1); err == nil {
		t.Error("nobody joined, but no error")
	}
	cancel()
	p.Wait()
}
