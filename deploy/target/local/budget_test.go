package local_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/deploy/health"
)

// TestDisruptionBudget: tasks/run-application/configure-pdb of Kubernetes and the comments of policy/v1: a percentage is of the scale of what has the
// pods, rounded up, and so is maxUnavailable.
func TestDisruptionBudget(t *testing.T) {
	m := newMachine(t)
	m.apply(app("app:v1")) // three pods
	m.awaitHealth("Deployment", "api", health.Healthy)
	m.apply(strings.NewReplacer("name: api", "name: down", "app: api", "app: down").Replace(strings.Split(app("broken"), "\n---\n")[0]))
	m.await("they are there", func() bool { return m.images()["broken"] == 3 })
	for _, c := range []struct {
		spec                                string
		expected, healthy, desired, allowed int64
	}{
		{"minAvailable: 2, selector: {matchLabels: {app: api}}", 3, 3, 2, 1},
		{"minAvailable: 50%, selector: {matchLabels: {app: api}}", 3, 3, 2, 1},
		{"minAvailable: 0, selector: {matchLabels: {app: api}}", 3, 3, 0, 3},
		{"minAvailable: 5, selector: {matchLabels: {app: api}}", 3, 3, 5, 0},
		{"maxUnavailable: 1, selector: {matchLabels: {app: api}}", 3, 3, 2, 1},
		{"maxUnavailable: 30%, selector: {matchLabels: {app: api}}", 3, 3, 2, 1},
		{"maxUnavailable: 100%, selector: {matchLabels: {app: api}}", 3, 3, 0, 3},
		{"minAvailable: 1, selector: {matchLabels: {app: down}}", 3, 0, 1, 0},
		{"maxUnavailable: 1, selector: {}", 6, 3, 5, 0},
		{"minAvailable: 1", 0, 0, 1, 0},
		{"minAvailable: 1, selector: {matchLabels: {app: nobody}}", 0, 0, 1, 0},
	} {
		m.apply("{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: b, namespace: prod}, spec: {" + c.spec + "}}")
		want := map[string]any{"expectedPods": c.expected, "currentHealthy": c.healthy, "desiredHealthy": c.desired, "disruptionsAllowed": c.allowed}
		got := map[string]any{}
		m.await(c.spec, func() bool {
			o := m.get("PodDisruptionBudget", "b")
			for name := range want {
				got[name] = field(o, "status", name)
			}
			return field(o, "status", "observedGeneration") == o.GetGeneration()
		})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", c.spec, diff)
		}
	}
	for _, spec := range []string{"minAvailable: 1, maxUnavailable: 1", "minAvailable: half", "maxUnavailable: -1", "selector: {matchExpressions: [{key: a, operator: Like}]}"} {
		if err := m.try("{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: c, namespace: prod}, spec: {"+spec+"}}", app1()); err == nil {
			t.Errorf("%s is taken", spec)
		}
	}
}
