// Package report holds what a run has found: its figures in a versioned form for machines, a table for people, and the
// verdict on them.
package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"tureen/loadgen/measure"
)

// Schema names the form of a report. A change that breaks readers raises its number.
const Schema = "tureen-loadgen/2"

// Report is all that a run has found. Durations in JSON have their unit in their name.
type Report struct {
	Schema    string    `json:"schema"`
	Started   time.Time `json:"started"`
	Settings  Settings  `json:"settings"`
	Verdict   Verdict   `json:"verdict"`
	Noise     Noise     `json:"noise_floor"`
	Publisher Publisher `json:"publisher"` // of several the sum, the highest status, the first error
	Streams   []Stream  `json:"streams"`

	measure.Result

	Timeline []measure.Point `json:"timeline"`
	Heat     *measure.Heat   `json:"heat"`

	BytesRead int64    `json:"bytes_read"`  // by the viewers, HTTP included
	Length    float64  `json:"measured_s"`  // from the first viewer's join to the end of what counts
	Server    *Process `json:"server"`      // null when its processes aren't known
	Generator *Process `json:"generator"`   // this process, publisher and viewers together
	Warnings  []string `json:"warnings"`    // what makes figures less sure, or why some are missing
	Cut       bool     `json:"interrupted"` // the run was ended before its time
}

// Settings is what was asked for.
type Settings struct {
	Target   string  `json:"target"`
	Path     string  `json:"path"`
	Input    string  `json:"input"`
	Looped   bool    `json:"looped"`
	Viewers  int     `json:"viewers"`
	Slow     int     `json:"slow_viewers"` // that joined half way
	Ramp     float64 `json:"ramp_s"`
	Duration float64 `json:"duration_s"`
	Threads  int     `json:"reader_threads"`

	Publishers int     `json:"publishers"`
	Churn      float64 `json:"churn_s"` // mean time that viewers stay; 0: to the end
	Seed       uint64  `json:"seed"`
	Late       int64   `json:"late_us"`    // the latency above which a frame is late
	Protocol   string  `json:"protocol"`   // of the viewers
	Measurable string  `json:"measurable"` // what of this input is measured, and by what
}

// Stream is one of the streams of a run.
type Stream struct {
	Path      string         `json:"path"`
	Viewers   int            `json:"viewers"` // or visits of those that come and go
	Latency   measure.Spread `json:"latency"` // of all tracks
	Lost      int64          `json:"lost"`
	Publisher Publisher      `json:"publisher"`
}

// ShareStreams sets each stream's latency and losses; the groups of viewers are in the streams' order.
func (r *Report) ShareStreams(groups []*measure.Group) {
	for i := range min(len(groups), len(r.Streams)) {
		s := &r.Streams[i]
		s.Latency = groups[i].Latencies()
		for _, t := range groups[i].Result().Tracks {
			s.Lost += t.Lost
		}
	}
}

// Noise is what the generator measures of itself over a loop-back pipe, with the threads that the target's viewers are
// read by.
type Noise struct {
	Before measure.Spread `json:"before"` // before the run, which decides whether the machine can measure
	During measure.Spread `json:"during"` // during the run, the target's load on a shared machine included
}

// Publisher is what became of the publisher.
type Publisher struct {
	Frames int64          `json:"frames"`
	Bytes  int64          `json:"bytes"`
	Lag    measure.Spread `json:"lag"`    // how late writes began by the generator's own fault
	Stall  measure.Spread `json:"stall"`  // how long writes took, by the target's back-pressure
	Status int            `json:"status"` // the final answer's, 0 without one
	Error  string         `json:"error,omitempty"`
}

// Process is what processes used while all viewers had joined.
type Process struct {
	PIDs      []int32 `json:"pids,omitempty"`
	Processes int     `json:"processes"` // children included
	Seconds   float64 `json:"window_s"`
	User      float64 `json:"user_s"`
	System    float64 `json:"system_s"`
	Core      float64 `json:"cpu_percent"`              // of one core
	PerViewer float64 `json:"cpu_us_per_viewer_second"` // µs of CPU for each viewer and second
	Before    uint64  `json:"rss_before_bytes"`         // resident memory with a publisher and no viewers
	Peak      uint64  `json:"rss_peak_bytes"`           // the most that was seen with viewers
	PerMember int64   `json:"rss_bytes_per_viewer"`     // the difference, for each viewer
}

// Span returns what processes used within a time.
func Span(window, user, system time.Duration, viewers int) Process {
	p := Process{Seconds: window.Seconds(), User: user.Seconds(), System: system.Seconds()}
	if window <= 0 {
		return p
	}
	p.Core = 100 * (user + system).Seconds() / window.Seconds()
	if viewers > 0 {
		p.PerViewer = float64((user + system).Microseconds()) / float64(viewers) / window.Seconds()
	}
	return p
}

// Share sets each viewer's share of the memory.
func (p *Process) Share(viewers int) {
	if viewers > 0 && p.Peak > p.Before {
		p.PerMember = int64(p.Peak-p.Before) / int64(viewers)
	}
}

// New returns an empty report.
func New(started time.Time) *Report {
	return &Report{Schema: Schema, Started: started, Warnings: []string{}}
}

// Warn adds a warning.
func (r *Report) Warn(format string, args ...any) {
	r.Warnings = append(r.Warnings, fmt.Sprintf(format, args...))
}

// ErrReport is wrapped by the errors of files that are no report of this version.
var ErrReport = errors.New("no report")

// Read reads a report from its JSON.
func Read(data []byte) (*Report, error) {
	var r Report
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReport, err)
	}
	if r.Schema != Schema {
		return nil, fmt.Errorf("%w: its schema is %q, this program reads %s", ErrReport, r.Schema, Schema)
	}
	return &r, nil
}

// WriteJSON writes the report as one JSON document.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("writing report: %w", err)
	}
	return nil
}
