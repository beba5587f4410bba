package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/manifest"
)

// door is a target behind a policy: what has a pod in it is judged before the target sees it.
type door struct {
	Target
	policy podpolicy.Policy
}

// Check implements [Target]: what the policy refuses is a fatal problem.
func (d door) Check(ctx context.Context, objects []*unstructured.Unstructured, opt ApplyOptions) ([]Problem, error) {
	policy, err := d.policy.Now(ctx)
	if err != nil {
		return nil, err
	}
	var problems []Problem
	for _, o := range objects {
		if err := manifest.CheckQuantities(o.Object); err != nil {
			return []Problem{{Key: KeyOf(o), Message: err.Error(), Fatal: true}}, nil //nolint:nilerr // it is the problem: nobody may read the object
		}
	}
	for _, o := range objects {
		for _, p := range judge(policy, o, opt.For) {
			problems = append(problems, Problem{Key: KeyOf(o), Path: p.Path, Message: p.String(), Fatal: true})
		}
	}
	more, err := d.Target.Check(ctx, objects, opt)
	return append(problems, more...), err
}

// Apply implements [Target]. A dry run is refused, too.
func (d door) Apply(ctx context.Context, o *unstructured.Unstructured, opt ApplyOptions) (*unstructured.Unstructured, error) {
	policy, err := d.policy.Now(ctx)
	if err != nil {
		return nil, err
	}
	if err := manifest.CheckQuantities(o.Object); err != nil {
		return nil, failure.Invalidf("apply %s: %v", KeyOf(o), err)
	}
	for _, p := range judge(policy, o, opt.For) {
		return nil, failure.WithHint(failure.Refusedf("apply %s: %s: %s", KeyOf(o), p.Path, p.Message), p.Hint)
	}
	return d.Target.Apply(ctx, o, opt)
}

// judge says what of an object's pods goes beyond the rights of whom it is for. What cannot be read as its kind is left to the target.
func judge(policy podpolicy.Policy, o *unstructured.Unstructured, who podpolicy.Subject) []podpolicy.Problem {
	path := podPath(o.GroupVersionKind().Group, o.GetKind())
	if path == nil {
		return nil
	}
	var tree any = o.Object
	for _, field := range path {
		object, _ := tree.(map[string]any)
		tree = object[field]
	}
	var template struct {
		Metadata struct {
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
		Spec corev1.PodSpec `json:"spec"`
	}
	raw, err := json.Marshal(tree)
	if err == nil {
		err = json.Unmarshal(raw, &template)
	}
	if err != nil {
		return []podpolicy.Problem{{Path: strings.Join(path, "."), Message: fmt.Sprintf("its pod cannot be judged: %v", err), Hint: "write it as Kubernetes has it"}}
	}
	pod := &corev1.Pod{Spec: template.Spec}
	pod.Namespace, pod.Annotations = o.GetNamespace(), template.Metadata.Annotations
	problems := policy.Judge(podpolicy.Wish{For: who, Pod: pod})
	_, beyond := policy.Limit(who, pod) // an executor's door gives the limits
	problems = append(problems, beyond...)
	for i := range problems {
		problems[i].Path = strings.Join(append(path[:len(path):len(path)], problems[i].Path), ".")
	}
	return problems
}

// podPath is where an object of a kind has its pod, or the template of its pods; nil for one without pods.
func podPath(group, kind string) []string {
	switch group + "/" + kind {
	case "/Pod":
		return []string{}
	case "apps/Deployment", "apps/ReplicaSet", "apps/StatefulSet", "apps/DaemonSet", "batch/Job", "/ReplicationController":
		return []string{"spec", "template"}
	case "batch/CronJob":
		return []string{"spec", "jobTemplate", "spec", "template"}
	case "/PodTemplate":
		return []string{"template"}
	}
	return nil
}
