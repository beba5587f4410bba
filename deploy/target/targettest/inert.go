package targettest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
)

// inert: a kind that the target has not is refused with the line that keeps it. Kept, it is an object like others, and nothing comes of it; a kind that the
// target has is run whatever the Application says, and a network policy is never kept without effect.
func inert(t *testing.T, s *Subject) {
	ignoring := deploy.ApplyOptions{Application: application, Ignore: deploy.Ignored{"*.example.invalid", "*.networking.k8s.io", "ConfigMap", "*.apps"}}
	nothing := func(value string) *unstructured.Unstructured {
		return object("example.invalid/v1", "Nothing", "x", map[string]any{"spec": map[string]any{"value": value}})
	}
	if _, err := s.Target.Apply(t.Context(), nothing("1"), owned(application)); err == nil || !strings.Contains(err.Error(), deploy.AnnotationIgnoreKinds+": Nothing.example.invalid") {
		t.Errorf("an unknown kind: %v", err)
	}
	problems, err := s.Target.Check(t.Context(), []*unstructured.Unstructured{nothing("1")}, ignoring)
	if err != nil || len(problems) != 1 || problems[0].Fatal || !strings.Contains(problems[0].Message, "no effect") {
		t.Errorf("%+v %v", problems, err)
	}
	first := s.apply(t, nothing("1"), ignoring)
	key := deploy.KeyOf(first)
	if !deploy.Inert(first) || !deploy.Inert(s.live(t, key)) {
		t.Errorf("it does not say that it has no effect: %v", first.Object)
	}
	dry := ignoring
	dry.DryRun = true
	if diff := cmp.Diff(s.live(t, key).Object, s.apply(t, nothing("1"), dry).Object); diff != "" {
		t.Errorf("it does not compare: %s", diff)
	}
	second := s.apply(t, nothing("2"), ignoring)
	if second.GetUID() != first.GetUID() || second.GetGeneration() != 2 {
		t.Errorf("a change: %v", second.Object)
	}
	// Kinds of the same name in another group are not taken for the target's own.
	for _, kind := range []string{"Pod", "Secret", "Deployment", "Job", "Service", "Ingress", "Namespace", "PersistentVolumeClaim", "StatefulSet", "ControllerRevision"} {
		o := s.apply(t, object("example.invalid/v1", kind, "same", map[string]any{"spec": map[string]any{"replicas": int64(3), "containers": "none"}, "data": "no map"}), ignoring)
		if !deploy.Inert(o) {
			t.Errorf("%s of another group is run", kind)
		}
	}
	s.apply(t, configMap("c", "1"), ignoring)
	if deploy.Inert(s.live(t, deploy.KeyOf(configMap("c", "")))) {
		t.Error("a kind that the target has is kept without effect")
	}
	s.apply(t, s.deployment("d"), ignoring)
	s.await(t, "it runs all the same", func() bool { return kindsOf(s.all(t, application))["Pod"] == 3 }) // one of them inert
	liar := configMap("liar", "1")
	liar.SetAnnotations(map[string]string{deploy.AnnotationInert: "yes"})
	if got := s.apply(t, liar, owned(application)); deploy.Inert(got) {
		t.Error("an object says of itself that it has no effect")
	}
	can, err := s.Target.Capabilities(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	policy := networkPolicy("deny", map[string]any{"podSelector": map[string]any{}})
	got, err := s.Target.Apply(t.Context(), policy, ignoring)
	if _, enforced := can.Kind("networking.k8s.io", "NetworkPolicy"); enforced != (err == nil) || err == nil && deploy.Inert(got) {
		t.Errorf("enforced %t: %v", enforced, err)
	}
	s.Target, s.Pods = s.Reopen(t)
	if got := s.live(t, key); got == nil || !deploy.Inert(got) {
		t.Errorf("after a restart: %v", got)
	}
	for _, o := range s.all(t, application) {
		if len(o.GetOwnerReferences()) == 0 {
			if err := s.Target.Delete(t.Context(), deploy.KeyOf(o), owned(application)); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.await(t, "all is gone", func() bool { return len(s.all(t, application)) == 0 })
}
