package local

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
)

// Loopback takes the Services' addresses from 127.88.0.0/16, which needs no set-up and is reached by pods that share
// this machine's network.
type Loopback struct{}

// Range implements Addresses.
func (Loopback) Range() netip.Prefix { return netip.MustParsePrefix("127.88.0.0/16") }

// Add implements Addresses.
func (Loopback) Add(netip.Addr) error { return nil }

// Remove implements Addresses.
func (Loopback) Remove(netip.Addr) error { return nil }

// Bridge puts the Services' addresses on the bridge that pods are connected to, which must be there. Choose a range
// outside of the pods' own ("10.89.0.0/16"): pods reach it by their default route, and no pod is ever given one of them.
type Bridge struct {
	Interface string
	Prefix    netip.Prefix
}

// Range implements Addresses.
func (b Bridge) Range() netip.Prefix { return b.Prefix }

// Add implements Addresses.
func (b Bridge) Add(a netip.Addr) error {
	return b.change(a, netlink.AddrAdd, syscall.EEXIST)
}

// Remove implements Addresses.
func (b Bridge) Remove(a netip.Addr) error {
	return b.change(a, netlink.AddrDel, syscall.EADDRNOTAVAIL)
}

func (b Bridge) change(a netip.Addr, do func(netlink.Link, *netlink.Addr) error, already error) error {
	link, err := netlink.LinkByName(b.Interface)
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", b.Interface, err)
	}
	address, err := netlink.ParseAddr(a.String() + "/32")
	if err != nil {
		return fmt.Errorf("address %s: %w", a, err)
	}
	if err := do(link, address); err != nil && !errors.Is(err, already) {
		return fmt.Errorf("address %s on %s: %w", a, b.Interface, err)
	}
	return nil
}
