// Package initbin carries the tiphys-init binary inside of the program and puts it where pods can be started
// from. The build puts it into bin first; a program that was built without it says so when it is wanted.
package initbin

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tiphys/tiphys/failure"
)

//go:embed all:bin
var files embed.FS

const name = "tiphys-init"

// ErrMissing says that the program was built without tiphys-init.
var ErrMissing = failure.New(failure.Stalled, "this program was built without tiphys-init, which every local pod needs: run make build")

// Path makes sure that the binary is in the data folder dir and returns its absolute path,
// dir/init/DIGEST/tiphys-init. Programs of several versions may share a folder. The error is [ErrMissing] if
// there is no binary to put there.
func Path(dir string) (string, error) { return place(files, dir) }

// Once puts the binary into a folder that is thrown away: dir/tiphys-init. The error is [ErrMissing] if there is none.
func Once(dir string) (string, error) {
	path := filepath.Join(dir, name)
	if err := copyOut(files, path); err != nil {
		return "", err
	}
	return path, nil
}

func copyOut(from fs.FS, path string) error {
	f, err := from.Open("bin/" + name)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrMissing
	}
	if err != nil {
		return fmt.Errorf("read embedded tiphys-init: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("place tiphys-init: %w", err)
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return fmt.Errorf("place tiphys-init: %w", err)
	}
	_, err = io.Copy(out, f)
	if err == nil {
		err = out.Chmod(0o755)
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("place tiphys-init: %w", err)
	}
	return nil
}

func place(from fs.FS, dir string) (string, error) {
	sum, err := digest(from.Open("bin/" + name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", ErrMissing
	}
	if err != nil {
		return "", fmt.Errorf("read embedded tiphys-init: %w", err)
	}
	if dir, err = filepath.Abs(filepath.Join(dir, "init", hex.EncodeToString(sum[:8]))); err != nil {
		return "", fmt.Errorf("place tiphys-init: %w", err)
	}
	path := filepath.Join(dir, name)
	if whole(path, sum) {
		return path, nil
	}
	data, err := fs.ReadFile(from, "bin/"+name)
	if err == nil {
		err = write(dir, path, data)
	}
	if err != nil {
		return "", fmt.Errorf("place tiphys-init: %w", err)
	}
	return path, nil
}

// digest reads a file that was opened to its end, in pieces: each start of a server does, and memory that is new costs more than the sum.
func digest(f fs.File, err error) (sum [sha256.Size]byte, _ error) {
	if err != nil {
		return sum, err
	}
	h := sha256.New()
	_, err = io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{f}, make([]byte, 64<<10))
	h.Sum(sum[:0])
	return sum, errors.Join(err, f.Close())
}

// whole reports whether the file is there and is what it should be: a crash or a person may have damaged it.
func whole(path string, want [sha256.Size]byte) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	st, err := f.Stat()
	sum, failed := digest(f, err)
	return failed == nil && sum == want && st.Mode().Perm() == 0o755
}

func write(dir, path string, data []byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, name+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o755)
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
