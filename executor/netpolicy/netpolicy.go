// Package netpolicy reads NetworkPolicy objects (networking.k8s.io/v1) into a plan that an executor can hold its pods to. It is pure: it knows
// selectors and addresses, and no kernel. The rules are those of the API's reference, kubernetes.io/docs/concepts/services-networking/network-policies.
package netpolicy

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Policies are what pods are held to. They are data: an executor keeps them over restarts as JSON.
type Policies struct {
	// Policies have a name, a namespace and a specification that [Check] finds nothing fatal in.
	Policies []networkingv1.NetworkPolicy `json:"policies,omitempty"`
	// Namespaces are the labels of namespaces that selectors may see, by name. Each namespace has the label kubernetes.io/metadata.name as well,
	// whatever stands here.
	Namespaces map[string]map[string]string `json:"namespaces,omitempty"`
}

// Pod is what a policy sees of a pod with an address of its own.
type Pod struct {
	Address   netip.Addr
	Namespace string
	Labels    map[string]string
	// Ports are those that have names.
	Ports []NamedPort
}

// NamedPort is a port of a container that has a name.
type NamedPort struct {
	Name     string
	Protocol corev1.Protocol
	Port     uint16
}

// PodOf is what a policy sees of a pod.
func PodOf(address netip.Addr, p *corev1.Pod) Pod {
	pod := Pod{Address: address, Namespace: p.Namespace, Labels: p.Labels}
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for _, c := range list {
			for _, port := range c.Ports {
				if port.Name != "" && port.ContainerPort > 0 && port.ContainerPort <= maxPort {
					pod.Ports = append(pod.Ports, NamedPort{Name: port.Name, Protocol: protocolOr(&port.Protocol), Port: uint16(port.ContainerPort)})
				}
			}
		}
	}
	return pod
}

// Plan is what policies come to. The zero value holds nobody to anything.
type Plan struct {
	// Ingress and Egress have a policy each for the direction that it is about.
	Ingress, Egress []Policy
}

// Policy is one policy in one direction: the pods that it selects may have the traffic of its rules, and that of the other policies which select
// them, and no other.
type Policy struct {
	Rules     []Rule
	namespace string
	pods      labels.Selector
	labels    labelled
}

// Rule lets traffic from (for ingress) or to (for egress) some peers through, by some ports.
type Rule struct {
	// Anybody says that every address is a peer.
	Anybody bool
	// Blocks are addresses that are peers.
	Blocks []Block
	// NameService says that name service is a peer: what answers on port 53 and is no pod. Kubernetes has it as pods of the namespace kube-system
	// with the label k8s-app: kube-dns, so a rule that selects those means it.
	NameService bool
	// AnyPort says that all protocols and ports are let through.
	AnyPort bool
	// Ports are those by number, and Names those that the receiving pod calls so.
	Ports []Ports
	Names []Name

	peers []peer
}

// Block is a network without some parts of it.
type Block struct {
	Network netip.Prefix
	Except  []netip.Prefix
}

// Ports are the ports of a protocol from First to Last.
type Ports struct {
	Protocol    corev1.Protocol
	First, Last uint16
}

// Name is a port by its name.
type Name struct {
	Protocol corev1.Protocol
	Name     string
}

// peer is pods by their labels and their namespaces'.
type peer struct {
	namespace  string          // if namespaces is nil
	namespaces labels.Selector // nil for the policy's own
	pods       labels.Selector // nil for all
}

// labelled gives the labels of a namespace.
type labelled map[string]map[string]string

func (l labelled) of(namespace string) labels.Set {
	set := labels.Set{}
	for name, value := range l[namespace] {
		set[name] = value
	}
	set[corev1.LabelMetadataName] = namespace
	return set
}

// Selects says whether a policy is about a pod.
func (p *Policy) Selects(pod Pod) bool {
	return pod.Namespace == p.namespace && p.pods.Matches(labels.Set(pod.Labels))
}

// Has says whether a pod is a peer of one of a policy's rules by its labels.
func (p *Policy) Has(rule int, pod Pod) bool {
	return p.Rules[rule].has(p.labels, pod.Namespace, pod.Labels)
}

func (r *Rule) has(l labelled, namespace string, podLabels map[string]string) bool {
	return slices.ContainsFunc(r.peers, func(one peer) bool {
		switch {
		case one.namespaces == nil && one.namespace != namespace, one.namespaces != nil && !one.namespaces.Matches(l.of(namespace)):
			return false
		}
		return one.pods == nil || one.pods.Matches(labels.Set(podLabels))
	})
}

// Contains says whether an address is in a block.
func (b Block) Contains(a netip.Addr) bool {
	return b.Network.Contains(a) && !slices.ContainsFunc(b.Except, func(e netip.Prefix) bool { return e.Contains(a) })
}

// Flow is traffic to a pod from an address, which is another pod's or not.
type Flow struct {
	From     netip.Addr
	Pod      *Pod // who has that address; nil if no pod does
	Protocol corev1.Protocol
	Port     uint16
}

// Isolates says whether a policy of this direction selects a pod.
func Isolates(policies []Policy, pod Pod) bool {
	return slices.ContainsFunc(policies, func(p Policy) bool { return p.Selects(pod) })
}

// Lets says whether the policies for ingress let a flow to a pod. If none is about the pod they say nothing against it.
func (p *Plan) Lets(f Flow, to Pod) bool {
	isolated := false
	for i := range p.Ingress {
		policy := &p.Ingress[i]
		if !policy.Selects(to) {
			continue
		}
		isolated = true
		for r := range policy.Rules {
			if policy.from(r, f) && policy.Rules[r].by(f.Protocol, f.Port, to) {
				return true
			}
		}
	}
	return !isolated
}

// from says whether who sends is a peer of a rule.
func (p *Policy) from(rule int, f Flow) bool {
	r := &p.Rules[rule]
	return r.Anybody || f.Pod != nil && p.Has(rule, *f.Pod) || slices.ContainsFunc(r.Blocks, func(b Block) bool { return b.Contains(f.From) })
}

// by says whether a rule lets traffic to a port of a pod through.
func (r *Rule) by(protocol corev1.Protocol, port uint16, to Pod) bool {
	return r.AnyPort ||
		slices.ContainsFunc(r.Ports, func(p Ports) bool { return p.Protocol == protocol && p.First <= port && port <= p.Last }) ||
		slices.ContainsFunc(r.Names, func(n Name) bool {
			return n.Protocol == protocol && slices.ContainsFunc(to.Ports, func(p NamedPort) bool { return p.Name == n.Name && p.Protocol == protocol && p.Port == port })
		})
}

func protocolOr(p *corev1.Protocol) corev1.Protocol {
	if p == nil || *p == "" {
		return corev1.ProtocolTCP
	}
	return *p
}

// nameServiceLabels are those of the pods that answer for names in most clusters.
func nameServiceLabels() map[string]string { return map[string]string{"k8s-app": "kube-dns"} }

// selector reads one that [Check] has found to be good; another selects nothing.
func selector(s *metav1.LabelSelector) labels.Selector {
	if s == nil {
		return nil
	}
	read, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return labels.Nothing()
	}
	return read
}
