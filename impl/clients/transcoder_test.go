package clients_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tureen/fixtures"
	"tureen/loadgen/webm"
)

// gone waits until processes have ended.
func gone(t *testing.T, pids []int) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		running := slices.DeleteFunc(slices.Clone(pids), func(pid int) bool {
			b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
			return err != nil || strings.HasPrefix(string(b[bytes.LastIndexByte(b, ')')+1:]), " Z") // nobody's any more
		})
		if len(running) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the transcoders %v still run", running)
		}
	}
}

// streams has a clip's beginning published and watched, and is at work on it.
func streams(ctx context.Context, t *testing.T, p *proxy, name string) (session string, u *upload, v *viewer) {
	t.Helper()
	session = newSession(t, p)
	v = watch(ctx, t, p.url(session), true)
	u = uploads(t, p, session)
	if err := u.send(beginning(open(t, name))); err != nil {
		t.Fatal(err)
	}
	v.await(ctx, t, 10)
	return session, u, v
}

// detail reads a problem, which must have that status.
func detail(t *testing.T, answer *http.Response, status int) string {
	t.Helper()
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	var problem struct{ Detail string }
	if err := errors.Join(err, json.Unmarshal(b, &problem)); err != nil || answer.StatusCode != status {
		t.Fatalf("the answer is %s, %s; error: %v; want %d", answer.Status, b, err, status)
	}
	return problem.Detail
}

// busy are a proxy's transcoders but for its spare, which came last.
func busy(ctx context.Context, t *testing.T, p *proxy, spare int) []int {
	t.Helper()
	for {
		if pids := p.transcoders(t); slices.Contains(pids, spare) {
			return []int{spare} // it is at work now
		}
		select {
		case <-ctx.Done():
			t.Fatal("the stream has no transcoder")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// TestProxyIsKilled: its transcoders, and its spares, end with it.
func TestProxyIsKilled(t *testing.T) {
	ctx := begin(t)
	p := startAlone(t, "--transcoder-spares=2")
	streams(ctx, t, p, "flv")
	streams(ctx, t, p, "mpegts")
	pids := p.transcoders(t)
	if len(pids) < 4 {
		t.Errorf("%d transcoders, want two at work and two spares", len(pids))
	}
	if err := p.kill(); err != nil {
		t.Fatal(err)
	}
	gone(t, pids)
}

// TestTranscoderCrashes: it ends its stream alone, with an error and a log line
// that say how. Viewers are kept for the publisher to come back.
func TestTranscoderCrashes(t *testing.T) {
	ctx := begin(t)
	p := startAlone(t)
	spare := p.quiet(t, 0) // and calibrated
	first := p.transcoders(t)[0]
	session, u, v := streams(ctx, t, p, "flv")
	if spare.transcoders != 1 {
		t.Fatalf("%d spares", spare.transcoders)
	}
	for _, pid := range busy(ctx, t, p, first) {
		if err := syscall.Kill(pid, syscall.SIGSEGV); err != nil {
			t.Fatal(err)
		}
	}
	says := detail(t, u.answer(10*time.Second), http.StatusInternalServerError)
	// Go and GStreamer handle the signal, each in its way.
	if !strings.Contains(says, "the transcoder was ended by signal") && !strings.Contains(says, "the transcoder ended with exit code 2") {
		t.Errorf("the publisher is told %q", says)
	}
	if said := p.logOf(session); !strings.Contains(said, "transcoder crashed") {
		t.Errorf("the log says nothing of the crash:\n%s", said)
	}
	again := uploads(t, p, session)
	again.send(beginning(open(t, "flv")))
	again.end()
	if answer := again.answer(20 * time.Second); answer.StatusCode != http.StatusOK {
		t.Errorf("the publisher that returns is answered %s", answer.Status)
	}
	if got := v.clean(t); len(of(webm.Video, got.frames)) < 60 {
		t.Errorf("the viewer got %d pictures of both", len(of(webm.Video, got.frames)))
	}
}

// TestTranscoderHangs: the watchdog ends it.
func TestTranscoderHangs(t *testing.T) {
	ctx := begin(t)
	p := startAlone(t)
	p.quiet(t, 0)
	first := p.transcoders(t)[0]
	session, u, _ := streams(ctx, t, p, "mpegts")
	for _, pid := range busy(ctx, t, p, first) {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	go func() { // as a live publisher goes on
		for u.send(make([]byte, 188*100)) == nil {
			time.Sleep(50 * time.Millisecond)
		}
	}()
	began := time.Now()
	if says := detail(t, u.answer(30*time.Second), http.StatusInternalServerError); !strings.Contains(says, "made nothing of what it took for 10s") {
		t.Errorf("the publisher is told %q", says)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("that took %v", took)
	}
	gone(t, []int{first})
	if said := p.logOf(session); !strings.Contains(said, "transcoder crashed") {
		t.Errorf("the log says nothing of it:\n%s", said)
	}
}

// TestSoundsTranscoderCrashes: the pictures beside it, which pass, go on to
// their end untouched.
func TestSoundsTranscoderCrashes(t *testing.T) {
	ctx := begin(t)
	p := startAlone(t)
	p.quiet(t, 0)
	first := p.transcoders(t)[0]
	clip, session := open(t, "webm-vp8-opus"), newSession(t, p)
	v := watch(ctx, t, p.url(session), true)
	u := uploads(t, p, session)
	if err := u.send(beginning(clip)); err != nil {
		t.Fatal(err)
	}
	v.await(ctx, t, 10)
	for _, pid := range busy(ctx, t, p, first) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if err := u.send(clip.Data[len(beginning(clip)):]); err != nil {
		t.Fatal(err)
	}
	u.end()
	answer := u.answer(30 * time.Second)
	if answer.StatusCode != http.StatusOK {
		t.Errorf("the publisher is answered %s", answer.Status)
	}
	if said := p.logOf(session); !strings.Contains(said, "transcoder crashed") || !strings.Contains(said, "signal 9") {
		t.Errorf("the log says nothing of the crash:\n%s", said)
	}
	sent, got := of(webm.Video, published(t, clip.Data)), of(webm.Video, v.clean(t).frames)
	if skipped, err := untouched(sent, got); err != nil || skipped > 0 || len(got) != len(sent) {
		t.Errorf("the pictures: %v; %d skipped, %d of %d", err, skipped, len(got), len(sent))
	}
}

// TestNoTranscoderLeft: past the limit a stream that needs one gets 503, also in
// the middle of its body; one that passes is taken (SRV-4).
func TestNoTranscoderLeft(t *testing.T) {
	ctx := begin(t)
	p := startOwn(t, "http", "--max-transcodes=1")
	_, first, _ := streams(ctx, t, p, "flv")
	for _, name := range []string{"mpegts", "mkv-h264-aac", "webm-vp8-opus"} {
		u := uploads(t, p, newSession(t, p))
		sending := make(chan struct{})
		go func() { // without an end, as live publishers do
			defer close(sending)
			for u.send(open(t, name).Data) == nil {
				time.Sleep(10 * time.Millisecond)
			}
		}()
		answer := u.answer(2 * time.Second)
		if says := detail(t, answer, http.StatusServiceUnavailable); !strings.Contains(says, "transcoded") || answer.Header.Get("Retry-After") == "" {
			t.Errorf("%s is told %q, with %v", name, says, answer.Header)
		}
		select {
		case <-sending: // the connection has been closed
		case <-time.After(5 * time.Second):
			t.Errorf("%s can still send", name)
		}
	}
	passing := uploads(t, p, newSession(t, p))
	passing.send(beginning(open(t, plainClip)))
	passing.end()
	if answer := passing.answer(10 * time.Second); answer.StatusCode != http.StatusOK {
		t.Errorf("a stream that passes is answered %s", answer.Status)
	}
	first.end()
	if answer := first.answer(10 * time.Second); answer.StatusCode != http.StatusOK {
		t.Errorf("the first is answered %s", answer.Status)
	}
	again := uploads(t, p, newSession(t, p))
	again.send(beginning(open(t, "mpegts")))
	again.end()
	if answer := again.answer(20 * time.Second); answer.StatusCode != http.StatusOK {
		t.Errorf("the next is answered %s", answer.Status)
	}
}

// TestTranscodedPublisherStalls: that is no hang of its transcoder.
func TestTranscodedPublisherStalls(t *testing.T) {
	ctx := begin(t)
	p := startOwn(t, "http", "--idle=1m")
	_, u, v := streams(ctx, t, p, "flv")
	clip := open(t, "flv")
	time.Sleep(17 * time.Second) // more than either of the watchdog's bounds
	if err := u.send(clip.Data[len(beginning(clip)):]); err != nil {
		t.Fatal(err)
	}
	u.end()
	if answer := u.answer(30 * time.Second); answer.StatusCode != http.StatusOK {
		t.Errorf("the publisher is answered %s", answer.Status)
	}
	if n := len(of(webm.Video, v.clean(t).frames)); n < 285 {
		t.Errorf("the viewer got %d of 300 pictures", n)
	}
}

// TestTranscodedEnds: how bodies that are transcoded can end, and what their
// publishers are told (ING-11 to ING-15).
func TestTranscodedEnds(t *testing.T) {
	random := open(t, "bad-random").Data
	tests := map[string]struct {
		body   []byte
		ends   bool
		status int
		within time.Duration
		says   string
	}{
		"1 MiB that isn't media":         {bytes.Repeat(random, 6)[:1<<20], false, 415, 6 * time.Second, "no media format"},
		"little that isn't media":        {random, true, 415, 6 * time.Second, "no media format"},
		"1 MiB of an MP4's middle":       {append(open(t, "mp4-faststart").Data[:3000:3000], make([]byte, 1<<20)...), false, 415, 7 * time.Second, ""},
		"an FLV's header":                {open(t, "flv").Data[:13], true, 400, 6 * time.Second, "headers"},
		"an MP4's header":                {open(t, "mp4-fragmented").Data[:600], true, 400, 6 * time.Second, "headers"},
		"a Matroska's header":            {open(t, "mkv-h264-aac").Data[:300], true, 400, 6 * time.Second, "headers"},
		"silent after its headers":       {open(t, "flv").Data[:13], false, 408, 6 * time.Second, "nothing"},
		"silent":                         {beginning(open(t, "mpegts")), false, 408, 8 * time.Second, "nothing"},
		"an index that doesn't come":     {append(box("ftyp", 24), box("mdat", 9<<20)...), false, 415, 6 * time.Second, "fast-start"},
		"rubbish behind media that ends": {append(slices.Clone(open(t, "wav-mono").Data), make([]byte, 3<<20)...), false, 400, 12 * time.Second, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			begin(t)
			idle := "--idle=30s" // so that it isn't what ends them
			if test.status == http.StatusRequestTimeout {
				idle = "--idle=3s"
			}
			p := startOwn(t, "http", idle, "--max-transcodes=100")
			u := uploads(t, p, newSession(t, p))
			began := time.Now()
			go func() {
				u.send(test.body)
				if test.ends {
					u.end()
				}
			}()
			if says := detail(t, u.answer(2*test.within+10*time.Second), test.status); !strings.Contains(says, test.says) {
				t.Errorf("the publisher is told %q, want it to say %q", says, test.says)
			}
			if took := time.Since(began); took > test.within {
				t.Errorf("it is told so after %v", took)
			}
		})
	}
}

// TestTranscodedReturns: viewers of a publisher whose connection is reset in the
// middle of its body go on in the same bodies when it returns (REC-2).
func TestTranscodedReturns(t *testing.T) {
	ctx := begin(t)
	session, u, v := streams(ctx, t, plain, "flv")
	u.reset()
	status := http.StatusConflict // until the proxy has seen the reset
	for ; status == http.StatusConflict; time.Sleep(100 * time.Millisecond) {
		var err error
		if status, _, err = put(ctx, plain.url(session), beginning(open(t, "flv")), false); err != nil {
			t.Fatal(err)
		}
	}
	if status != http.StatusOK {
		t.Errorf("the publisher that returns is answered %d", status)
	}
	got := v.clean(t)
	if n := len(of(webm.Video, got.frames)); n < 60 {
		t.Errorf("the viewer got %d pictures of both", n)
	}
}

// TestTranscodedTruncated: a body that ends in the middle of a frame is a clean
// end, and says so; the frames before it reach viewers (ING-10).
func TestTranscodedTruncated(t *testing.T) {
	for _, name := range []string{"flv", "mpegts", "mp4-fragmented", "ogg-theora-vorbis", "mkv-h264-aac"} {
		t.Run(name, func(t *testing.T) {
			ctx := begin(t)
			session := newSession(t, plain)
			v := watch(ctx, t, plain.url(session), true)
			body := beginning(open(t, name))
			for _, cut := range []struct {
				bytes     int
				truncated bool
			}{{len(body) - 5, true}} {
				status, answer, err := put(ctx, plain.url(session), body[:cut.bytes], false)
				var s summary
				if err := errors.Join(err, json.Unmarshal([]byte(answer), &s)); err != nil || status != http.StatusOK {
					t.Fatalf("the answer is %d %s, error: %v", status, answer, err)
				}
				if s.Truncated == nil || *s.Truncated != cut.truncated || s.Bytes != int64(cut.bytes) {
					t.Errorf("the summary is %s", answer)
				}
			}
			if n := len(of(webm.Video, v.clean(t).frames)); n < 30 {
				t.Errorf("the viewer got %d pictures", n)
			}
		})
	}
}

// TestCurlSendsFileToTranscode: a file of any container sent by one PUT gets its
// answer when it has played, with the right summary, and no frame of it is lost.
func TestCurlSendsFileToTranscode(t *testing.T) {
	_, clips := kinds(t)
	for _, clip := range clips {
		for size, body := range map[string][]byte{"little": beginning(clip), "all": clip.Data} {
			if size == "little" && clip.Container == "mp4" {
				continue // it would be cut inside of a box
			}
			t.Run(clip.Name+" "+size, func(t *testing.T) {
				ctx := begin(t)
				path := filepath.Join(t.TempDir(), clip.File)
				if err := os.WriteFile(path, body, 0o600); err != nil {
					t.Fatal(err)
				}
				session := newSession(t, plain)
				v := watch(ctx, t, plain.url(session), true)
				began := time.Now()
				curl := run(ctx, t, "curl", args(words("-T"), []string{path}, curlPublishes(plain.url(session))))
				curl.succeeds(t)
				took := time.Since(began)
				got := v.clean(t)
				var s summary
				if err := json.Unmarshal([]byte(curl.stdout.String()), &s); err != nil {
					t.Fatalf("the answer %q is no summary: %v", curl.stdout.String(), err)
				}
				long := clip.Duration
				if size == "little" {
					long = extent(clip, len(body))
				}
				if d := time.Duration(s.DurationMS) * time.Millisecond; d < long*9/10 || d > long*11/10+200*time.Millisecond {
					t.Errorf("the summary says %v, want %v", d, long)
				}
				if took < long*9/10-time.Second {
					t.Errorf("%v of media are answered after %v", long, took)
				}
				if len(s.Tracks) != len(got.tracks) || s.Bytes != int64(len(body)) || s.Truncated == nil || *s.Truncated {
					t.Errorf("the summary is %s; the viewer got %d tracks", curl.stdout.String(), len(got.tracks))
				}
				if video, ok := clip.Track("video"); ok {
					pictures := 0
					for _, f := range clip.FramesOf(video.Number) {
						if f.End <= int64(len(body)) {
							pictures++
						}
					}
					if n := len(of(webm.Video, got.frames)); n < pictures*95/100 {
						t.Errorf("the viewer got %d of %d pictures", n, pictures)
					}
				}
			})
		}
	}
}

// extent is how much media a clip's first bytes hold.
func extent(c *fixtures.Clip, bytes int) (d time.Duration) {
	for _, f := range c.Frames {
		if f.End <= int64(bytes) {
			d = max(d, f.PTS-c.Frames[0].PTS)
		}
	}
	return d
}

// TestGstLaunchPutsToTranscode publishes what isn't WebM by souphttpclientsink.
// Its first request may hold a picture beside the headers. It leaves out whole
// buffers of mp4mux and mpegtsmux, so those two can't be had from it.
func TestGstLaunchPutsToTranscode(t *testing.T) {
	for _, mux := range []string{"flvmux", "matroskamux"} {
		t.Run(mux, func(t *testing.T) {
			ctx := begin(t)
			needElements(ctx, t, append(words("souphttpclientsink x264enc h264parse avenc_aac aacparse"), mux)...)
			p := startOwn(t, "http", "--idle=1s", "--grace=100ms")
			session := newSession(t, p)
			v := watch(ctx, t, p.url(session), true)
			gst := run(ctx, t, "gst-launch-1.0", words("-q "+mux+" name=mux streamable=true ! souphttpclientsink location="+p.url(session)+
				" videotestsrc is-live=true num-buffers=90 ! video/x-raw,width=320,height=180,framerate=30/1 ! "+
				"x264enc tune=zerolatency key-int-max=30 ! h264parse ! queue ! mux. "+
				"audiotestsrc is-live=true samplesperbuffer=1024 num-buffers=140 ! audio/x-raw,rate=48000,channels=2 ! "+
				"avenc_aac ! aacparse ! queue ! mux."))
			gst.succeeds(t)
			got := v.clean(t)
			if n := len(of(webm.Video, got.frames)); n < 86 {
				t.Errorf("the viewer got %d of 90 pictures", n)
			}
			if n := len(of(webm.Audio, got.frames)); n < 100 {
				t.Errorf("the viewer got %d packets of sound", n)
			}
			if said := p.logOf(session); strings.Count(said, "publisher accepted") != 1 {
				t.Errorf("the requests were not taken for one body:\n%s", said)
			}
		})
	}
}

// TestWithoutCgo: a proxy without a transcoder passes through, and tells why it
// refuses the rest.
func TestWithoutCgo(t *testing.T) {
	ctx := begin(t)
	path := filepath.Join(t.TempDir(), "tureen")
	build := exec.CommandContext(ctx, "go", "build", "-o", path, "tureen/impl/cmd/tureen")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building without cgo: %v\n%s", err, output)
	}
	p, err := startProgram(path, "http")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	})
	if pids := p.transcoders(t); len(pids) > 0 {
		t.Errorf("it has started %v", pids)
	}
	if said := p.stdout.String(); !strings.Contains(said, "no transcoder") {
		t.Errorf("it doesn't say that it has no transcoder: %s", said)
	}
	for name, says := range map[string]string{"flv": "FLV", "mkv-h264-aac": "h264 and aac", "webm-vp8-opus": "opus", "wav-mono": "WAV"} {
		u := uploads(t, p, newSession(t, p))
		go u.send(open(t, name).Data)
		if told := detail(t, u.answer(5*time.Second), http.StatusUnsupportedMediaType); !strings.Contains(told, says) || !strings.Contains(told, "no transcoder") {
			t.Errorf("%s is told %q", name, told)
		}
	}
	status, answer, err := put(ctx, p.url(newSession(t, p)), beginning(open(t, plainClip)), false)
	if status != http.StatusOK || err != nil {
		t.Errorf("what passes is answered %d %s, error: %v", status, answer, err)
	}
}

// box is a box of an MP4 with n bytes of nothing.
func box(kind string, n int) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+n))
	return append(append(b, kind...), make([]byte, n)...)
}
