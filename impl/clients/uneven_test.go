package clients_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestUneven sends what isn't as smooth as a fixture: sound that begins late or
// has gaps, a stream joined in the middle, clocks that jump, pictures that change
// their size.
func TestUneven(t *testing.T) {
	t.Parallel()
	tests := map[string]func(context.Context, *testing.T){
		"joined in the middle": testJoined,
		"another size":         testAnotherSize,
	}
	for _, start := range []string{"1", "2.4"} {
		tests["sound from "+start+" s on"] = func(ctx context.Context, t *testing.T) { testLateSound(ctx, t, start) }
	}
	for _, gap := range []float64{0.3, 1.5, 5} {
		tests[fmt.Sprintf("sound pauses for %g s", gap)] = func(ctx context.Context, t *testing.T) { testGap(ctx, t, gap) }
	}
	for container, options := range map[string]string{"TS": ts, "Matroska": mkv, "FLV": "-f flv"} {
		tests["a jump in "+container] = func(ctx context.Context, t *testing.T) { testJump(ctx, t, options) }
	}
	together(t, tests)
}

// both is a clip with H.264 and AAC.
var both = making{width: 320, height: 180, video: "h264", audio: "aac"}

// testLateSound has sound begin after the pictures.
func testLateSound(ctx context.Context, t *testing.T, start string) {
	t.Helper()
	source := made(ctx, t, words("-c copy -f matroska")...)
	late := remadeLate(ctx, t, source, start)
	clip := both.clip(late)
	clip.Duration += 3 * time.Second
	got := show(ctx, t, clip, false)
	original, seen := decode(ctx, t, late, ""), decode(ctx, t, got.raw, "")
	seen.checkStamps(t, original.numbers(t))
	seen.checkTimes(t, original)
	seen.checkPitches(t, 3)
	was, is := original.beeps(), seen.beeps()
	if len(is) != len(was) {
		t.Fatalf("%d beeps are heard, want %d", len(is), len(was))
	}
	shift := seen.pictures[0].at - original.pictures[0].at
	for i := range was {
		if apart := is[i] - was[i] - shift; i > 0 && apart.Abs() > maxApart {
			t.Errorf("beep %d is heard %v later against the pictures than at the publisher", i, apart)
		}
	}
}

// remadeLate has the sound begin later.
func remadeLate(ctx context.Context, t *testing.T, source []byte, start string) []byte {
	t.Helper()
	path := writeFile(t, source)
	folder := t.TempDir()
	run(ctx, t, "ffmpeg", args(words("-nostdin -v error -i"), []string{path}, words("-itsoffset "+start+" -i"), []string{path},
		words("-map 0:v -map 1:a "+quickH264+quickAAC+mkv), []string{folder + "/late"})).succeeds(t)
	return read(t, folder, "late")
}

// testGap takes so many seconds of sound away after the first 1.2 s. What comes
// after stays where it was.
func testGap(ctx context.Context, t *testing.T, gap float64) {
	t.Helper()
	// Three times the original: the flashes go on.
	source := made(ctx, t, words("-c copy -f matroska")...)
	folder := t.TempDir()
	path := writeFile(t, source)
	run(ctx, t, "ffmpeg", args(words("-nostdin -v error -stream_loop 2 -i"), []string{path},
		[]string{"-af", fmt.Sprintf("aselect=not(between(t\\,1.2\\,%g))", 1.2+gap)},
		words(quickH264+quickAAC+mkv), []string{folder + "/gap"})).succeeds(t)
	data := read(t, folder, "gap")
	clip := both.clip(data)
	clip.Duration = 9 * time.Second
	got := show(ctx, t, clip, false)
	original, seen := decode(ctx, t, data, ""), decode(ctx, t, got.raw, "")
	seen.checkStamps(t, original.numbers(t))
	was, is := original.beeps(), seen.beeps()
	if len(was) != len(is) {
		t.Fatalf("beeps are heard at %v, at the publisher at %v", is, was)
	}
	shift := seen.pictures[0].at - original.pictures[0].at
	for i := range was {
		if apart := is[i] - was[i] - shift; i > 0 && apart.Abs() > maxApart {
			t.Errorf("beep %d is heard %v later against the pictures than at the publisher", i, apart)
		}
	}
}

// testJoined begins in the middle of a group of pictures.
func testJoined(ctx context.Context, t *testing.T) {
	whole := made(ctx, t, words(quickH264+quickAAC+ts)...)
	const packet = 188
	middle := whole[len(whole)/6/packet*packet:]
	clip := both.clip(middle)
	clip.Duration = 2500 * time.Millisecond
	got := show(ctx, t, clip, false)
	seen := decode(ctx, t, got.raw, "")
	var want []int
	for n := madeRate; n < 3*madeRate; n++ {
		want = append(want, n)
	}
	seen.checkStamps(t, want)
	seen.checkLips(t, decode(ctx, t, whole, ""), madeRate)
}

// closed is how exactly a jump is closed. GStreamer follows an MPEG-TS' clock
// references, which FFmpeg lets run some 0.4 s further ahead at a beginning.
const closed = 450 * time.Millisecond

// testJump has the clock jump by 100 s between two clips, which is closed up.
func testJump(ctx context.Context, t *testing.T, options string) {
	t.Helper()
	first := made(ctx, t, words(quickH264+quickAAC+options)...)
	folder := t.TempDir()
	path := writeFile(t, first)
	run(ctx, t, "ffmpeg", args(words("-nostdin -v error -i"), []string{path}, words("-c copy -output_ts_offset 100 "+options),
		[]string{folder + "/second"})).succeeds(t)
	second := read(t, folder, "second")
	clip := both.clip(splice(first, second, options))
	clip.Duration = 6 * time.Second
	got := show(ctx, t, clip, false)
	seen := decode(ctx, t, got.raw, "")
	var want []int
	for i := range 6 * madeRate {
		want = append(want, i%(3*madeRate))
	}
	seen.checkStamps(t, want)
	if length := seen.pictures[len(seen.pictures)-1].at - seen.pictures[0].at; (length - 6*time.Second).Abs() > closed {
		t.Errorf("the pictures take %v, want 6 s: the jump isn't closed", length)
	}
	beeps := seen.beeps()
	if len(beeps) != 6 {
		t.Fatalf("%d beeps are heard, at %v; want 6", len(beeps), beeps)
	}
	var flashes []time.Duration
	for _, p := range seen.pictures {
		if p.number%madeRate == 0 {
			flashes = append(flashes, p.at)
		}
	}
	for i := range min(len(beeps), len(flashes)) {
		if apart := beeps[i] - flashes[i]; apart.Abs() > 40*time.Millisecond {
			t.Errorf("beep %d is %v from its flash", i, apart)
		}
	}
}

// splice puts two clips one after the other as one stream.
func splice(first, second []byte, options string) []byte {
	switch options {
	case ts:
		return slices.Concat(first, second)
	case mkv:
		i := bytes.Index(second, []byte{0x1F, 0x43, 0xB6, 0x75}) // the first Cluster
		end := bytes.LastIndex(first, []byte{0x1C, 0x53, 0xBB, 0x6B})
		if end < 0 {
			end = len(first)
		}
		return slices.Concat(openEnded(first[:end]), second[i:])
	}
	const head = 9 + 4 // of an FLV, with the first back pointer
	return slices.Concat(first, second[head:])
}

// openEnded gives a Matroska file's Segment an unknown size.
func openEnded(b []byte) []byte {
	b = slices.Clone(b)
	i := bytes.Index(b, []byte{0x18, 0x53, 0x80, 0x67})
	copy(b[i+4:], []byte{0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF})
	return b
}

// testAnotherSize has pictures change from 16:9 to 4:3 in mid-stream: they are
// letter-boxed to the announced size (FMT-6).
func testAnotherSize(ctx context.Context, t *testing.T) {
	wide := made(ctx, t, words(quickH264+quickAAC+ts)...)
	square := made(ctx, t, words(quickH264+quickAAC+"-vf scale=640:480 -output_ts_offset 3.05 "+ts)...)
	clip := both.clip(slices.Concat(wide, square))
	clip.Duration = 6 * time.Second
	got := show(ctx, t, clip, false)
	got.checkSize(t, 320, 180)
	pictures := len(decode(ctx, t, got.raw, "").pictures)
	if pictures < 171 {
		t.Errorf("%d pictures are seen, want 180", pictures)
	}
	boxed, last := decode(ctx, t, got.raw, "240:180:40:0").pictures, -1
	for i, p := range boxed[len(boxed)-60:] {
		if p.fault != nil || p.number <= last {
			t.Fatalf("picture %d of the last 60 bears the number %d after %d, between bars; error: %v", i, p.number, last, p.fault)
		}
		last = p.number
	}
	if n := len(decode(ctx, t, got.raw, "").beeps()); n != 6 {
		t.Errorf("%d beeps are heard, want 6", n)
	}
}
