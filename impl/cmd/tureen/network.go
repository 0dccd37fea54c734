package main

import (
	"fmt"
	"net/netip"
)

// network is a flag's network: address/length, or one address.
type network netip.Prefix

// UnmarshalText reads it, for kong.
func (n *network) UnmarshalText(b []byte) error {
	if addr, err := netip.ParseAddr(string(b)); err == nil {
		*n = network(netip.PrefixFrom(addr.WithZone(""), addr.BitLen()))
		return nil
	}
	prefix, err := netip.ParsePrefix(string(b))
	if err != nil {
		return fmt.Errorf("%q is no network: write it like 10.0.0.0/8, fd00::/8 or 192.0.2.1", b)
	}
	if prefix != prefix.Masked() {
		return fmt.Errorf("%s has bits set behind its first %d: the network is %s", prefix, prefix.Bits(), prefix.Masked())
	}
	*n = network(prefix)
	return nil
}
