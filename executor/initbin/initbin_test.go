package initbin

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
)

func TestPlace(t *testing.T) {
	dir := t.TempDir()
	from := fstest.MapFS{"bin/tiphys-init": {Data: []byte("one")}}
	path, err := place(from, dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := place(from, dir)
	if err != nil || again != path {
		t.Errorf("again: %s %v", again, err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("%v %v", st, err)
	}
	if err := os.WriteFile(path, []byte("damaged"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := place(from, dir); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(path); string(data) != "one" {
		t.Errorf("damage stayed: %q", data)
	}
	other, err := place(fstest.MapFS{"bin/tiphys-init": {Data: []byte("two")}}, dir)
	if err != nil || other == path {
		t.Errorf("another version: %s %v", other, err)
	}
}

func TestPlaceWithoutBinary(t *testing.T) {
	if _, err := place(fstest.MapFS{"bin/README": {}}, t.TempDir()); !errors.Is(err, ErrMissing) {
		t.Errorf("got %v", err)
	}
}

func TestCopyOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bin", "tiphys-init")
	if err := copyOut(fstest.MapFS{"bin/tiphys-init": {Data: []byte("one")}}, path); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	st, _ := os.Stat(path)
	if err != nil || string(data) != "one" || st.Mode().Perm() != 0o755 {
		t.Errorf("%q %v %v", data, st.Mode(), err)
	}
	if err := copyOut(fstest.MapFS{"bin/README": {}}, path+"2"); !errors.Is(err, ErrMissing) {
		t.Errorf("got %v", err)
	}
}
