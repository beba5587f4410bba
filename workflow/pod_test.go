package workflow_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/workflow/workflowtest"
)

const podManifest = `
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: w}
spec:
  entrypoint: main
  podSpecPatch: '{"terminationGracePeriodSeconds": 7}'
  volumeClaimTemplates:
  - metadata: {name: work}
  volumes:
  - {name: other, persistentVolumeClaim: {claimName: shared}}
  templates:
  - name: main
    podSpecPatch: |
      containers: [{name: main, workingDir: "/{{workflow.name}}"}]
    script: {image: i, command: [sh], args: [x], volumeMounts: [{name: work, mountPath: /w}]}
    sidecars:
    - {name: near, image: i, mirrorVolumeMounts: true}
    - {name: far, image: i}
`

// TestPod: patches, claims and mirrored mounts of Argo's pods (reference 1.1, 1.2); a script without a source is a
// container (e2e functional/TestLoopEmptyParam).
func TestPod(t *testing.T) {
	_, pods := submitText(t, podManifest, nil, nil)
	p := pods[0]
	if p.Script != nil {
		t.Errorf("a script without source has one: %+v", p.Script)
	}
	if g := p.Pod.Spec.TerminationGracePeriodSeconds; g == nil || *g != 7 {
		t.Errorf("podSpecPatch of the run had no effect: %v", g)
	}
	if d := p.Pod.Spec.Containers[0].WorkingDir; d != "/w" {
		t.Errorf("podSpecPatch of the template had no effect: %q", d)
	}
	if len(p.Claims) != 1 || p.Claims[0].Name != "w-work" || p.Claims[0].Namespace != "default" || p.Claims[0].Owner != "uid-w" {
		t.Errorf("the run's own claims are %+v", p.Claims) // and not the one that it shares
	}
	mounts := map[string][]corev1.VolumeMount{}
	for _, c := range p.Pod.Spec.Containers {
		mounts[c.Name] = c.VolumeMounts
	}
	work := []corev1.VolumeMount{{Name: "work", MountPath: "/w"}}
	if diff := cmp.Diff(map[string][]corev1.VolumeMount{"main": work, "near": work, "far": nil}, mounts); diff != "" {
		t.Error(diff)
	}
}

// TestContainerSetPod: what Argo's containerSet says of order and retries (reference 1.2) reaches the executor.
func TestContainerSetPod(t *testing.T) {
	_, pods := submitText(t, `
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: w}
spec:
  entrypoint: main
  templates:
  - name: main
    containerSet:
      retryStrategy: {retries: 2, duration: 5s}
      containers:
      - {name: a, image: i}
      - {name: main, image: i, dependencies: [a]}
`, nil, nil)
	p := pods[0]
	if diff := cmp.Diff([]string{"a", "main"}, p.Set); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string][]string{"main": {"a"}}, p.After); diff != "" {
		t.Error(diff)
	}
	if p.Main != "main" || p.Again != 2 || p.AgainWait != 5*time.Second {
		t.Errorf("main %q, again %d after %s", p.Main, p.Again, p.AgainWait)
	}
}

// TestHugeQuantityInAPatch: apimachinery would read it for minutes, and the test ends by its deadline.
func TestHugeQuantityInAPatch(t *testing.T) {
	w := &workflowtest.World{Stuck: 1000}
	wf, _, err := w.Load("wf.yaml", []byte(strings.Replace(podManifest, `"/{{workflow.name}}"`, `x, resources: {limits: {cpu: "1.0001e-99999999"}}`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	r, err := w.Submit(wf, nil)
	if err == nil {
		err = r.Finish()
	}
	if err == nil || !strings.Contains(err.Error(), "containers[0].resources.limits.cpu: the exponent of a quantity") {
		t.Error(err)
	}
}
