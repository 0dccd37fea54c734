package trial

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"tureen/loadgen/measure"
	"tureen/loadgen/publish"
	"tureen/loadgen/report"
)

// outcome is how publishing ended.
type outcome struct {
	answer publish.Answer
	err    error
	early  bool // before it was told to
}

// publishers sends one source to several streams.
type publishers struct {
	each []*publish.Publisher
	ends []outcome
	done sync.WaitGroup
}

// dialAll connects a publisher for each stream.
func (t *trial) dialAll(ctx context.Context, streams []*stream) (*publishers, error) {
	p := &publishers{each: make([]*publish.Publisher, len(streams)), ends: make([]outcome, len(streams))}
	errs := make([]error, len(streams))
	var dialing sync.WaitGroup
	for i, s := range streams {
		dialing.Go(func() { p.each[i], errs[i] = publish.Dial(ctx, t.cfg.publisher(s.path)) })
	}
	dialing.Wait()
	if err := cmp.Or(errs...); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// publisher returns how to publish to a stream.
func (c *Config) publisher(path string) publish.Config {
	if c.Ingest != nil {
		out := *c.Ingest
		out.Source = c.Source
		return out
	}
	out := c.Target.Publisher(c.Source)
	out.Path = path
	return out
}

// run has all publishers send until the context ends; ended is called when the first one has.
func (p *publishers) run(ctx context.Context, epoch time.Time, streams []*stream, ended func()) {
	for i, s := range streams {
		p.done.Go(func() {
			defer ended()
			end := &p.ends[i]
			end.answer, end.err = p.each[i].Run(ctx, epoch.Add(s.start))
			end.early = ctx.Err() == nil
		})
	}
}

func (p *publishers) close() {
	for _, publisher := range p.each {
		if publisher != nil {
			_ = publisher.Close()
		}
	}
}

// err returns the first publisher's error.
func (p *publishers) err() error {
	for _, end := range p.ends {
		if end.err != nil {
			return end.err
		}
	}
	return nil
}

// reportPublishers reports what became of the publishers, together and each. A target that answers nothing at the end has
// still carried the stream.
func (t *trial) reportPublishers(p *publishers, streams []*stream) {
	lag, stall := publish.NewHistogram(), publish.NewHistogram()
	sum := &t.report.Publisher
	for i, s := range streams {
		stats := p.each[i].Stats()
		lag.Merge(stats.Lag)
		stall.Merge(stats.Stall)
		one := t.outcome(p.ends[i])
		one.Frames, one.Bytes = stats.Frames, stats.Bytes
		one.Lag, one.Stall = measure.SpreadOf(stats.Lag), measure.SpreadOf(stats.Stall)
		sum.Frames += one.Frames
		sum.Bytes += one.Bytes
		sum.Status = max(sum.Status, one.Status)
		sum.Error = cmp.Or(sum.Error, one.Error)
		t.report.Streams = append(t.report.Streams, report.Stream{Path: s.path, Viewers: len(s.viewers), Publisher: one})
	}
	sum.Lag, sum.Stall = measure.SpreadOf(lag), measure.SpreadOf(stall)
}

func (t *trial) outcome(end outcome) report.Publisher {
	p := report.Publisher{Status: end.answer.Status}
	var refused *publish.RefusedError
	switch {
	case end.err == nil:
	case end.early, errors.As(end.err, &refused):
		p.Error = end.err.Error()
	default:
		t.report.Warn("the publisher's end: %v", end.err)
	}
	return p
}

// neverBegan explains why no viewer joined.
func (t *trial) neverBegan(ctx context.Context, p *publishers) error {
	if ctx.Err() != nil {
		return nil
	}
	if err := p.err(); err != nil {
		return fmt.Errorf("%w: %w", ErrNoRun, err)
	}
	return fmt.Errorf("%w: %s is over before viewers join", ErrNoRun, t.cfg.Source.Name)
}

// awaitLive waits until the streams answer with 200, where they come by another way than the one they are published by.
func (t *trial) awaitLive(ctx context.Context, streams []*stream) error {
	if t.cfg.Ingest == nil {
		return nil
	}
	waiting, cancel := context.WithTimeout(ctx, liveTimeout)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: t.cfg.Target.TLS, DisableKeepAlives: true}}
	for _, s := range streams {
		url := t.cfg.Target.Base() + s.path
		for last := "no answer"; !answers(waiting, client, url, &last); sleep(waiting, probeInterval) {
			if waiting.Err() != nil {
				return fmt.Errorf("%w: %s isn't live %v after it was published: %s", ErrNoRun, url, liveTimeout, last)
			}
		}
	}
	return nil
}

// answers tells whether a GET gets 200, and leaves what it got instead.
func answers(ctx context.Context, client *http.Client, url string, last *string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		*last = err.Error()
		return false
	}
	response, err := client.Do(request)
	if err != nil {
		if ctx.Err() == nil {
			*last = err.Error()
		}
		return false
	}
	_ = response.Body.Close()
	*last = response.Status
	return response.StatusCode == http.StatusOK
}
