package podpolicy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/tiphys/tiphys/manifest"
)

// Containers is what a container has that asks for nothing, and what it may have at most: an item of type Container of a LimitRange
// (https://kubernetes.io/docs/concepts/policy/limit-range/).
type Containers struct {
	// Default are the limits of a container that names none of its own. What it does not name and Max does is that.
	Default corev1.ResourceList `json:"default,omitempty"`
	// DefaultRequest are the requests of a container that names neither request nor limit. What it does not name and Default does is that.
	DefaultRequest corev1.ResourceList `json:"defaultRequest,omitempty"`
	// Max bounds limits and requests.
	Max corev1.ResourceList `json:"max,omitempty"`
}

// limitable are the resources that a grant may name: those that an executor limits.
func limitable() []corev1.ResourceName {
	return []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage}
}

// text is what it says, as a record shows it.
func (c Containers) text() string {
	var parts []string
	for _, list := range []struct {
		name string
		of   corev1.ResourceList
	}{{"default", c.Default}, {"defaultRequest", c.DefaultRequest}, {"max", c.Max}} {
		for _, name := range slices.Sorted(maps.Keys(list.of)) {
			q := list.of[name]
			parts = append(parts, fmt.Sprintf("%s %s %s", list.name, name, q.String()))
		}
	}
	return strings.Join(parts, ", ")
}

// filled is c with what follows from Max and Default, as Kubernetes fills a LimitRange up (pkg/apis/core/v1/defaults.go, SetDefaults_LimitRangeItem).
func (c Containers) filled() Containers {
	fill := func(list, from corev1.ResourceList) corev1.ResourceList {
		out := maps.Clone(from)
		if out == nil {
			out = corev1.ResourceList{}
		}
		maps.Copy(out, list)
		return out
	}
	c.Default = fill(c.Default, c.Max)
	c.DefaultRequest = fill(c.DefaultRequest, c.Default)
	return c
}

// Limit gives a pod the limits and requests that the operator's file has for containers which name none, and says what of it is more than
// they may have. A pod for which the file has nothing is given back as it is; any other is a copy. Of the defaults the first grant that
// is for the pod and names a resource counts; of the bounds each. They hold for merge requests, forks and unproved events, too.
func (p Policy) Limit(s Subject, pod *corev1.Pod) (*corev1.Pod, []Problem) {
	if s.Kind == Operator {
		return pod, nil
	}
	namespace := namespaceOf(pod)
	var ranges []Containers
	for _, g := range p.grants {
		if g.Containers != nil && slices.ContainsFunc(s.asked(), func(repo string) bool { return g.To.about(s, namespace, repo) }) {
			ranges = append(ranges, g.Containers.filled())
		}
	}
	if len(ranges) == 0 {
		return pod, nil
	}
	pod = pod.DeepCopy()
	var problems []Problem
	for _, list := range []struct {
		path       string
		containers []corev1.Container
	}{{"spec.initContainers", pod.Spec.InitContainers}, {"spec.containers", pod.Spec.Containers}} {
		for i := range list.containers {
			c := &list.containers[i]
			c.Resources = limited(c.Resources, ranges)
			problems = append(problems, beyond(fmt.Sprintf("%s[%d].resources", list.path, i), c.Resources, ranges)...)
		}
	}
	return pod, problems
}

// limited fills limits and requests: a request that is missing is the limit that the container names itself, and after that the default.
func limited(r corev1.ResourceRequirements, ranges []Containers) corev1.ResourceRequirements {
	set := func(list *corev1.ResourceList, from corev1.ResourceList) {
		for name, q := range from {
			if _, has := (*list)[name]; has {
				continue
			}
			if *list == nil {
				*list = corev1.ResourceList{}
			}
			(*list)[name] = q.DeepCopy()
		}
	}
	set(&r.Requests, r.Limits)
	for _, c := range ranges {
		set(&r.Limits, c.Default)
		set(&r.Requests, c.DefaultRequest)
	}
	return r
}

// beyond says what is more than a bound, or a request more than its limit. The words are Kubernetes' (plugin/pkg/admission/limitranger).
func beyond(path string, r corev1.ResourceRequirements, ranges []Containers) []Problem {
	const hint = "ask for less, or have the operator raise the bound in the grants of the server's configuration"
	var problems []Problem
	for _, list := range []struct {
		field, word string
		of          corev1.ResourceList
	}{{"limits", "limit", r.Limits}, {"requests", "request", r.Requests}} {
		for _, name := range slices.Sorted(maps.Keys(list.of)) {
			q := list.of[name]
			if most, ok := least(ranges, name); ok && q.Cmp(most) > 0 {
				problems = append(problems, Problem{Path: fmt.Sprintf("%s.%s.%s", path, list.field, name), Hint: hint,
					Message: fmt.Sprintf("maximum %s usage per Container is %s, but %s is %s", name, most.String(), list.word, q.String())})
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Requests)) {
		request, limit := r.Requests[name], r.Limits[name]
		if _, has := r.Limits[name]; has && request.Cmp(limit) > 0 {
			problems = append(problems, Problem{Path: fmt.Sprintf("%s.requests.%s", path, name), Hint: "name a limit as well",
				Message: fmt.Sprintf("%s must be less than or equal to the %s limit of %s", request.String(), name, limit.String())})
		}
	}
	return problems
}

// least is the narrowest bound of a resource.
func least(ranges []Containers, name corev1.ResourceName) (most resource.Quantity, ok bool) {
	for _, c := range ranges {
		if q, has := c.Max[name]; has && (!ok || q.Cmp(most) < 0) {
			most, ok = q, true
		}
	}
	return most, ok
}

// containers checks what a grant says of containers.
func (r *reader) containers(t *manifest.Tree, path string, c *Containers) {
	if c == nil {
		return
	}
	full := c.filled()
	for _, list := range []struct {
		name     string
		of, most corev1.ResourceList
		mostName string
	}{
		{name: "max", of: c.Max},
		{name: "default", of: c.Default, most: c.Max, mostName: "max"},
		{name: "defaultRequest", of: c.DefaultRequest, most: full.Default, mostName: "default"},
	} {
		for _, name := range slices.Sorted(maps.Keys(list.of)) {
			q := list.of[name]
			field := "containers." + list.name
			where, p := at(t, path, field+"."+string(name))
			if where == t {
				where, p = at(t, path, field)
			}
			most, bounded := list.most[name]
			switch {
			case !slices.Contains(limitable(), name):
				r.refuse(where, p, fmt.Sprintf("%q is no resource that is limited here", name), "the resources are cpu, memory and ephemeral-storage")
			case q.Sign() <= 0:
				r.refuse(where, p, fmt.Sprintf("%s is nothing", q.String()), "write more than 0, or leave it out")
			case bounded && q.Cmp(most) > 0:
				r.refuse(where, p, fmt.Sprintf("%s is more than %s has, %s", q.String(), list.mostName, most.String()), "write at most that")
			}
		}
	}
}
