package stepclaims

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/access/claims"
	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/ledger"
)

// Origins of definitions that the operator made, or somebody over the API.
const (
	originFolder = "folder"
	originAPI    = "api"
)

// head is the revision of a repository's default branch.
const head = "HEAD"

// Settle implements runs.Claims: it reads each event that led to a run once, and says whom and what the run acts for. A run acts for what its
// last event was about, and has no more rights than the least of all that led to it. An error is one of the record, which may be
// read later.
func (r Reader) Settle(ctx context.Context, m claims.Made) (claims.Record, error) {
	rec := declared(m)
	events := slices.Clone(m.Events)
	if m.Event != 0 && !slices.Contains(events, m.Event) {
		events = append(events, m.Event)
	}
	slices.Sort(events)
	about := m.Event
	if about == 0 && len(events) > 0 {
		about = events[len(events)-1]
	}
	read := make([]claims.Event, 0, len(events))
	for _, seq := range events {
		e, err := r.event(ctx, seq)
		if err != nil {
			return claims.Record{}, fmt.Errorf("read event %d: %w", seq, err)
		}
		read = append(read, e)
	}
	for i, seq := range events {
		if seq == about {
			rec = rec.About(read[i])
		}
	}
	for i, seq := range events {
		if seq != about {
			rec = rec.With(read[i])
		}
	}
	if m.Source == "" {
		return rec, nil
	}
	name := r.Names.Of(m.Source)
	own, err := r.ownRevision(ctx, name, m, read)
	if err != nil {
		return claims.Record{}, err
	}
	return rec.From(name, m.Revision, own), nil
}

// declared is the record of a run by who declared or submits it.
func declared(m claims.Made) claims.Record {
	rec := claims.Record{Kind: podpolicy.Own, Origin: m.Origin, Role: m.Role}
	switch m.Origin {
	case "":
	case originFolder: // the operator's own
		rec.Role = string(access.Admin)
	case originAPI: // a developer may declare what submits runs
		rec.Role = string(access.Developer)
	default:
		rec = claims.Unproved("its definition was made by " + m.Origin + "; declare it in the folder of definitions")
		rec.Origin = m.Origin
	}
	return rec
}

// event reads what an event was about. One that was erased, and one that nobody proved to come from where it says, are nobody's: whoever
// sent it would else write with this server's credentials.
func (r Reader) event(ctx context.Context, seq int64) (claims.Event, error) {
	entry, err := r.Ledger.Entry(ctx, seq)
	var e event.Event
	if err == nil {
		e, err = event.FromEntry(entry)
	}
	if errors.Is(err, ledger.ErrNotFound) {
		return claims.Event{Nobody: true, Why: fmt.Sprintf("event %d that led to it cannot be read any more", seq)}, nil
	}
	if err != nil {
		return claims.Event{}, err
	}
	own, proved := forge.Proved(e)
	c := ofGit(e.Git)
	if !proved {
		c.Nobody, c.Why = true, "nobody proved who sent the event; give the event source "+e.Namespace+"/"+e.Source+" a secret"
	}
	if e.Git == nil {
		return c, nil
	}
	if !own {
		c.Forge = r.forgeOf(ctx, e.Git, c.Nobody)
	}
	if c.Nobody {
		c.Author = claims.Author{}
		return c, nil
	}
	c.Name = r.Names.Sent(e.Git, own)
	if c.MergeRequest == 0 {
		c.Protected, err = r.protected(ctx, e.Git, c)
	}
	return c, err
}

// ofGit is what an event says of its repository.
func ofGit(g *event.Git) claims.Event {
	if g == nil {
		return claims.Event{}
	}
	// Who pushed could write.
	c := claims.Event{Repository: g.Repo.FullName, Ref: g.Ref, Commit: g.SHA, Author: claims.Author{Name: g.Sender.Login, Writes: true}}
	if g.PR == nil {
		return c
	}
	c.MergeRequest, c.Commit, c.Ref = g.PR.Number, g.PR.HeadSHA, "refs/heads/"+g.PR.SourceBranch
	c.Author = claims.Author{Name: g.PR.Author, Writes: forge.Writes(*g.PR)}
	if c.MergeRequest == 0 {
		c.MergeRequest = claims.Several // one without a number is one all the same
	}
	if g.PR.Fork {
		c.Fork = cmp.Or(g.PR.SourceRepo, claims.UnknownFork)
	}
	return c
}

// protected tells whether a ref may be changed only as its forge's rules allow. The built-in remote is asked. Of others the event says it, or
// the ref is the default branch.
func (r Reader) protected(ctx context.Context, g *event.Git, c claims.Event) (bool, error) {
	if c.Forge == "" {
		return r.ownProtected(ctx, c.Repository, c.Ref)
	}
	return g.Protected || g.Repo.DefaultBranch != "" && c.Ref == "refs/heads/"+g.Repo.DefaultBranch, nil
}

// ownProtected tells whether a ref of the built-in remote is protected.
func (r Reader) ownProtected(ctx context.Context, repo, ref string) (bool, error) {
	in, err := r.Forges.Instance(ctx, forge.Builtin)
	if err != nil {
		if errors.Is(err, forge.ErrNotFound) {
			return false, nil
		}
		return false, err
	}
	rules, ok := in.Forge.(forge.Protects)
	if !ok {
		return false, nil
	}
	protected, err := rules.Protected(ctx, repo, ref)
	if errors.Is(err, forge.ErrNotFound) {
		return false, nil // it was removed since
	}
	if err != nil {
		return false, fmt.Errorf("read repository %s: %w", repo, err)
	}
	return protected, nil
}

// ownRevision tells whether a manifest that was read from a repository adds nobody's change to those of the events: it is from a
// repository that none of them was about, or from the change itself, or from a protected branch.
func (r Reader) ownRevision(ctx context.Context, name string, m claims.Made, events []claims.Event) (bool, error) {
	about, builtin := false, ""
	for _, e := range events {
		if !strings.EqualFold(e.Name, name) {
			continue
		}
		if m.Revision == e.Commit || m.Revision == e.Ref || m.Revision == head {
			return true, nil
		}
		about = true
		if e.Forge == "" {
			builtin = e.Repository
		}
	}
	if !about {
		return true, nil
	}
	if builtin == "" || m.Revision == "" {
		return false, nil
	}
	return r.ownProtected(ctx, builtin, m.Revision)
}
