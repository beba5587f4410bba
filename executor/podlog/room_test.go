package podlog

import (
	"os"
	"strings"
	"testing"
	"time"
)

// A log stops before the disk is full, and says so; the room is looked at now and then only.
func TestLogLeavesRoom(t *testing.T) {
	dir := t.TempDir()
	w, err := Create(dir, "main", 0, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	const disk = 320 << 20
	free, looks := int64(disk), 0
	w.room = func(*os.File) (int64, int64) {
		looks++
		return free, disk
	}
	line := []byte(strings.Repeat("x", 1<<10-1) + "\n")
	write := func(bytes int) {
		for range bytes / len(line) {
			if _, err := w.Stream(0).Write(line); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(4 << 20)
	if looks != 4 {
		t.Errorf("it looked %d times in 4 MiB", looks)
	}
	free = disk/16 - 1
	write(2 << 20)
	dropped, err := w.Close()
	if err != nil || dropped < 1<<20 || dropped > 2<<20 {
		t.Errorf("%d bytes are dropped, %v", dropped, err)
	}
	if last := readAll(t, dir, Options{FromLine: -1}); !strings.Contains(last, "the disk is almost full (19 MiB are left") {
		t.Errorf("the log ends with %q", last)
	}
}
