package clients_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/cmplx"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"tureen/fixtures/index"
	"tureen/fixtures/stamp"
	"tureen/fixtures/synth"
)

// The form in which media is looked at, whatever its own is.
const (
	seenWidth  = 160
	seenHeight = 90
	heardRate  = 48000 // Hz, one channel
)

// decoded is what ffmpeg makes of a publisher's or a viewer's bytes.
type decoded struct {
	pictures []shown
	sound    []float64 // samples from -1 to 1 from time 0 on; silence where there is none
	stretch  []stretch // where there is some, in order
}

// shown is a picture.
type shown struct {
	at     time.Duration
	number int
	fault  error // why the number can't be read
}

// stretch is sound without a gap.
type stretch struct{ from, to time.Duration }

// decode has ffmpeg decode bytes whose pictures lie in frame, a crop filter's
// arguments, or fill all of it if that is "".
func decode(ctx context.Context, t *testing.T, data []byte, frame string) decoded {
	t.Helper()
	path, folder := writeFile(t, data), t.TempDir()
	filter := fmt.Sprintf("scale=%d:%d:flags=area", seenWidth, seenHeight)
	if frame != "" {
		filter = "crop=" + frame + "," + filter
	}
	ffmpeg := run(ctx, t, "ffmpeg", args(words("-nostdin -v error -i"), []string{path},
		words("-map 0:v:0? -map 0:a:0? -fps_mode passthrough -enc_time_base:v -1 -c:v rawvideo -pix_fmt gray"),
		[]string{"-vf", filter},
		words(fmt.Sprintf("-ac 1 -ar %d -c:a pcm_s16le -f matroska -cluster_time_limit 1000", heardRate)),
		[]string{filepath.Join(folder, "decoded")}))
	ffmpeg.succeeds(t)
	media, err := index.Matroska(read(t, folder, "decoded"))
	if err != nil {
		t.Fatalf("what ffmpeg decoded: %v", err)
	}
	var d decoded
	kinds := map[int]string{}
	for _, track := range media.Tracks {
		kinds[track.Number] = track.Kind
	}
	for _, p := range media.Packets {
		if kinds[p.Track] == "video" {
			n, err := stamp.ReadLuma(p.Payload, seenWidth, seenWidth, seenHeight)
			d.pictures = append(d.pictures, shown{p.PTS, n, err})
		} else {
			d.hear(p.PTS, p.Payload)
		}
	}
	return d
}

// hear adds samples of 16 bits. Times are rounded to milliseconds, so those that
// nearly go on are taken for what follows exactly; a step of less than most
// codecs' frames is no gap yet.
func (d *decoded) hear(at time.Duration, pcm []byte) {
	const rounding, seam = 3 * time.Millisecond, 15 * time.Millisecond
	from, step := int(at*heardRate/time.Second), time.Duration(0)
	if n := len(d.stretch); n == 0 {
		d.stretch = []stretch{{from: at}}
	} else if step = (at - d.stretch[n-1].to).Abs(); step > seam {
		d.stretch = append(d.stretch, stretch{from: at})
	} else if step <= rounding {
		from = len(d.sound)
	}
	if from > len(d.sound) {
		d.sound = append(d.sound, make([]float64, from-len(d.sound))...)
	}
	d.sound = d.sound[:max(from, 0)]
	for ; len(pcm) > 1; pcm = pcm[2:] {
		d.sound = append(d.sound, float64(int16(binary.LittleEndian.Uint16(pcm)))/(1<<15))
	}
	d.stretch[len(d.stretch)-1].to = timeOf(len(d.sound))
}

func timeOf(samples int) time.Duration { return time.Duration(samples) * time.Second / heardRate }

// window is over how many samples the beep's strength is taken: 4 ms, a whole
// number of its periods.
const window = heardRate / 250

// beeps are the times at which beeps begin.
func (d decoded) beeps() []time.Duration {
	const (
		loud = 0.15 // of the beep's amplitude, 0.5; clips are mixed to one channel at that or more
		rest = heardRate / 5
	)
	var starts []time.Duration
	var sum complex128
	ring := make([]complex128, window)
	silent := rest
	for i, s := range d.sound {
		turned := complex(s, 0) * cmplx.Rect(1, -2*math.Pi*synth.BeepHz*float64(i)/heardRate)
		sum += turned - ring[i%window]
		ring[i%window] = turned
		if 2*cmplx.Abs(sum)/window < loud {
			silent++
			continue
		}
		if silent >= rest {
			starts = append(starts, timeOf(i-window/2))
		}
		silent = 0
	}
	return starts
}

// pitch is the frequency of a tone that sounds alone from one time to another,
// in Hz; 0 when there is none.
func (d decoded) pitch(from, to time.Duration) float64 {
	first, last, crossings := 0.0, 0.0, 0
	start, end := int(from*heardRate/time.Second), int(to*heardRate/time.Second)
	for i := max(start, 1); i < min(end, len(d.sound)); i++ {
		before, after := d.sound[i-1], d.sound[i]
		if before >= 0 || after < 0 {
			continue
		}
		at := float64(i) - after/(after-before)
		if crossings == 0 {
			first = at
		}
		last = at
		crossings++
	}
	if crossings < 2 {
		return 0
	}
	return float64(crossings-1) / (last - first) * heardRate
}

// checkStamps expects pictures that bear these numbers, in order; at most one
// in twenty may be missing (FMT-2), none twice.
func (d decoded) checkStamps(t *testing.T, want []int) {
	t.Helper()
	missing := d.checkOrder(t, want)
	if len(missing)*20 > len(want) {
		t.Errorf("of %d pictures %d are missing: %v", len(want), len(missing), missing)
	} else if len(missing) > 0 {
		t.Logf("of %d pictures %d are missing: %v", len(want), len(missing), missing)
	}
}

// checkOrder expects pictures that bear some of these numbers, in order, and
// returns those that are missing.
func (d decoded) checkOrder(t *testing.T, want []int) []int {
	t.Helper()
	missing, err := d.missing(want)
	if err != nil {
		t.Fatal(err)
	}
	return missing
}

// missing are those of the numbers that no picture bears. The error is a picture
// with another one, or out of order.
func (d decoded) missing(want []int) (missing []int, err error) {
	for i, p := range d.pictures {
		if p.fault != nil {
			return nil, fmt.Errorf("picture %d, at %v: %w", i, p.at, p.fault)
		}
		n := slices.Index(want, p.number)
		if n < 0 {
			return nil, fmt.Errorf("picture %d, at %v, bears the number %d, which isn't due", i, p.at, p.number)
		}
		missing = append(missing, want[:n]...)
		want = want[n+1:]
	}
	return append(missing, want...), nil
}

// numbers are those of the pictures.
func (d decoded) numbers(t *testing.T) []int {
	t.Helper()
	var all []int
	for i, p := range d.pictures {
		if p.fault != nil {
			t.Fatalf("the publisher's picture %d, at %v: %v", i, p.at, p.fault)
		}
		all = append(all, p.number)
	}
	return all
}

// when is at what time each picture is shown, by its number.
func (d decoded) when() map[int]time.Duration {
	all := map[int]time.Duration{}
	for _, p := range d.pictures {
		if _, twice := all[p.number]; !twice && p.fault == nil {
			all[p.number] = p.at
		}
	}
	return all
}

// checkTimes expects that pictures are as far apart as they are in the original.
func (d decoded) checkTimes(t *testing.T, original decoded) {
	t.Helper()
	const rounding = 3 * time.Millisecond // of times to milliseconds, twice
	if least, most := d.shifts(original); most-least > rounding {
		t.Errorf("pictures are shown between %v and %v after the original's: they aren't as far apart", least, most)
	}
}

// shifts are the least and the most by which pictures are shown later than in
// the original.
func (d decoded) shifts(original decoded) (least, most time.Duration) {
	want, begun := original.when(), false
	for number, at := range d.when() {
		before, ok := want[number]
		if !ok {
			continue
		}
		if shift := at - before; !begun {
			least, most, begun = shift, shift, true
		} else {
			least, most = min(least, shift), max(most, shift)
		}
	}
	return least, most
}

// apart is by how much each second's beep is heard after its flash, of a clip
// with so many pictures a second.
func (d decoded) apart(rate int) map[int]time.Duration {
	all := map[int]time.Duration{}
	beeps := d.beeps()
	for number, at := range d.when() {
		if number%rate != 0 || len(beeps) == 0 {
			continue
		}
		nearest := slices.MinFunc(beeps, func(a, b time.Duration) int { return int((a - at).Abs() - (b - at).Abs()) })
		if distance := nearest - at; distance.Abs() < time.Second/2 {
			all[number/rate] = distance
		}
	}
	return all
}

// maxApart is how far beeps may be from where they are against their flashes at
// the publisher. The contract allows 40 ms (FMT-2); what is measured stays below 1.
const maxApart = 5 * time.Millisecond

// checkLips expects that beeps and flashes are as far apart as in the original.
func (d decoded) checkLips(t *testing.T, original decoded, rate int) {
	t.Helper()
	least, most, err := d.lips(original, rate)
	switch {
	case err != nil:
		t.Error(err)
	case least < -maxApart || most > maxApart:
		t.Errorf("beeps come %v to %v later against their flashes than at the publisher", least, most)
	default:
		t.Logf("beeps come %.1f to %.1f ms later against their flashes than at the publisher", ms(least), ms(most))
	}
}

// lips are the least and the most by which beeps come later against their
// flashes than in the original; the error is one that doesn't come. At few
// pictures a second there may be no flashes to judge by.
func (d decoded) lips(original decoded, rate int) (least, most time.Duration, err error) {
	is, shown, begun := d.apart(rate), d.when(), false
	for second, distance := range original.apart(rate) {
		if second == 0 {
			continue // that beep may be cut: it begins with the sound
		}
		if _, flashes := shown[second*rate]; !flashes {
			continue // which is for the judge of pictures
		}
		now, ok := is[second]
		if !ok {
			return 0, 0, fmt.Errorf("second %d has no beep", second)
		}
		if shift := now - distance; !begun {
			least, most, begun = shift, shift, true
		} else {
			least, most = min(least, shift), max(most, shift)
		}
	}
	return least, most, nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// checkPitches expects each second's tone after each beep.
func (d decoded) checkPitches(t *testing.T, seconds int) {
	t.Helper()
	beeps := d.beeps()
	if len(beeps) != seconds {
		t.Errorf("%d beeps are heard, at %v; want %d", len(beeps), beeps, seconds)
	}
	for second, at := range beeps {
		const from, to = 150 * time.Millisecond, 850 * time.Millisecond
		if at+to > timeOf(len(d.sound)) {
			continue
		}
		got, want := d.pitch(at+from, at+to), float64(synth.Pitch(second))
		if math.Abs(got-want) > want/100 {
			t.Errorf("second %d sounds at %.1f Hz, want %.0f", second, got, want)
		}
	}
}

// checkGaps expects no more breaks in the sound than at the publisher.
func (d decoded) checkGaps(t *testing.T, original decoded) {
	t.Helper()
	if len(d.stretch) != len(original.stretch) {
		t.Errorf("the sound has breaks: %v; the publisher's has %v", d.stretch, original.stretch)
	}
}

// checkLength expects as much sound as at the publisher, but for an encoder's
// frame or two at its ends.
func (d decoded) checkLength(t *testing.T, original decoded) {
	t.Helper()
	const ends = 200 * time.Millisecond // a frame of AAC at 8 kHz has 128 ms
	if lost := original.length() - d.length(); lost.Abs() > ends {
		t.Errorf("the sound is %v shorter than at the publisher", lost)
	}
}

// length is how long there is sound, silence in between included.
func (d decoded) length() time.Duration {
	if len(d.stretch) == 0 {
		return 0
	}
	return timeOf(len(d.sound)) - d.stretch[0].from
}

// synthetic is 3 s of a clip, as it is decoded.
func synthetic() decoded {
	d := decoded{stretch: []stretch{{0, 3 * time.Second}}}
	for n := range 3 * madeRate {
		d.pictures = append(d.pictures, shown{at: time.Duration(n) * time.Second / madeRate, number: n})
	}
	for i := range 3 * heardRate {
		pitch, level, within := float64(synth.Pitch(i/heardRate)), 0.3, i%heardRate
		if within < heardRate/10 {
			pitch, level = synth.BeepHz, 0.5
		}
		d.sound = append(d.sound, level*math.Sin(2*math.Pi*pitch*float64(within)/heardRate))
	}
	return d
}

// TestDecodedSeesFaults makes sure that the judges of what is seen and heard can
// say no.
func TestDecodedSeesFaults(t *testing.T) {
	want := synthetic().numbers(t)
	tests := map[string]struct {
		spoil func(*decoded)
		seen  func(decoded) bool
	}{
		"a picture missing": {
			func(d *decoded) { d.pictures = slices.Delete(d.pictures, 7, 8) },
			func(d decoded) bool {
				missing, err := d.missing(want)
				return err == nil && slices.Equal(missing, []int{7})
			},
		},
		"a picture twice": {
			func(d *decoded) { d.pictures[8].number = 7 },
			func(d decoded) bool { _, err := d.missing(want); return err != nil },
		},
		"a picture that can't be read": {
			func(d *decoded) { d.pictures[8].fault = stamp.ErrNoStamp },
			func(d decoded) bool { _, err := d.missing(want); return err != nil },
		},
		"a picture 10 ms late": {
			func(d *decoded) { d.pictures[8].at += 10 * time.Millisecond },
			func(d decoded) bool { least, most := d.shifts(synthetic()); return most-least == 10*time.Millisecond },
		},
		"sound 10 ms late": {
			func(d *decoded) { d.sound = append(make([]float64, heardRate/100), d.sound...) },
			func(d decoded) bool {
				least, most, err := d.lips(synthetic(), madeRate)
				return err == nil && (least-10*time.Millisecond).Abs() < time.Millisecond && most-least < time.Millisecond
			},
		},
		"a beep missing": {
			func(d *decoded) { clear(d.sound[heardRate : heardRate+heardRate/8]) },
			func(d decoded) bool {
				_, _, err := d.lips(synthetic(), madeRate)
				return err != nil && len(d.beeps()) == 2
			},
		},
		"another pitch": {
			func(d *decoded) { copy(d.sound[heardRate/2:heardRate], d.sound[heardRate/2+heardRate:]) },
			func(d decoded) bool { return math.Abs(d.pitch(500*time.Millisecond, 900*time.Millisecond)-480) < 2 },
		},
		"sound that is short": {
			func(d *decoded) { d.sound = d.sound[:2*heardRate] },
			func(d decoded) bool { return d.length() == 2*time.Second },
		},
	}
	for name, test := range tests {
		d := synthetic()
		if missing, err := d.missing(want); err != nil || len(missing) > 0 || len(d.beeps()) != 3 ||
			math.Abs(d.pitch(1150*time.Millisecond, 1850*time.Millisecond)-480) > 1 {
			t.Fatalf("a clip without fault: missing %v, error %v, beeps %v", missing, err, d.beeps())
		}
		if test.spoil(&d); !test.seen(d) {
			t.Errorf("%s isn't seen", name)
		}
	}
}
