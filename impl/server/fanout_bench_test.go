package server

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tureen/fixtures"
	"tureen/impl/problem"
)

// crowdVariable makes the test binary a crowd of viewers, in a process of
// their own so that their cost isn't counted: ADDRESS PATH NUMBER.
const crowdVariable = "TUREEN_TEST_CROWD"

// atOnce is how many tests run beside one another: they wait more than they
// work.
const atOnce = "16"

func TestMain(m *testing.M) {
	if crowd := os.Getenv(crowdVariable); crowd != "" {
		if err := watchAsCrowd(crowd); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	if err := flag.Set("test.parallel", atOnce); err != nil {
		panic(err) // it is a number
	}
	os.Exit(m.Run())
}

// watchAsCrowd connects, asks, says "ready" and reads until the streams end.
func watchAsCrowd(crowd string) error {
	var addr, path string
	var n int
	if _, err := fmt.Sscan(crowd, &addr, &path, &n); err != nil {
		return fmt.Errorf("read %s: %w", crowdVariable, err)
	}
	var reading sync.WaitGroup
	for range n {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: bench\r\nPrefer: wait=60\r\n\r\n", path); err != nil {
			return err
		}
		reading.Go(func() {
			buffer := make([]byte, 64<<10)
			for {
				if _, err := conn.Read(buffer); err != nil {
					return
				}
			}
		})
	}
	fmt.Println("ready")
	reading.Wait()
	return nil
}

// crowd starts n viewers of path at addr; wait returns when their streams have ended.
func crowd(b *testing.B, addr, path string, n int) (wait func()) {
	b.Helper()
	program, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	viewers := exec.CommandContext(b.Context(), program)
	viewers.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d", crowdVariable, addr, path, n))
	viewers.Stderr = os.Stderr
	said, err := viewers.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := viewers.Start(); err != nil {
		b.Fatal(err)
	}
	var word string
	if _, err := fmt.Fscan(said, &word); err != nil || word != "ready" {
		b.Fatalf("the crowd says %q: %v", word, err)
	}
	return func() {
		if err := viewers.Wait(); err != nil {
			b.Error(err)
		}
	}
}

// processorTime is what this process has used, in user and kernel.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkFanout holds the whole proxy, from the publisher's PUT to the
// viewers, against a bare loop of write(2) that writes the same frames to as
// many sockets at the same times. The two take turns; what is reported is
// processor time per viewer and second of media, and the median of the ratios
// turn by turn.
func BenchmarkFanout(b *testing.B) {
	c, err := fixtures.Open("webm-load")
	if err != nil {
		b.Fatal(err)
	}
	for _, viewers := range []int{100, 400} {
		b.Run(strconv.Itoa(viewers), func(b *testing.B) {
			var ratios, bare, whole []float64
			for b.Loop() {
				a, z := benchLoop(b, c, viewers), benchProxy(b, c, viewers)
				per := float64(viewers) * c.Duration.Seconds() * float64(time.Microsecond)
				bare, whole = append(bare, float64(a)/per), append(whole, float64(z)/per)
				ratios = append(ratios, float64(z)/float64(a))
			}
			b.ReportMetric(median(bare), "bare-µs/viewer/s")
			b.ReportMetric(median(whole), "proxy-µs/viewer/s")
			b.ReportMetric(median(ratios), "proxy/bare")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// benchLoop is the bare loop's processor time for one clip.
func benchLoop(b *testing.B, c *fixtures.Clip, viewers int) time.Duration {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	wait := crowd(b, listener.Addr().String(), "/", viewers)
	var sockets []*os.File
	for range viewers {
		conn, err := listener.Accept()
		if err != nil {
			b.Fatal(err)
		}
		file, err := conn.(*net.TCPConn).File()
		if err != nil {
			b.Fatal(err)
		}
		conn.Close()
		sockets = append(sockets, file)
	}
	used := processorTime(b)
	pace(c, func(frame []byte) {
		for _, s := range sockets {
			if _, err := syscall.Write(int(s.Fd()), frame); err != nil {
				b.Fatal(err)
			}
		}
	})
	used = processorTime(b) - used
	for _, s := range sockets {
		s.Close()
	}
	wait()
	return used
}

// pace calls send with each frame's bytes of the body when it is due.
func pace(c *fixtures.Clip, send func([]byte)) {
	began := time.Now()
	from := int64(0)
	for _, f := range c.Frames {
		time.Sleep(time.Until(began.Add(f.PTS)))
		send(c.Data[from:f.End])
		from = f.End
	}
}

// benchProxy is the proxy's processor time for one clip.
func benchProxy(b *testing.B, c *fixtures.Clip, viewers int) time.Duration {
	s := New(Config{Idle: time.Minute, Grace: time.Second, Budget: time.Second, Log: slog.New(slog.DiscardHandler)})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	front := s.HTTP()
	defer front.Close()
	go front.Serve(problem.Listen(listener))
	addr := listener.Addr().String()
	wait := crowd(b, addr, "/stream/bench", viewers)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "PUT /stream/bench HTTP/1.1\r\nHost: bench\r\nTransfer-Encoding: chunked\r\n\r\n")
	used := processorTime(b)
	pace(c, func(frame []byte) {
		if _, err := fmt.Fprintf(conn, "%x\r\n%s\r\n", len(frame), frame); err != nil {
			b.Fatal(err)
		}
	})
	used = processorTime(b) - used
	io.WriteString(conn, "0\r\n\r\n")
	wait()
	return used
}
