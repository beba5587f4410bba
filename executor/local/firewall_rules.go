package local

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

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

func accept() []expr.Any { return one(&expr.Verdict{Kind: expr.VerdictAccept}) }

// jump goes to a chain, and on here if that does not judge; to goes there for good.
func jump(chain string) []expr.Any { return one(&expr.Verdict{Kind: expr.VerdictJump, Chain: chain}) }
func to(chain string) []expr.Any   { return one(&expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}) }

// refused tells the sender.
func refused() []expr.Any {
	return one(&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED})
}

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

// notLink: it does not, of the interface that the packet came by.
func notLink(begins string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: register}, &expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: []byte(begins)}}
}

// in: an address of the header is in a set.
func in(offset uint32, set *nftables.Set) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: word, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: sizeOfAddress},
		&expr.Lookup{SourceRegister: word, SetName: set.Name, SetID: set.ID},
	}
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

// protocolIs: the packet is of a protocol.
func protocolIs(protocol byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register}, equal(protocol)}
}

// port: the packet goes to that port of a protocol.
func port(protocol byte, number uint16) []expr.Any { return ports(protocol, number, number) }

// ports: the packet goes to one of these ports of a protocol.
func ports(protocol byte, first, last uint16) []expr.Any {
	return append(protocolIs(protocol),
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: destinationPort, Len: sizeOfPort},
		&expr.Range{Op: expr.CmpOpEq, Register: register, FromData: binary.BigEndian.AppendUint16(nil, first), ToData: binary.BigEndian.AppendUint16(nil, last)},
	)
}

// toPods: the packet goes to a pod of this executor.
func (f *firewall) toPods() []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: word, Base: expr.PayloadBaseNetworkHeader, Offset: destination, Len: sizeOfAddress},
		&expr.Lookup{SourceRegister: word, DestRegister: word, IsDestRegSet: true, SetName: f.ids.Name, SetID: f.ids.ID},
	}
}

// neighbours: the packet goes to an address of the sender's namespace.
func (f *firewall) neighbours() []expr.Any {
	return append(f.namespace(),
		&expr.Payload{DestRegister: nextWord, Base: expr.PayloadBaseNetworkHeader, Offset: destination, Len: sizeOfAddress},
		&expr.Lookup{SourceRegister: word, SetName: f.members.Name, SetID: f.members.ID},
	)
}
