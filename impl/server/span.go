package server

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// span is what a request's Content-Range says of its place in a publisher's
// body (RFC 9110 §14.4, §14.5).
type span struct {
	begin, end int64 // in bytes; end is that of the byte after the last
	last       bool  // the body ends with it
}

// errRange is a Content-Range that can't be read.
var errRange = errors.New("a malformed Content-Range")

// contentRange reads a publisher's Content-Range; nil without one.
func contentRange(r *http.Request) (*span, error) {
	values := r.Header.Values("Content-Range")
	if len(values) == 0 {
		return nil, nil
	}
	s, ok := parseSpan(values[0])
	if len(values) > 1 || !ok {
		return nil, fmt.Errorf("%w: a part says \"bytes FIRST-LAST/*\", and the last one its total instead of *", errRange)
	}
	if r.ContentLength != s.end-s.begin {
		return nil, fmt.Errorf("%w: it speaks of %d bytes, and Content-Length doesn't", errRange, s.end-s.begin)
	}
	return &s, nil
}

// parseSpan reads "bytes FIRST-LAST/TOTAL" with a * for an unknown total.
func parseSpan(value string) (s span, ok bool) {
	unit, value, _ := strings.Cut(value, " ")
	positions, total, ok1 := strings.Cut(value, "/")
	first, last, ok2 := strings.Cut(positions, "-")
	begin, ok3 := position(first)
	end, ok4 := position(last)
	if !strings.EqualFold(unit, "bytes") || !ok1 || !ok2 || !ok3 || !ok4 || end < begin {
		return span{}, false
	}
	s = span{begin: begin, end: end + 1}
	if total == "*" {
		return s, true
	}
	n, ok := position(total)
	s.last = n == s.end
	return s, ok && n >= s.end
}

// maxPosition leaves room for sums; it is past any body's end.
const maxPosition = 1 << 60

// position is a count of bytes: digits and nothing else.
func position(s string) (int64, bool) {
	n, err := strconv.ParseUint(s, 10, 64)
	return int64(n), err == nil && n < maxPosition
}
