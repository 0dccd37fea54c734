package tokens

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"tureen/impl/rtp"
)

// writerVariable makes the test binary a writer of the token file it names.
const writerVariable = "TUREEN_TEST_WRITER"

func TestMain(m *testing.M) {
	if path := os.Getenv(writerVariable); path != "" {
		if err := writeForEver(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// sizes of the file that the writer turns between: a few bytes, and more than a
// page of memory and disk.
const crowd = 200

// writeForEver changes the tokens until it is killed, and says each change once
// it was made: session n has n as its client's port, times two.
func writeForEver(path string) error {
	table, err := Open(path, true)
	if err != nil {
		return err
	}
	for i := 1; ; i++ {
		g := Grant{Session: "counter", Clients: []rtp.Client{{Host: "127.0.0.1", Port: uint16(2 * (i%1000 + 1))}}}
		if _, err := table.Set(g); err != nil {
			return err
		}
		fmt.Println(g.Clients[0].Port)
		session := fmt.Sprintf("s%d", i%crowd)
		if _, err := table.Set(Grant{Session: session, HTTP: true, InputTypes: InputTypes}); err != nil {
			return err
		}
		if i%crowd == 0 {
			for _, g := range table.All() {
				if g.Session == "counter" {
					continue
				}
				if _, err := table.Revoke(g.Session); err != nil {
					return err
				}
			}
		}
	}
}

// TestKilled kills a process that changes its tokens, again and again, at any
// instant: the file is whole each time, and holds the last change that was
// acknowledged, or the one after it.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	rounds := 30
	if testing.Short() {
		rounds = 5
	}
	for range rounds {
		acknowledged := killedWriter(t, path)
		table, err := Open(path, true)
		if err != nil {
			t.Fatalf("after a kill: %v", err)
		}
		g, _ := table.Get("counter")
		if err := table.Close(); err != nil {
			t.Fatal(err)
		}
		if acknowledged == 0 {
			continue // killed before its first change
		}
		next := acknowledged%2000 + 2
		if len(g.Clients) != 1 || g.Clients[0].Port != acknowledged && g.Clients[0].Port != next {
			t.Errorf("the file holds %v, acknowledged was %d", g.Clients, acknowledged)
		}
	}
}

// killedWriter runs a writer, kills it at some moment, and returns what it last
// acknowledged.
func killedWriter(t *testing.T, path string) (acknowledged uint16) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	writer := exec.CommandContext(t.Context(), program)
	writer.Env = append(os.Environ(), writerVariable+"="+path)
	writer.Stderr = os.Stderr
	said, err := writer.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := writer.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(said)
	for range rand.IntN(2 * crowd / 10) {
		if !lines.Scan() {
			t.Fatalf("the writer ended by itself: %v", writer.Wait())
		}
	}
	// Not an event to await: any instant within a change will do.
	time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
	if err := writer.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
		if _, err := fmt.Sscan(lines.Text(), &acknowledged); err != nil {
			t.Fatal(err)
		}
	}
	writer.Wait() // it was killed
	return acknowledged
}

func everything() []Grant {
	return []Grant{
		{Session: "a", HTTP: true},
		{Session: "b", Clients: []rtp.Client{client, {Host: "::1", Port: 6000}, {Host: "host.example", Port: 2}}},
		{
			Session: "c", HTTP: true, InputTypes: []string{"video/webm", "audio/ogg"},
			Expires: time.Date(2100, 1, 2, 3, 4, 5, 6e6, time.UTC), Key: NewKey(key),
		},
	}
}

func TestFileKeepsAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	table, err := Open(path, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range everything() {
		g.Key = Key{}
		if g.Session == "c" {
			g.Key = NewKey(key)
		}
		set(t, table, g)
	}
	set(t, table, Grant{Session: "d", HTTP: true, Expires: time.Now().Add(-time.Second)})
	want := table.All()
	if _, err := Open(path, true); err == nil || !strings.Contains(err.Error(), "another proxy uses it") {
		t.Errorf("opened twice: %v", err)
	}
	if err := table.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(path, true)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got := again.All(); !reflect.DeepEqual(got, want) || len(got) != 3 {
		t.Errorf("kept are %+v, want %+v", got, want)
	}
	if got := let(again.Publish("c", key)); got != "yes" {
		t.Errorf("publishing by the kept key: %s", got)
	}
	content, err := os.ReadFile(path)
	if err != nil || bytes.Contains(content, []byte(key)) || bytes.Contains(content, []byte(`"d"`)) {
		t.Errorf("the file shows the key, or keeps an expired token: %v\n%s", err, content)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != fileMode {
		t.Errorf("the file's mode is %v, %v", info.Mode(), err)
	}
}

func TestDamagedFile(t *testing.T) {
	whole := encode(everything())
	edit := func(old, new string) string {
		if !bytes.Contains(whole, []byte(old)) {
			t.Fatalf("nothing to edit: %q", old)
		}
		return strings.Replace(string(whole), old, new, 1)
	}
	tests := map[string]struct{ content, says string }{
		"empty":             {"", "breaks off"},
		"half":              {string(whole[:len(whole)/2]), "breaks off"},
		"zeros":             {string(make([]byte, 4096)), "invalid character"},
		"no JSON":           {"tokens", "invalid character"},
		"twice":             {string(whole) + string(whole), "follows its end"},
		"another version":   {edit(`"version": 1`, `"version": 2`), "version 2"},
		"null":              {"null", "version 0"},
		"no list":           {`{"version": 1}`, "lacks the list"},
		"unknown field":     {edit(`"http"`, `"https"`), "unknown field"},
		"no session id":     {edit(`"a"`, `"a/b"`), `"a/b" is no session id`},
		"session twice":     {edit(`"b"`, `"a"`), "session a is in it twice"},
		"odd port":          {edit("127.0.0.1:5000", "127.0.0.1:5001"), "even"},
		"type":              {edit("video/webm", "video/web"), `"video/web" is no input type`},
		"neither":           {edit(`"http": true`, `"http": false`), "neither http nor udp_clients"},
		"time":              {edit("2100-01-02", "2100-13-02"), "month"},
		"key, too short":    {edit(`"sha256": "`, `"sha256": "0`), "hexadecimal"},
		"key, more of it":   {edit(`"sha256": "`, `"sha256": "00`), "hexadecimal"},
		"key, no salt":      {edit(`"salt"`, `"pepper"`), "unknown field"},
		"key, without salt": {`{"version":1,"tokens":[{"sessionid":"a","http":true,"publish_key":{}}]}`, "hexadecimal"},
	}
	for name, test := range tests {
		path := filepath.Join(t.TempDir(), "tokens.json")
		if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(path, true)
		if err == nil || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want it to say %q and where", name, err, test.says)
		}
		left, err := os.ReadFile(path)
		if err != nil || string(left) != test.content {
			t.Errorf("%s: the damaged file isn't left as it was: %v", name, err)
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		table, err := Open(path, true) // its lock was given back
		if err != nil {
			t.Fatalf("%s: the sound copy: %v", name, err)
		}
		table.Close()
	}
}

// TestUnwritable: what can't be kept isn't done, and says so.
func TestUnwritable(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "no", "tokens.json"), true); err == nil || !strings.Contains(err.Error(), "folder must exist") {
		t.Errorf("a file in no folder: %v", err)
	}
	path := filepath.Join(t.TempDir(), "tokens.json")
	table, err := Open(path, true)
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	set(t, table, Grant{Session: "a", HTTP: true})
	if err := os.Mkdir(path+".new", 0o700); err != nil { // in the way, for root too
		t.Fatal(err)
	}
	if _, err := table.Set(Grant{Session: "b", HTTP: true}); !errors.Is(err, ErrStore) {
		t.Errorf("Set gives %v, want ErrStore", err)
	}
	if _, err := table.Revoke("a"); !errors.Is(err, ErrStore) {
		t.Errorf("Revoke gives %v, want ErrStore", err)
	}
	if all := table.All(); len(all) != 1 || all[0].Session != "a" {
		t.Errorf("after refused changes there is %+v", all)
	}
}

// TestLink: a file that is reached by a link is replaced where it lies.
func TestLink(t *testing.T) {
	folder := t.TempDir()
	path, link := filepath.Join(folder, "tokens.json"), filepath.Join(folder, "link")
	if err := errors.Join(os.WriteFile(path, encode(nil), 0o600), os.Symlink(path, link)); err != nil {
		t.Fatal(err)
	}
	table, err := Open(link, true)
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	set(t, table, Grant{Session: "a", HTTP: true})
	content, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(content, []byte(`"a"`)) {
		t.Errorf("the linked file holds %s, %v", content, err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is one no more: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(encode(everything()))
	f.Add(encode(nil))
	f.Add([]byte(`{"version":1,"tokens":[{"sessionid":"a","http":true,"expires":"2100-01-01T00:00:00Z"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		grants, err := parse(b)
		if err != nil {
			return
		}
		again, err := parse(encode(grants))
		if err != nil || len(again) != len(grants) {
			t.Fatalf("what was read and written is read as %+v, %v", again, err)
		}
		for i := range grants {
			if !grants[i].Expires.Equal(again[i].Expires) {
				t.Errorf("it expires at %v, and then at %v", grants[i].Expires, again[i].Expires)
			}
		}
	})
}
