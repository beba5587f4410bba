package podlog

import (
	"math"
	"os"
	"syscall"
)

// diskRoom tells how many bytes are free on a file's disk, and how many it has. What cannot be asked has room.
func diskRoom(f *os.File) (free, size int64) {
	var s syscall.Statfs_t
	if err := syscall.Fstatfs(int(f.Fd()), &s); err != nil {
		return math.MaxInt64, math.MaxInt64
	}
	return int64(s.Bavail) * s.Bsize, int64(s.Blocks) * s.Bsize
}
