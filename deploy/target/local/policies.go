package local

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tiphys/tiphys/executor/netpolicy"
)

// walls are the NetworkPolicies that pods are held to.
type walls struct {
	policies netpolicy.Policies
	// plan is what is wished; nil if it is not known.
	plan *netpolicy.Plan
	// failed says why the executor does not hold pods to what is wished for: none begins until it does.
	failed error
}

func (c *checker) policy(p *networkingv1.NetworkPolicy) {
	if c.t.o.Wall == nil && !c.alone {
		c.say(true, "kind", "NetworkPolicy: pods are held to it by a network of their own, which they do not have here")
		return
	}
	for _, problem := range netpolicy.Check(&p.Spec) {
		c.say(problem.Fatal, problem.Path, "%s: %s", problem.Path, problem.Message)
	}
}

// wall has pods held to the NetworkPolicies that there are. t.mu is held.
func (t *Target) wall() {
	const what = "hold pods to NetworkPolicies (no pod begins meanwhile)"
	wanted := t.policies()
	if t.walls.plan != nil && t.walls.failed == nil && reflect.DeepEqual(wanted, t.walls.policies) {
		return
	}
	plan, err := netpolicy.Compile(wanted)
	if err == nil {
		t.walls.plan = plan
		err = t.hold(wanted)
	}
	if err != nil {
		t.walls.failed = fmt.Errorf("hold pods to NetworkPolicies: %w", err)
		t.again(what, err, networkRetry)
		return
	}
	t.walls = walls{policies: wanted, plan: plan}
	t.troubles.Over(what)
}

func (t *Target) hold(p netpolicy.Policies) error {
	if t.o.Wall != nil {
		return t.o.Wall.SetPolicies(p)
	}
	if len(p.Policies) > 0 {
		return errors.New("pods have no network of their own any more")
	}
	return nil
}

// policies are those that are not on their way out, and the labels of the namespaces.
func (t *Target) policies() netpolicy.Policies {
	p := netpolicy.Policies{}
	for _, o := range t.ofKind(policyKind.Kind) {
		if o.deleting() || o.Key.Group != policyKind.Group {
			continue
		}
		p.Policies = append(p.Policies, networkingv1.NetworkPolicy{
			ObjectMeta: metav1.ObjectMeta{Namespace: o.Key.Namespace, Name: o.Key.Name}, Spec: typedOf[networkingv1.NetworkPolicy](o).Spec,
		})
	}
	if p.Policies == nil {
		return p
	}
	p.Namespaces = map[string]map[string]string{}
	for _, o := range t.ofKind("Namespace") {
		// A change that nobody has merged chooses no labels that let it in elsewhere: its namespace goes by its name.
		if o.Key.Group != "" || o.For.MergeRequest != 0 {
			continue
		}
		if labels := o.live.GetLabels(); len(labels) > 0 {
			p.Namespaces[o.Key.Name] = labels
		}
	}
	return p
}

// letsFront says whether a pod's policies let requests of the front to one of its ports: they have the machine's address, whoever the client is.
func (t *Target) letsFront(p *pod, port int) bool {
	addr, err := netip.ParseAddr(p.ip)
	if err != nil || t.walls.plan == nil {
		return false
	}
	return t.walls.plan.Lets(netpolicy.Flow{From: t.o.Machine, Protocol: corev1.ProtocolTCP, Port: uint16(port)}, netpolicy.PodOf(addr, p.spec()))
}

// relabelled says that a pod, which may run, is to have other labels: who is let to it is decided when it begins.
func relabelled(old *object, next map[string]string) bool {
	return old.Key.Kind == "Pod" && old.Key.Group == "" && !maps.Equal(old.live.GetLabels(), next)
}
