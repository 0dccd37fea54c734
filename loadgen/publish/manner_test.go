package publish

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"
)

// peer accepts one connection, answers its request's head at once, and gives the head and all that followed.
func peer(t *testing.T, answer string) (address string, got func() (*http.Request, []byte)) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	done := make(chan struct{})
	var request *http.Request
	var body []byte
	go func() {
		defer close(done)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		r := bufio.NewReader(conn)
		var head bytes.Buffer
		for !bytes.HasSuffix(head.Bytes(), []byte("\r\n\r\n")) {
			b, err := r.ReadByte()
			if err != nil {
				return
			}
			head.WriteByte(b)
		}
		request, _ = http.ReadRequest(bufio.NewReader(&head))
		_, _ = io.WriteString(conn, answer)
		if strings.Contains(answer, "200") {
			body, _ = io.ReadAll(r)
		}
	}()
	return listener.Addr().String(), func() (*http.Request, []byte) {
		<-done
		return request, body
	}
}

// sendFor publishes for a time.
func sendFor(t *testing.T, cfg Config, d time.Duration) (Answer, error) {
	t.Helper()
	p, err := Dial(t.Context(), cfg)
	if err != nil {
		return Answer{}, err
	}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	return p.Run(ctx, time.Now())
}

func TestIcecastSource(t *testing.T) {
	address, got := peer(t, "HTTP/1.0 200 OK\r\n\r\n")
	source := openSource(t, "webm-load")
	answer, err := sendFor(t, Config{
		Address: address, Host: "host", Path: "/live.webm", Source: source, Manner: Icecast, Login: url.UserPassword("source", "secret"),
	}, 300*time.Millisecond)
	request, body := got()
	if err != nil || answer.Status != 200 {
		t.Fatalf("answer %+v, error %v", answer, err)
	}
	user, password, _ := request.BasicAuth()
	if request.Method != "SOURCE" || request.URL.Path != "/live.webm" || user != "source" || password != "secret" ||
		request.Header.Get("Content-Type") != "video/webm" || len(request.TransferEncoding) > 0 {
		t.Errorf("request %+v", request)
	}
	// The bytes come as they are, without chunks.
	if !bytes.HasPrefix(body, []byte{0x1A, 0x45, 0xDF, 0xA3}) || !bytes.Contains(body, source.Frames[0].clip.Payload) {
		t.Errorf("%d bytes, beginning with % x", len(body), body[:min(8, len(body))])
	}
}

func TestIcecastRefusal(t *testing.T) {
	address, _ := peer(t, "HTTP/1.0 401 Authentication Required\r\n\r\nwrong password")
	_, err := sendFor(t, Config{
		Address: address, Host: "host", Path: "/live.webm", Source: openSource(t, "webm-load"), Manner: Icecast,
	}, time.Second)
	if err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("error %v", err)
	}
}

// A server that answers to a POST before its body, as ffmpeg does, has not refused it.
func TestPostAnsweredAtOnce(t *testing.T) {
	address, got := peer(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
	answer, err := sendFor(t, Config{
		Address: address, Host: "host", Path: "/", Source: openSource(t, "mkv-h264-aac"), Manner: Post,
	}, 300*time.Millisecond)
	request, body := got()
	if err != nil || answer.Status != 200 || request.Method != http.MethodPost {
		t.Fatalf("%s: answer %+v, error %v", request.Method, answer, err)
	}
	sent, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(body)))
	if err != nil || !bytes.HasPrefix(sent, []byte{0x1A, 0x45, 0xDF, 0xA3}) {
		t.Errorf("%d bytes in chunks, error %v", len(sent), err)
	}
}
