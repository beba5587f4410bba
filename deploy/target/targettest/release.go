package targettest

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/deploy"
)

// release: an object that is released is nobody's, with everything that it owns. It stays as it is, what runs goes on, and whoever applies it next
// has it. A namespace in which it lies is not deleted.
func release(t *testing.T, s *Subject) {
	key := deploy.KeyOf(s.deployment("d"))
	s.apply(t, s.deployment("d"), owned(application))
	s.await(t, "it serves", func() bool {
		n, _, _ := unstructured.NestedInt64(s.live(t, key).Object, "status", "readyReplicas")
		return n == 2
	})
	before := s.live(t, key)
	var owner *deploy.OwnedError
	if err := s.Target.Release(t.Context(), key, owned(another)); !errors.As(err, &owner) || owner.Owner != application {
		t.Errorf("another may release it: %v", err)
	}
	if err := s.Target.Release(t.Context(), key, deploy.ApplyOptions{}); !errors.As(err, &owner) {
		t.Errorf("nobody may release it: %v", err)
	}
	for range 2 {
		if err := s.Target.Release(t.Context(), key, owned(application)); err != nil {
			t.Fatal(err)
		}
	}
	if left := s.all(t, application); len(left) != 0 {
		t.Errorf("the owner before has still %v", kindsOf(left))
	}
	if diff := cmp.Diff(map[string]int{"Deployment": 1, "ReplicaSet": 1, "Pod": 2}, kindsOf(s.all(t, ""))); diff != "" {
		t.Error(diff)
	}
	after := s.live(t, key)
	if diff := cmp.Diff([]any{before.GetUID(), before.GetGeneration(), before.Object["spec"], before.Object["status"]},
		[]any{after.GetUID(), after.GetGeneration(), after.Object["spec"], after.Object["status"]}); diff != "" || after.GetDeletionTimestamp() != nil {
		t.Errorf("it was changed: %s", diff)
	}
	if after.GetAnnotations()["argocd.argoproj.io/tracking-id"] != "" {
		t.Error("it says still whose it is")
	}
	s.apply(t, ns(), owned(application))
	var shared *deploy.SharedError
	if err := s.Target.Delete(t.Context(), deploy.KeyOf(ns()), owned(application)); !errors.As(err, &shared) {
		t.Errorf("the namespace of what nobody owns: %v", err)
	}
	if s.apply(t, s.deployment("d"), owned(another)).GetUID() != before.GetUID() || len(s.all(t, another)) != 4 {
		t.Errorf("the next owner has %v", kindsOf(s.all(t, another)))
	}
	if err := s.Target.Release(t.Context(), deploy.KeyOf(configMap("none", "")), owned(application)); err != nil {
		t.Errorf("what is not there: %v", err)
	}
}

// previews: the namespace of a preview, and one in which others have objects, is had by no other.
func previews(t *testing.T, s *Subject) {
	preview := deploy.ApplyOptions{Application: another, For: podpolicy.Subject{Kind: podpolicy.Application, Name: another, MergeRequest: 7}}
	refused := func(what string, err error) {
		t.Helper()
		var apart *deploy.PreviewError
		if !errors.As(err, &apart) || apart.Namespace != namespace {
			t.Errorf("%s: %v", what, err)
		}
	}
	s.apply(t, ns(), deploy.ApplyOptions{})
	s.apply(t, configMap("c", "1"), owned(application))
	refused("a preview takes the namespace that others use", second(s.Target.Apply(t.Context(), ns(), preview)))
	refused("a preview deploys beside others", second(s.Target.Apply(t.Context(), configMap("d", "1"), preview)))
	problems, err := s.Target.Check(t.Context(), []*unstructured.Unstructured{ns()}, preview)
	if err != nil || len(problems) == 0 || !problems[0].Fatal {
		t.Errorf("the check says %v, %v", problems, err)
	}
	if err := s.Target.Delete(t.Context(), deploy.KeyOf(configMap("c", "")), owned(application)); err != nil {
		t.Fatal(err)
	}
	s.await(t, "it is gone", s.gone(t, deploy.KeyOf(configMap("c", ""))))
	s.apply(t, ns(), preview)
	refused("somebody deploys into the empty namespace of a preview", second(s.Target.Apply(t.Context(), configMap("c", "1"), owned(application))))
	s.apply(t, configMap("d", "1"), preview)
	if err := s.Target.Delete(t.Context(), deploy.KeyOf(ns()), preview); err != nil {
		t.Fatal(err)
	}
	s.await(t, "all is gone", func() bool { return len(s.all(t, "")) == 0 })
}
