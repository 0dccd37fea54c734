// Package target holds what is being judged: an implementation that runs somewhere, or one that the suite starts as a process
// and stops again; its address, its times and its features.
//
// Speaking to it is left to package wire.
package target

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"tureen/conformance/spec"
)

// Times are the target's times, which checks have to wait for.
type Times struct {
	Idle   time.Duration `json:"idle"`
	Grace  time.Duration `json:"grace"`
	Budget time.Duration `json:"budget"`
	Drain  time.Duration `json:"drain"`
}

// DefaultTimes are SPEC.md's.
var DefaultTimes = Times{Idle: 10 * time.Second, Grace: 10 * time.Second, Budget: 3 * time.Second, Drain: 5 * time.Second}

// ParseTimes reads "idle=2s,grace=1s": what it doesn't name stays.
func (t Times) ParseTimes(text string) (Times, error) {
	for _, pair := range strings.Split(text, ",") {
		name, value, _ := strings.Cut(pair, "=")
		d, err := time.ParseDuration(value)
		if err != nil || d <= 0 {
			return t, fmt.Errorf("%q isn't of the form idle=2s, with a time above 0", pair)
		}
		field := t.field(name)
		if field == nil {
			return t, fmt.Errorf("there is no time %q: they are idle, grace, budget, drain", name)
		}
		*field = d
	}
	return t, nil
}

func (t *Times) field(name string) *time.Duration {
	switch name {
	case "idle":
		return &t.Idle
	case "grace":
		return &t.Grace
	case "budget":
		return &t.Budget
	case "drain":
		return &t.Drain
	}
	return nil
}

// Features is what an implementation says it has. Known is false where it says nothing.
type Features struct {
	Known bool     `json:"known"`
	Names []string `json:"names"`
}

// Has reports whether a feature is declared.
func (f Features) Has(name string) bool { return slices.Contains(f.Names, name) }

// ParseFeatures reads "pacing,wait"; "none" declares that there are none, "all" every one.
func ParseFeatures(text string) (Features, error) {
	switch text {
	case "none":
		return Features{Known: true}, nil
	case "all":
		return Features{Known: true, Names: spec.Features}, nil
	}
	f := Features{Known: true}
	for _, name := range strings.Split(text, ",") {
		if !slices.Contains(spec.Features, name) {
			return f, fmt.Errorf("there is no feature %q: they are %s", name, strings.Join(spec.Features, ", "))
		}
		f.Names = append(f.Names, name)
	}
	return f, nil
}

// Target is an implementation that answers.
type Target struct {
	Base     *url.URL // of the open configuration
	Times    Times
	Features Features
	Name     string // as reports name it
	Version  string // what it says of itself; empty where it says nothing

	// Token is the address of the configuration with a token server; nil where there is none.
	Token *url.URL

	Process      *Process // nil for one that somebody else runs
	TokenProcess *Process // likewise of Token
	// Start starts another instance of the same kind, which is the caller's; nil where nobody can.
	Start func(context.Context) (*Process, error)
	// StartSmall starts one that takes a single publisher and two viewers; nil where nobody said how.
	StartSmall func(context.Context) (*Process, error)
}

// ParseURL reads a target's address: a scheme and a host, no path.
func ParseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the target's URL: %w", err)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, fmt.Errorf("the target's URL %q isn't of the form http://host:port", text)
	case u.Path != "" && u.Path != "/" || u.RawQuery != "":
		return nil, fmt.Errorf("the target's URL %q has a path: streams are at /stream/, the API at /api/", text)
	}
	u.Path = ""
	return u, nil
}

// ErrDead is wrapped when nothing answers at a target's address.
var ErrDead = errors.New("the target doesn't answer")

// Alive asks the target for a session that isn't there. Any answer will do.
func (t *Target) Alive(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodHead, t.Base.String()+"/stream/tureen-conformance.alive", nil)
	if err != nil {
		return fmt.Errorf("asking the target: %w", err)
	}
	answer, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDead, err)
	}
	answer.Body.Close()
	return nil
}

// client keeps no connection: what it leaves open would count at the target.
var client = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// description is what API-9 tells.
type description struct {
	Info struct {
		Title    string             `json:"title"`
		Version  string             `json:"version"`
		Features []string           `json:"x-features"`
		Times    map[string]float64 `json:"x-times"`
	} `json:"info"`
}

// Describe asks the target for what API-9 tells, and takes over what it says. A target that says nothing keeps the defaults.
func (t *Target) Describe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, t.Base.String()+"/api/openapi.json", nil)
	if err != nil {
		return fmt.Errorf("asking the target for its description: %w", err)
	}
	answer, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDead, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil
	}
	var d description
	if err := json.NewDecoder(io.LimitReader(answer.Body, 1<<20)).Decode(&d); err != nil {
		return nil // what is wrong with it is API-9's check to say
	}
	t.Version = strings.TrimSpace(d.Info.Title + " " + d.Info.Version)
	if d.Info.Features != nil {
		t.Features = Features{Known: true, Names: d.Info.Features}
	}
	for name, seconds := range d.Info.Times {
		if field := t.Times.field(name); field != nil && seconds > 0 {
			*field = time.Duration(seconds * float64(time.Second))
		}
	}
	return nil
}
