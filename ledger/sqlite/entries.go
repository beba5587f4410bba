package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/tiphys/tiphys/ledger"
)

// defaultEntries is the page that a query without a limit gets.
const defaultEntries = 1000

const (
	entryColumns = "e.seq, e.time, e.actor, e.kind, e.subject, e.cause, e.place, e.hash, "
	entrySource  = "entries e%s"
	bodyColumn   = "coalesce(e.body, c.body)"
	bodySource   = " LEFT JOIN contents c ON e.place = 2 AND c.digest = e.content"
	noBody       = "NULL"
)

// Entry implements [ledger.Reader].
func (l *Ledger) Entry(ctx context.Context, seq int64) (ledger.Entry, error) {
	found, err := readEntries(ctx, l.reads, ledger.EntryQuery{After: seq - 1, Before: seq + 1}, 1)
	if err == nil && len(found) == 0 {
		err = ledger.ErrNotFound
	}
	if err != nil {
		return ledger.Entry{}, fmt.Errorf("read entry %d: %w", seq, l.explain(err))
	}
	return found[0], nil
}

// Head implements [ledger.Reader].
func (l *Ledger) Head(ctx context.Context) (ledger.Entry, error) {
	found, err := readEntries(ctx, l.reads, ledger.EntryQuery{Newest: true}, 1)
	if err != nil {
		return ledger.Entry{}, fmt.Errorf("read the end of the ledger: %w", l.explain(err))
	}
	if len(found) == 0 {
		return ledger.Entry{}, nil
	}
	return found[0], nil
}

// Entries implements [ledger.Reader].
func (l *Ledger) Entries(ctx context.Context, q ledger.EntryQuery) ([]ledger.Entry, error) {
	found, err := readEntries(ctx, l.reads, q, limitOr(q.Limit, defaultEntries))
	if err != nil {
		return nil, fmt.Errorf("read entries: %w", l.explain(err))
	}
	return found, nil
}

func readEntries(ctx context.Context, from queryer, q ledger.EntryQuery, limit int) ([]ledger.Entry, error) {
	if !q.Until.IsZero() {
		end, err := firstAfter(ctx, from, q.Until)
		if err != nil {
			return nil, err
		}
		if q.Before == 0 || end < q.Before {
			q.Before = end
		}
	}
	index, err := entryIndex(ctx, from, q)
	if err != nil {
		return nil, err
	}
	text, args := entriesSQL(q, index, limit)
	var found []ledger.Entry
	err = each(ctx, from, text, args, func(r *sql.Rows) error {
		e, err := scanEntry(r)
		found = append(found, e)
		return err
	})
	return found[:min(limit, len(found))], err
}

func scanEntry(r *sql.Rows) (e ledger.Entry, err error) {
	var micros int64
	var where int
	var hash sql.RawBytes
	var body []byte
	if err = r.Scan(&e.Seq, &micros, &e.Actor, &e.Kind, &e.Subject, &e.Cause, &where, &hash, &body); err != nil {
		return e, err
	}
	e.Time = fromMicros(micros)
	copy(e.Hash[:], hash)
	e.Pruned = where == placeErased
	if where == placePacked && len(body) > 0 {
		if body, err = unpack(body); err != nil {
			return e, fmt.Errorf("entry %d: %w", e.Seq, err)
		}
	}
	if len(body) > 0 {
		e.Body = body
	}
	return e, nil
}

// firstAfter is the sequence of the first entry later than t. Time never runs backwards along the sequence,
// so it is found by halving; an index on time would cost every append.
func firstAfter(ctx context.Context, from queryer, t time.Time) (int64, error) {
	first, last := int64(1), int64(0)
	err := each(ctx, from, "SELECT coalesce(max(seq), 0) FROM entries", nil, func(r *sql.Rows) error { return r.Scan(&last) })
	for err == nil && first <= last {
		middle := first + (last-first)/2
		var micros int64
		err = each(ctx, from, "SELECT time FROM entries WHERE seq >= ? ORDER BY seq LIMIT 1", []any{middle}, func(r *sql.Rows) error { return r.Scan(&micros) })
		if micros <= t.UnixMicro() {
			first = middle + 1
		} else {
			last = middle - 1
		}
	}
	return first, err
}

// entryIndex picks the index to walk: each gives the order of sequence for one value of its column.
func entryIndex(ctx context.Context, from queryer, q ledger.EntryQuery) (string, error) {
	switch {
	case q.Subject != "":
		return " INDEXED BY entries_subject", nil
	case q.Cause != 0:
		return " INDEXED BY entries_cause", nil
	case q.SubjectPrefix != "":
		where, args := prefixSQL("e.subject", q.SubjectPrefix)
		n, err := count(ctx, from, access{source: "entries e INDEXED BY entries_subject", where: []string{where}, args: [][]any{args}}, probePrefix)
		if err != nil || n < probePrefix {
			return " INDEXED BY entries_subject", err
		}
	}
	if len(q.Kinds) > 0 {
		return " INDEXED BY entries_kind", nil
	}
	return " NOT INDEXED", nil // in order of sequence
}

func entriesSQL(q ledger.EntryQuery, index string, limit int) (string, []any) {
	filter, filterArgs := entryFilterSQL(q)
	direction := "ASC"
	if q.Newest {
		direction = "DESC"
	}
	kinds := slices.Compact(slices.Sorted(slices.Values(q.Kinds)))
	body, source := bodyColumn, entrySource+bodySource
	if q.Bare {
		body, source = noBody, entrySource
	}
	one := fmt.Sprintf("SELECT * FROM (SELECT "+entryColumns+body+" FROM "+source+" WHERE %%s%s ORDER BY e.seq %s%s)", index, filter, direction, limitSQL(limit))
	if len(kinds) == 0 || !strings.HasSuffix(index, "entries_kind") {
		where, args := "TRUE", []any(nil)
		if len(kinds) > 0 {
			where = "e.kind IN (?" + strings.Repeat(", ?", len(kinds)-1) + ")"
			for _, kind := range kinds {
				args = append(args, kind)
			}
		}
		return fmt.Sprintf(one, where), append(args, filterArgs...)
	}
	// One walk for each kind, merged: a single walk would have to sort all entries of these kinds.
	var parts []string
	var args []any
	for _, kind := range kinds {
		parts = append(parts, fmt.Sprintf(one, "e.kind = ?"))
		args = append(append(args, kind), filterArgs...)
	}
	return strings.Join(parts, " UNION ALL ") + " ORDER BY seq " + direction + limitSQL(limit), args
}

func entryFilterSQL(q ledger.EntryQuery) (string, []any) {
	before := q.Before
	if before <= 0 && q.Until.IsZero() {
		before = math.MaxInt64
	}
	text, args := " AND e.seq > ? AND e.seq < ?", []any{q.After, before}
	if q.Subject != "" {
		text, args = text+" AND e.subject = ?", append(args, q.Subject)
	}
	if q.SubjectPrefix != "" {
		where, prefixArgs := prefixSQL("e.subject", q.SubjectPrefix)
		text, args = text+" AND "+where, append(args, prefixArgs...)
	}
	if q.Cause != 0 {
		text, args = text+" AND e.cause = ? AND e.cause > 0", append(args, q.Cause)
	}
	return text, args
}
