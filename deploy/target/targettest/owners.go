package targettest

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
)

// oneOwner: a second Application that claims an object, or wants it gone, is told whose it is.
func oneOwner(t *testing.T, s *Subject) {
	key := deploy.KeyOf(configMap("c", ""))
	before := s.apply(t, configMap("c", "1"), owned(application))
	for name, err := range map[string]error{
		"apply":               second(s.Target.Apply(t.Context(), configMap("c", "2"), owned(another))),
		"apply the same":      second(s.Target.Apply(t.Context(), configMap("c", "1"), owned(another))),
		"apply by force":      second(s.Target.Apply(t.Context(), configMap("c", "2"), deploy.ApplyOptions{Application: another, Force: true, Replace: true})),
		"apply by nobody":     second(s.Target.Apply(t.Context(), configMap("c", "2"), deploy.ApplyOptions{})),
		"take from a third":   second(s.Target.Apply(t.Context(), configMap("c", "2"), deploy.ApplyOptions{Application: another, TakeFrom: "default/third"})),
		"delete":              s.Target.Delete(t.Context(), key, owned(another)),
		"delete by force":     s.Target.Delete(t.Context(), key, deploy.ApplyOptions{Application: another, Force: true}),
		"delete from a third": s.Target.Delete(t.Context(), key, deploy.ApplyOptions{Application: another, TakeFrom: "default/third"}),
	} {
		var owner *deploy.OwnedError
		if !errors.As(err, &owner) || owner.Owner != application || owner.Key != key {
			t.Errorf("%s: %v", name, err)
		}
	}
	if diff := cmp.Diff(before.Object, s.live(t, key).Object); diff != "" {
		t.Errorf("it was changed: %s", diff)
	}
	if err := s.Target.Delete(t.Context(), key, deploy.ApplyOptions{Application: another, TakeFrom: application}); err != nil {
		t.Error(err)
	}
	s.await(t, "who may take it may delete it", s.gone(t, key))
	s.apply(t, configMap("free", "1"), deploy.ApplyOptions{})
	s.apply(t, configMap("free", "2"), owned(another))
	if got := s.all(t, another); len(got) != 1 {
		t.Errorf("what nobody owned is its own: %v", got)
	}
	if err := s.Target.Delete(t.Context(), deploy.KeyOf(configMap("free", "")), deploy.ApplyOptions{}); err != nil {
		t.Errorf("who names no Application is not asked: %v", err)
	}
}

func second(_ *unstructured.Unstructured, err error) error { return err }

// takingOver: an object changes its owner with everything that it owns, and what runs goes on.
func takingOver(t *testing.T, s *Subject) {
	s.apply(t, s.deployment("d"), owned(application))
	ready := func() bool {
		o := s.live(t, deploy.KeyOf(s.deployment("d")))
		n, _, _ := unstructured.NestedInt64(o.Object, "status", "readyReplicas")
		return n == 2
	}
	s.await(t, "it serves", ready)
	uids := func(application string) map[string]bool {
		found := map[string]bool{}
		for _, o := range s.all(t, application) {
			found[o.GetKind()+" "+string(o.GetUID())] = true
		}
		return found
	}
	before := uids(application)
	s.apply(t, s.deployment("d"), deploy.ApplyOptions{Application: another, TakeFrom: application})
	if diff := cmp.Diff(before, uids(another)); diff != "" {
		t.Errorf("not everything was taken over: %s", diff)
	}
	if left := s.all(t, application); len(left) != 0 {
		t.Errorf("the owner before has still %v", kindsOf(left))
	}
	if !ready() {
		t.Error("it does not serve any more")
	}
	if err := s.Target.Delete(t.Context(), deploy.KeyOf(s.deployment("d")), owned(application)); err == nil {
		t.Error("the owner before may delete it")
	}
}

// remove: gone is gone, and while it is going it cannot be applied.
func remove(t *testing.T, s *Subject) {
	key := deploy.KeyOf(configMap("c", ""))
	s.apply(t, configMap("c", "1"), owned(application))
	first := s.live(t, key).GetUID()
	for range 2 {
		if err := s.Target.Delete(t.Context(), key, owned(application)); err != nil {
			t.Fatal(err)
		}
	}
	s.await(t, "it goes", s.gone(t, key))
	if found := s.all(t, ""); len(found) != 0 {
		t.Errorf("something is left: %v", kindsOf(found))
	}
	if s.apply(t, configMap("c", "1"), owned(another)).GetUID() == first {
		t.Error("what is made anew has the identity of what was deleted")
	}
}

// ownersGoLast: an owner is there, with a deletionTimestamp, until everything that it owns is gone, and cannot be applied meanwhile.
func ownersGoLast(t *testing.T, s *Subject) {
	key := deploy.KeyOf(s.deployment("d"))
	old := s.apply(t, s.deployment("d"), owned(application)).GetUID()
	s.await(t, "its pods are there", func() bool { return kindsOf(s.all(t, application))["Pod"] == 2 })
	if err := s.Target.Delete(t.Context(), key, owned(application)); err != nil {
		t.Fatal(err)
	}
	switch o, err := s.Target.Apply(t.Context(), s.deployment("d"), owned(application)); {
	case errors.Is(err, deploy.ErrLeaving):
	case err != nil:
		t.Fatalf("it is going, and applying it says: %v", err)
	case o.GetUID() == old:
		t.Fatal("it was applied while it was being deleted")
	default:
		return // A target as fast as that has nothing to show between.
	}
	s.await(t, "it is gone", func() bool {
		found := s.all(t, application)
		there := map[string]bool{}
		for _, o := range found {
			there[string(o.GetUID())] = true
		}
		for _, o := range found {
			if o.GetUID() == old && o.GetDeletionTimestamp() == nil {
				t.Fatal("it is not being deleted")
			}
			for _, r := range o.GetOwnerReferences() {
				if !there[string(r.UID)] {
					t.Fatalf("%s %s is there and its owner is not", o.GetKind(), o.GetName())
				}
			}
		}
		return len(found) == 0
	})
}

// ns is the namespace that the suite's objects lie in.
func ns() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": namespace}}}
}

func namespaces(t *testing.T, s *Subject) {
	s.apply(t, ns(), owned(application))
	s.apply(t, configMap("c", "1"), owned(application))
	s.apply(t, s.deployment("d"), owned(application))
	s.await(t, "its pods are there", func() bool { return kindsOf(s.all(t, application))["Pod"] == 2 })
	if err := s.Target.Delete(t.Context(), deploy.KeyOf(ns()), owned(application)); err != nil {
		t.Fatal(err)
	}
	s.await(t, "everything in it goes with it", func() bool {
		went := s.live(t, deploy.KeyOf(ns())) == nil
		found := s.all(t, application)
		if went && len(found) > 0 {
			t.Fatalf("the namespace went before %v", kindsOf(found))
		}
		return went
	})
}

// sharedNamespaces: who made a namespace does not end what others have in it.
func sharedNamespaces(t *testing.T, s *Subject) {
	s.apply(t, ns(), owned(application))
	s.apply(t, configMap("mine", "1"), owned(application))
	s.apply(t, configMap("theirs", "1"), owned(another))
	for _, dry := range []bool{true, false} {
		err := s.Target.Delete(t.Context(), deploy.KeyOf(ns()), deploy.ApplyOptions{Application: application, DryRun: dry})
		var shared *deploy.SharedError
		if !errors.As(err, &shared) || shared.Namespace != namespace {
			t.Fatalf("dry run %t: %v", dry, err)
		}
		if diff := cmp.Diff([]string{another}, shared.Applications); diff != "" {
			t.Error(diff)
		}
	}
	for _, o := range s.all(t, "") {
		if o.GetDeletionTimestamp() != nil {
			t.Errorf("%s %s is being deleted", o.GetKind(), o.GetName())
		}
	}
	if err := s.Target.Delete(t.Context(), deploy.KeyOf(configMap("theirs", "")), owned(another)); err != nil {
		t.Fatal(err)
	}
	s.await(t, "theirs is gone", s.gone(t, deploy.KeyOf(configMap("theirs", ""))))
	if err := s.Target.Delete(t.Context(), deploy.KeyOf(ns()), owned(application)); err != nil {
		t.Fatal(err)
	}
	s.await(t, "all is gone", func() bool { return len(s.all(t, "")) == 0 })
}
