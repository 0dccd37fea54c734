// Package tokens holds what each session was given: whether it may be watched
// over HTTP, where it goes by RTP, what may be sent to it, with which key and
// for how long. It decides who may publish and watch, tells those it let in when
// that is over, and keeps its tokens in a file. It knows no HTTP: requests are
// read by packages api and server.
package tokens

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"tureen/impl/rtp"
)

// Errors of Table's methods.
var (
	// ErrForbidden is a session without a token for what was asked.
	ErrForbidden = errors.New("the session has no token for that")
	// ErrKey is a publisher without the session's publish key.
	ErrKey = errors.New("the session has a publish key, and the publisher doesn't bear it")
	// ErrNone is a session without tokens.
	ErrNone = errors.New("the session has no tokens")
	// ErrStore is a change that the token file couldn't take; nothing has
	// changed.
	ErrStore = errors.New("the token file can't be written, so nothing was changed")
	// ErrRevoked is the cause with which those end who were let in, when their
	// token is revoked, expires or is replaced by one that allows less.
	ErrRevoked = errors.New("the session's token was revoked, or has expired")
)

// Grant is all that one session was given: its tokens.
type Grant struct {
	Session    string
	HTTP       bool         // a token of type http: it may be watched
	Clients    []rtp.Client // one of type rtp-udp: where it is sent
	InputTypes []string     // what may be published, of InputTypes; nil is anything
	Expires    time.Time    // zero is never
	Key        Key          // a publisher must bear it; zero is none
}

// None reports whether there is no token at all.
func (g Grant) None() bool { return !g.HTTP && len(g.Clients) == 0 }

// InputTypes are the types that a session may be restricted to (TOK-6).
var InputTypes = []string{
	"video/webm", "audio/webm", "video/matroska", "audio/matroska", "video/mp4", "audio/mp4", "video/mp2t", "video/x-flv",
	"video/ogg", "audio/ogg", "audio/mpeg", "audio/aac", "audio/flac", "audio/wav",
}

// Table holds the tokens by session.
type Table struct {
	required bool

	// changes is held from a change's first step to its last one, which may be
	// slow. It is never taken with mu held, and reading needs only mu.
	changes sync.Mutex
	file    *file // nil when tokens are kept in memory alone
	follow  func(session string, now Grant)

	mu      sync.RWMutex // guards what follows
	entries map[string]*entry
}

// entry is a grant in force, and never changes.
type entry struct {
	Grant
	expiry         *time.Timer // nil without an end
	publish, watch life
}

// life is how long what was allowed is so.
type life struct {
	context.Context
	end context.CancelCauseFunc
}

func newLife() life {
	ctx, end := context.WithCancelCause(context.Background())
	return life{ctx, end}
}

// New is a table in memory. Where tokens are required, sessions without are
// closed to everyone.
func New(required bool) *Table {
	return &Table{required: required, follow: func(string, Grant) {}, entries: map[string]*entry{}}
}

// Open is a table that is kept in a file, which is made when it is missing. The
// error says what to do about it.
func Open(path string, required bool) (*Table, error) {
	f, grants, err := openFile(path)
	if err != nil {
		return nil, err
	}
	t := New(required)
	t.file = f
	for _, g := range grants {
		t.put(g)
	}
	if err := f.write(t.All()); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return t, nil
}

// Close lets another process have the file. The table can't be changed after it.
func (t *Table) Close() error {
	t.changes.Lock()
	defer t.changes.Unlock()
	if t.file == nil {
		return nil
	}
	return t.file.close()
}

// Required reports whether sessions without tokens are closed to everyone.
func (t *Table) Required() bool { return t.required }

// Follow has f called for each session that has tokens, and from then on for
// each whose tokens change, in order, before the change's caller hears of it. It
// may be called once. What is none any more is an empty Grant.
func (t *Table) Follow(f func(session string, now Grant)) {
	t.changes.Lock()
	defer t.changes.Unlock()
	t.follow = f
	for _, g := range t.All() {
		f(g.Session, g)
	}
}

// Set gives a session tokens in place of those it had; replaced tells whether it
// had any. It returns once those who were let in and may not go on have been
// told. The error is ErrStore.
func (t *Table) Set(g Grant) (replaced bool, err error) {
	t.changes.Lock()
	defer t.changes.Unlock()
	if err := t.store(g.Session, &g); err != nil {
		return false, err
	}
	t.mu.RLock()
	before := t.entries[g.Session]
	t.mu.RUnlock()
	if before != nil && before.expired() {
		t.remove(g.Session) // its timer is a moment late; who it let in goes all the same
	}
	replaced = t.put(g)
	t.follow(g.Session, g)
	return replaced, nil
}

// Revoke takes a session's tokens, and returns like Set. The error is ErrNone or
// ErrStore.
func (t *Table) Revoke(session string) (Grant, error) {
	t.changes.Lock()
	defer t.changes.Unlock()
	g, ok := t.Get(session)
	if !ok {
		return Grant{}, ErrNone
	}
	if err := t.store(session, nil); err != nil {
		return Grant{}, err
	}
	t.remove(session)
	return g, nil
}

// store writes the file as it is with one session's grant changed, or without
// it.
func (t *Table) store(session string, now *Grant) error {
	if t.file == nil {
		return nil
	}
	all := slices.DeleteFunc(t.All(), func(g Grant) bool { return g.Session == session })
	if now != nil {
		all = append(all, *now)
	}
	if err := t.file.write(all); err != nil {
		return fmt.Errorf("%w: %w", ErrStore, err)
	}
	return nil
}

// put has a grant in force. Who was let in by the earlier one and may stay does.
func (t *Table) put(g Grant) (replaced bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.entries[g.Session]
	e := &entry{Grant: g, publish: newLife(), watch: newLife()}
	if before != nil {
		before.stop()
		e.publish = before.publish
	}
	switch {
	case before != nil && before.HTTP && g.HTTP:
		e.watch = before.watch
	case before != nil:
		before.watch.end(ErrRevoked)
	}
	if !g.Expires.IsZero() {
		e.expiry = time.AfterFunc(time.Until(g.Expires), func() { t.expire(e) })
	}
	t.entries[g.Session] = e
	return before != nil
}

// remove ends what a session was given.
func (t *Table) remove(session string) {
	t.mu.Lock()
	e := t.entries[session]
	delete(t.entries, session)
	t.mu.Unlock()
	e.stop()
	e.publish.end(ErrRevoked)
	e.watch.end(ErrRevoked)
	t.follow(session, Grant{})
}

// expire removes an entry whose time is over, unless it was replaced. The file
// may keep it until the next change: it says when it is over.
func (t *Table) expire(e *entry) {
	t.changes.Lock()
	defer t.changes.Unlock()
	t.mu.RLock()
	current := t.entries[e.Session] == e
	t.mu.RUnlock()
	if current {
		t.remove(e.Session)
	}
}

func (e *entry) stop() {
	if e.expiry != nil {
		e.expiry.Stop()
	}
}

func (e *entry) expired() bool { return !e.Expires.IsZero() && !time.Now().Before(e.Expires) }

// find is a session's entry; nil without one in force.
func (t *Table) find(session string) *entry {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if e := t.entries[session]; e != nil && !e.expired() {
		return e
	}
	return nil
}

// Get is what a session was given.
func (t *Table) Get(session string) (g Grant, ok bool) {
	if e := t.find(session); e != nil {
		return e.Grant, true
	}
	return Grant{}, false
}

// All is what every session was given, by session id.
func (t *Table) All() []Grant {
	t.mu.RLock()
	entries := slices.AppendSeq(make([]*entry, 0, len(t.entries)), maps.Values(t.entries))
	t.mu.RUnlock()
	all := make([]Grant, 0, len(entries))
	for _, e := range entries {
		if !e.expired() {
			all = append(all, e.Grant)
		}
	}
	slices.SortFunc(all, func(a, b Grant) int { return strings.Compare(a.Session, b.Session) })
	return all
}

// Publish lets a publisher in who presents a key, or "". The context ends, with
// ErrRevoked as the cause, when it may publish no longer. The error is
// ErrForbidden or ErrKey.
func (t *Table) Publish(session, key string) (context.Context, error) {
	e := t.find(session)
	switch {
	case e == nil && t.required:
		return nil, ErrForbidden
	case e != nil && e.Key != Key{} && !e.Key.Is(key):
		return nil, ErrKey
	case e == nil || !t.required:
		return context.Background(), nil
	}
	return e.publish, nil
}

// Describe lets somebody in who asks how a session is sent by RTP. The error is
// ErrForbidden.
func (t *Table) Describe(session string) error {
	if t.required && t.find(session) == nil {
		return ErrForbidden
	}
	return nil
}

// Watch lets a viewer in, likewise. The error is ErrForbidden.
func (t *Table) Watch(session string) (context.Context, error) {
	if !t.required {
		return context.Background(), nil
	}
	e := t.find(session)
	if e == nil || !e.HTTP {
		return nil, ErrForbidden
	}
	return e.watch, nil
}
