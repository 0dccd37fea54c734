package webm

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"tureen/fixtures"
	"tureen/fixtures/index"
)

// good returns the head and the first blocks of a clip, with their payloads.
func good(t *testing.T) ([]byte, []index.Packet) {
	t.Helper()
	clip, err := fixtures.Open("webm-vp8-vorbis")
	if err != nil {
		t.Fatal(err)
	}
	media, err := index.Matroska(clip.Data)
	if err != nil {
		t.Fatal(err)
	}
	var tracks []Track
	for _, m := range media.Tracks {
		tracks = append(tracks, Track{
			Number: m.Number, Kind: m.Kind, CodecID: m.CodecID, Private: m.CodecPrivate, Width: m.Width, Height: m.Height,
			Rate: float64(m.SampleRate), Channels: m.Channels,
		})
	}
	return Head(tracks), media.Packets[1:80] // the very first sound is older than the key frame
}

// body writes a document: a Cluster every 20 blocks.
func body(head []byte, packets []index.Packet, change func(i int, block []byte) []byte) []byte {
	b := slices.Clone(head)
	base := int64(0)
	for i, p := range packets {
		if i%20 == 0 {
			base = p.PTS.Milliseconds()
			b = append(b, ClusterHead(base)...)
		}
		block := SimpleBlock(p.Track, int16(p.PTS.Milliseconds()-base), p.Key, p.Payload)
		if change != nil {
			block = change(i, block)
		}
		b = append(b, block...)
	}
	return b
}

// judge reads a body in pieces of some size.
func judge(b []byte, size int) *Reader {
	r := NewReader()
	for piece := range slices.Chunk(b, size) {
		r.Feed(piece, time.Now())
	}
	r.Finish()
	return r
}

// TestGood: a good document has no fault, however it comes.
func TestGood(t *testing.T) {
	head, packets := good(t)
	b := body(head, packets, nil)
	for _, size := range []int{1, 7, 1000, len(b)} {
		r := judge(b, size)
		if len(r.Faults) > 0 || len(r.Blocks) != len(packets) || r.Offset() != int64(len(b)) {
			t.Fatalf("in pieces of %d: %d blocks of %d, faults %v", size, len(r.Blocks), len(packets), r.Faults)
		}
		for i, got := range r.Blocks {
			if p := packets[i]; got.Hash != Hash(p.Payload) || got.Time != p.PTS || got.Key != p.Key || got.Track != p.Track {
				t.Fatalf("block %d: %+v", i, got)
			}
		}
	}
}

// TestFaults: each rule that a body breaks is found, and named with its place.
func TestFaults(t *testing.T) {
	head, packets := good(t)
	replace := func(old, replacement []byte) []byte {
		b := body(head, packets, nil)
		if !bytes.Contains(b, old) {
			t.Fatalf("nothing to replace: %x", old)
		}
		return bytes.Replace(b, old, replacement, 1)
	}
	on := func(n int, f func(block []byte) []byte) []byte {
		return body(head, packets, func(i int, block []byte) []byte {
			if i == n {
				return f(block)
			}
			return block
		})
	}
	flag := func(n int, bits byte) []byte {
		return on(n, func(b []byte) []byte {
			b[len(b)-len(packets[n].Payload)-1] ^= bits
			return b
		})
	}
	inter := slices.IndexFunc(packets, func(p index.Packet) bool { return !p.Key })
	tests := []struct {
		name string
		body []byte
		rule string
		says string
	}{
		{"nothing", nil, "WAT-2", "before its Tracks"},
		{"no EBML header", head[5:], "WAT-2", "instead of an EBML header"},
		{"other DocType", replace([]byte("webm"), []byte("matr")), "WAT-2", "DocType"},
		{"Segment of known size", replace(Unknown(IDSegment, 8), Claim(IDSegment, 1<<30)), "WAT-2", "states a size"},
		{"no WritingApp", replace([]byte{0x57, 0x41}, []byte{0x57, 0x42}), "WAT-2", "WritingApp"},
		{"other video codec", replace([]byte("V_VP8"), []byte("V_VP9")), "WAT-2", "V_VP9"},
		{"other audio codec", replace([]byte("A_VORBIS"), []byte("A_OPUS/X")), "WAT-2", "A_OPUS"},
		{"broken Vorbis header", replace([]byte("\x01vorbis"), []byte("\x01vorbos")), "WAT-2", "CodecPrivate"},
		{"other channels", replace([]byte{0x9F, 0x81, 2}, []byte{0x9F, 0x81, 1}), "WAT-2", "1 channels"},
		{"no picture width", replace([]byte{0xB0, 0x82, 0x02, 0x80}, []byte{0xB0, 0x82, 0, 0}), "WAT-2", "pixels"},
		{"second head", slices.Concat(body(head, packets, nil), head), "WAT-2", "second EBML header"},
		{"second Segment", slices.Concat(body(head, packets, nil), Unknown(IDSegment, 1)), "WAT-2", "second Segment"},
		{"lace", flag(3, 0x02), "WAT-2", "laced"},
		{"reserved flag", flag(3, 0x10), "WAT-2", "reserved"},
		{"key flag of an inter picture", flag(inter, 0x80), "WAT-2", "contradicts"},
		{"no key flag of the first picture", flag(0, 0x80), "WAT-3", "no key frame"},
		{"inter picture first", body(head, packets[inter:], nil), "WAT-3", "no key frame"},
		{"old sound first", slices.Concat(head, ClusterHead(0), SimpleBlock(2, 0, true, []byte{1, 2}), SimpleBlock(1, 9, true, packets[0].Payload)), "WAT-3", "sound of 0s"},
		{"other track", on(5, func([]byte) []byte { return SimpleBlock(9, 30, true, []byte{1}) }), "WAT-2", "doesn't name"},
		{"cut", body(head, packets, nil)[:len(body(head, packets, nil))-3], "WAT-2", "inside an element"},
		{"falling block", on(30, func([]byte) []byte { return SimpleBlock(2, 0, true, []byte{1}) }), "WAT-5", "falls"},
		{"negative block", on(20, func([]byte) []byte { return SimpleBlock(2, -1, true, []byte{1}) }), "WAT-5", "relative timestamp"},
		{"falling Cluster", on(30, func(b []byte) []byte { return append(ClusterHead(1), b...) }), "WAT-5", "Cluster's Timestamp"},
		{"block before the Timestamp", on(20, func(b []byte) []byte { return append(Unknown(IDCluster, 1), b...) }), "WAT-2", "before the Cluster's Timestamp"},
		{"unknown size of a block", on(20, func(b []byte) []byte { return append(Unknown(IDSimpleBlock, 1), b...) }), "WAT-2", "unknown size"},
		{"reserved ID", on(20, func([]byte) []byte { return []byte{0xFF, 0x81, 0} }), "WAT-2", "reserves"},
		{"ID too long", on(20, func([]byte) []byte { return []byte{0x01, 0, 0, 0, 0, 0x81} }), "WAT-2", "four bytes"},
		{"monstrous element", on(20, func([]byte) []byte { return Claim(IDSimpleBlock, 1<<50) }), "WAT-2", "claims"},
	}
	for _, test := range tests {
		r := judge(test.body, 500)
		found := slices.ContainsFunc(r.Faults, func(f Fault) bool { return f.Rule == test.rule && strings.Contains(f.Text, test.says) })
		if !found {
			t.Errorf("%s: %v, want %s to say %q", test.name, r.Faults, test.rule, test.says)
		}
	}
}

// FuzzReader: whatever comes, the reader neither panics nor holds more than came.
func FuzzReader(f *testing.F) {
	for _, name := range []string{"ebml-blockgroups", "bad-size-2-55", "bad-cut-in-header", "ebml-unknown-sizes"} {
		clip, err := fixtures.Open(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(clip.Data[:min(len(clip.Data), 6000)], 100)
	}
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		r := judge(data, 1+size&0xFFF)
		if len(r.pending) > len(data) || r.Offset() > int64(len(data)) {
			t.Errorf("%d bytes pending, offset %d, of %d", len(r.pending), r.Offset(), len(data))
		}
	})
}
