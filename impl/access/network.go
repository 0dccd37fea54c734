// Package access judges where requests come from: networks as an operator
// writes them, clients behind trusted proxies, and who may call the API. What a
// session's tokens allow is left to package tokens.
package access

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Network is the addresses that ADDR/MASK names (TOK-1). IPv4 addresses are
// held as such, also those that were written as IPv4-mapped IPv6.
type Network struct {
	netip.Prefix
}

// UnmarshalText reads ADDR/MASK: MASK is a prefix length, or dotted for IPv4;
// without one it is that address alone. The error is fit for whoever wrote it.
func (n *Network) UnmarshalText(text []byte) error {
	refuse := func(why string) error { return fmt.Errorf("%q is no ADDR/MASK: %s", text, why) }
	address, mask, masked := strings.Cut(string(text), "/")
	addr, err := netip.ParseAddr(address)
	switch {
	case err != nil:
		return refuse("ADDR is an IPv4 or IPv6 address, without brackets and port")
	case addr.Zone() != "":
		return refuse("an address with a zone can't be told from others of that kind")
	case !masked:
		addr = addr.Unmap()
		n.Prefix = netip.PrefixFrom(addr, addr.BitLen())
		return nil
	}
	bits, ok := prefixLength(mask)
	if dotted, is := dottedLength(mask); is && addr.Unmap().Is4() {
		addr, bits, ok = addr.Unmap(), dotted, true
	}
	switch {
	case !ok || bits > addr.BitLen():
		return refuse("MASK is a prefix length like 24, or for IPv4 a dotted mask like 255.255.255.0")
	case addr.Is4In6() && bits < mappedBits:
		return refuse("it spans IPv4 and more; write the IPv4 network and the IPv6 network")
	case addr.Is4In6():
		addr, bits = addr.Unmap(), bits-mappedBits
	}
	n.Prefix = netip.PrefixFrom(addr, bits).Masked()
	return nil
}

// mappedBits are what all IPv4-mapped addresses begin with (RFC 4291 §2.5.5.2).
const mappedBits = 96

// prefixLength reads a number of bits, in digits and nothing else.
func prefixLength(s string) (bits int, ok bool) {
	n, err := strconv.ParseUint(s, 10, 8)
	return int(n), err == nil && strconv.FormatUint(n, 10) == s
}

// dottedLength is the prefix length of a dotted mask, whose ones come first.
func dottedLength(mask string) (bits int, ok bool) {
	for bits := range 33 {
		if p, err := netip.PrefixFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), bits).Masked().Addr().MarshalText(); err == nil && string(p) == mask {
			return bits, true
		}
	}
	return 0, false
}

// Networks are several.
type Networks []Network

// Contain reports whether an address is in one of them.
func (n Networks) Contain(addr netip.Addr) bool {
	addr = plain(addr)
	return slices.ContainsFunc(n, func(n Network) bool { return n.Contains(addr) })
}

// plain is an address without its zone, which no network contains, and IPv4 as
// such, which a socket for both kinds reports as IPv4-mapped.
func plain(addr netip.Addr) netip.Addr { return addr.WithZone("").Unmap() }
