package apps_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/control/apps"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/plan"
	"github.com/tiphys/tiphys/deploy/target/local"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/keeper/front"
)

// A look at an Application of which nothing has changed asks the target for no dry run and Git for no checkout; a change of one
// object asks for that one.
func TestIdleLooksAskForNothing(t *testing.T) {
	const objects = 1000
	w := newWorld(t)
	var text strings.Builder
	for i := range objects {
		fmt.Fprintf(&text, "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: c%d}, data: {key: '1'}}\n", i)
	}
	w.commit("c1", map[string]string{"a.yaml": text.String()})
	w.define(application(""))
	w.awaitFor(time.Minute, "it is deployed", func() bool { return w.app("prod").Sync == plan.Synced && w.app("prod").Revision == "c1" })
	// Whatever the last steps of the sync asked for has been asked for by a look after it.
	w.looked("default/prod")
	before, checkouts := w.dryRuns.Load(), w.checkouts.Load()
	for range 5 {
		w.looked("default/prod")
	}
	if n := w.dryRuns.Load() - before; n != 0 {
		t.Errorf("5 looks at %d objects made %d dry runs", objects, n)
	}
	if n := w.checkouts.Load() - checkouts; n != 0 {
		t.Errorf("5 looks made %d checkouts", n)
	}
	if _, err := w.target.Apply(t.Context(), object("c7", "2"), deploy.ApplyOptions{Application: "default/prod"}); err != nil {
		t.Fatal(err)
	}
	w.looked("default/prod")
	w.await("the drift heals or waits to", func() bool { return w.app("prod").Sync == plan.OutOfSync || w.dryRuns.Load() > before+1 })
	if n := w.dryRuns.Load() - before; n < 1 || n > 3 {
		t.Errorf("a change of one object made %d dry runs", n)
	}
}

// looked has an Application looked at and waits until it was: an order is handled after what was sent before.
func (w *world) looked(key string) {
	w.t.Helper()
	before := w.lists.Load()
	w.c.Refresh(key)
	w.await("it is looked at", func() bool { return w.lists.Load() > before })
}

// A second Application that wants what another has is told whose it is, and so is everybody who looks; it gets it by the sync option
// Force=true of its own, or when the owner is gone.
func TestSecondOwner(t *testing.T) {
	w := newWorld(t)
	w.commit("c1", map[string]string{"a.yaml": "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, annotations: {argocd.argoproj.io/sync-options: Force=true}}, data: {key: '%'}}"})
	plain := strings.Replace(application(""), ", syncOptions: [CreateNamespace=true]", "", 1)
	w.define(plain)
	w.await("the first has it", func() bool { return w.app("prod").Sync == plan.Synced })
	second := strings.Replace(plain, "name: prod,", "name: second,", 1)
	w.define(second)
	w.await("the second is told", func() bool {
		return strings.Contains(w.app("second").Conditions.Message(deploy.ConditionShared), `belongs to the application "default/prod"`)
	})
	if got := w.owner("c"); got != "default/prod" {
		t.Fatalf("it belongs to %s", got)
	}
	w.define(strings.Replace(second, "selfHeal: true}", "selfHeal: true}, syncOptions: [Force=true]", 1))
	w.await("it takes it over", func() bool { return w.owner("c") == "default/second" })
	w.await("the first is told", func() bool {
		return strings.Contains(w.app("prod").Conditions.Message(deploy.ConditionShared), `belongs to the application "default/second"`)
	})
	// Not from another project.
	w.define("{apiVersion: argoproj.io/v1alpha1, kind: AppProject, metadata: {name: team}, spec: {sourceRepos: ['*'], destinations: [{server: '*', namespace: '*'}]}}")
	third := strings.Replace(strings.Replace(plain, "name: prod,", "name: third,", 1), "selfHeal: true}", "selfHeal: true}, syncOptions: [Force=true]", 1)
	w.define(strings.Replace(third, "destination:", "project: team\n  destination:", 1))
	w.await("another project is told", func() bool {
		return strings.Contains(w.app("third").Conditions.Message(deploy.ConditionShared), `belongs to the application "default/second"`)
	})
	w.undefine("Application", "third")
	w.await("it is gone", func() bool { return w.app("third").Name == "" })
	// Without the finalizer the objects stay, for whoever wants them next.
	w.define(strings.Replace(second, ", finalizers: [resources-finalizer.argocd.argoproj.io]", "", 1))
	w.await("it keeps nothing at its end", func() bool { return len(w.app("second").Finalizers) == 0 })
	w.undefine("Application", "second")
	w.await("the first has it again", func() bool {
		return w.owner("c") == "default/prod" && w.app("prod").Sync == plan.Synced && w.app("prod").Conditions == nil
	})
}

// owner is who has a ConfigMap of the namespace prod; empty if it is not there.
func (w *world) owner(name string) string {
	w.t.Helper()
	list, err := w.target.List(w.t.Context(), "")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, o := range list {
		if o.GetKind() == "ConfigMap" && o.GetName() == name {
			owner, _, _ := strings.Cut(o.GetAnnotations()["argocd.argoproj.io/tracking-id"], ":")
			return owner
		}
	}
	return ""
}

// An Application runs on the cluster that its destination names. What it leaves behind where it ran before is told, and goes with it.
func TestDestination(t *testing.T) {
	w := newWorld(t)
	far := &instant{images: map[executor.ID]string{}, reports: make(chan executor.Report, 1000)}
	target, err := local.Open(t.Context(), local.Options{Ledger: w.ledger, Cluster: "far", Executor: far, Logs: far, Commands: far, Front: front.New(front.Options{})})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = target.Close() })
	w.stop()
	w.clusters = append(w.clusters, deploy.Cluster{Place: deploy.Place{Name: "far", Server: "https://far.example.org"}, Target: target, Pods: target})
	w.start()
	w.commit("c1", map[string]string{"a.yaml": deployment("web", "web:1")})
	at := func(destination string) string {
		return strings.Replace(application(""), "destination: {", "destination: {"+destination, 1)
	}
	w.define(at("name: far, "))
	w.await("it runs far away", func() bool { return far.text() == "web:1" && w.app("prod").Sync == plan.Synced })
	if w.images() != "" || w.app("prod").Cluster != "far" {
		t.Errorf("here runs %q; it is on %q", w.images(), w.app("prod").Cluster)
	}
	w.define(at("server: 'https://elsewhere.example.org', "))
	w.await("an unknown destination is refused", func() bool {
		return strings.Contains(w.app("prod").Conditions.Message(deploy.ConditionInvalidSpec), "this server deploys to far (https://far.example.org), in-cluster (https://kubernetes.default.svc)")
	})
	if far.text() != "web:1" {
		t.Errorf("far away runs %q", far.text())
	}
	w.define(at("server: 'https://kubernetes.default.svc', "))
	w.await("it runs here", func() bool { return w.images() == "web:1" && w.app("prod").Sync == plan.Synced })
	if got := strings.Join(w.app("prod").Problems, " "); far.text() != "web:1" || !strings.Contains(got, "objects of it are left on the cluster far") {
		t.Errorf("far away runs %q, and it says %q", far.text(), got)
	}
	if diff := cmp.Diff([]string{"far"}, w.app("prod").Left); diff != "" {
		t.Error(diff)
	}
	w.undefine("Application", "prod")
	w.await("it goes from both", func() bool { return w.images() == "" && far.text() == "" && w.app("prod").Name == "" })
	if err := w.c.Sync(t.Context(), "default/prod", apps.SyncRequest{}); err == nil {
		t.Error("it can be synced still")
	}
}

// A source without any object does not look like success: it says what it was that held none, until there is one.
func TestSourceWithoutObjects(t *testing.T) {
	w := newWorld(t)
	w.commit("c1", map[string]string{"values.yaml": "image: x"})
	w.define(application(""))
	w.await("it says so", func() bool {
		said := w.app("prod").Conditions.Message(deploy.ConditionEmpty)
		return strings.Contains(said, "values.yaml:1:1: the file is no resource") && strings.Contains(said, "holds no object")
	})
	w.commit("c2", map[string]string{"values.yaml": "image: x", "a.yaml": deployment("api", "api:1")})
	w.c.Refresh("")
	w.await("it is over", func() bool { return w.images() == "api:1" && w.app("prod").Conditions == nil })
	if said := strings.Join(w.app("prod").Problems, " "); !strings.Contains(said, "values.yaml:1:1: the file is no resource") {
		t.Error("the file that is passed over is not named: " + said)
	}
}

// Of several versions the highest that is allowed runs, whose tag and commit are shown, and the next one when it is there.
func TestNewestVersionRuns(t *testing.T) {
	w := newWorld(t)
	for _, tag := range []string{"v1.0.0", "v1.9.0", "v1.10.0", "v2.0.0"} {
		w.commit("c-"+tag, map[string]string{"a.yaml": deployment("api", "api:"+tag)})
		w.mu.Lock()
		w.heads["refs/tags/"+tag] = "c-" + tag
		w.mu.Unlock()
	}
	w.define(strings.Replace(application(""), "path: .", "path: ., targetRevision: '>=1 <2'", 1))
	w.await("it runs", func() bool {
		a := w.app("prod")
		return w.images() == "api:v1.10.0" && a.Revision == "c-v1.10.0"
	})
	w.commit("c-v1.11.0", map[string]string{"a.yaml": deployment("api", "api:v1.11.0")})
	w.mu.Lock()
	w.heads["refs/tags/v1.11.0"] = "c-v1.11.0"
	w.mu.Unlock()
	w.c.Refresh("")
	w.await("the next runs", func() bool { return w.images() == "api:v1.11.0" })
	w.define(strings.Replace(application(""), "path: .", "path: ., targetRevision: '>=9'", 1))
	w.await("it says that there is none", func() bool {
		return strings.Contains(w.app("prod").Conditions.Message(deploy.ConditionComparison), "none of its 5 tags is a version that it allows")
	})
}

// One merge request with a bad name costs only its own preview, and the set names it.
func TestFaultOfOneElement(t *testing.T) {
	w := newWorld(t)
	w.commit("m1", map[string]string{"a.yaml": deployment("api", "api:m1")})
	w.commit("m2", map[string]string{"a.yaml": deployment("api", "api:m2")})
	w.requests = []event.PullRequest{{Number: 1, HeadSHA: "m1", SourceBranch: "good", TargetBranch: "main"}, {Number: 2, HeadSHA: "m2", SourceBranch: "Bad_one", TargetBranch: "main"}}
	w.define(strings.Replace(strings.Replace(previews, "%s", "", 1), "mr-{{number}}", "mr-{{branch}}", 1))
	w.await("the good one runs", func() bool { return w.images() == "api:m1" })
	w.await("the bad one is named", func() bool {
		said := w.set("previews").Conditions.Message(deploy.ConditionErrorOccurred)
		return strings.Contains(said, "merge request 2") && strings.Contains(said, "mr-Bad_one")
	})
	w.mu.Lock()
	w.requests = w.requests[:1]
	w.mu.Unlock()
	w.c.Refresh("")
	w.await("it is forgotten", func() bool { return w.set("previews").Conditions == nil })
}
