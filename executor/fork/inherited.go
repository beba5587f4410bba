package fork

import (
	"os"
	"strconv"
	"syscall"
)

// Of close_range(2).
const (
	sysCloseRange      = 436
	closeRangeCloexec  = 1 << 2
	firstInheritedFile = 3
)

// KeepInherited keeps what is open here from every program that is started from here: whoever started the server may have left something
// open, such as a folder of the machine, from which a step could go anywhere (CVE-2024-21626 was that).
func KeepInherited() {
	_, _, failed := syscall.RawSyscall(sysCloseRange, firstInheritedFile, ^uintptr(0)>>1, closeRangeCloexec)
	if failed == 0 {
		return
	}
	// A kernel before 5.11.
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, f := range list {
		if fd, err := strconv.Atoi(f.Name()); err == nil && fd >= firstInheritedFile {
			syscall.CloseOnExec(fd)
		}
	}
}
