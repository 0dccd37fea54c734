package server

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"time"
)

// problem is an error as a client gets it (RFC 9457).
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`

	retry time.Duration // when it is worth another try; 0 says nothing
	allow string        // the methods that would have been right
}

func refusal(status int, detail string) *problem {
	return &problem{Title: http.StatusText(status), Status: status, Detail: detail}
}

// retryAfter is how long clients are told to wait where no better time is known.
const retryAfter = time.Second

func (p *problem) withRetry() *problem {
	p.retry = retryAfter
	return p
}

// ServeHTTP answers with the problem.
func (p *problem) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	if p.retry > 0 {
		h.Set("Retry-After", strconv.Itoa(int(p.retry.Seconds())))
	}
	if p.allow != "" {
		h.Set("Allow", p.allow)
	}
	body, err := json.Marshal(p)
	if err != nil {
		panic(err) // three plain fields
	}
	h.Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(p.Status)
	if r.Method != http.MethodHead {
		w.Write(append(body, '\n')) // the client may be gone; that is its loss alone
	}
}

// final answers a request whose body may still be under way, so that the status
// can be read (RFC 9112 §9.6): it goes out at once, what follows of the body is
// read and dropped for the time farewell, then the connection closes.
func (p *problem) final(w http.ResponseWriter, r *http.Request) {
	if r.Body == http.NoBody {
		p.ServeHTTP(w, r)
		return
	}
	if r.ProtoMajor == 1 {
		// Otherwise net/http reads on before it lets a status out, and a slow
		// publisher would learn of it too late.
		w.Header().Set("Connection", "close")
	}
	p.ServeHTTP(w, r)
	control := http.NewResponseController(w)
	control.Flush() // fails only with the connection, as do the next two
	control.SetReadDeadline(time.Now().Add(farewell))
	if r.ProtoMajor == 1 {
		// net/http would do so itself, but not for who asked for 100-continue.
		io.Copy(io.Discard, r.Body)
	}
}

// farewell is within the contract's 2 s even with net/http's own 500 ms behind it.
const farewell = 500 * time.Millisecond
