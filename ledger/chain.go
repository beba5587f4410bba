package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// chainTag separates entry hashes from every other use of SHA-256, and numbers the encoding.
const chainTag = "tiphys-entry-1"

// BodyDigest is the digest of an entry's body as it is stored; a missing body counts as the empty one.
func BodyDigest(body []byte) Hash { return sha256.Sum256(body) }

// ChainHash is the hash of an entry: SHA-256 over a tag, the previous entry's hash (zero for the first entry),
// sequence, time in microseconds since 1970, cause, actor, kind, subject and the digest of the body. Numbers
// are big-endian 64 bit; strings are preceded by their length in bytes, so no two entries encode alike.
// The body enters by its digest only: an entry whose body was erased still verifies.
func ChainHash(previous Hash, e Entry, body Hash) Hash {
	b := make([]byte, 0, len(chainTag)+2*len(previous)+6*8+len(e.Actor)+len(e.Kind)+len(e.Subject))
	b = append(b, chainTag...)
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
