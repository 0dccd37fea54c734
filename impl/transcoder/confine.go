package transcoder

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// What a transcoder may take; what runs away ends itself and no other.
const (
	// maxData is memory of its own: 4K video takes half of it. Not address
	// space, of which Go and GStreamer reserve far more than they use.
	maxData = 2 << 30
	// maxFiles are its pipes, GStreamer's wake-up descriptors and plug-ins.
	maxFiles = 256
)

// Confine takes from the process what no transcoder needs. It is called before
// a byte of media is read, and is the one place for that.
func Confine() error {
	limit := func(resource int, most uint64) error {
		return unix.Setrlimit(resource, &unix.Rlimit{Cur: most, Max: most})
	}
	err := errors.Join(
		limit(unix.RLIMIT_DATA, maxData),
		limit(unix.RLIMIT_NOFILE, maxFiles),
		limit(unix.RLIMIT_CORE, 0), // it would hold a publisher's media
		limit(unix.RLIMIT_FSIZE, maxRegistry),
	)
	if err != nil {
		return fmt.Errorf("limit what it may take: %w", err)
	}
	return nil
}

// maxRegistry is the largest file it may write: GStreamer's list of plug-ins.
const maxRegistry = 16 << 20
