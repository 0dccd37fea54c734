package rtp

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"

	"tureen/impl/media"
)

// Errors of Sender.Describe.
var (
	// ErrSilent is a session of which nothing is being sent: it has no clients,
	// or no stream.
	ErrSilent = errors.New("nothing of this session is sent by RTP")
	// ErrNoClient is a client that isn't one of the session's.
	ErrNoClient = errors.New("it is none of the session's clients")
)

// Describe is the session description (RFC 8866) of what one of a session's
// clients is sent; of the first of them when it is the zero Client. The error is
// ErrSilent or ErrNoClient.
func (s *Sender) Describe(session string, c Client) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.transmissions[session]
	if t == nil {
		return nil, ErrSilent
	}
	for _, client := range s.clients[session] {
		if client == c || c == (Client{}) {
			return t.describe(session, client), nil
		}
	}
	return nil, ErrNoClient
}

// describe writes the description line by line, in the order that RFC 8866 §5
// demands. It needs no line for RTCP, which goes to the next port (§5.14).
func (t *transmission) describe(session string, c Client) []byte {
	from, to := "IN IP4 0.0.0.0", "IN IP4 "+c.Host // a name may stand here, too (§5.7)
	if s := t.addresses[c]; s != nil {
		from, to = connection(s.from), connection(s.to.Addr())
	} else if addr, err := netip.ParseAddr(c.Host); err == nil {
		to = connection(addr)
	}
	var b bytes.Buffer
	line := func(format string, values ...any) { fmt.Fprintf(&b, format+"\r\n", values...) }
	line("v=0")
	line("o=- %d 1 %s", t.id, from)
	line("s=%s", session)
	line("c=%s", to)
	line("t=0 0")
	line("a=recvonly") // that is what is left to its readers (§6.7.1)
	if v := t.sources[media.Video]; v != nil {
		line("m=video %d RTP/AVP %d", int(c.Port)+rtpPort(media.Video), videoType)
		line("a=rtpmap:%d VP8/%d", videoType, videoRate) // RFC 7741 §6.2.1
		line("a=ssrc:%d cname:%s", v.ssrc, t.cname)      // RFC 5576 §6.1
	}
	if a := t.sources[media.Audio]; a != nil {
		line("m=audio %d RTP/AVP %d", int(c.Port)+rtpPort(media.Audio), audioType)
		line("a=rtpmap:%d vorbis/%d/%d", audioType, a.rate, t.vorbis.channels) // RFC 5215 §7
		line("a=fmtp:%d configuration=%s", audioType, base64.StdEncoding.EncodeToString(t.vorbis.configuration))
		line("a=ssrc:%d cname:%s", a.ssrc, t.cname)
	}
	return b.Bytes()
}

// connection is an address as a description has it (RFC 8866 §5.7): one of IPv4
// that a group shares with the hops that its packets may take, which the kernel
// sets to one.
func connection(addr netip.Addr) string {
	addr = addr.Unmap().WithZone("") // which is this machine's own name for it
	switch {
	case addr.Is4() && addr.IsMulticast():
		return "IN IP4 " + addr.String() + "/1"
	case addr.Is4():
		return "IN IP4 " + addr.String()
	}
	return "IN IP6 " + addr.String()
}
