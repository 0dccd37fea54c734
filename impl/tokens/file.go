package tokens

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"tureen/impl/live"
	"tureen/impl/rtp"
)

// fileVersion is that of the format below.
const fileVersion = 1

// document is the token file: JSON, so that an operator can read it.
type document struct {
	Version int      `json:"version"`
	Tokens  []record `json:"tokens"`
}

// record is a Grant in the file.
type record struct {
	Session    string       `json:"sessionid"`
	HTTP       bool         `json:"http,omitempty"`
	Clients    []string     `json:"udp_clients,omitempty"` // as rtp.ParseClient reads them
	InputTypes []string     `json:"input_types,omitempty"`
	Expires    *time.Time   `json:"expires,omitempty"`
	Key        *recordedKey `json:"publish_key,omitempty"`
}

// recordedKey is a Key in the file: hexadecimal digits.
type recordedKey struct {
	Salt string `json:"salt"`
	Hash string `json:"sha256"` // of the salt and the key
}

func recordOf(g Grant) record {
	r := record{Session: g.Session, HTTP: g.HTTP, InputTypes: g.InputTypes}
	for _, c := range g.Clients {
		r.Clients = append(r.Clients, c.String())
	}
	if !g.Expires.IsZero() {
		r.Expires = &g.Expires
	}
	if g.Key != (Key{}) {
		r.Key = &recordedKey{Salt: hex.EncodeToString(g.Key.salt[:]), Hash: hex.EncodeToString(g.Key.hash[:])}
	}
	return r
}

// grant is what was recorded.
func (r record) grant() (Grant, error) {
	g := Grant{Session: r.Session, HTTP: r.HTTP, InputTypes: r.InputTypes}
	if !live.ValidID(r.Session) {
		return Grant{}, fmt.Errorf("%q is no session id", r.Session)
	}
	for _, text := range r.Clients {
		c, err := rtp.ParseClient(text)
		if err != nil {
			return Grant{}, fmt.Errorf("session %s: %w", r.Session, err)
		}
		g.Clients = append(g.Clients, c)
	}
	for _, t := range r.InputTypes {
		if !slices.Contains(InputTypes, t) {
			return Grant{}, fmt.Errorf("session %s: %q is no input type", r.Session, t)
		}
	}
	if g.None() {
		return Grant{}, fmt.Errorf("session %s has neither http nor udp_clients", r.Session)
	}
	if r.Expires != nil {
		g.Expires = *r.Expires
	}
	if r.Key != nil && (!decode(g.Key.salt[:], r.Key.Salt) || !decode(g.Key.hash[:], r.Key.Hash)) {
		return Grant{}, fmt.Errorf("session %s: its publish_key isn't 64 hexadecimal digits each", r.Session)
	}
	return g, nil
}

// decode fills b from its hexadecimal digits.
func decode(b []byte, digits string) bool {
	n, err := hex.DecodeString(digits)
	return err == nil && copy(b, n) == len(b) && len(n) == len(b)
}

// encode is the file's content.
func encode(grants []Grant) []byte {
	d := document{Version: fileVersion, Tokens: make([]record, 0, len(grants))}
	for _, g := range grants {
		d.Tokens = append(d.Tokens, recordOf(g))
	}
	b, err := json.MarshalIndent(d, "", " ")
	if err != nil {
		panic(err) // it has fields that can be encoded, and nothing else
	}
	return append(b, '\n')
}

// parse reads the file's content, all of it: half of a file is none.
func parse(b []byte) ([]Grant, error) {
	decoder := json.NewDecoder(bytes.NewReader(b))
	decoder.DisallowUnknownFields()
	var d document
	if err := decoder.Decode(&d); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, errors.New("it breaks off")
	} else if err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, errors.New("something follows its end")
	}
	if d.Version != fileVersion {
		return nil, fmt.Errorf("it is of version %d, and this program reads version %d", d.Version, fileVersion)
	}
	if d.Tokens == nil {
		return nil, errors.New("it lacks the list of tokens")
	}
	grants, seen := make([]Grant, 0, len(d.Tokens)), map[string]bool{}
	for _, r := range d.Tokens {
		g, err := r.grant()
		if err != nil {
			return nil, err
		}
		if seen[g.Session] {
			return nil, fmt.Errorf("session %s is in it twice", g.Session)
		}
		seen[g.Session] = true
		grants = append(grants, g)
	}
	return grants, nil
}

// file keeps grants over restarts. One process has it at a time.
type file struct {
	path string
	lock *os.File
}

// openFile reads what was kept; nothing when there is no file yet.
func openFile(path string) (*file, []Grant, error) {
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		path = resolved // so that a link stays one when the file is replaced
	}
	lock, err := acquire(path)
	if err != nil {
		return nil, nil, fmt.Errorf("token file %s: %w", path, err)
	}
	f := &file{path: path, lock: lock}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil, nil
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("read the token file: %w", err), f.close())
	}
	grants, err := parse(b)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("the token file %s is damaged: %w; put a sound copy in its place, "+
			"or move it away to begin without tokens", path, err), f.close())
	}
	return f, grants, nil
}

// acquire locks a file beside the one at path, which itself is replaced at every
// change. The lock goes with the process, however that ends.
func acquire(path string) (*os.File, error) {
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, fileMode)
	if err != nil {
		return nil, fmt.Errorf("its folder must exist and be writable: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		held := errors.New("another proxy uses it; end that, or name another file")
		if !errors.Is(err, unix.EWOULDBLOCK) {
			held = fmt.Errorf("lock it: %w", err)
		}
		return nil, errors.Join(held, lock.Close())
	}
	return lock, nil
}

func (f *file) close() error {
	if err := f.lock.Close(); err != nil {
		return fmt.Errorf("unlock the token file: %w", err)
	}
	return nil
}

// fileMode keeps the file to the proxy's own user.
const fileMode = 0o600

// write replaces the file's content, so that a crash at any instant leaves
// either the old one or the new one: the new one is on the disk before it gets
// the name, and the name is before anybody is told.
func (f *file) write(grants []Grant) error {
	fresh := f.path + ".new"
	if err := writeSynced(fresh, encode(grants)); err != nil {
		return fmt.Errorf("write the token file: %w", err)
	}
	if err := os.Rename(fresh, f.path); err != nil {
		return fmt.Errorf("replace the token file: %w", err)
	}
	folder, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		return fmt.Errorf("open the token file's folder: %w", err)
	}
	if err := errors.Join(folder.Sync(), folder.Close()); err != nil {
		return fmt.Errorf("sync the token file's folder: %w", err)
	}
	return nil
}

func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, fileMode)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
