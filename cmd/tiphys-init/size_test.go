package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Every pod of this machine has the program in its page cache, and a server has it within: 4 MB are enough.
func TestSize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tiphys-init")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if limit := int64(4_000_000); info.Size() > limit {
		t.Errorf("it has %d bytes, and may have %d", info.Size(), limit)
	}
}
