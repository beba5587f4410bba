// Package stepclaims says what the steps of a run may act for, makes their tokens, and tells whether these still count. It reads the
// record, never what a manifest says of itself.
package stepclaims

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/tiphys/tiphys/access/claims"
	"github.com/tiphys/tiphys/access/grant"
	"github.com/tiphys/tiphys/access/steptoken"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
)

// Forges finds the forge that an event came from.
type Forges interface {
	// Instance gives a forge by its name.
	Instance(ctx context.Context, name string) (forge.Instance, error)
	// Sent finds a forge by its type and by the instance that an event names.
	Sent(ctx context.Context, kind, instance string) (forge.Instance, error)
}

// Reader reads claims of the record.
type Reader struct {
	Ledger ledger.Reader
	Forges Forges
	// Names are those of repositories in grants; required by [Reader.Settle].
	Names grant.Names
}

// Of gives what a run may act for, as its submission recorded it. Labels and names say nothing: whoever writes a manifest writes them, too.
func (r Reader) Of(ctx context.Context, run workflow.Run) (steptoken.Claims, error) {
	c := steptoken.Claims{Run: run.Namespace + "/" + run.Name, UID: run.UID}
	a, err := r.actsFor(ctx, run)
	if err != nil {
		return c, fmt.Errorf("read what run %s was made for: %w", c.Run, err)
	}
	c.Forge, c.Repo, c.Ref, c.Commit, c.MR, c.Protected, c.Nobody = a.Forge, a.Repo, a.Ref, a.Commit, a.MR, a.Protected, a.Nobody
	return c, nil
}

// actsFor is what is recorded with a run, or what follows from its events where an older server recorded nothing.
func (r Reader) actsFor(ctx context.Context, run workflow.Run) (claims.ActsFor, error) {
	if run.ActsFor != nil {
		return *run.ActsFor, nil
	}
	events, err := eventsOf(ctx, r.Ledger, run.Namespace+"/"+run.Name)
	if err != nil {
		return claims.ActsFor{}, err
	}
	rec, err := r.Settle(ctx, claims.Made{Event: run.Event, Events: events})
	return rec.ActsFor(), err
}

// forgeOf names the instance that an event's repository is of. What is not declared, or not proved, gets a name that no instance has.
func (r Reader) forgeOf(ctx context.Context, g *event.Git, nobody bool) string {
	if nobody {
		return "of nobody, for the event was not proved to come from " + g.Forge
	}
	in, err := r.Forges.Sent(ctx, g.Forge, g.Instance)
	if err != nil || in.Local { // the built-in remote makes its events itself
		return forge.Undeclared(g.Forge, g.Instance)
	}
	return in.Name
}

// eventsOf gives the events that a condition put together for a run.
func eventsOf(ctx context.Context, l ledger.Reader, run string) ([]int64, error) {
	made, err := l.Entries(ctx, ledger.EntryQuery{Subject: "run/" + run, Kinds: []string{workflow.KindSubmitted}, Newest: true, Limit: 1, Bare: true})
	if err != nil || len(made) == 0 {
		return nil, err
	}
	// Between the firing and the run may stand attempts that failed.
	fired := ledger.Entry{Cause: made[0].Cause}
	for fired.Kind != event.KindFired {
		if fired.Cause == 0 {
			return nil, nil // nobody fired it
		}
		if fired, err = l.Entry(ctx, fired.Cause); err != nil {
			return nil, err
		}
	}
	firing, err := ledger.Read[event.Fired](fired)
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Values(firing.Events)), nil
}
