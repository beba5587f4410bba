package apps_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/control/apps"
	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/plan"
	"github.com/tiphys/tiphys/deploy/promote"
	"github.com/tiphys/tiphys/deploy/render"
	"github.com/tiphys/tiphys/deploy/target/local"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/keeper/front"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/script"
)

// instant is an executor whose pods run as soon as they are started and end when they are stopped.
type instant struct {
	mu      sync.Mutex
	images  map[executor.ID]string
	reports chan executor.Report
}

func (e *instant) Check(context.Context, executor.Pod) ([]executor.Problem, error) { return nil, nil }
func (e *instant) Capabilities(context.Context) (executor.Capabilities, error) {
	return executor.Capabilities{}, nil
}
func (e *instant) List(context.Context) ([]executor.Report, error) { return nil, nil }
func (e *instant) Start(_ context.Context, p executor.Pod) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.images[p.ID] = p.Pod.Spec.Containers[0].Image
	e.reports <- executor.Report{ID: p.ID, Phase: executor.Running, IP: "127.0.0.1", StartedAt: time.Now()}
	switch name, _, _ := strings.Cut(e.images[p.ID], ":"); name {
	case "ends":
		e.ended(p.ID, executor.Succeeded)
	case "fails":
		e.ended(p.ID, executor.Failed)
	}
	return nil
}

// ended has a pod end by itself; e.mu is held.
func (e *instant) ended(id executor.ID, how executor.Phase) {
	delete(e.images, id)
	e.reports <- executor.Report{ID: id, Phase: how, FinishedAt: time.Now()}
}

// end has the pods of an image succeed.
func (e *instant) end(image string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, runs := range e.images {
		if runs == image {
			e.ended(id, executor.Succeeded)
		}
	}
}
func (e *instant) Stop(_ context.Context, id executor.ID, _ time.Duration) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, runs := e.images[id]; runs {
		delete(e.images, id)
		e.reports <- executor.Report{ID: id, Phase: executor.Failed, Reason: executor.ReasonStopped, FinishedAt: time.Now()}
	}
	return nil
}
func (e *instant) Reports() <-chan executor.Report                { return e.reports }
func (e *instant) Acknowledge(context.Context, executor.ID) error { return nil }
func (e *instant) Close() error                                   { return nil }
func (e *instant) Logs(context.Context, executor.ID, string, executor.LogOptions) (io.ReadCloser, error) {
	return nil, executor.ErrNotFound
}
func (e *instant) Exec(context.Context, executor.ID, string, []string) (int, []byte, error) {
	return 0, nil, nil
}

// world is everything around the controller: Git as folders by commit, definitions and merge requests as data.
type world struct {
	t        *testing.T
	ledger   ledger.Ledger
	target   *local.Target
	executor *instant
	c        *apps.Controller
	scripts  *busy
	stop     func()

	mu        sync.Mutex
	commits   map[string]string // revision or commit to folder
	heads     map[string]string
	requests  []event.PullRequest
	forgeDown bool
	witnesses int
	// troubled are errors that the target gives instead of an application's objects, by application.
	troubled sync.Map
	// full says that the controller's ledger takes nothing.
	full atomic.Bool
	// dryRuns and checkouts count.
	dryRuns, checkouts, lists atomic.Int64
	// clusters are those beside in-cluster.
	clusters []deploy.Cluster
}

// watched is the target as the controller has it.
type watched struct {
	deploy.Target
	w *world
}

func (t watched) List(ctx context.Context, application string) ([]*unstructured.Unstructured, error) {
	if err, is := t.w.troubled.Load(application); is {
		return nil, err.(error)
	}
	defer t.w.lists.Add(1)
	return t.Target.List(ctx, application)
}

func (t watched) Apply(ctx context.Context, o *unstructured.Unstructured, opt deploy.ApplyOptions) (*unstructured.Unstructured, error) {
	if opt.DryRun {
		t.w.dryRuns.Add(1)
	}
	return t.Target.Apply(ctx, o, opt)
}

// filling is the ledger as the controller has it.
type filling struct {
	ledger.Ledger
	w *world
}

func (l filling) Write(ctx context.Context, about ledger.Scope, fn func(ledger.Tx) error) error {
	if l.w.full.Load() {
		return ledger.ErrNoSpace
	}
	return l.Ledger.Write(ctx, about, fn)
}

func newWorld(t *testing.T) *world {
	l, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "l.db"), Projections: []ledger.Projection{deploy.Projection(), definitions.Projection{}}})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, ledger: l, scripts: &busy{}, executor: &instant{images: map[executor.ID]string{}, reports: make(chan executor.Report, 1000)},
		commits: map[string]string{}, heads: map[string]string{}}
	if w.target, err = local.Open(t.Context(), local.Options{Ledger: l, Executor: w.executor, Claims: folders{}, Logs: w.executor, Commands: w.executor, Front: front.New(front.Options{})}); err != nil {
		t.Fatal(err)
	}
	w.commits["witness"] = t.TempDir()
	w.start()
	t.Cleanup(func() { w.stop(); _ = w.target.Close(); _ = l.Close() })
	return w
}

// Checkout implements apps.Repositories.
func (w *world) Checkout(_ context.Context, repo, revision string) (string, string, func(), error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.checkouts.Add(1)
	if head, ok := w.heads[revision]; ok {
		revision = head
	}
	dir, ok := w.commits[revision]
	if !ok {
		return "", "", nil, errors.New("no such revision in " + repo)
	}
	return dir, revision, func() {}, nil
}

// DefaultBranch implements apps.Repositories.
func (w *world) DefaultBranch(context.Context, string) (string, error) { return "main", nil }

// Tags implements apps.Repositories: the heads that are named as tags.
func (w *world) Tags(context.Context, string) ([]string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var tags []string
	for name := range w.heads {
		if tag, ok := strings.CutPrefix(name, "refs/tags/"); ok {
			tags = append(tags, tag)
		}
	}
	return tags, nil
}

// Resolve implements apps.Repositories.
func (w *world) Resolve(_ context.Context, repo, revision string) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if head, ok := w.heads[revision]; ok {
		revision = head
	}
	if w.commits[revision] == "" {
		return "", errors.New("no such revision in " + repo)
	}
	return revision, nil
}

// PullRequests implements apps.Forges.
func (w *world) PullRequests(context.Context, string, string, manifest.PullRequestForge) ([]event.PullRequest, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.forgeDown {
		return nil, errors.New("the forge is down")
	}
	return w.requests, nil
}

// Is implements apps.Forges: repositories are named by their URLs.
func (w *world) Is(_ context.Context, url, instance, repo string) (bool, error) {
	return instance == "" && repo == url, nil
}

// Own implements apps.Forges.
func (w *world) Own(repo string) string { return repo }

// Wakes implements apps.Forges.
func (w *world) Wakes() []string { return nil }

// URL implements apps.Front.
func (w *world) URL(host string) string { return "http://" + host + "/" }

func (w *world) start() {
	targets, err := deploy.NewTargets(podpolicy.New(), append(w.clusters, deploy.Cluster{Place: deploy.Place{Name: deploy.InCluster, Server: deploy.InClusterServer},
		Target: watched{w.target, w}, Pods: w.target})...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.c = apps.New(apps.Options{Ledger: filling{w.ledger, w}, Targets: targets, Render: render.Render, Definitions: definitions.New(w.ledger, nil, nil), Repositories: w, Forges: w, Front: w, Scripts: w.scripts})
	if err := w.c.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := w.c.Run(ctx); err != nil {
			w.t.Error(err)
		}
	}()
	w.stop = func() { cancel(); <-done }
}

// commit adds a commit with one Deployment and an Ingress, and moves HEAD to it.
func (w *world) commit(sha string, files map[string]string) {
	dir := w.t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
	w.mu.Lock()
	w.commits[sha], w.heads["HEAD"] = dir, sha
	w.mu.Unlock()
}

func deployment(name, image string) string {
	return "{apiVersion: apps/v1, kind: Deployment, metadata: {name: " + name + "}, spec: {selector: {matchLabels: {a: " + name + "}}, template: {metadata: {labels: {a: " + name + "}}, spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: " + image + "}]}}}}"
}

// define puts a definition on record, whatever is in it: a release before may have taken what this one would not.
func (w *world) define(text string) {
	var head struct {
		Kind     string
		Metadata struct{ Name, Namespace string }
	}
	raw, err := yaml.YAMLToJSON([]byte(text))
	if err == nil {
		err = json.Unmarshal(raw, &head)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	if head.Metadata.Namespace == "" {
		head.Metadata.Namespace = "default"
	}
	d := definitions.Definition{Kind: head.Kind, Namespace: head.Metadata.Namespace, Name: head.Metadata.Name, Origin: "api", Digest: string(raw), Object: raw}
	w.append(ledger.Draft{Actor: "user:ada", Kind: "definition.set", Subject: "definition/" + d.Key(), Body: d})
}

// undefine deletes a definition of the namespace default.
func (w *world) undefine(kind, name string) {
	w.append(ledger.Draft{Actor: "user:ada", Kind: "definition.deleted", Subject: "definition/" + kind + "/default/" + name})
}

func (w *world) append(d ledger.Draft) {
	w.t.Helper()
	if err := w.ledger.Write(w.t.Context(), ledger.Anyone(d.Subject), func(tx ledger.Tx) error {
		_, err := tx.Append(d)
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) release(r deploy.Release) ledger.Entry {
	r.Namespace = "default"
	if r.Name == "" {
		r.Name = "harbour"
	}
	if r.Repo == "" {
		r.Repo = "harbour"
	}
	var e ledger.Ref
	if err := w.ledger.Write(w.t.Context(), ledger.On("release/default/"+promote.Key(r)), func(tx ledger.Tx) (err error) {
		e, err = tx.Append(ledger.Draft{Actor: "run", Kind: deploy.KindReleaseRecorded, Subject: "release/default/" + promote.Key(r), Body: r})
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
	made, err := w.ledger.Entry(w.t.Context(), e.Seq())
	if err != nil {
		w.t.Fatal(err)
	}
	return made
}

func (w *world) app(name string) deploy.ApplicationRow {
	var a deploy.ApplicationRow
	row, err := w.ledger.Row(w.t.Context(), deploy.TableApplication, "default/"+name)
	if err == nil {
		err = json.Unmarshal(row.Body, &a)
	}
	if err != nil && !errors.Is(err, ledger.ErrNotFound) {
		w.t.Fatal(err)
	}
	return a
}

func (w *world) await(what string, is func() bool) {
	w.t.Helper()
	w.awaitFor(30*time.Second, what, is) // a machine may be busy with other tests
}

func (w *world) awaitFor(patience time.Duration, what string, is func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		changed := w.ledger.Changed()
		if is() {
			return
		}
		select {
		case <-changed:
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			raw, _ := json.MarshalIndent(w.app("prod"), "", " ")
			w.t.Fatalf("waited in vain: %s\n%s", what, raw)
		}
	}
}

// live are the objects of the Application prod.
func (w *world) live() []*unstructured.Unstructured {
	list, err := w.target.List(w.t.Context(), "default/prod")
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

func (w *world) images() string { return w.executor.text() }

// text lists the images that run.
func (e *instant) text() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Join(slices.Sorted(maps.Values(e.images)), " ")
}

// object is a ConfigMap of the namespace prod.
func object(name, value string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": name, "namespace": "prod"}, "data": map[string]any{"key": value}}}
}

const prod = `
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: prod, finalizers: [resources-finalizer.argocd.argoproj.io]%s}
spec:
  destination: {namespace: prod}
  source: {repoURL: harbour, path: .}
  syncPolicy: {automated: {prune: true, selfHeal: true}, syncOptions: [CreateNamespace=true]}
`

func application(annotations string) string { return strings.Replace(prod, "%s", annotations, 1) }

func (w *world) history() []string {
	rows, err := w.ledger.List(w.t.Context(), ledger.Query{Table: deploy.TableDeployment, Oldest: true})
	if err != nil {
		w.t.Fatal(err)
	}
	var lines []string
	for _, row := range rows {
		var d deploy.Deployment
		if err := json.Unmarshal(row.Body, &d); err != nil {
			w.t.Fatal(err)
		}
		line := d.Application + " " + d.Commit
		if !d.Until.IsZero() {
			line += " past"
		}
		if d.Deleted {
			line += " deleted"
		}
		lines = append(lines, strings.TrimSpace(line))
	}
	return lines
}

func TestFollowsGit(t *testing.T) {
	w := newWorld(t)
	w.commit("c1", map[string]string{"a.yaml": deployment("api", "api:1"), "b.yaml": deployment("web", "web:1"),
		"i.yaml": "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: i}, spec: {rules: [{host: prod.localhost}]}}"})
	w.define(application(""))
	w.await("first sync", func() bool {
		a := w.app("prod")
		return a.Sync == plan.Synced && a.Health.Status == "Healthy" && w.images() == "api:1 web:1" && a.Revision == "c1"
	})
	if diff := cmp.Diff([]string{"http://prod.localhost/"}, w.app("prod").URLs); diff != "" {
		t.Error(diff)
	}
	// A push: one changes, one goes.
	w.commit("c2", map[string]string{"a.yaml": deployment("api", "api:2")})
	w.c.Refresh("default/prod")
	w.await("second sync", func() bool { return w.app("prod").Revision == "c2" && w.images() == "api:2" })
	// Drift heals.
	if err := w.target.Delete(t.Context(), deploy.Key{Group: "apps", Kind: "Deployment", Namespace: "prod", Name: "api"}, deploy.ApplyOptions{}); err != nil {
		t.Fatal(err)
	}
	w.await("drift is seen", func() bool { return w.app("prod").Sync == plan.OutOfSync })
	// A push that cannot be rendered is said, and what runs goes on.
	w.commit("c3", map[string]string{"a.yaml": "{apiVersion: v1, metadata: {name: x}, kind: ["})
	w.c.Refresh("default/prod")
	w.await("the error", func() bool { return strings.Contains(w.app("prod").Message, "a.yaml:1") })
	w.commit("c4", map[string]string{"a.yaml": "{apiVersion: example.org/v1, kind: Widget, metadata: {name: x}}"})
	w.c.Refresh("default/prod")
	w.await("the refusal", func() bool { return strings.Contains(w.app("prod").Message, "Widget: not on this machine yet") })
	// The same definition after a restart of the controller, and then its end.
	w.commit("c5", map[string]string{"a.yaml": deployment("api", "api:5")})
	w.stop()
	w.start()
	w.await("sync after the restart", func() bool { return w.app("prod").Revision == "c5" && w.images() == "api:5" })
	w.undefine("Application", "prod")
	w.await("the end", func() bool { return w.app("prod").Name == "" && w.images() == "" })
	if diff := cmp.Diff([]string{"default/prod c1 past", "default/prod c2 past", "default/prod c5 past deleted"}, w.history()); diff != "" {
		t.Error(diff)
	}
}

func TestReleasesPreviewsAndRollback(t *testing.T) {
	w := newWorld(t)
	files := map[string]string{"a.yaml": deployment("api", "harbour/api"), "b.yaml": deployment("web", "harbour/web")}
	w.commit("c1", files)
	// Releases of that name from another repository, and from one of the same name on another forge, are not this Application's.
	w.release(deploy.Release{Number: 100, Branch: "main", Commit: "c1", Repo: "other", Images: map[string]string{"api": "other/api@sha256:6", "web": "other/web@sha256:6"}})
	w.release(deploy.Release{Number: 101, Branch: "main", Commit: "c1", Forge: "default/lab", Images: map[string]string{"api": "lab/api@sha256:6", "web": "lab/web@sha256:6"}})
	w.define(application(", annotations: {tiphys.dev/release: harbour}"))
	w.await("waiting", func() bool { return strings.Contains(w.app("prod").Message, "no release harbour") })
	first := w.release(deploy.Release{Number: 1, Branch: "main", Commit: "c1", Images: map[string]string{"api": "harbour/api@sha256:1", "web": "harbour/web@sha256:1"}})
	w.await("release 1", func() bool {
		return w.app("prod").Release == "harbour#1" && w.images() == "harbour/api@sha256:1 harbour/web@sha256:1"
	})
	// The trail: release -> sync -> object -> pod.
	var kinds []string
	for cause := first.Seq; ; {
		entries, err := w.ledger.Entries(t.Context(), ledger.EntryQuery{Cause: cause, Limit: 200})
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, e := range entries {
			if e.Kind == deploy.KindSyncStarted || (e.Kind == deploy.KindObjectApplied && strings.HasPrefix(e.Subject, "object/apps/Deployment")) || e.Kind == deploy.KindObjectCreated {
				kinds, cause, found = append(kinds, e.Kind+" "+strings.SplitN(e.Subject, ":", 2)[0]), e.Seq, true
				break
			}
		}
		if !found {
			break
		}
	}
	if diff := cmp.Diff([]string{"sync.started application/default/prod", "object.applied object/apps/Deployment", "object.created object/apps/ReplicaSet"}, kinds[:min(3, len(kinds))]); diff != "" {
		t.Error(diff)
	}
	// A preview of a merge request: its api, the release's web.
	w.commit("m1", files)
	w.requests = []event.PullRequest{{Number: 1, HeadSHA: "m1", TargetBranch: "main", Labels: []string{"deploy:api"}}}
	w.define(`
apiVersion: argoproj.io/v1alpha1
kind: ApplicationSet
metadata: {name: previews, annotations: {tiphys.dev/release: harbour, "tiphys.dev/services": "label:deploy:"}}
spec:
  generators: [{pullRequest: {tiphys: {repo: harbour}}}]
  template:
    metadata: {name: 'mr-{{number}}'}
    spec:
      destination: {namespace: 'mr-{{number}}'}
      source: {repoURL: harbour, path: ., targetRevision: '{{head_sha}}'}
      syncPolicy: {automated: {prune: true}, syncOptions: [CreateNamespace=true]}
`)
	w.await("preview waits for its build", func() bool { return strings.Contains(w.app("mr-1").Message, "has not been built yet") })
	w.release(deploy.Release{Number: 2, MR: 1, Branch: "topic", Commit: "m1", Images: map[string]string{"api": "harbour/api@sha256:m1"}})
	w.await("preview", func() bool {
		return w.app("mr-1").Release == "harbour#2 on harbour#1" && w.app("mr-1").Health.Status == "Healthy" &&
			w.images() == "harbour/api@sha256:1 harbour/api@sha256:m1 harbour/web@sha256:1 harbour/web@sha256:1"
	})
	// A forge that is down closes nothing; a merge does, and leaves nothing.
	w.mu.Lock()
	w.forgeDown = true
	w.mu.Unlock()
	w.c.Refresh("")
	w.release(deploy.Release{Number: 3, Branch: "main", Commit: "c1", Images: map[string]string{"api": "harbour/api@sha256:3", "web": "harbour/web@sha256:1"}})
	w.await("release 3", func() bool { return w.app("prod").Release == "harbour#3" })
	if w.app("mr-1").Deleting || w.app("mr-1").Name == "" {
		t.Error("the preview went because the forge was down")
	}
	w.mu.Lock()
	w.forgeDown, w.requests = false, nil
	w.mu.Unlock()
	w.c.Refresh("")
	w.await("preview is gone", func() bool {
		left, _ := w.target.List(t.Context(), "default/mr-1")
		return w.app("mr-1").Name == "" && len(left) == 0 && w.images() == "harbour/api@sha256:3 harbour/web@sha256:1"
	})
	// Roll back, stay there, and come back.
	if err := w.c.Rollback(t.Context(), "default/prod", "harbour#2", "user:ada"); err == nil || !strings.Contains(err.Error(), "does not accept") {
		t.Errorf("a merge request's release went to production: %v", err)
	}
	if err := w.c.Rollback(t.Context(), "default/prod", "harbour#1", "user:ada"); err != nil {
		t.Fatal(err)
	}
	w.await("rollback", func() bool {
		return w.app("prod").Release == "harbour#1" && w.images() == "harbour/api@sha256:1 harbour/web@sha256:1"
	})
	if err := w.c.Rollback(t.Context(), "default/prod", "", "user:ada"); err != nil {
		t.Fatal(err)
	}
	w.await("newest again", func() bool { return w.app("prod").Release == "harbour#3" })
	if err := w.c.Sync(t.Context(), "default/nobody", apps.SyncRequest{}); !errors.Is(err, apps.ErrNotFound) {
		t.Error(err)
	}
}

// A project is asked before anything is applied, the default one too once it is declared; its refusal says what to write, and what
// runs goes on.
func TestProjectIsAskedBeforeAnythingIsApplied(t *testing.T) {
	w := newWorld(t)
	w.commit("c1", map[string]string{"a.yaml": deployment("web", "web:1"), "b.yaml": "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}"})
	project := func(spec string) {
		w.define("{apiVersion: argoproj.io/v1alpha1, kind: AppProject, metadata: {name: default}, spec: {sourceRepos: ['*'], destinations: [{server: '*', namespace: '*'}], " + spec + "}}")
	}
	refused := func(want string) {
		t.Helper()
		w.await("it is refused: "+want, func() bool { return strings.Contains(w.app("prod").Message, want) })
	}
	project("namespaceResourceBlacklist: [{group: '', kind: ConfigMap}]")
	w.define(application(""))
	refused("Namespace prod: a kind without namespace has to be in spec.clusterResourceWhitelist; ConfigMap x: spec.namespaceResourceBlacklist denies it")
	if got := w.images(); got != "" {
		t.Errorf("something was deployed: %s", got)
	}
	project("clusterResourceWhitelist: [{group: '*', kind: Namespace}]")
	w.await("it is deployed", func() bool { return w.images() == "web:1" && w.app("prod").Sync == "Synced" })
	w.define("{apiVersion: argoproj.io/v1alpha1, kind: AppProject, metadata: {name: default}, spec: {sourceRepos: ['!harbour', '*'], destinations: [{server: '*', namespace: '*'}]}}")
	refused("does not allow the repository harbour")
	w.commit("c2", map[string]string{"a.yaml": deployment("web", "web:2")})
	w.c.Refresh("")
	refused("does not allow the repository harbour")
	if got := w.images(); got != "web:1" {
		t.Errorf("what ran goes on: %s", got)
	}
	w.define("{apiVersion: argoproj.io/v1alpha1, kind: AppProject, metadata: {name: team}, spec: {sourceRepos: ['*'], destinations: [{name: in-cluster, namespace: test}]}}")
	w.define(strings.Replace(application(""), "destination:", "project: team\n  destination:", 1))
	refused(`project team does not allow the destination https://kubernetes.default.svc, namespace "prod"`)
	w.define("{apiVersion: argoproj.io/v1alpha1, kind: AppProject, metadata: {namespace: elsewhere, name: far}, spec: {sourceRepos: ['*'], destinations: [{server: '*', namespace: '*'}]}}")
	w.define(strings.Replace(application(""), "destination:", "project: far\n  destination:", 1))
	refused(`project far is declared in namespace "elsewhere" and takes no Applications of namespace "default"`)
	w.define(strings.Replace(application(""), "destination:", "project: none\n  destination:", 1))
	refused(`there is no AppProject "none"`)
}

// An operation in the definition is one sync, with its options and by whom it names (Argo CD's documents, "sync using
// kubectl": the top-level field operation). Nothing follows by itself where there is no automated policy.
func TestOperationOfTheDefinition(t *testing.T) {
	w := newWorld(t)
	w.commit("c1", map[string]string{"a.yaml": deployment("web", "web:1"), "b.yaml": deployment("old", "old:1")})
	manual := strings.Replace(application(""), "automated: {prune: true, selfHeal: true}, ", "", 1)
	asks := func(operation string) { w.define(manual + "operation: " + operation + "\n") }
	w.define(manual)
	w.await("it is compared", func() bool { return w.app("prod").Sync == "OutOfSync" })
	asks("{initiatedBy: {username: ada}, sync: {syncStrategy: {hook: {}}}}")
	w.await("it is synced", func() bool { return w.images() == "old:1 web:1" && w.app("prod").Sync == "Synced" })
	if got := w.app("prod").Requested; len(got) > 0 {
		t.Errorf("it is still asked for: %s", got)
	}
	syncs := func() (n int, actors []string) {
		entries, err := w.ledger.Entries(t.Context(), ledger.EntryQuery{Kinds: []string{deploy.KindSyncStarted}, Bare: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			actors = append(actors, e.Actor)
		}
		return len(entries), actors
	}
	if n, actors := syncs(); n != 1 || actors[0] != "user:ada (unverified)" {
		t.Errorf("%d syncs by %v", n, actors)
	}
	// A new commit and a restart ask for nothing.
	w.commit("c2", map[string]string{"a.yaml": deployment("web", "web:2")})
	w.stop()
	w.start()
	w.await("the new commit is seen", func() bool { return w.app("prod").Sync == "OutOfSync" && w.app("prod").Target == "c2" })
	if n, _ := syncs(); n != 1 {
		t.Errorf("there are %d syncs", n)
	}
	asks("{sync: {prune: true}}")
	w.await("what is no more wanted goes", func() bool { return w.images() == "web:2" && w.app("prod").Sync == "Synced" })
	if n, _ := syncs(); n != 2 {
		t.Errorf("there are %d syncs", n)
	}
}

// A sync that somebody asked for goes on after a restart as it was asked for: theirs, and with what they chose.
func TestRestartWithinASyncThatWasAskedFor(t *testing.T) {
	w := newWorld(t)
	w.commit("c1", map[string]string{"a.yaml": deployment("web", "web:1"), "b.yaml": deployment("old", "old:1")})
	w.define(strings.Replace(application(""), "automated: {prune: true, selfHeal: true}, ", "", 1))
	w.await("it is compared", func() bool { return w.app("prod").Sync == "OutOfSync" })
	ask := func(r apps.SyncRequest) {
		t.Helper()
		if err := w.c.Sync(t.Context(), "default/prod", r); err != nil {
			t.Fatal(err)
		}
	}
	ask(apps.SyncRequest{Actor: "user:grace"})
	w.await("it is synced", func() bool {
		return w.images() == "old:1 web:1" && w.app("prod").Sync == "Synced" && w.app("prod").Asked == nil
	})
	rule := func(text string) {
		w.define("{apiVersion: v1, kind: ConfigMap, metadata: {name: argocd-cm}, data: {resource.customizations.health.apps_Deployment: '" + text + "'}}")
	}
	rule(`return {status = "Progressing"}`) // so that the sync waits
	w.await("it is judged by the rule", func() bool { return w.app("prod").Health.Status == "Progressing" })
	w.commit("c2", map[string]string{"a.yaml": deployment("web", "web:2")})
	ask(apps.SyncRequest{Actor: "user:ada", Prune: true})
	w.await("it is in the middle", func() bool { return strings.Contains(w.images(), "web:2") })
	w.stop()
	want := &apps.SyncRequest{Actor: "user:ada", Prune: true}
	if diff := cmp.Diff(want, w.app("prod").Asked); diff != "" {
		t.Errorf("what was asked for is not on record: %s", diff)
	}
	w.start()
	rule("")
	w.await("it ends as it was asked for", func() bool {
		return w.images() == "web:2" && w.app("prod").Sync == "Synced" && w.app("prod").Asked == nil
	})
	ends, err := w.ledger.Entries(t.Context(), ledger.EntryQuery{Kinds: []string{deploy.KindSyncFinished}, Newest: true, Limit: 1, Bare: true})
	if err != nil || len(ends) != 1 || ends[0].Actor != "user:ada" {
		t.Errorf("it ended as %v, %v", ends, err)
	}
}

// The ConfigMap argocd-cm says how kinds are judged, before the built-in rules, and counts at once when it changes.
func TestHealthByTheOperatorsRules(t *testing.T) {
	w := newWorld(t)
	w.commit("c1", map[string]string{"a.yaml": deployment("web", "web:1")})
	w.define(application(""))
	healthy := func() bool { return w.app("prod").Health.Status == "Healthy" }
	w.await("it is healthy by the built-in rules", healthy)
	rule := func(script string) {
		w.define("{apiVersion: v1, kind: ConfigMap, metadata: {name: argocd-cm}, data: {resource.customizations.health.apps_Deployment: '" + script + "'}}")
	}
	rule(`return {status = "Degraded", message = obj.metadata.name .. " is out of date"}`)
	w.await("it is judged by the rule", func() bool {
		return w.app("prod").Health == deploy.Health{Status: "Degraded", Message: "Deployment web: web is out of date"}
	})
	rule(`while true do end`)
	w.await("a rule that does not end is told of", func() bool {
		h := w.app("prod").Health
		return h.Status == "Unknown" && strings.Contains(h.Message, "took more steps")
	})
	rule("")
	w.await("without a rule it is as before", healthy)
}

// busy runs scripts in this process, unless the machine is said to be too busy, and counts them.
type busy struct {
	ran  atomic.Int64
	full atomic.Bool
}

func (b *busy) Health(ctx context.Context, program string, object []byte) ([]byte, error) {
	if b.full.Load() {
		return nil, failure.Errorf(failure.RetryAfter, "no process could be started")
	}
	b.ran.Add(1)
	return script.Interpreter{}.Health(ctx, program, object)
}

// What keeps a script from being run says nothing about the object: the health stays as it was, and the reason is told.
func TestHealthStaysWhileNoScriptCanBeRun(t *testing.T) {
	w := newWorld(t)
	w.commit("c1", map[string]string{"a.yaml": deployment("web", "web:1")})
	w.define(application(""))
	rule := func(script string) {
		w.define("{apiVersion: v1, kind: ConfigMap, metadata: {name: argocd-cm}, data: {resource.customizations.health.apps_Deployment: '" + script + "'}}")
	}
	rule(`return {status = "Suspended"}`)
	w.await("it is judged by the rule", func() bool { return w.app("prod").Health.Status == "Suspended" })
	w.scripts.full.Store(true)
	rule(`return {status = "Healthy"}`)
	w.await("the reason is told", func() bool { return strings.Contains(w.c.Health().Reason, "no process could be started") })
	if h := w.app("prod").Health; h != (deploy.Health{Status: "Suspended"}) {
		t.Errorf("the health has become %+v", h)
	}
	rules, err := w.c.Judging(t.Context(), w.live())
	if failure.KindOf(err) != failure.RetryAfter {
		t.Error(err)
	}
	for _, o := range w.live() {
		if h, _ := rules.Of(o); o.GetKind() == "Deployment" && (h.Status != "Unknown" || !strings.Contains(h.Message, "no process could be started")) {
			t.Errorf("%s: %+v", o.GetName(), h)
		}
	}
	w.scripts.full.Store(false)
	w.await("it is judged again", func() bool { return w.app("prod").Health.Status == "Healthy" && w.c.Health().Reason == "" })
	ran := w.scripts.ran.Load()
	for range 10 {
		if _, err := w.c.Judging(t.Context(), w.live()); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.scripts.ran.Load() - ran; n != 0 {
		t.Errorf("the same script was run %d times on the same object", n)
	}
}
