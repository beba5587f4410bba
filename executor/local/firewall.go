package local

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/tiphys/tiphys/egress"
	"github.com/tiphys/tiphys/executor/netpolicy"
)

// The bridge has two tables in nf_tables. One lets pods out under this machine's address; executors that share the bridge share it. The other
// says what the pods of one executor may reach, and who may reach them:
//
//   - of this machine: name service, the ports of [Network.Ports] and the addresses of Services;
//   - of other pods, those of their own namespace, and those that a NetworkPolicy lets them;
//   - no address that is not routed (link-local, where clouds keep the machine's credentials), nor any other at which a cloud does so;
//   - the rest of the world.
//
// With [Network.Open] all of it is reached, but for what NetworkPolicies keep apart (firewall_policies.go). What comes back on a connection is let
// through. IPv6, which pods have no address of, is dropped. A call of a pod that this machine carries to another (firewall_carried.go) is judged as
// the pod's own. What this machine itself says to pods is not judged.

// firewall is what nf_tables has of one executor. Its methods are called with the network's mu.
type firewall struct {
	out      *nftables.Table // shared
	table    *nftables.Table // of this executor's pods
	subnet   netip.Prefix
	services netip.Prefix // not valid if there are none
	links    string       // begins the names of the pods' links
	open     bool
	ports    []uint16

	// ids has the namespace of an address, as a number; members has the pairs of number and address that are.
	ids, members *nftables.Set
	sets         uint32 // how many more the change has that is being made
	// numbers are those of namespaces, in the order in which they were met.
	numbers map[string]uint32

	plan *netpolicy.Plan
	// groups are the sets that policies need, as they were made last.
	groups []group
	// bare says that nothing is to be filtered, broken that an open network is not, because the kernel could not be told.
	bare   bool
	broken error
}

// errBare is what is broken of a network that is not to be filtered.
var errBare = errors.New("the pods' network is not filtered here")

func newFirewall(o Network, subnet netip.Prefix) *firewall {
	f := &firewall{
		out:    &nftables.Table{Name: "tiphys-" + o.Bridge, Family: nftables.TableFamilyINet},
		table:  &nftables.Table{Name: "tiphys-" + o.Bridge + "-pods", Family: nftables.TableFamilyINet},
		subnet: subnet, links: linksOf(subnet), open: o.Open, bare: o.Bare, ports: o.Ports, numbers: map[string]uint32{}, plan: &netpolicy.Plan{},
	}
	if f.bare {
		f.broken = errBare
	}
	if services, err := ServicesOf(subnet.String()); err == nil {
		f.services = services
	}
	f.ids = &nftables.Set{Table: f.table, Name: "namespaces", ID: 1, IsMap: true, KeyType: nftables.TypeIPAddr, DataType: nftables.TypeMark}
	f.members = &nftables.Set{
		Table: f.table, Name: "members", ID: 2, Concatenation: true, KeyType: nftables.MustConcatSetType(nftables.TypeMark, nftables.TypeIPAddr),
	}
	return f
}

// linksOf begins the names of the links of all pods in a network.
func linksOf(subnet netip.Prefix) string {
	name := interfaceName(subnet.Addr())
	return name[:len(anyLink)+subnet.Bits()/8*2]
}

// anyLink begins the names of the links of all pods of this machine.
const anyLink = "tv"

// put makes the tables anew, with the pods that there are: in one step, so that no packet meets half of them.
func (f *firewall) put(pods []netpolicy.Pod) error {
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o600); err != nil {
		return fmt.Errorf("switch on forwarding: %w", err)
	}
	c := &nftables.Conn{}
	replace(c, f.out)
	add(c, base(c, f.out, "out", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource),
		protocolOf(unix.NFPROTO_IPV4), at(source, expr.CmpOpEq, f.subnet), at(destination, expr.CmpOpNeq, f.subnet), one(&expr.Masq{}))
	if !f.bare {
		replace(c, f.table)
		err := f.routeCarried()
		if err == nil {
			err = f.filter(c, pods)
		}
		if err != nil {
			return fmt.Errorf("change nf_tables: %w", err)
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("change nf_tables: %w", err)
	}
	return nil
}

// remove removes the tables, and that which servers until 0.1.0 had. One that is not there is no error.
func (f *firewall) remove() error {
	f.unrouteCarried()
	c := &nftables.Conn{}
	remove(c, f.out, f.table, &nftables.Table{Name: f.out.Name, Family: nftables.TableFamilyIPv4})
	return c.Flush()
}

func remove(c *nftables.Conn, tables ...*nftables.Table) {
	for _, t := range tables {
		c.AddTable(t) // what is not there cannot be deleted
		c.DelTable(t)
	}
}

func replace(c *nftables.Conn, t *nftables.Table) {
	remove(c, t)
	c.AddTable(t)
}

const nameService = 53

// Names of chains. Those that judge end in a verdict: who is sent there does not come back.
const (
	refuse     = "refuse"
	toMachine  = "to-machine" // from a pod to this machine: what it may send, then machine
	toOthers   = "to-others"  // from a pod to anybody else: what it may send, then others
	machine    = "machine"
	others     = "others"
	toPods     = "to-pods"
	toIsolated = "to-isolated" // to a pod that a policy is about
)

// filter makes the table of what pods may reach.
func (f *firewall) filter(c *nftables.Conn, pods []netpolicy.Pod) error {
	for _, name := range []string{refuse, toPods, machine, others, toMachine, toOthers} {
		f.chain(c, name)
	}
	if err := c.AddSet(f.ids, nil); err != nil {
		return err
	}
	if err := c.AddSet(f.members, nil); err != nil {
		return err
	}
	f.groups, f.sets = nil, 0
	isolatedIn, isolatedOut, err := f.policies(c)
	if err != nil {
		return err
	}
	f.hooks(c)
	for _, way := range []struct{ first, next string }{{toMachine, machine}, {toOthers, others}} {
		first := f.chain(c, way.first)
		add(c, first, known(), accept())
		if way.first == toMachine && f.services.IsValid() {
			add(c, first, at(destination, expr.CmpOpEq, f.services), accept()) // who is behind them is judged when the call is carried there
		}
		if isolatedOut != nil {
			add(c, first, in(source, isolatedOut), jump(sending(way.next)))
		}
		add(c, first, to(way.next))
	}
	f.judgeMachine(c, f.chain(c, machine))
	f.judgeOthers(c, f.chain(c, others))
	pod := f.chain(c, toPods)
	if isolatedIn != nil {
		add(c, pod, in(destination, isolatedIn), to(toIsolated))
	}
	add(c, pod, f.neighbours(), accept())
	add(c, pod, f.unless())
	// A call that is carried is reset: an error by ICMP would go to the pod, which knows nothing of this connection.
	no := f.chain(c, refuse)
	add(c, no, link(expr.MetaKeyIIFNAME, anyLink), refused())
	add(c, no, one(&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}))
	return f.fill(c, pods)
}

// hooks begin with what leads to the chains that judge.
func (f *firewall) hooks(c *nftables.Conn) {
	input := base(c, f.table, "input", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter)
	forward := base(c, f.table, "forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
	for chain, next := range map[*nftables.Chain]string{input: toMachine, forward: toOthers} {
		if !f.open {
			add(c, chain, link(expr.MetaKeyIIFNAME, f.links), protocolOf(unix.NFPROTO_IPV6), one(&expr.Verdict{Kind: expr.VerdictDrop}))
		}
		add(c, chain, f.fromPods(), jump(next))
	}
	if !f.open {
		// What other machines send to pods and Services comes by the front. They could send it here, if they are in the same network.
		if f.services.IsValid() {
			add(c, input, protocolOf(unix.NFPROTO_IPV4), at(destination, expr.CmpOpEq, f.services), notLink("lo\x00"), notLink(anyLink), refused())
		}
		add(c, forward, protocolOf(unix.NFPROTO_IPV4), link(expr.MetaKeyOIFNAME, f.links), known(), accept())
		add(c, forward, protocolOf(unix.NFPROTO_IPV4), link(expr.MetaKeyOIFNAME, f.links), refused())
	}
	f.carried(c)
}

func (f *firewall) judgeMachine(c *nftables.Conn, chain *nftables.Chain) {
	if !f.open {
		nameServices(c, chain)
		for _, p := range f.ports {
			add(c, chain, port(unix.IPPROTO_TCP, p), accept())
		}
	}
	add(c, chain, f.unless())
}

func (f *firewall) judgeOthers(c *nftables.Conn, chain *nftables.Chain) {
	add(c, chain, f.toPods(), to(toPods))
	if !f.open {
		add(c, chain, link(expr.MetaKeyOIFNAME, anyLink), refused())
		nameServices(c, chain)
		for _, p := range egress.Clouds() {
			if p.Addr().Is4() { // IPv6 is dropped
				add(c, chain, at(destination, expr.CmpOpEq, p), refused())
			}
		}
	}
	add(c, chain, accept())
}

// nameServices lets everybody ask for names.
func nameServices(c *nftables.Conn, chain *nftables.Chain) {
	add(c, chain, port(unix.IPPROTO_UDP, nameService), accept())
	add(c, chain, port(unix.IPPROTO_TCP, nameService), accept())
}

// unless refuses what nothing has let through, unless the network is open.
func (f *firewall) unless() []expr.Any {
	if f.open {
		return accept()
	}
	return to(refuse)
}

// chain adds a chain that others lead to; to add one again changes nothing.
func (f *firewall) chain(c *nftables.Conn, name string) *nftables.Chain {
	return c.AddChain(&nftables.Chain{Table: f.table, Name: name})
}

// enter has a pod judged as what it is, from its first packet on.
func (f *firewall) enter(pod netpolicy.Pod) error {
	c := &nftables.Conn{}
	if err := f.fill(c, []netpolicy.Pod{pod}); err != nil {
		return fmt.Errorf("let a pod to its namespace: %w", err)
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("let a pod to its namespace: %w", err)
	}
	return nil
}

// most is how many elements the kernel is told of in one message, which has a bound.
const most = 500

// fill adds pods to the sets.
func (f *firewall) fill(c *nftables.Conn, pods []netpolicy.Pod) error {
	return f.each(pods, c.SetAddElements)
}

// leave takes that back, before another pod has the address.
func (f *firewall) leave(pod netpolicy.Pod) error {
	c := &nftables.Conn{}
	if err := f.each([]netpolicy.Pod{pod}, c.SetDeleteElements); err != nil {
		return err
	}
	return c.Flush()
}

// each does something with the elements that pods are in the sets.
func (f *firewall) each(pods []netpolicy.Pod, do func(*nftables.Set, []nftables.SetElement) error) error {
	for _, g := range append([]group{f.namespaces(), f.pairs()}, f.groups...) {
		var list []nftables.SetElement
		for _, p := range pods {
			list = append(list, g.elements(p)...)
		}
		for part := range slices.Chunk(list, most) {
			if err := do(g.set, part); err != nil {
				return err
			}
		}
	}
	return nil
}

// group is a set, and what a pod is in it.
type group struct {
	set      *nftables.Set
	elements func(netpolicy.Pod) []nftables.SetElement
}

func (f *firewall) namespaces() group {
	return group{f.ids, func(p netpolicy.Pod) []nftables.SetElement {
		return []nftables.SetElement{{Key: p.Address.AsSlice(), Val: f.number(p.Namespace)}}
	}}
}

func (f *firewall) pairs() group {
	return group{f.members, func(p netpolicy.Pod) []nftables.SetElement {
		return []nftables.SetElement{{Key: append(f.number(p.Namespace), p.Address.AsSlice()...)}}
	}}
}

// number is a namespace's.
func (f *firewall) number(namespace string) []byte {
	n, ok := f.numbers[namespace]
	if !ok {
		n = uint32(len(f.numbers) + 1)
		f.numbers[namespace] = n
	}
	return binary.NativeEndian.AppendUint32(nil, n)
}
