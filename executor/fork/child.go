package fork

import (
	"syscall"
	"unsafe"
)

// prctl(2), keyctl(2) and seccomp(2).
const (
	prCapBSetDrop   = 24
	prSetTimerSlack = 29
	prSetNoNewPrivs = 38
	lastCapability  = 63
	joinSession     = 1
	setModeFilter   = 1
	cloneNewCgroup  = 0x02000000
)

// execute makes the child and has it become what the plan says. In the child nothing but system calls may happen: it is on this stack.
//
//go:noinline
//go:norace
//go:nocheckptr
func execute(p *plan) (pid uintptr) {
	beforeFork()
	pid = clone(shared)
	if pid != 0 {
		afterFork()
		return pid
	}
	afterForkInChild()
	p.failed.step = stepSession
	_, _, e := syscall.RawSyscall(syscall.SYS_SETSID, 0, 0, 0)
	if e != 0 {
		goto failed
	}
	if p.slack > 0 {
		_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, prSetTimerSlack, p.slack, 0) // without it all works, at a higher cost
	}
	if p.root != nil {
		p.failed.step = stepRoot
		if _, _, e = syscall.RawSyscall(syscall.SYS_CHROOT, uintptr(unsafe.Pointer(p.root)), 0, 0); e != 0 {
			goto failed
		}
	}
	if p.cgroups {
		p.failed.step = stepCgroups
		if _, _, e = syscall.RawSyscall(syscall.SYS_UNSHARE, cloneNewCgroup, 0, 0); e != 0 {
			goto failed
		}
	}
	if p.users >= 0 {
		p.failed.step = stepUsers
		if _, _, e = syscall.RawSyscall(SysSetns, uintptr(p.users), syscall.CLONE_NEWUSER, 0); e != 0 {
			goto failed
		}
	}
	p.failed.step = stepGroups
	switch {
	case p.keepGroups:
	case len(p.groups) > 0:
		_, _, e = syscall.RawSyscall(syscall.SYS_SETGROUPS, uintptr(len(p.groups)), uintptr(unsafe.Pointer(&p.groups[0])), 0)
	default:
		_, _, e = syscall.RawSyscall(syscall.SYS_SETGROUPS, 0, 0, 0)
	}
	if e != 0 {
		goto failed
	}
	p.failed.step = stepGroup
	if _, _, e = syscall.RawSyscall(syscall.SYS_SETRESGID, p.gid, p.gid, p.gid); e != 0 {
		goto failed
	}
	if p.users >= 0 {
		// Who comes from outside is no user of the namespace: only root of it loses its capabilities by becoming another user.
		p.failed.step = stepRootUser
		if _, _, e = syscall.RawSyscall(syscall.SYS_SETRESUID, 0, 0, 0); e != 0 {
			goto failed
		}
	}
	for i := range p.spaces {
		p.failed.step = stepSpaces
		if _, _, e = syscall.RawSyscall(SysSetns, uintptr(p.spaces[i]), 0, 0); e != 0 {
			goto failed
		}
	}
	if p.keyring {
		p.failed.step = stepKeyring
		if _, _, e = syscall.RawSyscall(syscall.SYS_KEYCTL, joinSession, 0, 0); e != 0 && e != syscall.ENOSYS {
			goto failed
		}
	}
	p.failed.step = stepCapabilities
	for n := uintptr(0); n <= lastCapability; n++ {
		if p.capabilities&(1<<n) != 0 {
			continue
		}
		_, _, e = syscall.RawSyscall(syscall.SYS_PRCTL, prCapBSetDrop, n, 0)
		if e == syscall.EINVAL {
			break // the kernel knows no more
		}
		if e != 0 {
			goto failed
		}
	}
	if p.noNewPrivs {
		p.failed.step = stepPrivileges
		if _, _, e = syscall.RawSyscall6(syscall.SYS_PRCTL, prSetNoNewPrivs, 1, 0, 0, 0, 0); e != 0 {
			goto failed
		}
	}
	p.failed.step = stepFiles
	for i := range p.files {
		if _, _, e = syscall.RawSyscall(syscall.SYS_DUP3, uintptr(p.files[i]), uintptr(i), 0); e != 0 {
			goto failed
		}
	}
	if p.limit != nil {
		p.failed.step = stepLimit
		if _, _, e = syscall.RawSyscall6(syscall.SYS_PRLIMIT64, 0, syscall.RLIMIT_NOFILE, uintptr(unsafe.Pointer(p.limit)), 0, 0, 0); e != 0 {
			goto failed
		}
	}
	if p.filter != nil {
		// From here on the filter must allow what is called: it does, or the program could do nothing either.
		p.failed.step = stepFilter
		if _, _, e = syscall.RawSyscall(sysSeccomp, setModeFilter, 0, uintptr(unsafe.Pointer(p.filter))); e != 0 {
			goto failed
		}
	}
	p.failed.step = stepUser
	if _, _, e = syscall.RawSyscall(syscall.SYS_SETRESUID, p.uid, p.uid, p.uid); e != 0 {
		goto failed
	}
	p.failed.step = stepDir
	if _, _, e = syscall.RawSyscall(syscall.SYS_CHDIR, uintptr(unsafe.Pointer(p.dir)), 0, 0); e != 0 {
		goto failed
	}
	p.failed.step = stepProgram
	_, _, e = syscall.RawSyscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(p.path)), uintptr(unsafe.Pointer(&p.args[0])), uintptr(unsafe.Pointer(&p.env[0])))
failed:
	p.failed.errno = int32(e)
	_, _, _ = syscall.RawSyscall(syscall.SYS_WRITE, uintptr(p.report), uintptr(unsafe.Pointer(&p.failed)), unsafe.Sizeof(p.failed))
	for {
		_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 1, 0, 0)
	}
}
