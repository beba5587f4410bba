package mover

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"

	"github.com/tiphys/tiphys/artifact"
)

// listSum is the digest of a list of objects.
type listSum struct{ h hash.Hash }

func newListSum() listSum { return listSum{sha256.New()} }

func (s listSum) add(name string, i artifact.Info) {
	_, _ = fmt.Fprintf(s.h, "%q %s %d\n", name, i.Digest, i.Size)
}

func (s listSum) digest() string { return "sha256:" + hex.EncodeToString(s.h.Sum(nil)) }
