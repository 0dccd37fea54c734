// Package container_test checks the proxy's image from outside, as its users run it: it becomes healthy, streams through
// a mapped port, runs without privileges and stops when it is told to. What streaming must get right in detail is left
// to the proxy's own tests and to the conformance suite. It is a package of its own because testcontainers-go is a lot
// to compile.
package container_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/exec"
	"github.com/testcontainers/testcontainers-go/log"
	"github.com/testcontainers/testcontainers-go/wait"

	"tureen/fixtures"
)

const (
	port = "8000/tcp"

	// drain is the proxy's default, engineTime what an engine may take on top of it to notice an exit.
	drain      = 5 * time.Second
	engineTime = 3 * time.Second
)

// ebmlMagic begins every WebM: the EBML header's id (RFC 8794 §11.2.1).
var ebmlMagic = []byte{0x1a, 0x45, 0xdf, 0xa3}

func TestProxyImage(t *testing.T) {
	image := os.Getenv("TUREEN_IMAGE")
	if image == "" {
		t.Skip("TUREEN_IMAGE is not set: it names the proxy's image; `ci/images proxy` builds one, `ci/test` does both")
	}
	clip, err := fixtures.Open("webm-vp8-vorbis")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	proxy, url := startProxy(ctx, t, image)

	t.Run("streams", func(t *testing.T) { testStreaming(ctx, t, url+"/stream/through", clip) })
	t.Run("runs without privileges", func(t *testing.T) { testUser(ctx, t, proxy) })
	// The last, because it leaves nothing running.
	t.Run("ends at SIGTERM", func(t *testing.T) { testStop(ctx, t, proxy, url+"/stream/stopped", clip) })
}

// startProxy runs the image until the test's end, waits for its own health check, and returns where it is reached.
func startProxy(ctx context.Context, t *testing.T, image string) (testcontainers.Container, string) {
	t.Helper()
	proxy, err := testcontainers.Run(ctx, image,
		testcontainers.WithExposedPorts(port),
		// The image's own check, asked more often than is good for every day.
		testcontainers.WithConfigModifier(func(c *container.Config) {
			c.Healthcheck = &container.HealthConfig{Interval: time.Second}
		}),
		testcontainers.WithWaitStrategy(wait.ForHealthCheck()),
		testcontainers.WithLogger(log.TestLogger(t)),
	)
	testcontainers.CleanupContainer(t, proxy)
	t.Cleanup(func() { logOnFailure(t, proxy) })
	if err != nil {
		t.Fatalf("starting %s: %v", image, err)
	}
	url, err := proxy.PortEndpoint(ctx, port, "http")
	if err != nil {
		t.Fatalf("finding the mapped port: %v", err)
	}
	return proxy, url
}

// logOnFailure shows what the proxy wrote when the test has failed.
func logOnFailure(t *testing.T, proxy *testcontainers.DockerContainer) {
	if !t.Failed() || proxy == nil {
		return
	}
	logs, err := proxy.Logs(context.Background())
	if err != nil {
		t.Logf("reading the container's log: %v", err)
		return
	}
	defer logs.Close()
	text, _ := io.ReadAll(logs)
	t.Logf("the container's log:\n%s", text)
}

// testStreaming sends the clip live and expects a viewer to get its pictures bit-identical and in order.
func testStreaming(ctx context.Context, t *testing.T, url string, clip *fixtures.Clip) {
	published := publish(ctx, t, url, clip)
	response := watch(ctx, t, url)
	if got := response.Header.Get("Content-Type"); got != "video/webm" {
		t.Errorf("Content-Type %q, want video/webm", got)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Errorf("reading as a viewer, after %d bytes: %v", len(body), err)
	}
	if err := <-published; err != nil {
		t.Error(err)
	}
	if !bytes.HasPrefix(body, ebmlMagic) {
		t.Fatalf("the viewer's %d bytes don't begin as EBML: % x", len(body), body[:min(len(body), 16)])
	}
	checkPictures(t, clip, body)
}

// checkPictures expects the clip's VP8 frames in a viewer's bytes, from one of its key frames on, none missing. The
// viewer joined when the publisher was accepted, so nearly all must be there.
func checkPictures(t *testing.T, clip *fixtures.Clip, body []byte) {
	t.Helper()
	track, ok := clip.Track("video")
	if !ok || track.Codec != "vp8" {
		t.Fatalf("%s has no VP8 track", clip.Name)
	}
	frames := clip.FramesOf(track.Number)
	found, rest := 0, body
	for _, frame := range frames {
		payload := clip.Data[frame.End-int64(frame.Size) : frame.End]
		at := bytes.Index(rest, payload)
		switch {
		case at >= 0:
			found++
			rest = rest[at+len(payload):]
		case found > 0:
			t.Fatalf("picture %d (%d bytes) is not in the viewer's bytes behind its predecessors", frame.Number, frame.Size)
		}
	}
	if found < len(frames)*9/10 {
		t.Errorf("the viewer's %d bytes hold %d of %d pictures", len(body), found, len(frames))
	}
}

// testUser expects the proxy to be the container's first process, so that signals reach it, and not to be root.
func testUser(ctx context.Context, t *testing.T, proxy testcontainers.Container) {
	if id := run(ctx, t, proxy, "id", "-u"); strings.TrimSpace(id) == "0" {
		t.Error("commands in the container run as root")
	}
	status := statusFields(run(ctx, t, proxy, "cat", "/proc/1/status"))
	if name := status["Name"]; name != "tureen" {
		t.Errorf("the first process is %q, want tureen", name)
	}
	// Real, effective, saved and file system's id (proc_pid_status(5)).
	ids := strings.Fields(status["Uid"])
	if len(ids) != 4 {
		t.Fatalf("the first process has the ids %q", status["Uid"])
	}
	for _, id := range ids {
		if id == "0" {
			t.Errorf("the first process runs as root: %v", ids)
			break
		}
	}
}

// statusFields takes /proc/PID/status apart.
func statusFields(text string) map[string]string {
	fields := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			fields[name] = strings.TrimSpace(value)
		}
	}
	return fields
}

// run executes a command in the container, as the container's user, and returns what it printed.
func run(ctx context.Context, t *testing.T, proxy testcontainers.Container, command ...string) string {
	t.Helper()
	code, output, err := proxy.Exec(ctx, command, exec.Multiplexed())
	if err != nil {
		t.Fatalf("executing %q: %v", command, err)
	}
	text, err := io.ReadAll(output)
	if err != nil || code != 0 {
		t.Fatalf("executing %q: exit code %d, error %v, output %q", command, code, err, text)
	}
	return string(text)
}

// testStop stops the proxy in the middle of a stream and expects it to leave by itself, with success.
func testStop(ctx context.Context, t *testing.T, proxy testcontainers.Container, url string, clip *fixtures.Clip) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	published := publish(ctx, t, url, clip)
	// The publisher is cut off by what is tested; how it is told is the conformance suite's matter.
	defer func() { cancel(); <-published }()
	if _, err := io.ReadFull(watch(ctx, t, url).Body, make([]byte, len(ebmlMagic))); err != nil {
		t.Fatalf("reading the stream's first bytes: %v", err)
	}

	begin := time.Now()
	// The engine sends SIGTERM, and SIGKILL when this much has passed.
	patience := 2 * (drain + engineTime)
	if err := proxy.Stop(ctx, &patience); err != nil {
		t.Fatalf("stopping: %v", err)
	}
	took := time.Since(begin).Round(time.Millisecond)
	state, err := proxy.State(ctx)
	if err != nil {
		t.Fatalf("asking for the exit code: %v", err)
	}
	t.Logf("stopped in %v", took)
	if state.Running || state.ExitCode != 0 {
		t.Errorf("SIGTERM ended the proxy with exit code %d after %v (running: %t)", state.ExitCode, took, state.Running)
	}
	if took > drain+engineTime {
		t.Errorf("the proxy took %v to end, its drain time is %v", took, drain)
	}
}

// publish sends the clip in chunks, each frame at its presentation time, and returns as soon as the proxy has accepted
// it. The outcome arrives when the answer has: nil after a 200.
func publish(ctx context.Context, t *testing.T, url string, clip *fixtures.Clip) <-chan error {
	t.Helper()
	accepted := make(chan struct{})
	outcome := make(chan error, 1)
	trace := &httptrace.ClientTrace{Got100Continue: func() { close(accepted) }}
	reader, writer := io.Pipe()
	request, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), http.MethodPut, url, reader)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Expect", "100-continue")
	// Long enough that the body never starts before the proxy has spoken.
	transport := &http.Transport{ExpectContinueTimeout: time.Minute, DisableKeepAlives: true}

	go func() {
		select {
		case <-accepted:
			writer.CloseWithError(sendLive(ctx, writer, clip))
		case <-ctx.Done():
			writer.CloseWithError(ctx.Err())
		}
	}()
	go func() {
		response, err := transport.RoundTrip(request)
		if err != nil {
			outcome <- fmt.Errorf("publishing %s: %w", clip.Name, err)
			return
		}
		defer response.Body.Close()
		answer, _ := io.ReadAll(io.LimitReader(response.Body, 4096))
		if response.StatusCode != http.StatusOK {
			outcome <- fmt.Errorf("publishing %s: %s: %s", clip.Name, response.Status, answer)
			return
		}
		outcome <- nil
	}()

	select {
	case <-accepted:
	case err := <-outcome:
		t.Fatalf("the proxy answered before the body: %v", err)
	}
	return outcome
}

// sendLive writes the clip's bytes as a live encoder would: up to each frame's end when that frame is due.
func sendLive(ctx context.Context, w io.Writer, clip *fixtures.Clip) error {
	begin, sent := time.Now(), int64(0)
	for _, frame := range clip.Frames {
		select {
		case <-time.After(time.Until(begin.Add(frame.PTS))):
		case <-ctx.Done():
			return ctx.Err()
		}
		if _, err := w.Write(clip.Data[sent:frame.End]); err != nil {
			return err
		}
		sent = frame.End
	}
	_, err := w.Write(clip.Data[sent:])
	return err
}

// watch joins a stream whose publisher has been accepted and returns the answer when it is live.
func watch(ctx context.Context, t *testing.T, url string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatalf("watching: %v", err)
	}
	t.Cleanup(func() { response.Body.Close() })
	if response.StatusCode != http.StatusOK {
		t.Fatalf("watching: %s, want 200", response.Status)
	}
	return response
}
