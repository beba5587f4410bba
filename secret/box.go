package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ErrSealed says that a sealed value cannot be opened: another key, another context, or a changed byte.
var ErrSealed = errors.New("cannot open the sealed value: it was sealed with another key, for another place, or was changed")

// Box seals values for keeping them at rest, with AES-256-GCM and a random nonce each. It may be used from several
// goroutines at once.
type Box struct{ aead cipher.AEAD }

const (
	keySize = 32
	// version is the first byte of a sealed value.
	version = 1
)

// NewBox makes a box from a key of 32 bytes.
func NewBox(key []byte) (*Box, error) {
	if len(key) != keySize {
		return nil, fmt.Errorf("make secret box: the key has %d bytes, want %d", len(key), keySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make secret box: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("make secret box: %w", err)
	}
	return &Box{aead: aead}, nil
}

// OpenBox reads the key from a file, which is made with a fresh key (mode 0600) where there is none. A file that
// others can read is refused.
func OpenBox(path string) (*Box, error) {
	if err := ensureKey(path); err != nil {
		return nil, fmt.Errorf("make secret key %s: %w", path, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open secret key: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("open secret key %s: others may read it (mode %04o); run chmod 600 on it and change the secrets it protects", path, mode)
	}
	text, err := os.ReadFile(path) //nolint:gosec // the path is the operator's
	if err != nil {
		return nil, fmt.Errorf("open secret key: %w", err)
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != keySize {
		return nil, fmt.Errorf("open secret key %s: want %d hexadecimal digits; restore the file from a backup", path, 2*keySize)
	}
	return NewBox(key)
}

// ensureKey makes the file whole or not at all, also when two processes try: a link never replaces a file.
func ensureKey(path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	key := make([]byte, keySize)
	if _, err := rand.Read(key); err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".key-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp.Name()) }()
	_, err = temp.WriteString(hex.EncodeToString(key) + "\n")
	if err = errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err = os.Link(temp.Name(), path); errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// Seal encrypts a value for one place: the context ("secret/ci/registry/password") is not kept, and only the same
// context opens it again.
func (b *Box) Seal(value Value, context string) []byte {
	return b.aead.Seal([]byte{version}, nil, []byte(value.Reveal()), []byte(context))
}

// Open gives a sealed value back. The error is [ErrSealed].
func (b *Box) Open(sealed []byte, context string) (Value, error) {
	if len(sealed) == 0 || sealed[0] != version {
		return Value{}, ErrSealed
	}
	plain, err := b.aead.Open(nil, nil, sealed[1:], []byte(context))
	if err != nil {
		return Value{}, ErrSealed
	}
	return New(string(plain)), nil
}
