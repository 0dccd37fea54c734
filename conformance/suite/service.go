package suite

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/onsi/gomega"

	"tureen/conformance/media"
	"tureen/conformance/target"
	"tureen/conformance/webm"
	"tureen/conformance/wire"
)

// service declares the checks of SPEC.md's chapter "Service".
func service(check declare) {
	check("SRV-1", "hostile bodies end neither the process nor another session", hostileBodies, limit(50*second))
	check("SRV-1", "hostile requests end neither the process nor another session", hostileRequests)
	check("SRV-2", "a request's head that doesn't come to its end is given up within 10 s", func(t *Trial) { unfinishedHead(t, 0) })
	check("SRV-2", "a request's head that comes byte by byte is given up within 10 s", func(t *Trial) { unfinishedHead(t, 700*time.Millisecond) })
	check("SRV-2", "a request's head of more than 64 KiB is refused", hugeHead)
	check("SRV-3", "on SIGTERM publishers get 503, viewers a clean end, and the process exits with 0 in its drain time", drains)
	check("SRV-3", "on SIGTERM newcomers get 503 or no connection", refusesNewcomers)
	check("SRV-4", "a publisher and a viewer too many get 503 with Retry-After, and who is there goes on", full)
}

// bystander publishes with a viewer while something else goes on, and judges that neither is disturbed by it.
func bystander(t *Trial, meanwhile func()) {
	s := first(4 * second)
	p, v := t.Live(s)
	meanwhile()
	p.Accepted(s.Duration + 2*tolerance)
	if err := whole(v.AwaitEnd(tolerance), s, 0); err != nil {
		t.Fail("a session beside hostile ones: %v", err)
	}
	if err := t.Target.Alive(t.ctx); err != nil {
		t.Fail("after hostile requests %v", err)
	}
}

// hostile are bodies that a parser may stumble over.
func hostile(t *Trial) []*media.Source {
	head := first(second).Pieces[0].Data
	noise := make([]byte, 100_000)
	for i := range noise {
		noise[i] = byte(t.Rand.Uint32())
	}
	deep := slices.Repeat(webm.Unknown(webm.IDSegment, 1), 5000)
	after := func(name string, tail ...byte) *media.Source { return media.Raw(name, slices.Concat(head, tail)) }
	return []*media.Source{
		fixture("bad-random"), fixture("bad-cut-in-header"), media.Raw("garbage", fixture("bad-garbage-after-3s").Bytes()),
		media.Raw("a block of 2^55 bytes", fixture("bad-size-2-55").Bytes()),
		after("a Cluster of 2^56-2 bytes", append(webm.Claim(webm.IDCluster, 1<<56-2), noise...)...),
		after("a block of no bytes", slices.Concat(webm.ClusterHead(0), webm.Element(webm.IDSimpleBlock))...),
		after("a block of one byte", slices.Concat(webm.ClusterHead(0), webm.Element(webm.IDSimpleBlock, 0x81))...),
		after("a lace of 256 frames in no bytes", slices.Concat(webm.ClusterHead(0), webm.Element(webm.IDSimpleBlock, 0x82, 0, 0, 0x02, 0xFF))...),
		after("a block of track 0", slices.Concat(webm.ClusterHead(0), webm.SimpleBlock(0, 0, true, noise[:100]))...),
		after("timestamps of 2^62", slices.Concat(webm.ClusterHead(1<<62), webm.SimpleBlock(1, 32767, true, noise[:100]))...),
		after("noise in a Cluster", append(webm.ClusterHead(0), noise...)...),
		media.Raw("Segments within Segments", slices.Concat(head[:5], deep)),
		media.Raw("an EBML header of 2^55 bytes", slices.Concat(webm.Claim(webm.IDEBML, 1<<55), noise)),
		media.Raw("zeros", make([]byte, 200_000)), media.Raw("ones", slices.Repeat([]byte{0xFF}, 200_000)),
	}
}

func hostileBodies(t *Trial) {
	bystander(t, func() {
		var publishers []*Publisher
		for _, s := range hostile(t) {
			publishers = append(publishers, t.Publish(t.ID(), s, flood))
		}
		for _, p := range publishers {
			p.await(15*second, "an answer to, or the end of, a publisher of "+p.Source.Name, func() bool { return p.answered != nil || p.lost != nil })
		}
	})
}

// requests that break HTTP in some way. What they are answered with, if anything, is the target's choice.
var requests = []string{
	"\x00\x01\x02\x03\r\n\r\n",
	"GET\r\n\r\n",
	"GET /stream/x HTTP/9.9\r\nHost: x\r\n\r\n",
	"GET /stream/x HTTP/1.1\r\n\r\n",
	"GET /stream/x HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
	"PUT /stream/x HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
	"PUT /stream/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nhello",
	"PUT /stream/x HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
	"PUT /stream/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"PUT /stream/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
	"PUT /stream/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n",
	"PUT /stream/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\nhello",
	"GET /stream/%zz HTTP/1.1\r\nHost: x\r\n\r\n",
	"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
	"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
	"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
	"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + "no TLS here",
	"GET /stream/x HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
	"GET /stream/x HTTP/1.1\r\nHost: x\r\nPrefer: wait=18446744073709551616\r\nRange: bytes=9-1,,-\r\n\r\n",
}

func hostileRequests(t *Trial) {
	bystander(t, func() {
		for _, r := range requests {
			c := t.Dial()
			r = strings.ReplaceAll(r, "/stream/x", path(t.ID()))
			c.Note(">", "%.120q", r)
			c.Write([]byte(r)) // a target may have closed already
			c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			if a, err := c.ReadResponse(); err == nil && a.Status/100 == 5 && a.Status != http.StatusNotImplemented && a.Status != http.StatusHTTPVersionNotSupported {
				t.Fail("%.100q was answered with %d", r, a.Status)
			}
			c.Reset()
		}
	})
}

// headTime is how long a request's head may take.
const headTime = 10 * second

// unfinishedHead sends the beginning of a head and then nothing, or a byte now and then.
func unfinishedHead(t *Trial, every time.Duration) {
	c := t.Dial()
	t.Given.Expect(c.Write([]byte("GET " + path(t.ID()) + " HTTP/1.1\r\nHost: x\r\nX-Slow: "))).To(gomega.Succeed())
	began := time.Now()
	if every > 0 {
		go func() {
			for c.Write([]byte("x")) == nil {
				time.Sleep(every)
			}
		}()
	}
	c.SetReadDeadline(began.Add(headTime + 5*second))
	a, err := c.ReadResponse()
	took := time.Since(began)
	if err == nil {
		t.Expect(a.Status).To(gomega.BeElementOf(408, 431, 400), "the status of a head that isn't finished")
	}
	t.InTime(took, headTime+second, "giving up a head that isn't finished")
}

func hugeHead(t *Trial) {
	c := t.Dial()
	c.SetWriteDeadline(time.Now().Add(2 * tolerance))
	go func() {
		c.Write([]byte("GET " + path(t.ID()) + " HTTP/1.1\r\nHost: x\r\n")) // it may be given up at any time
		for range 64 {
			if c.Write([]byte("X-Filler: "+strings.Repeat("x", 4000)+"\r\n")) != nil {
				return
			}
		}
		c.Write([]byte("\r\n"))
	}()
	c.SetReadDeadline(time.Now().Add(2 * tolerance))
	a, err := c.ReadResponse()
	if err == nil {
		t.Expect(a.Status).To(gomega.BeElementOf(431, 400, 413), "the status of a head of 256 KiB")
	}
	t.Expect(isTimeout(err)).To(gomega.BeFalse(), "a head of 256 KiB is neither answered nor its connection closed")
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

// instance has the rest of the check use a target of its own.
func (t *Trial) instance(start func(context.Context) (*target.Process, error), missing string) *target.Process {
	if start == nil {
		t.Skip("%s", missing)
	}
	p, err := start(t.ctx)
	t.Given.Expect(err).NotTo(gomega.HaveOccurred(), "starting an instance of the target")
	t.onEnd(func() { p.Stop(second) })
	own := *t.Target
	own.Base, own.Process = p.Base, p
	t.Target = &own
	return p
}

const needsExec = "the suite can only stop a target that it has started itself (--exec)"

func drains(t *Trial) {
	p := t.instance(t.Target.Start, needsExec)
	publisher, viewer := t.Live(first(5*second), until(second))
	publisher.AwaitSent(second)
	told := time.Now()
	t.Given.Expect(p.Terminate()).To(gomega.Succeed())
	t.Script.Note(0, "=", "SIGTERM")
	a := publisher.Answer(t.Times.Drain + second)
	t.Expect(a.Status).To(gomega.Equal(http.StatusServiceUnavailable), "the status of a publisher")
	view := viewer.AwaitEnd(t.Times.Drain + second)
	t.Expect(view.Clean()).To(gomega.BeTrue(), "the viewer's body ends cleanly: %v", view.Err)
	select {
	case <-p.Exited():
	case <-time.After(t.Times.Drain + second):
	case <-t.ctx.Done():
	}
	t.InTime(time.Since(told), t.Times.Drain, "the process's end after SIGTERM")
	t.Expect(p.Err()).NotTo(gomega.HaveOccurred(), "how the process ends after SIGTERM")
}

func refusesNewcomers(t *Trial) {
	p := t.instance(t.Target.Start, needsExec)
	publisher, _ := t.Live(first(8*second), until(second))
	publisher.AwaitSent(second)
	t.Given.Expect(p.Terminate()).To(gomega.Succeed())
	t.Script.Note(0, "=", "SIGTERM")
	publisher.wait(t.Times.Drain, func() bool { return publisher.answered != nil || publisher.lost != nil }) // the drain has begun
	for _, r := range []wire.Request{
		{Method: "GET", Path: path(t.ID())},
		{Method: "PUT", Path: path(t.ID()), Fields: []string{"Transfer-Encoding: chunked", "Expect: 100-continue"}},
	} {
		c, err := wire.Dial(t.ctx, t.Target.Base, t.Script)
		if err != nil {
			continue // as good
		}
		t.conns.add(c)
		c.SetReadDeadline(time.Now().Add(t.Times.Drain + second))
		if c.Send(r) != nil {
			continue
		}
		a, err := c.ReadResponse()
		if err != nil {
			continue // the listener was closed with the connection in its queue
		}
		t.Expect(a.Status).To(gomega.Equal(http.StatusServiceUnavailable), "the status of %s while the target drains", r.Method)
		t.Expect(a.Header.Get("Retry-After")).NotTo(gomega.BeEmpty(), "Retry-After of the 503")
	}
}

// full: the instance takes one publisher and two viewers.
func full(t *Trial) {
	t.instance(t.Target.StartSmall, "nobody said how to start the target so that it takes one publisher and two viewers at most (--small-exec)")
	s := first(3 * second)
	p, one := t.Live(s)
	two := t.Watch(p.ID)
	two.Watching(tolerance)
	for what, answer := range map[string]func() *wire.Response{
		"publisher": func() *wire.Response { return t.Publish(t.ID(), s, expecting).Answer(tolerance).Response },
		"viewer":    func() *wire.Response { return t.Watch(p.ID).Answer(tolerance) },
	} {
		a := answer()
		t.Expect(a.Status).To(gomega.Equal(http.StatusServiceUnavailable), "the status of a %s too many", what)
		t.Expect(a.Header.Get("Retry-After")).NotTo(gomega.BeEmpty(), "Retry-After of the 503 to a %s too many", what)
	}
	p.Accepted(s.Duration + tolerance)
	if err := whole(one.AwaitEnd(tolerance), s, 0); err != nil {
		t.Fail("a viewer who was there before the one too many: %v", err)
	}
	two.AwaitEnd(tolerance)
	next := t.Publish(t.ID(), first(second)) // there is room again
	a := next.Answer(2*second + tolerance)
	t.Expect(a.Status).To(gomega.Equal(http.StatusOK), fmt.Sprintf("the status of a publisher when there is room again; it said %s", a.Body))
}
