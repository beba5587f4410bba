package sqlite

import (
	"errors"

	"github.com/klauspost/compress/s2"
)

// maxInline bounds what a row's body is unpacked to, in bytes.
const maxInline = 64 << 10

// minPacked is the size in bytes from which a body is worth packing. Bodies are JSON that says the same names again and again:
// packed they take a third of the pages, and pages are what a commit waits for.
const minPacked = 1 << 10

var errPacked = errors.New("the packed body is damaged")

// pack gives a body packed, in a buffer that the next call uses again; nil if that saves little.
func (w *writer) pack(body []byte) []byte {
	if len(body) < minPacked {
		return nil
	}
	w.packed = s2.Encode(w.packed[:cap(w.packed)], body)
	if len(w.packed) > len(body)*3/4 {
		return nil
	}
	return w.packed
}

// unpack is the body that was packed.
func unpack(packed []byte) ([]byte, error) {
	n, err := s2.DecodedLen(packed)
	if err != nil || n > maxInline {
		return nil, errPacked
	}
	body, err := s2.Decode(make([]byte, n), packed)
	if err != nil {
		return nil, errPacked
	}
	return body, nil
}
