package datafolder

import (
	"math"
	"testing"
)

// A disk has room as far as it says so, and what cannot be asked has room.
func TestRoom(t *testing.T) {
	if free, size := (Disk{}).Room(t.TempDir()); size == 0 || free > size {
		t.Errorf("%d of %d", free, size)
	}
	if free, _ := (Disk{}).Room("/no/such/folder"); free != math.MaxUint64 {
		t.Errorf("%d are free where nothing is", free)
	}
}
