package wire

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	targetlocal "github.com/tiphys/tiphys/deploy/target/local"
	"github.com/tiphys/tiphys/executor/local"
)

// openNetwork takes a bridge and addresses for the pods of this server.
func (s *Server) openNetwork(ctx context.Context) (err error) {
	if s.network, err = local.ClaimNetwork(ctx, s.o.Data, s.o.Network); err != nil {
		return err
	}
	s.closers = append(s.closers, s.network.Close)
	s.o.Network = s.network.Network
	return nil
}

// podNetwork is the network of the pods, which reach the server's own ports.
func (s *Server) podNetwork() (local.Network, error) {
	network := s.o.Network
	network.Ports = slices.Clone(network.Ports)
	listeners := []net.Listener{s.carrier.listener}
	if s.stepPort.listener != nil {
		listeners = append(listeners, s.stepPort.listener)
	}
	for _, l := range listeners {
		address, err := netip.ParseAddrPort(l.Addr().String())
		if err != nil {
			return network, fmt.Errorf("find the port of %s: %w", l.Addr(), err)
		}
		network.Ports = append(network.Ports, address.Port())
	}
	return network, nil
}

// wall is what keeps the pods of applications from each other. The zero value is nothing.
type wall struct {
	executor targetlocal.Wall
	// callers is the network of the pods, and machine this machine's address there.
	callers netip.Prefix
	machine netip.Addr
}

// addresses puts Services on the pods' bridge; where there can be none, on loopback, which pods that share this
// machine's network reach.
func (s *Server) addresses() (targetlocal.Addresses, wall) {
	info, err := s.machine.Executor.Network()
	if err != nil {
		s.o.Log.Warn("pods have no network of their own", "error", err)
		return targetlocal.Loopback{}, wall{}
	}
	if err := s.network.Mark(); err != nil {
		s.o.Log.Warn("other servers of this machine may take the pods' bridge for free", "error", err)
	}
	prefix, err := local.ServicesOf(info.Subnet)
	if err != nil {
		s.o.Log.Warn("Services get loopback addresses", "error", err)
		return targetlocal.Loopback{}, wall{}
	}
	return targetlocal.Bridge{Interface: info.Bridge, Prefix: prefix}, s.wall(info)
}

// wall is that of a network; nothing where the kernel cannot be told who reaches whom.
func (s *Server) wall(info local.NetworkInfo) wall {
	callers, err := netip.ParsePrefix(info.Subnet)
	if err != nil || !info.Filtered {
		return wall{}
	}
	gateway, err := netip.ParseAddr(info.Gateway)
	if err != nil {
		return wall{}
	}
	return wall{executor: s.machine.Executor, callers: callers.Masked(), machine: gateway}
}
