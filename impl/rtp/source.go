package rtp

import (
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"

	"tureen/impl/live"
	"tureen/impl/media"
)

// maxPayload is the most that follows an RTP packet's header (RTP-3): with all
// headers it fits what every IPv6 link carries (RFC 8200 §5).
const maxPayload = 1200

// Payload types (RFC 3551 §6: dynamic ones) and video's clock (RFC 7741 §4.1).
const (
	videoType = 96
	audioType = 97
	videoRate = 90000 // Hz
)

// source is one track as RTP has it, a synchronization source (RFC 3550 §3): its
// packets are made once for all clients. It belongs to one goroutine.
type source struct {
	kind        media.Kind
	ssrc        uint32
	payloadType uint8
	rate        uint32 // of its clock, Hz
	payloads    func(frame []byte) [][]byte

	sequence uint16 // of the next packet
	offset   uint32 // timestamp of the stream's time 0

	packets, octets uint32 // sent, as sender reports count them

	queue pacer
	last  time.Duration // time of the newest frame
	// skipping is whether frames are left out until a decoder can start.
	skipping bool
}

// newSource has its numbers start at random (RFC 3550 §5.1).
func newSource(kind media.Kind, random func() uint32) *source {
	return &source{kind: kind, ssrc: random(), sequence: uint16(random()), offset: random()}
}

func newVideo(random func() uint32) *source {
	s := newSource(media.Video, random)
	s.payloadType, s.rate = videoType, videoRate
	vp8 := &codecs.VP8Payloader{EnablePictureID: true}
	s.payloads = func(frame []byte) [][]byte { return vp8.Payload(maxPayload, frame) }
	return s
}

func newAudio(v *vorbis, random func() uint32) *source {
	s := newSource(media.Audio, random)
	s.payloadType, s.rate, s.payloads = audioType, v.rate, v.payloads
	return s
}

// timestamp is the RTP time of a time of the stream's clock.
func (s *source) timestamp(at time.Duration) uint32 {
	// In whole seconds first: nanoseconds times a rate overflow after a day.
	seconds, rest := uint64(at/time.Second), uint64(at%time.Second)
	rate := uint64(s.rate)
	return s.offset + uint32(seconds*rate+(rest*rate+uint64(time.Second)/2)/uint64(time.Second))
}

// packetise makes a frame's packets.
func (s *source) packetise(frame []byte, at time.Duration) [][]byte {
	payloads := s.payloads(frame)
	packets := make([][]byte, len(payloads))
	for i, payload := range payloads {
		header := rtp.Header{
			Version: 2, PayloadType: s.payloadType, SSRC: s.ssrc, SequenceNumber: s.sequence, Timestamp: s.timestamp(at),
			// RFC 7741 §4.1; Vorbis never sets it (RFC 5215 §2.1).
			Marker: s.kind == media.Video && i == len(payloads)-1,
		}
		s.sequence++
		packets[i] = make([]byte, headerSize+len(payload))
		if _, err := header.MarshalTo(packets[i]); err != nil {
			panic(err) // a header of this form always fits
		}
		copy(packets[i][headerSize:], payload)
	}
	return packets
}

const headerSize = 12 // of an RTP packet without extensions (RFC 3550 §5.1)

// maxQueued is how many packets wait for their turn at most. It takes more than
// the pace has room for: a machine that has no time left.
const maxQueued = 8192

// take queues a frame's packets. Where they pile up, all that wait are dropped,
// and what follows up to the next start: the numbers tell receivers so.
func (s *source) take(slot *live.Slot) (dropped int) {
	step := slot.Time - s.last
	s.last = slot.Time
	packets := s.packetise(slot.Payload, slot.Time)
	if s.queue.size() > maxQueued {
		dropped = s.queue.clear()
		s.skipping = s.kind == media.Video
	}
	s.skipping = s.skipping && !slot.Start
	if s.skipping {
		return dropped + len(packets)
	}
	s.queue.add(packets, slot.Sequence, step)
	return dropped
}

// sent counts a packet for sender reports.
func (s *source) sent(packet []byte) {
	s.packets++
	s.octets += uint32(len(packet) - headerSize)
}

// report is the source's part of a compound packet (RFC 3550 §6.1): what the
// stream's time and the wall's were together, who this is, and whether it ends.
func (s *source) report(at time.Duration, wall time.Time, cname string, bye bool) []byte {
	compound := rtcp.CompoundPacket{
		&rtcp.SenderReport{
			SSRC: s.ssrc, NTPTime: ntp(wall), RTPTime: s.timestamp(at), PacketCount: s.packets, OctetCount: s.octets,
		},
		rtcp.NewCNAMESourceDescription(s.ssrc, cname),
	}
	if bye {
		compound = append(compound, &rtcp.Goodbye{Sources: []uint32{s.ssrc}})
	}
	b, err := compound.Marshal()
	if err != nil {
		panic(err) // it begins with a report, and has a name
	}
	return b
}

// ntp is a time in seconds since 1900, with 32 bits of fraction (RFC 3550 §4).
func ntp(t time.Time) uint64 {
	const since1900 = 2208988800 // of 1970 (RFC 868)
	return uint64(t.Unix()+since1900)<<32 | uint64(t.Nanosecond())<<32/uint64(time.Second)
}
