package datafolder

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	throwawayPrefix = "tiphys-run-"
	// memoryFolder is the file system in memory that Linux systems have.
	memoryFolder = "/dev/shm"
	// Room is what must be free there, and of the machine's memory as a whole, for state to be kept in memory, in bytes.
	roomInFolder = 1 << 30
	roomInMemory = 2 << 30
)

// Throwaway is the data of a process that is gone with it. Each folder holds a lock as long as the
// process lives, by which the next one knows what a killed one left.
type Throwaway struct {
	// State is in memory where there is room, so that it costs no disk; Scratch, for what runs write, which may be large, is on disk. They
	// may be the same folder.
	State, Scratch string
	locks          []*os.File
}

// NewThrowaway makes the folders. Remove them at the end.
func NewThrowaway() (*Throwaway, error) {
	t := &Throwaway{}
	var err error
	if t.Scratch, err = t.folder(""); err != nil {
		return nil, errors.Join(err, t.Remove())
	}
	t.State = t.Scratch
	if memoryFits(memoryFolder) {
		// If it cannot be had after all, the disk does.
		if dir, err := t.folder(memoryFolder); err == nil {
			t.State = dir
		}
	}
	return t, nil
}

// folder makes a locked folder. The lock has its name only once it is held.
func (t *Throwaway) folder(parent string) (string, error) {
	dir, err := os.MkdirTemp(parent, throwawayPrefix)
	if err != nil {
		return "", fmt.Errorf("make a folder for this run: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock.new"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		t.locks = append(t.locks, f)
		err = errors.Join(syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB), os.Rename(f.Name(), filepath.Join(dir, "lock")))
	}
	if err != nil {
		return "", errors.Join(fmt.Errorf("make a folder for this run: %w", err), os.RemoveAll(dir))
	}
	return dir, nil
}

// Remove removes everything.
func (t *Throwaway) Remove() error {
	var errs []error
	for _, dir := range []string{t.State, t.Scratch} {
		if dir != "" {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	for _, f := range t.locks {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// memoryFits reports whether state can be kept under dir: a file system in memory with room, on a machine that has
// some, from which programs can be started.
func memoryFits(dir string) bool {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil || st.Type != unix.TMPFS_MAGIC || st.Flags&unix.ST_NOEXEC != 0 || st.Flags&unix.ST_RDONLY != 0 {
		return false
	}
	if st.Bavail*uint64(st.Bsize) < roomInFolder {
		return false
	}
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(info)) {
		var kib uint64
		if n, _ := fmt.Sscanf(line, "MemAvailable: %d kB", &kib); n == 1 {
			return kib<<10 >= roomInMemory
		}
	}
	return false
}

// SweepThrowaways removes what killed processes of this user left.
func SweepThrowaways() { sweepThrowaways(memoryFolder, os.TempDir()) }

// sweepThrowaways removes what killed processes of this user left under the folders.
func sweepThrowaways(folders ...string) {
	for _, parent := range folders {
		entries, err := os.ReadDir(parent)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), throwawayPrefix) && e.IsDir() {
				sweepThrowaway(filepath.Join(parent, e.Name()))
			}
		}
	}
}

func sweepThrowaway(dir string) {
	st, err := os.Lstat(dir)
	if err != nil {
		return
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); !ok || int(sys.Uid) != os.Geteuid() {
		return
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		return // its process lives
	}
	// What cannot be removed stays for the next one to try.
	_ = os.RemoveAll(dir)
}
