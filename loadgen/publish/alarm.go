package publish

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// alarm wakes a goroutine at a moment, to some 50 µs. The runtime's own timers are kept only to a millisecond when
// nothing else runs, and a goroutine that sleeps in the kernel by itself keeps the runtime's monitor busy, which costs
// several per cent of a core.
type alarm struct {
	timer int
	file  *os.File // the timer, waited for by the runtime's poller
}

func newAlarm() (*alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("creating timer: %w", err)
	}
	return &alarm{timer: fd, file: os.NewFile(uintptr(fd), "timerfd")}, nil
}

func (a *alarm) close() { _ = a.file.Close() }

// until waits for a moment; false when the context ended first.
func (a *alarm) until(ctx context.Context, at time.Time) bool {
	if ctx.Err() != nil {
		return false
	}
	left := time.Until(at)
	if left <= 0 {
		return true
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(left))}
	if err := unix.TimerfdSettime(a.timer, 0, &spec, nil); err != nil {
		return false
	}
	stop := context.AfterFunc(ctx, func() { _ = a.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var expirations [8]byte
	_, err := a.file.Read(expirations[:])
	return err == nil && ctx.Err() == nil
}
