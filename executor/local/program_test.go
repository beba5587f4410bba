package local

import (
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// TestEveryNumberOfADescriptor: what a process is given comes to it by way of the number behind the highest of them
// (syscall.forkAndExecInChild1), so that whatever this process has open at that number is not there when the program is looked for.
func TestEveryNumberOfADescriptor(t *testing.T) {
	p := openProgram("/bin/true")
	defer func() { _ = p.close() }()
	if p.tree == nil {
		t.Skip("SKIPPED: the program has a mount of its own, which needs root and Linux 5.12")
	}
	for number := 3; number < 100; number++ {
		fd, err := unix.FcntlInt(p.tree.Fd(), unix.F_DUPFD_CLOEXEC, number)
		if err != nil {
			t.Fatal(err)
		}
		given := os.NewFile(uintptr(fd), "given")
		if err := (&exec.Cmd{Path: p.path, Stdin: given}).Run(); err != nil {
			t.Errorf("given descriptor %d: %v", fd, err)
		}
		_ = given.Close()
	}
}
