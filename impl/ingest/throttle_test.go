package ingest

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"tureen/impl/media"
	"tureen/impl/webm"
)

// padded is WebM without frames: its headers, then an endless Void, until a time
// or, read too fast, until so many bytes.
type padded struct {
	head  []byte
	until time.Time
	left  int64
}

func (p *padded) Read(b []byte) (int, error) {
	if len(p.head) > 0 {
		n := copy(b, p.head)
		p.head = p.head[n:]
		return n, nil
	}
	if !time.Now().Before(p.until) || p.left < 0 {
		return 0, io.EOF
	}
	p.left -= int64(len(b))
	return len(b), nil
}

// TestThrottle: a body of padding is read at a bounded rate.
func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const span = 3 * time.Second
		head := webm.Header([]media.Track{{Kind: media.Video, Codec: media.VP8, Picture: media.Picture{Width: 2, Height: 2}}})
		head = append(webm.AppendCluster(head, 0), 0xEC, 0x01, 0, 1, 0, 0, 0, 0, 0) // a Void of 1 TiB
		const most = int64((span+bodyBurst)/time.Second)*bodyRate + 1<<20
		s, err := feed(t, &padded{head, time.Now().Add(span), 2 * most}, nil)
		if err != nil || s.Bytes > most || s.Bytes < most/2 {
			t.Errorf("%d bytes were read in %v, want about %d: %v", s.Bytes, span, most, err)
		}
	})
}
