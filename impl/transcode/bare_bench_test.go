package transcode

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"tureen/fixtures"
	"tureen/impl/media"
	"tureen/impl/transcode/pipe"
)

// bare is what a transcoder does, as a pipeline of the same elements with the
// same settings and without a proxy around it.
const bare = "filesrc location=%s ! matroskademux name=d " +
	"d.video_0 ! queue ! decodebin ! videoconvert ! deinterlace ! videoflip video-direction=auto ! videoscale add-borders=true ! " +
	"video/x-raw,format=I420,width=640,height=360,pixel-aspect-ratio=1/1 ! " +
	"queue max-size-buffers=4 max-size-bytes=0 max-size-time=0 ! " +
	"vp8enc deadline=1 cpu-used=8 lag-in-frames=0 end-usage=cbr keyframe-max-dist=30 target-bitrate=1200000 " +
	"min-quantizer=4 max-quantizer=56 buffer-initial-size=500 buffer-optimal-size=600 buffer-size=1000 " +
	"undershoot=95 static-threshold=1 timebase=1/90000 threads=1 ! fakesink sync=%[2]t " +
	"d.audio_0 ! queue ! decodebin ! audioconvert ! audioresample ! audio/x-raw,rate=48000,channels=2 ! " +
	"vorbisenc quality=0.4 ! fakesink sync=%[2]t"

// BenchmarkAgainstBare compares transcoders with bare pipelines of the same
// elements, on the same input, in turn:
//
//	cost      processor time of one stream in real time; as a multiple of the bare one's
//	capacity  how many streams the machine carries, by the media that several transcoders for each processor get through
//	          when they are let loose, so that none of it is ever idle; as a share of what bare pipelines do
func BenchmarkAgainstBare(b *testing.B) {
	clip := long(b)
	command := built(b)
	b.Run("cost", func(b *testing.B) {
		var ours, theirs time.Duration
		for b.Loop() {
			theirs += costOfBare(b, clip)
			ours += cost(b, command, clip)
		}
		b.ReportMetric(float64(ours)/float64(theirs), "transcoder/bare")
		b.ReportMetric(100*theirs.Seconds()/float64(b.N)/span.Seconds(), "%core-bare")
		b.ReportMetric(100*ours.Seconds()/float64(b.N)/span.Seconds(), "%core")
	})
	b.Run("capacity", func(b *testing.B) {
		var ours, theirs float64
		for b.Loop() {
			theirs += rateOfBare(b, clip)
			ours += rate(b, command, clip)
		}
		b.ReportMetric(ours/theirs, "transcoders/bare")
		b.ReportMetric(theirs/float64(b.N), "streams-bare")
		b.ReportMetric(ours/float64(b.N), "streams")
	})
}

const (
	// length is the clip's.
	length = 30 * time.Second
	// span is how much of it processor time is measured over, from settled on.
	span    = 20 * time.Second
	settled = 4 * time.Second
)

// long is the path of a clip of that length.
func long(b *testing.B) string {
	b.Helper()
	clip, err := fixtures.Open("mkv-h264-aac")
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	once, path := filepath.Join(dir, "once.mkv"), filepath.Join(dir, "long.mkv")
	if err := os.WriteFile(once, clip.Data, 0o600); err != nil {
		b.Fatal(err)
	}
	run(b, "ffmpeg", "-v", "error", "-stream_loop", "2", "-i", once, "-c", "copy", path)
	return path
}

// built is the command of a transcoder, made for the benchmark.
func built(b *testing.B) []string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "tureen")
	run(b, "go", "build", "-o", path, "tureen/impl/cmd/tureen")
	return []string{path, "transcoder"}
}

func run(b *testing.B, name string, args ...string) {
	b.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		b.Fatalf("%s: %v\n%s", name, err, out)
	}
}

func pipeline(ctx context.Context, clip string, inTime bool) *exec.Cmd {
	return exec.CommandContext(ctx, "gst-launch-1.0", append([]string{"-q"}, strings.Fields(fmt.Sprintf(bare, clip, inTime))...)...)
}

// spent is the processor time that a process uses over span.
func spent(b *testing.B, pid int) time.Duration {
	b.Helper()
	used := func() time.Duration {
		d, err := processorTime(pid)
		if err != nil {
			b.Fatal(err)
		}
		return d
	}
	time.Sleep(settled)
	before := used()
	time.Sleep(span)
	return used() - before
}

func costOfBare(b *testing.B, clip string) time.Duration {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	cmd := pipeline(ctx, clip, true)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer cmd.Wait() // it is killed
	defer cancel()
	return spent(b, cmd.Process.Pid)
}

func cost(b *testing.B, command []string, clip string) time.Duration {
	b.Helper()
	t, gone := begin(b, command, clip, true)
	used := spent(b, t.cmd.Process.Pid)
	t.Close()
	<-gone
	return used
}

// begin has a transcoder take a clip, as it plays or as fast as it can. The
// channel tells, at its end, how long that took.
func begin(b *testing.B, command []string, clip string, inTime bool) (*Process, <-chan time.Duration) {
	b.Helper()
	data, err := os.ReadFile(clip)
	if err != nil {
		b.Fatal(err)
	}
	pool := NewPool(Config{Command: command, Max: 1000, Log: slog.New(slog.DiscardHandler), MaxVideoBitRate: 1_200_000})
	t, err := pool.Start(b.Context(), pipe.Job{Session: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	go func() {
		t.Write(data) // fails with the transcoder
		t.End()
	}()
	over := make(chan time.Duration, 1)
	go func() {
		defer pool.Close()
		defer t.Close()
		_, err := t.Tracks()
		for err == nil {
			var f media.Frame
			if f, err = t.Frame(); inTime && err == nil {
				time.Sleep(time.Until(began.Add(f.Time)))
			}
		}
		if err != io.EOF && !inTime {
			b.Error(err)
		}
		over <- time.Since(began)
	}()
	return t, over
}

// loose is how many run beside one another when they are let loose.
func loose() int { return 4 * runtime.NumCPU() }

// rate is how many times real time transcoders get through, all together.
func rate(b *testing.B, command []string, clip string) float64 {
	b.Helper()
	n := loose()
	began := time.Now()
	var ends []<-chan time.Duration
	for range n {
		_, over := begin(b, command, clip, false)
		ends = append(ends, over)
	}
	for _, over := range ends {
		<-over
	}
	return float64(n) * float64(length) / float64(time.Since(began))
}

func rateOfBare(b *testing.B, clip string) float64 {
	b.Helper()
	n := loose()
	began := time.Now()
	var running sync.WaitGroup
	for range n {
		running.Go(func() {
			ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
			defer cancel()
			if out, err := pipeline(ctx, clip, false).CombinedOutput(); err != nil {
				b.Errorf("a bare pipeline: %v\n%s", err, out)
			}
		})
	}
	running.Wait()
	return float64(n) * float64(length) / float64(time.Since(began))
}
