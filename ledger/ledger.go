// Package ledger is the append-only record of everything that happened, and what is derived from it.
//
// A decision is one [Ledger.Write]: it appends entries, the ledger's projections turn those entries into
// rows, and outgoing work is put in the outbox, all in one transaction. What is in memory elsewhere in the
// program is a cache of this. Implementations: ledger/sqlite; each runs the suite in ledger/ledgertest.
package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tidwall/sjson"

	"github.com/tiphys/tiphys/failure"
)

// Errors that every implementation returns, wrapped with what was being done.
var (
	// ErrNotFound says that no entry, row or work item has the given key.
	ErrNotFound = failure.New(failure.NotFound, "not found")
	// ErrExists says that a unique key (see [Draft.Unique]) was used before: the decision was already taken.
	ErrExists = failure.New(failure.Conflict, "already recorded")
	// ErrClosed says that the ledger was closed before the call could be carried out.
	ErrClosed = failure.New(failure.RetryAfter, "ledger is closed")
	// ErrNoSpace says that the storage had no room for the write: nothing of it was recorded, reads go on,
	// and writes go on again when there is room.
	ErrNoSpace = failure.New(failure.NoSpace, "no space left for the ledger")
)

// ExistsError is the [ErrExists] of [Tx.Append]: it names the entry that used the unique key first.
type ExistsError struct {
	Key string
	// Entry holds the key.
	Entry Ref
}

// Seq is the sequence of the entry that holds the key; 0 while it belongs to the same transaction.
func (e *ExistsError) Seq() int64 { return e.Entry.Seq() }

func (e *ExistsError) Error() string {
	if seq := e.Seq(); seq > 0 {
		return fmt.Sprintf("%q is already recorded as entry %d", e.Key, seq)
	}
	return fmt.Sprintf("%q is already recorded", e.Key)
}

// Is makes errors.Is(err, ErrExists) hold.
func (e *ExistsError) Is(target error) bool { return target == ErrExists }

// FailureKind implements failure.Classified.
func (e *ExistsError) FailureKind() failure.Kind { return failure.Conflict }

// KindErased is the kind of the entry that erases another entry's body: its subject is "entry/SEQ", its
// cause the erased entry, its body {"seq":SEQ,"reason":"..."}.
const KindErased = "body.erased"

// Hash is a SHA-256 digest.
type Hash [32]byte

// Entry is one fact. Entries are never changed; only a body can be erased, by an entry of its own.
type Entry struct {
	// Seq is the position in the ledger: dense, from 1.
	Seq int64 `json:"seq"`
	// Time is when the entry was written, in UTC with microseconds. It never runs backwards.
	Time time.Time `json:"time"`
	// Actor is who did it: "user:ada", "sensor:default/on-push", "system".
	Actor string `json:"actor"`
	// Kind says what happened, as room.verb: "event.received", "run.submitted", "node.finished".
	Kind string `json:"kind"`
	// Subject is what it happened to, as kind/namespace/name or kind/id: "run/default/hello-x7k2p".
	Subject string `json:"subject"`
	// Cause is the sequence of the entry that led to this one; 0 where it came from outside.
	Cause int64 `json:"cause,omitempty"`
	// Body is the JSON that belongs to the kind; nil if it was erased (then Pruned is true).
	Body json.RawMessage `json:"body,omitempty"`
	// Pruned says that the body was erased by retention or on request.
	Pruned bool `json:"pruned,omitempty"`
	// Hash chains the entry to the one before it; see [ChainHash].
	Hash Hash `json:"-"`
	// Value is what Body was marshalled from, while the entry is being appended; nil in an entry that was read.
	// [Read] gives either. It must not be changed.
	Value any `json:"-"`
}

// Draft is an entry before it has a place in the ledger.
type Draft struct {
	Actor, Kind, Subject string
	// Cause is the entry that led to this one: [At] a sequence, or what Append returned before in the same transaction.
	Cause Ref
	// Body is marshalled to JSON; a json.RawMessage is taken as it is, as is what [Encode] made.
	Body any
	// Unique, if not empty, may be used by one entry only: a second Append with it returns ErrExists and
	// writes nothing. It guards deliveries, cron slots and firings against being counted twice.
	Unique string
	// Also are further unique keys, for what is known by more than one name: one that was used before is enough for ErrExists.
	Also []string
	// Horizon is how long the unique keys count; 0 is for ever. A key behind its horizon is free.
	Horizon time.Duration
	// Expect, if given, is what the last entry of Subject must be; else Append returns a [ConflictError] and writes nothing.
	Expect Expect
}

// Row is one row of a projection: the present state of one thing.
type Row struct {
	// Table is the projection's name, singular: "run", "node", "event", "application".
	Table string `json:"table"`
	// Key is unique in the table: "default/hello-x7k2p".
	Key string `json:"key"`
	// Owner is the key of what the row belongs to, in whatever table; a node's owner is its run. May be empty.
	Owner string `json:"owner,omitempty"`
	// State is one word to filter by: a phase, a health. May be empty.
	State string `json:"state,omitempty"`
	// Time orders lists, newest first; usually when the thing came to be.
	Time time.Time `json:"time"`
	// Labels are exact-match filters.
	Labels map[string]string `json:"labels,omitempty"`
	// Body is the JSON of the thing itself.
	Body json.RawMessage `json:"body"`
	// Seq is the entry that last changed the row; the ledger sets it. It is 0 in a row that the same transaction changed.
	Seq int64 `json:"seq"`
	// Stamp has the ledger write a sequence into Body when it is known, for rows that repeat the number of the entry that made them.
	Stamp Stamp `json:"-"`
}

// Stamp is a sequence to be written into a row's body.
type Stamp struct {
	// Field is the name of a field of Body, which must be an object; empty for no stamp.
	Field string
	// Of is the entry; the one that is being applied if zero. A row that is put again in the same transaction keeps its stamp.
	Of Ref
}

// Write writes the sequence into a body, for implementations.
func (s Stamp) Write(body json.RawMessage, seq int64) (json.RawMessage, error) {
	out, err := sjson.SetBytes(body, s.Field, seq)
	if err != nil {
		return nil, fmt.Errorf("write sequence %d into field %q: %w", seq, s.Field, err)
	}
	return out, nil
}

// Query selects rows of one table, newest first. The zero value of a field does not restrict.
type Query struct {
	Table  string
	Owner  string
	States []string
	// Labels must all match.
	Labels map[string]string
	// KeyPrefix restricts to keys that start with it, e.g. "default/".
	KeyPrefix string
	// Oldest turns the order around: oldest first.
	Oldest bool
	// ChangedAfter selects rows that an entry above this sequence changed, in order of Seq, whatever Oldest
	// says; it is how live feeds go on from where they were.
	ChangedAfter int64
	// After continues behind this row (its Time and Key; its Seq and Key with ChangedAfter), for paging; see [Each].
	After *Cursor
	// Limit is the most rows returned; 0 means 100.
	Limit int
}

// Cursor is a place in a list.
type Cursor struct {
	Time time.Time `json:"time"`
	Key  string    `json:"key"`
	// Seq takes the place of Time in a query by ChangedAfter.
	Seq int64 `json:"seq,omitempty"`
}

// EntryQuery selects entries in order of sequence. The zero value of a field does not restrict.
type EntryQuery struct {
	// After selects sequences above it.
	After int64
	// Before selects sequences below it: with Newest, the place to continue from.
	Before int64
	// Subject is an exact subject.
	Subject string
	// SubjectPrefix restricts to subjects that start with it.
	SubjectPrefix string
	// Kinds are exact kinds.
	Kinds []string
	// Cause selects what one entry led to.
	Cause int64
	// Until is the latest time selected.
	Until time.Time
	// Newest turns the order around: newest first.
	Newest bool
	// Limit is the most entries returned; 0 means 1000.
	Limit int
	// Bare leaves out the bodies: for who only wants to know what happened to what.
	Bare bool
}

// Work is one item of the outbox: something to do in the world because of an entry, at least once.
// Whoever does it must be idempotent by Key.
type Work struct {
	ID int64 `json:"id"`
	// Queue groups items that one worker takes: "executor", "timer", "trigger".
	Queue string `json:"queue"`
	// Key is unique among the open items of a queue: enqueueing it again replaces the item.
	Key string `json:"key"`
	// Subject is what the item is for: the owner of its partition claims it. Empty in Enqueue is the subject of the transaction. It is how a
	// decision reaches a subject of another partition.
	Subject string `json:"subject,omitempty"`
	// Due is the earliest time to do it, at once if zero; a timer is an item with a later Due.
	Due time.Time `json:"due"`
	// Cause is the entry that asked for it.
	Cause Ref `json:"-"`
	// Lease, in Enqueue, marks the item as claimed by the caller from the start and for this long: it does the
	// work right after the commit, without a Claim, and the item is there only for the case that it dies first.
	Lease time.Duration `json:"-"`
	// Attempt counts the claims so far, from 1 at the first claim.
	Attempt int             `json:"attempt"`
	Body    json.RawMessage `json:"body,omitempty"`
}

// Projection derives rows from entries. Apply is pure: it looks only at its arguments, so that replaying the
// ledger gives the same rows again. It is called inside the transaction that appends the entry.
type Projection interface {
	// Tables are all tables that Apply reads or changes; another one is an error. Projections that share a table are rebuilt together.
	Tables() []string
	// Version is raised, from 1, when the rows of the same entries become others. The tables are then built anew beside the old ones while
	// these go on to be served and kept up, so Apply must make do with rows that the version before wrote.
	Version() int
	// Wants reports whether entries of this kind change any row. It must not change over time.
	Wants(kind string) bool
	// Apply changes rows for one entry. Seq, Cause and Hash of the entry are not known yet, and 0; see [Stamp]. An error fails the whole
	// Write. When rows are built anew an entry whose body was erased since comes with a nil Body and Pruned set: its rows must do without.
	Apply(e Entry, rows Rows) error
}

// Rows is a projection's view of the rows within the running transaction.
type Rows interface {
	// Get returns ErrNotFound if there is no such row.
	Get(table, key string) (Row, error)
	Put(Row) error
	// Delete of a row that is not there is no error.
	Delete(table, key string) error
}

// Tx is one decision being written. It is valid only inside the function given to Write. Rows that are put
// here, and not by a projection, do not survive [Ledger.Rebuild]: no entry tells of them.
type Tx interface {
	Rows
	// Append adds an entry, of a subject with the scope's [Home], and applies the projections to it. What it returns stands for the entry until
	// its sequence is known. An [ExistsError] or [ConflictError] leaves the transaction as it was, so fn may go on; after any other error of a
	// projection or the storage, and after a [CrossingError], the Write fails whatever fn returns.
	Append(Draft) (Ref, error)
	// Enqueue puts work in the outbox; ID and Attempt are ignored. An item of the same key for a subject of another partition is a [CrossingError].
	Enqueue(Work) error
	// Cancel removes open work by queue and key; none is no error, an item of another partition is a [CrossingError].
	Cancel(queue, key string) error
	// Now is the transaction's one time.
	Now() time.Time
	// List reads rows as they are within the transaction.
	List(Query) ([]Row, error)
}

// Reader reads what has been committed. Every method is safe for concurrent use.
type Reader interface {
	Row(ctx context.Context, table, key string) (Row, error)
	List(ctx context.Context, q Query) ([]Row, error)
	Entry(ctx context.Context, seq int64) (Entry, error)
	Entries(ctx context.Context, q EntryQuery) ([]Entry, error)
	// Head is the last committed entry; a zero Entry on an empty ledger.
	Head(ctx context.Context) (Entry, error)
	// Changed returns a channel that is closed at the next commit after the call. It is a hint to look again.
	Changed() <-chan struct{}
}

// Ledger is the record. Every method is safe for concurrent use.
type Ledger interface {
	Reader
	// Write runs fn in a transaction and returns after the commit is durable; from then on the references that Append returned have
	// their sequences. about says which partition the decision appends to and by which right; see [On] and [Anyone].
	//
	// If fn fails nothing of it is kept and its error is returned; writes of others in the same commit are not affected. fn may be
	// called on another goroutine, and once more from the start where another replica came first. It reads by its Tx alone: a call of the
	// Ledger itself from within fn is an [ErrWithinWrite] and fails the Write too.
	Write(ctx context.Context, about Scope, fn func(Tx) error) error
	// Outbox is the queue of work to be done.
	Outbox() Outbox
	// Leases are the partitions that this handle owns.
	Leases() Leases
	// Snapshots are the states that rooms keep to bound replay.
	Snapshots() Snapshots
	// Verify checks what check says.
	Verify(ctx context.Context, check Check) (Report, error)
	// Rebuild derives every row again from the entries, beside the old rows while these are served, and takes them away then. Rows that no
	// projection derives go too.
	Rebuild(ctx context.Context) error
	// Backup writes a consistent copy to a new file or database named by dest.
	Backup(ctx context.Context, dest string) error
	Close() error
}

// Eraser is a ledger that can delete the body of an entry for good, for retention and leaked secrets.
type Eraser interface {
	// Erase deletes the body of entry seq and returns the [KindErased] entry that says so. An entry without a
	// body, or whose body is erased, is ErrNotFound. Rows that were derived from the body keep what
	// they took from it until the next Rebuild.
	Erase(ctx context.Context, seq int64, actor, reason string) (Entry, error)
}

// Outbox hands out work. An item that was claimed and not settled when its lease ends is handed out again. An owner claims the items of
// its own partitions.
type Outbox interface {
	// Claim takes up to n due items of a queue for the length of the lease, oldest first.
	Claim(ctx context.Context, queue string, n int, lease time.Duration) ([]Work, error)
	// Done removes an item; one that was replaced, removed or claimed by another owner meanwhile is no error. Done within a Write is Tx.Cancel.
	Done(ctx context.Context, id int64) error
	// Retry gives an item back, to be claimed at or after due. As with Done, only what is still this owner's is touched.
	Retry(ctx context.Context, id int64, due time.Time) error
	// Next is when the queue next has something to claim: the earliest due time of an unclaimed item or end of
	// a claimed item's lease; zero time if the queue has nothing for this owner.
	Next(ctx context.Context, queue string) (time.Time, error)
	// List gives up to n items of a queue in order of their id, those behind an id, claimed or not and whoever's they are. It changes nothing.
	List(ctx context.Context, queue string, after int64, n int) ([]Work, error)
	// Release gives back everything that an owner has claimed: called when no process of that owner can be left.
	Release(ctx context.Context, owner string) error
}

// Head names a place in the ledger and what was there.
type Head struct {
	Seq  int64     `json:"seq"`
	Time time.Time `json:"time"`
	Hash string    `json:"hash"` // hex
	// Signature is an Ed25519 signature over seq, time and hash; hex; empty if unsigned.
	Signature string `json:"signature,omitempty"`
	PublicKey string `json:"publicKey,omitempty"`
}
