// Package rtp sends live streams to UDP clients: who they are and where may be
// sent, the payload formats of VP8 and Vorbis, sender reports, the session
// description. Which session has which clients is told by its caller; who may
// have any is not judged here.
package rtp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Client is where a session's stream is sent: video to Port, audio to Port+2,
// and each one's RTCP to the port after it.
type Client struct {
	Host string // an address, or a name in lower case
	Port uint16 // even, from 2 to 65532
}

// String is the client as ParseClient reads it.
func (c Client) String() string { return net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port))) }

// named reports whether the host is a name, whose address may change.
func (c Client) named() bool {
	_, err := netip.ParseAddr(c.Host)
	return err != nil
}

// MaxClients is how many clients one session can have. All get their packets
// from one goroutine, which is to be done before the next frame comes.
const MaxClients = 64

// Sockets is how many each client takes: one for each of its ports.
const Sockets = clientPorts

const (
	clientPorts = 4     // of one client, from Port on
	maxPort     = 65532 // the last even one that has the three others behind it
)

// ParseClient reads host:port. The error is fit for whoever wrote s.
func ParseClient(s string) (Client, error) {
	refuse := func(why string) (Client, error) {
		return Client{}, fmt.Errorf("%q is no client: %s", s, why)
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return refuse("write host:port, and an IPv6 address in brackets")
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number < 2 || number > maxPort || number%2 != 0 {
		return refuse("the port is an even number from 2 to 65532; the three after it are used as well")
	}
	c := Client{Port: uint16(number)}
	addr, err := netip.ParseAddr(host)
	switch bracketed := s[0] == '['; {
	case bracketed && !addr.Is6():
		return refuse("only an IPv6 address stands in brackets")
	case err == nil:
		c.Host = addr.Unmap().String()
	case isName(host):
		c.Host = strings.ToLower(strings.TrimSuffix(host, "."))
	default:
		return refuse("the host is neither an address nor a name")
	}
	return c, nil
}

// isName reports whether a host has the form of a name (RFC 1123 §2.1, and the
// underscore that is met in private networks). A last label that is a number is
// a mistyped address, which some resolvers would make something of.
func isName(host string) bool {
	host = strings.TrimSuffix(host, ".")
	if len(host) > 253 {
		return false
	}
	labels := strings.Split(host, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	last := strings.ToLower(labels[len(labels)-1])
	return strings.Trim(last, "0123456789") != "" && !strings.HasPrefix(last, "0x")
}

// Overlap finds two clients of one host that would share some of their ports;
// nil when none do. The error is fit for whoever named the clients.
func Overlap(clients []Client) error {
	for i, a := range clients {
		for _, b := range clients[:i] {
			if a.Host == b.Host && max(a.Port, b.Port)-min(a.Port, b.Port) < clientPorts {
				return fmt.Errorf("%s and %s overlap: each takes four ports, from its own on", b, a)
			}
		}
	}
	return nil
}

// Errors of Policy.Resolve.
var (
	// ErrForbidden is a client whose address the operator doesn't allow.
	ErrForbidden = errors.New("RTP may not be sent there")
	// ErrUnresolved is a client whose name has no address, or not in time.
	ErrUnresolved = errors.New("the name has no address")
)

// Policy is the networks that RTP may be sent to.
type Policy []netip.Prefix

// DefaultPolicy is what is no stranger: the private, loopback and link-local
// networks (RFC 1918 §3, RFC 4193 §3.1, RFC 1122 §3.2.1.3, RFC 4291 §2.5.3, RFC
// 3927 §2.1, RFC 4291 §2.5.6).
func DefaultPolicy() Policy {
	return Policy{
		netip.MustParsePrefix("10.0.0.0/8"),
		netip.MustParsePrefix("172.16.0.0/12"),
		netip.MustParsePrefix("192.168.0.0/16"),
		netip.MustParsePrefix("fc00::/7"),
		netip.MustParsePrefix("127.0.0.0/8"),
		netip.MustParsePrefix("::1/128"),
		netip.MustParsePrefix("169.254.0.0/16"),
		netip.MustParsePrefix("fe80::/10"),
	}
}

// allows reports whether RTP may be sent to an address.
func (p Policy) allows(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("") // a prefix contains no zoned address
	for _, network := range p {
		if network.Contains(addr) {
			return true
		}
	}
	return false
}

// patience is how long a name may take to be resolved.
const patience = 3 * time.Second

// Resolve is the address to send to, which the policy allows; of a name with
// several the first such. The error is ErrForbidden or ErrUnresolved with the
// client named, or the context's.
func (p Policy) Resolve(ctx context.Context, c Client) (netip.AddrPort, error) {
	allowed, err := p.resolve(ctx, c)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return allowed[0], nil
}

// resolve is all of the client's addresses that the policy allows.
func (p Policy) resolve(ctx context.Context, c Client) (allowed []netip.AddrPort, err error) {
	addrs, err := lookup(ctx, c.Host)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("resolve %s: %w", c, context.Cause(ctx))
	}
	if err != nil || len(addrs) == 0 {
		return nil, fmt.Errorf("%s: %w", c, ErrUnresolved)
	}
	for _, addr := range addrs {
		if p.allows(addr) {
			allowed = append(allowed, netip.AddrPortFrom(addr.Unmap(), c.Port))
		}
	}
	if len(allowed) == 0 {
		return nil, fmt.Errorf("%s: %w", c, ErrForbidden)
	}
	return allowed, nil
}

// lookup is the addresses of a host.
func lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}
