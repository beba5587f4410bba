package ledger

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// KindForgotten is the kind of the entry that commits to what was forgotten: its subject is "entry/forgotten", its body a [Commitment].
const KindForgotten = "entries.forgotten"

// SubjectForgotten is the subject of entries of [KindForgotten].
const SubjectForgotten = "entry/forgotten"

// Forgetter is a ledger that can forget whole entries, so that it does not grow for ever. Neighbours that were forgotten are one [Gap], across
// which the chain goes on.
type Forgetter interface {
	// Forget deletes all entries of the subjects, their bodies and snapshots, and records who did it and why. A subject of which a row is
	// left in a list is held: its rows could not be derived again. So are subjects "entry/…", which later entries rest on, until what
	// they tell of is itself forgotten. Each subject is forgotten whole or not at all. It needs the key that signs heads.
	Forget(ctx context.Context, actor, reason string, subjects []string) (Forgotten, error)
}

// Forgotten is what came of a Forget.
type Forgotten struct {
	// Entries were forgotten. Entry is the last of kind [KindForgotten] that says so, 0 if nothing was forgotten.
	Entries int64 `json:"entries"`
	Entry   int64 `json:"entry,omitempty"`
	// Held are the subjects that were not forgotten.
	Held []string `json:"held,omitempty"`
}

// Gap is a run of neighbouring entries that were forgotten.
type Gap struct {
	First int64 `json:"first"`
	Last  int64 `json:"last"`
	// Time and Hash are those of the last entry: the next one is chained to it.
	Time time.Time `json:"time"`
	Hash string    `json:"hash"` // hex
}

// Commitment is the body of an entry of [KindForgotten]: the gaps that were made or grew, signed with the key that signs heads. A gap that grew
// has a new commitment, and the old one says nothing any more.
type Commitment struct {
	Reason  string `json:"reason"`
	Entries int64  `json:"entries"`
	Gaps    []Gap  `json:"gaps"`
	// Signature is Ed25519 over the gaps; hex, as is PublicKey.
	Signature string `json:"signature"`
	PublicKey string `json:"publicKey"`
}

// SignGaps makes a commitment.
func SignGaps(reason string, entries int64, gaps []Gap, key ed25519.PrivateKey) (Commitment, error) {
	if len(key) != ed25519.PrivateKeySize {
		return Commitment{}, fmt.Errorf("sign what is forgotten: there is no key")
	}
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return Commitment{}, fmt.Errorf("sign what is forgotten: the key has no Ed25519 public key")
	}
	return Commitment{
		Reason: reason, Entries: entries, Gaps: gaps,
		Signature: hex.EncodeToString(ed25519.Sign(key, gapMessage(gaps))), PublicKey: hex.EncodeToString(public),
	}, nil
}

// Covers says whether the commitment is to this very gap, and was signed: by key, or with nil by the key that it names.
func (c Commitment) Covers(g Gap, key ed25519.PublicKey) error {
	named, err := hex.DecodeString(c.PublicKey)
	if err != nil || len(named) != ed25519.PublicKeySize || key != nil && !key.Equal(ed25519.PublicKey(named)) {
		return fmt.Errorf("signed by another key: %w", ErrBadSignature)
	}
	signature, err := hex.DecodeString(c.Signature)
	if err != nil || !ed25519.Verify(named, gapMessage(c.Gaps), signature) {
		return ErrBadSignature
	}
	for _, mine := range c.Gaps {
		if mine.First == g.First && mine.Last == g.Last && mine.Hash == g.Hash && mine.Time.Equal(g.Time) {
			return nil
		}
	}
	return fmt.Errorf("it does not name entries %d to %d", g.First, g.Last)
}

// ReadCommitment reads the body of an entry of [KindForgotten].
func ReadCommitment(e Entry) (Commitment, error) {
	var c Commitment
	if e.Kind != KindForgotten {
		return c, fmt.Errorf("entry %d is %q, not %q", e.Seq, e.Kind, KindForgotten)
	}
	if err := json.Unmarshal(e.Body, &c); err != nil {
		return c, fmt.Errorf("read entry %d (%s): %w", e.Seq, e.Kind, err)
	}
	return c, nil
}

// gapMessage is what is signed.
func gapMessage(gaps []Gap) []byte {
	var b strings.Builder
	b.WriteString("tiphys-gaps-1\n")
	for _, g := range gaps {
		fmt.Fprintf(&b, "%d %d %d %s\n", g.First, g.Last, g.Time.UnixMicro(), g.Hash)
	}
	return []byte(b.String())
}
