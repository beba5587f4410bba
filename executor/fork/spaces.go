package fork

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"unsafe"
)

// shared has a child in this process's memory, which waits for it (clone(2)).
const shared = syscall.CLONE_VM | syscall.CLONE_VFORK | uintptr(syscall.SIGCHLD)

// Spaces makes a user namespace, in which the users and groups from 0 on are those from first on outside, size of them, and a network
// namespace that belongs to it. Nobody is in either; they end with their descriptors, which are not inherited. It costs half a millisecond
// whatever the size of this process.
func Spaces(first, size uint32) (users, network int, err error) {
	opened := [2]int{-1, -1}
	names := [2]*byte{}
	for i, name := range []string{"/proc/self/ns/user", "/proc/self/ns/net"} {
		if names[i], err = syscall.BytePtrFromString(name); err != nil {
			return -1, -1, err
		}
	}
	syscall.ForkLock.Lock()
	pid := openSpaces(syscall.CLONE_NEWUSER|syscall.CLONE_NEWNET|syscall.CLONE_FILES|shared, &names, &opened)
	syscall.ForkLock.Unlock()
	if int(pid) < 0 {
		return -1, -1, fmt.Errorf("make a user namespace: %w", syscall.Errno(-pid))
	}
	// The child has ended, and stays until it is waited for, and with it the files that say who is who in its namespace.
	err = identify(int(pid), first, size)
	Reap(int(pid))
	if err == nil && (opened[0] < 0 || opened[1] < 0) {
		err = errors.New("open the namespaces: /proc is not there, or too many files are open")
	}
	if err != nil {
		for _, fd := range opened {
			if fd >= 0 {
				_ = syscall.Close(fd)
			}
		}
		return -1, -1, fmt.Errorf("make a user namespace: %w", err)
	}
	return opened[0], opened[1], nil
}

// identify says who outside the users and groups of a process's user namespace are.
func identify(pid int, first, size uint32) error {
	line := fmt.Appendf(nil, "0 %d %d\n", first, size)
	for _, name := range []string{"uid_map", "gid_map"} {
		if err := os.WriteFile("/proc/"+strconv.Itoa(pid)+"/"+name, line, 0); err != nil {
			return err
		}
	}
	return nil
}

// openSpaces makes the child, which opens its own namespaces among the descriptors of this process and ends. In the child nothing but system
// calls may happen: it is on this stack.
//
//go:noinline
//go:norace
//go:nocheckptr
func openSpaces(flags uintptr, names *[2]*byte, opened *[2]int) (pid uintptr) {
	beforeFork()
	pid = clone(flags)
	if pid != 0 {
		afterFork()
		return pid
	}
	afterForkInChild()
	for i := range names {
		fd, _, e := syscall.RawSyscall6(syscall.SYS_OPENAT, 0, uintptr(unsafe.Pointer(names[i])), syscall.O_RDONLY|syscall.O_CLOEXEC, 0, 0, 0)
		if e == 0 {
			opened[i] = int(fd)
		}
	}
	for {
		_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
	}
}
