package tokens

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"strings"
)

// Bounds on a publish key's length, in characters (TOK-9).
const (
	minKey = 16
	maxKey = 128
)

// KeyForm tells a person what ValidKey asks for.
const KeyForm = "16 to 128 characters of A-Z a-z 0-9 - . _ ~ + / and may end in ="

// ValidKey reports whether a text can be a publish key: a b64token of RFC 6750
// §2.1.
func ValidKey(k string) bool {
	if len(k) < minKey || len(k) > maxKey {
		return false
	}
	k = strings.TrimRight(k, "=")
	for _, c := range []byte(k) {
		if !(c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("-._~+/", c) >= 0) {
			return false
		}
	}
	return k != ""
}

// Key is a publish key as it is kept, from which nobody can tell the key. The
// zero Key is none.
type Key struct {
	salt, hash [sha256.Size]byte
}

// NewKey keeps a publish key.
func NewKey(k string) (kept Key) {
	rand.Read(kept.salt[:]) // never fails
	kept.hash = kept.digest(k)
	return kept
}

func (k Key) digest(presented string) [sha256.Size]byte {
	return sha256.Sum256(append(k.salt[:len(k.salt):len(k.salt)], presented...))
}

// Is reports whether a presented key is the one that is kept, in a time that
// doesn't tell how much of it is right.
func (k Key) Is(presented string) bool {
	digest := k.digest(presented)
	return subtle.ConstantTimeCompare(digest[:], k.hash[:]) == 1
}
