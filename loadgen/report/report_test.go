package report

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"tureen/loadgen/measure"
)

// good is a report in which nothing is wrong.
func good() *Report {
	r := New(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	r.Settings = Settings{Target: "http://127.0.0.1:8000", Path: "/stream/x", Input: "webm-load", Viewers: 10, Ramp: 1, Duration: 30}
	spread := measure.Spread{Count: 9000, P50: 1100, P90: 2000, P99: 3200, P999: 12_340, Max: 123_456}
	r.Noise.Before = measure.Spread{Count: 160, P50: 250, P99: 500, Max: 600}
	r.Publisher = Publisher{Frames: 2310, Bytes: 4e6, Status: 200}
	r.Viewers = measure.Viewers{Wanted: 10, Connected: 10, Watching: 10, Refused: map[int16]int{}}
	r.Tracks = map[string]*measure.Track{
		"video": {Mode: measure.Passthrough, Expected: 9000, Received: 9100, Latency: spread},
		"audio": {Mode: measure.Passthrough, Expected: 14_000, Received: 14_100, Latency: spread},
	}
	r.Length = 31
	server := Span(30*time.Second, 2*time.Second, time.Second, 10)
	server.Before, server.Peak = 10<<20, 12<<20
	server.Share(10)
	r.Server, r.Generator = &server, &server
	return r
}

func TestVerdict(t *testing.T) {
	tests := []struct {
		name   string
		edit   func(r *Report)
		exit   int
		reason string
	}{
		{"holds", func(*Report) {}, Holds, ""},
		{"lost", func(r *Report) { r.Tracks["audio"].Lost = 1 }, FallsShort, "1 of 14000 audio frames lost"},
		{"few lost by a transcoder", func(r *Report) { r.Tracks["video"].Mode, r.Tracks["video"].Lost = measure.Transcoded, 450 }, Holds, ""},
		{"many lost by a transcoder", func(r *Report) { r.Tracks["video"].Mode, r.Tracks["video"].Lost = measure.Transcoded, 451 }, FallsShort, "451 of 9000 video frames lost"},
		{"duplicated", func(r *Report) { r.Tracks["video"].Duplicated = 2 }, FallsShort, "2 video frames came twice"},
		{"disordered", func(r *Report) { r.Tracks["video"].Disordered = 2 }, FallsShort, "2 video frames came out of order"},
		{"unmatched", func(r *Report) { r.Tracks["video"].Unmatched = 2 }, FallsShort, "2 video frames match none of the publisher's"},
		{"altered", func(r *Report) { r.Tracks["video"].Altered = 2 }, FallsShort, "2 video frames were altered"},
		{"refused", func(r *Report) { r.Viewers.Refused[503] = 3 }, FallsShort, "3 viewers refused with 503"},
		{"unreached", func(r *Report) { r.Viewers.Unreached = 3 }, FallsShort, "3 viewers failed to connect"},
		{"unanswered", func(r *Report) { r.Viewers.Unanswered = 3 }, FallsShort, "3 viewers got no answer"},
		{"silent", func(r *Report) { r.Viewers.Silent = 3 }, FallsShort, "3 viewers got no frame to begin with"},
		{"finished", func(r *Report) { r.Viewers.Finished = 3 }, FallsShort, "3 viewers' bodies ended before the stream did"},
		{"broken", func(r *Report) { r.Viewers.Broken = 3 }, FallsShort, "3 viewers' bodies broke off"},
		{"unreadable", func(r *Report) { r.Viewers.Unreadable = 3 }, FallsShort, "3 viewers' bodies were unreadable"},
		{"jumps", func(r *Report) { r.Discontinuities = 1 }, FallsShort, "timestamps and pictures part 1 times"},
		{"publisher", func(r *Report) { r.Publisher.Error = "reset" }, FallsShort, "publishing broke: reset"},
		{"noise", func(r *Report) { r.Noise.Before.P99 = 25_001; r.Tracks["video"].Lost = 1 }, NoVerdict, "machine too busy: noise floor 25.001ms at p99, above 25ms"},
		{"as much noise as may be", func(r *Report) { r.Noise.Before.P99 = 25_000 }, Holds, ""},
		{"lag", func(r *Report) { r.Publisher.Lag.P99 = 30_000 }, NoVerdict, "machine too busy: the publisher wrote 30ms late at p99, above 25ms"},
		{"interrupted", func(r *Report) { r.Cut = true }, NoVerdict, "interrupted"},
		{"nothing measured", func(r *Report) { r.Tracks = nil }, NoVerdict, "nothing measured: no frame was due while a viewer watched"},
		{"all refused", func(r *Report) { r.Tracks = nil; r.Viewers.Refused[503] = 10 }, FallsShort, "10 viewers refused with 503"},
		{"no stamps", func(r *Report) { r.Tracks = nil; r.Unidentified = 3 }, NoVerdict, "nothing measured: no frame that arrived"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := good()
			test.edit(r)
			r.Judge(MaxNoise, nil)
			found := test.reason == "" && len(r.Verdict.Reasons) == 0 ||
				test.reason != "" && slices.ContainsFunc(r.Verdict.Reasons, func(s string) bool { return strings.HasPrefix(s, test.reason) })
			if r.Verdict.Exit != test.exit || !found {
				t.Errorf("verdict %+v, want exit code %d and %q", r.Verdict, test.exit, test.reason)
			}
		})
	}
}

func TestTable(t *testing.T) {
	r := good()
	r.Viewers.Refused[503] = 2
	r.Viewers.FirstError = "status 503"
	r.Warn("something is %s", "odd")
	r.Judge(MaxNoise, nil)
	var b strings.Builder
	if err := r.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"http://127.0.0.1:8000/stream/x, webm-load, 10 viewers, 31.0 s measured",
		"latency video          1.10  2.00  3.20  12.3   123   9000",
		"video   passthrough  9000      0",
		"10 of 10 watching, 2 refused with 503",
		"first error: status 503",
		"server          2.00    1.00      10.0         10000        10.0 MiB    12.0 MiB  204.8 KiB",
		"warning: something is odd",
		"verdict: falls short (exit code 1)\n  - 2 viewers refused with 503",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	for line := range strings.Lines(b.String()) {
		if strings.HasSuffix(line, " \n") {
			t.Errorf("spaces at the end of %q", line)
		}
	}
}

// Readers of the JSON rely on these names.
func TestJSON(t *testing.T) {
	r := good()
	r.Judge(MaxNoise, nil)
	var b strings.Builder
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal([]byte(b.String()), &doc); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]any{
		"schema":                          "tureen-loadgen/2",
		"settings.viewers":                10.0,
		"verdict.exit":                    0.0,
		"tracks.video.latency.p99_us":     3200.0,
		"tracks.audio.lost":               0.0,
		"noise_floor.before.p50_us":       250.0,
		"join.key_frame.count":            0.0,
		"viewers.watching":                10.0,
		"server.cpu_us_per_viewer_second": 10_000.0,
		"server.rss_bytes_per_viewer":     float64(2 << 20 / 10),
		"generator.cpu_percent":           10.0,
		"publisher.status":                200.0,
	} {
		var at any = doc
		for name := range strings.SplitSeq(path, ".") {
			fields, _ := at.(map[string]any)
			at = fields[name]
		}
		if at != want {
			t.Errorf("%s is %v, want %v", path, at, want)
		}
	}
}
