package ledgertest

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"

	"github.com/tiphys/tiphys/ledger"
)

// key is the same in every test.
func key(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

// forgetful opens a ledger with entries 1 to 12 of the subjects object/a, b, c in turn: a b c a b c … The rows of a and b are gone at the end.
func forgetful(t *testing.T, s Suite) *fixture {
	t.Helper()
	f := openWith(t, s, Options{Projections: []ledger.Projection{things{}}, Key: key(1)})
	if _, ok := f.Ledger.(ledger.Forgetter); !ok {
		t.Skip("this ledger forgets nothing")
	}
	for i := range 12 {
		d := ledger.Draft{Kind: "thing.made", Subject: "object/" + string("abc"[i%3]), Body: thing{State: "Running", Owner: strings.Repeat("x", i*3000)}}
		if i == 9 || i == 10 {
			d.Kind = "thing.removed"
		}
		f.append(d)
	}
	return f
}

func (f *fixture) forget(subjects ...string) ledger.Forgotten {
	f.Helper()
	got, err := f.Ledger.(ledger.Forgetter).Forget(f.ctx, "user:ada", "retention", subjects)
	f.must(err)
	return got
}

// gaps are those that the last commitment names, as FIRST-LAST.
func (f *fixture) gaps(seq int64) string {
	f.Helper()
	e, err := f.Entry(f.ctx, seq)
	f.must(err)
	c, err := ledger.ReadCommitment(e)
	f.must(err)
	var words []string
	for _, g := range c.Gaps {
		words = append(words, fmt.Sprintf("%d-%d", g.First, g.Last))
	}
	return strings.Join(words, " ")
}

// Whole subjects are forgotten, neighbours become one gap, and the chain goes on across it.
func testForget(t *testing.T, s Suite) {
	f := forgetful(t, s)
	f.must(f.Snapshots().Save(f.ctx, ledger.Snapshot{Subject: "object/a", Seq: 1, Body: []byte("x")}))
	f.append(ledger.Draft{Kind: "other.noted", Subject: "object/d", Cause: ledger.At(4)}) // 13
	head := ledger.HeadOf(f.all()[12])
	got := f.forget("object/c", "object/none")
	f.same(got, ledger.Forgotten{Held: []string{"object/c", "object/none"}})
	f.wholeWith(13, 0)

	got = f.forget("object/a")
	f.same(got, ledger.Forgotten{Entries: 4, Entry: 14})
	f.same(f.gaps(14), "1-1 4-4 7-7 10-10")
	f.wholeWith(14, 4)
	_, err := f.Entry(f.ctx, 4)
	f.wantError(err, ledger.ErrNotFound)
	_, err = f.Snapshots().Load(f.ctx, "object/a")
	f.wantError(err, ledger.ErrNotFound)
	up, err := ledger.Up(f.ctx, f, 13)
	f.must(err)
	f.same(seqs(up), "13")
	f.same(len(f.all()), 10)

	got = f.forget("object/b")
	f.same([]any{got.Entries, f.gaps(got.Entry)}, []any{int64(4), "1-2 4-5 7-8 10-11"})
	f.wholeWith(15, 8)
	// What earlier commitments rest on has new ones, so only the last is needed; that one stays.
	f.same(f.forget(ledger.SubjectForgotten).Held, []string{ledger.SubjectForgotten})

	f.append(ledger.Draft{Kind: "thing.removed", Subject: "object/c"}) // 16
	got = f.forget("object/c", "object/d")
	f.same([]any{got.Entries, f.gaps(got.Entry)}, []any{int64(6), "1-13 16-16"})
	f.wholeWith(17, 14)
	f.same(f.verify(head).Entries, int64(17))
	// An erased body's entry goes when the body's entry went.
	f.append(ledger.Draft{Kind: "other.noted", Subject: "object/e"})
	erased := f.append(ledger.Draft{Kind: "other.noted", Subject: "object/f", Body: "leaked"})
	erasure, err := f.Ledger.(ledger.Eraser).Erase(f.ctx, erased.Seq, "user:ada", "leaked")
	f.must(err)
	f.same(f.forget(erasure.Subject).Held, []string{erasure.Subject})
	f.same(f.forget("object/f").Entries, int64(1))
	f.same(f.forget(erasure.Subject).Entries, int64(1))
	f.must(f.Ledger.Close())
	f.Ledger = s.Open(t, Options{Place: f.place, Projections: []ledger.Projection{things{}}, Now: f.clock.Now, Key: key(1)})
	f.append(ledger.Draft{Kind: "other.noted"})
	r := f.verify(ledger.Head{})
	f.same([]any{len(r.Faults), r.Pruned}, []any{0, int64(16)})
	if _, err := f.Ledger.(ledger.Eraser).Erase(f.ctx, got.Entry, "user:eve", "hide it"); err == nil {
		f.Error("a commitment was erased")
	}
}

// A gap is believed only where a signed entry commits to it.
func testVerifyForgotten(t *testing.T, s Suite) {
	for _, c := range []struct {
		name, statement string
		key             byte
		since           int64
		faults          string
	}{
		{"untouched", "", 1, 0, ""},
		{"since before a gap", "", 1, 3, ""},
		{"since the last of a gap", "", 1, 4, ""},
		{"read without a key", "", 0, 0, ""},
		{"signed by another key", "", 2, 0, "1 entries up to 1 are gone; 4 entries up to 4 are gone; 7 entries up to 7 are gone; 10 entries up to 10 are gone"},
		{"a gap is removed", "DELETE FROM gaps WHERE first = 4", 1, 0, "4 entry is missing"},
		{"a gap is made longer", "DELETE FROM entries WHERE seq = 5; UPDATE gaps SET last = 5 WHERE first = 4", 1, 0, "4 entries up to 5 are gone; 6 hash does not match"},
		{"a gap's hash is changed", "UPDATE gaps SET hash = x'0000000000000000000000000000000000000000000000000000000000000000' WHERE first = 4", 1, 0,
			"4 entries up to 4 are gone; 5 hash does not match"},
		{"an entry is hidden in a gap of its own", "INSERT INTO gaps SELECT seq, seq, time, hash, 13 FROM entries WHERE seq = 6; DELETE FROM entries WHERE seq = 6", 1, 0,
			"6 entries up to 6 are gone"},
		{"the commitment is changed", "UPDATE entries SET body = replace(body, 'retention', 'nothing') WHERE seq = 13", 1, 0, "13 body does not match its digest"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := forgetful(t, s)
			heads := f.all()
			f.same(f.forget("object/a").Entry, int64(13))
			f.must(f.Ledger.Close())
			o := Options{Place: f.place, Now: f.clock.Now}
			if c.key > 0 {
				o.Key = key(c.key)
			}
			f.Ledger = s.Open(t, o)
			if c.statement != "" {
				s.Exec(t, f.Ledger, c.statement)
			}
			var since ledger.Head
			if c.since > 0 {
				since = ledger.HeadOf(heads[c.since-1])
			}
			var faults []string
			for _, fault := range f.verify(since).Faults {
				what, _, _ := strings.Cut(fault.What, ", and the record")
				faults = append(faults, fmt.Sprint(fault.Seq, " ", what))
			}
			f.same(strings.Join(faults, "; "), c.faults)
		})
	}
}

// Rows can be derived again after entries were forgotten, for only what no row needs is forgotten.
func testForgetRebuild(t *testing.T, s Suite) {
	f := forgetful(t, s)
	before := f.snapshot()
	f.same(f.forget("object/a", "object/b", "object/c").Held, []string{"object/c"})
	f.must(f.Rebuild(f.ctx))
	f.same(f.snapshot(), before)
}
