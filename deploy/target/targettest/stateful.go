package targettest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
)

// has says whether a target has a kind; a suite of one that it has not is left out.
func (s *Subject) has(t *testing.T, group, kind string) {
	t.Helper()
	can, err := s.Target.Capabilities(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, there := can.Kind(group, kind); !there {
		t.Skipf("SKIPPED: the target has no %s", kind)
	}
}

func claim(size string) *unstructured.Unstructured {
	return object("v1", "PersistentVolumeClaim", "data", map[string]any{"spec": map[string]any{"accessModes": []any{"ReadWriteOnce"},
		"resources": map[string]any{"requests": map[string]any{"storage": size}}}})
}

// claims: one is bound in the target's own time, grows, and neither shrinks nor is made anew by force, which would throw away what is in it.
func claims(t *testing.T, s *Subject) {
	s.has(t, "", "PersistentVolumeClaim")
	first := s.apply(t, claim("1Gi"), owned(application))
	key := deploy.KeyOf(first)
	s.await(t, "it is bound", func() bool { return s.phase(t, key) == "Bound" })
	s.apply(t, claim("2Gi"), owned(application))
	for _, force := range []bool{false, true} {
		if _, err := s.Target.Apply(t.Context(), claim("1Gi"), deploy.ApplyOptions{Application: application, Force: force, Replace: force}); err == nil {
			t.Errorf("force %t: it shrinks", force)
		}
	}
	s.Target, s.Pods = s.Reopen(t)
	if got := s.live(t, key); got == nil || got.GetUID() != first.GetUID() || s.phase(t, key) != "Bound" {
		t.Errorf("after a restart: %v", got)
	}
	if err := s.Target.Delete(t.Context(), key, owned(application)); err != nil {
		t.Fatal(err)
	}
	s.await(t, "it is gone", s.gone(t, key))
}

func (s *Subject) statefulSet(name string, replicas int64) *unstructured.Unstructured {
	labels := map[string]any{"app": name}
	template := claim("1Gi").Object
	return object("apps/v1", "StatefulSet", name, map[string]any{"spec": map[string]any{"replicas": replicas, "serviceName": name,
		"selector": map[string]any{"matchLabels": labels}, "updateStrategy": map[string]any{"type": "RollingUpdate"},
		"volumeClaimTemplates": []any{map[string]any{"metadata": map[string]any{"name": "data"}, "spec": template["spec"]}},
		"template": map[string]any{"metadata": map[string]any{"labels": labels},
			"spec": map[string]any{"terminationGracePeriodSeconds": int64(5), "containers": []any{s.Container}}}}})
}

// names are those of the Application's objects of a kind.
func (s *Subject) names(t *testing.T, kind string) map[string]bool {
	found := map[string]bool{}
	for _, o := range s.all(t, application) {
		if o.GetKind() == kind && o.GetDeletionTimestamp() == nil {
			found[o.GetName()] = true
		}
	}
	return found
}

// statefulSets: pods have names that stay, and claims that outlive the set unless it says otherwise; these are kept, and come back to the next set of
// its name.
func statefulSets(t *testing.T, s *Subject) {
	s.has(t, "apps", "StatefulSet")
	key := deploy.KeyOf(s.apply(t, s.statefulSet("db", 2), owned(application)))
	ready := func(n int64) func() bool {
		return func() bool {
			o := s.live(t, key)
			if o == nil {
				return false
			}
			ready, _, _ := unstructured.NestedInt64(o.Object, "status", "readyReplicas")
			replicas, _, _ := unstructured.NestedInt64(o.Object, "status", "replicas")
			return ready == n && replicas == n
		}
	}
	s.await(t, "it is ready", ready(2))
	uids := s.uids(t)
	s.Target, s.Pods = s.Reopen(t)
	s.await(t, "it is ready again", ready(2))
	if diff := cmp.Diff(uids, s.uids(t)); diff != "" {
		t.Errorf("a restart changed something: %s", diff)
	}
	if diff := cmp.Diff(map[string]bool{"db-0": true, "db-1": true}, s.names(t, "Pod")); diff != "" {
		t.Error(diff)
	}
	s.apply(t, s.statefulSet("db", 1), owned(application))
	s.await(t, "one is left", func() bool { return ready(1)() && len(s.names(t, "Pod")) == 1 })
	if diff := cmp.Diff(map[string]bool{"data-db-0": true, "data-db-1": true}, s.names(t, "PersistentVolumeClaim")); diff != "" {
		t.Error(diff)
	}
	if err := s.Target.Delete(t.Context(), key, owned(application)); err != nil {
		t.Fatal(err)
	}
	s.await(t, "it is gone", func() bool { return s.live(t, key) == nil && len(s.names(t, "Pod")) == 0 })
	left := s.all(t, application)
	for _, o := range left {
		if !deploy.Kept(o) || o.GetKind() != "PersistentVolumeClaim" {
			t.Errorf("%s %s is left", o.GetKind(), o.GetName())
		}
	}
	s.apply(t, s.statefulSet("db", 2), owned(application))
	s.await(t, "the next one is ready", ready(2))
	for name := range s.names(t, "PersistentVolumeClaim") {
		k := deploy.Key{Kind: "PersistentVolumeClaim", Namespace: namespace, Name: name}
		if got := s.live(t, k); string(got.GetUID()) != uids[k.String()] {
			t.Errorf("%s is another claim", name)
		}
	}
}
