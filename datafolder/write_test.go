package datafolder_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tiphys/tiphys/datafolder"
)

// A file is the old one or the new one. What an earlier writer left beside it is neither in the way nor followed.
func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "state"), filepath.Join(dir, "other")
	if err := os.WriteFile(other, []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, path+".new"); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"first", "second, which is longer", ""} {
		if err := datafolder.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != text {
			t.Errorf("%q %v", got, err)
		}
		if err := os.WriteFile(path+".new", []byte("half"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Error(info.Mode(), err)
	}
	if got, err := os.ReadFile(other); err != nil || string(got) != "other" {
		t.Errorf("%q %v", got, err)
	}
	if err := datafolder.WriteFile(filepath.Join(dir, "none", "state"), nil, 0o600); err == nil {
		t.Error("there is no such folder")
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := datafolder.WriteFile(filepath.Join(dir, "folder"), nil, 0o600); err == nil {
		t.Error("a folder was replaced")
	}
	if _, err := os.Stat(filepath.Join(dir, "folder.new")); !os.IsNotExist(err) {
		t.Error("what could not be used is left")
	}
}
