package local

import (
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/tiphys/tiphys/executor/protocol"
)

// inheritedDescriptors is the limit on open files that this process was started with; nil if it cannot be told. Go raises the limit of every
// program and gives the old one to the processes that it starts: one of them is asked, which is stopped before its first instruction.
func inheritedDescriptors(program string) *protocol.Descriptors {
	runtime.LockOSThread() // only this thread may trace it
	defer runtime.UnlockOSThread()
	pid, _, err := syscall.StartProcess(program, []string{program}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{Ptrace: true, Pdeathsig: syscall.SIGKILL}})
	if err != nil {
		return nil
	}
	var limit unix.Rlimit
	err = unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &limit)
	_ = syscall.Kill(pid, syscall.SIGKILL)
	for {
		var how syscall.WaitStatus
		_, e := syscall.Wait4(pid, &how, unix.WALL, nil)
		if e != syscall.EINTR && (e != nil || how.Exited() || how.Signaled()) {
			break
		}
	}
	if err != nil {
		return nil
	}
	return &protocol.Descriptors{Soft: limit.Cur, Hard: limit.Max}
}
