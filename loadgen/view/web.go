package view

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"time"
)

// Web is how viewers speak that have net/http and a goroutine each, a connection each too: TLS, HTTP/2 or both.
type Web struct {
	TLS   *tls.Config // nil speaks without TLS
	HTTP2 bool        // and nothing else; without TLS by prior knowledge (RFC 9113 §3.3)
}

// client returns a client with one connection of its own, to the address whatever the host's name.
func (w *Web) client(address *net.TCPAddr) (*http.Client, *http.Transport) {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!w.HTTP2)
	protocols.SetHTTP2(w.HTTP2 && w.TLS != nil)
	protocols.SetUnencryptedHTTP2(w.HTTP2 && w.TLS == nil)
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, network, address.String())
		},
		DisableCompression: true,
		Protocols:          protocols,
	}
	if w.TLS != nil {
		transport.TLSClientConfig = w.TLS.Clone()
	}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, transport
}

func (w *Web) scheme() string {
	if w.TLS != nil {
		return "https://"
	}
	return "http://"
}

// visit is the whole life of a viewer with a goroutine.
func (p *Pool) visit(v Viewer) {
	if !p.awaitJoin(v.Join) {
		p.reportWeb(Event{Type: Ended, Viewer: v.ID, At: p.since(), Reason: Stopped})
		return
	}
	ctx, leave := p.web, context.CancelFunc(func() {})
	if v.Leave > 0 {
		ctx, leave = context.WithDeadline(ctx, p.epoch.Add(v.Leave))
	}
	defer leave()
	reason, err := p.watchWeb(ctx, v)
	if ctx.Err() != nil {
		reason, err = Stopped, nil
	}
	event := Event{Type: Ended, Viewer: v.ID, At: p.since(), Reason: reason}
	if err != nil {
		event.Detail = &Detail{Err: err}
	}
	p.reportWeb(event)
}

// awaitJoin waits until a viewer is to join; false when the pool stops first.
func (p *Pool) awaitJoin(at time.Duration) bool {
	timer := time.NewTimer(at - p.since())
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.web.Done():
		return false
	}
}

func (p *Pool) watchWeb(ctx context.Context, v Viewer) (Reason, error) {
	client, transport := v.Web.client(v.Address)
	defer transport.CloseIdleConnections()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
		p.reportWeb(Event{Type: Connected, Viewer: v.ID, At: p.since()})
	}})
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, v.Web.scheme()+v.Host+v.Path, nil)
	if err != nil {
		return Unreached, fmt.Errorf("making the request: %w", err)
	}
	request.Header.Set("User-Agent", "tureen-loadgen")
	response, err := client.Do(request)
	if err != nil {
		return Unreached, fmt.Errorf("asking: %w", err)
	}
	defer response.Body.Close()
	p.reportWeb(Event{Type: Answered, Viewer: v.ID, At: p.since(), Status: int16(response.StatusCode)})
	if response.StatusCode != http.StatusOK {
		return Refused, fmt.Errorf("status %d", response.StatusCode)
	}
	return p.readWeb(v, response.Body)
}

func (p *Pool) readWeb(v Viewer, body io.Reader) (Reason, error) {
	f := frames{pool: p, id: v.ID}
	f.begin()
	defer f.dropPicture()
	buf := make([]byte, readSize)
	for {
		n, err := body.Read(buf)
		if v.Read != nil {
			v.Read.Add(int64(n))
		}
		if scanErr := f.scan(buf[:n], p.since(), p.reportWeb); scanErr != nil {
			return Unreadable, scanErr
		}
		if errors.Is(err, io.EOF) {
			return Finished, nil
		}
		if err != nil {
			return Broken, fmt.Errorf("reading the body: %w", err)
		}
	}
}

// reportWeb adds an event to the batch of the viewers with goroutines.
func (p *Pool) reportWeb(e Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.batch = append(p.batch, e); len(p.batch) >= batchSize {
		p.handOn()
	}
}

// handOn hands on the batch; the lock is held.
func (p *Pool) handOn() {
	if len(p.batch) > 0 {
		p.batches <- p.batch
		p.batch = p.fresh()
	}
}

// flushWeb hands on what has waited long enough, and, once the last viewer is gone, the rest.
func (p *Pool) flushWeb() {
	ticker := time.NewTicker(batchAge)
	defer ticker.Stop()
	for over := false; !over; {
		select {
		case <-ticker.C:
		case <-p.web.Done():
			p.visits.Wait()
			over = true
		}
		p.mu.Lock()
		p.handOn()
		p.mu.Unlock()
	}
}
