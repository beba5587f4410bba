package netpolicy

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const maxPort = 1<<16 - 1

// maxParts is how many peers and ports a policy may have in all, which bounds what the kernel is told of it.
const maxParts = 1000

// Compile makes the plan of policies. One with something fatal in it (see [Check]) is an error, and so is one without a namespace.
func Compile(all Policies) (*Plan, error) {
	plan := &Plan{}
	for i := range all.Policies {
		one := &all.Policies[i]
		for _, p := range Check(&one.Spec) {
			if p.Fatal {
				return nil, fmt.Errorf("NetworkPolicy %s/%s: %s: %s", one.Namespace, one.Name, p.Path, p.Message)
			}
		}
		base := Policy{namespace: one.Namespace, pods: selector(&one.Spec.PodSelector), labels: all.Namespaces}
		types := Types(&one.Spec)
		if slices.Contains(types, networkingv1.PolicyTypeIngress) {
			in := base
			for _, r := range one.Spec.Ingress {
				in.Rules = append(in.Rules, rule(one.Namespace, r.From, r.Ports))
			}
			plan.Ingress = append(plan.Ingress, in)
		}
		if slices.Contains(types, networkingv1.PolicyTypeEgress) {
			out := base
			for _, r := range one.Spec.Egress {
				made := rule(one.Namespace, r.To, r.Ports)
				made.NameService = made.has(all.Namespaces, metav1.NamespaceSystem, nameServiceLabels())
				out.Rules = append(out.Rules, made)
			}
			plan.Egress = append(plan.Egress, out)
		}
	}
	return plan, nil
}

// Types are the directions that a policy is about. Without policyTypes it is Ingress, and Egress as well if there are rules for it.
func Types(s *networkingv1.NetworkPolicySpec) []networkingv1.PolicyType {
	if len(s.PolicyTypes) > 0 {
		return s.PolicyTypes
	}
	types := []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
	if len(s.Egress) > 0 {
		types = append(types, networkingv1.PolicyTypeEgress)
	}
	return types
}

func rule(namespace string, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) Rule {
	r := Rule{Anybody: len(peers) == 0, AnyPort: len(ports) == 0}
	for _, p := range peers {
		if p.IPBlock != nil {
			if b := block(p.IPBlock); b.Network.Addr().Is4() { // pods have no other addresses
				r.Blocks = append(r.Blocks, b)
			}
			continue
		}
		r.peers = append(r.peers, peer{namespace: namespace, namespaces: selector(p.NamespaceSelector), pods: selector(p.PodSelector)})
	}
	for _, p := range ports {
		protocol := protocolOr(p.Protocol)
		switch {
		case p.Port == nil:
			r.Ports = append(r.Ports, Ports{Protocol: protocol, First: 0, Last: maxPort})
		case p.Port.Type == intstr.String:
			r.Names = append(r.Names, Name{Protocol: protocol, Name: p.Port.StrVal})
		default:
			first := uint16(p.Port.IntVal)
			last := first
			if p.EndPort != nil {
				last = uint16(*p.EndPort)
			}
			r.Ports = append(r.Ports, Ports{Protocol: protocol, First: first, Last: last})
		}
	}
	return r
}

// block reads one that [Check] has found to be good; another is empty.
func block(b *networkingv1.IPBlock) Block {
	network, err := netip.ParsePrefix(b.CIDR)
	if err != nil {
		return Block{}
	}
	read := Block{Network: network.Masked()}
	for _, text := range b.Except {
		if e, err := netip.ParsePrefix(text); err == nil {
			read.Except = append(read.Except, e.Masked())
		}
	}
	return read
}

// Problem is what cannot be had of a policy, or has no effect if it is not fatal.
type Problem struct {
	// Path is of the field: "spec.ingress[0].from[1].ipBlock.cidr".
	Path, Message string
	Fatal         bool
}

// Check finds what of a policy cannot be honoured. It refuses what Kubernetes refuses, so that a policy means the same in both places.
func Check(s *networkingv1.NetworkPolicySpec) []Problem {
	c := &checker{}
	c.selector("spec.podSelector", &s.PodSelector)
	for i, t := range s.PolicyTypes {
		if t != networkingv1.PolicyTypeIngress && t != networkingv1.PolicyTypeEgress {
			c.fatal(fmt.Sprintf("spec.policyTypes[%d]", i), "must be Ingress or Egress, not %q", t)
		}
	}
	types := Types(s)
	if len(s.Ingress) > 0 && !slices.Contains(types, networkingv1.PolicyTypeIngress) {
		c.warn("spec.ingress", "has no effect: policyTypes does not have Ingress")
	}
	if len(s.Egress) > 0 && !slices.Contains(types, networkingv1.PolicyTypeEgress) {
		c.warn("spec.egress", "has no effect: policyTypes does not have Egress")
	}
	for i, r := range s.Ingress {
		c.rule(fmt.Sprintf("spec.ingress[%d]", i), "from", r.From, r.Ports)
	}
	for i, r := range s.Egress {
		c.rule(fmt.Sprintf("spec.egress[%d]", i), "to", r.To, r.Ports)
	}
	if c.parts > maxParts {
		c.fatal("spec", "it has %d peers and ports, and one policy may have %d: write several", c.parts, maxParts)
	}
	return c.problems
}

type checker struct {
	problems []Problem
	parts    int
}

func (c *checker) fatal(path, format string, args ...any) {
	c.problems = append(c.problems, Problem{Path: path, Message: fmt.Sprintf(format, args...), Fatal: true})
}

func (c *checker) warn(path, message string) {
	c.problems = append(c.problems, Problem{Path: path, Message: message})
}

func (c *checker) selector(path string, s *metav1.LabelSelector) {
	if s == nil {
		return
	}
	if _, err := metav1.LabelSelectorAsSelector(s); err != nil {
		c.fatal(path, "%v", err)
	}
}

func (c *checker) rule(path, side string, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) {
	c.parts += 1 + len(peers) + len(ports)
	for i, p := range peers {
		at := fmt.Sprintf("%s.%s[%d]", path, side, i)
		switch {
		case p.IPBlock != nil && (p.PodSelector != nil || p.NamespaceSelector != nil):
			c.fatal(at, "a peer is an ipBlock or selectors, not both")
		case p.IPBlock != nil:
			c.block(at+".ipBlock", p.IPBlock)
		case p.PodSelector == nil && p.NamespaceSelector == nil:
			c.fatal(at, "it says nobody: write an ipBlock, a podSelector or a namespaceSelector")
		}
		c.selector(at+".podSelector", p.PodSelector)
		c.selector(at+".namespaceSelector", p.NamespaceSelector)
	}
	for i, p := range ports {
		c.port(fmt.Sprintf("%s.ports[%d]", path, i), p)
	}
}

func (c *checker) block(path string, b *networkingv1.IPBlock) {
	network, err := netip.ParsePrefix(b.CIDR)
	if err != nil {
		c.fatal(path+".cidr", "%q is no network: write 192.0.2.0/24", b.CIDR)
		return
	}
	if !network.Addr().Is4() {
		c.warn(path+".cidr", "has no effect: pods of this machine have no IPv6 addresses")
	}
	c.parts += len(b.Except)
	for i, text := range b.Except {
		e, err := netip.ParsePrefix(text)
		if err != nil || e.Bits() <= network.Bits() || !network.Contains(e.Addr()) {
			c.fatal(fmt.Sprintf("%s.except[%d]", path, i), "%q is no network within %s", text, b.CIDR)
		}
	}
}

func (c *checker) port(path string, p networkingv1.NetworkPolicyPort) {
	switch protocolOr(p.Protocol) {
	case corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP:
	default:
		c.fatal(path+".protocol", "must be TCP, UDP or SCTP, not %q", *p.Protocol)
	}
	switch {
	case p.Port == nil && p.EndPort != nil:
		c.fatal(path+".endPort", "it needs a port to begin with")
	case p.Port == nil:
	case p.Port.Type == intstr.String && p.EndPort != nil:
		c.fatal(path+".endPort", "it needs a port with a number to begin with")
	case p.Port.Type == intstr.String && p.Port.StrVal == "":
		c.fatal(path+".port", "it is empty")
	case p.Port.Type == intstr.String:
	case p.Port.IntVal < 1 || p.Port.IntVal > maxPort:
		c.fatal(path+".port", "%d is no port: 1 to 65535", p.Port.IntVal)
	case p.EndPort != nil && (*p.EndPort < p.Port.IntVal || *p.EndPort > maxPort):
		c.fatal(path+".endPort", "%d is not between port and 65535", *p.EndPort)
	}
}
