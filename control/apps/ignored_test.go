package apps_test

import (
	"strings"
	"testing"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/plan"
)

// TestKindsKeptWithoutEffect: the Application says what is kept; a manifest of its sources says nothing.
func TestKindsKeptWithoutEffect(t *testing.T) {
	w := newWorld(t)
	const role = `{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: r, annotations: {tiphys.dev/ignore-kinds: "Role.rbac.authorization.k8s.io"}}, rules: []}`
	const scaler = `{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: h}, spec: {maxReplicas: 3}}`
	files := map[string]string{"a.yaml": deployment("api", "api:1"), "b.yaml": role, "c.yaml": scaler}
	w.commit("c1", files)
	w.define(application(""))
	w.await("it is refused with the line that would keep it", func() bool {
		return strings.Contains(w.app("prod").Message, "annotation tiphys.dev/ignore-kinds: Role.rbac.authorization.k8s.io")
	})
	annotated := func(kinds string) string {
		return application(", annotations: {tiphys.dev/ignore-kinds: '" + kinds + "'}")
	}
	w.define(annotated("everything?"))
	w.await("what cannot be read is said", func() bool { return strings.Contains(w.app("prod").Message, `"everything?" is no kind`) })
	w.define(annotated("*.rbac.authorization.k8s.io, HorizontalPodAutoscaler.autoscaling"))
	w.await("it is kept", func() bool {
		a := w.app("prod")
		return a.Sync == plan.Synced && a.Health.Status == "Healthy" && w.images() == "api:1" && strings.Contains(strings.Join(a.Problems, "\n"), "Role has no effect on this machine")
	})
	key := deploy.Key{Group: "rbac.authorization.k8s.io", Kind: "Role", Namespace: "prod", Name: "r"}
	if got, err := w.target.Get(t.Context(), key); err != nil || !deploy.Inert(got) {
		t.Errorf("%v %v", got, err)
	}
	files["b.yaml"] = strings.Replace(role, "rules: []", "rules: [{verbs: [get]}]", 1)
	delete(files, "c.yaml")
	w.commit("c2", files)
	w.c.Refresh("default/prod")
	w.await("it is compared and pruned as others are", func() bool {
		_, err := w.target.Get(t.Context(), deploy.Key{Group: "autoscaling", Kind: "HorizontalPodAutoscaler", Namespace: "prod", Name: "h"})
		got, other := w.target.Get(t.Context(), key)
		return err != nil && other == nil && got.GetGeneration() == 2 && w.app("prod").Sync == plan.Synced
	})
	w.define(application(""))
	w.await("without the annotation it is refused again", func() bool { return strings.Contains(w.app("prod").Message, "not on this machine yet") })
	w.undefine("Application", "prod")
	w.await("it goes with its application", func() bool { _, err := w.target.Get(t.Context(), key); return err != nil && w.app("prod").Name == "" })
}
