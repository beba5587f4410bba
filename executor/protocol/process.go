package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// BootID gives the kernel's id of this boot.
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

var errEnded = errors.New("it has ended")

// StartTime gives when a process started, in clock ticks since boot (field 22 of proc_pid_stat(5)). One that has ended and
// that nobody has taken in yet is an error.
func StartTime(pid int) (uint64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, fmt.Errorf("read start time: %w", err)
	}
	// The second field is the name in parentheses and may hold anything.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 20 {
		return 0, fmt.Errorf("read start time of process %d: unexpected format", pid)
	}
	if fields[0][0] == 'Z' {
		return 0, fmt.Errorf("read start time of process %d: %w", pid, errEnded)
	}
	return strconv.ParseUint(string(fields[19]), 10, 64)
}

// Self describes the calling process.
func Self() (Shim, error) {
	boot, err := BootID()
	if err != nil {
		return Shim{}, err
	}
	start, err := StartTime(os.Getpid())
	if err != nil {
		return Shim{}, err
	}
	return Shim{PID: os.Getpid(), Start: start, Boot: boot}, nil
}

// Alive reports whether the process that s describes still exists. Where that cannot be told, for want of descriptors
// for example, it is taken to exist: who takes it for lost begins it again.
func (s Shim) Alive() bool {
	boot, err := BootID()
	if err != nil {
		return true
	}
	if boot != s.Boot || s.PID <= 0 {
		return false
	}
	start, err := StartTime(s.PID)
	if err != nil {
		return !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ESRCH) && !errors.Is(err, errEnded)
	}
	return start == s.Start
}

// WriteFile puts data at path in one step: temporary file, fsync (if sync), rename. A reader sees all or nothing, however many write at the
// same time.
func WriteFile(path string, data []byte, sync bool) error {
	tmp, err := writeBeside(path, data, sync)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		_ = os.Remove(tmp)
		return err
	}
	if sync {
		return SyncFolder(filepath.Dir(path))
	}
	return nil
}

// CreateFile is [WriteFile] for a path that must not exist yet; the error is then os.ErrExist.
func CreateFile(path string, data []byte, sync bool) error {
	tmp, err := writeBeside(path, data, sync)
	if err != nil {
		return err
	}
	err = os.Link(tmp, path)
	_ = os.Remove(tmp)
	if err != nil {
		return err
	}
	if sync {
		return SyncFolder(filepath.Dir(path))
	}
	return nil
}

// writeBeside writes a file of its own beside path, and gives its name.
func writeBeside(path string, data []byte, sync bool) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".tmp")
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err == nil && sync {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return f.Name(), err
}

// SyncFolder makes the names in a folder durable.
func SyncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	err = d.Sync()
	if e := d.Close(); err == nil {
		err = e
	}
	return err
}
