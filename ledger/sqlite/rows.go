package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/tiphys/tiphys/ledger"
)

// defaultRows is the page that a query without a limit gets.
const defaultRows = 100

// Bounds of the probes that choose an index. A filter with fewer matches than its bound is read whole and
// sorted; with more, walking in order of time meets a page of matches soon enough.
const (
	probeRows   = 2000
	probePrefix = 20_000
)

const rowColumns = "p.kind, p.key, p.owner, p.state, p.time, p.seq, p.labels, p.body"

// Row implements [ledger.Reader].
func (l *Ledger) Row(ctx context.Context, table, key string) (ledger.Row, error) {
	row, err := steady(l, func(y *layout) (ledger.Row, error) {
		row, _, err := readRow(ctx, l.reads, y, rowKey{table, key})
		return row, err
	})
	if err != nil {
		return ledger.Row{}, fmt.Errorf("read %s %s: %w", table, key, l.explain(err))
	}
	return row, nil
}

// List implements [ledger.Reader].
func (l *Ledger) List(ctx context.Context, q ledger.Query) ([]ledger.Row, error) {
	rows, err := steady(l, func(y *layout) ([]ledger.Row, error) {
		return list(ctx, l.reads, y, q, limitOr(q.Limit, defaultRows))
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", q.Table, l.explain(err))
	}
	return rows, nil
}

func limitOr(limit, usual int) int {
	if limit <= 0 {
		return usual
	}
	return limit
}

// limitSQL limits a query to n rows or a few more; the caller drops those. The number stands in the text: SQLite looks at a LIMIT
// that is a parameter when it plans, and would plan anew for every value that is bound. Rounding keeps the texts few.
func limitSQL(n int) string {
	round := 1
	for round < n && round < 1<<40 {
		round *= 2
	}
	return " LIMIT " + strconv.Itoa(round)
}

func readRow(ctx context.Context, from queryer, y *layout, k rowKey) (row ledger.Row, labels string, err error) {
	err = each(ctx, from, "SELECT "+rowColumns+" FROM projected p WHERE p.kind = ? AND p.key = ?", []any{y.kind(k.table), k.key}, func(r *sql.Rows) error {
		row, labels, err = scanRow(r)
		row.Table = k.table
		return err
	})
	if err == nil && row.Key == "" {
		err = ledger.ErrNotFound
	}
	return row, labels, err
}

func scanRow(r *sql.Rows) (row ledger.Row, labels string, err error) {
	var micros int64
	var body []byte
	if err = r.Scan(&row.Table, &row.Key, &row.Owner, &row.State, &micros, &row.Seq, &labels, &body); err != nil {
		return row, "", err
	}
	row.Time = fromMicros(micros)
	if len(body) > 0 {
		row.Body = body
	}
	row.Labels, err = decodeLabels(labels)
	return row, labels, err
}

// each runs a query and calls fn on every row.
func each(ctx context.Context, from queryer, text string, args []any, fn func(*sql.Rows) error) error {
	rows, err := from.query(ctx, text, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// listOver lists the committed rows as the given changes, later ones over earlier ones, would make them.
func listOver(ctx context.Context, from queryer, y *layout, q ledger.Query, layers ...map[rowKey]change) ([]ledger.Row, error) {
	over := map[string]change{}
	for _, layer := range layers {
		for k, c := range layer {
			if k.table == q.Table {
				over[k.key] = c
			}
		}
	}
	limit := limitOr(q.Limit, defaultRows)
	rows, err := list(ctx, from, y, q, limit+len(over))
	if err != nil || len(over) == 0 {
		return rows, err
	}
	rows = slices.DeleteFunc(rows, func(r ledger.Row) bool {
		_, changed := over[r.Key]
		return changed
	})
	for _, c := range over {
		if !c.gone && matches(q, c.row) {
			row := cloneRow(c.row)
			row.Stamp = ledger.Stamp{}
			rows = append(rows, row)
		}
	}
	slices.SortFunc(rows, func(a, b ledger.Row) int { return order(q, a, b) })
	return rows[:min(limit, len(rows))], nil
}

// order compares two rows by their place in the list.
func order(q ledger.Query, a, b ledger.Row) int {
	if q.ChangedAfter > 0 {
		return cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Key, b.Key))
	}
	c := cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Key, b.Key))
	if !q.Oldest {
		return -c
	}
	return c
}

// matches says whether a row belongs to the list; it must agree with the SQL of [list].
func matches(q ledger.Query, r ledger.Row) bool {
	if q.ChangedAfter > 0 && r.Seq <= q.ChangedAfter {
		return false
	}
	if q.After != nil && order(q, r, ledger.Row{Time: fromMicros(q.After.Time.UnixMicro()), Key: q.After.Key, Seq: q.After.Seq}) <= 0 {
		return false
	}
	for name, value := range q.Labels {
		if v, ok := r.Labels[name]; !ok || v != value {
			return false
		}
	}
	return r.Table == q.Table &&
		(q.Owner == "" || r.Owner == q.Owner) &&
		(len(q.States) == 0 || slices.Contains(q.States, r.State)) &&
		strings.HasPrefix(r.Key, q.KeyPrefix)
}

// list reads a page. SQLite's planner knows nothing of how common a state or a label is, so the index is
// chosen here, by counting a little.
func list(ctx context.Context, from queryer, y *layout, q ledger.Query, limit int) ([]ledger.Row, error) {
	table := q.Table
	q.Table = y.kind(table)
	best, err := bySeq(q), error(nil)
	if q.ChangedAfter <= 0 {
		best, err = choose(ctx, from, q)
	}
	if err != nil {
		return nil, err
	}
	text, args := pageSQL(q, best, limit)
	var rows []ledger.Row
	err = each(ctx, from, text, args, func(r *sql.Rows) error {
		row, _, err := scanRow(r)
		row.Table = table
		rows = append(rows, row)
		return err
	})
	return rows[:min(limit, len(rows))], err
}

// access is one way to reach the rows of a query.
type access struct {
	// source is the FROM clause, with p for the rows; probe counts the matches.
	source string
	probe  string
	// where restricts to the matches, with these arguments; the alternatives are joined by UNION ALL.
	where []string
	args  [][]any
	// bound is how many matches make the access worthwhile; 0 means any number.
	bound int
}

func byTime(q ledger.Query) access {
	return access{source: "projected p INDEXED BY projected_time", where: []string{"p.kind = ?"}, args: [][]any{{q.Table}}}
}

// bySeq is for feeds: what changed lately is little.
func bySeq(q ledger.Query) access {
	return access{source: "projected p INDEXED BY projected_seq", where: []string{"p.kind = ? AND p.seq > ?"}, args: [][]any{{q.Table, q.ChangedAfter}}}
}

// candidates are the ways that the query's filters open, the most promising first.
func candidates(q ledger.Query) []access {
	var found []access
	for _, name := range slices.Sorted(maps.Keys(q.Labels)) {
		found = append(found, access{
			source: "projected_labels l CROSS JOIN projected p INDEXED BY projected_key ON p.kind = l.kind AND p.key = l.key",
			probe:  "projected_labels l",
			where:  []string{"l.kind = ? AND l.name = ? AND l.value = ?"},
			args:   [][]any{{q.Table, name, q.Labels[name]}},
		})
	}
	if q.Owner != "" {
		found = append(found, access{
			source: "projected p INDEXED BY projected_owner",
			where:  []string{"p.kind = ? AND p.owner = ? AND p.owner <> ''"},
			args:   [][]any{{q.Table, q.Owner}},
		})
	}
	if len(q.States) > 0 && !slices.Contains(q.States, "") {
		a := access{source: "projected p INDEXED BY projected_state"}
		for _, state := range slices.Compact(slices.Sorted(slices.Values(q.States))) {
			a.where = append(a.where, "p.kind = ? AND p.state = ? AND p.state <> ''")
			a.args = append(a.args, []any{q.Table, state})
		}
		found = append(found, a)
	}
	if q.KeyPrefix != "" {
		where, args := prefixSQL("p.key", q.KeyPrefix)
		found = append(found, access{
			source: "projected p INDEXED BY projected_key",
			where:  []string{"p.kind = ? AND " + where},
			args:   [][]any{append([]any{q.Table}, args...)},
			bound:  probePrefix,
		})
	}
	return found
}

// choose picks the way with the fewest rows to look at.
func choose(ctx context.Context, from queryer, q ledger.Query) (access, error) {
	found := candidates(q)
	if len(found) == 0 {
		return byTime(q), nil
	}
	if len(found) == 1 && found[0].bound == 0 {
		return found[0], nil
	}
	best, fewest := byTime(q), 0
	for i, a := range found {
		bound := cmp.Or(a.bound, probeRows)
		n, err := count(ctx, from, a, bound)
		if err != nil {
			return access{}, err
		}
		// Among ways that reach their bound the first one that is in order of time stands.
		if n < bound && (fewest == 0 || n < fewest-1) || i == 0 && a.bound == 0 {
			best, fewest = a, n+1
		}
	}
	return best, nil
}

func count(ctx context.Context, from queryer, a access, bound int) (n int, err error) {
	for i := range a.where {
		source := cmp.Or(a.probe, a.source)
		text := "SELECT count(*) FROM (SELECT 1 FROM " + source + " WHERE " + a.where[i] + limitSQL(bound-n) + ")"
		err := each(ctx, from, text, a.args[i], func(r *sql.Rows) error {
			var some int
			err := r.Scan(&some)
			n += some
			return err
		})
		if err != nil || n >= bound {
			return n, err
		}
	}
	return n, nil
}

// pageSQL is the query for a page by the given access. Labels repeat their row's time and key, so that their table gives the order.
func pageSQL(q ledger.Query, a access, limit int) (string, []any) {
	in := "p"
	if a.probe != "" {
		in = "l"
	}
	filter, filterArgs := filterSQL(q, in)
	direction := "DESC"
	if q.Oldest {
		direction = "ASC"
	}
	first := "time"
	if q.ChangedAfter > 0 {
		first, direction = "seq", "ASC"
	}
	var text strings.Builder
	var args []any
	for i := range a.where {
		if i > 0 {
			text.WriteString(" UNION ALL ")
		}
		fmt.Fprintf(&text, "SELECT * FROM (SELECT %s FROM %s WHERE %s%s ORDER BY %s.%s %s, %s.key %s%s)",
			rowColumns, a.source, a.where[i], filter, in, first, direction, in, direction, limitSQL(limit))
		args = append(append(args, a.args[i]...), filterArgs...)
	}
	if len(a.where) > 1 {
		fmt.Fprintf(&text, " ORDER BY time %s, key %s%s", direction, direction, limitSQL(limit))
	}
	return text.String(), args
}

// filterSQL is all of the query's restrictions; one that the access fulfils already costs nothing.
func filterSQL(q ledger.Query, in string) (string, []any) {
	var text strings.Builder
	var args []any
	switch {
	case q.After != nil && q.ChangedAfter > 0:
		fmt.Fprintf(&text, " AND (%s.seq, %s.key) > (?, ?)", in, in)
		args = append(args, q.After.Seq, q.After.Key)
	case q.After != nil:
		sign := "<"
		if q.Oldest {
			sign = ">"
		}
		fmt.Fprintf(&text, " AND (%s.time, %s.key) %s (?, ?)", in, in, sign)
		args = append(args, q.After.Time.UnixMicro(), q.After.Key)
	}
	if q.KeyPrefix != "" {
		where, prefixArgs := prefixSQL(in+".key", q.KeyPrefix)
		text.WriteString(" AND " + where)
		args = append(args, prefixArgs...)
	}
	if q.Owner != "" {
		text.WriteString(" AND p.owner = ?")
		args = append(args, q.Owner)
	}
	if len(q.States) > 0 {
		text.WriteString(" AND p.state IN (?" + strings.Repeat(", ?", len(q.States)-1) + ")")
		for _, state := range q.States {
			args = append(args, state)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(q.Labels)) {
		text.WriteString(" AND EXISTS (SELECT 1 FROM projected_labels x WHERE x.kind = p.kind AND x.name = ? AND x.value = ? AND x.time = p.time AND x.key = p.key)")
		args = append(args, name, q.Labels[name])
	}
	return text.String(), args
}

// prefixSQL restricts a column to values that start with prefix, as a range, so that an index serves it.
func prefixSQL(column, prefix string) (string, []any) {
	end := []byte(prefix)
	for len(end) > 0 && end[len(end)-1] == 0xff {
		end = end[:len(end)-1]
	}
	if len(end) == 0 {
		return column + " >= ?", []any{prefix}
	}
	end[len(end)-1]++
	return fmt.Sprintf("(%s >= ? AND %s < ?)", column, column), []any{prefix, string(end)}
}
