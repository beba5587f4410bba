// Package initbin holds the small program that every pod begins with: cmd/tiphys-init, built before this one.
package initbin

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

//go:embed all:bin
var files embed.FS

// ErrMissing says that the program was built without it.
var ErrMissing = errors.New("this program was built without tiphys-init and cannot run steps: build it with make build")

// Path writes the program into a folder, once for each version of it, and gives its absolute path.
func Path(dir string) (string, error) {
	data, err := files.ReadFile("bin/tiphys-init")
	if errors.Is(err, fs.ErrNotExist) {
		return "", ErrMissing
	}
	if err != nil {
		return "", fmt.Errorf("read tiphys-init: %w", err)
	}
	sum := sha256.Sum256(data)
	dir, err = filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("write tiphys-init: %w", err)
	}
	path := filepath.Join(dir, "tiphys-init-"+hex.EncodeToString(sum[:8]))
	if st, err := os.Stat(path); err == nil && st.Size() == int64(len(data)) {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // steps of other users execute it
		return "", fmt.Errorf("write tiphys-init: %w", err)
	}
	return path, write(dir, path, data)
}

// write puts the file there whole or not at all: another process may start it at any moment.
func write(dir, path string, data []byte) error {
	f, err := os.CreateTemp(dir, ".tiphys-init-")
	if err != nil {
		return fmt.Errorf("write tiphys-init: %w", err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o755), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write tiphys-init: %w", err), os.Remove(f.Name()))
	}
	return nil
}
