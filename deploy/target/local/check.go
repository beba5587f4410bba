package local

import (
	"bytes"
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
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/keeper/front"
)

// kinds are those that can be applied.
var kinds = []deploy.Kind{{Kind: "Namespace"}, {Kind: "ConfigMap", Namespaced: true}, {Kind: "ServiceAccount", Namespaced: true}, {Kind: "Secret", Namespaced: true},
	{Group: "apps", Kind: "Deployment", Namespaced: true}, {Kind: "Pod", Namespaced: true}, {Group: "batch", Kind: "Job", Namespaced: true},
	{Kind: "Service", Namespaced: true}, {Group: "networking.k8s.io", Kind: "Ingress", Namespaced: true}}

// policyKind can be applied where pods can be held to it.
var policyKind = deploy.Kind{Group: "networking.k8s.io", Kind: "NetworkPolicy", Namespaced: true}

// Capabilities implements deploy.Target.
func (t *Target) Capabilities(ctx context.Context) (deploy.Capabilities, error) {
	if err := ctx.Err(); err != nil {
		return deploy.Capabilities{}, fmt.Errorf("ask for capabilities: %w", err)
	}
	c := deploy.Capabilities{Version: "2", Kinds: slices.Clone(kinds)}
	if t.o.Wall != nil {
		c.Version, c.Kinds = c.Version+" with NetworkPolicies", append(c.Kinds, policyKind)
	}
	return c, nil
}

// Check implements deploy.Target.
func (t *Target) Check(ctx context.Context, objects []*unstructured.Unstructured, opt deploy.ApplyOptions) ([]deploy.Problem, error) {
	var found []deploy.Problem
	for _, o := range objects {
		problems, err := t.check(ctx, o, opt.For)
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
	problems []deploy.Problem
	err      error // nobody knows at the moment
	// strict refuses unknown fields, and passes over what only a running target knows.
	strict bool
}

func (c *checker) say(fatal bool, path, format string, args ...any) {
	c.problems = append(c.problems, deploy.Problem{Key: c.key, Path: path, Message: fmt.Sprintf(format, args...), Fatal: fatal})
}

func (t *Target) check(ctx context.Context, o *unstructured.Unstructured, who podpolicy.Subject) ([]deploy.Problem, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("check %s: %w", deploy.KeyOf(o), err)
	}
	c := &checker{ctx: ctx, t: t, key: deploy.KeyOf(o), who: who}
	c.object(o)
	return c.problems, c.err
}

// object looks at an object by its kind.
func (c *checker) object(o *unstructured.Unstructured) {
	gvk := o.GroupVersionKind()
	if o.GetName() == "" {
		c.say(true, "metadata.name", "%s has no name", gvk.Kind)
	}
	switch gvk.GroupKind().String() {
	case "Namespace", "ConfigMap", "ServiceAccount":
		c.plain(o)
	case "Secret":
		if c.t.o.Box == nil && !c.strict {
			c.say(true, "kind", "Secrets need a key to be kept with; start the server with one")
		}
		check(c, o, c.pair)
	case "Deployment.apps":
		check(c, o, func(d *appsv1.Deployment) { c.template("spec.template", d.Spec.Template, corev1.RestartPolicyAlways) })
	case "Pod":
		check(c, o, func(p *corev1.Pod) { c.pod("spec", *p) })
	case "Job.batch":
		check(c, o, c.job)
	case "Service":
		check(c, o, c.service)
	case "Ingress.networking.k8s.io":
		check(c, o, c.ingress)
	case "NetworkPolicy.networking.k8s.io":
		check(c, o, c.policy)
	default:
		c.say(true, "kind", "%s: not on this machine yet", gvk.Kind)
	}
}

// check decodes strictly enough to find what could not be acted on.
func check[T any](c *checker, o *unstructured.Unstructured, f func(*T)) {
	raw, err := o.MarshalJSON()
	var typed T
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(raw))
		if c.strict {
			d.DisallowUnknownFields()
		}
		err = d.Decode(&typed)
	}
	if err != nil {
		c.say(true, "", "%s %s: %s", o.GetKind(), o.GetName(), strings.TrimPrefix(err.Error(), "json: "))
		return
	}
	f(&typed)
}

func (c *checker) template(path string, template corev1.PodTemplateSpec, restart corev1.RestartPolicy) {
	if p := template.Spec.RestartPolicy; p != "" && p != restart && restart != "" {
		c.say(true, path+".spec.restartPolicy", "must be %s", restart)
	}
	if len(template.Spec.Containers) == 0 {
		c.say(true, path+".spec.containers", "there is no container")
	}
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

func (c *checker) job(j *batchv1.Job) {
	if p := j.Spec.Template.Spec.RestartPolicy; p != corev1.RestartPolicyNever && p != corev1.RestartPolicyOnFailure {
		c.say(true, "spec.template.spec.restartPolicy", "must be Never or OnFailure")
	}
	if j.Spec.CompletionMode != nil && *j.Spec.CompletionMode != batchv1.NonIndexedCompletion {
		c.say(true, "spec.completionMode", "%s is not on this machine yet", *j.Spec.CompletionMode)
	}
	if j.Spec.PodFailurePolicy != nil {
		c.say(false, "spec.podFailurePolicy", "podFailurePolicy has no effect here")
	}
	c.template("spec.template", j.Spec.Template, "")
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
