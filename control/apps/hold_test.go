package apps_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/control"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/plan"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/ledger"
)

// What an edit that cannot be read did to an Application: its objects stay as they are, it says why, and it goes on when it can be
// read again. Only a deletion that is on record deletes.
func TestUnreadableApplicationKeepsItsObjects(t *testing.T) {
	w := newWorld(t)
	w.commit("c1", map[string]string{"a.yaml": deployment("web", "web:1")})
	w.define(application(""))
	w.await("it runs", func() bool { return w.images() == "web:1" && w.app("prod").Sync == plan.Synced })
	w.define(strings.Replace(application(""), "prune: true", "prune: '{{x}}'", 1))
	w.witness("after an edit that cannot be read")
	if got := w.images(); got != "web:1" || w.app("prod").Deleting || w.app("prod").Name == "" {
		t.Fatalf("it was destroyed: it runs %q, %+v", got, w.app("prod"))
	}
	w.await("it says why", func() bool {
		return strings.Contains(w.app("prod").Conditions.Message(deploy.ConditionInvalidSpec), "cannot be read")
	})
	// Nothing new is deployed by a definition that somebody tried to change, and a restart changes nothing about that.
	w.commit("c2", map[string]string{"a.yaml": deployment("web", "web:2")})
	w.stop()
	w.start()
	w.witness("after a restart")
	if got := w.images(); got != "web:1" {
		t.Fatalf("it runs %q", got)
	}
	if err := w.c.Sync(t.Context(), "default/prod", deploy.SyncRequest{Actor: "user:ada"}); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("it was synced: %v", err)
	}
	w.define(application(", annotations: {a: b}"))
	w.await("it goes on", func() bool { return w.images() == "web:2" && w.app("prod").Conditions == nil })
	w.define(strings.Replace(application(""), "prune: true", "prune: '{{x}}'", 1))
	w.undefine("Application", "prod")
	w.await("it goes when it is deleted", func() bool { return w.app("prod").Name == "" && w.images() == "" })
}

// witness has another Application deployed from its beginning, so that whatever was to be done before has been done.
func (w *world) witness(what string) {
	w.t.Helper()
	w.witnesses++
	name := "witness-" + string(rune('a'+w.witnesses))
	w.define("{apiVersion: argoproj.io/v1alpha1, kind: Application, metadata: {name: " + name + "}, spec: {destination: {namespace: " + name +
		"}, source: {repoURL: witness, path: ., targetRevision: witness}, syncPolicy: {automated: {}}}}")
	w.await(what+" another application is deployed", func() bool { return w.app(name).Sync == plan.Synced })
}

// One that cannot be read from the beginning is seen, and can be deleted.
func TestUnreadableFromTheBeginning(t *testing.T) {
	w := newWorld(t)
	w.define(strings.Replace(application(""), "prune: true", "prune: '{{x}}'", 1))
	w.await("it is seen", func() bool {
		return strings.Contains(w.app("prod").Conditions.Message(deploy.ConditionInvalidSpec), "cannot be read")
	})
	w.undefine("Application", "prod")
	w.await("it goes", func() bool { return w.app("prod").Name == "" })
}

// A row that is lost is no deletion: the entries say what was deleted.
func TestOnlyAnEntryDeletes(t *testing.T) {
	w := newWorld(t)
	w.commit("c1", map[string]string{"a.yaml": deployment("web", "web:1")})
	w.define(application(""))
	w.await("it runs", func() bool { return w.images() == "web:1" && w.app("prod").Sync == plan.Synced })
	if err := w.ledger.Write(t.Context(), ledger.Anyone("definition/Application/default/prod"), func(tx ledger.Tx) error { return tx.Delete("definition", "Application/default/prod") }); err != nil {
		t.Fatal(err)
	}
	w.c.Refresh("")
	w.witness("after its definition was lost")
	if got := w.images(); got != "web:1" || w.app("prod").Deleting || w.app("prod").Name == "" {
		t.Fatalf("it was destroyed: it runs %q, %+v", got, w.app("prod"))
	}
	w.await("it says why", func() bool {
		return strings.Contains(w.app("prod").Conditions.Message(deploy.ConditionInvalidSpec), "no entry tells that it was deleted")
	})
	if got := w.images(); got != "web:1" {
		t.Fatalf("it runs %q", got)
	}
}

const previews = `
apiVersion: argoproj.io/v1alpha1
kind: ApplicationSet
metadata: {name: previews}
spec:
  generators: [{pullRequest: {tiphys: {repo: harbour}%s}}]
  template:
    metadata: {name: 'mr-{{number}}'}
    spec:
      destination: {namespace: 'mr-{{number}}'}
      source: {repoURL: harbour, path: ., targetRevision: '{{head_sha}}'}
      syncPolicy: {automated: {prune: true}, syncOptions: [CreateNamespace=true]}
`

func (w *world) set(name string) deploy.SetRow {
	var s deploy.SetRow
	row, err := w.ledger.Row(w.t.Context(), deploy.TableSet, "default/"+name)
	if err == nil {
		err = json.Unmarshal(row.Body, &s)
	}
	if err != nil && !errors.Is(err, ledger.ErrNotFound) {
		w.t.Fatal(err)
	}
	return s
}

// A set that cannot be read freezes nobody else, deletes none of its Applications, and says why.
func TestUnreadableSetConcernsOnlyItself(t *testing.T) {
	w := newWorld(t)
	w.commit("m1", map[string]string{"a.yaml": deployment("api", "api:m1")})
	w.commit("c1", map[string]string{"a.yaml": deployment("web", "web:1")})
	w.requests = []event.PullRequest{{Number: 1, HeadSHA: "m1", TargetBranch: "main"}}
	w.define(application(""))
	w.define(strings.Replace(previews, "%s", "", 1))
	w.await("all runs", func() bool { return w.images() == "api:m1 web:1" })
	w.define(strings.Replace(previews, "%s", ", requeueAfterSeconds: '{{x}}'", 1))
	w.commit("c2", map[string]string{"a.yaml": deployment("web", "web:2")})
	w.c.Refresh("")
	w.witness("after an edit of a set that cannot be read")
	w.await("others go on", func() bool { return w.images() == "api:m1 web:2" })
	w.await("it says why", func() bool {
		return strings.Contains(w.set("previews").Conditions.Message(deploy.ConditionErrorOccurred), "cannot be read")
	})
	w.stop()
	w.start()
	w.witness("after a restart")
	w.await("what it made says so", func() bool {
		return strings.Contains(w.app("mr-1").Conditions.Message(deploy.ConditionInvalidSpec), "ApplicationSet default/previews that made it cannot be read")
	})
	if diff := cmp.Diff([]string{"default/mr-1"}, w.set("previews").Applications); diff != "" || w.images() != "api:m1 web:2" {
		t.Error(diff, w.images())
	}
	w.define(strings.Replace(previews, "%s", "", 1))
	w.await("it goes on", func() bool { return w.set("previews").Conditions == nil && w.app("mr-1").Conditions == nil })
	w.undefine("ApplicationSet", "previews")
	w.await("it goes with what it made", func() bool {
		return w.app("mr-1").Name == "" && w.images() == "web:2" && w.set("previews").Name == ""
	})
}

// A forge that does not answer deletes nothing, over a restart too, and holds up nobody else.
func TestSilentForgeConcernsOnlyItsSet(t *testing.T) {
	w := newWorld(t)
	w.commit("m1", map[string]string{"a.yaml": deployment("api", "api:m1")})
	w.commit("c1", map[string]string{"a.yaml": deployment("web", "web:1")})
	w.requests = []event.PullRequest{{Number: 1, HeadSHA: "m1", TargetBranch: "main"}}
	w.define(strings.Replace(previews, "%s", "", 1))
	w.await("it runs", func() bool { return w.images() == "api:m1" })
	w.stop()
	w.mu.Lock()
	w.forgeDown = true
	w.mu.Unlock()
	w.start()
	w.define(application(""))
	w.await("others are deployed", func() bool { return w.images() == "api:m1 web:1" })
	w.await("it says why", func() bool {
		return strings.Contains(w.set("previews").Conditions.Message(deploy.ConditionErrorOccurred), "the forge is down")
	})
	if w.app("mr-1").Deleting || w.app("mr-1").Name == "" {
		t.Error("the preview goes because its forge is down")
	}
}

// An AppProject that cannot be read holds its Applications.
func TestUnreadableProjectHoldsItsApplications(t *testing.T) {
	w := newWorld(t)
	w.commit("c1", map[string]string{"a.yaml": deployment("web", "web:1")})
	project := "{apiVersion: argoproj.io/v1alpha1, kind: AppProject, metadata: {name: team}, spec: {sourceRepos: ['*'], destinations: [{server: '*', namespace: '*'}], clusterResourceWhitelist: [{group: '*', kind: '*'}]}}"
	w.define(project)
	w.define(strings.Replace(application(""), "destination:", "project: team\n  destination:", 1))
	w.await("it runs", func() bool { return w.images() == "web:1" && w.app("prod").Sync == plan.Synced })
	w.define(strings.Replace(project, "sourceRepos: ['*']", "sourceRepos: 7", 1))
	w.commit("c2", map[string]string{"a.yaml": deployment("web", "web:2")})
	w.c.Refresh("")
	w.await("it says why", func() bool {
		return strings.Contains(w.app("prod").Conditions.Message(deploy.ConditionInvalidSpec), "AppProject/default/team cannot be read")
	})
	if got := w.images(); got != "web:1" {
		t.Errorf("it runs %q", got)
	}
	w.define(project)
	w.await("it goes on", func() bool { return w.images() == "web:2" })
}

// One Application that cannot be looked after says why, holds up no other, and goes on by itself when it can be.
func TestTroubleOfOneApplication(t *testing.T) {
	w := newWorld(t)
	w.commit("c1", map[string]string{"a.yaml": deployment("web", "web:1")})
	w.define(application(""))
	w.await("it runs", func() bool { return w.images() == "web:1" && w.app("prod").Sync == plan.Synced })
	w.troubled.Store("default/prod", errors.New("the target is out of reach"))
	w.c.Refresh("default/prod")
	w.await("it says why", func() bool {
		return strings.Contains(w.app("prod").Conditions.Message(deploy.ConditionUnknown), "the target is out of reach")
	})
	w.await("so does the health", func() bool {
		h := w.c.Health()
		return h.State == control.Waiting && strings.Contains(h.Reason, "application default/prod: ") && strings.Contains(h.Reason, "out of reach")
	})
	w.witness("meanwhile")
	w.troubled.Delete("default/prod")
	w.c.Refresh("default/prod")
	w.await("it goes on", func() bool { return w.app("prod").Conditions == nil && w.c.Health() == control.Health{} })
}

// What could not be recorded is not so: a sync that is begun while the ledger takes nothing has not begun, and is begun when it does.
func TestNothingGoesOnThatIsNotOnRecord(t *testing.T) {
	w := newWorld(t)
	w.commit("c1", map[string]string{"a.yaml": deployment("web", "web:1")})
	w.define(strings.Replace(application(""), "automated: {prune: true, selfHeal: true}, ", "", 1))
	w.await("it is compared", func() bool { return w.app("prod").Sync == plan.OutOfSync })
	w.full.Store(true)
	if err := w.c.Sync(t.Context(), "default/prod", deploy.SyncRequest{Actor: "user:ada"}); !errors.Is(err, ledger.ErrNoSpace) {
		t.Errorf("it was begun: %v", err)
	}
	w.c.Refresh("default/prod")
	if got := w.images(); got != "" {
		t.Errorf("it runs %q", got)
	}
	w.full.Store(false)
	w.c.Refresh("default/prod")
	w.witness("afterwards")
	if a := w.app("prod"); a.Asked != nil || len(a.Operation) > 0 || w.images() != "" {
		t.Errorf("a sync that was refused goes on: %s %v", a.Operation, a.Asked)
	}
	if err := w.c.Sync(t.Context(), "default/prod", deploy.SyncRequest{Actor: "user:ada"}); err != nil {
		t.Error(err)
	}
	w.await("it runs", func() bool { return w.images() == "web:1" })
}

// An edit that takes the namespace out of the destination would move all objects and prune them where they were. They stay, and it is said.
func TestDestinationWithoutItsNamespaceKeepsTheObjects(t *testing.T) {
	w := newWorld(t)
	w.commit("c1", map[string]string{"a.yaml": deployment("web", "web:1")})
	w.define(application(""))
	w.await("it runs", func() bool { return w.images() == "web:1" && w.app("prod").Sync == plan.Synced })
	w.define(strings.Replace(application(""), "namespace: prod", "server: https://kubernetes.default.svc", 1))
	w.await("it says why", func() bool {
		return strings.Contains(w.app("prod").Conditions.Message(deploy.ConditionInvalidSpec), "is missing: set spec.destination.namespace")
	})
	if got := w.images(); got != "web:1" {
		t.Errorf("it runs %q", got)
	}
}
