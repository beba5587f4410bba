package apps_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/plan"
)

// namespaceKey is the namespace of most tests.
var namespaceKey = deploy.Key{Kind: "Namespace", Name: "prod"}

// at is the Application prod under another name, of a revision, with annotations.
func at(name, revision, annotations string) string {
	return strings.NewReplacer("name: prod,", "name: "+name+annotations+",", "path: .", "path: ., targetRevision: "+revision).Replace(application(""))
}

// there says whether an object is there and stays.
func (w *world) there(key deploy.Key) bool {
	w.t.Helper()
	o, err := w.target.Get(w.t.Context(), key)
	if err != nil && !errors.Is(err, deploy.ErrNotFound) {
		w.t.Fatal(err)
	}
	return err == nil && o.GetDeletionTimestamp() == nil
}

// keysOf are the objects that an Application owns, without what they made; empty is all.
func (w *world) keysOf(application string) string {
	w.t.Helper()
	list, err := w.target.List(w.t.Context(), application)
	if err != nil {
		w.t.Fatal(err)
	}
	var keys []string
	for _, o := range list {
		if len(o.GetOwnerReferences()) == 0 {
			keys = append(keys, o.GetKind()+"/"+o.GetName())
		}
	}
	return strings.Join(keys, " ")
}

// Two Applications share a namespace that the option made (argo-cd, docs/user-guide/sync-options.md, Create Namespace: it is not tracked). It
// outlives both, and so does what the other has in it. A preview shares its namespace with nobody.
func TestSharedNamespace(t *testing.T) {
	w := newWorld(t)
	w.commit("c1", map[string]string{"a.yaml": deployment("one", "one:1")})
	w.commit("c2", map[string]string{"a.yaml": deployment("two", "two:1")})
	w.define(at("one", "c1", ""))
	w.await("the first runs", func() bool { return w.images() == "one:1" && w.app("one").Sync == plan.Synced })
	w.define(at("two", "c2", ""))
	w.await("the second runs beside it", func() bool { return w.images() == "one:1 two:1" && w.app("two").Sync == plan.Synced })
	for _, name := range []string{"one", "two"} {
		if got := strings.Join(w.app(name).Problems, " "); got != "" {
			t.Errorf("%s: %s", name, got)
		}
		if got := w.keysOf("default/" + name); got != "Deployment/"+name {
			t.Errorf("%s has %s", name, got)
		}
		if got := string(w.app(name).Resources); strings.Contains(got, "Namespace") {
			t.Errorf("the namespace is compared: %s", got)
		}
	}
	w.define(at("mr-1", "c2", ", annotations: {tiphys.dev/mr: '1'}"))
	w.await("a preview is refused", func() bool {
		return strings.Contains(w.app("mr-1").Conditions.Message(deploy.ConditionInvalidSpec), "a preview shares its namespace with nobody")
	})
	w.undefine("Application", "mr-1")
	w.undefine("Application", "one")
	w.await("the first is gone", func() bool { return w.app("one").Name == "" })
	w.witness("afterwards")
	if got := w.images(); got != "two:1" || !w.there(namespaceKey) {
		t.Fatalf("what runs in the shared namespace is %q", got)
	}
	w.undefine("Application", "two")
	w.await("all is gone but the namespace", func() bool { return w.app("two").Name == "" && w.keysOf("") == "Namespace/prod" })
}

// A preview's namespace is its own, and goes with it.
func TestNamespaceOfAPreview(t *testing.T) {
	w := newWorld(t)
	w.commit("c1", map[string]string{"a.yaml": deployment("one", "one:1"), "b.yaml": "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, annotations: {argocd.argoproj.io/sync-options: Delete=false}}}"})
	w.define(at("mr-1", "c1", ", annotations: {tiphys.dev/mr: '1'}"))
	w.await("it runs", func() bool { return w.images() == "one:1" && w.app("mr-1").Sync == plan.Synced })
	if got := w.keysOf("default/mr-1"); got != "ConfigMap/c Namespace/prod Deployment/one" {
		t.Errorf("it has %s", got)
	}
	w.commit("c2", map[string]string{"a.yaml": deployment("two", "two:1")})
	w.define(at("two", "c2", ""))
	w.await("nobody else deploys there", func() bool {
		return strings.Contains(w.app("two").Conditions.Message(deploy.ConditionInvalidSpec), "a preview shares its namespace with nobody")
	})
	w.undefine("Application", "two")
	w.undefine("Application", "mr-1")
	w.await("nothing is left", func() bool { return w.app("mr-1").Name == "" && w.keysOf("") == "" })
}

// The namespace that the option made is never pruned: not when the definition makes none any more. One that is written is pruned as any object is.
func TestNamespaceIsNotPruned(t *testing.T) {
	w := newWorld(t)
	w.commit("c1", map[string]string{"a.yaml": deployment("one", "one:1")})
	w.define(application(""))
	w.await("it runs", func() bool { return w.images() == "one:1" && w.app("prod").Sync == plan.Synced })
	w.define(strings.Replace(application(", annotations: {a: b}"), "syncOptions: [CreateNamespace=true]", "syncOptions: []", 1))
	w.await("it is taken in", func() bool { return w.app("prod").Annotations["a"] == "b" && w.app("prod").Sync == plan.Synced })
	w.commit("c2", map[string]string{"a.yaml": deployment("one", "one:2")})
	w.c.Refresh("")
	w.await("the next sync goes by", func() bool { return w.app("prod").Revision == "c2" && w.images() == "one:2" })
	if !w.there(namespaceKey) {
		t.Fatal("the namespace goes")
	}
	w.commit("c3", map[string]string{"a.yaml": deployment("one", "one:2"), "n.yaml": "{apiVersion: v1, kind: Namespace, metadata: {name: prod}}"})
	w.c.Refresh("")
	w.await("it is written now", func() bool {
		return w.app("prod").Revision == "c3" && strings.Contains(w.keysOf("default/prod"), "Namespace/prod")
	})
	w.commit("c4", map[string]string{"a.yaml": "{apiVersion: v1, kind: Namespace, metadata: {name: elsewhere}}"})
	w.define("{apiVersion: argoproj.io/v1alpha1, kind: AppProject, metadata: {name: default}, spec: {sourceRepos: ['*'], destinations: [{server: '*', namespace: '*'}], clusterResourceWhitelist: [{group: '*', kind: '*'}]}}")
	w.c.Refresh("")
	w.await("what was written goes when it is written no more", func() bool { return w.app("prod").Revision == "c4" && w.keysOf("") == "Namespace/elsewhere" })
}

// A written namespace that the option makes as well stays when it is written no more.
func TestNamespaceThatWasWritten(t *testing.T) {
	w := newWorld(t)
	w.commit("c1", map[string]string{"a.yaml": deployment("one", "one:1"), "n.yaml": "{apiVersion: v1, kind: Namespace, metadata: {name: prod}}"})
	w.define(application(""))
	w.await("it is an object of the Application", func() bool {
		return w.app("prod").Sync == plan.Synced && strings.Contains(w.keysOf("default/prod"), "Namespace/prod")
	})
	w.commit("c2", map[string]string{"a.yaml": deployment("one", "one:2")})
	w.c.Refresh("")
	w.await("it is nobody's", func() bool { return w.app("prod").Revision == "c2" && w.keysOf("default/prod") == "Deployment/one" })
	if !w.there(namespaceKey) {
		t.Error("it was pruned")
	}
	w.commit("c3", map[string]string{"a.yaml": deployment("one", "one:2"), "n.yaml": "{apiVersion: v1, kind: Namespace, metadata: {name: prod}}"})
	w.c.Refresh("")
	w.await("it is written again", func() bool {
		return w.app("prod").Revision == "c3" && strings.Contains(w.keysOf("default/prod"), "Namespace/prod")
	})
	w.undefine("Application", "prod")
	w.await("and goes with the Application", func() bool { return w.app("prod").Name == "" && w.keysOf("") == "" })
}

// What older versions recorded as the Application's, because the option made it, is released: by the next look, or by a deletion that was under way.
func TestNamespaceOfAnOlderVersion(t *testing.T) {
	for name, option := range map[string]string{"with the option": "CreateNamespace=true", "without it": ""} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.commit("c1", map[string]string{"a.yaml": deployment("one", "one:1")})
			w.define(application(""))
			w.await("it runs", func() bool { return w.images() == "one:1" && w.app("prod").Sync == plan.Synced })
			w.stop()
			old := func() {
				ns := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "prod"}}}
				if _, err := w.target.Apply(t.Context(), ns, deploy.ApplyOptions{Application: "default/prod"}); err != nil {
					t.Fatal(err)
				}
				if got := w.keysOf("default/prod"); got != "Namespace/prod Deployment/one" {
					t.Fatalf("it has %s", got)
				}
			}
			old()
			w.define(strings.Replace(application(", annotations: {a: b}"), "CreateNamespace=true", option, 1))
			w.commit("c2", map[string]string{"a.yaml": deployment("one", "one:2")})
			w.start()
			w.await("it is nobody's", func() bool { return w.app("prod").Revision == "c2" && w.keysOf("default/prod") == "Deployment/one" })
			w.stop()
			old()
			w.undefine("Application", "prod")
			w.start()
			w.await("the Application goes without it", func() bool { return w.app("prod").Name == "" })
			if got := w.keysOf(""); got != "Namespace/prod" || !w.there(namespaceKey) {
				t.Errorf("there is %s", got)
			}
		})
	}
}

// managedNamespaceMetadata is put beside what others put on the namespace, and is put back (argo-cd, docs/user-guide/sync-options.md, Namespace Metadata).
func TestManagedNamespaceMetadata(t *testing.T) {
	w := newWorld(t)
	ns := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "prod", "labels": map[string]any{"theirs": "x", "team": "old"}}}}
	if _, err := w.target.Apply(t.Context(), ns, deploy.ApplyOptions{}); err != nil {
		t.Fatal(err)
	}
	w.commit("c1", map[string]string{"a.yaml": deployment("one", "one:1")})
	w.define(strings.Replace(application(""), "syncOptions: [CreateNamespace=true]", "syncOptions: [CreateNamespace=true], managedNamespaceMetadata: {labels: {team: blue}, annotations: {note: here}}", 1))
	has := func() bool {
		o, err := w.target.Get(t.Context(), namespaceKey)
		return err == nil && cmp.Equal(o.GetLabels(), map[string]string{"theirs": "x", "team": "blue"}) && o.GetAnnotations()["note"] == "here"
	}
	w.await("it is put on it", func() bool { return has() && w.app("prod").Sync == plan.Synced })
	if got := w.keysOf("default/prod"); got != "Deployment/one" {
		t.Errorf("it has %s", got)
	}
	if _, err := w.target.Apply(t.Context(), ns, deploy.ApplyOptions{}); err != nil {
		t.Fatal(err)
	}
	w.c.Refresh("")
	w.await("it is seen that it is gone", func() bool { return w.app("prod").Sync == plan.OutOfSync })
	w.await("it is put back", func() bool { return has() && w.app("prod").Sync == plan.Synced })
}

// The brake counts no namespace that is made (argo-cd, docs/user-guide/auto_sync.md, Automatic Pruning with Allow-Empty).
func TestEmptyFolder(t *testing.T) {
	for name, annotations := range map[string]string{"an Application": "", "a preview": ", annotations: {tiphys.dev/mr: '1'}"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.commit("c1", map[string]string{"a.yaml": deployment("one", "one:1")})
			w.define(application(annotations))
			w.await("it runs", func() bool { return w.images() == "one:1" && w.app("prod").Sync == plan.Synced })
			w.commit("c2", map[string]string{"README": "nothing"})
			w.c.Refresh("")
			w.await("it is refused", func() bool { return strings.Contains(string(w.app("prod").Operation), "would remove every object") })
			if got := w.images(); got != "one:1" {
				t.Errorf("it runs %q", got)
			}
		})
	}
}
