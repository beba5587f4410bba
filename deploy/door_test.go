package deploy_test

import (
	"context"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/failure"
)

// taking is a target that takes everything.
type taking struct {
	nothing
	took *int
}

func (t taking) Apply(_ context.Context, o *unstructured.Unstructured, _ deploy.ApplyOptions) (*unstructured.Unstructured, error) {
	*t.took++
	return o, nil
}

// Whatever has a pod in it is judged, wherever its kind has the pod.
func TestEveryKindWithAPodIsJudged(t *testing.T) {
	const pod = "hostPID: true, containers: [{name: c, image: x}]"
	for text, want := range map[string]string{
		"{apiVersion: v1, kind: Pod, spec: {" + pod + "}}":                                                           "spec.hostPID",
		"{apiVersion: v1, kind: ReplicationController, spec: {template: {spec: {" + pod + "}}}}":                     "spec.template.spec.hostPID",
		"{apiVersion: v1, kind: PodTemplate, template: {spec: {" + pod + "}}}":                                       "template.spec.hostPID",
		"{apiVersion: apps/v1, kind: Deployment, spec: {template: {spec: {" + pod + "}}}}":                           "spec.template.spec.hostPID",
		"{apiVersion: apps/v1, kind: ReplicaSet, spec: {template: {spec: {" + pod + "}}}}":                           "spec.template.spec.hostPID",
		"{apiVersion: apps/v1, kind: StatefulSet, spec: {template: {spec: {" + pod + "}}}}":                          "spec.template.spec.hostPID",
		"{apiVersion: apps/v1, kind: DaemonSet, spec: {template: {spec: {" + pod + "}}}}":                            "spec.template.spec.hostPID",
		"{apiVersion: batch/v1, kind: Job, spec: {template: {spec: {" + pod + "}}}}":                                 "spec.template.spec.hostPID",
		"{apiVersion: batch/v1, kind: CronJob, spec: {jobTemplate: {spec: {template: {spec: {" + pod + "}}}}}}":      "spec.jobTemplate.spec.template.spec.hostPID",
		"{apiVersion: apps/v1, kind: Deployment, spec: {template: {spec: {hostPID: 'true'}}}}":                       "its pod cannot be judged",
		"{apiVersion: apps/v1, kind: Deployment, spec: {template: {spec: {containers: [{name: c, image: x}]}}}}":     "",
		"{apiVersion: v1, kind: ConfigMap, data: {a: b}}":                                                            "",
		"{apiVersion: apps/v1, kind: Deployment, spec: {template: {spec: {serviceAccountName: s, containers: []}}}}": "",
	} {
		var o unstructured.Unstructured
		if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
			t.Fatal(err)
		}
		took := 0
		targets, err := deploy.NewTargets(podpolicy.New(), deploy.Cluster{Place: deploy.Place{Name: "a", Server: "https://a"}, Target: taking{took: &took}, Pods: nothing{}})
		if err != nil {
			t.Fatal(err)
		}
		cluster, err := targets.Named("a")
		if err != nil {
			t.Fatal(err)
		}
		_, err = cluster.Target.Apply(t.Context(), &o, deploy.ApplyOptions{For: podpolicy.Subject{Kind: podpolicy.Application, Name: "default/a"}})
		if (err == nil) != (want == "") || (took == 1) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want a refusal of %q", text, err, want)
		}
	}
}

// TestHugeQuantitiesAreNotRead: reading or comparing them would keep a processor busy for minutes, and the test ends by its deadline.
func TestHugeQuantitiesAreNotRead(t *testing.T) {
	for _, text := range []string{"1.0001e-99999999", "123456789012345678901234567890e99999999", "1e99999999"} {
		o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": "x", "namespace": "n"},
			"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"name": "a",
				"resources": map[string]any{"limits": map[string]any{"cpu": text}}}}}}}}}
		targets, err := deploy.NewTargets(podpolicy.New(), deploy.Cluster{Place: deploy.Place{Name: "a", Server: "https://a"}, Target: taking{}, Pods: nothing{}})
		if err != nil {
			t.Fatal(err)
		}
		cluster, err := targets.Named("a")
		if err != nil {
			t.Fatal(err)
		}
		problems, err := cluster.Target.Check(t.Context(), []*unstructured.Unstructured{o}, deploy.ApplyOptions{})
		if err != nil || len(problems) != 1 || !problems[0].Fatal || !strings.Contains(problems[0].Message, "exponent") {
			t.Errorf("%s: %v %v", text, problems, err)
		}
		if _, err := cluster.Target.Apply(t.Context(), o, deploy.ApplyOptions{}); failure.KindOf(err) != failure.Invalid {
			t.Errorf("%s: %v", text, err)
		}
	}
}
