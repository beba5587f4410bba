package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"filippo.io/age"

	"github.com/tiphys/tiphys/failure"
)

// keysFormat is the version of a file of keys.
const keysFormat = "tiphys-keys/1"

// Bounds of a file of keys.
const (
	maxKey     = 4 << 10 // bytes of one key file
	maxKeyFile = 64      // files
)

// Keys are the key files of a data folder: what seals Secrets, what signs heads, what makes tokens.
type Keys struct {
	// Format is set by [Keys.Encode].
	Format string `json:"format"`
	// Files are the contents of ledger.key and keys/*.key by that name.
	Files map[string][]byte `json:"files"`
}

var keyName = regexp.MustCompile(`^(ledger|keys/[a-z][a-z0-9-]{0,40})\.key$`)

// KeyName reports whether a data folder has a key file of that name.
func KeyName(name string) bool { return keyName.MatchString(name) }

// Digest is what a backup's manifest has of its keys. It tells whether keys are the right ones and nothing else of them, since each is of
// 256 random bits.
func (k Keys) Digest(id string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n", keysFormat, id)
	for _, name := range slices.Sorted(maps.Keys(k.Files)) {
		fmt.Fprintf(h, "%s %x\n", name, k.Files[name])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Encode gives the text of a file of keys. It is secret.
func (k Keys) Encode() ([]byte, error) {
	k.Format = keysFormat
	raw, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode keys: %w", err)
	}
	return append(raw, '\n'), nil
}

// DecodeKeys reads a file of keys.
func DecodeKeys(raw []byte) (Keys, error) {
	var k Keys
	if len(raw) > maxKeys {
		return k, failure.Invalidf("read keys: the file has more than %d bytes", maxKeys)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&k); err != nil {
		return k, failure.Invalidf("read keys: this is not a file of keys: %w", err)
	}
	if k.Format != keysFormat {
		return k, failure.Invalidf("read keys: the format is %q, and this program reads %q", k.Format, keysFormat)
	}
	if len(k.Files) > maxKeyFile {
		return k, failure.Invalidf("read keys: there are %d of them", len(k.Files))
	}
	for name, key := range k.Files {
		if !KeyName(name) || len(key) == 0 || len(key) > maxKey {
			return k, failure.Invalidf("read keys: %q is no key of a data folder", name)
		}
	}
	return k, nil
}

// Recipients reads public keys of age ("age1…"), one a line or one each.
func Recipients(texts []string) ([]age.Recipient, error) {
	var all []age.Recipient
	for _, text := range texts {
		list, err := age.ParseRecipients(strings.NewReader(text))
		if err != nil {
			return nil, failure.Invalidf("recipient %q: %w", text, err)
		}
		all = append(all, list...)
	}
	return all, nil
}

// Encrypt encrypts a file of keys, so that each of the recipients can read it.
func (k Keys) Encrypt(to []age.Recipient) ([]byte, error) {
	raw, err := k.Encode()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to...)
	if err == nil {
		_, err = w.Write(raw)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("encrypt keys: %w", err)
	}
	return out.Bytes(), nil
}

// ErrIdentity says that an identity of age does not open the keys in a backup.
var ErrIdentity = failure.New(failure.Invalid, "the keys in the backup are not encrypted to this identity")

// Decrypt opens the keys of an archive with identities of age ("AGE-SECRET-KEY-1…", one a line).
func Decrypt(sealed []byte, identities string) (Keys, error) {
	ids, err := age.ParseIdentities(strings.NewReader(identities))
	if err != nil {
		return Keys{}, failure.Invalidf("read identity: %w", err)
	}
	r, err := age.Decrypt(bytes.NewReader(sealed), ids...)
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) {
		return Keys{}, ErrIdentity
	}
	var raw []byte
	if err == nil {
		raw, err = io.ReadAll(io.LimitReader(r, maxKeys+1))
	}
	if err != nil {
		return Keys{}, damaged("its keys cannot be decrypted: %v", err)
	}
	return DecodeKeys(raw)
}
