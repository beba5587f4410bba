package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Programs that this one starts have nothing of what it inherited.
func TestNothingIsInherited(t *testing.T) {
	const left = 777
	if err := unix.Dup3(1, left, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(left) })
	open := func() []string {
		out, err := exec.CommandContext(t.Context(), "ls", "/proc/self/fd").Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(string(out))
	}
	if !slices.Contains(open(), "777") {
		t.Fatal("the test would see nothing")
	}
	keepInherited()
	if got := open(); slices.Contains(got, "777") {
		t.Errorf("open: %v", got)
	}
}
