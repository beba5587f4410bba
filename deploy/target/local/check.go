package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/schema"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/keeper/front"
)

// kinds are those that can be applied.
var kinds = []deploy.Kind{{Kind: "Namespace"}, {Kind: "ConfigMap", Namespaced: true}, {Kind: "ServiceAccount", Namespaced: true}, {Kind: "Secret", Namespaced: true},
	{Group: "apps", Kind: "Deployment", Namespaced: true}, {Kind: "Pod", Namespaced: true}, {Group: "batch", Kind: "Job", Namespaced: true},
	{Group: "apps", Kind: "StatefulSet", Namespaced: true}, {Group: "apps", Kind: "ReplicaSet", Namespaced: true}, {Kind: "ReplicationController", Namespaced: true},
	{Group: "apps", Kind: "DaemonSet", Namespaced: true}, {Group: "batch", Kind: "CronJob", Namespaced: true}, {Group: "policy", Kind: "PodDisruptionBudget", Namespaced: true},
	{Kind: "PersistentVolumeClaim", Namespaced: true}, {Group: "storage.k8s.io", Kind: "StorageClass"},
	{Kind: "Service", Namespaced: true}, {Group: "networking.k8s.io", Kind: "Ingress", Namespaced: true}}

// policyKind can be applied where pods can be held to it.
var policyKind = deploy.Kind{Group: "networking.k8s.io", Kind: "NetworkPolicy", Namespaced: true}

// Capabilities implements deploy.Target.
func (t *Target) Capabilities(ctx context.Context) (deploy.Capabilities, error) {
	if err := ctx.Err(); err != nil {
		return deploy.Capabilities{}, fmt.Errorf("ask for capabilities: %w", err)
	}
	c := deploy.Capabilities{Version: "6", Kinds: slices.Clone(kinds)}
	if t.o.Wall != nil {
		c.Version, c.Kinds = c.Version+" with NetworkPolicies", append(c.Kinds, policyKind)
	}
	return c, nil
}

// Check implements deploy.Target.
func (t *Target) Check(ctx context.Context, objects []*unstructured.Unstructured, opt deploy.ApplyOptions) ([]deploy.Problem, error) {
	var found []deploy.Problem
	rules := new(schema.Checker)
	for _, o := range objects {
		problems, err := t.check(ctx, rules, o, opt)
		if err != nil {
			return nil, err
		}
		found = append(found, problems...)
	}
	found = append(found, unproved(objects)...)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, o := range objects {
		if err := t.claims(o, opt); err != nil {
			found = append(found, deploy.Problem{Key: deploy.KeyOf(o), Message: err.Error(), Fatal: true})
		}
	}
	return found, nil
}

type checker struct {
	ctx      context.Context
	t        *Target
	key      deploy.Key
	who      podpolicy.Subject
	ignore   deploy.Ignored
	problems []deploy.Problem
	err      error // nobody knows at the moment
	// alone passes over what only a running target knows.
	alone bool
}

func (c *checker) say(fatal bool, path, format string, args ...any) {
	c.problems = append(c.problems, deploy.Problem{Key: c.key, Path: path, Message: fmt.Sprintf(format, args...), Fatal: fatal})
}

// check says what is wrong with an object: what Kubernetes would refuse, and what cannot be had here.
func (t *Target) check(ctx context.Context, rules *schema.Checker, o *unstructured.Unstructured, opt deploy.ApplyOptions) ([]deploy.Problem, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("check %s: %w", deploy.KeyOf(o), err)
	}
	c := &checker{ctx: ctx, t: t, key: deploy.KeyOf(o), who: opt.For, ignore: opt.Ignore}
	c.judge(rules, o)
	return c.problems, c.err
}

func (c *checker) judge(rules *schema.Checker, o *unstructured.Unstructured) {
	found, readable := rules.Check(o)
	if readable || !runs(c.key) {
		c.object(o)
	}
	if o.GetName() == "" { // a hook has got its own by now
		c.say(true, "metadata.name", "%s has no name", o.GetKind())
	}
	// Of two that say what is wrong with a field Kubernetes' own comes first.
	c.problems = slices.DeleteFunc(c.problems, func(p deploy.Problem) bool {
		return slices.ContainsFunc(found, func(other deploy.Problem) bool { return p.Path != "" && p.Path == other.Path })
	})
	c.problems = append(found, c.problems...)
}

// object looks at an object by its kind.
func (c *checker) object(o *unstructured.Unstructured) {
	gvk := o.GroupVersionKind()
	switch gvk.GroupKind().String() {
	case "Namespace", "ConfigMap", "ServiceAccount", "PodDisruptionBudget.policy": // Kubernetes' rules say all there is
	case "Secret":
		if c.t.o.Box == nil && !c.alone {
			c.say(true, "kind", "Secrets need a key to be kept with; start the server with one")
		}
		check(c, o, c.pair)
	case "Deployment.apps":
		check(c, o, func(d *appsv1.Deployment) { c.workload(d.Spec.Replicas, &d.Spec.Template) })
	case "ReplicaSet.apps":
		check(c, o, func(s *appsv1.ReplicaSet) { c.workload(s.Spec.Replicas, &s.Spec.Template) })
	case "ReplicationController":
		check(c, o, func(r *corev1.ReplicationController) { c.workload(r.Spec.Replicas, r.Spec.Template) })
	case "StatefulSet.apps":
		check(c, o, c.statefulSet)
	case "DaemonSet.apps":
		check(c, o, c.daemonSet)
	case "CronJob.batch":
		check(c, o, c.cronJob)
	case "PersistentVolumeClaim":
		check(c, o, c.claim)
	case "StorageClass.storage.k8s.io":
		check(c, o, c.storageClass)
	case "Pod":
		check(c, o, func(p *corev1.Pod) { c.pod("spec", *p) })
	case "Job.batch":
		check(c, o, func(j *batchv1.Job) { c.job("spec", &j.Spec) })
	case "Service":
		check(c, o, c.service)
	case "Ingress.networking.k8s.io":
		check(c, o, c.ingress)
	case "NetworkPolicy.networking.k8s.io":
		check(c, o, c.policy)
	default:
		c.unknown(gvk.Group, gvk.Kind)
	}
}

// unknown: a kind that is not here is refused, unless the Application says that it may be kept without effect.
func (c *checker) unknown(group, kind string) {
	entry := deploy.KindEntry(group, kind)
	switch _, err := deploy.ReadIgnored(entry); {
	case c.ignore.Has(group, kind):
		c.say(false, "kind", "%s has no effect on this machine: it is kept as the Application's annotation %s says", kind, deploy.AnnotationIgnoreKinds)
	case err != nil:
		c.say(true, "kind", "%s: not on this machine yet", kind)
	default:
		c.say(true, "kind", "%s: not on this machine yet: leave it out, or have the kind kept without effect by the Application's annotation %s: %s", kind, deploy.AnnotationIgnoreKinds, entry)
	}
}

// check decodes an object that Kubernetes would take.
func check[T any](c *checker, o *unstructured.Unstructured, f func(*T)) {
	raw, err := o.MarshalJSON()
	var typed T
	if err == nil {
		err = json.Unmarshal(raw, &typed)
	}
	if err != nil {
		c.say(true, "", "%s %s: %s", o.GetKind(), o.GetName(), strings.TrimPrefix(err.Error(), "json: "))
		return
	}
	f(&typed)
}

// maxReplicas bounds the pods of one object: each is a record, whether there is a place for it or not.
const maxReplicas = 1000

// replicas refuses more pods of one object than a machine has any use for.
func (c *checker) replicas(path string, n *int32) {
	if n != nil && (*n < 0 || *n > maxReplicas) {
		c.say(true, path, "from 0 to %d", maxReplicas)
	}
}

// workload looks at so many pods of a template that run for ever.
func (c *checker) workload(replicas *int32, template *corev1.PodTemplateSpec) {
	c.replicas("spec.replicas", replicas)
	if template == nil {
		template = &corev1.PodTemplateSpec{}
	}
	c.template("spec.template", *template)
}

func (c *checker) template(path string, template corev1.PodTemplateSpec) {
	c.pod(path+".spec", corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec})
}

func (c *checker) pod(path string, p corev1.Pod) {
	p.Name, p.Namespace = c.key.Name, c.key.Namespace
	for i, container := range p.Spec.Containers {
		if l := container.Lifecycle; l != nil && l.PostStart != nil {
			c.say(false, fmt.Sprintf("%s.containers[%d].lifecycle.postStart", path, i), "postStart has no effect here")
		}
	}
	if c.t.o.Executor == nil {
		return
	}
	problems, err := c.t.o.Executor.Check(c.ctx, executor.Pod{ID: executor.ID{Owner: OwnerPrefix + "check", Node: c.key.Name}, For: c.who, Pod: p})
	if err != nil {
		c.err = errors.Join(c.err, fmt.Errorf("check %s: %w", c.key, err))
	}
	for _, problem := range problems {
		c.problems = append(c.problems, deploy.Problem{Key: c.key, Path: problem.Path, Message: problem.Message, Fatal: problem.Fatal})
	}
}

func (c *checker) job(path string, j *batchv1.JobSpec) {
	if j.CompletionMode != nil && *j.CompletionMode != batchv1.NonIndexedCompletion {
		c.say(true, path+".completionMode", "%s is not on this machine yet", *j.CompletionMode)
	}
	c.replicas(path+".parallelism", j.Parallelism)
	if j.PodFailurePolicy != nil {
		c.say(false, path+".podFailurePolicy", "podFailurePolicy has no effect here")
	}
	c.template(path+".template", j.Template)
}

func (c *checker) service(s *corev1.Service) {
	switch s.Spec.Type {
	case "", corev1.ServiceTypeClusterIP:
	case corev1.ServiceTypeNodePort:
		c.say(false, "spec.type", "NodePort opens no port of this machine: the Service is reached by its name, from outside by an Ingress")
	case corev1.ServiceTypeLoadBalancer:
		c.say(false, "spec.type", "LoadBalancer has no outside address: the Service is reached by its name, from outside by an Ingress")
	default:
		c.say(true, "spec.type", "%s: not on this machine yet", s.Spec.Type)
	}
	for i, port := range s.Spec.Ports {
		if p := protocol(port); p != corev1.ProtocolTCP && p != corev1.ProtocolUDP {
			c.say(true, fmt.Sprintf("spec.ports[%d].protocol", i), "%s: only TCP and UDP are forwarded on this machine", p)
		}
	}
	if a := s.Spec.SessionAffinityConfig; a != nil && a.ClientIP != nil && a.ClientIP.TimeoutSeconds != nil {
		c.say(false, "spec.sessionAffinityConfig.clientIP.timeoutSeconds", "a client stays with its pod for as long as that is there, whatever the time")
	}
}

func (c *checker) ingress(i *networkingv1.Ingress) {
	c.tls(i)
	a := asksOf(i.Annotations, c.say)
	paths := 0
	for r, rule := range i.Spec.Rules {
		if rule.HTTP == nil {
			continue
		}
		paths += len(rule.HTTP.Paths)
		for p, route := range rule.HTTP.Paths {
			at := fmt.Sprintf("spec.rules[%d].http.paths[%d]", r, p)
			if route.Backend.Service == nil {
				c.say(true, at+".backend", "only Services can be behind an Ingress")
			}
			if paths > maxPathsOfIngress || !a.expression && (a.rewrite == "" || a.rewrite == route.Path) {
				continue
			}
			if _, err := front.Pattern(route.Path); err != nil {
				c.say(true, at+".path", "%v", err)
			}
		}
	}
	if paths += len(i.Spec.Rules); paths > maxPathsOfIngress {
		c.say(true, "spec.rules", "an Ingress of %d rules and paths is too large: at most %d are taken", paths, maxPathsOfIngress)
	}
	if b := i.Spec.DefaultBackend; b != nil && b.Service == nil {
		c.say(true, "spec.defaultBackend", "only Services can be behind an Ingress")
	}
}
