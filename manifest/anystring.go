package manifest

import (
	"bytes"
	"encoding/json"
)

// AnyString is a string that may be written as a number, a boolean, a list or a map; the latter are kept as
// compact JSON. It follows Argo's AnyString, and is more lenient for lists and maps.
type AnyString string

// NewAnyString returns a pointer to s.
func NewAnyString(s string) *AnyString {
	a := AnyString(s)
	return &a
}

// String gives the text.
func (a AnyString) String() string { return string(a) }

// Text gives the text, or "" for nil.
func (a *AnyString) Text() string {
	if a == nil {
		return ""
	}
	return string(*a)
}

// UnmarshalJSON takes a string as it is and anything else as its JSON text.
func (a *AnyString) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		*a = AnyString(s)
		return nil
	}
	var buf bytes.Buffer
	if err := json.Compact(&buf, b); err != nil {
		return err
	}
	*a = AnyString(buf.String())
	return nil
}

// MarshalJSON writes a string.
func (a AnyString) MarshalJSON() ([]byte, error) { return json.Marshal(string(a)) }
