package wire

import (
	"context"

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

// addresses puts Services on the pods' bridge; where there can be none, on loopback, which pods that share this
// machine's network reach.
func (s *Server) addresses() targetlocal.Addresses {
	info, err := s.machine.Executor.Network()
	if err != nil {
		s.o.Log.Warn("pods have no network of their own", "error", err)
		return targetlocal.Loopback{}
	}
	if err := s.network.Mark(); err != nil {
		s.o.Log.Warn("other servers of this machine may take the pods' bridge for free", "error", err)
	}
	prefix, err := local.ServicesOf(info.Subnet)
	if err != nil {
		s.o.Log.Warn("Services get loopback addresses", "error", err)
		return targetlocal.Loopback{}
	}
	return targetlocal.Bridge{Interface: info.Bridge, Prefix: prefix}
}
