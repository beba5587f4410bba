package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/tiphys/tiphys/ledger"
)

// outbox is the ledger's [ledger.Outbox].
type outbox struct {
	l *Ledger
	h *holder
}

// Outbox implements [ledger.Ledger].
func (l *Ledger) Outbox() ledger.Outbox { return outbox{l, l.own} }

// Leases implements [ledger.Ledger].
func (l *Ledger) Leases() ledger.Leases { return leases{l, l.own} }

// flushWork writes the outbox changes of the decisions so far, in their order.
func (b *batch) flushWork() error {
	if len(b.work) == 0 {
		return nil
	}
	for i := range b.work {
		w := &b.work[i].work
		var err error
		if b.work[i].cancel {
			err = b.s.exec("DELETE FROM outbox WHERE queue = ? AND key = ? AND partition IN (-1, ?)", w.Queue, w.Key, b.work[i].partition)
		} else {
			// An item that replaces another gets an id of its own: who still holds the old one cannot settle the new one.
			b.lastWork++
			due := w.Due.UnixMicro()
			ready, claimed, owner := due, 0, ""
			if w.Lease > 0 {
				ready, claimed, owner = w.Due.Add(w.Lease).UnixMicro(), 1, b.work[i].owner
			}
			err = b.s.exec("INSERT INTO outbox (id, queue, key, due, ready, claimed, attempt, cause, body, subject, partition, owner) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"+
				" ON CONFLICT (queue, key) DO UPDATE SET id = excluded.id, due = excluded.due, ready = excluded.ready, claimed = excluded.claimed, attempt = excluded.attempt, cause = excluded.cause, body = excluded.body,"+
				" subject = excluded.subject, partition = excluded.partition, owner = excluded.owner",
				b.lastWork, w.Queue, w.Key, due, ready, claimed, claimed, w.Cause.Seq(), []byte(w.Body), w.Subject, b.work[i].partition, owner)
		}
		if err != nil {
			return err
		}
	}
	b.work = b.work[:0]
	err := b.s.exec("UPDATE counters SET value = ? WHERE name = 'work'", b.lastWork)
	return err
}

// settle runs one statement on the outbox. What decisions of the same batch did before comes first.
func (o outbox) settle(ctx context.Context, signal bool, text string, args ...any) error {
	return o.l.writer.submit(ctx, &intent{run: func(b *batch) error {
		b.signal = b.signal || signal || len(b.work) > 0
		err := b.flushWork()
		if err == nil {
			err = b.s.exec(text, args...)
		}
		if err != nil {
			b.broken = err
		}
		return err
	}})
}

func (o outbox) Done(ctx context.Context, id int64) error {
	if err := o.settle(ctx, false, "DELETE FROM outbox WHERE id = ? AND (claimed = 0 OR owner = ?)", id, o.h.name); err != nil {
		return fmt.Errorf("settle work %d: %w", id, o.l.explain(err))
	}
	return nil
}

func (o outbox) Retry(ctx context.Context, id int64, due time.Time) error {
	if err := o.settle(ctx, true, "UPDATE outbox SET due = ?, ready = ?, claimed = 0 WHERE id = ? AND (claimed = 0 OR owner = ?)", due.UnixMicro(), due.UnixMicro(), id, o.h.name); err != nil {
		return fmt.Errorf("give back work %d: %w", id, o.l.explain(err))
	}
	return nil
}

func (o outbox) Release(ctx context.Context, owner string) error {
	if err := o.settle(ctx, true, "UPDATE outbox SET ready = due, claimed = 0 WHERE claimed = 1 AND owner = ?", owner); err != nil {
		return fmt.Errorf("give back work claimed by %s: %w", owner, o.l.explain(err))
	}
	return nil
}

func (o outbox) Next(ctx context.Context, queue string) (time.Time, error) {
	next, err := o.next(ctx, queue)
	if err != nil {
		return time.Time{}, fmt.Errorf("read queue %s: %w", queue, o.l.explain(err))
	}
	return next, nil
}

// List implements [ledger.Outbox].
func (o outbox) List(ctx context.Context, queue string, after int64, n int) ([]ledger.Work, error) {
	var list []ledger.Work
	err := each(ctx, o.l.reads, "SELECT id, queue, key, due, attempt, cause, body, subject FROM outbox WHERE queue = ? AND id > ? ORDER BY id LIMIT ?",
		[]any{queue, after, n}, func(r *sql.Rows) error {
			w, err := scanWork(r)
			list = append(list, w)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("list queue %s: %w", queue, o.l.explain(err))
	}
	return list, nil
}

// scanWork reads a row of id, queue, key, due, attempt, cause, body and subject.
func scanWork(r *sql.Rows) (ledger.Work, error) {
	var w ledger.Work
	var due, cause int64
	var body []byte
	if err := r.Scan(&w.ID, &w.Queue, &w.Key, &due, &w.Attempt, &cause, &body, &w.Subject); err != nil {
		return w, err
	}
	w.Cause, w.Due = ledger.At(cause), fromMicros(due)
	if len(body) > 0 {
		w.Body = body
	}
	return w, nil
}

// mine restricts a query to what this owner may claim; empty where that is everything.
func (o outbox) mine() string {
	if o.h.sole {
		return ""
	}
	o.h.mu.Lock()
	defer o.h.mu.Unlock()
	mine := &ownership{}
	for p, number := range o.h.held {
		if number != 0 {
			mine.fences[p].owner = o.h.name
		}
	}
	return mine.mine(o.h.name)
}

func (o outbox) next(ctx context.Context, queue string) (next time.Time, err error) {
	err = each(ctx, o.l.reads, "SELECT ready FROM outbox WHERE queue = ?"+o.mine()+" ORDER BY ready LIMIT 1", []any{queue}, func(r *sql.Rows) error {
		var micros int64
		err := r.Scan(&micros)
		next = fromMicros(micros)
		return err
	})
	return next, err
}

func (o outbox) Claim(ctx context.Context, queue string, n int, lease time.Duration) ([]ledger.Work, error) {
	if n <= 0 {
		return nil, nil
	}
	// Most claims find nothing: they must not cost a flush.
	next, err := o.next(ctx, queue)
	if err == nil && (next.IsZero() || next.After(o.l.writer.now())) {
		return nil, nil
	}
	var taken []ledger.Work
	if err == nil {
		err = o.l.writer.submit(ctx, &intent{run: func(b *batch) (err error) {
			taken, err = b.claim(o.h, queue, n, lease)
			if err != nil {
				b.broken = err
			}
			return err
		}})
	}
	if err != nil {
		return nil, fmt.Errorf("claim from queue %s: %w", queue, o.l.explain(err))
	}
	if len(taken) > 0 {
		o.l.writer.fault("outbox-claimed")
	}
	return taken, nil
}

func (b *batch) claim(h *holder, queue string, n int, lease time.Duration) ([]ledger.Work, error) {
	b.signal = b.signal || len(b.work) > 0
	if err := b.flushWork(); err != nil {
		return nil, err
	}
	if err := b.takeAll(h); err != nil {
		return nil, err
	}
	now := b.w.time(b.head.time)
	rows, err := b.s.query(context.Background(), "UPDATE outbox SET claimed = 1, attempt = attempt + 1, ready = ?, owner = ?"+
		" WHERE id IN (SELECT id FROM outbox WHERE queue = ? AND ready <= ?"+b.owners.mine(h.name)+" ORDER BY ready, id LIMIT "+strconv.Itoa(n)+")"+
		" RETURNING id, queue, key, due, attempt, cause, body, subject",
		now.Add(lease).UnixMicro(), h.name, queue, now.UnixMicro())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var taken []ledger.Work
	for rows.Next() {
		w, err := scanWork(rows)
		if err != nil {
			return nil, err
		}
		taken = append(taken, w)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	// RETURNING gives no order.
	slices.SortFunc(taken, func(x, y ledger.Work) int { return cmp.Or(x.Due.Compare(y.Due), cmp.Compare(x.ID, y.ID)) })
	b.w.fault("outbox-claim")
	return taken, nil
}
