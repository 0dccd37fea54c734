// Package view holds the viewers: many connections that watch streams over HTTP/1.1, cheap enough to run beside the
// server that they load. A few threads wait on all sockets by epoll, find the frames in what arrives, and report each
// with the moment its last byte was read. It runs on Linux only.
//
// What the events mean, which frame of the publisher's one is and how late it came, is left to package measure.
package view

import (
	"time"

	"tureen/loadgen/webm"
)

// Type says what happened at a viewer.
type Type uint8

// The events of a viewer, in the order in which they come; there may be any number of Arrived.
const (
	Connected Type = iota // the connection stands and the request was sent
	Answered              // the response's head is complete; Status is set
	Arrived               // a frame's last byte was read
	Ended                 // the viewer is gone; Reason is set
)

// Reason says why a viewer ended.
type Reason uint8

// The reasons of an end.
const (
	Stopped    Reason = iota // by us, at the end of the run
	Unreached                // the connection was refused or failed before a response's head was complete
	Refused                  // the status wasn't 200
	Finished                 // the body ended as HTTP says it should
	Broken                   // the connection was lost in the middle of the body
	Unreadable               // the body was no HTTP or no WebM any more
)

// String returns the reason in words.
func (r Reason) String() string {
	return [...]string{"stopped", "unreached", "refused", "finished", "broken", "unreadable"}[r]
}

// Event is something that happened at a viewer.
type Event struct {
	At        time.Duration // since the pool's epoch
	Timestamp time.Duration // of a frame, as the server's stream says
	Hash      uint64        // of a frame's payload, see webm.Frame
	Viewer    int32         // the number that Join was given
	Size      int32         // payload bytes of a frame
	Status    int16         // of Answered
	Type      Type
	Reason    Reason // of Ended
	Kind      webm.Kind
	Key       bool
	Detail    *Detail // what few events have
}

// Detail is what only few events carry.
type Detail struct {
	Picture []byte // the payload of a VP8 key frame, when pictures are captured
	Err     error  // of Ended
}
