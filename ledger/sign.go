package ledger

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/secret"
)

// ErrBadSignature says that a head was not signed by the expected key, or was changed after signing.
var ErrBadSignature = failure.New(failure.Invalid, "signature does not match")

// keyFileName is the signing key's name in the data folder.
const keyFileName = "ledger.key"

// SignHead signs a place in the ledger, so that a later verification against it proves that nothing up to
// there was rewritten or cut off since. It fills Signature and PublicKey.
func SignHead(h Head, key ed25519.PrivateKey) (Head, error) {
	if len(key) != ed25519.PrivateKeySize {
		return Head{}, errors.New("sign ledger head: the key is not an Ed25519 private key")
	}
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return Head{}, errors.New("sign ledger head: the key has no Ed25519 public key")
	}
	h.PublicKey = hex.EncodeToString(public)
	h.Signature = hex.EncodeToString(ed25519.Sign(key, headMessage(h)))
	return h, nil
}

// VerifyHead checks a head's signature. With a key, the head must be signed by it; with nil, by the key that
// the head itself names, which proves only that the head was not changed since. Errors wrap [ErrBadSignature].
func VerifyHead(h Head, key ed25519.PublicKey) error {
	named, err := hex.DecodeString(h.PublicKey)
	if err != nil || len(named) != ed25519.PublicKeySize {
		return fmt.Errorf("verify ledger head %d: it names no public key: %w", h.Seq, ErrBadSignature)
	}
	if key == nil {
		key = named
	}
	if len(key) != ed25519.PublicKeySize || !key.Equal(ed25519.PublicKey(named)) {
		return fmt.Errorf("verify ledger head %d: signed by another key: %w", h.Seq, ErrBadSignature)
	}
	signature, err := hex.DecodeString(h.Signature)
	if err != nil || !ed25519.Verify(key, headMessage(h), signature) {
		return fmt.Errorf("verify ledger head %d: %w", h.Seq, ErrBadSignature)
	}
	return nil
}

// headMessage is what is signed. Time goes in microseconds, the precision that entries have.
func headMessage(h Head) []byte {
	return fmt.Appendf(nil, "tiphys-head-1\n%d\n%s\n%s\n", h.Seq, h.Time.UTC().Truncate(time.Microsecond).Format(time.RFC3339Nano), h.Hash)
}

// LoadKey reads the signing key of a data folder and makes it on first use. The file is readable by its owner only; one
// that others may read is refused, for then anybody could sign.
func LoadKey(folder string) (ed25519.PrivateKey, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("load ledger key: %w", err)
	}
	path := filepath.Join(folder, keyFileName)
	data, err := secret.KeyFile(path, freshKey)
	if err != nil {
		return nil, fmt.Errorf("load ledger key: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("load ledger key: %s is not PEM: restore it from a backup, or remove it to sign with a new key", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("load ledger key %s: %w", path, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("load ledger key: %s is not an Ed25519 key", path)
	}
	return key, nil
}

// freshKey is the content of a new key file.
func freshKey() ([]byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
