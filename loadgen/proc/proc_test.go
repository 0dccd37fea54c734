package proc

import (
	"bufio"
	"errors"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test's program play a server: it listens, spends CPU and memory, has a child that spends more, and
// lasts until its input ends.
func TestMain(m *testing.M) {
	switch os.Getenv("PROC_TEST_ROLE") {
	case "server":
		serve()
	case "child":
		spend()
		_, _ = os.Stdout.WriteString("spent\n")
		_, _ = bufio.NewReader(os.Stdin).ReadByte()
	default:
		os.Exit(m.Run())
	}
}

func serve() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	spend()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "PROC_TEST_ROLE=child")
	child.Stdin = os.Stdin
	out, err := child.StdoutPipe()
	if err != nil {
		panic(err)
	}
	if err := child.Start(); err != nil {
		panic(err)
	}
	if _, err := bufio.NewReader(out).ReadByte(); err != nil {
		panic(err)
	}
	_, _ = os.Stdout.WriteString(strconv.Itoa(listener.Addr().(*net.TCPAddr).Port) + "\n")
	_ = child.Wait()
}

// spent is what each process of the server spends at least.
const (
	spentCPU    = 50 * time.Millisecond
	spentMemory = 32 << 20
)

var held []byte

func spend() {
	held = make([]byte, spentMemory)
	for i := range held {
		held[i] = byte(i)
	}
	for {
		if u, err := Self(); err != nil || u.User+u.System > 2*spentCPU {
			return
		}
	}
}

func TestUsageOfAServerFoundByItsPort(t *testing.T) {
	server := exec.Command(os.Args[0])
	server.Env = append(os.Environ(), "PROC_TEST_ROLE=server")
	stdin, err := server.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}

	pids, err := Find(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil || len(pids) != 1 || int(pids[0]) != server.Process.Pid {
		t.Fatalf("processes %v, error %v; want %d", pids, err, server.Process.Pid)
	}
	w, err := Watch(pids)
	if err != nil {
		t.Fatal(err)
	}
	u := w.Usage()
	if u.Processes != 2 || u.User+u.System < 2*spentCPU || u.Resident < 2*spentMemory {
		t.Errorf("used %+v, want two processes of %v and %d bytes each", u, spentCPU, spentMemory)
	}

	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := server.Wait(); err != nil {
		t.Fatal(err)
	}
	after := w.Usage()
	if after.Processes != 0 || after.Resident != 0 || after.User+after.System < u.User+u.System {
		t.Errorf("after its end %+v, want the CPU time remembered: %+v", after, u)
	}
	if _, err := Watch(pids); !errors.Is(err, ErrNotFound) {
		t.Errorf("watching an ended process: error %v", err)
	}
}

func TestFindNothing(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	own := listener.Addr().(*net.TCPAddr)
	for name, address := range map[string]*net.TCPAddr{
		"this process itself": own,
		"nobody listens":      {IP: net.IPv4(127, 0, 0, 1), Port: 1},
		"another machine":     {IP: net.IPv4(192, 0, 2, 1), Port: own.Port},
	} {
		if pids, err := Find(address); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: processes %v, error %v", name, pids, err)
		}
	}
}

func TestRaiseDescriptors(t *testing.T) {
	limit, err := RaiseDescriptors(1)
	if err != nil || limit < 1 {
		t.Fatalf("limit %d, error %v", limit, err)
	}
	if again, err := RaiseDescriptors(limit); err != nil || again != limit {
		t.Errorf("limit %d, error %v; want %d as it is", again, err, limit)
	}
}
