package local

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/executor/fork"
	"github.com/tiphys/tiphys/executor/protocol"
)

// reader opens files of a pod as the user of its main container, whatever this process may read itself. What a step left it may have left
// for others: a link to a file that only they may read.
type reader struct{ user fork.User }

var _ artifact.Opener = reader{}

// errNoReader says that a pod's user is not known: its shim was of an earlier version, or could not find the user in the image.
var errNoReader = errors.New("the user of the pod's main container is not known, so that nobody can read for it")

// openReader makes the reader of a pod whose first process is pid. The pod's user namespace is the one that its network belongs to.
func openReader(pid int, r *protocol.Reader) (reader, error) {
	if r == nil {
		return reader{}, errNoReader
	}
	u := fork.User{Users: -1, UID: r.UID, GID: r.GID, Groups: r.Groups, KeepGroups: r.KeepGroups, Capabilities: r.Capabilities}
	if !r.Users {
		return reader{u}, nil
	}
	network, err := unix.Open(fmt.Sprintf("/proc/%d/ns/net", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return reader{}, fmt.Errorf("find the pod's users: %w", err)
	}
	defer func() { _ = unix.Close(network) }()
	if u.Users, err = unix.IoctlRetInt(network, unix.NS_GET_USERNS); err != nil {
		return reader{}, fmt.Errorf("find the pod's users: %w", err)
	}
	return reader{u}, nil
}

func (r reader) close() {
	if r.user.Users >= 0 {
		_ = unix.Close(r.user.Users)
	}
}

// Open implements [artifact.Opener].
func (r reader) Open(dir int, path string, flags, resolve uint64) (int, error) {
	fd, err := r.user.Open(dir, path, fork.How{Flags: flags, Resolve: resolve})
	var failed *fork.Error
	if errors.As(err, &failed) {
		return -1, failed.Err
	}
	return fd, err
}
