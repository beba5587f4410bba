package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
)

// The encodings of an entry's hash. New entries have the last one; older ones keep theirs for ever.
const (
	// TagPlain is the encoding of version 0.1.0: the digest is the body's SHA-256.
	TagPlain = 1
	// TagSalted has the salted digest, so that a short body which was erased cannot be guessed from what stays.
	TagSalted = 2
)

// The words that separate entry hashes from every other use of SHA-256, and number the encoding.
const (
	entryWord = "tiphys-entry-"
	bodyWord  = "tiphys-body-2"
)

// SaltSize is the size of a body's salt in bytes.
const SaltSize = 16

// BodyDigest is the digest of an entry's body as it is stored; a missing body counts as the empty one. With [TagSalted] it is SHA-256 over
// a word, the salt and the body, and the salt is deleted together with the body; with [TagPlain] there is no salt.
func BodyDigest(tag int, salt, body []byte) Hash {
	if tag == TagPlain {
		return sha256.Sum256(body)
	}
	h := sha256.New()
	_, _ = h.Write([]byte(bodyWord)) // a hash never fails
	_, _ = h.Write(salt)
	_, _ = h.Write(body)
	var sum Hash
	h.Sum(sum[:0])
	return sum
}

// ChainHash is the hash of an entry: SHA-256 over a word with the tag, the previous entry's hash (zero for the first entry),
// sequence, time in microseconds since 1970, cause, actor, kind, subject and the digest of the body. Numbers
// are big-endian 64 bit; strings are preceded by their length in bytes, so no two entries encode alike.
// The body enters by its digest only: an entry whose body was erased still verifies.
func ChainHash(tag int, previous Hash, e Entry, body Hash) Hash {
	b := make([]byte, 0, len(entryWord)+20+2*len(previous)+6*8+len(e.Actor)+len(e.Kind)+len(e.Subject))
	b = append(b, entryWord...)
	b = strconv.AppendInt(b, int64(tag), 10)
	b = append(b, previous[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Seq))
	b = binary.BigEndian.AppendUint64(b, uint64(e.Time.UnixMicro()))
	b = binary.BigEndian.AppendUint64(b, uint64(e.Cause))
	for _, s := range [...]string{e.Actor, e.Kind, e.Subject} {
		b = binary.BigEndian.AppendUint64(b, uint64(len(s)))
		b = append(b, s...)
	}
	b = append(b, body[:]...)
	return sha256.Sum256(b)
}

// String is the hash in hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// ParseHash reads the hexadecimal form.
func ParseHash(s string) (Hash, error) {
	var h Hash
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(h) {
		return Hash{}, fmt.Errorf("parse hash %q: want %d hexadecimal digits", s, 2*len(h))
	}
	copy(h[:], b)
	return h, nil
}

// HeadOf names the place of an entry; the zero Entry gives the zero Head.
func HeadOf(e Entry) Head {
	if e.Seq == 0 {
		return Head{}
	}
	return Head{Seq: e.Seq, Time: e.Time, Hash: e.Hash.String()}
}
