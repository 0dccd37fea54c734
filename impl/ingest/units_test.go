package ingest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"tureen/fixtures"
)

// box is a box of an MP4 with n bytes of content.
func box(kind string, n int) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+n))
	return append(append(b, kind...), make([]byte, n)...)
}

// long is one whose size takes 64 bits.
func long(kind string, n int) []byte {
	b := append([]byte{0, 0, 0, 1}, kind...)
	b = binary.BigEndian.AppendUint64(b, uint64(16+n))
	return append(b, make([]byte, n)...)
}

// tag is an FLV's tag with n bytes of content.
func tag(n int) []byte {
	b := []byte{9, byte(n >> 16), byte(n >> 8), byte(n), 0, 0, 0, 0, 0, 0, 0}
	b = append(b, make([]byte, n)...)
	return binary.BigEndian.AppendUint32(b, uint32(11+n))
}

// page is a page of an Ogg with segments of these sizes.
func page(segments ...byte) []byte {
	b := append([]byte("OggS"), make([]byte, 22)...)
	b = append(append(b, byte(len(segments))), segments...)
	for _, n := range segments {
		b = append(b, make([]byte, n)...)
	}
	return b
}

func cat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

var flvHeader = []byte("FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00")

// TestUnits: at the end of each part nothing is inside, one byte earlier
// something is, however the bytes are cut.
func TestUnits(t *testing.T) {
	tests := []struct {
		name, format string
		parts        [][]byte
	}{
		{"boxes", "MP4", [][]byte{box("ftyp", 24), box("moov", 1000), box("moof", 8), box("mdat", 70000), box("free", 0)}},
		{"long boxes", "MP4", [][]byte{long("ftyp", 24), long("moov", 0), long("mdat", 5)}},
		{"tags", "FLV", [][]byte{flvHeader, tag(0), tag(1), tag(70000)}},
		{"pages", "Ogg", [][]byte{page(30), page(bytes.Repeat([]byte{255}, 255)...), page(), page(1), page(0, 0), page(255, 3), page(7)}},
		{"packets", "MPEG-TS", [][]byte{make([]byte, 188), make([]byte, 188)}},
		{"a stream of bytes", "MP3", [][]byte{{1}, {2}}},
	}
	for _, test := range tests {
		for _, size := range []int{1, 3, 28, 1 << 20} {
			u := newUnits(test.format)
			for i, part := range test.parts {
				for rest := part; len(rest) > 0; {
					n := min(size, len(rest))
					if err := u.add(rest[:n]); err != nil {
						t.Fatalf("%s: %v", test.name, err)
					}
					if rest = rest[n:]; u.inside() != (len(rest) > 0) {
						t.Fatalf("%s by %d bytes: %d of part %d are missing, inside: %t", test.name, size, len(rest), i, u.inside())
					}
				}
			}
			if u.paused() == (test.format == "MP3") {
				t.Errorf("%s: may it be headers alone: %t", test.name, u.paused())
			}
			if u.indexLast() {
				t.Errorf("%s: the index is taken to be last", test.name)
			}
		}
	}
}

// TestUnitsOfClips: each clip ends between two parts, and inside of one a byte
// earlier.
func TestUnitsOfClips(t *testing.T) {
	for name, format := range map[string]string{
		"flv": "FLV", "mp4-faststart": "MP4", "mp4-fragmented": "MP4", "mp4-moov-last": "MP4", "mp4-rotated": "MP4",
		"mpegts": "MPEG-TS", "mpegts-rate-change": "MPEG-TS", "ogg-theora-vorbis": "Ogg",
	} {
		c, err := fixtures.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := recognise(c.Data); got != format {
			t.Errorf("%s is recognised as %q", name, got)
		}
		u := newUnits(format)
		err1 := u.add(c.Data[:len(c.Data)-1])
		early := u.inside()
		err2 := u.add(c.Data[len(c.Data)-1:])
		if err := errors.Join(err1, err2); err != nil || !early || u.inside() || u.indexLast() != (name == "mp4-moov-last") && name != "mp4-moov-last" {
			t.Errorf("%s: %v, inside a byte before the end: %t, at it: %t, index last: %t", name, err, early, u.inside(), u.indexLast())
		}
	}
}

// TestIndexLast: an MP4 whose index comes behind its media is told apart, and
// refused once too much media has come.
func TestIndexLast(t *testing.T) {
	tests := []struct {
		name    string
		body    []byte
		last    bool
		refused bool
	}{
		{"index first", cat(box("ftyp", 24), box("moov", 9), box("mdat", 2*maxUnindexed)), false, false},
		{"fragmented", cat(box("ftyp", 24), box("moov", 9), box("moof", 9), box("mdat", 99), box("moof", 9)), false, false},
		{"index last", cat(box("ftyp", 24), box("mdat", 9)), true, false},
		{"index last, and it comes", cat(box("mdat", 9), box("moov", 9)), false, false},
		{"too much before it", cat(box("mdat", maxUnindexed+1)), true, true},
		{"too much in two", cat(box("mdat", maxUnindexed-9), long("mdat", 10)), true, true},
		{"to the end of the file", cat([]byte{0, 0, 0, 0}, []byte("mdat"), make([]byte, maxUnindexed+1)), true, true},
		{"to the end of the file, as the last", cat(box("moov", 9), []byte{0, 0, 0, 0}, []byte("mdat"), make([]byte, 99)), false, false},
		{"a size that is too small", cat([]byte{0, 0, 0, 3}, []byte("free"), box("moov", 9), box("mdat", 9)), false, false},
		{"a negative size", cat([]byte{0, 0, 0, 1}, []byte("free"), bytes.Repeat([]byte{0xff}, 8), box("moov", 9), box("mdat", 9)), false, false},
	}
	for _, test := range tests {
		u := newUnits("MP4")
		err := u.add(test.body)
		if (err != nil) != test.refused || err != nil && (!errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "faststart")) {
			t.Errorf("%s: %v", test.name, err)
		}
		if u.indexLast() != test.last {
			t.Errorf("%s: index last: %t", test.name, u.indexLast())
		}
	}
}

// FuzzUnits: hostile bytes neither hang nor break what follows parts, nor does
// it matter how they are cut.
func FuzzUnits(f *testing.F) {
	formats := []string{"MP4", "MPEG-TS", "FLV", "Ogg", "MP3"}
	f.Add(byte(0), cat(box("ftyp", 8), long("mdat", 3)), uint16(5))
	f.Add(byte(2), cat(flvHeader, tag(9)), uint16(4))
	f.Add(byte(3), cat(page(9), page(255, 255, 0)), uint16(28))
	f.Add(byte(1), make([]byte, 400), uint16(188))
	f.Fuzz(func(t *testing.T, format byte, body []byte, cut uint16) {
		name := formats[int(format)%len(formats)]
		whole, pieces := newUnits(name), newUnits(name)
		at := min(int(cut), len(body))
		err := whole.add(body)
		err1 := pieces.add(body[:at])
		if err1 == nil {
			err1 = pieces.add(body[at:])
		}
		if (err == nil) != (err1 == nil) {
			t.Errorf("whole: %v, in pieces: %v", err, err1)
		}
		if err == nil && (whole.inside() != pieces.inside() || whole.indexLast() != pieces.indexLast()) {
			t.Errorf("whole: inside %t, index last %t; in pieces: %t, %t", whole.inside(), whole.indexLast(), pieces.inside(), pieces.indexLast())
		}
		for _, u := range []units{whole, pieces} {
			switch u := u.(type) {
			case *parts:
				if u.left < 0 || len(u.seen) > oggHead+255 {
					t.Errorf("%d bytes are left, %d seen", u.left, len(u.seen))
				}
			case *boxes:
				if u.left < -1 || len(u.seen) > 16 {
					t.Errorf("%d bytes are left, %d seen", u.left, len(u.seen))
				}
			}
		}
	})
}
