// Package clients is about who is on the other side of a port: which addresses are one client, how many connections it has at the same time, and
// how long the body of its request is waited for. The server's own routes and the requests to applications are held to the same.
package clients

import "net/netip"

// Of is the client that an address is counted as: an IPv4 address, or the /64 of an IPv6 one, all of which one machine has as a rule. An IPv4
// address that is written as IPv6 is the same client, and ::1 is alone, since nobody has the rest of its /64. The zero value stands for an
// address that is none.
func Of(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() && !a.IsLoopback() {
		bits = 64
	}
	client, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return client
}
