package webm

import (
	"bytes"
	"errors"
	"math/bits"
	"slices"
	"time"
)

var errVorbisHeaders = errors.New("the Vorbis headers in CodecPrivate are damaged")

// vorbisClock tells the length of Vorbis packets without decoding them: a
// packet yields a quarter of its own block and a quarter of the one before it
// (Vorbis I §4.3.8).
type vorbisClock struct {
	rate     int   // Hz
	blocks   []int // samples of a block, by the packet's mode
	modeMask byte
	previous int // samples of the previous packet's block; 0 at the start
}

// VorbisHeaders cuts CodecPrivate into Vorbis' three headers: identification,
// comment, setup (RFC 9559 §5.1.4, Xiph lacing of the first two sizes).
func VorbisHeaders(private []byte) (headers [3][]byte, err error) {
	if len(private) < 1 || private[0] != 2 {
		return headers, errVorbisHeaders
	}
	sizes, rest, err := xiphSizes(private[1:], 2)
	if err != nil || sizes[0]+sizes[1] > len(rest) {
		return headers, errVorbisHeaders
	}
	headers[0] = rest[:sizes[0]]
	headers[1] = rest[sizes[0] : sizes[0]+sizes[1]]
	headers[2] = rest[sizes[0]+sizes[1]:]
	for i, h := range headers {
		if len(h) < 7 || h[0] != byte(2*i+1) || !bytes.Equal(h[1:7], []byte("vorbis")) {
			return headers, errVorbisHeaders
		}
	}
	return headers, nil
}

// PackVorbis makes CodecPrivate of Vorbis' three headers, which is how
// VorbisHeaders cuts it, and reads the sample rate, in Hz, and the number of
// channels from the first (Vorbis I §4.2.2).
func PackVorbis(headers [][]byte) (rate, channels int, private []byte, err error) {
	if len(headers) != 3 {
		return 0, 0, nil, errVorbisHeaders
	}
	private = []byte{2} // how many come before the last, whose size is the rest
	for _, h := range headers[:2] {
		for range len(h) / 255 {
			private = append(private, 255)
		}
		private = append(private, byte(len(h)%255))
	}
	private = slices.Concat(private, headers[0], headers[1], headers[2])
	clock, err := newVorbisClock(private)
	if err != nil {
		return 0, 0, nil, err
	}
	return clock.rate, int(headers[0][11]), private, nil
}

func newVorbisClock(private []byte) (*vorbisClock, error) {
	headers, err := VorbisHeaders(private)
	if err != nil {
		return nil, err
	}
	id := headers[0]
	if len(id) < 30 {
		return nil, errVorbisHeaders
	}
	rate := int(uint32(id[12]) | uint32(id[13])<<8 | uint32(id[14])<<16 | uint32(id[15])<<24)
	short, long := id[28]&15, id[28]>>4
	if rate <= 0 || short < 6 || long < short || long > 13 {
		return nil, errVorbisHeaders
	}
	flags, ok := vorbisModes(headers[2])
	if !ok {
		return nil, errVorbisHeaders
	}
	c := &vorbisClock{rate: rate, modeMask: byte(1)<<bits.Len(uint(len(flags)-1)) - 1}
	for _, isLong := range flags {
		size := 1 << short
		if isLong {
			size = 1 << long
		}
		c.blocks = append(c.blocks, size)
	}
	return c, nil
}

// duration is the length of the next packet; 0 for one that isn't audio. The
// first yields no samples: it counts as if one like itself had come before,
// which is how FFmpeg times it.
func (c *vorbisClock) duration(packet []byte) time.Duration {
	if len(packet) == 0 || packet[0]&1 != 0 {
		return 0
	}
	mode := int(packet[0] >> 1 & c.modeMask)
	if mode >= len(c.blocks) {
		return 0
	}
	block, previous := c.blocks[mode], c.previous
	c.previous = block
	if previous == 0 {
		previous = block
	}
	return time.Duration(previous+block) * time.Second / time.Duration(4*c.rate)
}

// vorbisModes reads which modes use the long block from the end of the setup
// header, which spares parsing the codebooks before it: a mode is a block flag,
// two 16-bit zeros and an 8-bit mapping; six bits before the first hold the
// number of modes less one; a framing bit ends the header (Vorbis I §4.2.4).
func vorbisModes(setup []byte) (long []bool, ok bool) {
	end := 8*len(setup) - 1
	for end >= 0 && !bit(setup, end) {
		end-- // padding after the framing bit
	}
	const modeBits, countBits, maxModes = 41, 6, 64
	found := 0
	for n := 1; n <= maxModes; n++ {
		start := end - n*modeBits
		if start-countBits < 7*8 || field(setup, start+1, 32) != 0 || field(setup, start+33, 8) >= maxModes {
			break
		}
		if field(setup, start-countBits, countBits) == uint64(n-1) {
			found = n // a longer match is the likelier one: chance must repeat for each mode
		}
	}
	for i := range found {
		long = append(long, bit(setup, end-(found-i)*modeBits))
	}
	return long, found > 0
}

// bit is bit i of b, least significant first (Vorbis I §2.1.4).
func bit(b []byte, i int) bool { return b[i/8]>>(i%8)&1 != 0 }

// field is the n-bit integer that starts at bit i.
func field(b []byte, i, n int) (v uint64) {
	for k := range n {
		if bit(b, i+k) {
			v |= 1 << k
		}
	}
	return v
}
