package secret

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// maxKeyFile is the most that a key file may have, in bytes.
const maxKeyFile = 64 << 10

// KeyFile reads a file that holds a key, and where there is none makes it of what fresh gives. The file is made whole or not at
// all, is on disk before it is used, and of two processes that make it at once both get the same. It is its owner's
// alone (mode 0600): one that others may read is refused, since whoever has read it has the key.
func KeyFile(path string, fresh func() ([]byte, error)) ([]byte, error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		if err := makeKeyFile(path, fresh); err != nil {
			return nil, fmt.Errorf("make key %s: %w", path, err)
		}
	}
	f, err := os.Open(path) //nolint:gosec // the path is the operator's
	if err != nil {
		return nil, fmt.Errorf("open key: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("open key: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("open key %s: it is not a file", path)
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("open key %s: others may read it (mode %04o); run chmod 600 on it, and change what it protects", path, info.Mode().Perm())
	case info.Size() > maxKeyFile:
		return nil, fmt.Errorf("open key %s: it has %d bytes and is no key", path, info.Size())
	}
	text := make([]byte, info.Size())
	n, err := f.ReadAt(text, 0)
	if n != len(text) {
		return nil, fmt.Errorf("read key %s: %w", path, err)
	}
	return text, nil
}

// RandomKey reads a file of size random bytes, and makes it as [KeyFile] does.
func RandomKey(path string, size int) ([]byte, error) {
	key, err := KeyFile(path, func() ([]byte, error) {
		key := make([]byte, size)
		_, err := rand.Read(key)
		return key, err
	})
	if err == nil && len(key) != size {
		return nil, fmt.Errorf("key %s has %d bytes, not %d: restore it from a backup, or remove it to get a new one", path, len(key), size)
	}
	return key, err
}

// makeKeyFile writes under a temporary name and links it into place: a link never replaces a file.
func makeKeyFile(path string, fresh func() ([]byte, error)) error {
	text, err := fresh()
	if err != nil {
		return err
	}
	folder := filepath.Dir(path)
	temp, err := os.CreateTemp(folder, ".key-*") // with mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp.Name()) }() // by then it has its own name
	_, err = temp.Write(text)
	if err = errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err = os.Link(temp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	dir, err := os.Open(folder) //nolint:gosec // the path is the operator's
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
