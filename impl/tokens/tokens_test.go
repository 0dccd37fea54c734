package tokens

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tureen/impl/rtp"
)

var client = rtp.Client{Host: "127.0.0.1", Port: 5000}

const key = "0123456789abcdef"

func set(t *testing.T, table *Table, g Grant) (replaced bool) {
	t.Helper()
	replaced, err := table.Set(g)
	if err != nil {
		t.Fatal(err)
	}
	return replaced
}

// let reports how a table answers: "yes", or why not.
func let(_ context.Context, err error) string {
	switch {
	case err == nil:
		return "yes"
	case errors.Is(err, ErrForbidden):
		return "forbidden"
	case errors.Is(err, ErrKey):
		return "key"
	}
	return err.Error()
}

// TestWhoMayDoWhat: TOK-2, TOK-3, TOK-9, with tokens required and without.
func TestWhoMayDoWhat(t *testing.T) {
	tests := []struct {
		name           string
		grant          Grant
		key            string
		required       bool
		publish, watch string
	}{
		{"nothing", Grant{}, "", true, "forbidden", "forbidden"},
		{"http", Grant{HTTP: true}, "", true, "yes", "yes"},
		{"rtp-udp", Grant{Clients: []rtp.Client{client}}, "", true, "yes", "forbidden"},
		{"both", Grant{HTTP: true, Clients: []rtp.Client{client}}, "", true, "yes", "yes"},
		{"key, none shown", Grant{HTTP: true, Key: NewKey(key)}, "", true, "key", "yes"},
		{"key, another shown", Grant{HTTP: true, Key: NewKey(key)}, key + "0", true, "key", "yes"},
		{"key, shown", Grant{HTTP: true, Key: NewKey(key)}, key, true, "yes", "yes"},
		{"no key, one shown", Grant{HTTP: true}, key, true, "yes", "yes"},
		{"nothing, open", Grant{}, "", false, "yes", "yes"},
		{"rtp-udp, open", Grant{Clients: []rtp.Client{client}}, "", false, "yes", "yes"},
		{"key, none shown, open", Grant{HTTP: true, Key: NewKey(key)}, "", false, "key", "yes"},
		{"key, shown, open", Grant{HTTP: true, Key: NewKey(key)}, key, false, "yes", "yes"},
	}
	for _, test := range tests {
		table := New(test.required)
		if test.grant.Session = "a"; !test.grant.None() {
			set(t, table, test.grant)
		}
		if got := let(table.Publish("a", test.key)); got != test.publish {
			t.Errorf("%s: publishing: %s, want %s", test.name, got, test.publish)
		}
		if got := let(table.Watch("a")); got != test.watch {
			t.Errorf("%s: watching: %s, want %s", test.name, got, test.watch)
		}
		if got := let(table.Publish("b", test.key)); (got == "yes") == test.required {
			t.Errorf("%s: publishing another session: %s", test.name, got)
		}
	}
}

// over reports whether who was let in has been told to go, and that the cause is
// ErrRevoked.
func over(t *testing.T, ctx context.Context) bool {
	t.Helper()
	if ctx.Err() == nil {
		return false
	}
	if cause := context.Cause(ctx); !errors.Is(cause, ErrRevoked) {
		t.Errorf("the cause is %v", cause)
	}
	return true
}

// TestChangesTell: who was let in hears of what becomes of the token, and stays
// when the next one allows the same.
func TestChangesTell(t *testing.T) {
	const ttl = time.Hour
	set := func(g Grant) func(*testing.T, *Table) {
		return func(t *testing.T, table *Table) {
			if g.Session = "a"; !set(t, table, g) {
				t.Error("the earlier token isn't counted as replaced")
			}
		}
	}
	tests := map[string]struct {
		change         func(*testing.T, *Table)
		publish, watch bool // are over
	}{
		"nothing":      {func(*testing.T, *Table) {}, false, false},
		"the same":     {set(Grant{HTTP: true}), false, false},
		"both types":   {set(Grant{HTTP: true, Clients: []rtp.Client{client}}), false, false},
		"rtp-udp":      {set(Grant{Clients: []rtp.Client{client}}), false, true},
		"another key":  {set(Grant{HTTP: true, Key: NewKey(key)}), false, false},
		"another time": {set(Grant{HTTP: true, Expires: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}), false, false},
		"revocation": {func(t *testing.T, table *Table) {
			if g, err := table.Revoke("a"); err != nil || g.Session != "a" || !g.HTTP {
				t.Errorf("Revoke: %+v, %v", g, err)
			}
		}, true, true},
		"the same, and then revocation": {func(t *testing.T, table *Table) {
			set(Grant{HTTP: true})(t, table)
			if _, err := table.Revoke("a"); err != nil {
				t.Error(err)
			}
		}, true, true},
		"time, less":        {func(*testing.T, *Table) { time.Sleep(ttl - 1) }, false, false},
		"expiry":            {func(*testing.T, *Table) { time.Sleep(ttl) }, true, true},
		"time, after a new": {func(t *testing.T, table *Table) { set(Grant{HTTP: true})(t, table); time.Sleep(2 * ttl) }, false, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				table := New(true)
				if _, err := table.Set(Grant{Session: "a", HTTP: true, Expires: time.Now().Add(ttl)}); err != nil {
					t.Fatal(err)
				}
				publish, err1 := table.Publish("a", "")
				watch, err2 := table.Watch("a")
				if err := errors.Join(err1, err2); err != nil {
					t.Fatal(err)
				}
				test.change(t, table)
				synctest.Wait()
				if got := over(t, publish); got != test.publish {
					t.Errorf("publishing is over: %t", got)
				}
				if got := over(t, watch); got != test.watch {
					t.Errorf("watching is over: %t", got)
				}
				if _, err := table.Revoke("a"); (err == nil) == test.publish {
					t.Errorf("then Revoke gives %v", err)
				}
				synctest.Wait()
			})
		})
	}
}

// TestExpiredIsReplaced: a token that has expired, and whose timer is late, was
// none, and those whom it let in go.
func TestExpiredIsReplaced(t *testing.T) {
	table := New(true)
	set(t, table, Grant{Session: "a", HTTP: true})
	publish, err := table.Publish("a", "")
	if err != nil {
		t.Fatal(err)
	}
	table.entries["a"].Expires = time.Now().Add(-time.Second) // its timer never fires
	if got := let(table.Watch("a")); got != "forbidden" {
		t.Errorf("watching by an expired token: %s", got)
	}
	if all := table.All(); len(all) != 0 {
		t.Errorf("an expired token is listed: %+v", all)
	}
	if set(t, table, Grant{Session: "a", HTTP: true}) {
		t.Error("an expired token is counted as replaced")
	}
	if !over(t, publish) {
		t.Error("who was let in by the expired token goes on by the new one")
	}
}

// TestFollow: the follower hears of what is there and of each change, in order.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := New(false)
		set := func(g Grant) {
			if _, err := table.Set(g); err != nil {
				t.Fatal(err)
			}
		}
		set(Grant{Session: "b", HTTP: true})
		set(Grant{Session: "a", Clients: []rtp.Client{client}})
		var heard []string
		table.Follow(func(session string, now Grant) {
			heard = append(heard, fmt.Sprintf("%s %t %v", session, now.HTTP, now.Clients))
		})
		set(Grant{Session: "c", HTTP: true, Expires: time.Now().Add(time.Minute)})
		if _, err := table.Revoke("a"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		want := []string{"a false [127.0.0.1:5000]", "b true []", "c true []", "a false []", "c false []"}
		if !reflect.DeepEqual(heard, want) {
			t.Errorf("heard %q, want %q", heard, want)
		}
	})
}

// TestConcurrentChanges: many clients add and revoke at once; what remains is
// what the last change of each session made of it, in memory, in the file and
// for the follower.
func TestConcurrentChanges(t *testing.T) {
	path := t.TempDir() + "/tokens.json"
	table, err := Open(path, true)
	if err != nil {
		t.Fatal(err)
	}
	followed := map[string]Grant{} // under the table's own lock
	table.Follow(func(session string, now Grant) {
		if followed[session] = now; now.None() {
			delete(followed, session)
		}
	})
	const clients, rounds, sessions = 8, 25, 5
	var running sync.WaitGroup
	for c := range clients {
		running.Go(func() {
			for i := range rounds {
				session := fmt.Sprintf("s%d", (c+i)%sessions)
				if _, err := table.Set(Grant{Session: session, HTTP: true, Clients: []rtp.Client{{Host: "h", Port: uint16(2 * (c + 1))}}}); err != nil {
					t.Error(err)
				}
				table.All()
				if _, err := table.Watch(session); err != nil && !errors.Is(err, ErrForbidden) {
					t.Error(err)
				}
				if i%3 == 0 {
					if _, err := table.Revoke(session); err != nil && !errors.Is(err, ErrNone) {
						t.Error(err)
					}
				}
			}
		})
	}
	running.Wait()
	if err := table.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(path, true)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got, want := again.All(), table.All(); !reflect.DeepEqual(got, want) {
		t.Errorf("the file holds %+v, the memory %+v", got, want)
	}
	for _, g := range table.All() {
		if !reflect.DeepEqual(followed[g.Session], g) {
			t.Errorf("the follower was told %+v, in force is %+v", followed[g.Session], g)
		}
		delete(followed, g.Session)
	}
	if len(followed) != 0 {
		t.Errorf("the follower was told of more: %+v", followed)
	}
}

func TestValidKey(t *testing.T) {
	for k, want := range map[string]bool{
		key: true, "abc-._~+/ABC0123": true, "abcdefghijklmn==": true, strings.Repeat("a", 128): true,
		"": false, key[1:]: false, strings.Repeat("a", 129): false, "================": false,
		"abcdefgh=abcdefgh": false, "abcdefgh abcdefgh": false, "abcdefghabcdefgé": false, "abcdefgh%2Babcdef": false,
	} {
		if got := ValidKey(k); got != want {
			t.Errorf("ValidKey(%q) = %t", k, got)
		}
	}
}

func TestKey(t *testing.T) {
	k := NewKey(key)
	if !k.Is(key) || k.Is(key+"0") || k.Is(key[1:]) || k.Is("") {
		t.Error("the key isn't known again, or another is taken for it")
	}
	if k == NewKey(key) {
		t.Error("two keys that are the same text can be told to be")
	}
	if (Key{}).Is("") || strings.Contains(fmt.Sprintf("%+v", k), key) {
		t.Error("no key opens, or the key shows")
	}
}
