package access

import (
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"testing"
)

func networks(t *testing.T, texts ...string) Networks {
	t.Helper()
	all := make(Networks, len(texts))
	for i, text := range texts {
		if err := all[i].UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestNetwork(t *testing.T) {
	tests := map[string]string{ // "" for refused
		"10.0.0.0/8":                "10.0.0.0/8",
		"10.1.2.3/8":                "10.0.0.0/8",
		"10.1.2.3/255.0.0.0":        "10.0.0.0/8",
		"10.1.2.3/255.255.255.255":  "10.1.2.3/32",
		"10.1.2.3/255.255.254.0":    "10.1.2.0/23",
		"10.1.2.3/0.0.0.0":          "0.0.0.0/0",
		"0.0.0.0/0":                 "0.0.0.0/0",
		"10.1.2.3":                  "10.1.2.3/32",
		"127.0.0.1/32":              "127.0.0.1/32",
		"::1":                       "::1/128",
		"::1/128":                   "::1/128",
		"2001:db8::1/32":            "2001:db8::/32",
		"::/0":                      "::/0",
		"::ffff:10.1.2.3":           "10.1.2.3/32",
		"::ffff:10.1.2.3/104":       "10.0.0.0/8",
		"::ffff:0:0/96":             "0.0.0.0/0",
		"::ffff:10.1.2.3/255.0.0.0": "10.0.0.0/8",
		"::ffff:10.1.2.3/95":        "",
		"":                          "",
		"/8":                        "",
		"10.0.0.0/":                 "",
		"10.0.0.0/33":               "",
		"10.0.0.0/-1":               "",
		"10.0.0.0/+8":               "",
		"10.0.0.0/08":               "",
		"10.0.0.0/8/8":              "",
		"10.0.0.0/255.0.255.0":      "",
		"10.0.0.0/0.0.0.255":        "",
		"10.0.0.0/255.0.0":          "",
		"10.0.0.0/255.0.0.0.0":      "",
		"10.0.0/8":                  "",
		"010.0.0.0/8":               "",
		"::1/129":                   "",
		"::1/255.0.0.0":             "",
		"[::1]/128":                 "",
		"fe80::1%eth0/64":           "",
		"localhost":                 "",
		"10.0.0.0:80":               "",
		" 10.0.0.0/8":               "",
	}
	for text, want := range tests {
		var n Network
		got := ""
		if err := n.UnmarshalText([]byte(text)); err == nil {
			got = n.String()
		}
		if got != want {
			t.Errorf("%q is read as %q, want %q", text, got, want)
		}
	}
}

func TestContain(t *testing.T) {
	all := networks(t, "10.0.0.0/8", "::1", "fe80::/10")
	for text, want := range map[string]bool{
		"10.255.0.1": true, "::ffff:10.0.0.1": true, "11.0.0.1": false, "::1": true, "::2": false, "fe80::1%lo": true,
	} {
		if got := all.Contain(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s is in %v: %t", text, all, got)
		}
	}
	if all.Contain(netip.Addr{}) || Networks(nil).Contain(netip.MustParseAddr("::1")) {
		t.Error("no address is in, or one is in no network")
	}
	if networks(t, "::/0").Contain(netip.MustParseAddr("::ffff:10.0.0.1")) {
		t.Error("IPv4 is in the IPv6 network of all addresses")
	}
}

func request(from string, fields ...string) *http.Request {
	r := &http.Request{Method: http.MethodGet, RemoteAddr: from, Host: "127.0.0.1:8000", Header: http.Header{}}
	for i := 0; i < len(fields); i += 2 {
		if fields[i] == "Host" {
			r.Host = fields[i+1]
			continue
		}
		r.Header.Add(fields[i], fields[i+1])
	}
	return r
}

// TestClient: TOK-8.
func TestClient(t *testing.T) {
	proxies := networks(t, "10.0.0.0/8", "::1")
	tests := []struct {
		from string
		xff  []string
		want string
	}{
		{"192.0.2.1:5", nil, "192.0.2.1"},
		{"192.0.2.1:5", []string{"198.51.100.1"}, "192.0.2.1"}, // no proxy of ours
		{"[::ffff:192.0.2.1]:5", nil, "192.0.2.1"},
		{"[fe80::1%eth0]:5", nil, "fe80::1"},
		{"10.0.0.1:5", nil, "10.0.0.1"},
		{"10.0.0.1:5", []string{""}, "10.0.0.1"},
		{"10.0.0.1:5", []string{"198.51.100.1"}, "198.51.100.1"},
		{"[::ffff:10.0.0.1]:5", []string{"198.51.100.1"}, "198.51.100.1"},
		{"[::1]:5", []string{"203.0.113.1, 198.51.100.1"}, "198.51.100.1"},
		{"10.0.0.1:5", []string{"203.0.113.1, 198.51.100.1,10.0.0.2 , ::1"}, "198.51.100.1"},
		{"10.0.0.1:5", []string{"198.51.100.1, 203.0.113.1", "10.0.0.2"}, "203.0.113.1"},
		{"10.0.0.1:5", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.1"},
		{"10.0.0.1:5", []string{"198.51.100.1, unknown, 10.0.0.2"}, "invalid IP"},
		{"10.0.0.1:5", []string{"198.51.100.1:77"}, "198.51.100.1"},
		{"10.0.0.1:5", []string{"[2001:db8::1]:77"}, "2001:db8::1"},
		{"10.0.0.1:5", []string{"[2001:db8::1]"}, "2001:db8::1"},
		{"10.0.0.1:5", []string{"2001:db8::1"}, "2001:db8::1"},
		{"10.0.0.1:5", []string{"::ffff:10.0.0.2, 198.51.100.1, ::ffff:10.0.0.2"}, "198.51.100.1"},
		{"@", []string{"198.51.100.1"}, "invalid IP"},
	}
	for _, test := range tests {
		r := request(test.from)
		r.Header["X-Forwarded-For"] = test.xff
		if got := Client(r, proxies); got.String() != test.want {
			t.Errorf("from %s for %q: %v, want %s", test.from, test.xff, got, test.want)
		}
	}
}

// TestGate: TOK-1, TOK-8, API-10.
func TestGate(t *testing.T) {
	open := &Gate{Allowed: networks(t, "172.17.0.0/255.255.0.0"), Hosts: []string{"tureen.example"}}
	closed := &Gate{Servers: networks(t, "192.0.2.1"), Allowed: networks(t, "172.17.0.0/16"), Proxies: networks(t, "10.0.0.1")}
	tests := []struct {
		gate *Gate
		r    *http.Request
		want error
	}{
		{open, request("127.0.0.1:5"), nil},
		{open, request("127.9.9.9:5"), nil},
		{open, request("[::1]:5"), nil},
		{open, request("[::ffff:127.0.0.1]:5"), nil},
		{open, request("172.17.0.1:5"), nil},
		{open, request("172.18.0.1:5"), errRemote},
		{open, request("172.18.0.1:5", "X-Forwarded-For", "127.0.0.1"), errRemote},
		{closed, request("192.0.2.1:5"), nil},
		{closed, request("[::ffff:192.0.2.1]:5"), nil},
		{closed, request("192.0.2.2:5"), errServer},
		{closed, request("127.0.0.1:5"), errServer},
		{closed, request("172.17.0.1:5"), errServer},
		{closed, request("10.0.0.1:5"), errServer},
		{closed, request("10.0.0.1:5", "X-Forwarded-For", "192.0.2.1"), nil},
		{closed, request("10.0.0.1:5", "X-Forwarded-For", "192.0.2.1, 192.0.2.2"), errServer},
		{closed, request("10.0.0.2:5", "X-Forwarded-For", "192.0.2.1"), errServer},
		{open, request("127.0.0.1:5", "Host", "localhost"), nil},
		{open, request("127.0.0.1:5", "Host", "LOCALHOST:8000"), nil},
		{open, request("127.0.0.1:5", "Host", "[::1]:8000"), nil},
		{open, request("127.0.0.1:5", "Host", "[::1]"), nil},
		{open, request("127.0.0.1:5", "Host", "192.0.2.7"), nil},
		{open, request("127.0.0.1:5", "Host", "Tureen.Example:80"), nil},
		{open, request("127.0.0.1:5", "Host", "evil.example:8000"), errHost},
		{open, request("127.0.0.1:5", "Host", "localhost.evil.example"), errHost},
		{open, request("127.0.0.1:5", "Host", "127.0.0.1.evil.example"), errHost},
		{open, request("127.0.0.1:5", "Host", ""), errHost},
		{open, request("127.0.0.1:5", "Origin", "http://127.0.0.1:8000"), nil},
		{open, request("127.0.0.1:5", "Origin", "http://127.0.0.1:8001"), errOrigin},
		{open, request("127.0.0.1:5", "Origin", "http://localhost:8000"), errOrigin},
		{open, request("127.0.0.1:5", "Origin", "null"), errOrigin},
		{open, request("127.0.0.1:5", "Origin", ""), errOrigin},
		{open, request("127.0.0.1:5", "Origin", "http://evil.example", "Sec-Fetch-Site", "same-origin"), errOrigin},
		{open, request("127.0.0.1:5", "Sec-Fetch-Site", "cross-site"), errOrigin},
		{open, request("127.0.0.1:5", "Sec-Fetch-Site", "same-site"), errOrigin},
		{open, request("127.0.0.1:5", "Sec-Fetch-Site", "same-origin"), nil},
		{open, request("127.0.0.1:5", "Sec-Fetch-Site", "none"), nil},
		{closed, request("192.0.2.1:5", "Sec-Fetch-Site", "cross-site"), errOrigin},
	}
	for _, test := range tests {
		if got := test.gate.Check(test.r); !errors.Is(got, test.want) || (got == nil) != (test.want == nil) {
			t.Errorf("from %s, Host %q, %v: %v, want %v", test.r.RemoteAddr, test.r.Host, test.r.Header, got, test.want)
		}
	}
}

func FuzzNetwork(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8", "10.0.0.0/255.0.0.0", "::1", "::ffff:10.0.0.1/104", "fe80::/10"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var n, again Network
		if n.UnmarshalText([]byte(s)) != nil {
			return
		}
		if err := again.UnmarshalText([]byte(n.String())); err != nil || again != n {
			t.Errorf("%q is %v, and that is %v, %v", s, n, again, err)
		}
		if !(Networks{n}).Contain(n.Addr()) {
			t.Errorf("%v doesn't contain its own address", n)
		}
	})
}

func FuzzClient(f *testing.F) {
	f.Add("198.51.100.1, 10.0.0.2")
	f.Add("[2001:db8::1]:77,,unknown")
	f.Fuzz(func(t *testing.T, xff string) {
		proxies := Networks{{netip.MustParsePrefix("10.0.0.0/8")}}
		got := Client(request("10.0.0.1:5", "X-Forwarded-For", xff), proxies)
		if proxies.Contain(got) && got.String() != "10.0.0.1" {
			t.Errorf("%q makes a trusted proxy the client: %v", xff, got)
		}
		if Client(request("192.0.2.1:5", "X-Forwarded-For", xff), proxies).String() != "192.0.2.1" {
			t.Errorf("%q is believed of who is no proxy", xff)
		}
	})
}

func TestNetworksAreMasked(t *testing.T) {
	if !slices.Equal(networks(t, "10.1.2.3/8"), networks(t, "10.0.0.0/255.0.0.0")) {
		t.Error("the same network, written in two ways, is two")
	}
}
