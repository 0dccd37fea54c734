package live

// maxID is the longest session id, in characters.
const maxID = 128

// IDForm tells a person what ValidID asks for.
const IDForm = "1 to 128 characters of A-Z a-z 0-9 . _ ~ - and is neither . nor .."

// ValidID reports whether a session may be called so (the contract's "Terms").
func ValidID(id string) bool {
	if id == "" || len(id) > maxID || id == "." || id == ".." {
		return false
	}
	for _, c := range []byte(id) {
		if !unreserved(c) {
			return false
		}
	}
	return true
}

// unreserved is RFC 3986 §2.3.
func unreserved(c byte) bool {
	return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' ||
		c == '.' || c == '_' || c == '~' || c == '-'
}
