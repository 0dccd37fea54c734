package rtp_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"

	"golang.org/x/sys/unix"

	"tureen/fixtures"
	out "tureen/impl/rtp"
	"tureen/impl/server"
	"tureen/loadgen/publish"
	"tureen/loadgen/webm"
)

// The clip that is on the air: 4 s at 640×360, over and over, a key frame each
// second.
const (
	loopClip   = "webm-load"
	loopLength = 4 * time.Second
)

// proxy is a running server, and what is behind it.
type proxy struct {
	*out.Sender
	server  *server.Server
	address string
	log     *text
}

// Drain ends all streams.
func (p *proxy) Drain() { p.server.Drain() }

// grace is how long a session waits for a publisher that broke off.
const grace = 2 * time.Second

// text is a log that can be read while it is written.
type text struct {
	mu   sync.Mutex
	b    strings.Builder
	more chan struct{} // closed at the next line; nil while nobody asked
}

func (l *text) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.more != nil {
		close(l.more)
		l.more = nil
	}
	return l.b.Write(p)
}

// lines are those that hold all of the words, and a channel that is closed at
// the next line of any kind.
func (l *text) lines(words ...string) (found []string, more <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.more == nil {
		l.more = make(chan struct{})
	}
	for line := range strings.Lines(l.b.String()) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			found = append(found, line)
		}
	}
	return found, l.more
}

// await waits until a line with these words is in the log.
func (l *text) await(t *testing.T, words ...string) {
	t.Helper()
	for {
		found, more := l.lines(words...)
		if len(found) > 0 {
			return
		}
		select {
		case <-more:
		case <-t.Context().Done():
			t.Fatalf("the log has no line with %q", words)
		case <-time.After(hang):
			t.Fatalf("the log has no line with %q after %v", words, hang)
		}
	}
}

// hang is how long is waited for what comes at once where nothing is wrong.
const hang = 15 * time.Second

func start(t *testing.T, policy out.Policy, limit int) *proxy {
	t.Helper()
	log := &text{}
	logger := slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	p := &proxy{Sender: out.NewSender(policy, limit, logger), log: log}
	s := server.New(server.Config{Idle: 10 * time.Second, Grace: grace, Budget: 3 * time.Second, Log: logger, RTP: p.Sender})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.server, p.address = s, listener.Addr().String()
	front := s.HTTP()
	served := make(chan error, 1)
	go func() { served <- front.Serve(listener) }()
	t.Cleanup(func() {
		s.Drain()
		ctx, cancel := context.WithTimeout(context.Background(), hang)
		defer cancel()
		if err := errors.Join(front.Shutdown(ctx), s.Wait(ctx)); err != nil {
			t.Errorf("the server doesn't end: %v", err)
		}
		<-served
		if t.Failed() {
			t.Logf("the proxy's log:\n%s", log.b.String())
		}
		if faults, _ := log.lines("fault"); len(faults) > 0 {
			t.Errorf("the proxy met a fault: %s", faults)
		}
	})
	return p
}

// publishes sends the loop in real time until end is called, which waits for
// the answer, or lost is, which breaks the connection.
func (p *proxy) publishes(t *testing.T, session, clip string) (end, lost func()) {
	t.Helper()
	source, err := publish.Open(clip)
	if err != nil {
		t.Fatal(err)
	}
	publisher, err := publish.Dial(t.Context(), publish.Config{
		Address: p.address, Host: p.address, Path: "/stream/" + session, Source: source,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := publisher.Run(ctx, time.Now())
		ended <- err
	}()
	var over sync.Once
	end = func() {
		over.Do(func() {
			stop()
			defer publisher.Close()
			if err := <-ended; err != nil {
				t.Errorf("the publisher's end: %v", err)
			}
		})
	}
	lost = func() { over.Do(func() { publisher.Close(); <-ended }) }
	t.Cleanup(stop)
	return end, lost
}

// packet is one that was received.
type packet struct {
	at   time.Time
	data []byte
}

// receiver is an RTP client that only listens: index i holds what came to its
// port + i.
type receiver struct {
	out.Client
	conns []*net.UDPConn

	mu      sync.Mutex // guards what follows
	got     [4][]packet
	changed chan struct{} // closed at the next packet
}

// listen takes four ports in a row on a loopback address.
func listen(t *testing.T, host string) *receiver {
	t.Helper()
	r := reserve(t, host)
	for i, conn := range r.conns {
		go r.read(i, conn)
	}
	return r
}

// reserve is listen without a reader.
func reserve(t *testing.T, host string) *receiver {
	t.Helper()
	address := "127.0.0.1"
	if host == "::1" {
		address = host
	}
	for range 100 {
		r := &receiver{changed: make(chan struct{})}
		if r.bind(address) {
			r.Host = host
			t.Cleanup(r.close)
			return r
		}
		r.close()
	}
	t.Fatal("no four ports in a row are free")
	return nil
}

func (r *receiver) bind(address string) bool {
	port := 0
	for i := range 4 {
		if i > 0 {
			port++
		}
		conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(address), Port: port})
		if err != nil {
			return false
		}
		r.conns = append(r.conns, conn)
		enlarge(conn)
		port = conn.LocalAddr().(*net.UDPAddr).Port
		if i == 0 {
			r.Port = uint16(port)
		}
		if i == 0 && (port%2 != 0 || port > 65532) {
			return false
		}
	}
	return true
}

// enlarge has the test itself lose nothing, as far as the system allows.
func enlarge(conn *net.UDPConn) {
	const size = 8 << 20
	conn.SetReadBuffer(size)
	if raw, err := conn.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) }) // root alone may
	}
}

func (r *receiver) close() {
	for _, conn := range r.conns {
		conn.Close()
	}
}

func (r *receiver) read(i int, conn *net.UDPConn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		r.mu.Lock()
		r.got[i] = append(r.got[i], packet{time.Now(), bytes.Clone(buf[:n])})
		close(r.changed)
		r.changed = make(chan struct{})
		r.mu.Unlock()
	}
}

// received is what has come to a port, and a channel that is closed at the next
// packet to any.
func (r *receiver) received(i int) ([]packet, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got[i]), r.changed
}

// await waits until what has come to a port fulfils a condition.
func (r *receiver) await(t *testing.T, i int, what string, enough func([]packet) bool) {
	t.Helper()
	late := time.After(hang)
	for {
		got, changed := r.received(i)
		if enough(got) {
			return
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("after %v, port+%d has %d packets: no %s", hang, i, len(got), what)
		}
	}
}

// pictures waits for so many whole pictures.
func (r *receiver) pictures(t *testing.T, n int) {
	t.Helper()
	r.await(t, 0, fmt.Sprintf("%d pictures", n), func(got []packet) bool {
		have := 0
		for _, p := range got {
			if p.data[1]&0x80 != 0 {
				have++
			}
		}
		return have >= n
	})
}

// bye waits for the farewell on both RTCP ports.
func (r *receiver) bye(t *testing.T) {
	t.Helper()
	for _, i := range []int{1, 3} {
		r.await(t, i, "BYE", func(got []packet) bool {
			return slices.ContainsFunc(got, func(p packet) bool { return says[*rtcp.Goodbye](p.data) })
		})
	}
}

// says reports whether a compound packet holds a packet of a kind.
func says[P rtcp.Packet](data []byte) bool {
	packets, err := rtcp.Unmarshal(data)
	return err == nil && slices.ContainsFunc(packets, func(p rtcp.Packet) bool { _, ok := p.(P); return ok })
}

// frame is one as it was received, or published.
type frame struct {
	kind    webm.Kind
	payload []byte
	at      time.Duration // of the publisher, or since the first one
}

// rtpFrames checks the packets of one port one by one and puts them together
// to frames (RTP-3).
func rtpFrames(kind webm.Kind, rate int64, got []packet) ([]frame, error) {
	var frames []frame
	var last rtp.Packet
	var ticks int64
	var open []byte // of the frame under way; nil between frames
	depacketise := map[webm.Kind]func(rtp.Packet, []byte) ([]byte, bool, error){webm.Video: vp8(), webm.Audio: vorbis()}[kind]
	for i, g := range got {
		var p rtp.Packet
		if err := p.Unmarshal(g.data); err != nil {
			return frames, fmt.Errorf("packet %d: %w", i, err)
		}
		if err := follows(last, p, i == 0, open != nil); err != nil {
			return frames, fmt.Errorf("packet %d: %w", i, err)
		}
		if i > 0 {
			ticks += int64(int32(p.Timestamp - last.Timestamp))
		}
		last = p
		whole, ends, err := depacketise(p, open)
		if err != nil {
			return frames, fmt.Errorf("packet %d: %w", i, err)
		}
		open = whole
		if ends {
			at := time.Duration(ticks*int64(time.Second)) / time.Duration(rate)
			frames = append(frames, frame{kind, whole, at})
			open = nil
		}
	}
	return frames, nil
}

// follows judges what every packet has in common with the one before.
func follows(last, p rtp.Packet, first, within bool) error {
	switch {
	case p.Version != 2 || p.Padding || p.Extension || len(p.CSRC) > 0:
		return fmt.Errorf("the header is %+v", p.Header)
	case len(p.Payload) > 1200:
		return fmt.Errorf("%d bytes follow the header", len(p.Payload))
	case first:
		return nil
	case p.SSRC != last.SSRC || p.PayloadType != last.PayloadType:
		return fmt.Errorf("source %x, type %d after %x, %d", p.SSRC, p.PayloadType, last.SSRC, last.PayloadType)
	case p.SequenceNumber != last.SequenceNumber+1:
		return fmt.Errorf("number %d after %d", p.SequenceNumber, last.SequenceNumber)
	case within != (p.Timestamp == last.Timestamp):
		return fmt.Errorf("timestamp %d after %d, within a frame: %t", p.Timestamp, last.Timestamp, within)
	}
	return nil
}

// vp8 adds a packet's part of a picture (RFC 7741 §4.2).
func vp8() func(rtp.Packet, []byte) ([]byte, bool, error) {
	pictures := 0
	var last uint16
	return func(p rtp.Packet, open []byte) ([]byte, bool, error) {
		var v codecs.VP8Packet
		data, err := v.Unmarshal(p.Payload)
		first := open == nil
		switch {
		case err != nil:
			return nil, false, err
		case p.PayloadType != 96 || v.PID != 0 || (v.S == 1) != first || len(data) == 0:
			return nil, false, fmt.Errorf("type %d, S %d, PID %d, %d bytes, first of a picture: %t", p.PayloadType, v.S, v.PID, len(data), first)
		case v.I != 1 || p.Payload[2]&0x80 == 0:
			return nil, false, errors.New("it has no picture id of 15 bits")
		case first && pictures > 0 && v.PictureID != (last+1)&0x7FFF, !first && v.PictureID != last:
			return nil, false, fmt.Errorf("picture id %d after %d", v.PictureID, last)
		}
		last = v.PictureID
		if first {
			pictures++
		}
		return append(open, data...), p.Marker, nil
	}
}

// vorbis adds a packet's part of a packet of Vorbis (RFC 5215 §2.2).
func vorbis() func(rtp.Packet, []byte) ([]byte, bool, error) {
	ident := ""
	return func(p rtp.Packet, open []byte) ([]byte, bool, error) {
		b := p.Payload
		if len(b) < 6 || int(binary.BigEndian.Uint16(b[4:])) != len(b)-6 || p.PayloadType != 97 || p.Marker {
			return nil, false, fmt.Errorf("type %d, marker %t, payload %.8x…", p.PayloadType, p.Marker, b)
		}
		if ident == "" {
			ident = string(b[:3])
		}
		if string(b[:3]) != ident {
			return nil, false, fmt.Errorf("configuration %x after %x", b[:3], ident)
		}
		fragment, kind, packets := b[3]>>6, b[3]>>4&3, b[3]&15
		begins, ends := fragment <= 1, fragment == 0 || fragment == 3
		if kind != 0 || packets > 1 || (packets == 1) != (fragment == 0) || begins != (open == nil) {
			return nil, false, fmt.Errorf("fragment %d, type %d, %d packets, begun: %t", fragment, kind, packets, open != nil)
		}
		return append(open, b[6:]...), ends, nil
	}
}

// published is the first frames of the loop, as they are sent.
func published(t *testing.T, name string, length time.Duration) []frame {
	t.Helper()
	c, err := fixtures.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	clip, err := webm.Parse(c.Data)
	if err != nil {
		t.Fatal(err)
	}
	var frames []frame
	for begin := time.Duration(0); begin < length; begin += loopLength {
		for _, f := range clip.Frames {
			frames = append(frames, frame{kind: f.Kind, payload: f.Payload, at: begin + f.Timestamp})
		}
	}
	return frames
}

// frames is what a receiver got of both tracks.
func (r *receiver) frames(t *testing.T) map[webm.Kind][]frame {
	t.Helper()
	all := map[webm.Kind][]frame{}
	for kind, i := range map[webm.Kind]int{webm.Video: 0, webm.Audio: 2} {
		got, _ := r.received(i)
		frames, err := rtpFrames(kind, map[webm.Kind]int64{webm.Video: 90000, webm.Audio: 48000}[kind], got)
		if err != nil {
			t.Fatalf("port+%d: %v", i, err)
		}
		all[kind] = frames
	}
	return all
}

// matches checks one track's frames against those published, of which the first
// is the picture or packet of sound numbered first.
func matches(sent, got []frame, kind webm.Kind, first int) error {
	sent = slices.DeleteFunc(slices.Clone(sent), func(f frame) bool { return f.kind != kind })[first:]
	if len(got) == 0 || len(got) > len(sent) {
		return fmt.Errorf("%d frames, of %d published", len(got), len(sent))
	}
	for i, f := range got {
		if !bytes.Equal(f.payload, sent[i].payload) {
			return fmt.Errorf("frame %d has %d bytes that aren't the %d published", i, len(f.payload), len(sent[i].payload))
		}
		if off := f.at - (sent[i].at - sent[0].at); off < -2*time.Millisecond || off > 2*time.Millisecond {
			return fmt.Errorf("frame %d is %v off its time", i, off)
		}
	}
	return nil
}

// reports are a port's RTCP packets, each of which must be compound (RTP-4).
func (r *receiver) reports(t *testing.T, i int) (all []report) {
	t.Helper()
	got, _ := r.received(i)
	for _, g := range got {
		packets, err := rtcp.Unmarshal(g.data)
		if err != nil {
			t.Fatalf("port+%d: %v", i, err)
		}
		compound := rtcp.CompoundPacket(packets)
		name, err := compound.CNAME()
		if err != nil || compound.Validate() != nil {
			t.Fatalf("port+%d: %v has no name or isn't compound", i, packets)
		}
		sr, ok := packets[0].(*rtcp.SenderReport)
		if !ok {
			t.Fatalf("port+%d: the first of %v is no sender report", i, packets)
		}
		all = append(all, report{g.at, *sr, name, says[*rtcp.Goodbye](g.data)})
	}
	return all
}

type report struct {
	at   time.Time
	sr   rtcp.SenderReport
	name string
	bye  bool
}

// wall is a report's NTP time (RFC 3550 §4).
func (r report) wall() time.Time {
	seconds, fraction := int64(r.sr.NTPTime>>32)-2208988800, r.sr.NTPTime&0xFFFFFFFF
	return time.Unix(seconds, int64(fraction*uint64(time.Second)>>32))
}

// checkReports judges the reports of both tracks against what came.
func (r *receiver) checkReports(t *testing.T) {
	t.Helper()
	var zero [2]time.Time // of both tracks' first frames, on the reports' clock
	names := map[string]bool{}
	for track, i := range []int{1, 3} {
		rate := []int64{90000, 48000}[track]
		got, _ := r.received(i - 1)
		var first, final rtp.Packet
		if err := errors.Join(first.Unmarshal(got[0].data), final.Unmarshal(got[len(got)-1].data)); err != nil {
			t.Fatal(err)
		}
		reports := r.reports(t, i)
		last := got[0].at
		for n, report := range reports {
			names[report.name] = true
			most := 5 * time.Second
			if n == 0 {
				most = time.Second
			}
			if gap := report.at.Sub(last); gap > most {
				t.Errorf("port+%d: report %d came %v after the one before, or the first frame", i, n, gap)
			}
			last = report.at
			since := time.Duration(int64(int32(report.sr.RTPTime-first.Timestamp))*int64(time.Second)) / time.Duration(rate)
			at := report.wall().Add(-since)
			if n == 0 {
				zero[track] = at
			}
			if moved := at.Sub(zero[track]); moved.Abs() > time.Millisecond {
				t.Errorf("port+%d: report %d moves the clock by %v", i, n, moved)
			}
			if report.sr.SSRC != first.SSRC {
				t.Errorf("port+%d: report %d is of source %x, the packets of %x", i, n, report.sr.SSRC, first.SSRC)
			}
			if report.bye != (n == len(reports)-1) {
				t.Errorf("port+%d: report %d of %d says BYE: %t", i, n, len(reports), report.bye)
			}
		}
		if len(reports) == 0 {
			t.Errorf("port+%d: there are no reports", i)
			continue
		}
		octets := 0
		for _, p := range got {
			octets += len(p.data) - 12
		}
		if sr := reports[len(reports)-1].sr; int(sr.PacketCount) != len(got) || int(sr.OctetCount) != octets {
			t.Errorf("port+%d: %d packets of %d octets were reported, %d of %d came", i, sr.PacketCount, sr.OctetCount, len(got), octets)
		}
		if late := zero[track].Sub(got[0].at); late.Abs() > time.Second {
			t.Errorf("port+%d: the clock is %v off the wall's", i, late)
		}
	}
	if len(names) != 1 {
		t.Errorf("the tracks have the names %v, want one for both", names)
	}
	// The clip's tracks begin together.
	if apart := zero[0].Sub(zero[1]); apart.Abs() > 5*time.Millisecond {
		t.Errorf("the tracks' clocks are %v apart", apart)
	}
}

// media is the line of a receiver's track in an SDP.
func (p *proxy) media(r *receiver, i int, kind string) string {
	return fmt.Sprintf("m=%s %d RTP/AVP 9", kind, int(r.Port)+i)
}

// request is the answer to a request, whose body is left out.
func (p *proxy) request(t *testing.T, method, path string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+p.address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	return answer
}

func (p *proxy) status(t *testing.T, path string) int {
	t.Helper()
	return p.request(t, http.MethodGet, path).StatusCode
}

// get is the body that a GET is answered with.
func (p *proxy) get(t *testing.T, path string) string {
	t.Helper()
	answer, err := http.Get("http://" + p.address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Errorf("GET %s is answered %s, %v", path, answer.Status, err)
	}
	return string(b)
}
