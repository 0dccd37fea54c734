package view

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Limits of what a response may hold besides its body.
const (
	maxHead      = 64 << 10
	maxChunkLine = 4 << 10 // a chunk's size with its extensions, or a line of the trailer
)

var (
	errHead      = errors.New("malformed response head")
	errHeadSize  = errors.New("response head too long")
	errChunk     = errors.New("malformed chunk")
	errChunkLine = errors.New("chunk line too long")
	errAfterEnd  = errors.New("bytes after the body's end")
)

// response is an incremental reader of one HTTP/1.x response (RFC 9112). It takes any pieces, and once past the head it
// allocates nothing.
type response struct {
	status int
	head   []byte // as far as it has come; nil when it is complete

	state  bodyState
	left   uint64 // bytes left of the chunk, or of the body
	digits int    // of the chunk's size so far
	line   int    // bytes of the chunk's line so far
}

type bodyState uint8

const (
	awaitsHead bodyState = iota
	awaitsSize
	skipsExtension
	awaitsSizeLF
	inChunk
	awaitsChunkCR
	awaitsChunkLF
	inTrailer
	inTrailerLine
	awaitsTrailerLF
	awaitsEndLF
	inFixed
	untilClose
	ended
)

// clean tells whether the connection may end here without the body being cut off.
func (r *response) clean() bool { return r.state == ended || r.state == untilClose }

// next takes p up to the end of a piece of the body or of p. It returns the piece, which may be empty, and what is left.
func (r *response) next(p []byte) (piece, rest []byte, err error) {
	for len(p) > 0 {
		switch r.state {
		case awaitsHead:
			p, err = r.readHead(p)
			if r.state != awaitsHead || err != nil {
				return nil, p, err
			}
		case inChunk, inFixed:
			n := len(p)
			if uint64(n) > r.left {
				n = int(r.left)
			}
			if r.left -= uint64(n); r.left == 0 {
				r.leave()
			}
			return p[:n], p[n:], nil
		case untilClose:
			return p, nil, nil
		case ended:
			return nil, nil, errAfterEnd
		default:
			if err := r.framing(p[0]); err != nil {
				return nil, p, err
			}
			p = p[1:]
		}
	}
	return nil, nil, nil
}

// leave ends a chunk, or a body of fixed length.
func (r *response) leave() {
	if r.state == inFixed {
		r.state = ended
		return
	}
	r.state = awaitsChunkCR
}

// framing takes one byte of what stands between the chunks' data, RFC 9112 §7.1.
func (r *response) framing(b byte) error {
	switch r.state {
	case awaitsSize, skipsExtension, awaitsSizeLF:
		return r.sizeLine(b)
	case awaitsChunkCR:
		return r.expect(b, '\r', awaitsChunkLF)
	case awaitsChunkLF:
		r.digits, r.line = 0, 0
		return r.expect(b, '\n', awaitsSize)
	case awaitsTrailerLF:
		return r.expect(b, '\n', inTrailer)
	case awaitsEndLF:
		return r.expect(b, '\n', ended)
	case inTrailer:
		r.state = inTrailerLine
		if b == '\r' {
			r.state = awaitsEndLF
		}
	case inTrailerLine:
		if b == '\r' {
			r.state = awaitsTrailerLF
		}
	}
	if r.line++; r.line > maxChunkLine {
		return errChunkLine
	}
	return nil
}

func (r *response) expect(b, want byte, next bodyState) error {
	if b != want {
		return fmt.Errorf("%w: byte %#02x instead of %#02x", errChunk, b, want)
	}
	r.state = next
	return nil
}

// sizeLine takes one byte of a chunk's first line.
func (r *response) sizeLine(b byte) error {
	if r.line++; r.line > maxChunkLine {
		return errChunkLine
	}
	if r.state == awaitsSizeLF {
		if b != '\n' || r.digits == 0 {
			return errChunk
		}
		r.line, r.state = 0, inChunk
		if r.left == 0 {
			r.state = inTrailer
		}
		return nil
	}
	if b == '\r' {
		r.state = awaitsSizeLF
		return nil
	}
	if r.state == skipsExtension {
		return nil
	}
	digit, ok := hexDigit(b)
	switch {
	case ok && r.digits < 15: // a sixteenth digit could overflow
		r.left = r.left<<4 | digit
		r.digits++
	case (b == ';' || b == ' ' || b == '\t') && r.digits > 0:
		r.state = skipsExtension
	default:
		return fmt.Errorf("%w: byte %#02x in its size", errChunk, b)
	}
	return nil
}

func hexDigit(b byte) (uint64, bool) {
	switch {
	case b >= '0' && b <= '9':
		return uint64(b - '0'), true
	case b >= 'a' && b <= 'f':
		return uint64(b-'a') + 10, true
	case b >= 'A' && b <= 'F':
		return uint64(b-'A') + 10, true
	}
	return 0, false
}

var headEnd = []byte("\r\n\r\n")

// readHead gathers the head; when it is complete it decides the body's framing. Interim answers (1xx) are passed over.
func (r *response) readHead(p []byte) (rest []byte, err error) {
	before := len(r.head)
	r.head = append(r.head, p[:min(len(p), maxHead)]...)
	at := bytes.Index(r.head[max(before-len(headEnd)+1, 0):], headEnd)
	if at < 0 {
		if len(r.head) >= maxHead {
			return nil, errHeadSize
		}
		return nil, nil
	}
	end := at + max(before-len(headEnd)+1, 0) + len(headEnd)
	rest = p[end-before:]
	head := string(r.head[:end-len(headEnd)])
	r.head = nil
	return rest, r.parseHead(head)
}

func (r *response) parseHead(head string) error {
	line, fields, _ := strings.Cut(head, "\r\n")
	version, status, _ := strings.Cut(line, " ")
	if !strings.HasPrefix(version, "HTTP/1.") {
		return fmt.Errorf("%w: begins with %q", errHead, line[:min(len(line), 40)])
	}
	code, _, _ := strings.Cut(status, " ")
	n, err := strconv.Atoi(code)
	if err != nil || n < 100 || n > 599 {
		return fmt.Errorf("%w: status %q", errHead, code)
	}
	if n < 200 && n != 101 {
		return nil
	}
	r.status = n
	return r.frameBody(fields)
}

// frameBody finds where the body ends, RFC 9112 §6.3.
func (r *response) frameBody(fields string) error {
	r.state = untilClose
	for line := range strings.SplitSeq(fields, "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch {
		case strings.EqualFold(name, "Transfer-Encoding"):
			if !strings.EqualFold(value, "chunked") {
				return fmt.Errorf("%w: transfer coding %q", errHead, value)
			}
			r.left, r.state = 0, awaitsSize
		case strings.EqualFold(name, "Content-Length") && r.state == untilClose:
			length, err := strconv.ParseUint(value, 10, 63)
			if err != nil {
				return fmt.Errorf("%w: content length %q", errHead, value)
			}
			r.left, r.state = length, inFixed
			if length == 0 {
				r.state = ended
			}
		}
	}
	return nil
}
