package wire

import (
	"context"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"github.com/tiphys/tiphys/control"
)

// A disk is full for the server when less than this is free: nothing more can be counted on to be recorded. It is an eighth of what
// logs leave free on theirs, so that steps alone do not make it so.
const (
	leastRoom     = 8 << 20 // bytes
	leastRoomPart = 128     // of a small disk
)

// diskRoom tells how many bytes are free on a folder's disk, and how many it has. What cannot be asked has room.
func diskRoom(dir string) (free, size uint64) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || st.Bsize <= 0 {
		return math.MaxUint64, math.MaxUint64
	}
	return st.Bavail * uint64(st.Bsize), st.Blocks * uint64(st.Bsize)
}

// trouble says for people what keeps this server from recording anything, or what is wrong with its record; empty if nothing is. What runs
// goes on, and what is there can be read.
func (s *Server) trouble() string {
	free, size := s.room(s.o.Data)
	if free >= min(leastRoom, size/leastRoomPart) {
		return s.ledgerTrouble()
	}
	return fmt.Sprintf("the disk of the data folder is full (%d KiB are free): nothing new is recorded until there is room again", free>>10)
}

// ledgerTrouble says what is wrong with the record; empty if nothing is.
func (s *Server) ledgerTrouble() string {
	if s.audit != nil {
		if t := s.audit.Trouble(); t != "" {
			return t
		}
	}
	if s.machine != nil && s.ledger != nil {
		if err := s.ledger.Trouble(); err != nil {
			return err.Error()
		}
	}
	return ""
}

// shown is what the screens show above everything: what is wrong, or that the server is held.
func (s *Server) shown() string {
	if t := s.trouble(); t != "" {
		return t
	}
	if reason := s.hold.Reason(); reason != "" {
		return "This server is " + reason
	}
	return ""
}

// disk is the service that tells of trouble with the disk. It has nothing to do but to be asked.
type disk struct{ server *Server }

func (disk) Name() string                { return "disk" }
func (disk) Start(context.Context) error { return nil }
func (disk) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (d disk) Health() control.Health {
	if t := d.server.trouble(); t != "" {
		return control.Health{State: control.Failing, Reason: t}
	}
	return control.Health{}
}
