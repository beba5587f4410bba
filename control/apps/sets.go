package apps

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/preview"
	"github.com/tiphys/tiphys/deploy/promote"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/manifest"
)

// declared is an Application as it should be.
type declared struct {
	manifest.Application
	origin, digest string
	seq            int64
}

// definitions brings the workers in line with what is declared, by people and by ApplicationSets.
func (c *Controller) definitions(ctx context.Context) {
	wanted, err := c.declared(ctx)
	if err != nil {
		if ctx.Err() == nil {
			c.o.Log.Error("applications could not be read; the earlier ones stay", "error", err)
		}
		return
	}
	for key, d := range wanted {
		c.worker(ctx, key, nil).declare(d)
	}
	c.mu.Lock()
	var gone []*worker
	for key, w := range c.workers {
		if _, still := wanted[key]; !still {
			gone = append(gone, w)
		}
	}
	c.mu.Unlock()
	for _, w := range gone {
		w.declare(nil)
	}
}

func (c *Controller) declared(ctx context.Context) (map[string]*declared, error) {
	wanted := map[string]*declared{}
	definitions, err := c.o.Definitions.List(ctx, "Application")
	if err != nil {
		return nil, err
	}
	for _, d := range definitions {
		var a manifest.Application
		if err := json.Unmarshal(d.Object, &a); err != nil {
			c.o.Log.Error("application could not be read", "application", d.Namespace+"/"+d.Name, "error", err)
			continue
		}
		a.Namespace, a.Name = d.Namespace, d.Name
		wanted[d.Namespace+"/"+d.Name] = &declared{Application: a, origin: d.Origin, digest: d.Digest, seq: d.Seq}
	}
	sets, err := c.o.Definitions.List(ctx, "ApplicationSet")
	if err != nil {
		return nil, err
	}
	for _, d := range sets {
		if err := c.expand(ctx, d, wanted); err != nil {
			return nil, err
		}
	}
	return wanted, nil
}

// expand adds the Applications of one set. The error is one of the ledger; a set's own trouble keeps its Applications.
func (c *Controller) expand(ctx context.Context, d Definition, wanted map[string]*declared) error {
	origin := "applicationset/" + d.Namespace + "/" + d.Name
	in := preview.Input{}
	if err := json.Unmarshal(d.Object, &in.Set); err != nil {
		return fmt.Errorf("read ApplicationSet %s: %w", d.Name, err)
	}
	in.Set.Namespace, in.Set.Name = d.Namespace, d.Name
	rows, err := all(ctx, c.o.Ledger, ledger.Query{Table: deploy.TableApplication, Owner: origin})
	if err != nil {
		return err
	}
	for _, row := range rows {
		var a deploy.ApplicationRow
		if err := json.Unmarshal(row.Body, &a); err != nil {
			return fmt.Errorf("read application %s: %w", row.Key, err)
		}
		if !a.Deleting {
			in.Previous = append(in.Previous, applicationOf(a))
		}
	}
	in.Base = c.base(ctx, in.Set)
	for _, g := range in.Set.Spec.Generators {
		in.Replies = append(in.Replies, c.ask(ctx, g))
	}
	out := preview.Expand(in)
	if out.Err != nil {
		c.o.Log.Error("applications of a set stay as they are", "error", out.Err)
	}
	if out.Held != "" {
		c.o.Log.Warn("deletions are held back", "set", d.Name, "reason", out.Held)
		held := map[string]bool{}
		for _, a := range out.Applications {
			held[a.Name] = true
		}
		for _, a := range in.Previous {
			if !held[a.Name] {
				out.Applications = append(out.Applications, a)
			}
		}
	}
	for _, a := range out.Applications {
		if a.Namespace == "" {
			a.Namespace = d.Namespace
		}
		raw, err := json.Marshal([]any{a.Labels, a.Annotations, a.Finalizers, a.Spec})
		if err != nil {
			return fmt.Errorf("write application %s: %w", a.Name, err)
		}
		sum := sha256.Sum256(raw)
		key := a.Namespace + "/" + a.Name
		if other := wanted[key]; other != nil {
			c.o.Log.Error("an ApplicationSet makes an application that is declared already; the declared one stays", "application", key)
			continue
		}
		wanted[key] = &declared{Application: a, origin: origin, digest: "sha256:" + hex.EncodeToString(sum[:]),
			seq: max(d.Seq, c.causeOf(ctx, a.Annotations[preview.AnnotationHead]))}
	}
	return nil
}

func applicationOf(a deploy.ApplicationRow) manifest.Application {
	m := manifest.Application{Spec: a.Spec}
	m.Namespace, m.Name, m.Labels, m.Annotations, m.Finalizers = a.Namespace, a.Name, a.Labels, a.Annotations, a.Finalizers
	return m
}

// ask asks the forge for one generator.
func (c *Controller) ask(ctx context.Context, g manifest.ApplicationSetGenerator) preview.Reply {
	if g.PullRequest == nil {
		return preview.Reply{}
	}
	kind, repo := preview.Repository(g.PullRequest)
	var f manifest.PullRequestForge
	for _, given := range []*manifest.PullRequestForge{g.PullRequest.GitHub, g.PullRequest.GitLab, g.PullRequest.Gitea, g.PullRequest.Tiphys} {
		if given != nil {
			f = *given
		}
	}
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	list, err := c.o.Forges.PullRequests(ctx, kind, repo, f)
	if err != nil {
		return preview.Reply{Err: err, NotFound: errors.Is(err, forge.ErrNotFound)}
	}
	return preview.Reply{PullRequests: list}
}

// base is the release that a set's previews are completed from now.
func (c *Controller) base(ctx context.Context, set manifest.ApplicationSet) string {
	name, _ := promote.ParseKey(set.Annotations[promote.AnnotationRelease])
	if name == "" {
		name, _ = promote.ParseKey(set.Spec.Template.Metadata.Annotations[promote.AnnotationRelease])
	}
	if name == "" || strings.Contains(name, "{{") {
		return ""
	}
	releases, err := c.releases(ctx, set.Namespace, name)
	if err != nil {
		c.o.Log.Error("releases could not be read", "error", err)
		return ""
	}
	var source struct {
		Source struct {
			RepoURL string `json:"repoURL"`
		} `json:"source"`
	}
	_ = json.Unmarshal(set.Spec.Template.Spec, &source) // A template that cannot be read is reported by Expand.
	branch, err := c.o.Repositories.DefaultBranch(ctx, source.Source.RepoURL)
	if err != nil {
		branch = "main"
	}
	r, found := promote.Latest(releases, set.Namespace, name, promote.Branches(set.Annotations, branch))
	if !found {
		return ""
	}
	return promote.Key(r)
}

func (c *Controller) releases(ctx context.Context, namespace, name string) ([]deploy.Release, error) {
	rows, err := all(ctx, c.o.Ledger, ledger.Query{Table: deploy.TableRelease, Owner: namespace + "/" + name})
	if err != nil {
		return nil, err
	}
	releases := make([]deploy.Release, 0, len(rows))
	for _, row := range rows {
		var r deploy.Release
		if err := json.Unmarshal(row.Body, &r); err != nil {
			return nil, fmt.Errorf("read release %s: %w", row.Key, err)
		}
		releases = append(releases, r)
	}
	return releases, nil
}
