package faults

import (
	"net"
	"strings"
)

// always answers every such request in the implementation's stead.
func always(when func(x *exchange, h *head) bool, status int, fields ...string) func(*exchange, *head) func(*net.TCPConn) {
	return func(x *exchange, h *head) func(*net.TCPConn) {
		if when(x, h) {
			return refuse(status, fields...)
		}
		return nil
	}
}

// status replaces a status by another, where a condition holds.
func status(from, to int, when func(x *exchange) bool) func(*exchange, *reply) {
	return func(x *exchange, r *reply) {
		if r.head.status() == from && when(x) {
			r.head.setStatus(to)
		}
	}
}

// every holds for each request.
func every(*exchange) bool { return true }

// asked holds for requests by these methods.
func asked(methods ...string) func(*exchange) bool {
	return func(x *exchange) bool {
		return strings.Contains(" "+strings.Join(methods, " ")+" ", " "+x.head.method()+" ")
	}
}

// header changes a field of answers with a status; 0: of all.
func header(code int, name, value string, when func(x *exchange) bool) func(*exchange, *reply) {
	return func(x *exchange, r *reply) {
		if (code == 0 || r.head.status() == code) && when(x) {
			r.head.set(name, value)
		}
	}
}

var generalFaults = []*Fault{
	{
		Name: "gen-1-colon", Requirement: "GEN-1", Reason: "the status of GET",
		request: always(func(_ *exchange, h *head) bool { return strings.Contains(h.path(), ":") && h.method() == "GET" }, 404),
	},
	{
		Name: "gen-1-long", Requirement: "GEN-1", Reason: "Expected\n    <int>: 404",
		request: always(func(_ *exchange, h *head) bool { return strings.HasSuffix(h.path(), "-----") && len(h.path()) == 8+129 }, 404),
	},
	{
		Name: "gen-1-head", Requirement: "GEN-1", Reason: "the status of HEAD",
		answer: status(400, 404, asked("HEAD")),
	},
	{
		Name: "gen-1-short", Requirement: "GEN-1", Reason: "where nothing is published",
		request: always(func(_ *exchange, h *head) bool { return len(h.path()) == 8+128 }, 400),
	},
	{
		Name: "gen-1-encoded", Requirement: "GEN-1", Reason: "the status of GET /stream/%",
		request: always(func(_ *exchange, h *head) bool {
			return h.method() == "GET" && strings.HasPrefix(h.path(), "/stream/%67")
		}, 404),
	},
	{
		Name: "gen-2-range", Requirement: "GEN-2", Reason: "a conflict goes before a malformed Content-Range",
		request: always(func(_ *exchange, h *head) bool { return h.get("Content-Range") == "nonsense" }, 400),
	},
	{
		Name: "gen-2-empty", Requirement: "GEN-2", Reason: "a conflict goes before an empty body",
		request: always(func(_ *exchange, h *head) bool {
			return h.get("Content-Length") == "0" && h.get("Content-Range") == "" && !strings.Contains(h.path(), "%")
		}, 400),
	},
	{
		Name: "gen-2-method", Requirement: "GEN-2", Reason: "a wrong method goes before a malformed id",
		request: always(func(_ *exchange, h *head) bool { return h.method() == "DELETE" && strings.Contains(h.path(), "%") }, 400),
	},
	{
		Name: "gen-3-slash", Requirement: "GEN-3", Reason: "was answered with 301",
		request: always(func(_ *exchange, h *head) bool { return strings.HasSuffix(h.path(), "/") && len(h.path()) > 8 }, 301, "Location: /stream/x"),
	},
	{
		Name: "gen-3-dots", Requirement: "GEN-3", Reason: "was answered with 308",
		request: always(func(_ *exchange, h *head) bool { return strings.Contains(h.path(), "/../") && h.method() == "HEAD" }, 308, "Location: /stream/x"),
	},
}
