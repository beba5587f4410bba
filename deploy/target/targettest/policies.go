package targettest

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
)

func networkPolicy(name string, spec map[string]any) *unstructured.Unstructured {
	return object("networking.k8s.io/v1", "NetworkPolicy", name, map[string]any{"spec": spec})
}

// networkPolicies: a target that says it has them keeps them as other objects, and refuses with its field what nobody could hold pods to; one that does
// not say so refuses all of them. Whether packets obey is for the target's own tests.
func networkPolicies(t *testing.T, s *Subject) {
	can, err := s.Target.Capabilities(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	deny := networkPolicy("deny", map[string]any{"podSelector": map[string]any{}})
	if _, there := can.Kind("networking.k8s.io", "NetworkPolicy"); !there {
		problems, err := s.Target.Check(t.Context(), []*unstructured.Unstructured{deny}, owned(application))
		if err != nil || len(problems) == 0 || !problems[0].Fatal {
			t.Errorf("what is not said to be there is not refused: %+v %v", problems, err)
		}
		if _, err := s.Target.Apply(t.Context(), deny, owned(application)); err == nil {
			t.Error("what is not said to be there is taken")
		}
		return
	}
	first := s.apply(t, deny, owned(application))
	changed := networkPolicy("deny", map[string]any{"podSelector": map[string]any{}, "policyTypes": []any{"Ingress", "Egress"}})
	if second := s.apply(t, changed, owned(application)); second.GetUID() != first.GetUID() {
		t.Error("a change made another")
	}
	for field, rule := range map[string]map[string]any{
		"spec.ingress[0].from[0].ipBlock.cidr":   {"from": []any{map[string]any{"ipBlock": map[string]any{"cidr": "everywhere"}}}},
		"spec.ingress[0].from[0]":                {"from": []any{map[string]any{}}},
		"spec.ingress[0].ports[0].endPort":       {"ports": []any{map[string]any{"port": "web", "endPort": int64(90)}}},
		"spec.ingress[0].from[0].podSelector":    {"from": []any{map[string]any{"podSelector": map[string]any{"matchLabels": map[string]any{"a": "b c"}}}}},
		"spec.ingress[0].from[0].ipBlock.except": {"from": []any{map[string]any{"ipBlock": map[string]any{"cidr": "10.0.0.0/8", "except": []any{"11.0.0.0/16"}}}}},
	} {
		wrong := networkPolicy("wrong", map[string]any{"podSelector": map[string]any{}, "ingress": []any{rule}})
		problems, err := s.Target.Check(t.Context(), []*unstructured.Unstructured{wrong}, owned(application))
		if err != nil || len(problems) == 0 || !problems[0].Fatal || !strings.HasPrefix(problems[0].Path, field) {
			t.Errorf("%s: %+v %v", field, problems, err)
		}
		if _, err := s.Target.Apply(t.Context(), wrong, owned(application)); err == nil {
			t.Errorf("%s: it is taken", field)
		}
	}
	s.Target, s.Pods = s.Reopen(t)
	if s.live(t, deploy.KeyOf(deny)) == nil {
		t.Error("it is forgotten")
	}
	if err := s.Target.Delete(t.Context(), deploy.KeyOf(deny), owned(application)); err != nil {
		t.Fatal(err)
	}
	s.await(t, "it is gone", s.gone(t, deploy.KeyOf(deny)))
}
