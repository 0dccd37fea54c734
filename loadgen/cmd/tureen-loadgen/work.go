package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"tureen/loadgen/measure"
	"tureen/loadgen/publish"
	"tureen/loadgen/report"
	"tureen/loadgen/trial"
)

// work is the flags that say what to do to a target, whichever command does it.
type work struct {
	Input      string        `default:"webm-load" placeholder:"NAME|FILE" help:"Fixture, or WebM or Matroska file, to publish (${default}). What can be looped plays without a seam; the rest is sent once. 'list' shows the fixtures, and what is measured of each."`
	Publishers int           `default:"1" help:"Streams at once, each with its share of the viewers."`
	Viewers    int           `default:"100" help:"Number of viewers."`
	Ramp       time.Duration `default:"1s" help:"Time over which the viewers join; 0 lets all join at once. The schedule doesn't wait for their answers."`
	Churn      time.Duration `default:"0" placeholder:"MEAN" help:"Have viewers come and go: each stays for half to one and a half of this time, and is away for up to half of it."`
	Seed       uint64        `default:"1" help:"Seed of what is random in --churn; the same seed gives the same visits."`
	Slow       int           `default:"0" help:"Number of slow viewers that join beside them half way: they never read, read 1 KB/s, half-close, or vanish and come again. Latencies are then also reported without and beside them."`
	Duration   time.Duration `default:"30s" help:"Time to measure after the last viewer is to join."`

	HTTP2 bool `name:"http2" help:"Viewers speak HTTP/2; without TLS by prior knowledge. The publisher speaks HTTP/1.1."`
	trusting
	Late time.Duration `default:"250ms" help:"Latency above which a frame counts as late."`
	SLO  string        `name:"slo" placeholder:"CONDITIONS" help:"What must hold, such as 'p99<75ms,lost==0,join_p99<20ms'. What it names is judged by it; everything else must be faultless, as without it. 'metrics' lists the metrics."`

	MaxNoise    time.Duration `default:"25ms" help:"Noise floor at p99, before the run, above which there is no verdict. Higher ones are for trying things out on a busy machine."`
	Calibration time.Duration `default:"2s" help:"Time to measure the noise floor before."`
	Threads     int           `default:"0" help:"Threads that read the viewers' sockets; 0 chooses by the machine's cores."`
}

// Validate refuses what makes no run.
func (w *work) Validate() error {
	switch {
	case w.Viewers < 1:
		return errors.New("--viewers: at least 1")
	case w.Publishers < 1:
		return errors.New("--publishers: at least 1")
	case w.Slow < 0:
		return errors.New("--slow: not below 0")
	case w.Duration <= 0:
		return errors.New("--duration: more than 0")
	case w.Ramp < 0:
		return errors.New("--ramp: not below 0")
	case w.Churn != 0 && w.Churn < 2*measure.Farewell:
		return fmt.Errorf("--churn: at least %v", 2*measure.Farewell)
	case w.MaxNoise <= 0:
		return errors.New("--max-noise: more than 0")
	case w.Late <= 0:
		return errors.New("--late: more than 0")
	case w.Calibration < 0:
		return errors.New("--calibration: not below 0")
	case w.Threads < 0:
		return errors.New("--threads: not below 0")
	}
	if err := w.trusting.Validate(); err != nil || w.SLO == "" {
		return err
	}
	if _, err := report.ParseSLO(w.SLO); err != nil {
		return fmt.Errorf("--slo: %w", err)
	}
	return nil
}

// place is where the work is done.
type place struct {
	target    string
	session   string
	publishTo string
	pids      []int32
}

// noiseInput calibrates where the input itself can't go through the loop-back pipe unread.
const noiseInput = "webm-load"

// config makes a trial of the work at a place.
func (w *work) config(ctx context.Context, at place) (trial.Config, error) {
	cfg := trial.Config{
		Publishers: w.Publishers, Viewers: w.Viewers, Ramp: w.Ramp, Churn: w.Churn, Seed: w.Seed, Slow: w.Slow, Duration: w.Duration,
		HTTP2: w.HTTP2, Late: w.Late, Calibration: w.Calibration, MaxNoise: w.MaxNoise, Threads: w.Threads, PIDs: at.pids,
	}
	var err error
	if cfg.Target, err = trial.ParseTarget(ctx, at.target, at.session); err != nil {
		return cfg, err
	}
	if err := w.trust(cfg.Target.TLS); err != nil {
		return cfg, err
	}
	if at.publishTo != "" {
		if cfg.Ingest, err = trial.ParseIngest(ctx, at.publishTo); err != nil {
			return cfg, err
		}
		if err := w.trust(cfg.Ingest.TLS); err != nil {
			return cfg, err
		}
	}
	if w.SLO != "" {
		if cfg.SLO, err = report.ParseSLO(w.SLO); err != nil {
			return cfg, err
		}
	}
	if cfg.Source, err = publish.Open(w.Input); err != nil {
		return cfg, err
	}
	if cfg.Noise = cfg.Source; !cfg.Source.Traceable() {
		if cfg.Noise, err = publish.Open(noiseInput); err != nil {
			return cfg, fmt.Errorf("opening the input for calibration: %w", err)
		}
	}
	return cfg, nil
}

// trusting is the flags that say whose certificates are believed.
type trusting struct {
	Insecure bool   `help:"Trust any certificate of an https target."`
	CA       string `name:"ca" type:"path" placeholder:"FILE" help:"Trust the certificate authorities in this PEM file, and no others."`
}

// Validate refuses two answers to one question.
func (w *trusting) Validate() error {
	if w.Insecure && w.CA != "" {
		return errors.New("--insecure and --ca: one or the other")
	}
	return nil
}

// trust sets whose certificates are believed; without TLS there is none to set.
func (w *trusting) trust(config *tls.Config) error {
	if config == nil {
		return nil
	}
	config.InsecureSkipVerify = w.Insecure
	if w.CA == "" {
		return nil
	}
	pem, err := os.ReadFile(w.CA)
	if err != nil {
		return fmt.Errorf("reading --ca: %w", err)
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return fmt.Errorf("reading --ca: no certificate in %s", w.CA)
	}
	return nil
}

// measureAt does the work at a place once.
func measureAt(a *app, w *work, at place, show trial.Progress) (*report.Report, error) {
	cfg, err := w.config(a.ctx, at)
	if err != nil {
		return nil, err
	}
	cfg.Progress = show
	r, err := trial.Run(a.ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("measuring %s: %w", at.target, err)
	}
	return r, nil
}
