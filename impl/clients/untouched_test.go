package clients_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"tureen/loadgen/webm"
)

// published reads what a publisher sent.
func published(t *testing.T, data []byte) []frame {
	t.Helper()
	clip, err := webm.Parse(data)
	if err != nil {
		t.Fatalf("the publisher's %d bytes: %v", len(data), err)
	}
	frames := make([]frame, len(clip.Frames))
	for i, f := range clip.Frames {
		frames[i] = frame{kind: f.Kind, key: f.Key, at: f.Timestamp, payload: f.Payload}
	}
	return frames
}

// of is the frames of one kind.
func of(kind webm.Kind, frames []frame) []frame {
	return slices.DeleteFunc(slices.Clone(frames), func(f frame) bool { return f.kind != kind })
}

// untouched checks a viewer's frames against the publisher's: the same payloads,
// none missing from the viewer's first on, and times within 1 ms of the
// publisher's after one constant offset (FMT-1, WAT-7). The viewer may have come
// late; skipped is how many of the publisher's pictures (of a stream of sound:
// packets) its body begins after.
func untouched(sent, got []frame) (skipped int, err error) {
	lead := webm.Video
	if len(of(lead, sent)) == 0 {
		lead = webm.Audio
	}
	leads := of(lead, got)
	if len(leads) == 0 {
		return 0, fmt.Errorf("there is no %v", lead)
	}
	err = fmt.Errorf("the first %v isn't one of the publisher's", lead)
	for i, f := range of(lead, sent) {
		if !f.key || !bytes.Equal(f.payload, leads[0].payload) {
			continue
		}
		// The same picture may come again, so the first that fits as a beginning need not be it.
		if err = same(since(f.at, sent), got); err == nil {
			return i, nil
		}
	}
	return 0, err
}

// since is the frames that a body can have that begins at a time.
func since(at time.Duration, frames []frame) []frame {
	return slices.DeleteFunc(slices.Clone(frames), func(f frame) bool { return f.at < at })
}

func same(sent, got []frame) error {
	var least, most time.Duration
	begun := false
	for _, kind := range []webm.Kind{webm.Video, webm.Audio} {
		want, have := of(kind, sent), of(kind, got)
		for i := range min(len(want), len(have)) {
			if !bytes.Equal(want[i].payload, have[i].payload) {
				return fmt.Errorf("%v %d, published at %v, has %d bytes that differ from the publisher's %d",
					kind, i, want[i].at, len(have[i].payload), len(want[i].payload))
			}
			offset := have[i].at - want[i].at
			if !begun {
				least, most, begun = offset, offset, true
			}
			least, most = min(least, offset), max(most, offset)
		}
		if len(want) != len(have) {
			return fmt.Errorf("%d frames of %v, want %d", len(have), kind, len(want))
		}
	}
	if most-least > 2*time.Millisecond {
		return fmt.Errorf("times are from %v to %v after the publisher's: no constant offset within 1 ms", least, most)
	}
	return nil
}

// at is a frame at a time in milliseconds.
func at(kind webm.Kind, ms int, key bool, payload string) frame {
	return frame{kind: kind, key: key, at: time.Duration(ms) * time.Millisecond, payload: []byte(payload)}
}

// TestUntouchedSeesFaults makes sure that the judges of viewers' bodies can say no.
func TestUntouchedSeesFaults(t *testing.T) {
	sent := []frame{
		at(webm.Audio, 0, true, "before the first picture"),
		at(webm.Video, 3, true, "key"), at(webm.Audio, 3, true, "a"),
		at(webm.Video, 36, false, "delta"), at(webm.Audio, 40, true, "b"),
		at(webm.Video, 70, true, "later"), at(webm.Audio, 71, true, "c"),
	}
	shifted := func(frames []frame) []frame {
		frames = slices.Clone(frames)
		for i := range frames {
			frames[i].at += time.Hour
		}
		return frames
	}
	change := func(i int, f func(*frame)) []frame {
		frames := shifted(sent[1:])
		f(&frames[i])
		return frames
	}
	tests := map[string]struct {
		got     []frame
		fault   bool
		skipped int
	}{
		"whole":             {got: shifted(sent[1:])},
		"late":              {got: shifted(sent[5:]), skipped: 2},
		"within 1 ms":       {got: change(2, func(f *frame) { f.at += time.Millisecond })},
		"another payload":   {got: change(2, func(f *frame) { f.payload = []byte("delta!") }), fault: true},
		"another sound":     {got: change(3, func(f *frame) { f.payload = []byte("B") }), fault: true},
		"another beginning": {got: change(0, func(f *frame) { f.payload = []byte("kez") }), fault: true},
		"another time":      {got: change(3, func(f *frame) { f.at += 5 * time.Millisecond }), fault: true},
		"end missing":       {got: shifted(sent[1:6]), fault: true},
		"middle missing":    {got: slices.Delete(shifted(sent[1:]), 2, 3), fault: true},
		"sound too early":   {got: shifted(sent), fault: true},
		"one frame twice":   {got: slices.Insert(shifted(sent[1:]), 2, shifted(sent[2:3])...), fault: true},
		"no pictures":       {got: shifted(sent[2:3]), fault: true},
		"nothing":           {fault: true},
	}
	for name, test := range tests {
		skipped, err := untouched(sent, test.got)
		if (err != nil) != test.fault || skipped != test.skipped {
			t.Errorf("%s: error %v after %d pictures, want a fault: %t, after %d", name, err, skipped, test.fault, test.skipped)
		}
	}
}
