package access

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/tiphys/tiphys/ledger"
)

// View is a ledger as the identity in the context may see it: rows and entries about objects that it may not get are not
// there. Lists and streams that read it need not ask about each of their items. Writing, and what concerns the whole record
// (its head, its verification), is not changed by it: that is asked before.
type View struct {
	ledger.Ledger
	policy Policy
}

// NewView returns a view of a ledger by a policy. A context without an identity sees nothing.
func NewView(l ledger.Ledger, policy Policy) *View { return &View{Ledger: l, policy: policy} }

// viewPage is how much is read where a query does not say: as much as a ledger gives then.
const viewPage = 1000

// Row implements [ledger.Reader].
func (v *View) Row(ctx context.Context, table, key string) (ledger.Row, error) {
	row, err := v.Ledger.Row(ctx, table, key)
	if err == nil && !v.sees(ctx)(ofRow(row)) {
		return ledger.Row{}, fmt.Errorf("%s %s: %w", table, key, ledger.ErrNotFound)
	}
	return row, err
}

// List implements [ledger.Reader]. A page is as long as was asked for, if there is that much to see.
func (v *View) List(ctx context.Context, q ledger.Query) ([]ledger.Row, error) {
	if q.Limit <= 0 {
		q.Limit = viewPage
	}
	sees := v.sees(ctx)
	var seen []ledger.Row
	for {
		rows, err := v.Ledger.List(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			if sees(ofRow(row)) {
				seen = append(seen, row)
			}
			if len(seen) == q.Limit {
				return seen, nil
			}
		}
		if len(rows) < q.Limit {
			return seen, nil
		}
		if last := rows[len(rows)-1]; q.ChangedAfter > 0 {
			q.ChangedAfter = last.Seq
		} else {
			q.After = &ledger.Cursor{Time: last.Time, Key: last.Key}
		}
	}
}

// Entry implements [ledger.Reader].
func (v *View) Entry(ctx context.Context, seq int64) (ledger.Entry, error) {
	e, err := v.Ledger.Entry(ctx, seq)
	if err == nil && !v.sees(ctx)(ofSubject(e.Subject)) {
		return ledger.Entry{}, fmt.Errorf("entry %d: %w", seq, ledger.ErrNotFound)
	}
	return e, err
}

// Entries implements [ledger.Reader]. A page is as long as was asked for, if there is that much to see.
func (v *View) Entries(ctx context.Context, q ledger.EntryQuery) ([]ledger.Entry, error) {
	if q.Limit <= 0 {
		q.Limit = viewPage
	}
	sees := v.sees(ctx)
	var seen []ledger.Entry
	for {
		entries, err := v.Ledger.Entries(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if sees(ofSubject(e.Subject)) {
				seen = append(seen, e)
			}
			if len(seen) == q.Limit {
				return seen, nil
			}
		}
		if len(entries) < q.Limit {
			return seen, nil
		}
		if last := entries[len(entries)-1].Seq; q.Newest {
			q.Before = last
		} else {
			q.After = last
		}
	}
}

// thing is what a row or an entry is about.
type thing struct{ kind, namespace, name string }

// sees tells which things the identity in a context may get.
func (v *View) sees(ctx context.Context) func(thing) bool {
	id := From(ctx)
	if v.policy.everything(id.role()) {
		return func(thing) bool { return true }
	}
	return func(t thing) bool { return v.policy.Can(id, Get, t.kind, t.namespace, t.name) == nil }
}

// everything says whether a role may get all there is, so that nothing need be asked of each thing.
func (p Policy) everything(role Role) bool {
	all := false
	for _, r := range p.rules {
		if r.Role != role || role == "" || !glob(r.Action, string(Get)) {
			continue
		}
		if r.Deny {
			return false
		}
		all = all || r.Resource == "*" && (r.Object == "*" || r.Object == "*/*")
	}
	return all
}

// ofRow is what a row is about: tables name their rows by namespace and name, or have the name of a run or an Application as
// their owner. What is of no namespace is the ledger's.
func ofRow(row ledger.Row) thing {
	switch row.Table {
	case "run":
		return named(Run, row.Key)
	case "node", "attempt":
		return named(Run, row.Owner)
	case "application":
		return named("Application", row.Key)
	case "applicationset":
		return named("ApplicationSet", row.Key)
	case "deployment", "object":
		return named("Application", row.Owner)
	case "release":
		return named(Release, row.Owner)
	case "cron":
		return named("CronWorkflow", row.Key)
	case "post":
		return named("Forge", row.Owner)
	case "definition":
		kind, rest, _ := strings.Cut(row.Key, "/")
		return named(kind, rest)
	}
	return thing{Ledger, "", row.Key}
}

// ofSubject is what an entry is about.
func ofSubject(subject string) thing {
	kind, rest, _ := strings.Cut(subject, "/")
	switch kind {
	case "run":
		return named(Run, rest)
	case "application":
		return named("Application", rest)
	case "release":
		return named(Release, rest)
	case "event":
		return named(Event, rest)
	case "firing":
		return named(Firing, rest)
	case "cron":
		return named("CronWorkflow", rest)
	case "post": // the forge's name is the escaped first part
		first, _, _ := strings.Cut(rest, "/")
		if name, err := url.QueryUnescape(first); err == nil {
			return named("Forge", name)
		}
	case "definition":
		kind, rest, _ := strings.Cut(rest, "/")
		return named(kind, rest)
	}
	return thing{Ledger, "", subject}
}

func named(kind, key string) thing {
	namespace, name, _ := strings.Cut(key, "/")
	return thing{kind, namespace, name}
}
