package targettest

import (
	"errors"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
)

// recreated applies something as often as it is said to be on its way out, and gives what is there then.
func (s *Subject) recreated(t *testing.T, o *unstructured.Unstructured, opt deploy.ApplyOptions) *unstructured.Unstructured {
	t.Helper()
	var made *unstructured.Unstructured
	s.await(t, "it is recreated", func() bool {
		got, err := s.Target.Apply(t.Context(), o, opt)
		if err != nil && !errors.Is(err, deploy.ErrLeaving) {
			t.Fatal(err)
		}
		made = got
		return err == nil
	})
	return made
}

// forced: what cannot be changed in place is an error without Force, and recreated with it, under a new identity. What can be changed keeps its own.
func forced(t *testing.T, s *Subject) {
	pod := s.pod(s.Container)
	key := deploy.KeyOf(pod)
	first := s.apply(t, pod, owned(application))
	s.await(t, "it runs", func() bool { return s.phase(t, key) == "Running" })
	changed := s.pod(s.Container)
	if err := unstructured.SetNestedField(changed.Object, int64(3), "spec", "terminationGracePeriodSeconds"); err != nil {
		t.Fatal(err)
	}
	relabelled := s.pod(s.Container)
	relabelled.SetLabels(map[string]string{"other": "label"})
	for name, wish := range map[string]*unstructured.Unstructured{"a changed one": changed, "one with other labels": relabelled} {
		for _, replace := range []bool{false, true} {
			if _, err := s.Target.Apply(t.Context(), wish, deploy.ApplyOptions{Application: application, Replace: replace}); err == nil {
				t.Errorf("%s is taken without Force (Replace %t)", name, replace)
			}
		}
	}
	if _, err := s.Target.Apply(t.Context(), changed, deploy.ApplyOptions{Application: application, Force: true, DryRun: true}); err != nil {
		t.Errorf("a dry run: %v", err)
	}
	if o := s.live(t, key); o == nil || o.GetUID() != first.GetUID() || o.GetDeletionTimestamp() != nil {
		t.Fatalf("it was touched: %v", o)
	}
	var owner *deploy.OwnedError
	if _, err := s.Target.Apply(t.Context(), changed, deploy.ApplyOptions{Application: another, Force: true}); !errors.As(err, &owner) {
		t.Errorf("force takes what is another's: %v", err)
	}
	by := deploy.ApplyOptions{Application: application, Force: true}
	second := s.recreated(t, changed, by)
	if grace, _, _ := unstructured.NestedInt64(second.Object, "spec", "terminationGracePeriodSeconds"); grace != 3 || second.GetUID() == first.GetUID() {
		t.Errorf("it is %v", second.Object)
	}
	s.await(t, "the new one runs", func() bool { return s.phase(t, key) == "Running" })
	if same := s.apply(t, changed, by); same.GetUID() != second.GetUID() {
		t.Error("the same wish by force made another")
	}
	by.Replace = true
	if third := s.recreated(t, changed, by); third.GetUID() == second.GetUID() {
		t.Error("Force and Replace together did not recreate it")
	}
	c := s.apply(t, configMap("c", "1"), owned(application))
	if forced := s.apply(t, configMap("c", "2"), by); forced.GetUID() != c.GetUID() {
		t.Error("what can be changed in place was recreated")
	}
}
