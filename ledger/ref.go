package ledger

import "sync/atomic"

// Ref names an entry: one that is in the ledger, by [At], or one that a transaction is still appending, by what [Tx.Append]
// returned. A sequence is given only when the transaction commits, so within the transaction a Ref is all that is known of
// an entry. The zero Ref names none.
type Ref struct {
	seq     int64
	pending *Pending
	n       int
}

// At is the entry with the given sequence; 0 is none.
func At(seq int64) Ref { return Ref{seq: seq} }

// Seq is the entry's sequence. Of an entry that was appended it is 0 until Write has returned without an error.
func (r Ref) Seq() int64 {
	if r.pending == nil {
		return r.seq
	}
	first := r.pending.first.Load()
	if first == 0 {
		return 0
	}
	return first + int64(r.n) - 1
}

// IsZero says that it names no entry.
func (r Ref) IsZero() bool { return r.seq == 0 && r.pending == nil }

// Equal says that both name the same entry.
func (r Ref) Equal(other Ref) bool {
	if r.pending != nil && r.pending == other.pending {
		return r.n == other.n
	}
	if r.pending == nil && other.pending == nil {
		return r.seq == other.seq
	}
	seq := r.Seq() // two that are not known yet are not the same
	return seq != 0 && seq == other.Seq()
}

// Pending are the entries that one transaction appends. It is for implementations of [Ledger].
type Pending struct {
	first atomic.Int64
	count int
}

// Next is a reference to the next entry of the transaction.
func (p *Pending) Next() Ref {
	p.count++
	return Ref{pending: p, n: p.count}
}

// Index is the place of the entry among those of the transaction, from 1; 0 if it is none of them.
func (p *Pending) Index(r Ref) int {
	if r.pending != p {
		return 0
	}
	return r.n
}

// Settle gives every reference its sequence: the first entry of the transaction has the sequence first. It is called once, after
// the commit and before Write returns.
func (p *Pending) Settle(first int64) { p.first.Store(first) }
