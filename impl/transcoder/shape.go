package transcoder

import (
	"math"
	"time"
)

// size is a picture's, in square pixels.
type size struct{ width, height int }

// fit is the size at which pictures are shown that are coded at w×h with pixels
// of n:d. They keep their height, as players do it. VP8 codes 14 bits of each
// (RFC 6386 §9.1).
func fit(w, h, n, d int) size {
	if n <= 0 || d <= 0 {
		n, d = 1, 1
	}
	w = int(math.Round(float64(w) * float64(n) / float64(d)))
	const most = 1<<14 - 1
	for w > most || h > most {
		w, h = w/2, h/2
	}
	return size{max(w, 1), max(h, 1)}
}

// usualRate is what is taken where a stream states no pictures a second.
const usualRate = 30

// videoBitRate is what the encoder aims at, in bit/s: 1.2 Mbit/s at 640×360
// and 30 pictures a second. Larger pictures need fewer bits a pixel, faster
// ones fewer a picture. ceiling is 0 for none.
func (s size) videoBitRate(rate float64, ceiling int) int {
	const (
		reference = 1_200_000
		pixels    = 640 * 360
		least     = 100_000
	)
	if rate <= 0 || rate > 240 {
		rate = usualRate
	}
	area := float64(s.width*s.height) / pixels
	bits := max(int(reference*math.Pow(area, 0.75)*math.Sqrt(rate/usualRate)), least)
	if ceiling > 0 {
		bits = min(bits, ceiling)
	}
	return bits
}

// threads is how many of them encode one picture; VP8 gains nothing from more
// on small ones.
func (s size) threads(processors int) int {
	const each = 640 * 480
	return max(1, min(s.width*s.height/each, processors, 8))
}

// keyInterval is the longest that pictures go without a key frame. The contract
// allows 2 s; a late viewer starts at one, so it is what he may be behind.
const keyInterval = time.Second

// sound is the form of transcoded sound.
type sound struct{ rate, channels int } // Hz

// narrow is the form that sound of another is given: two channels and 48 kHz
// at most (FMT-2), the rate divided evenly where that can be.
func (s sound) narrow() sound {
	const most, disc = 48000, 44100
	switch {
	case s.rate <= 0:
		s.rate = most
	case s.rate > most && s.rate%disc == 0:
		s.rate = disc
	case s.rate > most:
		s.rate = most
	}
	s.channels = max(1, min(s.channels, 2))
	return s
}

// quality is vorbisenc's for sound with that ceiling of bit/s; 0 for none. The
// rates are those that libvorbis aims at in each of its quality steps, for two
// channels at 44.1 and 48 kHz.
func (s sound) quality(ceiling int) float32 {
	const usual = 4
	steps := [...]int{64_000, 80_000, 96_000, 112_000, 128_000}
	if ceiling <= 0 {
		return usual / 10.0
	}
	if s.channels == 1 {
		ceiling *= 2
	}
	step := usual
	for step > 0 && steps[step] > ceiling {
		step--
	}
	if steps[step] > ceiling {
		return -0.1
	}
	return float32(step) / 10
}
