package fork

import (
	"fmt"
	"syscall"
	"unsafe"
)

// User is who a file is opened as.
type User struct {
	// Users is a descriptor of the user namespace that the ids are in; -1 for this process's own.
	Users    int
	UID, GID uint32
	Groups   []uint32
	// KeepGroups is that of [Command].
	KeepGroups bool
	// Capabilities are those of user 0, one bit each; other users have none.
	Capabilities uint64
}

// How says how a file is opened (openat2(2), struct open_how).
type How struct{ Flags, Mode, Resolve uint64 }

// opening is what a child needs to open a file, made before the child is.
type opening struct {
	users    int
	uid, gid uintptr
	groups   []uint32
	// keepGroups leaves the groups as they are.
	keepGroups bool
	header     struct {
		version uint32
		pid     int32
	}
	capabilities [2]struct{ effective, permitted, inheritable uint32 }
	dir          int
	path         *byte
	how          How
	fd           int
	failed       failure
}

// SysOpenat2 is the number of openat2(2), which package syscall does not know.
const (
	SysOpenat2        = 437
	capabilityVersion = 0x20080522 // _LINUX_CAPABILITY_VERSION_3
)

// Open opens a file in a folder with the rights of a user, whatever this process may: by a child that has these rights and no more, shares the
// descriptors of this process, and ends. The descriptor is not inherited.
func (u User) Open(dir int, path string, how How) (fd int, err error) {
	o := &opening{users: u.Users, uid: uintptr(u.UID), gid: uintptr(u.GID), groups: u.Groups, keepGroups: u.KeepGroups, dir: dir, how: how, fd: -1}
	o.how.Flags |= syscall.O_CLOEXEC
	if o.path, err = syscall.BytePtrFromString(path); err != nil {
		return -1, err
	}
	o.header.version = capabilityVersion
	if u.UID == 0 {
		own := ^uint64(0)
		if u.Users < 0 {
			own = permitted()
		}
		for i := range o.capabilities {
			set := uint32((u.Capabilities & own) >> (32 * i))
			o.capabilities[i].effective, o.capabilities[i].permitted = set, set
		}
	}
	// The kernel answers EAGAIN when something was renamed while it resolved "..", and EINTR when a signal came.
	for range openTries {
		syscall.ForkLock.Lock()
		pid := openAs(syscall.CLONE_FILES|shared, o)
		syscall.ForkLock.Unlock()
		if int(pid) < 0 {
			return -1, fmt.Errorf("make a process: %w", syscall.Errno(-pid))
		}
		Reap(int(pid))
		if o.fd >= 0 {
			return o.fd, nil
		}
		err = &Error{Step: stepName(o.failed.step), Err: syscall.Errno(o.failed.errno)}
		if e := syscall.Errno(o.failed.errno); o.failed.step != stepOpen || e != syscall.EAGAIN && e != syscall.EINTR {
			break
		}
	}
	return -1, err
}

// openTries is how often a file is tried to be opened whose folders are renamed all the time.
const openTries = 64

// permitted is the set of capabilities that this process may have: none where it cannot be told.
func permitted() uint64 {
	var o opening
	o.header.version = capabilityVersion
	if _, _, e := syscall.RawSyscall(syscall.SYS_CAPGET, uintptr(unsafe.Pointer(&o.header)), uintptr(unsafe.Pointer(&o.capabilities[0])), 0); e != 0 {
		return 0
	}
	return uint64(o.capabilities[1].permitted)<<32 | uint64(o.capabilities[0].permitted)
}

// openAs makes the child, which becomes the user and opens the file. In the child nothing but system calls may happen: it is on this stack.
//
//go:noinline
//go:norace
//go:nocheckptr
func openAs(flags uintptr, o *opening) (pid uintptr) {
	beforeFork()
	pid = clone(flags)
	if pid != 0 {
		afterFork()
		return pid
	}
	afterForkInChild()
	var e syscall.Errno
	var fd uintptr
	if o.users >= 0 {
		o.failed.step = stepUsers
		if _, _, e = syscall.RawSyscall(SysSetns, uintptr(o.users), syscall.CLONE_NEWUSER, 0); e != 0 {
			goto failed
		}
	}
	o.failed.step = stepGroups
	switch {
	case o.keepGroups:
	case len(o.groups) > 0:
		_, _, e = syscall.RawSyscall(syscall.SYS_SETGROUPS, uintptr(len(o.groups)), uintptr(unsafe.Pointer(&o.groups[0])), 0)
	default:
		_, _, e = syscall.RawSyscall(syscall.SYS_SETGROUPS, 0, 0, 0)
	}
	if e != 0 {
		goto failed
	}
	o.failed.step = stepGroup
	if _, _, e = syscall.RawSyscall(syscall.SYS_SETRESGID, o.gid, o.gid, o.gid); e != 0 {
		goto failed
	}
	o.failed.step = stepUser
	if _, _, e = syscall.RawSyscall(syscall.SYS_SETRESUID, o.uid, o.uid, o.uid); e != 0 {
		goto failed
	}
	o.failed.step = stepCapabilities
	if _, _, e = syscall.RawSyscall(syscall.SYS_CAPSET, uintptr(unsafe.Pointer(&o.header)), uintptr(unsafe.Pointer(&o.capabilities[0])), 0); e != 0 {
		goto failed
	}
	o.failed.step = stepOpen
	fd, _, e = syscall.RawSyscall6(SysOpenat2, uintptr(o.dir), uintptr(unsafe.Pointer(o.path)), uintptr(unsafe.Pointer(&o.how)), unsafe.Sizeof(o.how), 0, 0)
	if e != 0 {
		goto failed
	}
	o.fd = int(fd)
	for {
		_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
	}
failed:
	o.failed.errno = int32(e)
	for {
		_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 1, 0, 0)
	}
}
