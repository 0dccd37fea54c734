package transcode

import (
	"bytes"
	"log/slog"
	"sync"
)

// maxLines is how much of what a transcoder says is passed on: GStreamer can
// complain of every frame of a damaged stream.
const maxLines = 40

// maxLine is where a line is cut.
const maxLine = 1 << 10

// diary passes the lines that a transcoder writes on to the log.
type diary struct {
	log *slog.Logger

	mu      sync.Mutex // guards what follows
	session string
	lines   int
	rest    []byte
}

// about says whose transcoder it is.
func (d *diary) about(session string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.session = session
}

// Write takes a part of what is said.
func (d *diary) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rest = append(d.rest, b...)
	for {
		line, rest, whole := bytes.Cut(d.rest, []byte("\n"))
		if !whole && len(d.rest) < maxLine {
			return len(b), nil
		}
		d.note(line[:min(len(line), maxLine)])
		d.rest = rest
	}
}

// flush passes on a last line without an end.
func (d *diary) flush() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.rest) > 0 {
		d.note(d.rest)
		d.rest = nil
	}
}

func (d *diary) note(line []byte) {
	d.lines++
	switch {
	case len(bytes.TrimSpace(line)) == 0, d.lines > maxLines:
	case d.lines == maxLines:
		d.log.Warn("transcoder says more than is of use; the rest is left out", "session", d.session)
	default:
		d.log.Warn("transcoder says", "session", d.session, "line", string(bytes.TrimSpace(line)))
	}
}
