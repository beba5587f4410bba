package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// errNoNetwork says that the network of a pod went away with the server that made it ready, before the pod had it: the pod has not
// begun, and is ordered again.
var errNoNetwork = errors.New("the server and the pod's network went away")

// nsfsMagic is the type of the file system of namespaces (linux/magic.h, NSFS_MAGIC).
const nsfsMagic = 0x6e736673

// openNetwork opens the network that the server has ready for the pod; -1 for a pod without one.
func (s *shim) openNetwork() (int, error) {
	if !s.spec.Network {
		return -1, nil
	}
	fd, err := syscall.Open(s.spec.NetworkPath, syscall.O_RDONLY|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return -1, errNoNetwork
	}
	if err != nil {
		return -1, fmt.Errorf("open the pod's network: %w", err)
	}
	// If the server is gone its number may be another process's, and the descriptor anything.
	var st syscall.Statfs_t
	if err := syscall.Fstatfs(fd, &st); err != nil || st.Type != nsfsMagic {
		_ = syscall.Close(fd)
		return -1, errNoNetwork
	}
	return fd, nil
}

// admit lets a first process go on to take its order, and hands it the network that it is to be in, unless that is -1.
func (f *first) admit(network int) error {
	conn, err := f.control.SyscallConn()
	if err != nil {
		return err
	}
	var rights []byte
	if network >= 0 {
		rights = syscall.UnixRights(network)
	}
	var sent error
	if err := conn.Write(func(fd uintptr) bool {
		sent = syscall.Sendmsg(int(fd), []byte{0}, rights, nil, syscall.MSG_NOSIGNAL)
		return sent != syscall.EAGAIN
	}); err != nil {
		return err
	}
	if sent != nil {
		return fmt.Errorf("hand over the pod's network: %w", sent)
	}
	return nil
}

// joinNetwork moves this process into a network: every thread, since any of them may start a process.
func joinNetwork(fd int) error {
	if _, _, e := syscall.AllThreadsSyscall(sysSetns, uintptr(fd), syscall.CLONE_NEWNET, 0); e != 0 {
		return fmt.Errorf("enter the pod's network: %w", e)
	}
	return syscall.Close(fd)
}
