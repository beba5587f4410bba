package local_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/plan"
)

// TestDefaults: an object is kept with Kubernetes' defaults, and they are no difference to the manifest that has none of them.
func TestDefaults(t *testing.T) {
	m := newMachine(t)
	const wish = `{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: prod}, spec: {selector: {matchLabels: {app: web}},
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: web, image: 'app:v1', readinessProbe: {httpGet: {port: 8080}}}]}}}}`
	m.apply(wish)
	live := m.get("Deployment", "web")
	containers, _, _ := unstructured.NestedSlice(live.Object, "spec", "template", "spec", "containers")
	container, _ := containers[0].(map[string]any)
	pod, _, _ := unstructured.NestedMap(live.Object, "spec", "template", "spec")
	spec, _, _ := unstructured.NestedMap(live.Object, "spec")
	for want, got := range map[string]any{
		"1": spec["replicas"], "600": spec["progressDeadlineSeconds"], "10": spec["revisionHistoryLimit"],
		"map[rollingUpdate:map[maxSurge:25% maxUnavailable:25%] type:RollingUpdate]": spec["strategy"],
		"Always": pod["restartPolicy"], "30": pod["terminationGracePeriodSeconds"], "IfNotPresent": container["imagePullPolicy"],
		"map[failureThreshold:3 httpGet:map[path:/ port:8080 scheme:HTTP] periodSeconds:10 successThreshold:1 timeoutSeconds:1]": container["readinessProbe"],
	} {
		if fmt.Sprint(got) != want {
			t.Errorf("got %v, want %s", got, want)
		}
	}
	dry, err := m.Apply(t.Context(), document(t, wish), deploy.ApplyOptions{Application: "default/app", DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	if paths := (plan.Views{Predicted: true}).Differences(dry, m.get("Deployment", "web")); len(paths) > 0 {
		t.Errorf("the manifest differs in %v", paths)
	}
	if generation := m.get("Deployment", "web").GetGeneration(); generation != 1 {
		t.Errorf("generation %d", generation)
	}
}

// TestFixedFields: what Kubernetes lets nobody change (API reference of each field) is refused with the field, and recreated where that is asked for.
func TestFixedFields(t *testing.T) {
	m := newMachine(t)
	for field, x := range map[string][2]string{
		"spec.selector": {"{apiVersion: apps/v1, kind: Deployment, metadata: {name: a, namespace: prod}, spec: {replicas: 0, selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: a, b: c}}, spec: {containers: [{name: a, image: 'app:v1'}]}}}}",
			"{apiVersion: apps/v1, kind: Deployment, metadata: {name: a, namespace: prod}, spec: {replicas: 0, selector: {matchLabels: {b: c}}, template: {metadata: {labels: {app: a, b: c}}, spec: {containers: [{name: a, image: 'app:v1'}]}}}}"},
		"data": {"{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: prod}, immutable: true, data: {a: b}}", "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: prod}, immutable: true, data: {a: c}}"},
		"data: cannot be changed, since the Secret is immutable": {"{apiVersion: v1, kind: Secret, metadata: {name: c, namespace: prod}, immutable: true, stringData: {a: b}}", "{apiVersion: v1, kind: Secret, metadata: {name: c, namespace: prod}, immutable: true, stringData: {a: d}}"},
		"immutable": {"{apiVersion: v1, kind: Secret, metadata: {name: a, namespace: prod}, immutable: true, stringData: {a: b}}", "{apiVersion: v1, kind: Secret, metadata: {name: a, namespace: prod}, stringData: {a: b}}"},
		"type":      {"{apiVersion: v1, kind: Secret, metadata: {name: b, namespace: prod}, stringData: {a: b}}", "{apiVersion: v1, kind: Secret, metadata: {name: b, namespace: prod}, type: example.com/own, stringData: {a: b}}"},
		"roleless":  {"{apiVersion: v1, kind: Service, metadata: {name: a, namespace: prod}, spec: {selector: {a: b}, ports: [{port: 80}]}}", ""},
	} {
		m.apply(x[0])
		if m.apply(x[0]); x[1] == "" {
			continue
		}
		next := document(t, x[1])
		opt := deploy.ApplyOptions{Application: "default/app"}
		if _, err := m.Apply(t.Context(), next, opt); err == nil || !strings.Contains(err.Error(), field+":") || !strings.Contains(err.Error(), "Force=true") {
			t.Errorf("%s: %v", field, err)
		}
		opt.Force = true
		if _, err := m.Apply(t.Context(), next, opt); !errors.Is(err, deploy.ErrLeaving) {
			t.Errorf("%s, by force: %v", field, err)
		}
	}
}
