package secret

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestKeyFileIsMadeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.key")
	var wg sync.WaitGroup
	keys := make([][]byte, 16)
	for i := range keys {
		wg.Go(func() {
			var err error
			if keys[i], err = RandomKey(path, 32); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, k := range keys {
		if len(k) != 32 || !bytes.Equal(k, keys[0]) {
			t.Fatalf("of those who made it at once some have another key: %x", keys)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("there is more than the key: %v", left)
	}
	if other, err := RandomKey(filepath.Join(t.TempDir(), "x.key"), 32); err != nil || bytes.Equal(other, keys[0]) {
		t.Errorf("two keys are the same: %v", err)
	}
}

func TestKeyFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	fresh := func() ([]byte, error) { return []byte(rand.Text()), nil }
	write := func(name string, size int, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, make([]byte, size), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if err := os.Symlink(filepath.Join(dir, "nothing"), filepath.Join(dir, "dangling")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, want string }{
		{write("group", 32, 0o640), "chmod 600"},
		{write("all", 32, 0o604), "chmod 600"},
		{write("huge", 1<<20, 0o600), "is no key"},
		{dir, "it is not a file"},
		{filepath.Join(dir, "no", "folder"), "make key"},
		{filepath.Join(dir, "dangling"), "open key"}, // it may lead anywhere: it is not followed to make one
	} {
		if key, err := KeyFile(c.path, fresh); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %d bytes, %v; want %q", c.path, len(key), err, c.want)
		}
	}
	if _, err := RandomKey(write("short", 31, 0o600), 32); err == nil || !strings.Contains(err.Error(), "restore it") {
		t.Errorf("a key that was cut: %v", err)
	}
	failed := errors.New("no chance here")
	if _, err := KeyFile(filepath.Join(dir, "none"), func() ([]byte, error) { return nil, failed }); !errors.Is(err, failed) {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "none")); err == nil {
		t.Error("a file without a key was left")
	}
}
