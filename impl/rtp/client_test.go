package rtp

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestParseClient(t *testing.T) {
	tests := []struct {
		s    string
		want string // the client's own form; "" when it is refused
	}{
		{"127.0.0.1:5004", "127.0.0.1:5004"},
		{"[::1]:5004", "[::1]:5004"},
		{"[0:0:0:0:0:0:0:1]:5004", "[::1]:5004"},
		{"[fe80::1%eth0]:5004", "[fe80::1%eth0]:5004"},
		{"[::ffff:10.0.0.1]:5004", "10.0.0.1:5004"},
		{"Player.Example.:2", "player.example:2"},
		{"localhost:65532", "localhost:65532"},
		{"set_top-box.7th-floor.lan:5004", "set_top-box.7th-floor.lan:5004"},
		{"cafe:5004", "cafe:5004"},
		{"", ""},
		{"localhost", ""},
		{"localhost:", ""},
		{":5004", ""},
		{"localhost:0", ""},
		{"localhost:5005", ""},
		{"localhost:65534", ""},
		{"localhost:65536", ""},
		{"localhost:-2", ""},
		{"localhost:rtp", ""},
		{"::1:5004", ""},
		{"[127.0.0.1]:5004", ""},
		{"[localhost]:5004", ""},
		{"[::1]", ""},
		{"256.0.0.1:5004", ""},
		{"127.1:5004", ""},
		{"0x7f000001:5004", ""},
		{"host name:5004", ""},
		{"-host:5004", ""},
		{"host-:5004", ""},
		{"a..b:5004", ""},
		{"ünïcode.example:5004", ""},
		{"h@host:5004", ""},
		{strings.Repeat("a", 64) + ".example:5004", ""},
		{strings.Repeat("abcdefg.", 32) + "example:5004", ""},
	}
	for _, test := range tests {
		c, err := ParseClient(test.s)
		switch {
		case err != nil && test.want != "":
			t.Errorf("%q: %v", test.s, err)
		case err == nil && c.String() != test.want:
			t.Errorf("%q is read as %q, want %q", test.s, c, test.want)
		case err != nil && !strings.Contains(err.Error(), "is no client: "):
			t.Errorf("%q: the error doesn't say what is wrong: %v", test.s, err)
		}
	}
}

func FuzzParseClient(f *testing.F) {
	for _, s := range []string{"127.0.0.1:5004", "[fe80::1%eth0]:5004", "Player.Example.:2", "0x7f.1:8", "a_b-c:65532"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseClient(s)
		if err != nil {
			return
		}
		if again, err := ParseClient(c.String()); err != nil || again != c {
			t.Errorf("%q is read as %q, and that as %q, %v", s, c, again, err)
		}
		if c.Port%2 != 0 || c.Port < 2 || c.Port > maxPort {
			t.Errorf("%q has port %d", s, c.Port)
		}
	})
}

func TestOverlap(t *testing.T) {
	tests := []struct {
		clients  string
		overlaps bool
	}{
		{"a:2", false},
		{"a:2,a:6", false},
		{"a:6,a:2", false},
		{"a:2,b:2", false},
		{"a:2,a:2", true},
		{"a:2,a:4", true},
		{"a:4,b:4,a:2", true},
		{"[::1]:2,[0::1]:4", true},
		{"A:2,a.:4", true},
		{"a:65528,a:65532", false},
	}
	for _, test := range tests {
		var clients []Client
		for s := range strings.SplitSeq(test.clients, ",") {
			c, err := ParseClient(s)
			if err != nil {
				t.Fatal(err)
			}
			clients = append(clients, c)
		}
		if err := Overlap(clients); (err != nil) != test.overlaps {
			t.Errorf("%s: %v", test.clients, err)
		}
	}
}

func TestPolicy(t *testing.T) {
	everywhere := Policy{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	tests := []struct {
		policy Policy
		client string
		err    error
	}{
		{DefaultPolicy(), "10.255.255.255:2", nil},
		{DefaultPolicy(), "172.31.0.1:2", nil},
		{DefaultPolicy(), "192.168.0.1:2", nil},
		{DefaultPolicy(), "127.9.9.9:2", nil},
		{DefaultPolicy(), "169.254.1.1:2", nil},
		{DefaultPolicy(), "[::1]:2", nil},
		{DefaultPolicy(), "[fd00::1]:2", nil},
		{DefaultPolicy(), "[fe80::1%lo]:2", nil},
		{DefaultPolicy(), "[::ffff:127.0.0.1]:2", nil},
		{DefaultPolicy(), "localhost:2", nil},
		{DefaultPolicy(), "172.32.0.1:2", ErrForbidden},
		{DefaultPolicy(), "8.8.8.8:2", ErrForbidden},
		{DefaultPolicy(), "0.0.0.0:2", ErrForbidden},
		{DefaultPolicy(), "224.0.0.1:2", ErrForbidden},
		{DefaultPolicy(), "255.255.255.255:2", ErrForbidden},
		{DefaultPolicy(), "[::]:2", ErrForbidden},
		{DefaultPolicy(), "[2001:db8::1]:2", ErrForbidden},
		{DefaultPolicy(), "[::ffff:8.8.8.8]:2", ErrForbidden},
		{DefaultPolicy(), "no-such-host.invalid:2", ErrUnresolved},
		{Policy{netip.MustParsePrefix("10.0.0.0/8")}, "localhost:2", ErrForbidden},
		{Policy{netip.MustParsePrefix("10.0.0.0/8")}, "127.0.0.1:2", ErrForbidden},
		{everywhere, "8.8.8.8:2", nil},
		{everywhere, "[2001:db8::1]:2", nil},
		{nil, "127.0.0.1:2", ErrForbidden},
	}
	for _, test := range tests {
		c, err := ParseClient(test.client)
		if err != nil {
			t.Fatal(err)
		}
		to, err := test.policy.Resolve(t.Context(), c)
		if !errors.Is(err, test.err) {
			t.Errorf("%s: %v, want %v", test.client, err, test.err)
		}
		if err == nil && (to.Port() != c.Port || !to.Addr().IsValid()) {
			t.Errorf("%s: %s", test.client, to)
		}
	}
}

func TestResolveEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := DefaultPolicy().Resolve(ctx, Client{Host: "localhost", Port: 2})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
