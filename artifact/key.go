package artifact

import (
	"fmt"
	"strings"

	"github.com/tiphys/tiphys/failure"
)

// ErrTooLarge says that something was not kept because it is larger than the limit that was set for it.
var ErrTooLarge = failure.New(failure.TooLarge, "artifact too large")

// ErrBadKey says that a key is not of the form that [CheckKey] describes.
var ErrBadKey = failure.New(failure.Invalid, "bad artifact key")

// The longest key and the longest part of a key between two slashes, in bytes. The first is that of S3, the
// second leaves room for a mark within the 255 bytes that a file name may have.
const (
	MaxKey     = 1024
	MaxSegment = 250
)

// CheckKey says why key cannot be the key of an object, or nil. A key is one or more segments with slashes
// between them; no segment is empty, "." or ".." or has control characters. The error wraps [ErrBadKey].
func CheckKey(key string) error {
	if key == "" {
		return fmt.Errorf("%w: it is empty", ErrBadKey)
	}
	if len(key) > MaxKey {
		return fmt.Errorf("%w: %d bytes are more than %d", ErrBadKey, len(key), MaxKey)
	}
	for segment := range strings.SplitSeq(key, "/") {
		switch {
		case segment == "":
			return fmt.Errorf("%w %q: a leading, trailing or double slash", ErrBadKey, key)
		case segment == "." || segment == "..":
			return fmt.Errorf("%w %q: the segment %q", ErrBadKey, key, segment)
		case len(segment) > MaxSegment:
			return fmt.Errorf("%w: a segment of %d bytes is longer than %d", ErrBadKey, len(segment), MaxSegment)
		}
	}
	for i := range len(key) {
		if key[i] < 0x20 || key[i] == 0x7f {
			return fmt.Errorf("%w %q: a control character", ErrBadKey, key)
		}
	}
	return nil
}
