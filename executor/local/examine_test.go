package local

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
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
	for _, want := range []string{"root", "kernel", "user namespaces", "idmapped mounts", "overlay", "cgroups", "nf_tables", "seccomp", "pid_max namespaces", "newuidmap", "pasta", "slirp4netns"} {
		if !slices.Contains(names, want) {
			t.Errorf("nothing is said of %s", want)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v %v", left, err)
	}
}

func TestSubordinateIDs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "subuid")
	text := "somebody:100000:65536\n" + strconv.Itoa(os.Geteuid()) + ":200000:1000\n# a comment\n" + strconv.Itoa(os.Geteuid()) + ":300000:x\n" + strconv.Itoa(os.Geteuid()) + ":400000:24\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := subordinate(file); n != 1024 {
		t.Errorf("%d ids", n)
	}
	if n := subordinate(file + "-none"); n != 0 {
		t.Errorf("%d ids of no file", n)
	}
}
