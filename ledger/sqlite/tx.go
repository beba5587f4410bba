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
func (l *Ledger) Write(ctx context.Context, fn func(ledger.Tx) error) error {
	return l.writer.submit(ctx, &intent{run: func(b *batch) error { return b.decide(fn) }})
}

// decide runs one decision and keeps what it did if it succeeds.
func (b *batch) decide(fn func(ledger.Tx) error) error {
	t := &tx{b: b, now: b.w.time(b.head.time), head: b.head, changes: newChanges()}
	defer func() { t.over = true }()
	if err := protect(func() error { return fn(t) }); err != nil {
		return err
	}
	if t.failed != nil {
		return fmt.Errorf("write ledger: %w", b.w.ledger.explain(t.failed))
	}
	b.head = t.head
	b.add(&t.changes)
	return nil
}

// tx is one decision in the making. It sees the database, the decisions before it in the batch, and itself.
type tx struct {
	b   *batch
	now time.Time
	changes
	head place
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

func (t *tx) Append(d ledger.Draft) (ledger.Entry, error) {
	if err := t.usable(); err != nil {
		return ledger.Entry{}, fmt.Errorf("append entry: %w", err)
	}
	e, err := t.compose(d)
	if err != nil {
		return ledger.Entry{}, fmt.Errorf("append entry: %w", err)
	}
	if d.Unique != "" {
		if err := t.claimKey(d.Unique, e.Seq); err != nil {
			return ledger.Entry{}, fmt.Errorf("append %s of %s: %w", d.Kind, d.Subject, err)
		}
	}
	digest := ledger.BodyDigest(e.Body)
	e.Hash = ledger.ChainHash(t.head.hash, e, digest)
	t.head = place{seq: e.Seq, time: e.Time, hash: e.Hash}
	t.entries = append(t.entries, pending{entry: e, digest: digest})
	for _, p := range t.b.w.wanting(e.Kind) {
		if err := p.Apply(e, t); err != nil {
			t.failed = fmt.Errorf("project entry %d (%s of %s): %w", e.Seq, e.Kind, e.Subject, err)
			return ledger.Entry{}, t.failed
		}
	}
	t.b.w.fault("append")
	t.b.w.faultOf("append", e.Kind)
	e.Value = nil // the projections have seen it
	return e, nil
}

// compose makes an entry of a draft, or says what is wrong with the draft.
func (t *tx) compose(d ledger.Draft) (ledger.Entry, error) {
	if d.Actor == "" || d.Kind == "" || d.Subject == "" {
		return ledger.Entry{}, fmt.Errorf("actor %q, kind %q and subject %q must all be given", d.Actor, d.Kind, d.Subject)
	}
	e := ledger.Entry{Seq: t.head.seq + 1, Time: t.now, Actor: d.Actor, Kind: d.Kind, Subject: d.Subject, Cause: d.Cause}
	if d.Cause < 0 || d.Cause >= e.Seq {
		return ledger.Entry{}, fmt.Errorf("cause %d of %s is not an earlier entry", d.Cause, d.Kind)
	}
	var err error
	if e.Body, e.Value, err = encodeBody(d.Body); err != nil {
		return ledger.Entry{}, fmt.Errorf("body of %s: %w", d.Kind, err)
	}
	return e, nil
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

// claimKey takes a unique key for the entry, unless another entry has it.
func (t *tx) claimKey(key string, seq int64) error {
	holder, ok := t.unique[key]
	if !ok {
		holder, ok = t.b.unique[key]
	}
	if !ok {
		var err error
		if holder, ok, err = t.b.s.integer("SELECT seq FROM unique_keys WHERE key = ?", key); err != nil {
			t.failed = err
			return err
		}
	}
	if ok {
		return &ledger.ExistsError{Key: key, Seq: holder}
	}
	t.unique[key] = seq
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
	c, _, err := t.b.w.committed(k)
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
	return cloneRow(c.row), nil
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
	r.Seq = t.head.seq
	t.rows[rowKey{r.Table, r.Key}] = change{row: r, labels: labels}
	return nil
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
	rows, err := listOver(context.Background(), t.b.s, q, t.b.rows, t.rows)
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
	w.Body = bytes.Clone(w.Body)
	t.work = append(t.work, workOp{work: w})
	return nil
}

func (t *tx) Cancel(queue, key string) error {
	if err := t.usable(); err != nil {
		return fmt.Errorf("cancel %s %s: %w", queue, key, err)
	}
	t.work = append(t.work, workOp{work: ledger.Work{Queue: queue, Key: key}, cancel: true})
	return nil
}
