package rtp

import (
	"io"
	"log/slog"
	"net"
	"testing"
	"time"
)

// BenchmarkPacket sends packets of a picture to as many clients as a session
// can have, each of which takes four sockets.
func BenchmarkPacket(b *testing.B) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	go io.Copy(io.Discard, conn)
	t := &transmission{}
	for range MaxClients {
		one, err := dial(conn.LocalAddr().(*net.UDPAddr).AddrPort())
		if err != nil {
			b.Fatal(err)
		}
		defer one.conn.Close()
		d := &destination{log: slog.New(slog.DiscardHandler), sockets: &sockets{all: [clientPorts]*socket{one}}}
		d.start(0)
		t.destinations = append(t.destinations, d)
	}
	video := newVideo(numbers(1))
	frame := make([]byte, maxPayload-4)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		for _, packet := range video.packetise(frame, time.Duration(i)*time.Second/30) {
			t.sendOne(0, paced{packet: packet})
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/MaxClients, "µs/client")
}
