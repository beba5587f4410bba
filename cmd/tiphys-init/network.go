package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/tiphys/tiphys/executor/fork"
)

// errNoNetwork says that the network of a pod went away with the server that made it ready, before the pod had it: the pod has not
// begun, and is ordered again.
var errNoNetwork = errors.New("the server and the pod's network went away")

// nsfsMagic is the type of the file system of namespaces (linux/magic.h, NSFS_MAGIC).
const nsfsMagic = 0x6e736673

// spaces are descriptors of a pod's namespaces that are made before the pod; -1 for one that it has not.
type spaces struct{ network, users int }

// list has what there is. There is no user namespace without a network, which belongs to it.
func (s spaces) list() (fds []int) {
	for _, fd := range []int{s.network, s.users} {
		if fd >= 0 {
			fds = append(fds, fd)
		}
	}
	return fds
}

func (s spaces) close() {
	for _, fd := range s.list() {
		_ = syscall.Close(fd)
	}
}

// openSpaces opens the namespaces that the server has ready for the pod.
func (s *shim) openSpaces() (spaces, error) {
	found := spaces{-1, -1}
	if !s.spec.Network {
		return found, nil
	}
	// First the lock: if the server is still there afterwards nobody else has had the range of ids meanwhile.
	if s.spec.Users != nil {
		if err := s.holdUsers(); err != nil {
			return found, err
		}
	}
	var err error
	if found.network, err = openSpace(s.spec.NetworkPath); err == nil && s.spec.Users != nil {
		found.users, err = openSpace(s.spec.Users.Path)
	}
	if err != nil {
		found.close()
	}
	return found, err
}

// holdUsers holds the pod's range of ids as long as this process has the file open: it is closed with the process, or when the pod has ended.
func (s *shim) holdUsers() error {
	u := s.spec.Users
	fd, err := syscall.Open(u.LockFile, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("hold the pod's user ids: %w", err)
	}
	s.idLock = os.NewFile(uintptr(fd), "user ids")
	const setLock = 37 // F_OFD_SETLK of fcntl(2)
	if err := syscall.FcntlFlock(uintptr(fd), setLock, &syscall.Flock_t{Type: syscall.F_RDLCK, Start: u.LockByte, Len: 1}); err != nil {
		return errNoNetwork // somebody takes it at this moment
	}
	return nil
}

// openSpace opens a namespace.
func openSpace(path string) (int, error) {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return -1, errNoNetwork
	}
	if err != nil {
		return -1, fmt.Errorf("open the pod's namespace: %w", err)
	}
	// If the server is gone its number may be another process's, and the descriptor anything.
	var st syscall.Statfs_t
	if err := syscall.Fstatfs(fd, &st); err != nil || st.Type != nsfsMagic {
		_ = syscall.Close(fd)
		return -1, errNoNetwork
	}
	return fd, nil
}

// admit lets a first process go on to take its order, and hands it the network that it is to be in and the user namespace of its containers,
// as far as the pod has its own.
func (f *first) admit(s spaces) error {
	conn, err := f.control.SyscallConn()
	if err != nil {
		return err
	}
	var rights []byte
	if list := s.list(); len(list) > 0 {
		rights = syscall.UnixRights(list...)
	}
	var sent error
	if err := conn.Write(func(fd uintptr) bool {
		sent = syscall.Sendmsg(int(fd), []byte{0}, rights, nil, syscall.MSG_NOSIGNAL)
		return sent != syscall.EAGAIN
	}); err != nil {
		return err
	}
	if sent != nil {
		return fmt.Errorf("hand over the pod's namespaces: %w", sent)
	}
	return nil
}

// joinNetwork moves this process into a network: every thread, since any of them may start a process.
func joinNetwork(fd int) error {
	if _, _, e := syscall.AllThreadsSyscall(fork.SysSetns, uintptr(fd), syscall.CLONE_NEWNET, 0); e != 0 {
		return fmt.Errorf("enter the pod's network: %w", e)
	}
	return syscall.Close(fd)
}
