package trial

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
	"time"

	"tureen/loadgen/publish"
	"tureen/loadgen/view"
)

// ErrTarget is wrapped by the errors of targets that can't be used.
var ErrTarget = errors.New("unusable target")

// sessionID is what the contract allows as a session id, but for "." and "..".
var sessionID = regexp.MustCompile(`^[A-Za-z0-9._~-]{1,128}$`)

// Target is the stream that is published and watched.
type Target struct {
	Address *net.TCPAddr
	Host    string      // with the port, as in the Host field
	Path    string      // escaped
	TLS     *tls.Config // of viewers and publisher; nil speaks without TLS
}

// ParseTarget reads a target: the URL of a server, for which the stream's path is made of the session id, or the whole
// URL of a stream, which goes with no session id. Without either, the session gets a name of its own.
func ParseTarget(ctx context.Context, raw, session string) (Target, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return Target{}, fmt.Errorf("%w: %q is no http or https URL, such as http://127.0.0.1:8000", ErrTarget, raw)
	case u.User != nil || u.Fragment != "":
		return Target{}, fmt.Errorf("%w: %s: neither a user nor a fragment is sent", ErrTarget, raw)
	}
	t := Target{Host: u.Host}
	if t.Path, err = streamPath(u, session); err != nil {
		return Target{}, err
	}
	if u.Scheme == "https" {
		t.TLS = &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}
	}
	port := cmp.Or(u.Port(), u.Scheme) // LookupPort knows "http" and "https"
	if t.Address, err = resolve(ctx, u.Hostname(), port); err != nil {
		return Target{}, fmt.Errorf("%w: %w", ErrTarget, err)
	}
	return t, nil
}

func streamPath(u *url.URL, session string) (string, error) {
	whole := strings.Trim(u.Path, "/") != ""
	switch {
	case whole && session != "":
		return "", fmt.Errorf("%w: give the stream's whole URL or a session, not both", ErrTarget)
	case whole:
		return u.RequestURI(), nil
	case u.RawQuery != "":
		return "", fmt.Errorf("%w: a query needs the stream's whole URL", ErrTarget)
	}
	if session == "" {
		session = "loadgen-" + strings.ToLower(rand.Text()[:8])
	}
	if !sessionID.MatchString(session) || session == "." || session == ".." {
		return "", fmt.Errorf("%w: %q is no session id (1 to 128 of A-Z a-z 0-9 . _ ~ -)", ErrTarget, session)
	}
	return "/stream/" + session, nil
}

// resolve looks the host up once, so that all connections go to the same address.
func resolve(ctx context.Context, host, port string) (*net.TCPAddr, error) {
	number, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return nil, err
	}
	addresses, err := net.DefaultResolver.LookupIPAddr(ctx, host)
	if err != nil {
		return nil, err
	}
	// IPv4 first: a server that listens on a loop-back address mostly means 127.0.0.1 by localhost.
	for _, a := range addresses {
		if a.IP.To4() != nil {
			return &net.TCPAddr{IP: a.IP, Port: number}, nil
		}
	}
	return &net.TCPAddr{IP: addresses[0].IP, Port: number, Zone: addresses[0].Zone}, nil
}

// Base returns the server's URL.
func (t Target) Base() string {
	if t.TLS != nil {
		return "https://" + t.Host
	}
	return "http://" + t.Host
}

// URL returns the stream's URL.
func (t Target) URL() string { return t.Base() + t.Path }

// Publisher returns how to publish a source to the target.
func (t Target) Publisher(source *publish.Source) publish.Config {
	return publish.Config{Address: t.Address.String(), Host: t.Host, Path: t.Path, Source: source, TLS: t.TLS}
}

// ParseIngest reads where to publish when that isn't the target: http://… and https://… (PUT), post://… (POST, for
// ffmpeg with -listen 1) or icecast://user:password@….
func ParseIngest(ctx context.Context, raw string) (*publish.Config, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || u.Port() == "" && u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%w: %q is no URL with a host and a port to publish to", ErrTarget, raw)
	}
	out := &publish.Config{Host: u.Host, Path: cmp.Or(u.EscapedPath(), "/"), Login: u.User}
	switch u.Scheme {
	case "http":
	case "https":
		out.TLS = &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}
	case "post":
		out.Manner = publish.Post
	case "icecast":
		out.Manner = publish.Icecast
	default:
		return nil, fmt.Errorf("%w: %q: publishing is by http, https, post or icecast", ErrTarget, raw)
	}
	address, err := resolve(ctx, u.Hostname(), cmp.Or(u.Port(), u.Scheme))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTarget, err)
	}
	out.Address = address.String()
	return out, nil
}

func (t Target) viewer(id int32, path string, join time.Duration) view.Viewer {
	return view.Viewer{ID: id, Address: t.Address, Host: t.Host, Path: path, Join: join}
}
