// Package stepclaims says what the steps of a run may act for, makes their tokens, and tells whether these still count. It reads the
// record, never what a manifest says of itself.
package stepclaims

import (
	"context"
	"errors"
	"fmt"
	"strconv"

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

// Of gives what a run may act for. A run that an event made acts for what that event was about, whatever labels its manifest
// gives itself; one made by hand for what its maker wrote.
func (r Reader) Of(ctx context.Context, run workflow.Run) (steptoken.Claims, error) {
	c := steptoken.Claims{Run: run.Namespace + "/" + run.Name, UID: run.UID}
	if run.Event == 0 {
		byHand(run.Labels, &c)
	} else if err := r.ofEvent(ctx, run.Event, &c); err != nil {
		return c, fmt.Errorf("read what run %s was made for: %w", c.Run, err)
	}
	if c.MR == 0 && c.Repo != "" && !c.Nobody {
		if err := r.protect(ctx, &c); err != nil {
			return c, err
		}
	}
	if c.Protected && run.Event != 0 {
		others, err := withMergeRequest(ctx, r.Ledger, c.Run)
		if err != nil {
			return c, err
		}
		c.Protected = !others
	}
	return c, nil
}

// byHand reads what whoever made a run wrote.
func byHand(labels map[string]string, c *steptoken.Claims) {
	c.Repo, c.Commit = labels[event.LabelRepo], labels[event.LabelCommit]
	c.MR, _ = strconv.Atoi(labels[event.LabelMR])
	if b := labels[event.LabelBranch]; b != "" {
		c.Ref = "refs/heads/" + b
	}
}

// ofEvent reads what an event was about. One that was erased, and one that nobody proved to come from where it says, act for nobody: whoever
// sent it would else write with this server's credentials.
func (r Reader) ofEvent(ctx context.Context, seq int64, c *steptoken.Claims) error {
	entry, err := r.Ledger.Entry(ctx, seq)
	var e event.Event
	if err == nil {
		e, err = event.FromEntry(entry)
	}
	if errors.Is(err, ledger.ErrNotFound) {
		c.Nobody = true
		return nil
	}
	if err != nil {
		return err
	}
	ofGit(e.Git, c)
	own := e.Type == "git" && e.Git != nil && e.Git.Forge == forge.TypeBuiltin
	c.Nobody = !own && (e.Verified == "" || e.Verified == forge.VerifiedNone)
	if e.Git != nil && !own {
		c.Forge = r.forgeOf(ctx, e.Git, c.Nobody)
	}
	return nil
}

func ofGit(g *event.Git, c *steptoken.Claims) {
	if g == nil {
		return
	}
	c.Repo, c.Ref, c.Commit = g.Repo.FullName, g.Ref, g.SHA
	if g.PR != nil {
		c.MR, c.Commit = g.PR.Number, g.PR.HeadSHA
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

// protect notes whether the ref is the default branch of a repository of the built-in remote, which takes pushes of those who may only.
func (r Reader) protect(ctx context.Context, c *steptoken.Claims) error {
	if forge.NameOf(c.Forge) != forge.Builtin {
		return nil
	}
	in, err := r.Forges.Instance(ctx, forge.Builtin)
	if err != nil {
		return err
	}
	repo, err := in.Forge.Describe(ctx, c.Repo)
	if errors.Is(err, forge.ErrNotFound) {
		return nil // labels may name what is not there
	}
	if err != nil {
		return fmt.Errorf("read repository %s: %w", c.Repo, err)
	}
	c.Protected = c.Ref == "refs/heads/"+repo.DefaultBranch
	return nil
}

// withMergeRequest tells whether a merge request is among the events that a condition put together for a run. What it says may
// have come into the run, so that the run has no more rights than it.
func withMergeRequest(ctx context.Context, l ledger.Reader, run string) (bool, error) {
	made, err := l.Entries(ctx, ledger.EntryQuery{Subject: "run/" + run, Kinds: []string{workflow.KindSubmitted}, Newest: true, Limit: 1, Bare: true})
	if err != nil || len(made) == 0 {
		return false, err
	}
	// Between the firing and the run may stand attempts that failed.
	fired := ledger.Entry{Cause: made[0].Cause}
	for fired.Kind != event.KindFired {
		if fired.Cause == 0 {
			return false, nil // nobody fired it
		}
		if fired, err = l.Entry(ctx, fired.Cause); err != nil {
			return false, err
		}
	}
	firing, err := ledger.Read[event.Fired](fired)
	if err != nil {
		return false, err
	}
	for _, seq := range firing.Events {
		entry, err := l.Entry(ctx, seq)
		var e event.Event
		if err == nil {
			e, err = event.FromEntry(entry)
		}
		if errors.Is(err, ledger.ErrNotFound) {
			return true, nil // what was erased may have been one
		}
		if err != nil {
			return false, err
		}
		if e.Git != nil && e.Git.PR != nil {
			return true, nil
		}
	}
	return false, nil
}
