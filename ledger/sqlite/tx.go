package sqlite

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/tiphys/tiphys/ledger"
)

// maxBody bounds the body of one entry, row or work item, in bytes. What is larger is an artifact or a log.
const maxBody = 64 << 20

var errTxOver = errors.New("used after its write has ended")

// Write implements [ledger.Ledger].
func (l *Ledger) Write(ctx context.Context, about ledger.Scope, fn func(ledger.Tx) error) error {
	return l.write(ctx, l.own, about, fn)
}

func (l *Ledger) write(ctx context.Context, own *holder, about ledger.Scope, fn func(ledger.Tx) error) error {
	return l.writer.submit(ctx, &intent{run: func(b *batch) error { return b.decide(own, about, fn) }})
}

// decide runs one decision and keeps what it did if it succeeds.
func (b *batch) decide(own *holder, about ledger.Scope, fn func(ledger.Tx) error) error {
	if about.Subject() == "" {
		return errors.New("write ledger: the decision does not say what it is about")
	}
	if err := b.admit(own, about); err != nil {
		return fmt.Errorf("write ledger: %w", b.w.ledger.explain(err))
	}
	t := &tx{b: b, about: about, own: own, now: b.w.time(b.head.time), refs: &ledger.Pending{}, changes: newChanges()}
	defer func() { t.over = true }()
	for _, g := range about.Guards() {
		if err := t.expect(g.Subject, g.Expect); err != nil {
			return fmt.Errorf("write ledger: %w", b.w.ledger.explain(err))
		}
	}
	if err := b.w.run(func() error { return fn(t) }); err != nil {
		return err
	}
	if t.failed != nil {
		return fmt.Errorf("write ledger: %w", b.w.ledger.explain(t.failed))
	}
	return b.accept(t)
}

// run runs what others wrote: a decision with its projections. [writer.outside] knows it by its name.
//
//go:noinline
func (w *writer) run(fn func() error) error {
	w.trespassed = false
	w.deciding.Store(true)
	defer w.deciding.Store(false)
	err := protect(fn)
	if w.trespassed {
		return fmt.Errorf("write ledger: %w", errors.Join(ledger.ErrWithinWrite, err))
	}
	return err
}

// accept gives the decision's entries their place behind all others, and takes its changes over.
func (b *batch) accept(t *tx) error {
	first := b.head.seq + 1
	for i := range t.entries {
		p := &t.entries[i]
		p.entry.Seq = first + int64(i)
		if n := t.refs.Index(p.cause); n > 0 {
			p.entry.Cause = first + int64(n) - 1
		} else {
			p.entry.Cause = p.cause.Seq()
		}
		p.entry.Hash = ledger.ChainHash(ledger.TagSalted, b.head.hash, p.entry, p.digest)
		b.head = place{seq: p.entry.Seq, time: p.entry.Time, hash: p.entry.Hash}
	}
	for k, c := range t.rows {
		if err := c.settle(first); err != nil {
			return fmt.Errorf("write ledger: row %s %s: %w", k.table, k.key, err)
		}
		t.rows[k] = c
	}
	for k, u := range t.unique {
		u.seq = first + int64(u.n) - 1
		t.unique[k] = u
	}
	for i := range t.work {
		w := &t.work[i]
		if n := t.refs.Index(w.work.Cause); n > 0 {
			w.work.Cause = ledger.At(first + int64(n) - 1)
		}
	}
	if len(t.entries) > 0 {
		b.after = append(b.after, func() { t.refs.Settle(first) })
	}
	b.add(&t.changes)
	return nil
}

// tx is one decision in the making. It sees the database, the decisions before it in the batch, and itself.
type tx struct {
	b     *batch
	about ledger.Scope
	own   *holder
	now   time.Time
	refs  *ledger.Pending
	named []ledger.Ref // of the entries
	changes
	// failed is an error that no return value of fn can undo.
	failed error
	over   bool
}

var _ ledger.Tx = (*tx)(nil)

func (t *tx) usable() error {
	if t.over {
		return errTxOver
	}
	return t.failed
}

func (t *tx) Now() time.Time { return t.now }

func (t *tx) Append(d ledger.Draft) (ledger.Ref, error) {
	if err := t.usable(); err != nil {
		return ledger.Ref{}, fmt.Errorf("append entry: %w", err)
	}
	e, err := t.compose(d)
	if err != nil {
		return ledger.Ref{}, fmt.Errorf("append entry: %w", err)
	}
	if err := t.expect(d.Subject, d.Expect); err != nil {
		return ledger.Ref{}, fmt.Errorf("append %s of %s: %w", d.Kind, d.Subject, err)
	}
	if err := t.claimKeys(d); err != nil {
		return ledger.Ref{}, fmt.Errorf("append %s of %s: %w", d.Kind, d.Subject, err)
	}
	p := pending{entry: e, cause: d.Cause}
	if len(e.Body) > 0 {
		p.salt = t.b.w.salt()
	}
	p.digest = ledger.BodyDigest(ledger.TagSalted, p.salt, e.Body)
	t.entries = append(t.entries, p)
	ref := t.refs.Next()
	t.named = append(t.named, ref)
	for _, p := range t.b.w.wanting(e.Kind) {
		if err := p.apply(e, t); err != nil {
			t.failed = fmt.Errorf("project %s of %s: %w", e.Kind, e.Subject, err)
			return ledger.Ref{}, t.failed
		}
	}
	t.entries[len(t.entries)-1].entry.Value = nil // the projections have seen it
	t.b.w.fault("append")
	t.b.w.faultOf("append", e.Kind)
	return ref, nil
}

// compose makes an entry of a draft, or says what is wrong with the draft. Sequence, cause and hash come at the end.
func (t *tx) compose(d ledger.Draft) (ledger.Entry, error) {
	if d.Actor == "" || d.Kind == "" || d.Subject == "" {
		return ledger.Entry{}, fmt.Errorf("actor %q, kind %q and subject %q must all be given", d.Actor, d.Kind, d.Subject)
	}
	if !ledger.MayAppend(t.about.Subject(), d.Subject) {
		t.failed = &ledger.CrossingError{About: t.about.Subject(), Subject: d.Subject}
		return ledger.Entry{}, t.failed
	}
	e := ledger.Entry{Time: t.now, Actor: d.Actor, Kind: d.Kind, Subject: d.Subject}
	if !t.known(d.Cause) {
		return ledger.Entry{}, fmt.Errorf("cause %d of %s is not an earlier entry", d.Cause.Seq(), d.Kind)
	}
	var err error
	if e.Body, e.Value, err = encodeBody(d.Body); err != nil {
		return ledger.Entry{}, fmt.Errorf("body of %s: %w", d.Kind, err)
	}
	return e, nil
}

// known says that a reference is none, or an entry that this decision can know of.
func (t *tx) known(r ledger.Ref) bool {
	if r.IsZero() || t.refs.Index(r) > 0 {
		return true
	}
	seq := r.Seq()
	return seq > 0 && seq <= t.b.head.seq
}

// expect compares the last entry of a subject with what it is expected to be.
func (t *tx) expect(subject string, e ledger.Expect) error {
	if !e.Given() {
		return nil
	}
	for i := len(t.entries) - 1; i >= 0; i-- {
		if t.entries[i].entry.Subject == subject {
			if t.named[i].Equal(e.Ref()) {
				return nil
			}
			return &ledger.ConflictError{Subject: subject, Expected: e.Ref().Seq()}
		}
	}
	last, err := t.b.lastOf(subject)
	if err != nil {
		t.failed = err
		return err
	}
	if want := e.Ref().Seq(); last != want || want == 0 && !e.Ref().IsZero() {
		return &ledger.ConflictError{Subject: subject, Expected: want, Last: last}
	}
	return nil
}

// lastOf is the last entry of a subject as the decisions before in the batch have left it; 0 if it has none.
func (b *batch) lastOf(subject string) (int64, error) {
	for i := len(b.entries) - 1; i >= 0; i-- {
		if b.entries[i].entry.Subject == subject {
			return b.entries[i].entry.Seq, nil
		}
	}
	last, _, err := b.s.integer("SELECT coalesce(max(seq), 0) FROM entries WHERE subject = ?", subject)
	return last, err
}

func encodeBody(v any) (body json.RawMessage, value any, err error) {
	switch v := v.(type) {
	case nil:
		return nil, nil, nil
	case json.RawMessage:
		if len(v) == 0 {
			return nil, nil, nil
		}
		if !json.Valid(v) {
			return nil, nil, errors.New("not JSON")
		}
		body = bytes.Clone(v)
	case ledger.Encoded:
		body, value = v.JSON(), v.Value()
	default:
		encoded, err := ledger.Encode(v)
		if err != nil {
			return nil, nil, err
		}
		body, value = encoded.JSON(), v
	}
	return body, value, checkSize(body)
}

func checkSize(body []byte) error {
	if len(body) > maxBody {
		return fmt.Errorf("%d bytes are more than the %d that the ledger takes; keep it as an artifact", len(body), maxBody)
	}
	return nil
}

// claimKeys takes the unique keys for the entry that is being appended, unless another entry has one of them.
func (t *tx) claimKeys(d ledger.Draft) error {
	var keys []string
	for _, key := range append([]string{d.Unique}, d.Also...) {
		if key != "" {
			keys = append(keys, key)
		}
	}
	for _, key := range keys {
		if err := t.unused(key); err != nil {
			return err
		}
	}
	u := keyUse{n: len(t.entries) + 1, time: t.now.UnixMicro()}
	if d.Horizon > 0 {
		u.until = t.now.Add(d.Horizon).UnixMicro()
	}
	for _, key := range keys {
		t.unique[key] = u
	}
	return nil
}

// unused is an [ledger.ExistsError] if an entry has a unique key.
func (t *tx) unused(key string) error {
	if u, ok := t.unique[key]; ok {
		return &ledger.ExistsError{Key: key, Entry: t.named[u.n-1]}
	}
	holder, ok := t.b.unique[key]
	if !ok {
		var err error
		if holder.seq, ok, err = t.b.s.integer("SELECT seq FROM unique_keys WHERE key = ? AND (until = 0 OR until > ?)", key, t.now.UnixMicro()); err != nil {
			t.failed = err
			return err
		}
	}
	if ok {
		return &ledger.ExistsError{Key: key, Entry: ledger.At(holder.seq)}
	}
	return nil
}

// lookup finds a row as this decision sees it.
func (t *tx) lookup(k rowKey) (change, error) {
	if c, ok := t.rows[k]; ok {
		return c, nil
	}
	if c, ok := t.b.rows[k]; ok {
		return c, nil
	}
	c, _, err := t.b.committed(k)
	if err != nil {
		t.failed = err
	}
	return c, err
}

func (t *tx) Get(table, key string) (ledger.Row, error) {
	if err := t.usable(); err != nil {
		return ledger.Row{}, fmt.Errorf("read %s %s: %w", table, key, err)
	}
	c, err := t.lookup(rowKey{table, key})
	if err == nil && c.gone {
		err = ledger.ErrNotFound
	}
	if err != nil {
		return ledger.Row{}, fmt.Errorf("read %s %s: %w", table, key, err)
	}
	row := cloneRow(c.row)
	row.Stamp = ledger.Stamp{}
	return row, nil
}

// cloneRow keeps callers from changing what the writer remembers.
func cloneRow(r ledger.Row) ledger.Row {
	r.Labels = maps.Clone(r.Labels)
	r.Body = bytes.Clone(r.Body)
	return r
}

func (t *tx) Put(r ledger.Row) error {
	if err := t.usable(); err != nil {
		return fmt.Errorf("put %s %s: %w", r.Table, r.Key, err)
	}
	if r.Table == "" || r.Key == "" {
		return fmt.Errorf("put row: table %q and key %q must both be given", r.Table, r.Key)
	}
	if err := checkSize(r.Body); err != nil {
		return fmt.Errorf("put %s %s: %w", r.Table, r.Key, err)
	}
	labels, err := encodeLabels(r.Labels)
	if err != nil {
		return fmt.Errorf("put %s %s: %w", r.Table, r.Key, err)
	}
	r = cloneRow(r)
	if len(r.Labels) == 0 {
		r.Labels = nil
	}
	if len(r.Body) == 0 {
		r.Body = nil
	}
	r.Time = r.Time.UTC().Truncate(time.Microsecond)
	c := change{row: r, labels: labels, n: len(t.entries)}
	c.row.Seq = 0
	if c.n == 0 {
		c.row.Seq = t.b.head.seq
	}
	if err := t.stamp(&c); err != nil {
		return fmt.Errorf("put %s %s: %w", r.Table, r.Key, err)
	}
	t.rows[rowKey{r.Table, r.Key}] = c
	return nil
}

// stamp notes, or does at once, what the row's Stamp asks for.
func (t *tx) stamp(c *change) (err error) {
	s := c.row.Stamp
	switch {
	case s.Field == "":
		before := t.rows[rowKey{c.row.Table, c.row.Key}]
		c.row.Stamp, c.stamped = before.row.Stamp, before.stamped
	case s.Of.IsZero() && len(t.entries) == 0:
		return errors.New("there is no entry whose sequence it could be stamped with")
	case s.Of.IsZero():
		c.stamped = len(t.entries)
	case t.refs.Index(s.Of) > 0:
		c.stamped = t.refs.Index(s.Of)
	default:
		c.row.Stamp = ledger.Stamp{}
		c.row.Body, err = s.Write(c.row.Body, s.Of.Seq())
	}
	return err
}

func (t *tx) Delete(table, key string) error {
	if err := t.usable(); err != nil {
		return fmt.Errorf("delete %s %s: %w", table, key, err)
	}
	t.rows[rowKey{table, key}] = change{gone: true}
	return nil
}

func (t *tx) List(q ledger.Query) ([]ledger.Row, error) {
	if err := t.usable(); err != nil {
		return nil, fmt.Errorf("list %s: %w", q.Table, err)
	}
	rows, err := listOver(context.Background(), t.b.s, t.b.layout, q, t.b.rows, t.rows)
	if err != nil {
		t.failed = err
		return nil, fmt.Errorf("list %s: %w", q.Table, err)
	}
	return rows, nil
}

func (t *tx) Enqueue(w ledger.Work) error {
	if err := t.usable(); err != nil {
		return fmt.Errorf("enqueue %s %s: %w", w.Queue, w.Key, err)
	}
	if w.Queue == "" || w.Key == "" {
		return fmt.Errorf("enqueue: queue %q and key %q must both be given", w.Queue, w.Key)
	}
	if err := checkSize(w.Body); err != nil {
		return fmt.Errorf("enqueue %s %s: %w", w.Queue, w.Key, err)
	}
	if w.Due.IsZero() {
		w.Due = t.now
	}
	if w.Subject == "" {
		w.Subject = t.about.Subject()
	}
	if !t.known(w.Cause) {
		return fmt.Errorf("enqueue %s %s: cause %d is not an earlier entry", w.Queue, w.Key, w.Cause.Seq())
	}
	w.Body = bytes.Clone(w.Body)
	t.work = append(t.work, workOp{work: w, partition: ledger.Partition(w.Subject), owner: t.own.name})
	return nil
}

func (t *tx) Cancel(queue, key string) error {
	if err := t.usable(); err != nil {
		return fmt.Errorf("cancel %s %s: %w", queue, key, err)
	}
	t.work = append(t.work, workOp{work: ledger.Work{Queue: queue, Key: key}, partition: ledger.Partition(t.about.Subject()), cancel: true})
	return nil
}
