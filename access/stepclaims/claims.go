// Package stepclaims says what the steps of a run may act for, makes their tokens, and tells whether these still count. It reads the
// record, never what a manifest says of itself.
package stepclaims

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

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
func (r Reader) actsFor(ctx context.Context, run workflow.Run) (workflow.ActsFor, error) {
	if run.ActsFor != nil {
		return *run.ActsFor, nil
	}
	events, err := eventsOf(ctx, r.Ledger, run.Namespace+"/"+run.Name)
	if err != nil {
		return workflow.ActsFor{}, err
	}
	return r.Submitted(ctx, run.Event, events)
}

// Submitted implements runs.Claims. A run acts for what its event was about, and has no more rights than the least of the events that a
// condition put together. One that no event made, a person's or a schedule's, acts for no repository.
func (r Reader) Submitted(ctx context.Context, seq int64, events []int64) (workflow.ActsFor, error) {
	var a workflow.ActsFor
	if seq == 0 {
		return a, nil
	}
	a, err := r.ofEvent(ctx, seq)
	if err != nil {
		return a, err
	}
	if a.MR == 0 && a.Repo != "" && !a.Nobody {
		if a.Protected, err = r.protected(ctx, a); err != nil {
			return a, err
		}
	}
	for _, other := range events {
		if other == seq {
			continue
		}
		b, err := r.ofEvent(ctx, other)
		if err != nil {
			return a, err
		}
		a.Nobody, a.Fork = a.Nobody || b.Nobody, a.Fork || b.Fork
		if b.MR != a.MR && b.MR != 0 || b.Nobody {
			// What a merge request says may have come into the run, so that it speaks for no ref.
			a.Protected, a.Ref = false, ""
		}
	}
	return a, nil
}

// ofEvent reads what an event was about. One that was erased, and one that nobody proved to come from where it says, act for nobody: whoever
// sent it would else write with this server's credentials.
func (r Reader) ofEvent(ctx context.Context, seq int64) (workflow.ActsFor, error) {
	var a workflow.ActsFor
	entry, err := r.Ledger.Entry(ctx, seq)
	var e event.Event
	if err == nil {
		e, err = event.FromEntry(entry)
	}
	if errors.Is(err, ledger.ErrNotFound) {
		return workflow.ActsFor{Nobody: true}, nil
	}
	if err != nil {
		return a, err
	}
	ofGit(e.Git, &a)
	own, proved := forge.Proved(e)
	a.Nobody = !proved
	if e.Git != nil && !own {
		a.Forge = r.forgeOf(ctx, e.Git, a.Nobody)
	}
	return a, nil
}

func ofGit(g *event.Git, c *workflow.ActsFor) {
	if g == nil {
		return
	}
	c.Repo, c.Ref, c.Commit = g.Repo.FullName, g.Ref, g.SHA
	if g.PR != nil {
		c.MR, c.Commit, c.Fork = g.PR.Number, g.PR.HeadSHA, g.PR.Fork
		c.Ref = "refs/heads/" + g.PR.SourceBranch
	}
}

// forgeOf names the instance that an event's repository is of. What is not declared, or not proved, gets a name that no instance has.
func (r Reader) forgeOf(ctx context.Context, g *event.Git, nobody bool) string {
	if nobody {
		return "of nobody, for the event was not proved to come from " + g.Forge
	}
	in, err := r.Forges.Sent(ctx, g.Forge, g.Instance)
	if err != nil {
		return forge.Undeclared(g.Forge, g.Instance)
	}
	return in.Name
}

// protected tells whether the ref is the default branch of a repository of the built-in remote, which takes pushes of those who may only.
func (r Reader) protected(ctx context.Context, a workflow.ActsFor) (bool, error) {
	if forge.NameOf(a.Forge) != forge.Builtin {
		return false, nil
	}
	in, err := r.Forges.Instance(ctx, forge.Builtin)
	if err != nil {
		return false, err
	}
	repo, err := in.Forge.Describe(ctx, a.Repo)
	if errors.Is(err, forge.ErrNotFound) {
		return false, nil // it was removed since
	}
	if err != nil {
		return false, fmt.Errorf("read repository %s: %w", a.Repo, err)
	}
	return a.Ref == "refs/heads/"+repo.DefaultBranch, nil
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
