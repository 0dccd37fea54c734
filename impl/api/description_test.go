package api

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"tureen/impl/access"
	"tureen/impl/tokens"
)

func network(t *testing.T, text string) access.Networks {
	t.Helper()
	var n access.Network
	if err := n.UnmarshalText([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return access.Networks{n}
}

// block has the token file at path be unwritable, for root too.
func block(t *testing.T, path string) {
	t.Helper()
	if err := os.Mkdir(path+".new", 0o700); err != nil {
		t.Fatal(err)
	}
}

func root(t *testing.T) object {
	t.Helper()
	var d object
	if err := json.Unmarshal(description, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDescribedCalls: the description has the calls, their methods and their
// parameters, and no others.
func TestDescribedCalls(t *testing.T) {
	d := root(t)
	all := schemas{d}
	found := map[string]bool{}
	for path, operations := range d["paths"].(object) {
		name, ok := strings.CutPrefix(path, "/api/")
		if !ok {
			continue
		}
		c, ok := calls[name]
		if !ok {
			t.Errorf("%s is described, and isn't there", path)
			continue
		}
		found[name] = true
		methods := slices.Collect(maps.Keys(operations.(object)))
		if !slices.Equal(methods, []string{strings.ToLower(c.method)}) {
			t.Errorf("%s is described for %q, and is for %s", path, methods, c.method)
			continue
		}
		var got []parameter
		list, _ := operations.(object)[methods[0]].(object)["parameters"].([]any)
		for _, p := range list {
			p := all.resolve(p.(object))
			if p["in"] != "query" {
				t.Errorf("%s: %s is in %s", path, p["name"], p["in"])
			}
			got = append(got, parameter{p["name"].(string), p["required"].(bool)})
		}
		if !slices.Equal(got, c.parameters) {
			t.Errorf("%s is described with %v, and has %v", path, got, c.parameters)
		}
	}
	for name := range calls {
		if !found[name] {
			t.Errorf("%s isn't described", name)
		}
	}
}

// TestDescribedParameters: what a parameter's schema allows and what is accepted
// are the same, for values at every edge.
func TestDescribedParameters(t *testing.T) {
	all := schemas{root(t)}
	inputs := func(v string) any {
		items := []any{}
		for _, s := range strings.Split(v, ",") {
			items = append(items, s)
		}
		return items
	}
	text := func(v string) any { return v }
	number := func(v string) any {
		var n any
		if json.Unmarshal([]byte(v), &n) != nil {
			return v
		}
		return n
	}
	key := strings.Repeat("k", 16)
	tests := map[string]struct {
		read   func(string) any
		values []string
	}{
		"type":        {text, []string{"http", "rtp-udp", "http,rtp-udp", "rtp-udp,http", "", "http,http", "udp", "http,", "rtp-udp,http,http"}},
		"sessionid":   {text, []string{"a", "", ".", "..", "...", "a/b", "a b", strings.Repeat("a", 128), strings.Repeat("a", 129), "A~_.-9", "é"}},
		"input-types": {inputs, append([]string{"", "video/webm,audio/webm", "video/avi", "video/webm,"}, tokens.InputTypes...)},
		"ttl":         {number, []string{"1", "31536000", "0", "31536001", "-1", "1.5", "x", ""}},
		"publish-key": {text, []string{key, key[1:], key + "==", key + "=k", strings.Repeat("k", 128), strings.Repeat("k", 129), key + "+/-._~", key + " "}},
	}
	list := all.root["paths"].(object)["/api/add-token"].(object)["post"].(object)["parameters"].([]any)
	for _, p := range list {
		p := all.resolve(p.(object))
		test, ok := tests[p["name"].(string)]
		if !ok && p["name"] != "udp-clients" { // whose form is too rich for a schema
			t.Errorf("the parameter %s isn't tested", p["name"])
		}
		for _, value := range test.values {
			v := values{"type": "http", "sessionid": "a"}
			v[p["name"].(string)] = value
			if strings.Contains(v["type"], "rtp-udp") {
				v["udp-clients"] = "127.0.0.1:5000"
			}
			_, err := v.grant(time.Now())
			if why := all.walk(p["schema"].(object), test.read(value)); (why == "") != (err == nil) {
				t.Errorf("%s=%q: described %q, accepted: %v", p["name"], value, why, err)
			}
		}
	}
}

// TestDescribedStatuses: each status that a call's description promises comes,
// as it is described.
func TestDescribedStatuses(t *testing.T) {
	path := t.TempDir() + "/tokens.json"
	table, err := tokens.Open(path, false)
	if err != nil {
		t.Fatal(err)
	}
	d := open(t, func(c *Config) { c.Tokens = table })
	seen := map[string]bool{}
	d.seen = seen
	for _, name := range slices.Sorted(maps.Keys(calls)) {
		d.expect(calls[name].method, name, 403, "", from("192.0.2.1:5"))
		d.expect(calls[name].method, name+"?unknown", 400, "")
		d.expect("PATCH", name, 405, "")
	}
	d.expect("POST", "add-token?type=http&sessionid=a", 201, "")
	d.expect("POST", "add-token?type=http&sessionid=a", 200, "")
	d.expect("DELETE", "revoke-token?sessionid=a", 200, "")
	d.expect("DELETE", "revoke-token?sessionid=a", 404, "")
	d.expect("POST", "add-token?type=http&sessionid=a", 201, "")
	block(t, path)
	d.expect("POST", "add-token?type=http&sessionid=b", 500, "nothing was changed")
	d.expect("DELETE", "revoke-token?sessionid=a", 500, "nothing was changed")
	if got := allShown(list[Token](t, d.expect("GET", "list-tokens", 200, ""))); !slices.Equal(got, []string{"a http"}) {
		t.Errorf("after refused changes there are %q", got)
	}
	d.expect("GET", "list-streams", 200, "")
	d.expect("GET", "openapi.json", 200, "")
	d.expect("DELETE", "abort-stream?sessionid=live", 200, "")
	d.expect("DELETE", "abort-stream?sessionid=dead", 404, "")
	stuck := open(t, func(c *Config) {
		c.Abort = func(context.Context, string) error { return context.DeadlineExceeded }
	})
	stuck.seen = seen
	stuck.expect("DELETE", "abort-stream?sessionid=a", 500, "hasn't yet")
	for path, operations := range root(t)["paths"].(object) {
		for method, operation := range operations.(object) {
			for status := range operation.(object)["responses"].(object) {
				if strings.HasPrefix(path, "/api/") && !seen[path+" "+status] {
					t.Errorf("%s %s promises %s, which never comes", method, path, status)
				}
			}
		}
	}
}
