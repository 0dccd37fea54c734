package transcoder

// head is what a body begins with.
type head []byte

// headLength is as much of it as is looked at.
const headLength = 5

// add takes further bytes.
func (h *head) add(b []byte) {
	if n := headLength - len(*h); n > 0 {
		*h = append(*h, b[:min(n, len(b))]...)
	}
}

// kinds is how many of pictures and sound an FLV says that it holds (Adobe's
// specification of FLV 10.1, annex E.2); 0 where nothing is said.
func (h head) kinds() int {
	const video, audio = 1, 4
	if len(h) < headLength || string(h[:3]) != "FLV" {
		return 0
	}
	n := 0
	for _, flag := range []byte{video, audio} {
		if h[4]&flag != 0 {
			n++
		}
	}
	return n
}
