package clients_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"tureen/loadgen/webm"
)

// cable leads from this machine to a network namespace.
type cable struct {
	name string // of the namespace
	end  string // of the cable, on this machine
}

// Addresses of the cable's ends, from those kept for examples (RFC 5737).
const (
	here  = "198.51.100.1"
	there = "198.51.100.2"
)

// newCable lays one to a new namespace, which takes root. Both last as long as
// the test.
func newCable(t *testing.T) cable {
	t.Helper()
	need(t, "ip")
	if err := exec.Command("unshare", "--net", "true").Run(); err != nil {
		report := t.Skipf
		if os.Getenv("CI") != "" {
			report = t.Fatalf
		}
		report("network namespaces can't be made here, which takes root: %v", err)
	}
	c := cable{fmt.Sprintf("tureen-%d", os.Getpid()), fmt.Sprintf("tu%d", os.Getpid())}
	c.ip(t, "netns add "+c.name)
	t.Cleanup(func() { c.ip(t, "netns del "+c.name) }) // and with it the cable
	c.ip(t, "link add "+c.end+" type veth peer name eth0 netns "+c.name)
	c.ip(t, "addr add "+here+"/30 dev "+c.end)
	c.ip(t, "link set "+c.end+" up")
	c.ip(t, "-n "+c.name+" addr add "+there+"/30 dev eth0")
	c.ip(t, "-n "+c.name+" link set eth0 up")
	return c
}

func (c cable) ip(t *testing.T, line string) {
	t.Helper()
	if output, err := exec.Command("ip", words(line)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", line, err, output)
	}
}

// within is the arguments of ip to run a program in the namespace.
func (c cable) within(program string, arguments []string) []string {
	return args(words("netns exec "+c.name+" "+program), arguments)
}

// cut pulls the cable: neither side is told.
func (c cable) cut(t *testing.T) {
	t.Helper()
	c.ip(t, "link set "+c.end+" down")
}

// TestNetworkCut pulls the cable between a publisher and the proxy. It returns on
// another way once the proxy has waited for its former self for a while, and
// viewers go on in the same body (REC-2).
func TestNetworkCut(t *testing.T) {
	ctx := begin(t)
	c := newCable(t)
	p := startOwn(t, "http", "--listen=0.0.0.0:0")
	_, port, err := net.SplitHostPort(p.address())
	if err != nil {
		t.Fatal(err)
	}
	p.base = "http://127.0.0.1:" + port
	session, path, whole := newSession(t, p), file(t, open(t, loopClip)), published(t, open(t, loopClip).Data)
	viewer := watch(ctx, t, p.url(session), true)
	lost := run(ctx, t, "ip", c.within("ffmpeg", copies("http://"+here+":"+port+"/stream/"+session, path, "")))
	viewer.await(ctx, t, cutAfter)
	c.cut(t)
	cut := time.Now()
	select {
	case <-time.After(time.Until(cut.Add(silence + time.Second))):
	case <-viewer.done:
	}
	before, _ := viewer.state()
	again := run(ctx, t, "ffmpeg", copies(p.url(session), path, "-t 1"))
	again.succeeds(t)
	again.quiet(t)
	got := viewer.whole(t)
	if _, err := shares([][]frame{whole, whole}, got.frames); err != nil {
		t.Error(err)
	}
	pictures := len(of(webm.Video, got.frames))
	if pictures < before+loopRate {
		t.Errorf("the viewer got %d pictures, %d of them before the return, which lasted a second", pictures, before)
	}
	decodes(ctx, t, viewer.body, pictures)
	if log := p.logOf(session); strings.Count(log, "another one came") != 1 {
		t.Errorf("the log doesn't tell that the silent publisher gave way:\n%s", log)
	}
	lost.kill(t)
}
