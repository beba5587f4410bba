package local

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/executor/netpolicy"
)

// A policy has a chain for the pods that it selects, and each of its rules one for the rule's ports. A packet goes through the chains of all
// policies of its receiver (to-isolated) or sender (sending), until a rule has its peer and its port. What a sender may send is judged first, and
// then goes on to where everything else is judged: there is one such chain for this machine and one for all others.
//
// Who is selected, who is a peer and which port has a name is in sets, so that a pod that comes or goes changes elements and no rule.

// sending is the chain for pods that policies for egress select, on its way to the next one.
func sending(next string) string { return "sending-" + next }

// policies makes the chains of the plan. The sets have the pods that are isolated, for ingress and for egress; nil if no policy is about a direction.
func (f *firewall) policies(c *nftables.Conn) (in, out *nftables.Set, err error) {
	if len(f.plan.Ingress) > 0 {
		if in, err = f.isolated(c, "isolated-in", f.plan.Ingress); err != nil {
			return nil, nil, err
		}
		side := side{f: f, c: c, name: "in", subject: destination, peer: source, passed: accept()}
		if err := side.chains(toIsolated, f.plan.Ingress); err != nil {
			return nil, nil, err
		}
	}
	if len(f.plan.Egress) > 0 {
		if out, err = f.isolated(c, "isolated-out", f.plan.Egress); err != nil {
			return nil, nil, err
		}
		for _, next := range []string{machine, others} {
			side := side{f: f, c: c, name: "out-" + next, subject: source, peer: destination, passed: to(next)}
			if err := side.chains(sending(next), f.plan.Egress); err != nil {
				return nil, nil, err
			}
		}
	}
	return in, out, nil
}

func (f *firewall) isolated(c *nftables.Conn, name string, policies []netpolicy.Policy) (*nftables.Set, error) {
	return f.addresses(c, name, func(p netpolicy.Pod) bool { return netpolicy.Isolates(policies, p) })
}

// addresses is a set of the addresses of those pods that belong to it.
func (f *firewall) addresses(c *nftables.Conn, name string, belongs func(netpolicy.Pod) bool) (*nftables.Set, error) {
	set := &nftables.Set{Table: f.table, Name: name, ID: f.nextSet(), KeyType: nftables.TypeIPAddr}
	f.groups = append(f.groups, group{set, func(p netpolicy.Pod) []nftables.SetElement {
		if !belongs(p) {
			return nil
		}
		return []nftables.SetElement{{Key: p.Address.AsSlice()}}
	}})
	return set, c.AddSet(set, nil)
}

// nextSet numbers a set among those of one change, behind namespaces and members. The library's own numbers are a variable of all connections, which
// nothing guards.
func (f *firewall) nextSet() uint32 {
	f.sets++
	return 2 + f.sets
}

// side is one direction of a plan on its way into a table.
type side struct {
	f    *firewall
	c    *nftables.Conn
	name string // begins the names of its chains and sets
	// subject and peer are where a packet has the addresses of who is selected, and of the other one.
	subject, peer uint32
	// passed is what comes of a packet that a rule lets through.
	passed []expr.Any
}

// chains makes the chain for all that are selected by one of the policies, and those of each policy.
func (s side) chains(first string, policies []netpolicy.Policy) error {
	chain := s.f.chain(s.c, first)
	for i := range policies {
		p := &policies[i]
		name := fmt.Sprintf("%s-%d", s.name, i)
		selected, err := s.f.addresses(s.c, name, p.Selects)
		if err != nil {
			return err
		}
		own := s.f.chain(s.c, name)
		add(s.c, chain, in(s.subject, selected), jump(name))
		for r := range p.Rules {
			if err := s.rule(own, fmt.Sprintf("%s-%d", name, r), p, r); err != nil {
				return err
			}
		}
	}
	add(s.c, chain, to(refuse))
	return nil
}

// rule leads the packets of a rule's peers to the rule's ports.
func (s side) rule(own *nftables.Chain, name string, p *netpolicy.Policy, number int) error {
	r := &p.Rules[number]
	if err := s.ports(name, r); err != nil {
		return err
	}
	if r.Anybody {
		add(s.c, own, jump(name))
		return nil
	}
	peers, err := s.f.addresses(s.c, name, func(pod netpolicy.Pod) bool { return p.Has(number, pod) })
	if err != nil {
		return err
	}
	add(s.c, own, in(s.peer, peers), jump(name))
	for _, b := range r.Blocks {
		parts := at(s.peer, expr.CmpOpEq, b.Network)
		for _, e := range b.Except {
			parts = append(parts, at(s.peer, expr.CmpOpNeq, e)...)
		}
		add(s.c, own, parts, jump(name))
	}
	if r.NameService {
		for _, protocol := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
			add(s.c, own, at(s.peer, expr.CmpOpNeq, s.f.subnet), port(protocol, nameService), jump(name))
		}
	}
	return nil
}

// ports makes the chain of a rule's ports.
func (s side) ports(name string, r *netpolicy.Rule) error {
	chain := s.f.chain(s.c, name)
	if r.AnyPort {
		add(s.c, chain, s.passed)
		return nil
	}
	for _, p := range r.Ports {
		add(s.c, chain, ports(numberOf(p.Protocol), p.First, p.Last), s.passed)
	}
	for _, protocol := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP} {
		if !slices.ContainsFunc(r.Names, func(n netpolicy.Name) bool { return n.Protocol == protocol }) {
			continue
		}
		set, err := s.named(fmt.Sprintf("%s-%s", name, protocol), protocol, r.Names)
		if err != nil {
			return err
		}
		add(s.c, chain, protocolIs(numberOf(protocol)), []expr.Any{
			&expr.Payload{DestRegister: word, Base: expr.PayloadBaseNetworkHeader, Offset: destination, Len: sizeOfAddress},
			&expr.Payload{DestRegister: nextWord, Base: expr.PayloadBaseTransportHeader, Offset: destinationPort, Len: sizeOfPort},
			&expr.Lookup{SourceRegister: word, SetName: set.Name, SetID: set.ID},
		}, s.passed)
	}
	return nil
}

// named is a set of the addresses and ports that pods call by one of the names.
func (s side) named(name string, protocol corev1.Protocol, names []netpolicy.Name) (*nftables.Set, error) {
	set := &nftables.Set{Table: s.f.table, Name: name, ID: s.f.nextSet(), Concatenation: true, KeyType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)}
	s.f.groups = append(s.f.groups, group{set, func(pod netpolicy.Pod) []nftables.SetElement {
		var list []nftables.SetElement
		seen := map[uint16]bool{}
		for _, p := range pod.Ports {
			if p.Protocol != protocol || seen[p.Port] || !slices.Contains(names, netpolicy.Name{Protocol: protocol, Name: p.Name}) {
				continue
			}
			seen[p.Port] = true
			key := binary.BigEndian.AppendUint16(pod.Address.AsSlice(), p.Port)
			list = append(list, nftables.SetElement{Key: append(key, 0, 0)}) // each part of a key has a multiple of four bytes
		}
		return list
	}})
	return set, s.c.AddSet(set, nil)
}

// numberOf is a protocol's number in the IP header.
func numberOf(p corev1.Protocol) byte {
	switch p {
	case corev1.ProtocolUDP:
		return unix.IPPROTO_UDP
	case corev1.ProtocolSCTP:
		return unix.IPPROTO_SCTP
	}
	return unix.IPPROTO_TCP
}
