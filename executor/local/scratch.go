package local

import (
	"os"

	"golang.org/x/sys/unix"
)

const (
	// keptLog is how much of a log stays beside the attempt where that is in memory, in bytes.
	keptLog = 64 << 10
	// scarce is the part of a file system in memory, in percent, below which it is spared.
	scarce = 25
	// topFolder is FS_TOPDIR_FL of linux/fs.h: what the folder's subfolders hold has nothing to do with each other.
	topFolder = 0x20000
)

// logKeep is how much of a log stays in memory.
func (e *Executor) logKeep() int64 {
	var st unix.Statfs_t
	if unix.Statfs(e.o.Dir, &st) != nil || st.Bavail*100 < st.Blocks*scarce {
		return 1
	}
	return keptLog
}

// spread tells the file system to keep the subfolders of a folder apart (chattr +T). Ext4 without a journal searches
// past every file that was deleted near to a new one in the last minutes: near are then the attempt's own only.
func spread(path string) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	// A file system that knows no such flag needs none.
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err == nil && flags&topFolder == 0 {
		_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags|topFolder)
	}
}
