// Package secret holds values that must not get out: a type that cannot be printed, the box that keeps
// values at rest, and the masker that takes them out of log streams.
package secret

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"log/slog"
)

// Mask is what every printed form of a Value shows.
const Mask = "******"

// Value is a secret. fmt, encoding/json, log/slog and errors all show [Mask]; only [Value.Reveal] gives it out.
type Value struct{ s string }

// New wraps a secret.
func New(s string) Value { return Value{s: s} }

// Reveal gives the secret out. Each call is a place to audit.
func (v Value) Reveal() string { return v.s }

// IsZero reports whether there is no secret.
func (v Value) IsZero() bool { return v.s == "" }

// Is compares with a text in constant time, whatever the lengths are.
func (v Value) Is(text string) bool {
	a, b := sha256.Sum256([]byte(v.s)), sha256.Sum256([]byte(text))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// String implements fmt.Stringer.
func (Value) String() string { return Mask }

// GoString implements fmt.GoStringer.
func (Value) GoString() string { return Mask }

// Format implements fmt.Formatter, so that no verb prints the secret.
func (Value) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(Mask)) }

// LogValue implements slog.LogValuer.
func (Value) LogValue() slog.Value { return slog.StringValue(Mask) }

// MarshalJSON writes the mask.
func (Value) MarshalJSON() ([]byte, error) { return json.Marshal(Mask) }

// MarshalText writes the mask.
func (Value) MarshalText() ([]byte, error) { return []byte(Mask), nil }

// UnmarshalJSON reads a secret from a JSON string.
func (v *Value) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &v.s) }
