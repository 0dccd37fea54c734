// Package transcode is the proxy's side of its transcoders: processes of their
// own, one per transcoded stream, that are started ahead, fed, watched and ended
// here. What such a process does is package transcoder's matter, what goes over
// its pipes package pipe's, what becomes of the frames its caller's.
package transcode

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"tureen/impl/transcode/pipe"
)

// Errors of Pool.Start.
var (
	// ErrNone is a proxy that can't transcode.
	ErrNone = errors.New("this server has no transcoder")
	// ErrCapacity is a proxy that has as many transcodes as it can keep in real
	// time.
	ErrCapacity = errors.New("as many streams are being transcoded as the server can keep up with; try again later")
	errClosed   = errors.New("the transcoders have been ended")
)

// Config is what an operator can set.
type Config struct {
	// Command runs a transcoder on the file descriptors 3, to read from, and 4,
	// to write to; empty when there is none.
	Command []string
	Spares  int // transcoders that are kept started
	Max     int // transcodes at once; 0 for as many as the processors can carry
	// MaxVideoBitRate and MaxAudioBitRate are the encoders' ceilings, in bit/s;
	// 0 for none.
	MaxVideoBitRate int
	MaxAudioBitRate int
	Log             *slog.Logger

	patience patience // the usual one unless set
}

// Pool starts transcoders.
type Pool struct {
	config    Config
	admission *admission
	spawner   *spawner
	closing   context.Context
	close     context.CancelFunc
	running   sync.WaitGroup

	mu     sync.Mutex // guards what follows
	spares []*Process // started, and perhaps not ready yet
	losses int        // spares that have ended since the last transcoder was of use
	closed bool
}

// NewPool starts the spares. It must be closed.
func NewPool(c Config) *Pool {
	if c.patience == (patience{}) {
		c.patience = usual
	}
	p := &Pool{config: c, admission: newAdmission(c.Max), spawner: newSpawner()}
	p.closing, p.close = context.WithCancel(context.Background())
	if len(c.Command) == 0 {
		return p
	}
	p.running.Go(func() { p.admission.calibrate(p.closing, c, p.spawner.start) })
	p.refill()
	return p
}

// Available reports whether there is a transcoder. A nil pool has none.
func (p *Pool) Available() bool { return p != nil && len(p.config.Command) > 0 }

// refill starts spares until there are as many as configured.
func (p *Pool) refill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.closed && len(p.spares) < p.config.Spares {
		t, err := p.spawn()
		if err != nil {
			p.config.Log.Warn("a spare transcoder can't be started", "error", err)
			return
		}
		p.spares = append(p.spares, t)
	}
}

// spawn starts a transcoder.
func (p *Pool) spawn() (*Process, error) {
	t, err := p.spawner.spawn(p.config)
	if err != nil {
		return nil, err
	}
	p.running.Go(func() {
		t.live()
		p.replace(t)
	})
	return t, nil
}

// replace starts another spare for one that has ended. It waits a little, and
// the longer the more have: what is wrong is rarely over at once.
func (p *Pool) replace(t *Process) {
	p.mu.Lock()
	i := slices.Index(p.spares, t)
	if i < 0 {
		p.mu.Unlock()
		return
	}
	p.spares = slices.Delete(p.spares, i, i+1)
	delay := min(p.config.patience.respawn<<min(p.losses, 16), p.config.patience.maxRespawn)
	p.losses++
	p.mu.Unlock()
	t.frames.Close()
	p.config.Log.Warn("a spare transcoder has ended", "reason", t.crash.Reason, "next", delay)
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		p.refill()
	case <-p.closing.Done():
	}
}

// Start gives a job to a transcoder, which must be closed. The error is
// ErrNone, ErrCapacity, the context's, or says why none could be started.
func (p *Pool) Start(ctx context.Context, job pipe.Job) (*Process, error) {
	if !p.Available() {
		return nil, ErrNone
	}
	seat, err := p.admission.admit()
	if err != nil {
		return nil, err
	}
	job.MaxVideoBitRate, job.MaxAudioBitRate = p.config.MaxVideoBitRate, p.config.MaxAudioBitRate
	t, err := p.begin(ctx, job)
	if err != nil {
		seat.leave()
		return nil, err
	}
	t.sit(seat)
	return t, nil
}

// begin takes a spare that takes the job, or starts a transcoder for it.
func (p *Pool) begin(ctx context.Context, job pipe.Job) (*Process, error) {
	defer p.refill()
	for {
		t, err := p.take()
		if err != nil {
			return nil, err
		}
		if err = t.begin(ctx, job); err == nil {
			p.mu.Lock()
			p.losses = 0
			p.mu.Unlock()
			return t, nil
		}
		t.Close()
		if !t.spare || ctx.Err() != nil {
			return nil, err
		}
	}
}

func (p *Pool) take() (*Process, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errClosed
	}
	if len(p.spares) == 0 {
		return p.spawn()
	}
	t := p.spares[0]
	p.spares = p.spares[1:]
	t.spare = true
	return t, nil
}

// Close ends all transcoders and returns when they are gone.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	spares := p.spares
	p.spares = nil
	p.mu.Unlock()
	p.close()
	for _, t := range spares {
		t.Close()
	}
	p.spawner.killAll()
	p.running.Wait()
	p.spawner.close()
}
