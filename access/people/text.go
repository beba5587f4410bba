package people

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"io"
	"strings"

	"github.com/tiphys/tiphys/secret"
)

// Text is a credential as its holder has it.
type Text = secret.Value

// tokenPrefix begins the tokens of people, so that scanners find one that leaked.
const tokenPrefix = "tpp_"

// Sizes of credentials: an id and a secret, in bytes.
const (
	idSize     = 8
	secretSize = 32
)

// maxText bounds what is read as a credential, in bytes.
const maxText = 200

// fresh makes a credential. Its text is PREFIX ID.SECRET, with NAME. before where it says whose it is.
func fresh(random io.Reader, prefix, name string) (Text, Hashed) {
	var id [idSize]byte
	var key [secretSize]byte
	// Reading randomness does not fail: crypto/rand ends the program instead.
	_, _ = io.ReadFull(random, id[:])
	_, _ = io.ReadFull(random, key[:])
	if name != "" {
		name += "."
	}
	h := Hashed{ID: hex.EncodeToString(id[:])}
	text := base64.RawURLEncoding.EncodeToString(key[:])
	h.Hash = hashOf(text)
	return secret.New(prefix + name + h.ID + "." + text), h
}

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// given is a credential that somebody shows.
type given struct{ name, id, secret string }

// parse takes a credential apart; those without a prefix say whose they are.
func parse(prefix, text string) (given, bool) {
	rest, ok := strings.CutPrefix(text, prefix)
	if !ok || len(text) > maxText {
		return given{}, false
	}
	var g given
	i := strings.LastIndexByte(rest, '.')
	if i < 0 {
		return g, false
	}
	rest, g.secret = rest[:i], rest[i+1:]
	if prefix == "" {
		if i = strings.LastIndexByte(rest, '.'); i < 0 {
			return g, false
		}
		g.name, rest = rest[:i], rest[i+1:]
		if !names.MatchString(g.name) {
			return g, false
		}
	}
	g.id = rest
	return g, len(g.id) == 2*idSize && g.secret != ""
}

// proves compares a secret with what the record has, in constant time.
func (g given) proves(h Hashed) bool {
	return subtle.ConstantTimeCompare([]byte(hashOf(g.secret)), []byte(h.Hash)) == 1
}

// find gives the credential that is shown.
func find[T credential](all []T, g given) (T, bool) {
	for _, one := range all {
		if one.hashed().ID == g.id {
			return one, g.proves(one.hashed())
		}
	}
	var none T
	return none, false
}

// LoginURL is the address that logs a browser in: the code stands behind the #, so that it reaches no server's log.
func LoginURL(base string, code Text) string {
	return strings.TrimRight(base, "/") + "/#login=" + code.Reveal()
}
