package faults

import (
	"bufio"
	"io"
	"net"
	"slices"
)

// Fault is a way to break one requirement, or none.
type Fault struct {
	Name        string   // begins the session ids to which it applies
	Requirement string   // that it breaks; empty for a harmless variation
	Reason      string   // part of what the failed check has to say
	Also        []string // requirements that can't hold either

	// What it does, each optional. A request that gets an answer isn't passed on.
	request func(x *exchange, h *head) func(*net.TCPConn)
	upload  func(x *exchange, server io.Writer) io.Writer // of a request's body
	interim func(x *exchange, h *head) bool               // whether a 1xx goes on
	answer  func(x *exchange, r *reply)                   // any final answer; of a stream its head alone
	media   func(m *mux)                                  // a stream, written anew
	stream  func(x *exchange, in *bufio.Reader)           // a stream's bytes
	alone   func(*net.TCPConn)                            // answers when the implementation has gone
}

// All returns every fault.
func All() []*Fault {
	return slices.Concat(generalFaults, ingestFaults, watchFaults, formatFaults, reconnectFaults, apiFaults, tokenFaults, serviceFaults, processFaults, transcodingFaults)
}
