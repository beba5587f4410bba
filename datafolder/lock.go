// Package datafolder gives a data folder to one process at a time.
package datafolder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// lockName is the file in the folder that is locked. It holds the process's id, for others to read.
const lockName = "lock"

// patience is how long the lock is waited for: a child that a killed process was about to make shares its open files
// until it executes its program.
const patience = 300 * time.Millisecond

// InUseError says that another process has the data folder.
type InUseError struct {
	// Folder is the data folder.
	Folder string
	// PID is the other process; 0 if it has not yet said.
	PID int
}

func (e *InUseError) Error() string {
	by := "another process"
	if e.PID != 0 {
		by = fmt.Sprintf("process %d", e.PID)
	}
	return fmt.Sprintf("the data folder %s is in use by %s: stop that process, or choose another data folder with --data", e.Folder, by)
}

// Lock is the right to read and write a data folder. It ends with Unlock or with the process, in whatever way.
type Lock struct{ file *os.File }

// Take takes the lock of a folder, which it makes with mode 0700 if it is not there. Nothing else in the folder may be read
// or written before. A folder that another process has is an [InUseError], and nothing of it is changed.
func Take(ctx context.Context, folder string) (*Lock, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("make data folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(folder, lockName), os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data folder: %w", err)
	}
	if err := take(ctx, f, folder); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock data folder: %w", err), f.Close())
	}
	return &Lock{file: f}, nil
}

func take(ctx context.Context, f *os.File, folder string) error {
	deadline := time.Now().Add(patience)
	for wait := time.Millisecond; ; wait *= 2 {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("lock data folder %s: %w", folder, err)
		}
		if time.Now().After(deadline) {
			return &InUseError{Folder: folder, PID: written(f)}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// Holder is the process that has a folder; 0 if none has it, or none that says so.
func Holder(folder string) (int, error) {
	f, err := os.OpenFile(filepath.Join(folder, lockName), os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look for the server of %s: %w", folder, err)
	}
	defer f.Close()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return written(f), nil
	}
	if err != nil {
		return 0, fmt.Errorf("look for the server of %s: %w", folder, err)
	}
	return 0, nil
}

// written is the process id in the file; 0 where it cannot be read.
func written(f *os.File) int {
	text, _ := io.ReadAll(io.NewSectionReader(f, 0, 20))
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return max(pid, 0)
}

// Unlock gives the folder back. The file stays: removing it would let two processes lock two files of one name. Closing
// alone would not do, because a child that is just being started shares the open file, and with it the lock.
func (l *Lock) Unlock() error {
	return errors.Join(syscall.Flock(int(l.file.Fd()), syscall.LOCK_UN), l.file.Close())
}
