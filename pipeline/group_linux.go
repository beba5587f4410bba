package pipeline

import (
	"os/exec"
	"syscall"
)

// group gives a program a group of its own, which ends as a whole: a program that starts others leaves none behind.
func group(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
