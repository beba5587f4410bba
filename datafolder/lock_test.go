package datafolder_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/tiphys/tiphys/datafolder"
)

func TestOneProcessAtATime(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "data")
	if pid, err := datafolder.Holder(folder); pid != 0 || err != nil {
		t.Errorf("a folder that is not there is held by %d, %v", pid, err)
	}
	first, err := datafolder.Take(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	var inUse *datafolder.InUseError
	if _, err := datafolder.Take(t.Context(), folder); !errors.As(err, &inUse) {
		t.Fatalf("two have the folder: %v", err)
	}
	if inUse.PID != os.Getpid() || inUse.Folder != folder {
		t.Errorf("the holder is said to be %+v", inUse)
	}
	if pid, err := datafolder.Holder(folder); pid != os.Getpid() || err != nil {
		t.Errorf("the holder is said to be %d, %v", pid, err)
	}
	if err := first.Unlock(); err != nil {
		t.Fatal(err)
	}
	if pid, err := datafolder.Holder(folder); pid != 0 || err != nil {
		t.Errorf("a folder that was given back is held by %d, %v", pid, err)
	}
	again, err := datafolder.Take(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Unlock(); err != nil {
		t.Error(err)
	}
}

func TestNoOthersFileIsFollowed(t *testing.T) {
	folder := t.TempDir()
	precious := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(precious, []byte("keep"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(precious, filepath.Join(folder, "lock")); err != nil {
		t.Fatal(err)
	}
	if _, err := datafolder.Take(t.Context(), folder); err == nil {
		t.Error("the lock is a link to elsewhere, and was taken")
	}
	if text, err := os.ReadFile(precious); string(text) != "keep" || err != nil {
		t.Errorf("the other file has %q, %v", text, err)
	}
}
