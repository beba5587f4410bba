package front

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// A call of a pod to a Service is carried on under the pod's own address, so that the pod behind the Service sees who calls, and the machine's filter
// judges it as the pod's own (executor/local makes both happen). Any other call is the machine's.

// The ports of calls that are carried: not those that pods themselves call from by default (32768 to 60999), so that the two are told apart, and not
// those that need a right.
const (
	firstPort = 1024
	lastPort  = 32_767
	// portTries is how many ports are tried for one call.
	portTries = 16
)

// caller is the address under which a call is carried to an endpoint; not valid for the machine's own. A pod that calls itself would take a packet
// with its own address for a forged one.
func (f *Front) caller(client netip.Addr, e endpoint) netip.Addr {
	callers := f.callers.Load()
	if callers == nil {
		return netip.Addr{}
	}
	to, err := netip.ParseAddrPort(e.address)
	if err != nil || !callers.Contains(client) || client == callers.Masked().Addr().Next() || client == to.Addr() {
		return netip.Addr{}
	}
	return client
}

// callPort is the next port under which a call is carried.
func (f *Front) callPort() uint16 {
	return uint16(firstPort + f.nextPort.Add(1)%(lastPort-firstPort+1))
}

// call connects to an endpoint by "tcp" or "udp", under the caller's own address if it is a pod's.
func (f *Front) call(ctx context.Context, network string, client netip.Addr, e endpoint) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	from := f.caller(client, e)
	if !from.IsValid() {
		return dialer.DialContext(ctx, network, e.address)
	}
	dialer.Control = transparent
	for tries := 1; ; tries++ {
		if at := netip.AddrPortFrom(from, f.callPort()); network == "udp" {
			dialer.LocalAddr = net.UDPAddrFromAddrPort(at)
		} else {
			dialer.LocalAddr = net.TCPAddrFromAddrPort(at)
		}
		conn, err := dialer.DialContext(ctx, network, e.address)
		taken := errors.Is(err, unix.EADDRINUSE) || errors.Is(err, unix.EADDRNOTAVAIL)
		if !taken || tries == portTries {
			return conn, err
		}
	}
}

// transparent lets a socket have an address that is another's.
func transparent(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		for _, option := range []struct{ level, name int }{{unix.SOL_IP, unix.IP_TRANSPARENT}, {unix.SOL_SOCKET, unix.SO_REUSEADDR}} {
			if failed == nil {
				failed = unix.SetsockoptInt(int(fd), option.level, option.name, 1)
			}
		}
	})
	return errors.Join(err, failed)
}
