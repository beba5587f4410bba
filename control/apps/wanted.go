package apps

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/plan"
	"github.com/tiphys/tiphys/deploy/promote"
	"github.com/tiphys/tiphys/deploy/render"
	"github.com/tiphys/tiphys/manifest"
)

// wanted is what should run, resolved and rendered.
type wanted struct {
	// revision names it whole: commit, release, definition. The planner compares it.
	revision string
	commit   string
	release  string
	version  string
	branch   string
	actor    string
	mr       int
	images   map[string]string
	sources  map[string]string
	urls     []string
	objects  []*unstructured.Unstructured
	notes    []string
	// cause is the entry that brought it: the release, the push, or the definition.
	cause int64
	// problem says why there is nothing to deploy.
	problem string
}

// resolve finds out what should run. Trouble is kept in wanted.problem; what runs goes on.
func (w *worker) resolve(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, w.c.o.Timeout)
	defer cancel()
	next, err := w.resolved(ctx)
	if err != nil {
		next = &wanted{problem: err.Error()}
		if w.wanted != nil {
			next.objects = w.wanted.objects // So that health is still that of what should be there.
		}
	}
	w.wanted = next
	if next.commit != "" {
		w.row.Target = next.commit
	}
}

func (w *worker) resolved(ctx context.Context) (*wanted, error) {
	project, err := w.allowed(ctx)
	if err != nil {
		return nil, err
	}
	if err := w.settle(ctx); err != nil {
		return nil, err
	}
	next, err := w.rendered(ctx)
	if err == nil && project != nil {
		err = plan.PermitObjects(*project, w.cluster.Place, next.objects, render.Namespaced)
	}
	return next, err
}

func (w *worker) rendered(ctx context.Context) (*wanted, error) {
	sources := w.row.Spec.SourceList()
	if len(sources) == 0 {
		return nil, fmt.Errorf("the Application has no source")
	}
	next, err := w.chosen(ctx, sources[0].RepoURL)
	if err != nil {
		return nil, err
	}
	select {
	case w.c.renders <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-w.c.renders }()
	for i, source := range sources {
		if err := w.source(ctx, next, source, i == 0); err != nil {
			return nil, err
		}
		if w.wanted != nil && w.wanted.problem == "" && i == 0 && len(sources) == 1 && w.wanted.revision == next.revision {
			return w.wanted, nil
		}
	}
	return next, w.prepare(ctx, next)
}

// chosen is the release that should run, if the Application is annotated with one.
func (w *worker) chosen(ctx context.Context, repo string) (*wanted, error) {
	next := &wanted{cause: w.row.Definition}
	annotations := w.row.Annotations
	name, _ := promote.ParseKey(annotations[promote.AnnotationRelease])
	if name == "" {
		return next, nil
	}
	if w.row.Pinned != "" {
		annotations = maps.Clone(annotations)
		annotations[promote.AnnotationRelease] = w.row.Pinned
	}
	releases, err := w.c.releases(ctx, w.row.Namespace, name)
	if err != nil {
		return nil, err
	}
	branch, err := w.c.o.Repositories.DefaultBranch(ctx, repo)
	if err != nil {
		return nil, fmt.Errorf("find the default branch of %s: %w", repo, err)
	}
	choice, _ := promote.Choose(annotations, w.row.Namespace, branch, releases)
	if choice.Waiting != "" {
		return nil, fmt.Errorf("%s", choice.Waiting)
	}
	r := choice.Release
	next.commit, next.release, next.branch, next.mr, next.actor = r.Commit, choice.Key, r.Branch, cmp.Or(r.MR, r.Merged), r.Actor
	next.images, next.sources, next.version = r.Images, r.Sources, fmt.Sprintf("%d", r.Number)
	next.cause = max(r.Seq, w.row.Definition)
	return next, nil
}

// source adds the objects of one source.
func (w *worker) source(ctx context.Context, next *wanted, s manifest.ApplicationSource, first bool) error {
	revision := s.TargetRevision
	if revision == "" {
		revision = "HEAD"
	}
	switch {
	case next.release != "":
		revision = next.commit
	case w.row.Pinned != "" && first:
		revision = w.row.Pinned
	}
	dir, sha, release, err := w.c.o.Repositories.Checkout(ctx, s.RepoURL, revision)
	if err != nil {
		return fmt.Errorf("check out %s at %s: %w", s.RepoURL, revision, err)
	}
	defer release()
	if first && next.release == "" {
		next.commit, next.branch = sha, s.TargetRevision
		next.version = sha[:min(8, len(sha))]
		next.cause = max(next.cause, w.c.causeOf(ctx, sha))
	}
	raw, err := json.Marshal([]any{next.release, next.images, w.row.Spec, sha})
	if err != nil {
		return fmt.Errorf("write revision: %w", err)
	}
	sum := sha256.Sum256(append([]byte(next.revision), raw...))
	next.revision = next.commit + "+" + hex.EncodeToString(sum[:8])
	if w.wanted != nil && w.wanted.problem == "" && len(w.row.Spec.SourceList()) == 1 && w.wanted.revision == next.revision {
		return nil // It was rendered before.
	}
	result, err := w.c.o.Render(ctx, render.Source{Root: dir, Path: s.Path, Directory: s.Directory, Kustomize: s.Kustomize,
		Images: next.images, AppName: w.row.Name, Namespace: w.row.Spec.Destination.Namespace})
	if err != nil {
		return fmt.Errorf("at commit %.12s: %w", sha, err)
	}
	if err := manifest.FirstError(result.Problems); err != nil {
		return fmt.Errorf("at commit %.12s: %w", sha, err)
	}
	for _, p := range result.Problems {
		next.notes = append(next.notes, p.Error())
	}
	next.merge(result.Objects)
	return nil
}

// merge adds objects; of two with the same key the later source's counts, as in Argo CD.
func (x *wanted) merge(objects []*unstructured.Unstructured) {
	for _, o := range objects {
		key := deploy.KeyOf(o)
		at := slices.IndexFunc(x.objects, func(other *unstructured.Unstructured) bool {
			return o.GetName() != "" && deploy.KeyOf(other) == key
		})
		if at >= 0 {
			x.objects[at] = o
			x.notes = append(x.notes, key.String()+" is in more than one source; the last one counts")
			continue
		}
		x.objects = append(x.objects, o)
	}
}

// prepare adds the namespace, asks the target what it cannot do, and finds the URLs.
func (w *worker) prepare(ctx context.Context, next *wanted) error {
	namespace := w.row.Spec.Destination.Namespace
	if w.options(true).CreateNamespace && namespace != "" {
		ns := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": namespace}}}
		if m := w.row.Spec.SyncPolicy.ManagedNamespaceMetadata; m != nil {
			ns.SetLabels(m.Labels)
			ns.SetAnnotations(m.Annotations)
		}
		if !slices.ContainsFunc(next.objects, func(o *unstructured.Unstructured) bool { return deploy.KeyOf(o) == deploy.KeyOf(ns) }) {
			next.objects = append([]*unstructured.Unstructured{ns}, next.objects...)
		}
	}
	problems, err := w.cluster.Target.Check(ctx, next.objects)
	if err != nil {
		return fmt.Errorf("ask the target what it cannot do: %w", err)
	}
	for _, p := range problems {
		text := fmt.Sprintf("%s %s: %s", p.Key.Kind, p.Key.Name, p.Message)
		if p.Path != "" {
			text += " (" + p.Path + ")"
		}
		if p.Fatal {
			return fmt.Errorf("the target cannot run it: %s", text)
		}
		next.notes = append(next.notes, text)
	}
	for _, o := range next.objects {
		if o.GetKind() != "Ingress" {
			continue
		}
		rules, _, _ := unstructured.NestedSlice(o.Object, "spec", "rules")
		for _, rule := range rules {
			if r, ok := rule.(map[string]any); ok {
				if host, _ := r["host"].(string); host != "" && !slices.Contains(next.urls, w.c.o.Front.URL(host)) {
					next.urls = append(next.urls, w.c.o.Front.URL(host))
				}
			}
		}
	}
	return nil
}

// allowed holds the Application to its destination and to its project, which it gives: nil where the default project is
// not declared, which then allows everything, as Argo CD's does.
func (w *worker) allowed(ctx context.Context) (*manifest.AppProject, error) {
	a := applicationOf(w.row)
	if err := manifest.FirstError(a.Validate()); err != nil {
		return nil, err
	}
	cluster, err := w.c.o.Targets.Resolve(w.row.Spec.Destination)
	if err != nil {
		return nil, err
	}
	name := projectOf(w.row.Spec)
	projects, err := w.c.o.Definitions.List(ctx, "AppProject")
	if err != nil {
		return nil, fmt.Errorf("read projects: %w", err)
	}
	for _, definition := range projects {
		if definition.Name != name {
			continue
		}
		var p manifest.AppProject
		if err := json.Unmarshal(definition.Object, &p); err != nil {
			return nil, fmt.Errorf("read project %s: %w", definition.Name, err)
		}
		if err := plan.PermitNamespace(p, definition.Namespace, w.row.Namespace); err != nil {
			return nil, err
		}
		return &p, plan.PermitApplication(p, w.row.Spec, cluster.Place)
	}
	if name == defaultProject {
		return nil, nil
	}
	return nil, fmt.Errorf("there is no AppProject %q: declare it, or set spec.project to default", name)
}

func projectOf(s manifest.ApplicationSpec) string { return cmp.Or(s.Project, defaultProject) }

// defaultProject is the project of an Application that names none.
const defaultProject = "default"
