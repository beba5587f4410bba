package podpolicy

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/manifest"
)

// Policy has the operator's grants. The zero value has none: everything is held to the baseline.
type Policy struct {
	grants    []Grant
	declared  Declared
	standards []check
}

// New returns a policy of grants, which were checked by [Read].
func New(grants ...Grant) Policy { return Policy{grants: grants, standards: checks()} }

// Wish is a pod that somebody wants to have started.
type Wish struct {
	For Subject
	// Pod is the final pod: nothing changes its spec any more.
	Pod *corev1.Pod
	// Executor is the name of the executor that is to run it, if that one needs a grant; empty if not.
	Executor string
	// Inputs and Outputs are artifacts that are moved on the pod's behalf, by what Secrets they name.
	Inputs, Outputs []manifest.Artifact
	// Claims are those of the pod's claims that were made for whoever owns the pod.
	Claims []string
}

// Problem is why a pod may not be started.
type Problem struct {
	// Path is the field: "spec.volumes[0].hostPath".
	Path string
	// Message says what is refused, and to whom.
	Message string
	// Hint names the grant that would allow it, or says that there is none.
	Hint string
}

// String is the problem on one line.
func (p Problem) String() string { return p.Message + ": " + p.Hint }

// Judge says what of a pod goes beyond the rights of whom it is for; nothing if it may be started.
func (p Policy) Judge(w Wish) []Problem {
	if w.For.Kind == Operator {
		return nil
	}
	j := judgement{Policy: p, wish: w, namespace: namespaceOf(w.Pod)}
	j.executor()
	j.standard()
	j.names()
	return j.problems
}

// Header tells whether a request on a run's behalf may carry a value of a Secret; path is the field that names it.
func (p Policy) Header(s Subject, namespace, path, secret string) []Problem {
	j := judgement{Policy: p, wish: Wish{For: s}, namespace: namespace}
	j.secret(path, secret)
	return j.problems
}

// namespaceOf is the pod's namespace, which need not be written.
func namespaceOf(pod *corev1.Pod) string {
	if pod.Namespace == "" {
		return "default"
	}
	return pod.Namespace
}

// Given lists what grants give a subject in a namespace, in the order of the file: for the record.
func (p Policy) Given(s Subject, namespace string) []string {
	var given []string
	for _, g := range p.grants {
		for _, repo := range s.asked() {
			if s.Kind != Operator && g.To.covers(s, namespace, repo) {
				given = append(given, g.gives()...)
				break
			}
		}
	}
	return given
}

// gives is what the grant gives, as the file has it.
func (g Grant) gives() []string {
	var out []string
	if g.Pods != "" {
		out = append(out, "pods: "+string(g.Pods))
	}
	if g.HostNetwork {
		out = append(out, "hostNetwork: true")
	}
	if g.Containers != nil {
		if text := g.Containers.text(); text != "" {
			out = append(out, "containers: "+text)
		}
	}
	for _, list := range []struct {
		name  string
		items []string
	}{{"executors", g.Executors}, {"secrets", g.Secrets}, {"claims", g.Claims}, {"serviceAccounts", g.ServiceAccounts}} {
		for _, item := range list.items {
			out = append(out, list.name+": "+item)
		}
	}
	return out
}

// judgement is one pod on its way through the policy.
type judgement struct {
	Policy
	wish      Wish
	namespace string
	problems  []Problem
}

// refuse notes a problem; gives is what a grant would have to say.
func (j *judgement) refuse(path, gives, format string, args ...any) {
	j.problems = append(j.problems, Problem{Path: path, Message: fmt.Sprintf(format, args...), Hint: wanted(j.wish.For, j.namespace, gives)})
}

// executor refuses one that needs a grant.
func (j *judgement) executor() {
	name := j.wish.Executor
	if name == "" || j.all(j.wish.For, j.namespace, func(g Grant) bool { return slices.Contains(g.Executors, name) }) {
		return
	}
	j.refuse("metadata.annotations", "executors: ["+name+"]",
		"the %s executor gives a pod the files of its machine, which is not granted to %s; without it run in containers (annotation tiphys.dev/executor: container)",
		name, j.wish.For)
}
