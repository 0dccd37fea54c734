package webm

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"time"
)

// Numbers of the tracks in the streams below.
const (
	videoTrack    = 1
	audioTrack    = 2
	subtitleTrack = 3
)

var (
	keyPicture = []byte{0x10, 1, 2, 3, 4, 5} // the first bit of a VP8 key frame is 0
	picture    = []byte{0x11, 6, 7}
	sound      = []byte{0x08, 9}
)

func unknown(id uint32, width int) []byte {
	size := make([]byte, width)
	for i := range size {
		size[i] = 0xFF
	}
	size[0] = 0xFF >> (width - 1)
	return append(appendID(nil, id), size...)
}

func master(id uint32, parts ...[]byte) []byte {
	return appendElement(nil, id, bytes.Join(parts, nil))
}

func integer(id uint32, v uint64) []byte { return appendUnsigned(nil, id, v) }

func trackEntry(number, kind uint64, codec string) []byte {
	return master(idTrackEntry, integer(idTrackNumber, number), integer(idTrackType, kind), master(idCodecID, []byte(codec)))
}

func head(parts ...[]byte) []byte {
	return bytes.Join(append([][]byte{
		master(idEBML, master(0x4282, []byte("webm"))), unknown(idSegment, 8),
		master(idTracks, trackEntry(videoTrack, typeVideo, "V_VP8"), trackEntry(audioTrack, typeAudio, "A_VORBIS"),
			trackEntry(subtitleTrack, 17, "S_TEXT/UTF8")),
	}, parts...), nil)
}

func block(id uint32, track byte, relative int16, flags byte, payload []byte) []byte {
	content := []byte{0x80 | track}
	content = binary.BigEndian.AppendUint16(content, uint16(relative))
	return master(id, append(append(content, flags), payload...))
}

func cluster(at uint64, parts ...[]byte) []byte {
	return master(idCluster, append([][]byte{integer(idTimestamp, at)}, parts...)...)
}

// seen is what a test expects of a frame.
type seen struct {
	kind Kind
	at   time.Duration
	key  bool
	size int
}

func scan(s *Scanner, p []byte) (frames []Frame, err error) {
	for len(p) > 0 {
		n, complete, err := s.Next(p)
		if err != nil {
			return frames, err
		}
		if p = p[n:]; complete {
			frames = append(frames, s.Frame)
		}
	}
	return frames, nil
}

func summary(frames []Frame) []seen {
	var all []seen
	for _, f := range frames {
		all = append(all, seen{f.Kind, f.Timestamp, f.Key, f.Size})
	}
	return all
}

const msec = time.Millisecond

var streams = []struct {
	name string
	data []byte
	want []seen
}{
	{
		"simple blocks", head(cluster(1000,
			block(idSimpleBlock, videoTrack, 0, 0x80, keyPicture), block(idSimpleBlock, audioTrack, 5, 0x80, sound),
			block(idSimpleBlock, videoTrack, 33, 0, picture))),
		[]seen{{Video, 1000 * msec, true, 6}, {Audio, 1005 * msec, true, 2}, {Video, 1033 * msec, false, 3}},
	},
	{
		"the payload, not the flag, says what a key frame is", head(cluster(0,
			block(idSimpleBlock, videoTrack, 0, 0, keyPicture), block(idSimpleBlock, videoTrack, 33, 0x80, picture))),
		[]seen{{Video, 0, true, 6}, {Video, 33 * msec, false, 3}},
	},
	{
		"clusters of unknown size, one byte wide", head(unknown(idCluster, 1), integer(idTimestamp, 7),
			block(idSimpleBlock, videoTrack, 0, 0x80, keyPicture), unknown(idCluster, 4), integer(idTimestamp, 40),
			block(idSimpleBlock, audioTrack, -3, 0, sound)),
		[]seen{{Video, 7 * msec, true, 6}, {Audio, 37 * msec, true, 2}},
	},
	{
		"block groups", head(cluster(0,
			master(idBlockGroup, block(idBlock, videoTrack, 0, 0, keyPicture), integer(0x9B, 33)),
			master(idBlockGroup, integer(0x9B, 33), block(idBlock, videoTrack, 33, 0, picture), integer(0xFB, 33)))),
		[]seen{{Video, 0, true, 6}, {Video, 33 * msec, false, 3}},
	},
	{
		"void, checksums, unknown and empty elements, other tracks", head(master(0xEC, make([]byte, 300)), master(0x1C53BB6B),
			cluster(0, master(0xBF, make([]byte, 4)), block(idSimpleBlock, subtitleTrack, 0, 0x80, []byte("text")),
				master(0x4FFF, []byte("new")), master(0xEC), block(idSimpleBlock, audioTrack, 0, 0x80, sound),
				block(idSimpleBlock, videoTrack, 1, 0x80, nil))),
		[]seen{{Audio, 0, true, 2}},
	},
	{
		"timestamp scale", head(master(idInfo, integer(idTimestampScale, 100_000), master(idMuxingApp, []byte("x"))),
			cluster(10, block(idSimpleBlock, audioTrack, 5, 0, sound))),
		[]seen{{Audio, 1500 * time.Microsecond, true, 2}},
	},
	{
		"a second document", append(
			head(master(idInfo, integer(idTimestampScale, 100_000)), cluster(50, block(idSimpleBlock, audioTrack, 0, 0, sound))),
			head(cluster(50, block(idSimpleBlock, audioTrack, 0, 0, sound)))...),
		[]seen{{Audio, 5 * msec, true, 2}, {Audio, 50 * msec, true, 2}},
	},
}

func TestScannerFindsFrames(t *testing.T) {
	for _, test := range streams {
		t.Run(test.name, func(t *testing.T) {
			var whole Scanner
			frames, err := scan(&whole, test.data)
			if err != nil {
				t.Fatal(err)
			}
			if got := summary(frames); !slices.Equal(got, test.want) {
				t.Fatalf("got %v, want %v", got, test.want)
			}
			for at := range test.data {
				var split Scanner
				first, err := scan(&split, test.data[:at])
				if err != nil {
					t.Fatalf("split at %d: %v", at, err)
				}
				second, err := scan(&split, test.data[at:])
				if err != nil {
					t.Fatalf("split at %d: %v", at, err)
				}
				if got := append(first, second...); !slices.Equal(got, frames) {
					t.Fatalf("split at %d: got %v, want %v", at, got, frames)
				}
			}
		})
	}
}

func TestScannerHashesWhatCanBeIdentified(t *testing.T) {
	data := head(cluster(0, block(idSimpleBlock, videoTrack, 0, 0x80, keyPicture), block(idSimpleBlock, audioTrack, 0, 0, sound),
		block(idSimpleBlock, videoTrack, 33, 0, picture)))
	var s Scanner
	var captured []byte
	s.Picture = func(piece []byte, first bool) {
		if first {
			captured = nil
		}
		captured = append(captured, piece...)
	}
	var frames []Frame
	for i := range data {
		more, err := scan(&s, data[i:i+1])
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, more...)
	}
	for i, want := range []uint64{Hash(keyPicture), Hash(sound), 0} {
		if frames[i].Hash != want {
			t.Errorf("frame %d: hash %#x, want %#x", i, frames[i].Hash, want)
		}
	}
	if !bytes.Equal(captured, keyPicture) {
		t.Errorf("captured %x, want %x", captured, keyPicture)
	}
}

func TestScannerRefuses(t *testing.T) {
	tests := map[string][]byte{
		"identifier of five bytes":     {0x08},
		"size of nine bytes":           {0xEC, 0x00},
		"void of unknown size":         unknown(0xEC, 8),
		"block of no bytes":            head(cluster(0, master(idSimpleBlock))),
		"block shorter than its head":  head(cluster(0, master(idSimpleBlock, []byte{0x81, 0, 0}))),
		"track number of nine bytes":   head(cluster(0, master(idSimpleBlock, []byte{0x00, 0, 0, 0}))),
		"timestamp of nine bytes":      head(master(idCluster, master(idTimestamp, make([]byte, 9)))),
		"timestamp of no bytes":        head(master(idCluster, master(idTimestamp))),
		"timestamp scale of nothing":   head(master(idInfo, integer(idTimestampScale, 0))),
		"timestamp scale of a minute":  head(master(idInfo, integer(idTimestampScale, 60e9))),
		"timestamps that overflow":     head(cluster(1<<62, block(idSimpleBlock, audioTrack, 0, 0, sound))),
		"tracks that claim too much":   append(appendID(nil, idTracks), 0x08, 0x80, 0, 0, 0),
		"track entry that is cut":      master(idTracks, []byte{idTrackEntry, 0x85, idTrackNumber, 0x81}),
		"track number of nine bytes 2": master(idTracks, master(idTrackEntry, master(idTrackNumber, make([]byte, 9)))),
	}
	for name, data := range tests {
		t.Run(name, func(t *testing.T) {
			var s Scanner
			if frames, err := scan(&s, data); err == nil {
				t.Errorf("no error, frames %v", frames)
			}
		})
	}
}

func TestScannerAllocatesNothingPerFrame(t *testing.T) {
	var s Scanner
	if _, err := scan(&s, head()); err != nil {
		t.Fatal(err)
	}
	data := cluster(0, block(idSimpleBlock, videoTrack, 0, 0x80, keyPicture), block(idSimpleBlock, audioTrack, 0, 0, sound))
	allocations := testing.AllocsPerRun(100, func() {
		for p := data; len(p) > 0; {
			n, _, err := s.Next(p)
			if err != nil {
				t.Fatal(err)
			}
			p = p[n:]
		}
	})
	if allocations != 0 {
		t.Errorf("%v allocations for two frames", allocations)
	}
}

// FuzzScanner looks for panics, for memory taken on the strength of claims, and for results that depend on how the
// bytes are split.
func FuzzScanner(f *testing.F) {
	for _, s := range streams {
		f.Add(s.data, uint(7))
	}
	f.Add([]byte{0x16, 0x54, 0xAE, 0x6B, 0x01, 0, 0, 0, 0, 0x0F, 0xFF, 0xFF}, uint(1))
	f.Fuzz(func(t *testing.T, data []byte, step uint) {
		var whole, pieces Scanner
		want, wantErr := scan(&whole, data)
		var got []Frame
		var gotErr error
		step = max(step%64, 1)
		for p := data; len(p) > 0 && gotErr == nil; {
			n := min(int(step), len(p))
			var more []Frame
			more, gotErr = scan(&pieces, p[:n])
			got = append(got, more...)
			p = p[n:]
		}
		if !slices.Equal(got, want) || (gotErr == nil) != (wantErr == nil) {
			t.Fatalf("in pieces of %d: %v, %v; whole: %v, %v", step, got, gotErr, want, wantErr)
		}
		if c := cap(whole.tracks); c > 2*len(data)+64 {
			t.Fatalf("%d bytes held for %d bytes of input", c, len(data))
		}
	})
}
