package apps

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/plan"
	"github.com/tiphys/tiphys/deploy/render"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/repo"
)

// wanted is what should run, resolved and rendered.
type wanted struct {
	// revision names it whole: commit, release, definition. The planner compares it.
	revision string
	commit   string
	// release names the releases, of are they. config is the configuration commit that they come with; empty where Git is followed.
	release string
	of      []deploy.ReleaseRef
	config  string
	version string
	branch  string
	actor   string
	mr      int
	images  map[string]string
	sources map[string]string
	urls    []string
	objects []*unstructured.Unstructured
	notes   []string
	// cause is the entry that brought it: the release, the push, or the definition.
	cause int64
	// problem says why there is nothing to deploy, and kind is its condition.
	problem, kind string
	// namespace is the one that is made for the objects; nil if none is.
	namespace *unstructured.Unstructured
	digests   map[*unstructured.Unstructured]digest
}

// digest is that of one of the objects; it is worked out once.
func (x *wanted) digest(o *unstructured.Unstructured) (digest, error) {
	if d, known := x.digests[o]; known {
		return d, nil
	}
	d, err := digestOf(o)
	if err == nil {
		if x.digests == nil {
			x.digests = map[*unstructured.Unstructured]digest{}
		}
		x.digests[o] = d
	}
	return d, err
}

// invalid is an error of the definition, or of what the project and this server allow it.
type invalid struct{ error }

func (i invalid) Unwrap() error { return i.error }

// resolve finds out what should run. Trouble is kept in wanted.problem; what runs goes on.
func (w *worker) resolve(ctx context.Context) {
	next, err := w.resolved(ctx)
	if err != nil {
		next = &wanted{problem: err.Error(), kind: deploy.ConditionComparison}
		if w.wanted != nil {
			next.objects = w.wanted.objects // So that health is still that of what should be there.
		}
		var i invalid
		if errors.As(err, &i) {
			next.kind = deploy.ConditionInvalidSpec
		}
	}
	w.wanted = next
	if next.commit != "" {
		w.row.Target = next.commit
	}
	if next.problem == "" {
		w.row.DeletionHooks = namesOf(next.objects)
	}
}

func (w *worker) resolved(ctx context.Context) (*wanted, error) {
	projects, err := w.allowed(ctx)
	if err != nil {
		return nil, err
	}
	if err := w.settle(ctx); err != nil {
		return nil, err
	}
	next, err := w.rendered(ctx)
	if err != nil {
		return next, err
	}
	objects := next.objects
	if next.namespace != nil {
		objects = append([]*unstructured.Unstructured{next.namespace}, objects...)
	}
	if err := w.permitted(ctx, projects, objects); err != nil {
		return nil, err
	}
	if next != w.wanted {
		return next, nil // prepare has found out whose its host names are
	}
	return next, w.hosts(ctx, objects)
}

// permitted holds objects to what the projects allow.
func (w *worker) permitted(ctx context.Context, projects []manifest.AppProject, objects []*unstructured.Unstructured) error {
	can, err := w.cluster.Target.Capabilities(ctx)
	if err != nil {
		return fmt.Errorf("ask the target what it can do: %w", err)
	}
	namespaced := func(o *unstructured.Unstructured) bool {
		gvk := o.GroupVersionKind()
		if kind, known := can.Kind(gvk.Group, gvk.Kind); known {
			return kind.Namespaced
		}
		return render.Namespaced(o)
	}
	for _, o := range objects {
		if o.GetNamespace() == "" && namespaced(o) {
			return invalid{fmt.Errorf("the namespace of %s %s is missing: set spec.destination.namespace, or metadata.namespace of the object", o.GetKind(), o.GetName())}
		}
	}
	for _, p := range projects {
		if err := plan.PermitObjects(p, w.cluster.Place, objects, namespaced); err != nil {
			return invalid{err}
		}
	}
	return nil
}

// rendered is what the sources give; the wanted of before if nothing of it has changed.
func (w *worker) rendered(ctx context.Context) (*wanted, error) {
	next, commits, err := w.named(ctx, "")
	if err != nil {
		return nil, err
	}
	if w.wanted != nil && w.wanted.problem == "" && w.wanted.revision == next.revision {
		return w.wanted, nil
	}
	if err := w.render(ctx, next, commits); err != nil {
		return nil, err
	}
	return next, w.prepare(ctx, next)
}

// named is what should run, with the commits of its sources and without its objects. The first source is taken at a commit if one is given.
func (w *worker) named(ctx context.Context, at string) (*wanted, []string, error) {
	sources := w.row.Spec.SourceList()
	if len(sources) == 0 {
		return nil, nil, invalid{errors.New("the Application has no source")}
	}
	next, err := w.chosen(ctx, sources[0].RepoURL)
	if err != nil {
		return nil, nil, err
	}
	if at != "" {
		next.config = at
	}
	commits := make([]string, len(sources))
	for i, source := range sources {
		if commits[i], err = w.commit(ctx, next, source, i == 0); err != nil {
			return nil, nil, err
		}
	}
	ignored, err := deploy.ReadIgnored(w.row.Annotations[deploy.AnnotationIgnoreKinds])
	if err != nil {
		return nil, nil, invalid{err}
	}
	return next, commits, next.name(w.row.Spec, ignored, commits)
}

// render adds the objects of the sources.
func (w *worker) render(ctx context.Context, next *wanted, commits []string) error {
	select {
	case w.c.renders <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-w.c.renders }()
	for i, source := range w.row.Spec.SourceList() {
		if err := w.source(ctx, next, source, commits[i]); err != nil {
			return err
		}
	}
	return nil
}

// commit is the one that a source is taken from.
func (w *worker) commit(ctx context.Context, next *wanted, s manifest.ApplicationSource, first bool) (string, error) {
	revision := cmp.Or(s.TargetRevision, "HEAD")
	switch {
	case next.config != "" && (first || s.RepoURL == w.row.Spec.SourceList()[0].RepoURL):
		revision = next.config
	case next.release == "" && w.row.Pinned != "" && first:
		revision = w.row.Pinned
	}
	ctx, cancel := context.WithTimeout(ctx, w.c.o.Timeout)
	defer cancel()
	sha, tag, err := w.resolveRevision(ctx, s, revision)
	if err != nil {
		return "", fmt.Errorf("find %s of %s: %w", revision, s.RepoURL, err)
	}
	if first && next.commit == "" {
		next.commit = sha
		if next.release == "" {
			next.branch, next.version = s.TargetRevision, cmp.Or(tag, sha[:min(8, len(sha))])
		}
		cause, err := w.c.causeOf(ctx, sha)
		if err != nil {
			return "", err
		}
		next.cause = max(next.cause, cause)
	}
	return sha, nil
}

// resolveRevision gives the commit of a revision, and the tag that it is of where a source asks for the newest of several versions.
func (w *worker) resolveRevision(ctx context.Context, s manifest.ApplicationSource, revision string) (sha, tag string, err error) {
	if revision != s.TargetRevision || !repo.IsConstraint(revision) {
		sha, err = w.c.o.Repositories.Resolve(ctx, s.RepoURL, revision)
		return sha, "", err
	}
	tags, err := w.c.o.Repositories.Tags(ctx, s.RepoURL)
	if err != nil {
		return "", "", err
	}
	tag, found := repo.Newest(revision, s.TagPrefix, tags)
	if !found { // it may be the name of a branch all the same, such as "x"
		if sha, err = w.c.o.Repositories.Resolve(ctx, s.RepoURL, revision); err != nil {
			return "", "", fmt.Errorf("none of its %d tags is a version that it allows: %w", len(tags), err)
		}
		return sha, "", nil
	}
	sha, err = w.c.o.Repositories.Resolve(ctx, s.RepoURL, "refs/tags/"+tag)
	return sha, tag, err
}

// name gives what is wanted its revision.
func (x *wanted) name(spec manifest.ApplicationSpec, ignored deploy.Ignored, commits []string) error {
	revision := ""
	for _, sha := range commits {
		of := []any{x.release, x.images, spec, sha}
		if len(ignored) > 0 {
			of = append(of, ignored)
		}
		raw, err := json.Marshal(of)
		if err != nil {
			return fmt.Errorf("write revision: %w", err)
		}
		sum := sha256.Sum256(append([]byte(revision), raw...))
		revision = x.commit + "+" + hex.EncodeToString(sum[:8])
	}
	x.revision = revision
	return nil
}

// source adds the objects of one source at a commit.
func (w *worker) source(ctx context.Context, next *wanted, s manifest.ApplicationSource, commit string) error {
	ctx, cancel := context.WithTimeout(ctx, w.c.o.Timeout)
	defer cancel()
	dir, sha, release, err := w.c.o.Repositories.Checkout(ctx, s.RepoURL, commit)
	if err != nil {
		return fmt.Errorf("check out %s at %s: %w", s.RepoURL, commit, err)
	}
	defer release()
	result, err := w.c.o.Render(ctx, render.Source{Root: dir, Path: s.Path, Directory: s.Directory, Kustomize: s.Kustomize,
		Images: next.images, AppName: w.row.Name, Namespace: w.row.Spec.Destination.Namespace, Project: projectOf(w.row.Spec),
		RepoURL: s.RepoURL, TargetRevision: s.TargetRevision, Revision: sha})
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

// empty says that there is nothing to deploy; empty if there is.
func (x *wanted) empty() string {
	if len(x.objects) > 0 {
		return ""
	}
	return cmp.Or(strings.Join(x.notes, "; "), "its sources hold no object")
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
	ns := w.namespaceOf()
	if ns != nil && !hasKey(next.objects, deploy.KeyOf(ns)) {
		next.namespace = ns
	}
	if err := w.hosts(ctx, next.objects); err != nil {
		return err
	}
	if err := w.check(ctx, next); err != nil {
		return err
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

// check asks the target what it cannot do of what is wanted.
func (w *worker) check(ctx context.Context, next *wanted) error {
	ctx, cancel := context.WithTimeout(ctx, w.c.o.Timeout)
	defer cancel()
	problems, err := w.cluster.Target.Check(ctx, plan.Named(next.objects, next.commit, w.c.o.Now()), deploy.ApplyOptions{Application: w.key, For: w.subject(), Hosts: w.leaves.hosts, Ignore: w.ignored()})
	if err != nil {
		return fmt.Errorf("ask the target what it cannot do: %w", err)
	}
	var fatal []deploy.Problem
	for _, p := range problems {
		text := fmt.Sprintf("%s %s: %s", p.Key.Kind, p.Key.Name, p.Text())
		if p.Fatal {
			p.Path, p.Message = "", text
			fatal = append(fatal, p)
			continue
		}
		next.notes = append(next.notes, text)
	}
	if refusal := deploy.Refusal(fatal); refusal != "" {
		return invalid{fmt.Errorf("the target cannot run it: %s", refusal)}
	}
	return nil
}

func projectOf(s manifest.ApplicationSpec) string { return cmp.Or(s.Project, defaultProject) }

// defaultProject is the project of an Application that names none.
const defaultProject = "default"
