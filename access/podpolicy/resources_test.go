package podpolicy

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/tiphys/tiphys/manifest"
)

func podOf(t *testing.T, text string) *corev1.Pod {
	t.Helper()
	var pod corev1.Pod
	if err := yaml.UnmarshalStrict([]byte(text), &pod); err != nil {
		t.Fatal(err)
	}
	return &pod
}

// Kubernetes' documents on LimitRanges ("Configure Default Memory Requests and Limits for a Namespace", "Configure Minimum and Maximum
// Memory Constraints") say what comes of which container; ours may name a repository, too.
func TestContainersHaveLimits(t *testing.T) {
	const file = `
- {to: {repositories: [big]}, containers: {default: {memory: 2Gi}, max: {memory: 4Gi}}}
- {to: {namespaces: [ci-*]}, containers: {default: {cpu: "1", memory: 512Mi}, defaultRequest: {cpu: 100m}, max: {memory: 1Gi}}}
- {to: {namespaces: [bound]}, containers: {max: {cpu: "2"}}}`
	p := New(read(t, file)...)
	ours := Subject{Kind: Repository, Repositories: []string{"harbour"}}
	for _, c := range []struct {
		what, namespace, has, want string
		who                        Subject
		refused                    []string
	}{
		{"nothing for the namespace", "prod", "{}", "{}", ours, nil},
		{"no limit", "ci-a", "{}", "{limits: {cpu: '1', memory: 512Mi}, requests: {cpu: 100m, memory: 512Mi}}", ours, nil},
		{"a limit and no request", "ci-a", "{limits: {memory: 1Gi}}", "{limits: {cpu: '1', memory: 1Gi}, requests: {cpu: 100m, memory: 1Gi}}", ours, nil},
		{"a request and no limit", "ci-a", "{requests: {memory: 128Mi}}", "{limits: {cpu: '1', memory: 512Mi}, requests: {cpu: 100m, memory: 128Mi}}", ours, nil},
		{"a request above the default", "ci-a", "{requests: {memory: 768Mi}}", "{limits: {cpu: '1', memory: 512Mi}, requests: {cpu: 100m, memory: 768Mi}}", ours,
			[]string{"spec.containers[0].resources.requests.memory: 768Mi must be less than or equal to the memory limit of 512Mi"}},
		{"above the bound", "ci-a", "{limits: {memory: 2Gi}}", "{limits: {cpu: '1', memory: 2Gi}, requests: {cpu: 100m, memory: 2Gi}}", ours,
			[]string{"spec.containers[0].resources.limits.memory: maximum memory usage per Container is 1Gi, but limit is 2Gi",
				"spec.containers[0].resources.requests.memory: maximum memory usage per Container is 1Gi, but request is 2Gi"}},
		{"a bound alone", "bound", "{}", "{limits: {cpu: '2'}, requests: {cpu: '2'}}", ours, nil},
		{"a fork has them as well", "ci-a", "{}", "{limits: {cpu: '1', memory: 512Mi}, requests: {cpu: 100m, memory: 512Mi}}",
			Subject{Kind: Repository, Repositories: []string{"harbour"}, MergeRequest: 1, Fork: "mallory/harbour"}, nil},
		{"and nobody", "ci-a", "{}", "{limits: {cpu: '1', memory: 512Mi}, requests: {cpu: 100m, memory: 512Mi}}", Subject{Kind: Nobody}, nil},
		{"the first default, and every bound", "ci-a", "{}", "{limits: {cpu: '1', memory: 2Gi}, requests: {cpu: 100m, memory: 2Gi}}", Subject{Kind: Repository, Repositories: []string{"big"}},
			[]string{"spec.containers[0].resources.limits.memory: maximum memory usage per Container is 1Gi, but limit is 2Gi",
				"spec.containers[0].resources.requests.memory: maximum memory usage per Container is 1Gi, but request is 2Gi"}},
		{"the operator", "ci-a", "{}", "{}", Subject{Kind: Operator}, nil},
	} {
		pod := podOf(t, "metadata: {namespace: "+c.namespace+"}\nspec: {containers: [{name: a, resources: "+c.has+"}]}")
		before := pod.DeepCopy()
		got, problems := p.Limit(c.who, pod)
		var refused []string
		for _, problem := range problems {
			refused = append(refused, problem.Path+": "+problem.Message)
		}
		want := podOf(t, "metadata: {namespace: "+c.namespace+"}\nspec: {containers: [{name: a, resources: "+c.want+"}]}")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", c.what, diff)
		}
		if diff := cmp.Diff(c.refused, refused); diff != "" {
			t.Errorf("%s: %s", c.what, diff)
		}
		if diff := cmp.Diff(before, pod); diff != "" {
			t.Errorf("%s: the pod itself was changed: %s", c.what, diff)
		}
	}
	pod := podOf(t, "metadata: {namespace: ci-a}\nspec: {initContainers: [{name: i}], containers: [{name: a}, {name: b}]}")
	got, _ := p.Limit(ours, pod)
	for _, c := range append(got.Spec.InitContainers, got.Spec.Containers...) {
		if len(c.Resources.Limits) != 2 {
			t.Errorf("container %s has %v", c.Name, c.Resources)
		}
	}
	if given := p.Given(ours, "ci-a"); len(given) != 1 || given[0] != "containers: default cpu 1, default memory 512Mi, defaultRequest cpu 100m, max memory 1Gi" {
		t.Errorf("%q", given)
	}
}

func TestContainersOfAGrantRefuse(t *testing.T) {
	for text, want := range map[string]string{
		"{default: {gpu: 1}}":                           "server.yaml:3:62: grants[0].containers.default.gpu: \"gpu\" is no resource",
		"{default: {cpu: 0}}":                           "0 is nothing",
		"{default: {cpu: -1}}":                          "-1 is nothing",
		"{default: {cpu: 2}, max: {cpu: 1}}":            "grants[0].containers.default.cpu: 2 is more than max has, 1",
		"{defaultRequest: {cpu: 2}, default: {cpu: 1}}": "grants[0].containers.defaultRequest.cpu: 2 is more than default has, 1",
		"{defaultRequest: {cpu: 2}, max: {cpu: 1}}":     "2 is more than default has, 1",
		"{default: {cpu: much}}":                        "is not valid",
		"{default: {cpu: 1.0001e-99999999}}":            "exponent",
		"{min: {cpu: 1}}":                               "min",
		"{}":                                            "it gives nothing",
		"[]":                                            "expected map",
	} {
		grants, diags := tryRead("grants: [{to: {namespaces: ['*']}, containers: " + text + "}]\n")
		if err := manifest.FirstError(diags); err == nil || !strings.Contains(err.Error(), strings.TrimPrefix(want, "server.yaml:3:62: ")) || grants != nil {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
