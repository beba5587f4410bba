package executor_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/scripted"
	"github.com/tiphys/tiphys/manifest"
)

// two are a registry of two scripted executors.
func two(t *testing.T) (_ *executor.Registry, oak, pine *scripted.Executor) {
	t.Helper()
	steps := map[string][]scripted.Step{"*": {{Duration: time.Minute, Log: "hewn\n"}}}
	oak, pine = scripted.New(scripted.Options{Steps: steps}), scripted.New(scripted.Options{Steps: steps})
	first, second := oak.Named(), pine.Named()
	first.Name, second.Name = "oak", "pine"
	r := executor.NewRegistry(podpolicy.New(), first, second)
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r, oak, pine
}

func id(node string) executor.ID { return executor.ID{Owner: "run", Node: node} }

func nodes(pods []executor.Pod) string {
	var names []string
	for _, p := range pods {
		names = append(names, p.ID.Node)
	}
	return strings.Join(names, " ")
}

func next(t *testing.T, r *executor.Registry) executor.Report {
	t.Helper()
	select {
	case rep := <-r.Reports():
		return rep
	case <-time.After(time.Minute):
		t.Fatal("no report within a minute")
	}
	return executor.Report{}
}

func TestPodsGoToTheExecutorThatTheyName(t *testing.T) {
	r, oak, pine := two(t)
	for _, p := range []executor.Pod{{ID: id("a")}, {ID: id("b"), Executor: "pine"}, {ID: id("c"), Executor: "oak"}} {
		if err := r.Start(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	if got := nodes(oak.Started()) + "|" + nodes(pine.Started()); got != "a c|b" {
		t.Errorf("started %s", got)
	}
	var refused *executor.RefusedError
	err := r.Start(t.Context(), executor.Pod{ID: id("d"), Executor: "elm"})
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), `no executor "elm" (it has oak, pine)`) {
		t.Errorf("got %v", err)
	}
	if problems, err := r.Check(t.Context(), executor.Pod{Executor: "elm"}); err != nil || len(problems) != 1 || !problems[0].Fatal {
		t.Errorf("checked: %+v, %v", problems, err)
	}
	var unknown *executor.UnknownError
	if _, err := r.Named("elm"); !errors.As(err, &unknown) {
		t.Errorf("got %v", err)
	}
	if n, err := r.Named(""); err != nil || n.Name != "oak" {
		t.Errorf("the default is %s, %v", n.Name, err)
	}
	from := map[string]string{}
	for range 3 {
		rep := next(t, r)
		from[rep.ID.Node] = rep.Executor
	}
	if diff := cmp.Diff(map[string]string{"a": "oak", "b": "pine", "c": "oak"}, from); diff != "" {
		t.Error(diff)
	}
	list, err := r.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	listed := ""
	for _, rep := range list {
		listed += rep.ID.Node + ":" + rep.Executor + " "
	}
	if listed != "a:oak b:pine c:oak " {
		t.Errorf("listed %s", listed)
	}
}

// What concerns an attempt goes to the executor that has it, also when nobody told this registry which that is.
func TestAttemptsAreFound(t *testing.T) {
	_, _, pine := two(t)
	first := scripted.New(scripted.Options{}).Named()
	second := pine.Named()
	second.Name = "pine"
	if err := pine.Start(t.Context(), executor.Pod{ID: id("b")}); err != nil {
		t.Fatal(err)
	}
	r := executor.NewRegistry(podpolicy.New(), first, second)
	t.Cleanup(func() { _ = r.Close() })
	log, err := r.Logs(t.Context(), id("b"), "main", executor.LogOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(log); err != nil || string(text) != "hewn\n" {
		t.Errorf("log %q, %v", text, err)
	}
	if _, err := r.Logs(t.Context(), id("nobody"), "main", executor.LogOptions{}); !errors.Is(err, executor.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if err := r.Stop(t.Context(), id("b"), 0); err != nil {
		t.Fatal(err)
	}
	list, err := r.List(t.Context())
	if err != nil || len(list) != 1 || list[0].Reason != executor.ReasonStopped {
		t.Fatalf("listed %+v, %v", list, err)
	}
	if err := r.Acknowledge(t.Context(), id("b")); err != nil {
		t.Fatal(err)
	}
	if list, err = r.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("listed %+v, %v", list, err)
	}
}

// A stop that comes before its start is remembered, whichever executor the start goes to.
func TestStopBeforeStart(t *testing.T) {
	r, _, _ := two(t)
	for _, name := range []string{"oak", "pine"} {
		if err := r.Stop(t.Context(), id(name), 0); err != nil {
			t.Fatal(err)
		}
		if err := r.Start(t.Context(), executor.Pod{ID: id(name), Executor: name}); err != nil {
			t.Fatal(err)
		}
		if rep := next(t, r); rep.ID != id(name) || rep.Reason != executor.ReasonStopped {
			t.Errorf("%s: %+v", name, rep)
		}
	}
}

// The registry is the door of each of its executors: what a pod's subject has no right to is a fatal problem, and does not start,
// whichever executor it names and whoever holds that one.
func TestRegistryIsADoor(t *testing.T) {
	repo := podpolicy.Subject{Kind: podpolicy.Repository, Repositories: []string{"harbour"}}
	plain := func(change func(*executor.Pod)) executor.Pod {
		p := executor.Pod{ID: id("a"), For: repo}
		p.Pod.Spec.Containers = []corev1.Container{{Name: "main", Image: "x"}}
		change(&p)
		return p
	}
	secret := func(p *executor.Pod) {
		p.Pod.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "key"}}}}
	}
	claim := func(owner string) func(p *executor.Pod) {
		return func(p *executor.Pod) {
			p.Claims = []executor.Claim{{Name: "work", Owner: owner}}
			p.Pod.Spec.Volumes = []corev1.Volume{{Name: "w", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "work"}}}}
		}
	}
	for _, c := range []struct {
		what string
		pod  executor.Pod
		want string // the field; empty if it starts
	}{
		{"a plain pod", plain(func(*executor.Pod) {}), ""},
		{"host network", plain(func(p *executor.Pod) { p.Pod.Spec.HostNetwork = true }), "spec.hostNetwork"},
		{"on the other executor", plain(func(p *executor.Pod) { p.Executor, p.Pod.Spec.HostNetwork = "pine", true }), "spec.hostNetwork"},
		{"a Secret", plain(secret), "spec.containers[0].envFrom[0].secretRef.name"},
		{"a Secret of nobody", plain(func(p *executor.Pod) { secret(p); p.For = podpolicy.Subject{} }), "spec.containers[0].envFrom[0].secretRef.name"},
		{"an artifact's Secret", plain(func(p *executor.Pod) {
			p.Outputs.Artifacts = []manifest.Artifact{{ArtifactLocation: manifest.ArtifactLocation{S3: &manifest.S3Artifact{AccessKeySecret: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "key"}}}}}}
		}), "outputs.artifacts[0].s3.accessKeySecret.name"},
		{"a claim of its run", plain(claim("run")), ""},
		{"a claim of nobody's", plain(claim("")), "spec.volumes[0].persistentVolumeClaim.claimName"},
		{"a claim of another run", plain(claim("other")), "spec.volumes[0].persistentVolumeClaim.claimName"},
		{"an executor that needs a grant", plain(func(p *executor.Pod) { p.Executor = "open" }), "metadata.annotations"},
		{"an executor of an epoch that needs a grant", plain(func(p *executor.Pod) { p.Executor = "later" }), "metadata.annotations"},
	} {
		t.Run(c.what, func(t *testing.T) {
			list := make([]executor.Named, 4)
			for i, name := range []string{"oak", "pine", "open", "later"} {
				list[i] = scripted.New(scripted.Options{Steps: map[string][]scripted.Step{"*": {{}}}}).Named()
				list[i].Name, list[i].NeedsGrant = name, i > 1
			}
			list[3] = executor.InEpoch(list[3], 2, nil)
			r := executor.NewRegistry(podpolicy.New(), list[0], list[1:]...)
			defer func() { _ = r.Close() }()
			one, err := r.Named(c.pod.Executor)
			if err != nil {
				t.Fatal(err)
			}
			for what, start := range map[string]func() error{
				"the registry": func() error { return r.Start(t.Context(), c.pod) }, "one of it": func() error { return one.Start(t.Context(), c.pod) },
				"judge": func() error {
					problems, err := r.Judge(t.Context(), c.pod)
					return errors.Join(err, executor.Refused(problems))
				},
				"check": func() error {
					problems, err := r.Check(t.Context(), c.pod)
					return errors.Join(err, executor.Refused(problems))
				},
			} {
				err := start()
				var refused *executor.RefusedError
				if c.want == "" && err != nil || c.want != "" && (!errors.As(err, &refused) || refused.Problems[0].Path != c.want) {
					t.Errorf("%s: %v, want a refusal of %q", what, err, c.want)
				}
			}
			if list, err := r.List(t.Context()); c.want != "" && (err != nil || len(list) > 0) {
				t.Errorf("it was started: %v %v", list, err)
			}
		})
	}
}

// kept is an executor that keeps the pods which it was asked about.
type kept struct {
	executor.Executor
	checked, started *[]corev1.Pod
}

func (k kept) Check(ctx context.Context, p executor.Pod) ([]executor.Problem, error) {
	*k.checked = append(*k.checked, p.Pod)
	return k.Executor.Check(ctx, p)
}

func (k kept) Start(ctx context.Context, p executor.Pod) error {
	*k.started = append(*k.started, p.Pod)
	return k.Executor.Start(ctx, p)
}

// A container that names no limits has the operator's where it is checked and where it starts, and one with more than it may have does not start.
func TestLimitsAreGivenAtTheDoor(t *testing.T) {
	limits := corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}
	policy := podpolicy.New(podpolicy.Grant{To: podpolicy.To{Namespaces: []string{"ci"}}, Containers: &podpolicy.Containers{Max: limits}})
	var checked, started []corev1.Pod
	inner := scripted.New(scripted.Options{Steps: map[string][]scripted.Step{"*": {{}}}}).Named()
	inner.Executor = kept{inner.Executor, &checked, &started}
	r := executor.NewRegistry(policy, inner)
	defer func() { _ = r.Close() }()
	p := executor.Pod{ID: id("a"), For: podpolicy.Subject{Kind: podpolicy.Own}}
	p.Pod.Namespace, p.Pod.Spec.Containers = "ci", []corev1.Container{{Name: "main", Image: "x"}}
	if problems, err := r.Check(t.Context(), p); err != nil || len(problems) > 0 {
		t.Fatal(problems, err)
	}
	if err := r.Start(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if len(checked) != 1 || len(started) != 1 || !started[0].Spec.Containers[0].Resources.Limits.Memory().Equal(limits["memory"]) ||
		!checked[0].Spec.Containers[0].Resources.Limits.Memory().Equal(limits["memory"]) || p.Pod.Spec.Containers[0].Resources.Limits != nil {
		t.Errorf("checked %+v, started %+v", checked, started)
	}
	p.ID, p.Pod.Spec.Containers[0].Resources.Limits = id("b"), corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("65Mi")}
	var refused *executor.RefusedError
	if err := r.Start(t.Context(), p); !errors.As(err, &refused) || refused.Problems[0].Path != "spec.containers[0].resources.limits.memory" || len(started) != 1 {
		t.Errorf("%v, started %d", err, len(started))
	}
}
