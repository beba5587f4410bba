//go:build unix

package mover

import (
	"os/exec"
	"syscall"
)

// ownGroup puts a command and its children in a group of their own, which ends as a whole when the context does:
// git leaves the work to helpers that would go on without it.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
