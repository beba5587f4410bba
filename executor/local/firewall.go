package local

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/tiphys/tiphys/egress"
)

// The bridge has two tables in nf_tables. One lets pods out under this machine's address; executors that share the bridge share it. The other
// says what the pods of one executor may reach, unless [Network.Open]:
//
//   - of this machine: name service, the ports of [Network.Ports] and the addresses of Services;
//   - of other pods, those of their own namespace;
//   - no address that is not routed (link-local, where clouds keep the machine's credentials), nor any other at which a cloud does so;
//   - the rest of the world.
//
// What comes back on a connection is let through. IPv6, which pods have no address of, is dropped.

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
	// numbers are those of namespaces, in the order in which they were met.
	numbers map[string]uint32
}

func newFirewall(o Network, subnet netip.Prefix) *firewall {
	f := &firewall{
		out:    &nftables.Table{Name: "tiphys-" + o.Bridge, Family: nftables.TableFamilyINet},
		table:  &nftables.Table{Name: "tiphys-" + o.Bridge + "-pods", Family: nftables.TableFamilyINet},
		subnet: subnet, links: linksOf(subnet), open: o.Open, ports: o.Ports, numbers: map[string]uint32{},
	}
	if services, err := ServicesOf(subnet.String()); err == nil {
		f.services = services
	}
	f.ids = &nftables.Set{Table: f.table, Name: "namespaces", IsMap: true, KeyType: nftables.TypeIPAddr, DataType: nftables.TypeMark}
	f.members = &nftables.Set{
		Table: f.table, Name: "members", Concatenation: true, KeyType: nftables.MustConcatSetType(nftables.TypeMark, nftables.TypeIPAddr),
	}
	return f
}

// linksOf begins the names of the links of all pods in a network.
func linksOf(subnet netip.Prefix) string {
	name := interfaceName(subnet.Addr())
	return name[:len("tv")+subnet.Bits()/8*2]
}

// put makes the tables anew, with the pods that there are by namespace: in one step, so that no packet meets half of them.
func (f *firewall) put(pods map[netip.Addr]string) error {
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o600); err != nil {
		return fmt.Errorf("switch on forwarding: %w", err)
	}
	c := &nftables.Conn{}
	replace(c, f.out)
	add(c, base(c, f.out, "out", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource),
		protocolOf(unix.NFPROTO_IPV4), at(source, expr.CmpOpEq, f.subnet), at(destination, expr.CmpOpNeq, f.subnet), one(&expr.Masq{}))
	if !f.open {
		replace(c, f.table)
		if err := f.filter(c, pods); err != nil {
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

func (f *firewall) filter(c *nftables.Conn, pods map[netip.Addr]string) error {
	for _, set := range []*nftables.Set{f.ids, f.members} {
		if err := c.AddSet(set, nil); err != nil {
			return err
		}
	}
	for addr, namespace := range pods {
		if err := f.set(c, addr, namespace); err != nil {
			return err
		}
	}
	accept, refuse := one(&expr.Verdict{Kind: expr.VerdictAccept}), one(&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED})
	machine, others := c.AddChain(&nftables.Chain{Table: f.table, Name: "to-machine"}), c.AddChain(&nftables.Chain{Table: f.table, Name: "to-others"})
	for _, way := range []struct {
		name string
		hook *nftables.ChainHook
		to   *nftables.Chain
	}{{"input", nftables.ChainHookInput, machine}, {"forward", nftables.ChainHookForward, others}} {
		first := base(c, f.table, way.name, nftables.ChainTypeFilter, way.hook, nftables.ChainPriorityFilter)
		add(c, first, link(expr.MetaKeyIIFNAME, f.links), protocolOf(unix.NFPROTO_IPV6), one(&expr.Verdict{Kind: expr.VerdictDrop}))
		add(c, first, f.fromPods(), one(&expr.Verdict{Kind: expr.VerdictJump, Chain: way.to.Name}))
		add(c, way.to, known(), accept)
		add(c, way.to, port(unix.IPPROTO_UDP, nameService), accept)
		add(c, way.to, port(unix.IPPROTO_TCP, nameService), accept)
	}
	for _, p := range f.ports {
		add(c, machine, port(unix.IPPROTO_TCP, p), accept)
	}
	if f.services.IsValid() {
		add(c, machine, at(destination, expr.CmpOpEq, f.services), accept)
	}
	add(c, machine, refuse)
	for _, p := range egress.Clouds() {
		if p.Addr().Is4() { // IPv6 is dropped
			add(c, others, at(destination, expr.CmpOpEq, p), refuse)
		}
	}
	add(c, others, link(expr.MetaKeyOIFNAME, "tv"), f.neighbours(), accept)
	add(c, others, link(expr.MetaKeyOIFNAME, "tv"), refuse)
	return nil
}

// enter lets a pod and those of its namespace reach each other.
func (f *firewall) enter(addr netip.Addr, namespace string) error {
	if f.open {
		return nil
	}
	c := &nftables.Conn{}
	if err := f.set(c, addr, namespace); err != nil {
		return fmt.Errorf("let a pod to its namespace: %w", err)
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("let a pod to its namespace: %w", err)
	}
	return nil
}

func (f *firewall) set(c *nftables.Conn, addr netip.Addr, namespace string) error {
	id, member := f.keys(addr, namespace)
	if err := c.SetAddElements(f.ids, []nftables.SetElement{{Key: addr.AsSlice(), Val: id}}); err != nil {
		return err
	}
	return c.SetAddElements(f.members, []nftables.SetElement{{Key: member}})
}

// leave takes that back, before another pod has the address.
func (f *firewall) leave(addr netip.Addr, namespace string) error {
	if f.open {
		return nil
	}
	c := &nftables.Conn{}
	id, member := f.keys(addr, namespace)
	if err := c.SetDeleteElements(f.ids, []nftables.SetElement{{Key: addr.AsSlice(), Val: id}}); err != nil {
		return err
	}
	if err := c.SetDeleteElements(f.members, []nftables.SetElement{{Key: member}}); err != nil {
		return err
	}
	return c.Flush()
}

// keys are a namespace's number, and that with an address behind it.
func (f *firewall) keys(addr netip.Addr, namespace string) (id, member []byte) {
	n, ok := f.numbers[namespace]
	if !ok {
		n = uint32(len(f.numbers) + 1)
		f.numbers[namespace] = n
	}
	id = binary.NativeEndian.AppendUint32(nil, n)
	return id, append(id[:len(id):len(id)], addr.AsSlice()...)
}

func base(c *nftables.Conn, t *nftables.Table, name string, kind nftables.ChainType, hook *nftables.ChainHook, at *nftables.ChainPriority) *nftables.Chain {
	return c.AddChain(&nftables.Chain{Table: t, Name: name, Type: kind, Hooknum: hook, Priority: at})
}

// add adds a rule: all parts hold, from the first on.
func add(c *nftables.Conn, chain *nftables.Chain, parts ...[]expr.Any) {
	c.AddRule(&nftables.Rule{Table: chain.Table, Chain: chain, Exprs: slices.Concat(parts...)})
}

// The parts of rules. Registers hold 16 bytes, or by the second names 4.
const (
	register              = unix.NFT_REG_1
	word, nextWord        = unix.NFT_REG32_00, unix.NFT_REG32_01
	source, destination   = 12, 16 // of the IP header
	sizeOfAddress         = 4
	destinationPort       = 2 // of the header of TCP and UDP
	sizeOfPort            = 2
	establishedAndRelated = expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED
)

func one(e expr.Any) []expr.Any { return []expr.Any{e} }

func equal(data ...byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: data}
}

func protocolOf(family byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: register}, equal(family)}
}

// fromPods: the packet is IPv4 and from a pod of this executor, whose namespace is known then. Others that share the bridge say themselves
// what theirs may reach.
func (f *firewall) fromPods() []expr.Any {
	return append(protocolOf(unix.NFPROTO_IPV4), f.namespace()...)
}

// namespace puts the number of the sender's namespace into word; the rule does not hold for who has none.
func (f *firewall) namespace() []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: word, Base: expr.PayloadBaseNetworkHeader, Offset: source, Len: sizeOfAddress},
		&expr.Lookup{SourceRegister: word, DestRegister: word, IsDestRegSet: true, SetName: f.ids.Name, SetID: f.ids.ID},
	}
}

// at compares an address of the header with a network.
func at(offset uint32, op expr.CmpOp, network netip.Prefix) []expr.Any {
	mask := binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-network.Bits()))
	return []expr.Any{
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: sizeOfAddress},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: sizeOfAddress, Mask: mask, Xor: make([]byte, sizeOfAddress)},
		&expr.Cmp{Op: op, Register: register, Data: network.Masked().Addr().AsSlice()},
	}
}

// link: the name of an interface begins so.
func link(key expr.MetaKey, begins string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: register}, equal([]byte(begins)...)}
}

// known: the packet belongs to a connection that was let through.
func known() []expr.Any {
	bits := binary.NativeEndian.AppendUint32(nil, establishedAndRelated)
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: register},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4, Mask: bits, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: make([]byte, 4)},
	}
}

// port: the packet goes to that port of a protocol.
func port(protocol byte, number uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register}, equal(protocol),
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: destinationPort, Len: sizeOfPort},
		equal(binary.BigEndian.AppendUint16(nil, number)...),
	}
}

// neighbours: the packet goes to an address of the sender's namespace.
func (f *firewall) neighbours() []expr.Any {
	return append(f.namespace(),
		&expr.Payload{DestRegister: nextWord, Base: expr.PayloadBaseNetworkHeader, Offset: destination, Len: sizeOfAddress},
		&expr.Lookup{SourceRegister: word, SetName: f.members.Name, SetID: f.members.ID},
	)
}
