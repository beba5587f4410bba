package local_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/health"
)

// The rules are those of concepts/workloads/controllers/daemonset and tasks/manage-daemon/update-daemon-set of Kubernetes, for one node.

func agent(image string, more ...string) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent, namespace: prod}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - {name: c, image: "%s", ports: [{name: web, containerPort: 8080}], readinessProbe: {httpGet: {path: /ready, port: web}, periodSeconds: 1}}
%s`, image, strings.Join(more, "\n"))
}

// images gives how many live pods have each image.
func (m *machine) images() map[string]int {
	found := map[string]int{}
	for _, image := range m.pods() {
		found[image]++
	}
	return found
}

func (m *machine) awaitImages(what string, want map[string]int) {
	m.t.Helper()
	m.await(what, func() bool { return cmp.Equal(m.images(), want) })
}

func TestDaemonSet(t *testing.T) {
	m := newMachine(t)
	m.apply(agent("app:v1"))
	m.awaitHealth("DaemonSet", "agent", health.Healthy)
	m.awaitImages("one pod", map[string]int{"app:v1": 1})
	if diff := cmp.Diff(map[string]any{"observedGeneration": int64(1), "desiredNumberScheduled": int64(1), "currentNumberScheduled": int64(1), "numberReady": int64(1),
		"numberAvailable": int64(1), "updatedNumberScheduled": int64(1), "numberMisscheduled": int64(0), "collisionCount": int64(0)}, m.get("DaemonSet", "agent").Object["status"]); diff != "" {
		t.Error(diff)
	}
	for name := range m.pods() {
		l := m.get("Pod", name).GetLabels()
		if l["pod-template-generation"] != "1" || l["controller-revision-hash"] == "" || !strings.HasPrefix(name, "agent-") || m.get("ControllerRevision", "agent-"+l["controller-revision-hash"]) == nil {
			t.Errorf("%s %v", name, l)
		}
		m.delete("", "Pod", name)
	}
	m.awaitHealth("DaemonSet", "agent", health.Healthy)
	m.reopen()
	m.apply(agent("broken"))
	m.awaitImages("the old one goes first", map[string]int{"broken": 1})
	m.apply(agent("app:v3"))
	m.awaitHealth("DaemonSet", "agent", health.Healthy)
	m.delete("apps", "DaemonSet", "agent")
	m.await("all is gone", func() bool { all, _ := m.List(t.Context(), ""); return len(all) == 0 })
}

// TestDaemonSetNeverTwo: without a surge the next pod waits until the one before has ended.
func TestDaemonSetNeverTwo(t *testing.T) {
	m := newMachine(t)
	m.apply(agent("app:v1"))
	m.awaitHealth("DaemonSet", "agent", health.Healthy)
	m.executor.set(func(e *inProcess) { e.stubborn = true })
	m.apply(agent("app:v2"))
	m.await("the old one is told to end", func() bool { return len(m.pods()) == 0 })
	m.await("it is seen", func() bool { return field(m.get("DaemonSet", "agent"), "status", "observedGeneration") == int64(2) })
	if n := len(m.executor.running()); n != 1 {
		t.Errorf("%d run", n)
	}
}

func TestDaemonSetSurges(t *testing.T) {
	m := newMachine(t)
	const surge = "  updateStrategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}"
	m.apply(agent("app:v1", surge))
	m.awaitHealth("DaemonSet", "agent", health.Healthy)
	m.apply(agent("broken", surge))
	m.awaitImages("the old one stays until the new one serves", map[string]int{"app:v1": 1, "broken": 1})
	m.reopen()
	m.apply(agent("app:v2", surge))
	m.awaitImages("then it goes", map[string]int{"app:v2": 1})
	m.awaitHealth("DaemonSet", "agent", health.Healthy)
}

func TestDaemonSetOnDelete(t *testing.T) {
	m := newMachine(t)
	const onDelete = "  updateStrategy: {type: OnDelete}"
	m.apply(agent("app:v1", onDelete))
	m.awaitHealth("DaemonSet", "agent", health.Healthy)
	m.apply(agent("app:v2", onDelete))
	m.await("it is seen", func() bool { return field(m.get("DaemonSet", "agent"), "status", "updatedNumberScheduled") == nil })
	for name, image := range m.pods() {
		if image != "app:v1" {
			t.Errorf("%s has %s", name, image)
		}
		m.delete("", "Pod", name)
	}
	m.awaitImages("after it was deleted", map[string]int{"app:v2": 1})
}

// TestDaemonSetElsewhere: what is for other nodes has no pod here and is healthy, as on a cluster without such a node; the check says it.
func TestDaemonSetElsewhere(t *testing.T) {
	m := newMachine(t)
	affinity := func(terms string) string {
		return "      affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [" + terms + "]}}}"
	}
	for _, c := range []struct {
		spec string
		runs int
	}{
		{"      nodeSelector: {gpu: 'true'}", 0},
		{"      nodeSelector: {kubernetes.io/os: linux, kubernetes.io/arch: " + runtime.GOARCH + "}", 1},
		{"      nodeSelector: {kubernetes.io/os: windows}", 0},
		{"      nodeName: elsewhere.example.org", 0},
		{affinity("{matchExpressions: [{key: kubernetes.io/os, operator: In, values: [linux]}]}"), 1},
		{affinity("{matchExpressions: [{key: gpu, operator: Exists}]}"), 0},
		{affinity("{matchExpressions: [{key: gpu, operator: DoesNotExist}, {key: kubernetes.io/os, operator: NotIn, values: [windows]}]}"), 1},
		{affinity("{matchExpressions: [{key: gpu, operator: Exists}]}, {matchExpressions: [{key: kubernetes.io/os, operator: Exists}]}"), 1},
		{affinity("{matchExpressions: [{key: cores, operator: Gt, values: ['4']}]}"), 0},
		{affinity("{matchFields: [{key: metadata.name, operator: In, values: [elsewhere.example.org]}]}"), 0},
		{affinity("{}"), 0},
	} {
		m.apply(agent("app:v1", c.spec))
		m.await(c.spec, func() bool {
			o := m.get("DaemonSet", "agent")
			h, _ := health.Of(o)
			return len(m.pods()) == c.runs && len(m.executor.running()) == c.runs && field(o, "status", "desiredNumberScheduled") == number(c.runs) && h.Status == health.Healthy
		})
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(agent("app:v1", c.spec)), &o.Object); err != nil {
			t.Fatal(err)
		}
		problems, err := m.Check(t.Context(), []*unstructured.Unstructured{o}, deploy.ApplyOptions{})
		if err != nil || len(problems) != 1-c.runs || len(problems) == 1 && (problems[0].Fatal || !strings.Contains(problems[0].Message, "no pod runs")) {
			t.Errorf("%s: %+v %v", c.spec, problems, err)
		}
	}
}

func number(n int) any { return int64(n) }
