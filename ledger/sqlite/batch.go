package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tiphys/tiphys/ledger"
)

// inlineBody is the size in bytes up to which a body lives in its entry's row. A body of its own costs two more indexes on a
// random key, which is most of what recording a delivery costs; in its row it is kept off the pages that walking the entries reads
// from a page's size on. BenchmarkInline compares it with others.
const inlineBody = 16 << 10

// Where an entry's body is; the values of entries.place.
const (
	placeNone = iota
	placeInline
	placeContents
	placeErased
	placePacked
)

var errNoRows = sql.ErrNoRows

// rowKey names a row.
type rowKey struct{ table, key string }

// change is what becomes of a row.
type change struct {
	row    ledger.Row
	labels string // the row's labels as they are stored
	gone   bool
	// n is the entry of the decision that changed it, from 1, and stamped the one whose sequence the body gets; 0 for none. Both count only
	// until the decision has succeeded.
	n, stamped int
}

// settle fills in what hangs on the sequence of the decision's first entry.
func (c *change) settle(first int64) (err error) {
	if c.n > 0 {
		c.row.Seq = first + int64(c.n) - 1
	}
	if c.stamped > 0 {
		c.row.Body, err = c.row.Stamp.Write(c.row.Body, first+int64(c.stamped)-1)
	}
	c.row.Stamp, c.n, c.stamped = ledger.Stamp{}, 0, 0
	return err
}

// pending is an entry that is not yet in the database.
type pending struct {
	entry  ledger.Entry
	cause  ledger.Ref
	digest ledger.Hash
	salt   []byte
}

// keyUse is the use of a unique key: by the n-th entry of its decision, whose sequence is known when that has succeeded. Times are in
// microseconds since 1970; until is 0 for ever.
type keyUse struct {
	n           int
	seq         int64
	time, until int64
}

// workOp is one change of the outbox.
type workOp struct {
	work      ledger.Work
	partition int
	owner     string // who has it from the start, if it has a lease
	cancel    bool
}

// changes are what one decision, or a whole batch, does to the ledger. They stay in memory until the
// decision has succeeded, so undoing one decision of a batch is forgetting them: the effect of a savepoint
// each, without its statements and page copies. Two changes of one row in a batch are written once.
type changes struct {
	entries []pending
	unique  map[string]keyUse
	rows    map[rowKey]change
	work    []workOp
}

func newChanges() changes {
	return changes{unique: map[string]keyUse{}, rows: map[rowKey]change{}}
}

// add takes over the changes of a decision that succeeded.
func (c *changes) add(d *changes) {
	c.entries = append(c.entries, d.entries...)
	c.work = append(c.work, d.work...)
	for k, v := range d.unique {
		c.unique[k] = v
	}
	for k, v := range d.rows {
		c.rows[k] = v
	}
}

// batch is one transaction: the decisions that share a flush.
type batch struct {
	w *writer
	s *session
	changes
	head     place
	lastWork int64
	owners   *ownership
	layout   *layout
	cache    *cache
	took     bool // the sole owner took everything in this batch
	// after is done once the batch is durable.
	after []func()
	// signal says that something was written that a waiting reader may look for.
	signal bool
	// broken is a failure of the storage that leaves the transaction unfit to be committed.
	broken error
}

func (w *writer) begin() (*batch, error) {
	if err := w.mend(); err != nil {
		return nil, err
	}
	if err := w.session.exec("BEGIN IMMEDIATE"); err != nil {
		return nil, err
	}
	return &batch{w: w, s: w.session, changes: newChanges(), head: w.head, lastWork: w.lastWork, owners: w.owners, layout: w.layout, cache: w.cache}, nil
}

// commit writes what the decisions changed and makes it durable. Only then does the writer believe it.
func (b *batch) commit() error {
	if b.broken != nil {
		return b.broken
	}
	if err := b.flush(); err != nil {
		return err
	}
	b.w.fault("before-commit")
	if err := b.s.exec("COMMIT"); err != nil {
		return err
	}
	b.w.head, b.w.lastWork, b.w.owners = b.head, b.lastWork, b.owners
	b.cache.update(b.rows)
	for _, fn := range b.after {
		fn()
	}
	return nil
}

func (b *batch) flush() error {
	b.signal = b.signal || len(b.entries)+len(b.rows)+len(b.work) > 0
	for i := range b.entries {
		if err := b.insertEntry(&b.entries[i]); err != nil {
			return err
		}
	}
	for key, u := range b.unique {
		// A key that is there already is behind its horizon.
		err := b.s.exec("INSERT INTO unique_keys (key, seq, time, until) VALUES (?, ?, ?, ?)"+
			" ON CONFLICT (key) DO UPDATE SET seq = excluded.seq, time = excluded.time, until = excluded.until", key, u.seq, u.time, u.until)
		if err != nil {
			return err
		}
	}
	for k, c := range b.rows {
		if err := b.writeRow(k, c); err != nil {
			return err
		}
	}
	return b.flushWork()
}

// perItem is about what an entry or a row costs in the log beside its body, in bytes.
const perItem = 1 << 10

// size is about how much the batch adds to the log, in bytes.
func (b *batch) size() int {
	n := perItem * (len(b.entries) + len(b.rows) + len(b.work))
	for i := range b.entries {
		n += len(b.entries[i].entry.Body)
	}
	for _, c := range b.rows {
		n += len(c.row.Body)
	}
	return n
}

func (b *batch) insertEntry(p *pending) error {
	e := &p.entry
	var body, content []byte
	where := placeNone
	switch {
	case e.Body == nil:
	case len(e.Body) > b.w.inline:
		where = placeContents
		sum := sha256.Sum256(e.Body)
		content = sum[:]
		if err := b.s.exec("INSERT INTO contents (digest, body) VALUES (?, ?) ON CONFLICT DO NOTHING", content, []byte(e.Body)); err != nil {
			return err
		}
	default:
		where, body = placeInline, e.Body
		if packed := b.w.pack(e.Body); packed != nil {
			where, body = placePacked, packed
		}
	}
	err := b.s.exec("INSERT INTO entries (seq, time, actor, kind, subject, cause, place, digest, hash, body, tag, salt, content) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		e.Seq, e.Time.UnixMicro(), e.Actor, e.Kind, e.Subject, e.Cause, where, p.digest[:], e.Hash[:], body, ledger.TagSalted, p.salt, content)
	return err
}

// writeRow brings one row up to date, touching only the indexes that the change concerns. A row that is not in memory is most
// likely new.
func (b *batch) writeRow(k rowKey, c change) error {
	if _, known := b.cache.get(k); !known && !c.gone {
		inserted, err := b.insertRow(&c)
		if err != nil || inserted {
			return err
		}
	}
	old, exists, err := b.committed(k)
	if err != nil {
		return err
	}
	r := &c.row
	switch {
	case c.gone && !exists:
		return nil
	case c.gone:
		if err := b.s.exec("DELETE FROM projected WHERE kind = ? AND key = ?", b.layout.kind(k.table), k.key); err != nil {
			return err
		}
		return b.deleteLabels(&old.row)
	case !exists:
		_, err := b.insertRow(&c)
		return err
	}
	sameTime := old.row.Time.Equal(r.Time)
	switch {
	case sameTime && old.row.Owner == r.Owner && old.row.State == r.State && old.labels == c.labels:
		err = b.s.exec("UPDATE projected SET seq = ?, body = ? WHERE kind = ? AND key = ?", r.Seq, []byte(r.Body), b.layout.kind(r.Table), r.Key)
		return err
	case sameTime && old.row.Owner == r.Owner && old.labels == c.labels:
		err = b.s.exec("UPDATE projected SET state = ?, seq = ?, body = ? WHERE kind = ? AND key = ?", r.State, r.Seq, []byte(r.Body), b.layout.kind(r.Table), r.Key)
		return err
	}
	err = b.s.exec("UPDATE projected SET owner = ?, state = ?, time = ?, seq = ?, labels = ?, body = ? WHERE kind = ? AND key = ?",
		r.Owner, r.State, r.Time.UnixMicro(), r.Seq, c.labels, []byte(r.Body), b.layout.kind(r.Table), r.Key)
	if err != nil || (sameTime && old.labels == c.labels) {
		return err
	}
	if err := b.deleteLabels(&old.row); err != nil {
		return err
	}
	return b.insertLabels(r)
}

// insertRow inserts a row with its labels, unless it is there.
func (b *batch) insertRow(c *change) (bool, error) {
	r := &c.row
	n, err := b.s.affect("INSERT INTO projected (kind, key, owner, state, time, seq, labels, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
		b.layout.kind(r.Table), r.Key, r.Owner, r.State, r.Time.UnixMicro(), r.Seq, c.labels, []byte(r.Body))
	if err != nil || n == 0 {
		return false, err
	}
	return true, b.insertLabels(r)
}

// insertLabels inserts all labels of a row by one statement, in the order of their index.
func (b *batch) insertLabels(r *ledger.Row) error {
	if len(r.Labels) == 0 {
		return nil
	}
	args := make([]any, 0, 5*len(r.Labels))
	for _, name := range slices.Sorted(maps.Keys(r.Labels)) {
		args = append(args, b.layout.kind(r.Table), name, r.Labels[name], r.Time.UnixMicro(), r.Key)
	}
	return b.s.exec("INSERT INTO projected_labels (kind, name, value, time, key) VALUES (?, ?, ?, ?, ?)"+
		strings.Repeat(", (?, ?, ?, ?, ?)", len(r.Labels)-1), args...)
}

func (b *batch) deleteLabels(r *ledger.Row) error {
	for name, value := range r.Labels {
		err := b.s.exec("DELETE FROM projected_labels WHERE kind = ? AND name = ? AND value = ? AND time = ? AND key = ?",
			b.layout.kind(r.Table), name, value, r.Time.UnixMicro(), r.Key)
		if err != nil {
			return err
		}
	}
	return nil
}

// encodeLabels gives labels as they are stored: JSON with sorted names, empty where there are none.
func encodeLabels(labels map[string]string) (string, error) {
	if len(labels) == 0 {
		return "", nil
	}
	text, err := json.Marshal(labels)
	return string(text), err
}

func decodeLabels(text string) (labels map[string]string, err error) {
	if text != "" {
		err = json.Unmarshal([]byte(text), &labels)
	}
	return labels, err
}

func fromMicros(t int64) time.Time { return time.UnixMicro(t).UTC() }

// committed is a row as the database has it, from memory where possible.
func (b *batch) committed(k rowKey) (stored change, exists bool, err error) {
	if c, ok := b.cache.get(k); ok {
		return c, !c.gone, nil
	}
	row, labels, err := readRow(context.Background(), b.s, b.layout, k)
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		stored = change{gone: true}
	case err != nil:
		return change{}, false, err
	default:
		stored = change{row: row, labels: labels}
	}
	b.cache.put(k, stored)
	return stored, !stored.gone, nil
}
