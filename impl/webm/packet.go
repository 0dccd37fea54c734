package webm

import "time"

// packetDuration is the length of a packet of sound whose codec fixes it, or
// tells it in the packet; 0 for others. rate is in Hz.
func packetDuration(codec string, packet []byte, rate float64) time.Duration {
	samples := 0
	switch codec {
	case "opus":
		return opusDuration(packet)
	case "aac":
		samples = 1024 // ISO/IEC 14496-3 §4.5.1.1, at the core's rate
	case "mp3":
		samples = 1152 // ISO/IEC 11172-3 §2.4.2.1
		if rate < 32000 {
			samples = 576 // ISO/IEC 13818-3 §2.4.2.1
		}
	case "mp2":
		samples = 1152
	case "ac3":
		samples = 1536 // ATSC A/52 §5.1
	}
	if rate <= 0 {
		return 0
	}
	return time.Duration(float64(samples) / rate * float64(time.Second))
}

// opusDuration reads the length of an Opus packet from its first byte, and of
// one that states its number of frames the second (RFC 6716 §3.1, §3.2.5).
func opusDuration(packet []byte) time.Duration {
	if len(packet) == 0 {
		return 0
	}
	const ms = time.Millisecond
	config := packet[0] >> 3
	var frame time.Duration
	switch {
	case config < 12:
		frame = [...]time.Duration{10 * ms, 20 * ms, 40 * ms, 60 * ms}[config&3]
	case config < 16:
		frame = [...]time.Duration{10 * ms, 20 * ms}[config&1]
	default:
		frame = [...]time.Duration{2500 * time.Microsecond, 5 * ms, 10 * ms, 20 * ms}[config&3]
	}
	switch packet[0] & 3 {
	case 0:
		return frame
	case 1, 2:
		return 2 * frame
	}
	if len(packet) < 2 {
		return 0
	}
	return time.Duration(packet[1]&63) * frame
}
