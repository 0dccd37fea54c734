package server

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tureen/impl/ingest"
	"tureen/impl/live"
	"tureen/impl/tokens"
	"tureen/impl/transcode"
)

// described are the operations of a path in the description that the API serves:
// by method, the statuses that they may have.
func described(t *testing.T, p *proxy, path string) map[string][]string {
	t.Helper()
	var d struct {
		Paths map[string]map[string]struct {
			Responses map[string]any `json:"responses"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(p.call(t, "GET", "openapi.json", 200), &d); err != nil {
		t.Fatal(err)
	}
	operations := map[string][]string{}
	for method, operation := range d.Paths[path] {
		operations[strings.ToUpper(method)] = slices.Sorted(maps.Keys(operation.Responses))
	}
	return operations
}

// TestDescribedMethods: the paths beside the API's are described with the methods
// that they have. HEAD goes with GET.
func TestDescribedMethods(t *testing.T) {
	p := start(t)
	for path, methods := range map[string]string{"/stream/{id}": streamMethods, "/stream/{id}/sdp": sdpMethods, "/healthz": "GET, HEAD"} {
		want := slices.DeleteFunc(strings.Split(methods, ", "), func(m string) bool { return m == "HEAD" })
		slices.Sort(want)
		if got := slices.Sorted(maps.Keys(described(t, p, path))); !slices.Equal(got, want) {
			t.Errorf("%s is described for %q, and has %q", path, got, want)
		}
	}
}

// TestDescribedEnds: a publisher's description has each status with which it may
// end or be refused, and no other.
func TestDescribedEnds(t *testing.T) {
	want := map[string]bool{"200": true, "405": true}
	for _, err := range []error{
		live.ErrTaken, live.ErrClosed, live.ErrAborted, tokens.ErrRevoked, errSettling, errCrowded, errGap, errFull, errIdle, errSilent, errRange,
		ingest.ErrEmpty, ingest.ErrUnsupported, ingest.ErrTranscoder, ingest.ErrMalformed, ingest.ErrBroken, transcode.ErrCapacity,
		&ingest.Fault{}, errors.New("another"),
	} {
		want[strconv.Itoa(endProblem(err).Status)] = true
	}
	for _, err := range []error{tokens.ErrForbidden, tokens.ErrKey} {
		want[strconv.Itoa(deny(err, &http.Request{}).Status)] = true
	}
	p := start(t)
	for _, method := range []string{"PUT", "POST"} {
		if got := described(t, p, "/stream/{id}")[method]; !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
			t.Errorf("%s is described with %q, and ends with %q", method, got, slices.Sorted(maps.Keys(want)))
		}
	}
}

// TestFeatures: what is stated depends on the configuration (API-9).
func TestFeatures(t *testing.T) {
	for name, test := range map[string]struct {
		config Config
		has    bool
	}{
		"resume":       {Config{Grace: 1}, true},
		"no resume":    {Config{}, false},
		"transcode":    {Config{Transcoders: transcode.NewPool(transcode.Config{Command: []string{"true"}})}, true},
		"no transcode": {Config{Transcoders: transcode.NewPool(transcode.Config{})}, false},
		"rtp-udp":      {Config{}, true},
	} {
		feature := strings.TrimPrefix(name, "no ")
		if has := slices.Contains(features(test.config), feature); has != test.has {
			t.Errorf("%s is stated: %t", feature, has)
		}
	}
}
