package transcode

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"tureen/impl/media"
	"tureen/impl/transcode/pipe"
)

// hasty is patience for tests. What must not take long to be noticed is short,
// what a busy machine may take is not.
var hasty = patience{
	ready: 20 * time.Second, silence: 300 * time.Millisecond, firstSilence: 300 * time.Millisecond,
	check: 20 * time.Millisecond, death: 500 * time.Millisecond, respawn: time.Millisecond, maxRespawn: 50 * time.Millisecond,
}

// pool is one of transcoders that behave so, and what its log says. Nothing of
// it is left at the test's end.
func pool(t *testing.T, behaviour string, change ...func(*Config)) (*Pool, *journal) {
	t.Helper()
	var j journal
	c := Config{Command: fake(behaviour), Max: 9, Log: slog.New(slog.NewTextHandler(&j, nil)), patience: hasty}
	for _, f := range change {
		f(&c)
	}
	files := descriptors(t)
	p := NewPool(c)
	t.Cleanup(func() {
		p.Close()
		if left := children(t, os.Getpid()); len(left) > 0 {
			t.Errorf("the processes %v are left", left)
		}
		if n := len(p.admission.seats); n > 0 {
			t.Errorf("%d seats are taken", n)
		}
		if now := descriptors(t); now > files {
			t.Errorf("%d descriptors are open, %d were", now, files)
		}
		if t.Failed() {
			t.Logf("the log:\n%s", &j)
		}
	})
	return p, &j
}

// descriptors is how many files are open.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// outcome runs a job that is fed a little, and then its end if it ends: the
// number of frames, and the error that ended them.
func outcome(t *testing.T, p *Pool, ends bool) (frames int, err error) {
	t.Helper()
	process, err := p.Start(t.Context(), pipe.Job{Session: "id7"})
	if err != nil {
		return 0, err
	}
	defer process.Close()
	go func() {
		process.Write([]byte("some")) // an error shows at the other end
		process.Write([]byte("more"))
		if ends {
			process.End()
			return
		}
		for { // as much as it takes
			if _, err := process.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}()
	if _, err := process.Tracks(); err != nil {
		return 0, err
	}
	for {
		if _, err := process.Frame(); err != nil {
			return frames, err
		}
		frames++
	}
}

// TestWhole: what goes in comes out, and the process ends by itself.
func TestWhole(t *testing.T) {
	p, j := pool(t, "echoes")
	if frames, err := outcome(t, p, true); frames != 1 || err != io.EOF {
		t.Errorf("%d frames, %v; want 1 and the end", frames, err)
	}
	if said := j.String(); said != "" {
		t.Errorf("the log says %s", said)
	}
}

// TestCrashes: each way in which a transcoder can fail ends its stream with an
// error that names it, and so does the log, with the session.
func TestCrashes(t *testing.T) {
	const nonsense = "not a message of the transcoder's protocol"
	tests := []struct {
		behaviour string
		ends      bool // the body does
		says      string
		quiet     bool // the log has no line of it
	}{
		{behaviour: "exits-at-once 3", says: "start a transcoder: the transcoder ended with exit code 3"},
		{behaviour: "exits-at-once 0", says: "start a transcoder: the transcoder ended early"},
		{behaviour: `begins-with rubbish`, says: nonsense},
		{behaviour: `begins-with D\x00\x00\x00\x00`, says: "'D' where it should be ready"},
		{behaviour: "exits 3", says: "the transcoder ended with exit code 3"},
		{behaviour: "exits 0", says: "the transcoder ended early"},
		{behaviour: "dies 6", says: "the transcoder was ended by signal 6 (aborted)"},
		{behaviour: "dies 9", says: "the transcoder was ended by signal 9 (killed)"},
		{behaviour: "dies 11", says: "the transcoder was ended by signal 11 (segmentation fault)"},
		{behaviour: "dies 15", says: "the transcoder was ended by signal 15 (terminated)"},
		{behaviour: "closes", says: "the transcoder closed its pipe, and was ended"},
		{behaviour: "cuts", says: "the transcoder ended early"},
		{behaviour: "claims", says: nonsense + ": of 8388609 bytes"},
		{behaviour: `writes \xff\xff\xff\xff\xff\xff`, says: nonsense},
		{behaviour: `writes F\x00\x00\x00\x00`, says: "'F' before the tracks"},
		{behaviour: `writes Q\x00\x00\x00\x01\x00`, says: "an answer to a pause that nobody made"},
		{behaviour: `writes X\x00\x00\x00\x01{`, says: nonsense},
		{behaviour: "announces", says: nonsense},
		{behaviour: "announces {}", says: "no tracks"},
		{behaviour: `announces {"tracks":[{"output":{"Kind":"smell"}}]}`, says: "no kind of track"},
		{behaviour: `then-writes T\x00\x00\x00\x00`, says: "'T' where a frame should be"},
		{behaviour: `then-writes F\x00\x00\x00\x01x`, says: "a frame of 1 bytes"},
		{behaviour: "sound", says: "a frame of a track that wasn't announced"},
		{behaviour: "fails it is damaged", says: "it is damaged", quiet: true},
		{behaviour: "deaf", says: "made nothing of what it took for 300ms"},
		{behaviour: "mute", says: "made nothing of what it took for 300ms"},
		{behaviour: "mute", ends: true, says: "made nothing of what it took for 300ms"},
		{behaviour: "then-deaf", says: "made nothing of what it took for 300ms"},
		{behaviour: "then-hangs", says: "made nothing of what it took for 300ms"},
		{behaviour: "then-hangs", ends: true, says: "made nothing of what it took for 300ms"},
	}
	for _, test := range tests {
		t.Run(test.behaviour, func(t *testing.T) {
			p, j := pool(t, test.behaviour)
			_, err := outcome(t, p, test.ends)
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("the stream ends with %v, want it to say %s", err, test.says)
			}
			var crash *CrashError
			if !errors.As(err, &crash) && !errors.Is(err, pipe.ErrProtocol) && !test.quiet {
				t.Errorf("%v is no crash", err)
			}
			reason := strings.TrimPrefix(test.says, "start a transcoder: ")
			reason = strings.TrimPrefix(reason, "the transcoder ")
			said := j.String()
			logged := strings.Count(said, "transcoder crashed") == 1 && strings.Contains(said, "session=id7") &&
				strings.Contains(strings.ReplaceAll(said, `\"`, `"`), reason)
			if logged == test.quiet {
				t.Errorf("the log says %q, want it to name %s once: %t", said, reason, !test.quiet)
			}
		})
	}
}

// TestNeverReady: a start is given up in bounded time, or when nobody wants it.
func TestNeverReady(t *testing.T) {
	p, j := pool(t, "never", func(c *Config) { c.patience.ready = 100 * time.Millisecond })
	if _, err := p.Start(t.Context(), pipe.Job{Session: "id7"}); err == nil || !strings.Contains(err.Error(), "wasn't ready after 100ms") {
		t.Errorf("the start ends with %v", err)
	}
	if said := j.String(); !strings.Contains(said, "wasn't ready after 100ms") || !strings.Contains(said, "session=id7") {
		t.Errorf("the log says %q", said)
	}
}

// TestReadyLate: one that takes its time is waited for.
func TestReadyLate(t *testing.T) {
	p, _ := pool(t, "late 500ms")
	if frames, err := outcome(t, p, true); frames != 1 || err != io.EOF {
		t.Errorf("%d frames, %v; want 1 and the end", frames, err)
	}
}

// TestClosed: a transcoder ends at once, whatever it is at, and that is no news.
func TestClosed(t *testing.T) {
	for _, behaviour := range []string{"echoes", "deaf", "mute", "then-hangs", "floods", "ignores"} {
		t.Run(behaviour, func(t *testing.T) {
			p, j := pool(t, behaviour, func(c *Config) { c.patience.silence, c.patience.firstSilence = time.Hour, time.Hour })
			process, err := p.Start(t.Context(), pipe.Job{Session: "id7"})
			if err != nil {
				t.Fatal(err)
			}
			fed := make(chan error)
			go func() {
				for {
					if _, err := process.Write(make([]byte, 64<<10)); err != nil {
						fed <- err
						return
					}
				}
			}()
			if behaviour != "deaf" && behaviour != "mute" && behaviour != "ignores" {
				if _, err := process.Tracks(); err != nil {
					t.Fatal(err)
				}
			}
			process.KeyFrame() // and never waits
			began := time.Now()
			process.Close()
			process.Close() // twice is once
			<-fed
			if _, err := process.Frame(); err == nil {
				t.Error("it still gives out frames")
			}
			if held := process.Pause(); held != pipe.HeldMuch {
				t.Errorf("it still answers %d", held)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("its end takes %v", took)
			}
			if said := j.String(); said != "" {
				t.Errorf("the log says %s", said)
			}
		})
	}
}

// TestSlowReader: a transcoder that waits for its reader doesn't hang.
func TestSlowReader(t *testing.T) {
	p, j := pool(t, "floods")
	process, err := p.Start(t.Context(), pipe.Job{Session: "id7"})
	if err != nil {
		t.Fatal(err)
	}
	defer process.Close()
	go func() {
		for {
			if _, err := process.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}()
	if _, err := process.Tracks(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := process.Frame(); err != nil {
			t.Errorf("a frame: %v", err)
		}
		<-time.After(2 * hasty.silence) // it is this long that must not count
	}
	if said := j.String(); said != "" {
		t.Errorf("the log says %s", said)
	}
}

// TestStalledPublisher: a transcoder that is sent nothing doesn't hang.
func TestStalledPublisher(t *testing.T) {
	p, _ := pool(t, "echoes")
	process, err := p.Start(t.Context(), pipe.Job{Session: "id7"})
	if err != nil {
		t.Fatal(err)
	}
	defer process.Close()
	go func() {
		process.Write([]byte("some"))
		<-time.After(4 * hasty.silence)
		process.Write([]byte("more"))
	}()
	if _, err := process.Tracks(); err != nil {
		t.Error(err)
	}
	if _, err := process.Frame(); err != nil {
		t.Errorf("after the pause: %v", err)
	}
}

// TestPause: it is answered beside what comes out.
func TestPause(t *testing.T) {
	p, _ := pool(t, "echoes")
	process, err := p.Start(t.Context(), pipe.Job{Session: "id7"})
	if err != nil {
		t.Fatal(err)
	}
	defer process.Close()
	held := make(chan pipe.Held, 1)
	go func() {
		process.Write([]byte("some"))
		process.Write([]byte("more"))
		held <- process.Pause()
		process.KeyFrame()
		process.End()
	}()
	if _, err := process.Tracks(); err != nil {
		t.Fatal(err)
	}
	var got []media.Frame
	for {
		f, err := process.Frame()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, f)
	}
	if h := <-held; h != pipe.HeldLittle {
		t.Errorf("the pause is answered with %d", h)
	}
	if len(got) < 1 || string(got[0].Payload) != "more" {
		t.Errorf("got %v", got)
	}
}

// TestPauseEnds with the transcoder, whatever becomes of that.
func TestPauseEnds(t *testing.T) {
	for _, behaviour := range []string{"exits 1", "fails it is damaged", "then-hangs", "then-deaf", "claims"} {
		t.Run(behaviour, func(t *testing.T) {
			p, _ := pool(t, behaviour)
			process, err := p.Start(t.Context(), pipe.Job{Session: "id7"})
			if err != nil {
				t.Fatal(err)
			}
			go func() { // as a body's collector does
				defer process.Close()
				if _, err := process.Tracks(); err == nil {
					process.Frame()
				}
			}()
			process.Write([]byte("some"))
			if held := process.Pause(); held != pipe.HeldMuch {
				t.Errorf("the pause is answered with %d", held)
			}
		})
	}
}

// TestDiary: what a transcoder says is in the log, with the session, and bounded.
func TestDiary(t *testing.T) {
	p, j := pool(t, "noise 1000")
	if _, err := outcome(t, p, true); err != io.EOF {
		t.Error(err)
	}
	said := j.String()
	if n := strings.Count(said, "transcoder says"); n != maxLines || strings.Count(said, "session=id7") != n {
		t.Errorf("%d lines, want %d", n, maxLines)
	}
	if len(said) > maxLines*(maxLine+300) {
		t.Errorf("%d bytes of log", len(said))
	}
	p, j = pool(t, "noise 1")
	if _, err := outcome(t, p, true); err != io.EOF {
		t.Error(err)
	}
	if said := j.String(); !strings.Contains(said, `session=id7 line="the last words"`) {
		t.Errorf("the last line isn't in the log: %s", said)
	}
}
