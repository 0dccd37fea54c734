package transcode

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tureen/impl/media"
	"tureen/impl/transcode/pipe"
)

// The test's own binary, run with these words first, is a transcoder that
// behaves as the next word says, or a proxy with such transcoders.
const (
	asTranscoder = "act-as-transcoder"
	asProxy      = "act-as-proxy"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case asTranscoder:
			act(os.Args[2], slices.Contains(os.Args, Calibration))
		case asProxy:
			hold(os.Args[2])
		}
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0") // of the transcoders
	os.Exit(m.Run())
}

// fake is the command of a transcoder that behaves in a way.
func fake(behaviour string) []string { return []string{os.Args[0], asTranscoder, behaviour} }

// actor is a transcoder that is none.
type actor struct {
	in  *pipe.Reader
	out *os.File
	w   *pipe.Writer
}

// act behaves.
func act(behaviour string, calibrates bool) {
	if calibrates {
		fmt.Println(strings.TrimPrefix(behaviour, "costs "))
		os.Exit(0)
	}
	a := actor{pipe.NewReader(os.NewFile(3, "in")), os.NewFile(4, "out"), nil}
	a.w = pipe.NewWriter(a.out)
	name, argument, _ := strings.Cut(behaviour, " ")
	switch name {
	case "exits-at-once":
		os.Exit(number(argument))
	case "never":
		forever()
	case "late":
		d, _ := time.ParseDuration(argument)
		time.Sleep(d)
	case "silent-end":
		os.Exit(0)
	case "begins-with":
		a.write(argument)
		forever()
	case "ignores": // all that can be ignored
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
		a.w.Write(pipe.Ready, nil)
		forever()
	}
	a.w.Write(pipe.Ready, nil)
	a.expect(pipe.Start)
	switch name {
	case "deaf":
		forever()
	case "mute": // reads, and says nothing
		io.Copy(io.Discard, os.NewFile(3, "in"))
		forever()
	case "noise":
		for range number(argument) {
			fmt.Fprintln(os.Stderr, strings.Repeat("x", 3000))
		}
		fmt.Fprint(os.Stderr, "the last words")
	}
	a.expect(pipe.Data)
	switch name {
	case "writes": // instead of tracks
		a.write(argument)
		forever()
	case "announces":
		a.w.Write(pipe.Tracks, []byte(argument))
		forever()
	case "fails":
		a.w.WriteJSON(pipe.Failed, pipe.Failure{Reason: pipe.Malformed, Text: argument})
		os.Exit(0)
	}
	a.w.WriteJSON(pipe.Tracks, pipe.Announcement{Tracks: []pipe.Track{{Input: "h264", Output: media.Track{
		Kind: media.Video, Codec: media.VP8, Picture: media.Picture{Width: 640, Height: 360},
	}}}})
	switch name {
	case "exits":
		os.Exit(number(argument))
	case "dies":
		syscall.Exec("/bin/sh", []string{"sh", "-c", "ulimit -c 0; kill -" + argument + " $$"}, nil) // Go would handle some itself
	case "closes":
		a.out.Close()
		forever()
	case "cuts": // a message
		a.out.WriteString("F\x00\x00\x10\x00abc")
		os.Exit(0)
	case "claims":
		a.out.Write(binary.BigEndian.AppendUint32([]byte("F"), pipe.MaxMessage+1))
		forever()
	case "then-writes":
		a.write(argument)
		forever()
	case "then-hangs":
		io.Copy(io.Discard, os.NewFile(3, "in"))
		forever()
	case "then-deaf":
		forever()
	case "sound":
		a.w.WriteFrame(media.Frame{Kind: media.Audio, Payload: []byte("x")})
		forever()
	case "floods":
		for a.w.WriteFrame(media.Frame{Payload: make([]byte, 1<<20)}) == nil {
		}
	}
	a.echo()
}

// echo makes a frame of each piece of the body, to its end.
func (a actor) echo() {
	for n := 0; ; n++ {
		kind, content, err := a.in.Read()
		if err != nil {
			os.Exit(7) // the proxy is gone
		}
		switch kind {
		case pipe.Data:
			a.w.WriteFrame(media.Frame{Time: time.Duration(n), Payload: content})
		case pipe.Pause:
			a.w.Write(pipe.Paused, []byte{byte(pipe.HeldLittle)})
		case pipe.KeyNow:
			a.w.WriteFrame(media.Frame{Key: true, Time: time.Duration(n), Payload: []byte("key")})
		case pipe.End:
			a.w.Write(pipe.Done, nil)
			os.Exit(0)
		}
	}
}

// write writes bytes that are given as in a Go string.
func (a actor) write(quoted string) {
	s, err := strconv.Unquote(`"` + quoted + `"`)
	if err != nil {
		panic(err)
	}
	a.out.WriteString(s)
}

func (a actor) expect(kind pipe.Type) {
	if got, _, err := a.in.Read(); err != nil || got != kind {
		os.Exit(8)
	}
}

func forever() {
	for {
		time.Sleep(time.Hour)
	}
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

// hold is a proxy with spares, and one transcoder at work.
func hold(behaviour string) {
	p := NewPool(Config{Command: fake(behaviour), Spares: 2, Max: 9, Log: slog.New(slog.DiscardHandler)})
	if behaviour != "ignores" {
		if t, err := p.Start(context.Background(), pipe.Job{Session: "a"}); err == nil {
			go t.Write([]byte("x"))
		}
	}
	fmt.Println("held")
	forever()
}

// children are the processes that another one has started, those that nobody
// has waited for included.
func children(t *testing.T, pid int) (pids []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has just ended
		}
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if fields[1] == strconv.Itoa(pid) {
			pids = append(pids, number(strings.Split(path, "/")[2]))
		}
	}
	return pids
}

// journal is a log that can be read while it is written.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// eventually waits for something that no event tells of.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
	}
}

// zombie reports whether a process has ended and only waits to be waited for,
// as those of a killed proxy may, for a moment or where nothing is init.
func zombie(t *testing.T, pid int) bool {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true // it is gone
	}
	return strings.HasPrefix(string(b[bytes.LastIndexByte(b, ')')+1:]), " Z")
}

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }
