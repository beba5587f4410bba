package egress

import (
	"fmt"
	"net/netip"
	"sync"
)

// kind is a range of addresses that a manifest has the server reach in no case, with the words for it.
type kind struct {
	prefix netip.Prefix
	words  string
}

// Words for the ranges that are refused.
const (
	wordsSelf      = "an address of this machine itself"
	wordsLoopback  = "loopback of the server's machine"
	wordsLinkLocal = "link-local, where clouds keep metadata and credentials"
	wordsMetadata  = "the metadata address of a cloud"
	wordsReserved  = "reserved and no host of a network"
	wordsOwn       = "an address of the server's own machine"
	wordsCluster   = "in the network of this server's pods and Services"
)

// Clouds are the addresses at which clouds keep what is secret of a machine: those that are link-local, and the others.
func Clouds() []netip.Prefix {
	var list []netip.Prefix
	for _, k := range kinds() {
		if k.words == wordsLinkLocal || k.words == wordsMetadata {
			list = append(list, k.prefix)
		}
	}
	return list
}

// kinds are the ranges that are refused for everybody. Those of translated IPv6 are not among them: what they hold is judged.
// Sources: RFC 6890 and the IANA special-purpose registries; the metadata addresses are those that the clouds document
// (AWS fd00:ec2::254, Google fd20:ce::254, Scaleway fd00:42::42, Alibaba 100.100.100.200, Azure 168.63.129.16, Oracle 192.0.0.192).
var kinds = sync.OnceValue(func() []kind {
	var list []kind
	for words, prefixes := range map[string][]string{
		wordsSelf:      {"0.0.0.0/8", "::/128"},
		wordsLoopback:  {"127.0.0.0/8", "::1/128"},
		wordsLinkLocal: {"169.254.0.0/16", "fe80::/10"},
		wordsMetadata:  {"100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32", "fd00:ec2::/32", "fd20:ce::/32", "fd00:42::42/128"},
		wordsReserved:  {"192.0.0.0/24", "192.88.99.0/24", "224.0.0.0/4", "240.0.0.0/4", "ff00::/8", "fec0::/10"},
	} {
		for _, p := range prefixes {
			list = append(list, kind{netip.MustParsePrefix(p), words})
		}
	}
	return list
})

// inside gives the IPv4 addresses that an IPv6 address may stand for: a translator, a tunnel or the kernel itself takes what is sent to
// the one to the other.
func inside(a netip.Addr) []netip.Addr {
	if !a.Is6() {
		return nil
	}
	b := a.As16()
	four := func(at ...int) netip.Addr { return netip.AddrFrom4([4]byte{b[at[0]], b[at[1]], b[at[2]], b[at[3]]}) }
	last := four(12, 13, 14, 15)
	switch {
	case a.Is4In6():
		return []netip.Addr{last}
	case in(a, "::/96"): // "IPv4-compatible" (RFC 4291); :: and ::1 are ranges of their own
		if a == netip.IPv6Unspecified() || a == netip.IPv6Loopback() {
			return nil
		}
		return []netip.Addr{last}
	case in(a, "::ffff:0:0:0/96"), in(a, "64:ff9b::/96"): // SIIT (RFC 2765) and NAT64 (RFC 6052)
		return []netip.Addr{last}
	case in(a, "64:ff9b:1::/48"): // NAT64 of a network's own (RFC 8215), by whichever of its lengths
		return local64(four(6, 7, 9, 10), four(7, 9, 10, 11), four(9, 10, 11, 12), last)
	case in(a, "2002::/16"): // 6to4
		return []netip.Addr{four(2, 3, 4, 5)}
	case in(a, "2001::/32"): // Teredo: its server, and its client, whose bits are turned round
		client := [4]byte{^b[12], ^b[13], ^b[14], ^b[15]}
		return []netip.Addr{four(4, 5, 6, 7), netip.AddrFrom4(client)}
	case b[8]&^3 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe: // ISATAP (RFC 5214)
		return []netip.Addr{last}
	}
	return nil
}

// local64 drops the readings of an address that are none: an address of 0.0.0.0/8 comes of the zeros around the one that is meant, and
// no translator sends anything there. If all of them are of it, they stay.
func local64(readings ...netip.Addr) []netip.Addr {
	var list []netip.Addr
	for _, a := range readings {
		if !in(a, "0.0.0.0/8") {
			list = append(list, a)
		}
	}
	if len(list) == 0 {
		return readings
	}
	return list
}

func in(a netip.Addr, prefix string) bool { return netip.MustParsePrefix(prefix).Contains(a) }

// judge says what is wrong with an address; empty if nothing is. own are this machine's addresses, cluster the networks of its pods and
// Services.
func judge(a netip.Addr, own []netip.Addr, cluster []netip.Prefix) string {
	a = a.WithZone("").Unmap()
	if words := one(a, own, cluster); words != "" {
		return words
	}
	for _, held := range inside(a) {
		if words := one(held, own, cluster); words != "" {
			return fmt.Sprintf("%s, as %s", words, held)
		}
	}
	return ""
}

// one judges one address as it stands.
func one(a netip.Addr, own []netip.Addr, cluster []netip.Prefix) string {
	words := ""
	bits := -1
	for _, k := range kinds() {
		if k.prefix.Contains(a) && k.prefix.Bits() > bits {
			words, bits = k.words, k.prefix.Bits()
		}
	}
	if words != "" {
		return words
	}
	for _, o := range own {
		if o == a {
			return wordsOwn
		}
	}
	for _, p := range cluster {
		if p.Contains(a) {
			return wordsCluster
		}
	}
	return ""
}
