// Package suite holds the checks, one file for each chapter of SPEC.md, and what runs them.
//
// A check is a Ginkgo spec, labelled with its requirement, level and feature. Ginkgo runs specs one after the other, in
// several processes for more; but checks of live streams mostly wait. So when a run begins, its checks are started together, a
// bounded number at a time, each with sessions of its own; each spec then reports its check's result. The same checks run
// without Ginkgo where the suite itself is tested, against many faulty targets at once.
//
// What goes over the wire is left to package wire, what is sent to media, what WebM has to look like to webm.
package suite

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"tureen/conformance/spec"
)

// Check is one check of a requirement.
type Check struct {
	Requirement string
	Chapter     string
	Level       spec.Level
	Feature     string // empty: core
	Text        string // what the target does when it is right, in one line
	Limit       time.Duration
	Place       string // file and line
	Number      int    // in All, from 1

	body func(*Trial)
}

// All returns every check in the order of SPEC.md's chapters. The slice is shared: it must not be changed.
var All = sync.OnceValue(func() []*Check {
	var all []*Check
	for _, chapter := range []func(declare){general, ingest, watching, format, transcoding, reconnect, api, tokenServer, service} {
		chapter(func(requirement, text string, body func(*Trial), options ...option) {
			c := newCheck(requirement, text, body, options)
			c.Number = len(all) + 1
			all = append(all, c)
		})
	}
	return all
})

// declare adds a check to its chapter.
type declare func(requirement, text string, body func(*Trial), options ...option)

// option changes a check's declaration.
type option func(*Check)

// should makes missing the check a warning.
func should(c *Check) { c.Level = spec.Should }

// feature makes a check apply only to targets with an optional feature that its requirement as a whole doesn't need.
func feature(name string) option { return func(c *Check) { c.Feature = name } }

// limit bounds the check's time; otherwise defaultLimit does.
func limit(d time.Duration) option { return func(c *Check) { c.Limit = d } }

const defaultLimit = 25 * time.Second

func newCheck(requirement, text string, body func(*Trial), options []option) *Check {
	r, ok := spec.Find(requirement)
	if !ok {
		panic("conformance: no requirement " + requirement)
	}
	c := &Check{
		Requirement: r.ID, Chapter: r.Chapter, Level: r.Level, Feature: r.Feature, Text: text, Limit: defaultLimit, body: body,
	}
	_, file, line, _ := runtime.Caller(2)
	c.Place = fmt.Sprintf("%s:%d", file[strings.LastIndexByte(file, '/')+1:], line)
	for _, o := range options {
		o(c)
	}
	return c
}
