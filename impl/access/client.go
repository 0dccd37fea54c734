package access

import (
	"net/http"
	"net/netip"
	"strings"
)

// Client is where a request comes from: the connection's own address or, when
// that is one of the trusted proxies, the address that they name (TOK-8). It is
// the zero Addr, which nobody allows, when that can't be read.
func Client(r *http.Request, proxies Networks) netip.Addr {
	own, ok := address(r.RemoteAddr)
	if !ok || !proxies.Contain(own) {
		return own
	}
	// Each proxy adds whom it heard from at the right; what is left of the first
	// that isn't ours may be anybody's invention.
	entries := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(entries) - 1; i >= 0; i-- {
		entry := strings.TrimSpace(entries[i])
		if entry == "" {
			continue // no more than a stray comma (RFC 9110 §5.6.1.2)
		}
		if client, _ := address(entry); !proxies.Contain(client) {
			return client
		}
	}
	return own
}

// address reads an address with or without a port, which some proxies add.
func address(s string) (netip.Addr, bool) {
	if at, err := netip.ParseAddrPort(s); err == nil {
		return plain(at.Addr()), true
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	if err != nil {
		return netip.Addr{}, false
	}
	return plain(addr), true
}
