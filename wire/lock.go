package wire

import (
	"context"

	"github.com/tiphys/tiphys/datafolder"
)

// lockData takes the data folder for this server, before anything in it is read or written.
func (s *Server) lockData(ctx context.Context) error {
	lock, err := datafolder.Take(ctx, s.o.Data)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, lock.Unlock)
	if err := datafolder.Register(s.o.Data); err != nil {
		s.o.Log.Warn("steps of other servers of this machine may see this data folder", "error", err)
	}
	return nil
}
