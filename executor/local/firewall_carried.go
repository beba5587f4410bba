package local

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A call of a pod to a Service ends at this machine, which carries it on to a pod behind the Service. It does so under the caller's address (a
// socket with IP_TRANSPARENT), so that the receiver sees who calls and the same rules judge the call as if it had gone there by itself. What comes
// back has the caller's address and must not go to the caller: the connection is marked when it begins, and what belongs to it is delivered here by
// a routing rule for that mark.

// marked is the mark, and the number of the table with the one route: the pods' network, which no two executors share.
func (f *firewall) marked() uint32 {
	a := f.subnet.Addr().As4()
	return binary.BigEndian.Uint32(a[:])
}

// carriedPreference is where the rule stands among routing rules: before those of all other networks.
const carriedPreference = 90

func (f *firewall) carriedRule() *netlink.Rule {
	mask := ^uint32(0)
	r := netlink.NewRule()
	r.Family, r.Priority, r.Mark, r.Mask, r.Table = unix.AF_INET, carriedPreference, f.marked(), &mask, int(f.marked())
	return r
}

func (f *firewall) carriedRoute() *netlink.Route {
	const loopback = 1 // the index that lo has in every network namespace
	return &netlink.Route{
		LinkIndex: loopback, Dst: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST, Table: int(f.marked()),
	}
}

// routeCarried has what is marked delivered to this machine.
func (f *firewall) routeCarried() error {
	if err := netlink.RouteReplace(f.carriedRoute()); err != nil {
		return fmt.Errorf("route to calls that are carried: %w", err)
	}
	if err := netlink.RuleAdd(f.carriedRule()); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("routing rule of calls that are carried: %w", err)
	}
	return nil
}

func (f *firewall) unrouteCarried() {
	_ = netlink.RuleDel(f.carriedRule())
	_ = netlink.RouteDel(f.carriedRoute())
}

// carried judges calls that are carried, and finds what belongs to them.
func (f *firewall) carried(c *nftables.Conn) {
	mark := binary.NativeEndian.AppendUint32(nil, f.marked())
	fromPod := func() []expr.Any { // this machine has an address in the network as well
		return append(append(protocolOf(unix.NFPROTO_IPV4), at(source, expr.CmpOpEq, f.subnet)...), f.notGateway()...)
	}
	deliver := []expr.Any{
		&expr.Immediate{Register: register, Data: mark}, &expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: register}, &expr.Verdict{Kind: expr.VerdictReturn},
	}
	arrives := base(c, f.table, "carried-back", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityMangle)
	add(c, arrives, link(expr.MetaKeyIIFNAME, f.links), []expr.Any{
		&expr.Ct{Key: expr.CtKeyMARK, Register: register}, equal(mark...),
	}, answers(), deliver)
	// Of what this machine sends under a pod's address, that which answers is the refusal of such a call (see filter): it is for this machine.
	leaves := base(c, f.table, "carried", nftables.ChainTypeRoute, nftables.ChainHookOutput, nftables.ChainPriorityMangle)
	add(c, leaves, fromPod(), at(destination, expr.CmpOpEq, f.subnet), answers(), deliver)
	add(c, leaves, fromPod(), []expr.Any{
		&expr.Immediate{Register: register, Data: mark}, &expr.Ct{Key: expr.CtKeyMARK, SourceRegister: true, Register: register},
	})
	output := base(c, f.table, "output", nftables.ChainTypeFilter, nftables.ChainHookOutput, nftables.ChainPriorityFilter)
	add(c, output, fromPod(), answers(), accept())
	add(c, output, fromPod(), jump(toOthers))
}

// answers: the packet goes to who began the connection.
func answers() []expr.Any {
	return []expr.Any{&expr.Ct{Key: expr.CtKeyDIRECTION, Register: register}, equal(1)}
}

func (f *firewall) notGateway() []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: source, Len: sizeOfAddress},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: f.subnet.Addr().Next().AsSlice()},
	}
}
