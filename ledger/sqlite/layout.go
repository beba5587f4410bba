package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// layout says where the rows of each table are. It is never changed; a switch puts another in its place.
type layout struct {
	kinds map[string]string // by table; a table that is missing has the kind of its name
}

func (y *layout) kind(table string) string {
	if k, ok := y.kinds[table]; ok {
		return k
	}
	return table
}

// with is the layout after some tables moved.
func (y *layout) with(moved map[string]string) *layout {
	next := &layout{kinds: make(map[string]string, len(y.kinds)+len(moved))}
	for table, kind := range y.kinds {
		next.kinds[table] = kind
	}
	for table, kind := range moved {
		next.kinds[table] = kind
	}
	return next
}

// group is the projections that share tables, directly or by others, and so are rebuilt together.
type group struct {
	tables  []string // sorted
	version string
	members []deriver
}

// groups divides the projections.
func groups(list []deriver) []group {
	var out []group
	for _, p := range list {
		joined := group{members: []deriver{p}, tables: p.Tables()}
		out = slices.DeleteFunc(out, func(g group) bool {
			if !slices.ContainsFunc(g.tables, func(t string) bool { return slices.Contains(joined.tables, t) }) {
				return false
			}
			joined.members = append(slices.Clone(g.members), joined.members...)
			joined.tables = append(slices.Clone(g.tables), joined.tables...)
			return true
		})
		out = append(out, joined)
	}
	for i := range out {
		g := &out[i]
		slices.Sort(g.tables)
		g.tables = slices.Compact(g.tables)
		var versions []string
		for _, p := range g.members {
			versions = append(versions, strconv.Itoa(p.Version()))
		}
		g.version = strings.Join(g.tables, ",") + ":" + strings.Join(versions, ",")
	}
	return out
}

// tablePlace is a table as the database records it.
type tablePlace struct{ kind, version string }

func readTables(s *session) (map[string]tablePlace, error) {
	found := map[string]tablePlace{}
	err := each(context.Background(), s, "SELECT name, kind, version FROM tables", nil, func(r *sql.Rows) error {
		var name string
		var p tablePlace
		err := r.Scan(&name, &p.kind, &p.version)
		found[name] = p
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read where the tables are: %w", err)
	}
	return found, nil
}

// survey reads where the tables are, and finds the groups whose rows other versions of the projections derived. In an empty ledger no
// rows are to be derived anew.
func (w *writer) survey() (stale []group, err error) {
	found, err := readTables(w.session)
	if err != nil {
		return nil, err
	}
	for _, g := range groups(w.ledger.projections) {
		if slices.ContainsFunc(g.tables, func(t string) bool { return found[t].version != g.version }) {
			stale = append(stale, g)
		}
	}
	if w.head.seq > 0 || len(stale) == 0 {
		return stale, nil
	}
	b, err := w.begin()
	if err != nil {
		return nil, err
	}
	for _, g := range stale {
		for _, t := range g.tables {
			if err := b.recordTable(t, w.layout.kind(t), g.version); err != nil {
				return nil, err
			}
		}
	}
	return nil, b.commit()
}

func (b *batch) recordTable(name, kind, version string) error {
	return b.s.exec("INSERT INTO tables (name, kind, version) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, version = excluded.version", name, kind, version)
}

// steady reads with the present layout, and again if it changed meanwhile: the rows of the old one may have been on their way out.
func steady[T any](l *Ledger, read func(y *layout) (T, error)) (T, error) {
	for {
		y := l.layout.Load()
		got, err := read(y)
		if l.layout.Load() == y {
			return got, err
		}
	}
}
