package wire

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/datafolder"
	"github.com/tiphys/tiphys/executor/local"
)

// contents are a folder's files with their time and what is in them.
func contents(t *testing.T, folder string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		found[path] = fmt.Sprint(st.Mode(), st.ModTime().UnixNano())
		if !st.Mode().IsRegular() {
			return nil
		}
		raw, err := os.ReadFile(path)
		found[path] += fmt.Sprintf(" %x", sha256.Sum256(raw))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// A second server on a data folder changes nothing in it, whatever its command line says, and names the first.
func TestSecondServerChangesNothing(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	data := t.TempDir()
	first, err := serverOf(t, data, local.Network{})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	before := contents(t, data)
	second, err := serverOf(t, data, local.Network{Bridge: "elsewhere", Subnet: "10.140.0.0/16"})
	if err == nil {
		_ = second.Close()
		t.Fatal("two servers have one data folder")
	}
	if diff := cmp.Diff(before, contents(t, data)); diff != "" {
		t.Errorf("the second server changed the first one's folder: %s", diff)
	}
	var inUse *datafolder.InUseError
	if !errors.As(err, &inUse) || inUse.PID != os.Getpid() {
		t.Errorf("the second is told %v", err)
	}
	_, err = OpenMachine(t.Context(), MachineOptions{Data: data})
	if !errors.As(err, &inUse) {
		t.Errorf("a run in the folder is told %v", err)
	}
	if diff := cmp.Diff(before, contents(t, data)); diff != "" {
		t.Errorf("the run changed the server's folder: %s", diff)
	}
}
