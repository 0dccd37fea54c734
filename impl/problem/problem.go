// Package problem is how the proxy tells clients what went wrong (RFC 9457), so
// that it can be read even where the request's body is still under way.
package problem

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"time"
)

// Problem is an error as a client gets it.
type Problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`

	retry time.Duration // when it is worth another try; 0 says nothing
	allow string        // the methods that would have been right
	asks  string        // for which credentials
}

// New is a problem with a status of HTTP and what there is to say to a person.
func New(status int, detail string) *Problem {
	return &Problem{Title: http.StatusText(status), Status: status, Detail: detail}
}

// retryAfter is how long clients are told to wait where no better time is known.
const retryAfter = time.Second

// WithRetry says that it is worth another try, and when.
func (p *Problem) WithRetry() *Problem {
	p.retry = retryAfter
	return p
}

// Allowing says which methods would have been right.
func (p *Problem) Allowing(methods string) *Problem {
	p.allow = methods
	return p
}

// Asking says which credentials are wanted: a challenge of RFC 9110 §11.6.1.
func (p *Problem) Asking(challenge string) *Problem {
	p.asks = challenge
	return p
}

// ServeHTTP answers with the problem.
func (p *Problem) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	if p.retry > 0 {
		h.Set("Retry-After", strconv.Itoa(int(p.retry.Seconds())))
	}
	if p.allow != "" {
		h.Set("Allow", p.allow)
	}
	if p.asks != "" {
		h.Set("WWW-Authenticate", p.asks)
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

// Final answers a request whose body may still be under way, so that the status
// can be read (RFC 9112 §9.6): it goes out at once, what follows of the body is
// read and dropped for the time Farewell, then the connection closes.
func (p *Problem) Final(w http.ResponseWriter, r *http.Request) {
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
	control.SetReadDeadline(time.Now().Add(Farewell))
	if r.ProtoMajor == 1 {
		// net/http would do so itself, but not for who asked for 100-continue.
		io.Copy(io.Discard, r.Body)
	}
}

// Farewell is how long a connection is read on after a final answer. It is
// within the contract's 2 s even with net/http's own 500 ms behind it.
const Farewell = 500 * time.Millisecond

// Unread has an answer not wait for a body that nobody will read.
func Unread(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 && r.Body != http.NoBody {
		w.Header().Set("Connection", "close")
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(Farewell)) // fails only with the connection
	}
}
