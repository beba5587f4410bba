package wire

import (
	"fmt"
	"net/netip"

	targetlocal "github.com/tiphys/tiphys/deploy/target/local"
)

// addresses puts Services on the pods' bridge; where there can be none, on loopback, which pods that share this
// machine's network reach.
func (s *Server) addresses() targetlocal.Addresses {
	info, err := s.machine.Executor.Network()
	if err != nil {
		s.o.Log.Warn("pods have no network of their own", "error", err)
		return targetlocal.Loopback{}
	}
	s.markBridge(info.Bridge)
	prefix, err := rangeAfter(info.Subnet)
	if err != nil {
		s.o.Log.Warn("Services get loopback addresses", "error", err)
		return targetlocal.Loopback{}
	}
	return targetlocal.Bridge{Interface: info.Bridge, Prefix: prefix}
}

// serviceBits is the size of the range of Service addresses.
const serviceBits = 24

// rangeAfter is the range of Service addresses: the first /24 behind the pods' network, which pods reach by their
// default route.
func rangeAfter(subnet string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(subnet)
	if err != nil || !p.Addr().Is4() {
		return netip.Prefix{}, fmt.Errorf("network %q of the pods is not an IPv4 network", subnet)
	}
	a := p.Masked().Addr().As4()
	n := uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
	n += 1 << (32 - p.Bits())
	n &^= 1<<(32-serviceBits) - 1
	next := netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
	if !next.IsPrivate() {
		return netip.Prefix{}, fmt.Errorf("behind network %s of the pods there is no private range for the addresses of Services", subnet)
	}
	return netip.PrefixFrom(next, serviceBits), nil
}
