package pipe

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"testing"
	"time"

	"tureen/impl/media"
)

func TestMessages(t *testing.T) {
	var b bytes.Buffer
	w, r := NewWriter(&b), NewReader(&b)
	job := Job{Session: "a", OwnTimes: true, SampleRate: 48000, Channels: 2}
	frame := media.Frame{
		Kind: media.Audio, Key: true, Time: -time.Millisecond, Sent: -time.Millisecond, Duration: time.Second,
		Payload: bytes.Repeat([]byte("x"), 200<<10),
	}
	tracks := Announcement{[]Track{{Input: "opus", Output: media.Track{Kind: media.Audio, Codec: media.Vorbis, Private: []byte{1}}}}}
	for _, err := range []error{w.WriteJSON(Start, job), w.WriteJSON(Tracks, tracks), w.Write(Data, []byte("media")), w.Write(End, nil), w.WriteFrame(frame)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	read := func(want Type) []byte {
		t.Helper()
		got, content, err := r.Read()
		if err != nil || got != want {
			t.Fatalf("a message %q, %v, want %q", got, err, want)
		}
		return content
	}
	var gotJob Job
	if err := Unmarshal(read(Start), &gotJob); err != nil || !reflect.DeepEqual(gotJob, job) {
		t.Errorf("the job is %+v, %v", gotJob, err)
	}
	var gotTracks Announcement
	if err := Unmarshal(read(Tracks), &gotTracks); err != nil || !reflect.DeepEqual(gotTracks, tracks) {
		t.Errorf("the tracks are %+v, %v", gotTracks, err)
	}
	if got := read(Data); string(got) != "media" {
		t.Errorf("the data is %q", got)
	}
	if got := read(End); len(got) != 0 {
		t.Errorf("the end holds %q", got)
	}
	if got, err := UnmarshalFrame(read(Frame)); err != nil || !reflect.DeepEqual(got, frame) {
		t.Errorf("the frame is not what was sent: %v", err)
	}
	if _, _, err := r.Read(); err != io.EOF {
		t.Errorf("the end of all is %v", err)
	}
}

func TestBadMessages(t *testing.T) {
	tests := map[string]struct {
		bytes []byte
		err   error
	}{
		"cut in its head":    {[]byte("D\x00\x00"), io.ErrUnexpectedEOF},
		"cut in its content": {[]byte("D\x00\x00\x00\x05abc"), io.ErrUnexpectedEOF},
		"without content":    {[]byte("D\x00\x00\x00\x05"), io.ErrUnexpectedEOF},
		"of a lying size":    {[]byte("D\x00\x7f\xff\xffabc"), io.ErrUnexpectedEOF},
		"too large":          {[]byte("D\x01\x00\x00\x00abc"), ErrProtocol},
	}
	for name, test := range tests {
		if _, _, err := NewReader(bytes.NewReader(test.bytes)).Read(); !errors.Is(err, test.err) {
			t.Errorf("%s: %v, want %v", name, err, test.err)
		}
	}
	for name, content := range map[string][]byte{
		"cut":                 make([]byte, frameHead-1),
		"without payload":     make([]byte, frameHead),
		"of no kind":          append([]byte{byte(media.Kinds)}, make([]byte, frameHead)...),
		"of negative length":  append(append(make([]byte, 10), 0xff), make([]byte, 8)...),
		"nothing whatsoever ": nil,
	} {
		if f, err := UnmarshalFrame(content); !errors.Is(err, ErrProtocol) {
			t.Errorf("a frame %s is read as %+v, %v", name, f, err)
		}
	}
	if err := Unmarshal([]byte("{"), &Job{}); !errors.Is(err, ErrProtocol) {
		t.Errorf("JSON that isn't gives %v", err)
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("T\x00\x00\x00\x02{}F\x00\x00\x00\x13\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(bytes.NewReader(b))
		for {
			kind, content, err := r.Read()
			if err != nil {
				return
			}
			var a Announcement
			if kind == Frame {
				if frame, err := UnmarshalFrame(content); err == nil && len(frame.Payload) == 0 {
					t.Error("a frame without payload")
				}
			} else {
				_ = Unmarshal(content, &a)
			}
		}
	})
}
