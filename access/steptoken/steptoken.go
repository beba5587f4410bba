// Package steptoken makes and checks the tokens of steps: each says which attempt of which run holds it and what
// the run was made for, and is worth nothing when that attempt has ended.
package steptoken

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/tiphys/tiphys/secret"
)

// Claims are what a token says.
type Claims struct {
	UID     string `json:"uid"`
	Run     string `json:"run"` // namespace/name
	Node    string `json:"node"`
	Attempt int    `json:"attempt"`
	// Forge is the instance that Repo is of; empty is the built-in remote. A forge that is not declared has a name that no instance has.
	Forge string `json:"forge,omitempty"`
	// Repo, Ref, Commit and MR are what the run was made for; empty for a run by hand.
	Repo   string `json:"repo,omitempty"`
	Ref    string `json:"ref,omitempty"`
	Commit string `json:"commit,omitempty"`
	MR     int    `json:"mr,omitempty"`
	// Nobody says that what is claimed was not proved: such a step may do nothing that others see.
	Nobody bool `json:"nobody,omitempty"`
	// Protected says that Ref may be changed only as the forge's rules allow: releases to production need it.
	Protected bool `json:"protected,omitempty"`
}

// prefix tells a step's token from others.
const prefix = "tps_"

// errInvalid does not say why: whoever forges tokens should not learn from it.
var errInvalid = errors.New("invalid step token")

// Issuer makes and checks tokens with one key.
type Issuer struct{ key []byte }

// NewIssuer returns an issuer; key is 32 random bytes. The epoch is the server's: tokens of another one, which steps from before a restore
// still have, are worth nothing.
func NewIssuer(key []byte, epoch int64) *Issuer {
	if epoch == 0 {
		return &Issuer{key: key}
	}
	m := hmac.New(sha256.New, key)
	fmt.Fprintf(m, "epoch %d", epoch)
	return &Issuer{key: m.Sum(nil)}
}

// Is reports whether a string looks like a step's token.
func Is(token string) bool { return strings.HasPrefix(token, prefix) }

// Issue makes a token.
func (i *Issuer) Issue(c Claims) (secret.Value, error) {
	raw, err := json.Marshal(c)
	if err != nil {
		return secret.Value{}, fmt.Errorf("encode step token: %w", err)
	}
	payload := base64.RawURLEncoding.EncodeToString(raw)
	return secret.New(prefix + payload + "." + base64.RawURLEncoding.EncodeToString(i.mac(payload))), nil
}

// Verify checks a token in constant time and gives its claims.
func (i *Issuer) Verify(token string) (Claims, error) {
	var c Claims
	payload, sig, ok := strings.Cut(strings.TrimPrefix(token, prefix), ".")
	if !Is(token) || !ok {
		return c, errInvalid
	}
	got, err := base64.RawURLEncoding.DecodeString(sig)
	if err != nil || !hmac.Equal(got, i.mac(payload)) {
		return c, errInvalid
	}
	raw, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return c, errInvalid
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, errInvalid
	}
	return c, nil
}

func (i *Issuer) mac(payload string) []byte {
	m := hmac.New(sha256.New, i.key)
	m.Write([]byte(payload))
	return m.Sum(nil)
}
