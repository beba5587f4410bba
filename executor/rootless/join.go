package rootless

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/tiphys/tiphys/executor/fork"
)

// rejoin starts the program in the namespaces that an earlier server of the folder left to its keeper and its pods. It gives nil where nobody is
// in such namespaces.
func (o Options) rejoin(ctx context.Context) (*child, error) {
	n, err := readNote(o.Network.Folder)
	if err != nil {
		return nil, err
	}
	pid, err := n.somebody()
	if err != nil || pid == 0 {
		return nil, err
	}
	open := &opened{}
	defer open.close()
	users, mounts, network := open.space(pid, "user"), open.space(pid, "mnt"), open.space(pid, "net")
	if open.err != nil {
		return nil, fmt.Errorf("enter the namespaces of the server before: %w", open.err)
	}
	if has, ok := spaces(pid); !ok || has.User != n.User || has.Mount != n.Mount || has.Net != n.Net {
		return nil, errors.New("enter the namespaces of the server before: the process in them has just ended: try again")
	}
	if err := o.Network.keep(ctx, pid, n); err != nil {
		return nil, err
	}
	path, args, env, err := again(o.Args, os.Getpid())
	if err != nil {
		return nil, err
	}
	dir, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("enter the namespaces of the server before: %w", err)
	}
	c := &fork.Command{
		Path: path, Args: args, Env: env, Dir: dir, Users: users, Spaces: []int{network, mounts}, Capabilities: ^uint64(0),
		Files: [3]int{open.copy(o.Files[0]), open.copy(o.Files[1]), open.copy(o.Files[2])},
	}
	if open.err != nil {
		return nil, fmt.Errorf("enter the namespaces of the server before: %w", open.err)
	}
	started, err := c.Start()
	if err != nil {
		return nil, fmt.Errorf("enter the namespaces of the server before: %w", err)
	}
	process, err := os.FindProcess(started)
	if err != nil {
		return nil, fmt.Errorf("enter the namespaces of the server before: %w", err)
	}
	return &child{process: process, session: true}, nil
}

// opened are descriptors, and why one could not be had.
type opened struct {
	list []int
	err  error
}

func (o *opened) add(fd int, err error) int {
	if err != nil {
		o.err = errors.Join(o.err, err)
		return -1
	}
	o.list = append(o.list, fd)
	return fd
}

// space opens a namespace of a process.
func (o *opened) space(pid int, name string) int {
	return o.add(unix.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, name), unix.O_RDONLY|unix.O_CLOEXEC, 0))
}

// copy gives a file a descriptor above those of the standard files.
func (o *opened) copy(f *os.File) int {
	return o.add(unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3))
}

func (o *opened) close() {
	for _, fd := range o.list {
		_ = unix.Close(fd)
	}
}
