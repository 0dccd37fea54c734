package rtp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"tureen/impl/media"
)

// sockets are a client's, each connected to one of its ports, so that the kernel
// tells when the client refuses. Index i is of the client's port + i; nil where
// the stream has no such track.
type sockets struct {
	to    netip.AddrPort // of the first
	from  netip.Addr     // this machine's, towards the client
	all   [clientPorts]*socket
	close func()
}

// rtpPort and rtcpPort are a track's places among the client's ports (RTP-2).
func rtpPort(kind media.Kind) int  { return 2 * int(kind) }
func rtcpPort(kind media.Kind) int { return 2*int(kind) + 1 }

// connect opens the sockets for the tracks that there are. The network isn't
// asked: it answers, if at all, to what is sent.
func connect(to netip.AddrPort, kinds [media.Kinds]bool) (*sockets, error) {
	s := &sockets{to: to}
	s.close = func() {
		for _, one := range s.all {
			if one != nil {
				one.conn.Close()
			}
		}
	}
	for kind, has := range kinds {
		if !has {
			continue
		}
		for _, port := range []int{rtpPort(media.Kind(kind)), rtcpPort(media.Kind(kind))} {
			one, err := dial(netip.AddrPortFrom(to.Addr(), to.Port()+uint16(port)))
			if err != nil {
				s.close()
				return nil, err
			}
			s.all[port] = one
			s.from = one.conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
		}
	}
	return s, nil
}

// socket is one, written to without ever waiting.
type socket struct {
	conn *net.UDPConn
	raw  syscall.RawConn

	// of the write under way
	packet []byte
	err    error
	send   func(fd uintptr) (done bool)
}

func dial(to netip.AddrPort) (*socket, error) {
	dialer := net.Dialer{Control: restrain}
	conn, err := dialer.Dial("udp", to.String())
	if err != nil {
		return nil, fmt.Errorf("open a socket for RTP: %w", err)
	}
	udp := conn.(*net.UDPConn)
	raw, err := udp.SyscallConn()
	if err != nil {
		udp.Close()
		return nil, fmt.Errorf("open a socket for RTP: %w", err)
	}
	s := &socket{conn: udp, raw: raw}
	s.send = s.attempt
	return s, nil
}

// restrain has a socket keep next to nothing of what receivers report, which
// nobody reads, and refuse broadcast addresses, which Go allows: one packet in
// must not become one for every host of a network.
func restrain(_, _ string, raw syscall.RawConn) error {
	var err error
	control := raw.Control(func(fd uintptr) {
		err = errors.Join(
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 0), // the kernel's least
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 0),
		)
	})
	return errors.Join(control, err)
}

// write sends a packet, or has it lost where the kernel has no room for it.
func (s *socket) write(packet []byte) error {
	s.packet, s.err = packet, nil
	err := s.raw.Write(s.send)
	s.packet = nil
	return errors.Join(err, s.err)
}

func (s *socket) attempt(fd uintptr) (done bool) {
	for {
		if _, s.err = unix.Write(int(fd), s.packet); s.err != syscall.EINTR {
			return true
		}
	}
}
