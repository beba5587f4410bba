package confine

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tiphys/tiphys/executor/fork"
)

// known tells whether there is a user of that number here.
func known(user uint64) bool {
	users, _ := fork.MachineUsers()
	return user < users
}

// endWithParent has the kernel end the process with its parent: with the thread that started it, so it is only for a process that is
// waited for by that thread's work.
func endWithParent(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGKILL }

// attributes give the process its own network namespace without any interface.
func attributes(isolate bool) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{}
	if !isolate {
		return a
	}
	a.Cloneflags = syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS
	if os.Geteuid() != 0 {
		a.Cloneflags |= syscall.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
	}
	return a
}

// confine gives up, for good, what computing does not need.
func confine(r request) error {
	var space, data uint64
	if r.Memory > 0 {
		var err error
		if space, data, err = memory(); err != nil {
			return err
		}
		space, data = space+r.Memory+spareSpace, data+r.Memory
	}
	limits := []struct {
		name     string
		resource int
		value    uint64
	}{
		{"address space", unix.RLIMIT_AS, space},
		{"data", unix.RLIMIT_DATA, data},
		{"cpu", unix.RLIMIT_CPU, r.CPUSeconds},
		{"file size", unix.RLIMIT_FSIZE, 0},
		{"open files", unix.RLIMIT_NOFILE, 256},
		{"core", unix.RLIMIT_CORE, 0},
	}
	for _, l := range limits {
		if l.value == 0 && (l.resource == unix.RLIMIT_AS || l.resource == unix.RLIMIT_DATA || l.resource == unix.RLIMIT_CPU) {
			continue
		}
		if err := unix.Setrlimit(l.resource, &unix.Rlimit{Cur: l.value, Max: l.value}); err != nil {
			return fmt.Errorf("limit %s: %w", l.name, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no new privileges: %w", err)
	}
	if r.Jail {
		if err := errors.Join(wrap("enter folder", unix.Fchdir(3)), wrap("make it the root", unix.Chroot("."))); err != nil {
			return err
		}
	}
	if !r.Drop {
		return nil
	}
	return errors.Join(
		wrap("drop groups", syscall.Setgroups([]int{})),
		wrap("drop group", syscall.Setresgid(nobody, nobody, nobody)),
		wrap("drop user", syscall.Setresuid(nobody, nobody, nobody)),
	)
}

// spareSpace is address space that is no memory, in bytes: Go's heap takes it in arenas of 64 MiB, and threads and tables take some.
const spareSpace = 96 << 20

// memory is the address space of this process, and what the kernel counts as data of it, in bytes. A program has much of both before it
// does anything: of data, the tables of Go's runtime alone are 80 MiB, of which few are ever touched, and a C library adds 8 MiB for each
// thread. Both are to be limited: what is large enough comes past the limit of data once, because Go's heap turns space that it has
// reserved into data, and the kernel takes that for no growth (mmap(2), MAP_FIXED).
func memory() (space, data uint64, err error) {
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, 0, fmt.Errorf("read memory of this process: %w", err)
	}
	var other uint64
	if _, err := fmt.Sscan(string(raw), &space, &other, &other, &other, &other, &data); err != nil {
		return 0, 0, fmt.Errorf("read memory of this process: %w", err)
	}
	page := uint64(os.Getpagesize())
	return space * page, data * page, nil
}

// processorTime is what this process has used.
func processorTime() (time.Duration, error) {
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		return 0, fmt.Errorf("read processor time: %w", err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()), nil
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
