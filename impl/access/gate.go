package access

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// Gate decides who may call the API.
type Gate struct {
	// Servers are the token servers: they may call, and nobody else may
	// (TOK-1). Without any, this machine may, and Allowed.
	Servers Networks
	Allowed Networks
	Proxies Networks // whose X-Forwarded-For is believed
	Hosts   []string // names that Host may bear besides addresses and localhost
}

// Errors of Check. Each says what an operator can do about it.
var (
	errServer = errors.New("only the token servers may call the API; --token-server names them")
	errRemote = errors.New("only this machine may call the API; --api-allow lets others")
	errHost   = errors.New("the API is called by an address or as localhost; --api-host allows another name")
	errOrigin = errors.New("a page from elsewhere may not call the API")
)

// Check is why a request may not call the API; nil when it may.
func (g *Gate) Check(r *http.Request) error {
	client := Client(r, g.Proxies)
	switch {
	case len(g.Servers) > 0 && !g.Servers.Contain(client):
		return errServer
	case len(g.Servers) == 0 && !client.IsLoopback() && !g.Allowed.Contain(client):
		return errRemote
	case !g.named(r.Host):
		return errHost
	case foreign(r):
		return errOrigin
	}
	return nil
}

// named reports whether a Host is one that no page from elsewhere can have a
// browser send to here: a name could be rebound to this machine's address
// (API-10).
func (g *Gate) named(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	is := func(name string) bool { return strings.EqualFold(name, host) }
	return is("localhost") || slices.ContainsFunc(g.Hosts, is)
}

// foreign reports whether a browser sent the request for a page that isn't from
// here. Reading is refused as well, unlike by http.CrossOriginProtection.
func foreign(r *http.Request) bool {
	for _, site := range r.Header.Values("Sec-Fetch-Site") {
		if site != "same-origin" && site != "none" {
			return true
		}
	}
	for _, origin := range r.Header.Values("Origin") {
		if o, err := url.Parse(origin); err != nil || o.Host == "" || !strings.EqualFold(o.Host, r.Host) {
			return true
		}
	}
	return false
}
