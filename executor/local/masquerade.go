package local

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Pods reach the world through this machine's address. The rule is written to nf_tables by netlink, so that no
// firewall program is needed; the formats are those of linux/netfilter/nf_tables.h.

// attr encodes one netlink attribute.
func attr(kind uint16, data []byte) []byte {
	b := make([]byte, 4, 4+len(data)+3)
	binary.NativeEndian.PutUint16(b, uint16(4+len(data)))
	binary.NativeEndian.PutUint16(b[2:], kind)
	b = append(b, data...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func text(kind uint16, s string) []byte { return attr(kind, append([]byte(s), 0)) }

func number(kind uint16, n uint32) []byte { return attr(kind, binary.BigEndian.AppendUint32(nil, n)) }

func nested(kind uint16, parts ...[]byte) []byte {
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	return attr(kind|unix.NLA_F_NESTED, all)
}

func value(kind uint16, data []byte) []byte { return nested(kind, attr(unix.NFTA_DATA_VALUE, data)) }

func expression(name string, parts ...[]byte) []byte {
	return nested(unix.NFTA_LIST_ELEM, text(unix.NFTA_EXPR_NAME, name), nested(unix.NFTA_EXPR_DATA, parts...))
}

// message encodes a netlink message for nf_tables; batch marks have a type of their own.
func message(sequence uint32, kind, flags uint16, family byte, resource uint16, attrs ...[]byte) []byte {
	var head [20]byte
	size := len(head)
	for _, a := range attrs {
		size += len(a)
	}
	binary.NativeEndian.PutUint32(head[:], uint32(size))
	binary.NativeEndian.PutUint16(head[4:], kind)
	binary.NativeEndian.PutUint16(head[6:], flags|unix.NLM_F_REQUEST)
	binary.NativeEndian.PutUint32(head[8:], sequence)
	head[16] = family
	binary.BigEndian.PutUint16(head[18:], resource)
	return slices.Concat(append([][]byte{head[:]}, attrs...)...)
}

const nftables = unix.NFNL_SUBSYS_NFTABLES << 8

// masquerade lets pods of the subnet out under this machine's address. Doing it again replaces the rule.
func masquerade(table string, subnet netip.Prefix) error {
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o600); err != nil {
		return fmt.Errorf("switch on forwarding: %w", err)
	}
	mask := binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-subnet.Bits()))
	const register = unix.NFT_REG_1
	// address compares the address at an offset of the IP header with the pods'.
	address := func(offset, operator uint32) []byte {
		return slices.Concat(
			expression("payload", number(unix.NFTA_PAYLOAD_DREG, register), number(unix.NFTA_PAYLOAD_BASE, unix.NFT_PAYLOAD_NETWORK_HEADER),
				number(unix.NFTA_PAYLOAD_OFFSET, offset), number(unix.NFTA_PAYLOAD_LEN, 4)),
			expression("bitwise", number(unix.NFTA_BITWISE_SREG, register), number(unix.NFTA_BITWISE_DREG, register),
				number(unix.NFTA_BITWISE_LEN, 4), value(unix.NFTA_BITWISE_MASK, mask), value(unix.NFTA_BITWISE_XOR, make([]byte, 4))),
			expression("cmp", number(unix.NFTA_CMP_SREG, register), number(unix.NFTA_CMP_OP, operator),
				value(unix.NFTA_CMP_DATA, subnet.Addr().AsSlice())))
	}
	const source, destination = 12, 16
	// From a pod, and not to a pod.
	rule := nested(unix.NFTA_RULE_EXPRESSIONS, address(source, unix.NFT_CMP_EQ), address(destination, unix.NFT_CMP_NEQ), expression("masq"))
	const create = unix.NLM_F_CREATE
	return batch(
		part{unix.NFT_MSG_NEWTABLE, create, [][]byte{text(unix.NFTA_TABLE_NAME, table)}},
		part{unix.NFT_MSG_DELTABLE, 0, [][]byte{text(unix.NFTA_TABLE_NAME, table)}},
		part{unix.NFT_MSG_NEWTABLE, create, [][]byte{text(unix.NFTA_TABLE_NAME, table)}},
		part{unix.NFT_MSG_NEWCHAIN, create, [][]byte{
			text(unix.NFTA_CHAIN_TABLE, table), text(unix.NFTA_CHAIN_NAME, "postrouting"), text(unix.NFTA_CHAIN_TYPE, "nat"),
			// The hook after routing, at the priority of source translation.
			nested(unix.NFTA_CHAIN_HOOK, number(unix.NFTA_HOOK_HOOKNUM, 4), number(unix.NFTA_HOOK_PRIORITY, 100)),
		}},
		part{unix.NFT_MSG_NEWRULE, create | unix.NLM_F_APPEND, [][]byte{
			text(unix.NFTA_RULE_TABLE, table), text(unix.NFTA_RULE_CHAIN, "postrouting"), rule,
		}},
	)
}

// unmasquerade removes what masquerade made.
func unmasquerade(table string) error {
	return batch(part{unix.NFT_MSG_DELTABLE, 0, [][]byte{text(unix.NFTA_TABLE_NAME, table)}})
}

type part struct {
	kind, flags uint16
	attrs       [][]byte
}

// batch sends changes that the kernel makes all or none of.
func batch(parts ...part) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("reach nf_tables: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	limit := unix.NsecToTimeval(int64(5 * time.Second))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return fmt.Errorf("reach nf_tables: %w", err)
	}
	out := message(0, unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	for i, p := range parts {
		out = append(out, message(uint32(i+1), nftables|p.kind, p.flags|unix.NLM_F_ACK, unix.AF_INET, 0, p.attrs...)...)
	}
	out = append(out, message(uint32(len(parts)+1), unix.NFNL_MSG_BATCH_END, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)...)
	if err := unix.Sendto(fd, out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("change nf_tables: %w", err)
	}
	return acknowledgements(fd, len(parts))
}

// acknowledgements reads one answer per part; the first refusal is the error.
func acknowledgements(fd, count int) error {
	buf := make([]byte, 64<<10)
	for count > 0 {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("change nf_tables: %w", err)
		}
		for b := buf[:n]; len(b) >= 20; {
			size := int(binary.NativeEndian.Uint32(b))
			if size < 20 || size > len(b) {
				break
			}
			if binary.NativeEndian.Uint16(b[4:]) == unix.NLMSG_ERROR {
				if code := int32(binary.NativeEndian.Uint32(b[16:])); code != 0 {
					return fmt.Errorf("change nf_tables: %w", unix.Errno(-code))
				}
				count--
			}
			b = b[min((size+3)&^3, len(b)):]
		}
	}
	return nil
}
