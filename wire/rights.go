package wire

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/access/steptoken"
	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/artifact/image"
	"github.com/tiphys/tiphys/control/events"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/secret"
	"github.com/tiphys/tiphys/server/gate"
	"github.com/tiphys/tiphys/server/steps"
	"github.com/tiphys/tiphys/workflow"
)

// token makes the token of one attempt.
func (s *Server) token(run workflow.Run, id executor.ID) secret.Value {
	c, err := s.claims(context.Background(), run)
	if err != nil {
		s.o.Log.Error("make step token", "run", runs.Key(run.Namespace, run.Name), "error", err)
		return secret.Value{}
	}
	c.UID, c.Node, c.Attempt = run.UID, id.Node, id.Attempt
	v, err := s.tokens.Issue(c)
	if err != nil {
		s.o.Log.Error("make step token", "run", c.Run, "error", err)
	}
	return v
}

// claims are what a run may act for. A run that an event made acts for what that event was about, whatever labels
// its manifest gives itself; one made by hand for what its maker wrote.
func (s *Server) claims(ctx context.Context, run workflow.Run) (steptoken.Claims, error) {
	c := steptoken.Claims{Run: runs.Key(run.Namespace, run.Name)}
	if run.Event == 0 {
		c.Repo, c.Commit = run.Labels[events.LabelRepo], run.Labels[events.LabelCommit]
		c.MR, _ = strconv.Atoi(run.Labels[events.LabelMR])
		if b := run.Labels[events.LabelBranch]; b != "" {
			c.Ref = "refs/heads/" + b
		}
	} else {
		entry, err := s.machine.Ledger.Entry(ctx, run.Event)
		if err != nil {
			return c, err
		}
		e, err := event.FromEntry(entry)
		if err != nil {
			return c, err
		}
		gitClaims(e.Git, &c)
		c.Forge = s.forgeOf(ctx, e)
	}
	if c.MR == 0 && c.Repo != "" && forge.NameOf(c.Forge) == forge.Builtin {
		if repo, err := s.remote.Describe(ctx, c.Repo); err == nil {
			c.Protected = c.Ref == "refs/heads/"+repo.DefaultBranch
		}
	}
	if c.Protected && run.Event != 0 {
		others, err := withMergeRequest(ctx, s.machine.Ledger, c.Run)
		if err != nil {
			return c, err
		}
		c.Protected = !others
	}
	return c, nil
}

// forgeOf names the instance that an event's repository is of, for a token; empty for the built-in remote. An event that nobody proved to come
// from a forge is of none: whoever sent it would else write to that forge with this server's credentials.
func (s *Server) forgeOf(ctx context.Context, e event.Event) string {
	g := e.Git
	if g == nil || g.Forge == forge.TypeBuiltin {
		return ""
	}
	if e.Verified == "" || e.Verified == forge.VerifiedNone {
		return "of nobody, for the event was not proved to come from " + g.Forge
	}
	in, err := s.forges.Sent(ctx, g.Forge, g.Instance)
	if err != nil {
		return g.Forge + " at " + g.Instance
	}
	return in.Name
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
		if err != nil {
			return false, err
		}
		e, err := event.FromEntry(entry)
		if err != nil {
			return false, err
		}
		if e.Git != nil && e.Git.PR != nil {
			return true, nil
		}
	}
	return false, nil
}

func gitClaims(g *event.Git, c *steptoken.Claims) {
	if g == nil {
		return
	}
	c.Repo, c.Ref, c.Commit = g.Repo.FullName, g.Ref, g.SHA
	if g.PR != nil {
		c.MR, c.Commit = g.PR.Number, g.PR.HeadSHA
		c.Ref = "refs/heads/" + g.PR.SourceBranch
	}
}

// alive tells whether the attempt that holds a token still runs.
func (s *Server) alive(ctx context.Context, c steptoken.Claims) bool {
	run, err := s.machine.Runs.Summary(ctx, namespaceOf(c.Run), nameOf(c.Run))
	if err != nil || run.UID != c.UID || run.Phase.Done() {
		return false
	}
	row, err := s.machine.Ledger.Row(ctx, "node", c.Run+"/"+c.Node)
	return err == nil && !workflow.Phase(row.State).Done()
}

func namespaceOf(key string) string { ns, _, _ := strings.Cut(key, "/"); return ns }
func nameOf(key string) string      { _, name, _ := strings.Cut(key, "/"); return name }

// authorizeArtifact lets a step at its own run's artifacts, and at keys that name no run's folder.
func (s *Server) authorizeArtifact(ctx context.Context, key string, _ bool) error {
	caller := artifact.CallerFrom(ctx)
	if caller.Owner == "" {
		return nil
	}
	// A key may be a folder's, which is then fetched whole.
	rest, ok := strings.CutPrefix(strings.TrimSuffix(key, "/")+"/", steps.ArtifactPrefix)
	if !ok {
		return s.ownerOfKey(ctx, caller, key)
	}
	owner, _, _ := strings.Cut(rest, "/")
	if owner != caller.Owner {
		return failure.Refusedf("artifact %s belongs to another run", key)
	}
	return nil
}

// ownerOfKey refuses a key that begins with another run's name, as the default key format has it, or is it.
func (s *Server) ownerOfKey(ctx context.Context, caller artifact.Caller, key string) error {
	first, _, _ := strings.Cut(key, "/")
	run, err := s.machine.Runs.Summary(ctx, caller.Namespace, first)
	if errors.Is(err, runs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if run.UID != caller.Owner {
		return failure.Refusedf("artifact %s belongs to run %s/%s", key, run.Namespace, run.Name)
	}
	return nil
}

// authorizeImage asks the policy about an image that a request reads or writes.
func (s *Server) authorizeImage(r *http.Request, repo string, write bool) error {
	id, err := s.gate.Identify(r)
	if err != nil {
		return image.ErrUnauthenticated
	}
	verb := access.Get
	if write {
		verb = access.Update
	}
	if repo == "" {
		return policy().Some(id, verb, access.Image)
	}
	_, ref, _ := strings.Cut(r.URL.Path, "/manifests/")
	return policy().Can(id, verb, access.Image, "", access.ImageName(repo, ref))
}

// policy says who may do what on this server.
func policy() access.Policy { return access.BuiltIn() }

// imagePushed records an image. A step that pushes it again, because the answer was lost, says nothing new.
func (s *Server) imagePushed(ctx context.Context, repo, ref, digest string) error {
	if s.o.Fault != nil {
		s.o.Fault("registry/image-stored")
	}
	id := gate.From(ctx)
	body := map[string]string{"name": repo, "ref": ref, "digest": digest}
	draft := ledger.Draft{Actor: id.String(), Kind: steps.KindImage, Subject: "image/" + repo + "@" + digest, Body: body}
	if id.Step != nil {
		body["run"], body["node"] = id.Step.Run, id.Step.Node
		row, err := s.machine.Ledger.Row(ctx, "node", id.Step.Run+"/"+id.Step.Node)
		if err != nil {
			return fmt.Errorf("record image: %w", err)
		}
		draft.Cause = ledger.At(row.Seq)
		draft.Unique = fmt.Sprintf("image-pushed/%s/%s/%d/%s:%s@%s", id.Step.Run, id.Step.Node, id.Step.Attempt, repo, ref, digest)
	}
	return s.machine.Ledger.Write(ctx, ledger.Anyone(draft.Subject), func(tx ledger.Tx) error {
		_, err := tx.Append(draft)
		if errors.Is(err, ledger.ErrExists) {
			return nil
		}
		return err
	})
}
