package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/tiphys/tiphys/ledger"
)

const (
	// rebuildChunk is how many entries, and dropChunk how many rows, one transaction of a rebuild takes; decisions go between two of them.
	rebuildChunk = 256
	dropChunk    = 500
	// forced is the version of rows that are derived anew because somebody asked for it.
	forced = "forced"
)

// rebuild is the work of deriving the rows of some tables anew beside the old ones.
type rebuild struct {
	groups []group
	kinds  map[string]string // by table, where the new rows are
	after  int64
	cache  *cache
	drop   []string // more kinds that go with the switch
}

// Rebuild implements [ledger.Ledger]. The old rows, and what of the log may still hold them, are overwritten.
func (l *Ledger) Rebuild(ctx context.Context) error {
	l.rebuilding.Lock()
	defer l.rebuilding.Unlock()
	err := l.rederive(ctx, groups(l.projections), true)
	if err != nil {
		return fmt.Errorf("rebuild projections: %w", l.explain(err))
	}
	return nil
}

// rebuildStale derives the rows of other versions anew, and takes away what an earlier process left. It is what runs beside the server.
func (l *Ledger) rebuildStale(ctx context.Context, stale []group) {
	l.rebuilding.Lock()
	defer l.rebuilding.Unlock()
	var err error
	if len(stale) > 0 {
		err = l.rederive(ctx, stale, false)
	} else {
		err = l.dropKinds(ctx, false)
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, ledger.ErrClosed) {
		err = fmt.Errorf("derive rows anew for changed projections (the old rows go on to be served): %w", l.explain(err))
		l.trouble.Store(&err)
	}
}

// Trouble is why the rows could not be derived anew in the background; nil if they could, or are being.
func (l *Ledger) Trouble() error {
	if err := l.trouble.Load(); err != nil {
		return *err
	}
	return nil
}

func (l *Ledger) rederive(ctx context.Context, list []group, whole bool) error {
	r, err := l.startRebuild(ctx, list, whole)
	if err != nil {
		return err
	}
	for done := false; !done; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if done, err = l.rebuildSome(ctx, r, whole); err != nil {
			return err
		}
	}
	return l.dropKinds(ctx, whole)
}

// startRebuild finds the place to go on from, or makes room for new rows.
func (l *Ledger) startRebuild(ctx context.Context, list []group, whole bool) (*rebuild, error) {
	r := &rebuild{groups: list, kinds: map[string]string{}, cache: newCache()}
	err := l.exclusively(ctx, false, func(b *batch) error {
		found, err := b.readRebuilds()
		if err != nil {
			return err
		}
		if !whole && r.resume(found) {
			return nil
		}
		for _, f := range found { // of another version, or given up
			if err := b.s.exec("INSERT INTO drops (kind) VALUES (?) ON CONFLICT DO NOTHING", f.kind); err != nil {
				return err
			}
		}
		if err := b.s.exec("DELETE FROM rebuilds"); err != nil {
			return err
		}
		if whole {
			if r.drop, err = b.strangers(list); err != nil {
				return err
			}
		}
		return b.prepare(r, whole)
	})
	return r, err
}

type rebuildRow struct {
	name, kind, version string
	after               int64
}

func (b *batch) readRebuilds() (found []rebuildRow, err error) {
	err = each(context.Background(), b.s, "SELECT name, kind, version, after FROM rebuilds", nil, func(r *sql.Rows) error {
		var f rebuildRow
		err := r.Scan(&f.name, &f.kind, &f.version, &f.after)
		found = append(found, f)
		return err
	})
	return found, err
}

// resume takes up what an earlier process began, if it is exactly this.
func (r *rebuild) resume(found []rebuildRow) bool {
	want := map[string]string{}
	for _, g := range r.groups {
		for _, t := range g.tables {
			want[t] = g.version
		}
	}
	if len(found) != len(want) {
		return false
	}
	for _, f := range found {
		if want[f.name] != f.version || f.after != found[0].after {
			return false
		}
		r.kinds[f.name] = f.kind
	}
	r.after = found[0].after
	return true
}

// prepare gives each table a kind that was never used, from which it is derived from the start.
func (b *batch) prepare(r *rebuild, whole bool) error {
	return b.newKinds(r, func(g group, table string) error {
		version := g.version
		if whole {
			version = forced
		}
		return b.s.exec("INSERT INTO rebuilds (name, kind, version, after) VALUES (?, ?, ?, 0)", table, r.kinds[table], version)
	})
}

// newKinds gives each table a kind that was never used, and has it noted.
func (b *batch) newKinds(r *rebuild, note func(g group, table string) error) error {
	if err := b.s.exec("INSERT INTO counters (name, value) VALUES ('rebuild', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1"); err != nil {
		return err
	}
	number, _, err := b.s.integer("SELECT value FROM counters WHERE name = 'rebuild'")
	if err != nil {
		return err
	}
	for _, g := range r.groups {
		for _, t := range g.tables {
			r.kinds[t] = fmt.Sprintf("%s@%d", t, number)
			if err := note(g, t); err != nil {
				return err
			}
		}
	}
	return nil
}

// strangers are kinds of rows that no projection of the list derives.
func (b *batch) strangers(list []group) (kinds []string, err error) {
	known := map[string]bool{}
	for _, g := range list {
		for _, t := range g.tables {
			known[b.layout.kind(t)] = true
		}
	}
	all, err := b.kinds()
	for _, kind := range all {
		if !known[kind] {
			kinds = append(kinds, kind)
		}
	}
	return kinds, err
}

// rebuildSome applies the projections to some more entries. When what is left fits one transaction, that one makes the new rows
// those that are read.
func (l *Ledger) rebuildSome(ctx context.Context, r *rebuild, whole bool) (done bool, err error) {
	list, err := readEntries(ctx, l.reads, ledger.EntryQuery{After: r.after}, rebuildChunk)
	if err != nil {
		return false, err
	}
	err = l.exclusively(ctx, whole, func(b *batch) error {
		last := r.after
		if len(list) > 0 {
			last = list[len(list)-1].Seq
		}
		done = last == b.head.seq
		now, live := b.layout, b.cache
		b.layout, b.cache = now.with(r.kinds), r.cache
		defer func() { b.layout, b.cache = now, live }()
		if err := b.replay(r, list); err != nil {
			return err
		}
		r.after = last
		if !done {
			return b.s.exec("UPDATE rebuilds SET after = ?", r.after)
		}
		return b.change(r, now)
	})
	if err != nil {
		done = false
	}
	return done, err
}

// replay applies the projections to entries that are in the ledger already, and writes the rows.
func (b *batch) replay(r *rebuild, list []ledger.Entry) error {
	for _, e := range list {
		if err := b.reapply(r, e); err != nil {
			return fmt.Errorf("project entry %d (%s of %s): %w", e.Seq, e.Kind, e.Subject, err)
		}
	}
	for k, c := range b.rows {
		if err := b.writeRow(k, c); err != nil {
			return err
		}
	}
	// Within this transaction what was just written is what the database has; if it fails, the whole rebuild does.
	b.cache.update(b.rows)
	clear(b.rows)
	return nil
}

// reapply applies the projections to one entry that is in the ledger already, as if it were just being appended.
func (b *batch) reapply(r *rebuild, e ledger.Entry) error {
	seq := e.Seq
	e.Seq, e.Cause, e.Hash = 0, 0, ledger.Hash{}
	t := &tx{b: b, now: e.Time, refs: &ledger.Pending{}, changes: newChanges()}
	t.entries, t.named = []pending{{entry: e}}, []ledger.Ref{t.refs.Next()}
	for i := range r.groups {
		for j := range r.groups[i].members {
			p := &r.groups[i].members[j]
			if !p.Wants(e.Kind) {
				continue
			}
			err := b.w.run(func() error { return p.apply(e, t) })
			if err = errors.Join(err, t.failed); err != nil {
				return err
			}
		}
	}
	for k, c := range t.rows {
		if err := c.settle(seq); err != nil {
			return err
		}
		b.rows[k] = c
	}
	return nil
}

// change makes the new rows those that are read, once the transaction is durable.
func (b *batch) change(r *rebuild, now *layout) error {
	for _, g := range r.groups {
		for _, t := range g.tables {
			if err := b.s.exec("INSERT INTO drops (kind) VALUES (?) ON CONFLICT DO NOTHING", now.kind(t)); err != nil {
				return err
			}
			if err := b.recordTable(t, r.kinds[t], g.version); err != nil {
				return err
			}
		}
	}
	for _, kind := range r.drop {
		if err := b.s.exec("INSERT INTO drops (kind) VALUES (?) ON CONFLICT DO NOTHING", kind); err != nil {
			return err
		}
	}
	next := now.with(r.kinds)
	b.after = append(b.after, func() {
		b.w.layout = next
		b.w.ledger.layout.Store(next)
		b.w.cache.clear()
		b.w.signal = true
	})
	return b.s.exec("DELETE FROM rebuilds")
}

// dropKinds deletes rows that nobody reads any more, a few at a time.
func (l *Ledger) dropKinds(ctx context.Context, whole bool) error {
	for {
		kinds, err := l.readDrops(ctx)
		if err != nil || len(kinds) == 0 {
			return err
		}
		for _, kind := range kinds {
			for left := true; left; {
				if err := l.exclusively(ctx, whole, func(b *batch) (err error) { left, err = b.dropSome(kind); return err }); err != nil {
					return err
				}
			}
		}
	}
}

func (l *Ledger) readDrops(ctx context.Context) (kinds []string, err error) {
	err = each(ctx, l.reads, "SELECT kind FROM drops", nil, func(r *sql.Rows) error {
		var kind string
		err := r.Scan(&kind)
		kinds = append(kinds, kind)
		return err
	})
	return kinds, err
}

// dropSome deletes some rows of a kind, and the kind when there are none left.
func (b *batch) dropSome(kind string) (left bool, err error) {
	rows, err := b.s.affect(fmt.Sprintf("DELETE FROM projected WHERE rowid IN (SELECT rowid FROM projected WHERE kind = ? LIMIT %d)", dropChunk), kind)
	if err != nil {
		return false, err
	}
	labels, err := b.s.affect(fmt.Sprintf("DELETE FROM projected_labels WHERE (kind, name, value, time, key) IN"+
		" (SELECT kind, name, value, time, key FROM projected_labels WHERE kind = ? LIMIT %d)", dropChunk), kind)
	if err != nil || rows+labels > 0 {
		return true, err
	}
	return false, b.s.exec("DELETE FROM drops WHERE kind = ?", kind)
}

// exclusively runs a transaction of its own between two batches of decisions; overwrite has what is deleted overwritten with zeros.
func (l *Ledger) exclusively(ctx context.Context, overwrite bool, fn func(*batch) error) error {
	return l.writer.submit(ctx, &intent{quiet: true, alone: func(*session) error {
		if overwrite {
			return l.writer.overwriting(fn)
		}
		b, err := l.writer.begin()
		if err != nil {
			return err
		}
		if err := fn(b); err != nil {
			return err
		}
		return b.commit()
	}})
}
