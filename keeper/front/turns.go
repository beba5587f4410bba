package front

import (
	"cmp"
	"hash/fnv"
	"iter"
	"net"
	"net/netip"
	"slices"
)

// turns gives endpoints in the order in which they are tried: in turn, or for a client that is to stay with a pod always in the same order, which a
// pod that comes or goes changes only where it stands itself.
func (f *Front) turns(list []endpoint, sticky bool, client netip.Addr) iter.Seq[endpoint] {
	start := uint64(0)
	if sticky && len(list) > 1 {
		list = byClient(list, client)
	} else {
		start = f.next.Add(1)
	}
	return func(yield func(endpoint) bool) {
		for i := range uint64(len(list)) {
			if !yield(list[(start+i)%uint64(len(list))]) {
				return
			}
		}
	}
}

// byClient orders endpoints by what the client's address and the pod's name make together.
func byClient(list []endpoint, client netip.Addr) []endpoint {
	type scored struct {
		e     endpoint
		score uint64
	}
	all := make([]scored, len(list))
	for i, e := range list {
		h := fnv.New64a()
		_, _ = h.Write([]byte(client.String() + " " + e.name))
		all[i] = scored{e, mixed(h.Sum64())}
	}
	slices.SortFunc(all, func(a, b scored) int { return cmp.Compare(b.score, a.score) })
	ordered := make([]endpoint, len(list))
	for i, s := range all {
		ordered[i] = s.e
	}
	return ordered
}

// mixed has every bit of a sum depend on every other: FNV leaves those of short texts that end alike close together. It is the last step of MurmurHash3.
func mixed(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// addressOf is the address of a connection's other side.
func addressOf(conn net.Conn) netip.Addr {
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
