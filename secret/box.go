package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/tiphys/tiphys/failure"
)

// ErrSealed says that a sealed value cannot be opened: another key, another context, or a changed byte.
var ErrSealed = failure.New(failure.Stalled, "cannot open the sealed value: it was sealed with another key, for another place, or was changed")

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
	text, err := KeyFile(path, func() ([]byte, error) {
		key := make([]byte, keySize)
		_, err := rand.Read(key)
		return []byte(hex.EncodeToString(key) + "\n"), err
	})
	if err != nil {
		return nil, fmt.Errorf("open secret box: %w", err)
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != keySize {
		return nil, fmt.Errorf("open secret key %s: want %d hexadecimal digits; restore the file from a backup", path, 2*keySize)
	}
	return NewBox(key)
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
