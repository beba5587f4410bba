package local

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// What is examined has a name of its own, says what it found, and what to do where something is missing.
func TestExamine(t *testing.T) {
	dir := t.TempDir()
	list := Examine(filepath.Join(dir, "not", "there"))
	var names []string
	for _, c := range list {
		if slices.Contains(names, c.Name) || c.Name == "" || c.Found == "" || c.State == StateMissing && c.Do == "" {
			t.Errorf("%+v", c)
		}
		names = append(names, c.Name)
	}
	for _, want := range []string{"root", "kernel", "user namespaces", "idmapped mounts", "overlay", "cgroups", "nf_tables", "seccomp", "pid_max namespaces", "newuidmap", "pasta"} {
		if !slices.Contains(names, want) {
			t.Errorf("nothing is said of %s", want)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v %v", left, err)
	}
}
