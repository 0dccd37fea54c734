package webm

import (
	"bytes"
	"compress/zlib"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"tureen/fixtures"
	"tureen/impl/media"
)

// open demuxes the first document of a body, taking its first video and audio track.
func open(t *testing.T, r io.Reader) (*Demuxer, []Track) {
	t.Helper()
	d := NewDemuxer(r)
	return d, document(t, d)
}

func document(t *testing.T, d *Demuxer) []Track {
	t.Helper()
	tracks, err := d.Document()
	if err != nil {
		t.Fatalf("Document: %v", err)
	}
	for _, is := range []func(Track) bool{Track.IsVideo, Track.IsAudio} {
		if i := slices.IndexFunc(tracks, is); i >= 0 {
			kind := media.Video
			if tracks[i].IsAudio() {
				kind = media.Audio
			}
			d.Take(tracks[i], kind)
		}
	}
	return tracks
}

func clip(t testing.TB, name string) *fixtures.Clip {
	t.Helper()
	c, err := fixtures.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// served lists the clips that pass through whole.
func served(t *testing.T) (clips []*fixtures.Clip) {
	for _, name := range fixtures.Names() {
		c := clip(t, name)
		matroska := c.Container == "webm" || c.Container == "matroska"
		if matroska && !c.Malformed && name != "ebml-encrypted" {
			clips = append(clips, c)
		}
	}
	if len(clips) < 20 {
		t.Fatalf("only %d clips to read", len(clips))
	}
	return clips
}

// TestFramesOfEveryFixture compares what the demuxer yields with the indexes,
// which another program made.
func TestFramesOfEveryFixture(t *testing.T) {
	for _, c := range served(t) {
		t.Run(c.Name, func(t *testing.T) {
			d, tracks := open(t, bytes.NewReader(c.Data))
			for _, want := range taken(c) {
				got, err := d.Frame()
				if errors.Is(err, ErrNewDocument) {
					document(t, d)
					got, err = d.Frame()
				}
				if err != nil {
					t.Fatalf("frame %d of track %d: %v", want.Number, want.Track, err)
				}
				compare(t, got, want, kindOf(c, want.Track))
			}
			if f, err := d.Frame(); err != io.EOF {
				t.Errorf("after the last frame: %v %v, want io.EOF", f, err)
			}
			if len(tracks) != len(c.Tracks) {
				t.Errorf("%d tracks, want %d", len(tracks), len(c.Tracks))
			}
			for i, track := range c.Tracks {
				if tracks[i].Codec != track.Codec && track.Kind != "subtitle" {
					t.Errorf("track %d is %s, want %s", i, tracks[i].Codec, track.Codec)
				}
			}
		})
	}
}

// taken are the frames of the first video and the first audio track.
func taken(c *fixtures.Clip) []fixtures.Frame {
	video, _ := c.Track("video")
	audio, _ := c.Track("audio")
	return slices.DeleteFunc(slices.Clone(c.Frames), func(f fixtures.Frame) bool {
		return f.Track != video.Number && f.Track != audio.Number
	})
}

func kindOf(c *fixtures.Clip, track int) media.Kind {
	if v, ok := c.Track("video"); ok && v.Number == track {
		return media.Video
	}
	return media.Audio
}

func compare(t *testing.T, got media.Frame, want fixtures.Frame, kind media.Kind) {
	t.Helper()
	if got.Kind != kind || len(got.Payload) != want.Size {
		t.Fatalf("frame %d: %v of %d bytes, want %v of %d", want.Number, got.Kind, len(got.Payload), kind, want.Size)
	}
	if d := got.Time - want.PTS; d > time.Millisecond || d < -time.Millisecond {
		t.Errorf("%v frame %d at %v, want %v", kind, want.Number, got.Time, want.PTS)
	}
	if media.KeyVP8(got.Payload) && got.Key != want.Key {
		t.Errorf("frame %d key %v, want %v", want.Number, got.Key, want.Key)
	}
}

// TestPayloads checks bit-identity: against the bytes of a clip whose container
// stores frames as they are, and against that clip for the same frames coded
// otherwise.
func TestPayloads(t *testing.T) {
	plain := clip(t, "ebml-known-sizes")
	want := payloads(t, plain.Data)
	for _, f := range plain.Frames {
		if !bytes.Equal(want[kindOf(plain, f.Track)][f.Number], plain.Data[f.End-int64(f.Size):f.End]) {
			t.Fatalf("frame %d of track %d isn't what the body holds", f.Number, f.Track)
		}
	}
	for _, name := range []string{"ebml-zlib", "ebml-blockgroups", "ebml-lacing-xiph", "ebml-lacing-ebml"} {
		t.Run(name, func(t *testing.T) {
			got := payloads(t, clip(t, name).Data)
			for kind := range got {
				next := 0 // the clips may leave packets out, but keep their order
				for i, p := range got[kind] {
					at := slices.IndexFunc(want[kind][next:], func(q []byte) bool { return bytes.Equal(p, q) })
					if at < 0 {
						t.Fatalf("%v frame %d isn't one of the plain clip's", media.Kind(kind), i)
					}
					next += at + 1
				}
			}
		})
	}
}

// TestHeaderStripping checks that a packet is what was stripped, then what the
// body holds.
func TestHeaderStripping(t *testing.T) {
	c := clip(t, "ebml-header-stripping")
	_, tracks := open(t, bytes.NewReader(c.Data))
	audio, _ := c.Track("audio")
	stripped := tracks[1].encodings[0].stripped
	got := payloads(t, c.Data)[media.Audio]
	for _, f := range c.FramesOf(audio.Number) {
		want := slices.Concat(stripped, c.Data[f.End-int64(f.Size-len(stripped)):f.End])
		if !bytes.Equal(got[f.Number], want) {
			t.Fatalf("packet %d is %x, want %x", f.Number, got[f.Number], want)
		}
	}
}

func payloads(t *testing.T, body []byte) (all [media.Kinds][][]byte) {
	t.Helper()
	d, _ := open(t, bytes.NewReader(body))
	for {
		f, err := d.Frame()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all[f.Kind] = append(all[f.Kind], f.Payload)
	}
}

// TestNoReadAhead feeds each byte only when it is due: a frame must come out
// before the byte after its last one goes in.
func TestNoReadAhead(t *testing.T) {
	for _, name := range []string{"webm-vp8-vorbis", "ebml-blockgroups", "ebml-lacing-xiph", "ebml-unknown-sizes", "ebml-crc32-void-unknown"} {
		t.Run(name, func(t *testing.T) {
			c := clip(t, name)
			r := &limited{data: c.Data}
			d := NewDemuxer(r)
			for i, want := range taken(c) {
				r.limit = int(want.End)
				if i == 0 {
					document(t, d)
				}
				got, err := d.Frame()
				if err != nil {
					t.Fatalf("frame %d of track %d is not out at byte %d: %v", want.Number, want.Track, want.End, err)
				}
				compare(t, got, want, kindOf(c, want.Track))
			}
		})
	}
}

// limited gives a few bytes at a time, up to its limit.
type limited struct {
	data  []byte
	at    int
	limit int
}

func (l *limited) Read(b []byte) (int, error) {
	if l.at == l.limit {
		return 0, errors.New("asked for a byte that isn't sent yet")
	}
	n := copy(b[:min(len(b), 7)], l.data[l.at:l.limit])
	l.at += n
	return n, nil
}

func TestEnds(t *testing.T) {
	whole := clip(t, "webm-vp8-vorbis")
	frame := whole.Frames[20]
	tests := []struct {
		name string
		body []byte
		want error
	}{
		{"empty", nil, io.EOF},
		{"in the EBML header", whole.Data[:10], ErrCutHeader},
		{"in the tracks", clip(t, "bad-cut-in-header").Data, ErrCutHeader},
		{"in what follows the tracks", whole.Data[:bytes.Index(whole.Data, []byte{0x1F, 0x43, 0xB6, 0x75})-1], ErrCutHeader},
		{"before the first cluster", whole.Data[:bytes.Index(whole.Data, []byte{0x1F, 0x43, 0xB6, 0x75})], io.EOF},
		{"after a frame", whole.Data[:frame.End], io.EOF},
		{"in a frame", whole.Data[:frame.End-1], ErrCutFrame},
		{"in a block's header", whole.Data[:frame.End+2], ErrCutFrame},
		{"in a block", clip(t, "bad-cut-in-block").Data, ErrCutFrame},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if err := drain(test.body); err != test.want {
				t.Errorf("ended with %v, want %v", err, test.want)
			}
		})
	}
}

// drain reads a body to its end and says what ended it.
func drain(body []byte) error {
	d := NewDemuxer(bytes.NewReader(body))
	err := ErrNewDocument
	for err == ErrNewDocument {
		var tracks []Track
		if tracks, err = d.Document(); err != nil {
			return err
		}
		for i, t := range tracks {
			d.Take(t, media.Kind(i%int(media.Kinds)))
		}
		for err == nil {
			_, err = d.Frame()
		}
	}
	return err
}

// TestManyTracks: a thousand tracks are declared, the first is read, and what
// the others hold is passed over.
func TestManyTracks(t *testing.T) {
	var entries []byte
	for n := uint64(1); n <= 1000; n++ {
		entries = appendBytes(entries, idTrackEntry, appendUint(appendUint(nil, idTrackNumber, n), idTrackType, trackTypeVideo))
	}
	start := Header(nil)
	start = start[:bytes.Index(start, []byte{0x16, 0x54, 0xAE, 0x6B})] // up to the Tracks
	body := AppendCluster(appendBytes(start, idTracks, entries), 0)
	body = AppendFrame(body, 1000, media.Frame{Payload: []byte("other")})
	body = AppendFrame(body, 1, media.Frame{Payload: []byte("first")})
	d := NewDemuxer(bytes.NewReader(body))
	tracks, err := d.Document()
	if err != nil || len(tracks) != 1000 {
		t.Fatalf("%d tracks, %v", len(tracks), err)
	}
	d.Take(tracks[0], media.Video)
	if f, err := d.Frame(); err != nil || string(f.Payload) != "first" {
		t.Errorf("the first frame is %q, %v", f.Payload, err)
	}
	if _, err := d.Frame(); err != io.EOF {
		t.Errorf("after the first track's frame comes %v", err)
	}
}

// TestNesting: masters in masters in masters, of known sizes and of unknown
// ones, go no deeper than the demuxer does.
func TestNesting(t *testing.T) {
	head := Header([]media.Track{{Kind: media.Video, Codec: media.VP8, Picture: media.Picture{Width: 2, Height: 2}}})
	cluster := AppendCluster(slices.Clone(head), 0)
	known := []byte{0xEC, 0x80}
	for range 2000 { // each with the one before it inside
		known = appendBytes(nil, idBlockGroup, known)
	}
	unknown := bytes.Repeat(appendUnknown(nil, idCluster), 100_000)
	for name, body := range map[string][]byte{"known": known, "unknown": unknown} {
		d := NewDemuxer(bytes.NewReader(append(slices.Clone(cluster), body...)))
		if _, err := d.Document(); err != nil {
			t.Fatal(err)
		}
		err := error(nil)
		for err == nil {
			if err = d.advance(); len(d.open) > int(levelBlockGroup) {
				t.Fatalf("%s: %d masters are open", name, len(d.open))
			}
		}
		if err != io.EOF {
			t.Errorf("%s: ends with %v", name, err)
		}
	}
}

func TestMalformed(t *testing.T) {
	head := Header([]media.Track{{Kind: media.Video, Codec: media.VP8, Picture: media.Picture{Width: 2, Height: 2}}})
	cluster := AppendCluster(slices.Clone(head), 0)
	with := func(b ...byte) []byte { return append(slices.Clone(cluster), b...) }
	start := head[:bytes.Index(head, []byte{0x16, 0x54, 0xAE, 0x6B})] // up to the Tracks
	entry := appendBytes(nil, idTrackEntry, appendUint(appendUint(nil, idTrackNumber, 1), idTrackType, trackTypeVideo))
	tests := []struct {
		name, reason string
		body         []byte
	}{
		{"garbage", "no element begins with", with(0x00, 0x01, 0x02)},
		{"a long size", "more than 8 bytes", with(0xA3, 0x00, 0x01)},
		{"a block of unknown size", "may not be of unknown size", with(0xA3, 0xFF)},
		{"a block that is too large", "a block of", with(0xA3, 0x01, 0x80, 0, 0, 0, 0, 0, 0)},
		{"a block without a header", "no room for its header", with(0xA3, 0x82, 0x81, 0)},
		{"a laced block without frames", "lacing", with(0xA3, 0x84, 0x81, 0, 0, 0x02)},
		{"a lace larger than its block", "lacing", with(0xA3, 0x87, 0x81, 0, 0, 0x02, 1, 200, 0)},
		{"an unknown element of 1 MiB", "64 KiB without an element", with(0x4F, 0xFF, 0x10|0x20, 0x00, 0x00)},
		{"garbage after 3 s", "", clip(t, "bad-garbage-after-3s").Data},
		{"2^55 bytes", "", clip(t, "bad-size-2-55").Data},
		{"unknown elements without an end", "64 KiB without an element", with(bytes.Repeat(append([]byte{0x40, 0x99, 0x40, 0x80}, make([]byte, 128)...), 600)...)},
		{"a Cluster before Tracks", "before the Tracks", append(slices.Clone(start), 0x1F, 0x43, 0xB6, 0x75, 0xFF)},
		{"no Tracks after 16 MiB", "no Tracks within 16 MiB", slices.Concat(start, []byte{0xEC, 0x10 | 0x01, 0x00, 0x00, 0x00})},
		{"no Tracks after many Voids", "no Tracks within 16 MiB", append(slices.Clone(start), bytes.Repeat(appendBytes(nil, idVoid, make([]byte, 1<<20)), 17)...)},
		{"two tracks with one number", "two tracks with the number 1", appendBytes(slices.Clone(start), idTracks, bytes.Repeat(entry, 2))},
		{"a child larger than its parent", "larger than what it is in", with(0xA0, 0x84, 0xA1, 0x88, 0, 0)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := drain(test.body)
			var malformed *MalformedError
			if !errors.As(err, &malformed) {
				t.Fatalf("got %v, want a MalformedError", err)
			}
			if !strings.Contains(malformed.Reason, test.reason) {
				t.Errorf("reason %q doesn't say %q", malformed.Reason, test.reason)
			}
		})
	}
}

// TestKnownElementsMayBeLarge has elements skipped that RFC 9559 knows in their
// place, past what an unknown one may hold.
func TestKnownElementsMayBeLarge(t *testing.T) {
	body := Header([]media.Track{{Kind: media.Video, Codec: media.VP8, Picture: media.Picture{Width: 2, Height: 2}}})
	body = appendBytes(body, idVoid, make([]byte, 3*MaxUnknown))
	body = appendBytes(body, idTags, make([]byte, 3*MaxUnknown))
	body = AppendCluster(body, time.Second)
	body = AppendSimpleBlock(body, 1, time.Millisecond, true, []byte("frame"))
	d, _ := open(t, bytes.NewReader(body))
	f, err := d.Frame()
	if err != nil || f.Time != time.Second+time.Millisecond || string(f.Payload) != "frame" {
		t.Errorf("got %v %v", f, err)
	}
}

// TestLongDurationsAreNotBelieved: a publisher would be held back for as long.
func TestLongDurationsAreNotBelieved(t *testing.T) {
	head := Header([]media.Track{{Kind: media.Video, Codec: media.VP8, Picture: media.Picture{Width: 2, Height: 2}}})
	for ms, want := range map[uint64]time.Duration{40: 40 * time.Millisecond, 60_000: time.Minute, 60_001: 0, 1 << 62: 0} {
		group := appendUint(appendBytes(nil, idBlock, []byte{0x81, 0, 0, 0, 'x'}), idBlockDuration, ms)
		d, _ := open(t, bytes.NewReader(appendBytes(AppendCluster(slices.Clone(head), 0), idBlockGroup, group)))
		if f, err := d.Frame(); err != nil || f.Duration != want {
			t.Errorf("a frame said to last %d ms lasts %v, want %v: %v", ms, f.Duration, want, err)
		}
	}
}

// TestClaimedSizesAllocateNothing sends little and claims much.
func TestClaimedSizesAllocateNothing(t *testing.T) {
	head := Header([]media.Track{{Kind: media.Video, Codec: media.VP8, Picture: media.Picture{Width: 2, Height: 2}}})
	body := AppendCluster(head, 0)
	body = append(body, 0xA3, 0x10, 0x7F, 0xFF, 0xFF, 0x81, 0, 0, 0, 1, 2, 3, 4) // 8 MiB less one, then little
	result := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := drain(body); err != ErrCutFrame {
				b.Fatal(err)
			}
		}
	})
	if got := result.AllocedBytesPerOp(); got > 256<<10 {
		t.Errorf("%d bytes were allocated for a block of which 8 arrived", got)
	}
}

// TestDecodedSizesAreBounded: few bytes on the wire may stand for many, but not
// for more than one block may hold.
func TestDecodedSizesAreBounded(t *testing.T) {
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	z.Write(make([]byte, MaxFrame/2))
	z.Close()
	lace := []byte{0x81, 0, 0, 0x06, 2} // three frames, EBML lacing
	lace = append(lace, 0x20|byte(packed.Len()>>16), byte(packed.Len()>>8), byte(packed.Len()), 0xBF)
	lace = append(lace, bytes.Repeat(packed.Bytes(), 3)...)
	compression := appendBytes(nil, idContentEncoding, appendBytes(nil, idContentCompression, appendUint(nil, idContentCompAlgo, compressionZlib)))
	stripping := func(n int) []byte {
		settings := appendUint(nil, idContentCompAlgo, compressionHeader)
		settings = appendBytes(settings, idContentCompSettings, make([]byte, n))
		return appendBytes(nil, idContentEncoding, appendBytes(nil, idContentCompression, settings))
	}
	body := func(encodings []byte) []byte {
		entry := appendUint(appendUint(nil, idTrackNumber, 1), idTrackType, trackTypeVideo)
		entry = appendBytes(appendBytes(entry, idCodecID, []byte("V_VP8")), idContentEncodings, encodings)
		b := Header(nil)
		b = b[:bytes.Index(b, []byte{0x16, 0x54, 0xAE, 0x6B})]
		b = appendBytes(b, idTracks, appendBytes(nil, idTrackEntry, entry))
		return appendBytes(AppendCluster(b, 0), idSimpleBlock, lace)
	}
	err := drain(body(compression))
	if err == nil || !strings.Contains(err.Error(), "once decoded") {
		t.Errorf("a block of %d bytes that holds 12 MiB ends with %v", len(lace), err)
	}
	for name, encodings := range map[string][]byte{
		"many encodings": bytes.Repeat(stripping(1), maxEncodings+1), "a long strip": stripping(maxStripped + 1),
	} {
		if _, tracks := open(t, bytes.NewReader(body(encodings))); tracks[0].Unreadable == "" {
			t.Errorf("%s: the track is taken as readable", name)
		}
	}
}

// TestPadding: Void may stand anywhere, and empty elements for their defaults.
func TestPadding(t *testing.T) {
	picture := appendUint(appendUint(nil, idPixelWidth, 2), idPixelHeight, 2)
	entry := appendBytes(appendUint(appendUint(nil, idTrackNumber, 1), idTrackType, trackTypeVideo), idVideo, picture)
	entry = appendBytes(entry, idCodecID, []byte("V_VP8"))
	padding := appendBytes(nil, idVoid, make([]byte, 70<<10))
	empty := appendBytes(nil, idTimestampScale, nil)
	scale := appendUint(nil, idTimestampScale, uint64(100*time.Microsecond))
	for name, test := range map[string]struct {
		before, after []byte // Info
		want          time.Duration
	}{
		"Info before": {appendBytes(nil, idInfo, slices.Concat(padding, scale)), nil, 100 * time.Microsecond},
		"Info after":  {nil, appendBytes(nil, idInfo, slices.Concat(scale, padding)), 100 * time.Microsecond},
		"empty scale": {appendBytes(nil, idInfo, empty), nil, time.Millisecond},
	} {
		b := appendBytes(nil, idEBML, slices.Concat(padding, appendBytes(nil, idDocType, []byte("webm"))))
		b = appendUnknown(b, idSegment)
		b = append(b, test.before...)
		b = appendBytes(b, idTracks, slices.Concat(padding, appendBytes(nil, idTrackEntry, entry)))
		b = AppendCluster(append(b, test.after...), 10*time.Millisecond)
		b = AppendSimpleBlock(b, 1, 0, true, []byte("frame"))
		d, _ := open(t, bytes.NewReader(b))
		if f, err := d.Frame(); err != nil || f.Time != 10*test.want {
			t.Errorf("%s: the frame is at %v, want %v: %v", name, f.Time, 10*test.want, err)
		}
	}
}

func FuzzDemuxer(f *testing.F) {
	for _, name := range []string{
		"ebml-lacing-xiph", "ebml-lacing-ebml", "ebml-lacing-fixed", "ebml-blockgroups", "ebml-zlib",
		"ebml-header-stripping", "ebml-crc32-void-unknown", "ebml-two-documents", "ebml-unknown-3",
	} {
		c := clip(f, name)
		f.Add(c.Data[:min(len(c.Data), 16<<10)])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		d := NewDemuxer(bytes.NewReader(body))
		frames := 0
		for {
			tracks, err := d.Document()
			if err != nil {
				return
			}
			for i, track := range tracks {
				d.Take(track, media.Kind(i%int(media.Kinds)))
			}
			for err == nil {
				var frame media.Frame
				if frame, err = d.Frame(); err == nil {
					frames++
					if len(frame.Payload) == 0 || len(frame.Payload) > 2*MaxFrame || frame.Kind >= media.Kinds {
						t.Fatalf("impossible frame: %v, %d bytes", frame.Kind, len(frame.Payload))
					}
				}
			}
			if !errors.Is(err, ErrNewDocument) {
				return
			}
			if frames > len(body) {
				t.Fatalf("%d frames out of %d bytes", frames, len(body))
			}
		}
	})
}
