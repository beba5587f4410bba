package datafolder

import (
	"math"

	"golang.org/x/sys/unix"
)

// Disk asks the system for the room on a folder's disk.
type Disk struct{}

// Room tells how many bytes are free on a folder's disk, and how many it has. What cannot be asked has room.
func (Disk) Room(folder string) (free, size uint64) {
	var st unix.Statfs_t
	if err := unix.Statfs(folder, &st); err != nil || st.Bsize <= 0 {
		return math.MaxUint64, math.MaxUint64
	}
	return st.Bavail * uint64(st.Bsize), st.Blocks * uint64(st.Bsize)
}
