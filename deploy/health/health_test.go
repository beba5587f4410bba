package health_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/health"
)

func object(t interface{ Fatal(...any) }, text string) *unstructured.Unstructured {
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
		t.Fatal(err)
	}
	return o
}

// The rules are those of argo-cd 3.6's built-in checks, one line of its table each.
func TestOf(t *testing.T) {
	for name, c := range map[string]struct{ manifest, want string }{
		"deployment behind":      {"{apiVersion: apps/v1, kind: Deployment, metadata: {generation: 2}, spec: {replicas: 1}, status: {observedGeneration: 1}}", health.Progressing},
		"deployment done":        {"{apiVersion: apps/v1, kind: Deployment, metadata: {generation: 2}, spec: {replicas: 1}, status: {observedGeneration: 2, replicas: 1, updatedReplicas: 1, availableReplicas: 1}}", health.Healthy},
		"deployment old pods":    {"{apiVersion: apps/v1, kind: Deployment, spec: {replicas: 1}, status: {replicas: 2, updatedReplicas: 1, availableReplicas: 1}}", health.Progressing},
		"deployment unavailable": {"{apiVersion: apps/v1, kind: Deployment, spec: {replicas: 1}, status: {replicas: 1, updatedReplicas: 1}}", health.Progressing},
		"deleted":                {"{apiVersion: apps/v1, kind: Deployment, metadata: {deletionTimestamp: '2026-01-01T00:00:00Z'}, spec: {paused: true}}", health.Progressing},
		"stateful set unseen":    {"{apiVersion: apps/v1, kind: StatefulSet, spec: {replicas: 1}}", health.Progressing},
		"stateful set on delete": {"{apiVersion: apps/v1, kind: StatefulSet, spec: {replicas: 1, updateStrategy: {type: OnDelete}}, status: {observedGeneration: 1, readyReplicas: 1, updateRevision: a, currentRevision: b}}", health.Healthy},
		"replica failure":        {"{apiVersion: apps/v1, kind: ReplicaSet, status: {conditions: [{type: ReplicaFailure, status: 'True', message: 'no'}]}}", health.Degraded},
		"claim lost":             {"{apiVersion: v1, kind: PersistentVolumeClaim, status: {phase: Lost}}", health.Degraded},
		"claim bound":            {"{apiVersion: v1, kind: PersistentVolumeClaim, status: {phase: Bound}}", health.Healthy},
		"load balancer waits":    {"{apiVersion: v1, kind: Service, spec: {type: LoadBalancer}}", health.Progressing},
		"ingress waits":          {"{apiVersion: networking.k8s.io/v1, kind: Ingress}", health.Progressing},
		"running after crash":    {"{apiVersion: v1, kind: Pod, spec: {restartPolicy: Always}, status: {phase: Running, containerStatuses: [{name: a, lastState: {terminated: {exitCode: 1}}}]}}", health.Degraded},
		"not decodable":          {"{apiVersion: v1, kind: Pod, spec: 7}", health.Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			got, known := health.Of(object(t, c.manifest))
			if !known || got.Status != c.want {
				t.Errorf("got %v (%s), want %s", got.Status, got.Message, c.want)
			}
		})
	}
	if _, known := health.Of(object(t, "{apiVersion: v1, kind: ConfigMap}")); known {
		t.Error("a ConfigMap has no health")
	}
}

// A pod without a restart policy is restarted always (Kubernetes API reference, PodSpec), so what keeps its container
// waiting is what a person must read.
func TestPodSaysWhyItWaits(t *testing.T) {
	got, _ := health.Of(object(t, `{apiVersion: v1, kind: Pod, spec: {}, status: {phase: Running, containerStatuses: [
		{name: a, state: {waiting: {reason: CrashLoopBackOff, message: back-off 10s}}, lastState: {terminated: {exitCode: 7}}}]}}`))
	if diff := cmp.Diff(deploy.Health{Status: health.Degraded, Message: "back-off 10s"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestAggregateIsTheWorst(t *testing.T) {
	statuses := []string{health.Healthy, health.Suspended, health.Progressing, health.Missing, health.Degraded, health.Unknown}
	rapid.Check(t, func(t *rapid.T) {
		var objects []health.Judged
		worst := 0
		for _, n := range rapid.SliceOf(rapid.IntRange(0, 5)).Draw(t, "statuses") {
			worst = max(worst, n)
			judged := health.Judged{}
			if statuses[n] != health.Missing {
				judged.Live = object(t, "{apiVersion: argoproj.io/v1alpha1, kind: Application, status: {health: {status: "+statuses[n]+"}}}")
			}
			objects = append(objects, judged)
		}
		if got := health.Aggregate(objects); got.Status != statuses[worst] {
			t.Fatalf("got %s, want %s", got.Status, statuses[worst])
		}
	})
}

func TestAggregateNamesTheCulprit(t *testing.T) {
	key := deploy.Key{Kind: "Deployment", Name: "api"}
	got := health.Aggregate([]health.Judged{{Key: deploy.Key{Kind: "Job", Name: "hook"}, Hook: true}, {Key: key}})
	if diff := cmp.Diff(deploy.Health{Status: health.Missing, Message: "Deployment api: not there"}, got); diff != "" {
		t.Error(diff)
	}
}
