package rtp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/pion/rtp"

	"tureen/fixtures"
	"tureen/impl/media"
	"tureen/impl/webm"
)

// numbers starts a source's numbers, one after the other, at n.
func numbers(n uint32) func() uint32 { return func() uint32 { n++; return n - 1 } }

func TestTimestamps(t *testing.T) {
	tests := []struct {
		rate, offset uint32
		at           time.Duration
		want         uint32
	}{
		{90000, 0, 0, 0},
		{90000, 7, time.Second, 90007},
		{90000, 0, 33 * time.Millisecond, 2970},
		{90000, 0, 33333333 * time.Nanosecond, 3000}, // to the nearest tick
		{48000, 0, 20833333 * time.Nanosecond, 1000},
		{44100, 0, 26122449 * time.Nanosecond, 1152},
		{90000, 0xFFFFFFFF, time.Second, 89999}, // comes round
		// Longer than nanoseconds times a rate can be.
		{90000, 0, 48 * time.Hour, uint32(48 * 3600 * 90000 & 0xFFFFFFFF)},
		{192000, 1, 30 * 24 * time.Hour, uint32((30*24*3600*192000 + 1) & 0xFFFFFFFF)},
		{8000, 0, 365 * 24 * time.Hour, uint32(365 * 24 * 3600 * 8000 & 0xFFFFFFFF)},
		{4294967295, 0, time.Second - time.Nanosecond, 4294967291}, // the highest rate that there can be
	}
	for _, test := range tests {
		s := &source{rate: test.rate, offset: test.offset}
		if got := s.timestamp(test.at); got != test.want {
			t.Errorf("%v at %d Hz from %d on is %d, want %d", test.at, test.rate, test.offset, got, test.want)
		}
	}
}

// TestPackets: sizes, numbers that come round, and the marker.
func TestPackets(t *testing.T) {
	v := &vorbis{ident: 0xABCDEF, rate: 48000, channels: 2}
	tests := []struct {
		name    string
		source  *source
		size    int
		packets int
	}{
		{"empty picture", newVideo(numbers(0)), 0, 0},
		{"smallest picture", newVideo(numbers(0)), 1, 1},
		{"picture of one packet", newVideo(numbers(0)), 1196, 1},
		{"picture of a byte more", newVideo(numbers(0)), 1197, 2},
		{"picture of many packets", newVideo(numbers(0xFFFE)), 1196 * 100, 100},
		{"empty sound", newAudio(v, numbers(0)), 0, 0},
		{"smallest sound", newAudio(v, numbers(0)), 1, 1},
		{"sound of one packet", newAudio(v, numbers(0)), 1194, 1},
		{"sound of a byte more", newAudio(v, numbers(0)), 1195, 2},
		{"sound of two packets", newAudio(v, numbers(0)), 2 * 1194, 2},
		{"sound of many packets", newAudio(v, numbers(0xFFFE)), 3*1194 + 1, 4},
	}
	for _, test := range tests {
		sequence, last := test.source.sequence, test.packets-1
		packets := test.source.packetise(make([]byte, test.size), time.Second)
		if len(packets) != test.packets {
			t.Errorf("%s: %d packets, want %d", test.name, len(packets), test.packets)
		}
		for i, b := range packets {
			var p rtp.Packet
			if err := p.Unmarshal(b); err != nil {
				t.Fatalf("%s: packet %d: %v", test.name, i, err)
			}
			if p.SequenceNumber != sequence+uint16(i) || p.Marker != (i == last && test.source.kind == media.Video) {
				t.Errorf("%s: packet %d has number %d, marker %t", test.name, i, p.SequenceNumber, p.Marker)
			}
			if len(p.Payload) > maxPayload || i < last && len(p.Payload) != maxPayload {
				t.Errorf("%s: packet %d has %d bytes", test.name, i, len(p.Payload))
			}
		}
		if test.source.kind == media.Audio && len(packets) > 1 {
			var parts []byte
			for _, b := range packets {
				parts = append(parts, b[headerSize+3])
			}
			want := append(bytes.Repeat([]byte{furtherPart}, last), lastPart)
			want[0] = firstPart
			if !bytes.Equal(parts, want) {
				t.Errorf("%s: the fragments are marked %x, want %x", test.name, parts, want)
			}
		}
		if want := sequence + uint16(test.packets); test.source.sequence != want {
			t.Errorf("%s: the next packet has number %d, want %d", test.name, test.source.sequence, want)
		}
	}
}

// TestPace: small frames wait for nothing, a big one neither goes out at once
// nor takes more than half the time to the next.
func TestPace(t *testing.T) {
	const frame = time.Second / 30
	tests := map[string]struct {
		packets int
		step    time.Duration
		at      time.Duration // by when all have gone
	}{
		"one":            {1, frame, 0},
		"a burst":        {burst + 1, frame, 0},
		"more":           {2 * burst, frame, 4 * time.Millisecond},
		"a key frame":    {120, frame, frame / 2},
		"a huge one":     {2000, frame, frame / 2},
		"at 120 Hz":      {200, time.Second / 120, time.Second / 240},
		"after a gap":    {2000, 10 * time.Second, maxStep / 2},
		"times that err": {200, -time.Second, minStep / 2},
	}
	for name, test := range tests {
		now := time.Now()
		begin, sent := now, 0
		var p pacer
		p.add(make([][]byte, test.packets), 0, test.step)
		first := len(p.take(now))
		if sent = first; first > burst+1 {
			t.Errorf("%s: %d packets at once", name, first)
		}
		for wakes := 0; sent < test.packets; wakes++ {
			at, ok := p.wake()
			if !ok || !at.After(now) || wakes > test.packets/group+1 {
				t.Fatalf("%s: %d packets of %d, wake at %v, %t", name, sent, test.packets, at.Sub(begin), ok)
			}
			now = at
			sent += len(p.take(now))
		}
		if _, ok := p.wake(); ok {
			t.Errorf("%s: something waits when all have gone", name)
		}
		if took := now.Sub(begin); took > test.at {
			t.Errorf("%s: took %v, want at most %v", name, took, test.at)
		}
	}
}

// TestPaceOfManyFrames: frames that come together, as a file's first ones do,
// don't go out together.
func TestPaceOfManyFrames(t *testing.T) {
	var p pacer
	now := time.Now()
	for range 25 {
		p.add(make([][]byte, 8), 0, time.Second/30)
	}
	total := len(p.take(now))
	for step := 0; total < 200; step++ {
		now = now.Add(time.Millisecond)
		n := len(p.take(now))
		if total += n; n > 9 || step > 25 {
			t.Fatalf("%d packets in millisecond %d, %d in all", n, step, total)
		}
	}
}

// TestVorbisConfiguration reads what is packed as receivers do (RFC 5215 §3.2.1).
func TestVorbisConfiguration(t *testing.T) {
	private := codecPrivate(t)
	v, err := parseVorbis(private)
	if err != nil {
		t.Fatal(err)
	}
	if v.rate != 48000 || v.channels != 2 {
		t.Errorf("%d channels of %d Hz", v.channels, v.rate)
	}
	b := v.configuration
	if n := binary.BigEndian.Uint32(b); n != 1 {
		t.Errorf("%d configurations", n)
	}
	if ident := uint32(b[4])<<16 | uint32(b[5])<<8 | uint32(b[6]); ident != v.ident {
		t.Errorf("ident %x, packets have %x", ident, v.ident)
	}
	length, headers, sizes, rest := int(binary.BigEndian.Uint16(b[7:])), b[9], b[10:12], b[12:]
	if length != len(rest) || headers != 2 || sizes[0] != 30 || sizes[1] != 16 {
		t.Errorf("length %d of %d, %d headers, sizes %d", length, len(rest), headers+1, sizes)
	}
	id, comment, setup := rest[:30], rest[30:46], rest[46:]
	if !bytes.HasPrefix(id, []byte("\x01vorbis")) || !bytes.HasPrefix(comment, []byte("\x03vorbis")) ||
		!bytes.HasPrefix(setup, []byte("\x05vorbis")) || !bytes.HasSuffix(private, setup) {
		t.Errorf("headers %.8x, %.8x, %.8x", id, comment, setup)
	}
	// Another comment is the same configuration, another setup isn't.
	other := bytes.Clone(private)
	other[len(other)-1] ^= 0x40
	if changed, err := parseVorbis(other); err != nil || changed.ident == v.ident {
		t.Errorf("another setup has the same ident, %v", err)
	}
}

func TestVorbisThatDoesNotFit(t *testing.T) {
	private := codecPrivate(t)
	at := bytes.Index(private, []byte("\x01vorbis"))
	silent, mute := bytes.Clone(private), bytes.Clone(private)
	clear(silent[at+vorbisRate : at+vorbisRate+4])
	mute[at+vorbisChannels] = 0
	for name, b := range map[string][]byte{
		"nothing": nil, "cut": private[:100], "no rate": silent, "no channels": mute,
		"a setup too long": append(bytes.Clone(private), make([]byte, 64<<10)...),
	} {
		if _, err := parseVorbis(b); !errors.Is(err, errVorbis) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// codecPrivate is that of a clip's sound.
func codecPrivate(tb testing.TB) []byte {
	tb.Helper()
	c, err := fixtures.Open("webm-vp8-vorbis")
	if err != nil {
		tb.Fatal(err)
	}
	tracks, err := webm.NewDemuxer(bytes.NewReader(c.Data)).Document()
	if err != nil {
		tb.Fatal(err)
	}
	i := slices.IndexFunc(tracks, webm.Track.IsAudio)
	return tracks[i].Private
}

func FuzzVorbis(f *testing.F) {
	f.Add(codecPrivate(f))
	f.Add([]byte{2, 30, 16})
	f.Fuzz(func(t *testing.T, private []byte) {
		v, err := parseVorbis(private)
		if err != nil {
			return
		}
		if v.rate == 0 || v.channels == 0 || v.ident > 0xFFFFFF || len(v.configuration) > 12+1<<16 {
			t.Errorf("%d channels of %d Hz, ident %x, %d bytes", v.channels, v.rate, v.ident, len(v.configuration))
		}
	})
}

// FuzzPackets puts frames of any content back together.
func FuzzPackets(f *testing.F) {
	f.Add([]byte("a frame"), uint16(65535), int64(time.Hour))
	f.Add(make([]byte, 5000), uint16(0), int64(0))
	f.Fuzz(func(t *testing.T, frame []byte, sequence uint16, at int64) {
		v := &vorbis{rate: 44100, channels: 1}
		for _, s := range []*source{newVideo(numbers(1)), newAudio(v, numbers(1))} {
			s.sequence = sequence
			header := map[media.Kind]int{media.Video: 4, media.Audio: vorbisHeader}[s.kind]
			var got []byte
			for _, b := range s.packetise(frame, time.Duration(at&(1<<62-1))) {
				if len(b) > headerSize+maxPayload {
					t.Fatalf("a packet of %d bytes", len(b))
				}
				got = append(got, b[headerSize+header:]...)
			}
			if !bytes.Equal(got, frame) {
				t.Errorf("%v: %d bytes became %d", s.kind, len(frame), len(got))
			}
		}
	})
}

// resolver answers each question for an address of IPv4 with the one that is
// set, and others with none.
type resolver struct{ address netip.Addr }

// serve answers by UDP until the test ends (RFC 1035 §4.1), in place of the
// system's resolver.
func (r *resolver) serve(t *testing.T) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	system := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("udp", conn.LocalAddr().String())
	}}
	done := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done; net.DefaultResolver = system })
	go func() {
		defer close(done)
		b := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			end := 12 + bytes.IndexByte(b[12:n], 0) + 5 // of the question
			answer := append(bytes.Clone(b[:2]), 0x84, 0, 0, 1, 0, 0, 0, 0, 0, 0)
			answer = append(answer, b[12:end]...)
			const typeA = 1
			if b[end-3] == typeA {
				answer[7] = 1
				answer = append(answer, 0xC0, 12, 0, typeA, 0, 1, 0, 0, 0, 0, 0, 4)
				answer = append(answer, r.address.AsSlice()...)
			}
			conn.WriteTo(answer, from)
		}
	}()
}

// TestNameThatMoves: a name is judged by the address that it has, each time, and
// followed where it is allowed to go (TOK-5).
func TestNameThatMoves(t *testing.T) {
	steps := []struct {
		address string
		opens   string // "" when nothing changes
		err     error
	}{
		{"127.0.0.1", "127.0.0.1:5004", nil},
		{"127.0.0.1", "", nil},
		{"127.0.0.2", "127.0.0.2:5004", nil},
		{"192.0.2.1", "", ErrForbidden},
		{"192.0.2.1", "", ErrForbidden},
		{"127.0.0.2", "127.0.0.2:5004", nil},
	}
	r := &resolver{}
	o := &opener{
		destination: &destination{client: Client{Host: "client.example", Port: 5004}, log: slog.New(slog.DiscardHandler)},
		policy:      DefaultPolicy(), kinds: [media.Kinds]bool{true, true}, seats: &seats{},
	}
	for i, step := range steps {
		r.address = netip.MustParseAddr(step.address)
		t.Run(step.address, func(t *testing.T) {
			r.serve(t)
			s, err := o.look(t.Context())
			if !errors.Is(err, step.err) {
				t.Fatalf("step %d: %v, want %v", i, err, step.err)
			}
			if opens := s != nil; opens != (step.opens != "") || opens && s.to.String() != step.opens {
				t.Fatalf("step %d: opened %v, want %q", i, s, step.opens)
			}
			if s != nil || err != nil {
				found := make(chan opening, 1)
				o.found = found
				o.hand(t.Context(), s, err)
			}
			if s != nil {
				s.close()
			}
		})
	}
	if n := o.seats.taken.Load(); n != 0 {
		t.Errorf("%d places are taken in the end", n)
	}
}

// TestBroadcast: one packet must not become one for every host of a network,
// even where the operator allows the address.
func TestBroadcast(t *testing.T) {
	to := netip.MustParseAddrPort("255.255.255.255:5004")
	if s, err := connect(to, [media.Kinds]bool{true, true}); err == nil {
		s.close()
		t.Error("a broadcast address can be sent to")
	}
}

// TestStartsAtItsSlot: packets of earlier frames that still wait for their turn
// aren't for who has just begun.
func TestStartsAtItsSlot(t *testing.T) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	one, err := dial(conn.LocalAddr().(*net.UDPAddr).AddrPort())
	if err != nil {
		t.Fatal(err)
	}
	defer one.conn.Close()
	d := &destination{log: slog.New(slog.DiscardHandler), sockets: &sockets{}}
	d.sockets.all[0] = one
	d.start(5)
	waiting := &destination{sockets: d.sockets}
	transmission := &transmission{destinations: []*destination{waiting, d}}
	for slot, want := range map[uint64]int{4: 0, 5: 1, 6: 1} {
		if n := transmission.sendOne(0, paced{packet: []byte("a packet"), slot: slot}); n != want {
			t.Errorf("a packet of slot %d goes to %d clients, want %d", slot, n, want)
		}
	}
	if d.packets != 2 || waiting.packets != 0 {
		t.Errorf("%d and %d packets were counted", d.packets, waiting.packets)
	}
}
