package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// networks is how many bridges and subnets are tried where none was named: tiphys0 with 10.88.0.0/16, tiphys1 with
// 10.90.0.0/16 and so on. The first /24 behind each is for Services (see [ServicesOf]).
const networks = 16

func defaultBridges() (list []string) {
	for i := range networks {
		list = append(list, fmt.Sprintf("tiphys%d", i))
	}
	return list
}

func defaultSubnets() (list []string) {
	for i := range networks {
		list = append(list, fmt.Sprintf("10.%d.0.0/16", 88+2*i))
	}
	return list
}

// Claim is the right of one server to a bridge and to addresses of this machine, so that servers beside each other have their own. It
// ends with Close or with the process.
type Claim struct {
	// Network is what was claimed, with its bridge and subnet.
	Network Network
	data    string
	socket  net.Listener // nil if there is no network
}

// networkFile is where a data folder notes the network that its server had.
const networkFile = "network.json"

// ClaimNetwork chooses the bridge and the addresses of the pods of a data folder's server. What is named is used or refused; otherwise
// what this data folder had before, or else the first that is free. The caller has the folder's lock.
func ClaimNetwork(ctx context.Context, data string, n Network) (_ *Claim, err error) {
	c := &Claim{Network: n, data: data}
	if n.Disabled {
		return c, nil
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if err := os.MkdirAll(data, 0o700); err != nil {
		return c, fmt.Errorf("make data folder: %w", err)
	}
	var was Network
	if b, err := os.ReadFile(filepath.Join(data, networkFile)); err == nil {
		_ = json.Unmarshal(b, &was) // what cannot be read is chosen anew
	}
	bridge, err := firstOf(candidates(n.Bridge, was.Bridge, defaultBridges()), func(b string) error { return c.claimBridge(ctx, b, n.Bridge != "") })
	if err != nil {
		return c, fmt.Errorf("the pods need a bridge of their own: %w: name another with --bridge", err)
	}
	subnet, err := firstOf(candidates(n.Subnet, was.Subnet, defaultSubnets()), func(s string) error { return freeSubnet(s, bridge) })
	if err != nil {
		return c, fmt.Errorf("the pods need addresses of their own: %w: name others with --subnet", err)
	}
	c.Network.Bridge, c.Network.Subnet = bridge, subnet
	if bridge == was.Bridge && subnet == was.Subnet {
		return c, nil
	}
	return c, c.note()
}

// note keeps the choice for the next start.
func (c *Claim) note() error {
	b, err := json.Marshal(map[string]string{"bridge": c.Network.Bridge, "subnet": c.Network.Subnet})
	if err == nil {
		err = os.WriteFile(filepath.Join(c.data, networkFile), append(b, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("note the pods' network: %w", err)
	}
	return nil
}

// Close gives the claim back. The bridge stays.
func (c *Claim) Close() error {
	if c.socket == nil {
		return nil
	}
	return c.socket.Close()
}

// firstOf gives the first candidate that is not refused, or why all are.
func firstOf(candidates []string, refuse func(string) error) (string, error) {
	var reasons error
	for _, one := range candidates {
		err := refuse(one)
		if err == nil {
			return one, nil
		}
		reasons = errors.Join(reasons, err)
	}
	return "", reasons
}

// candidates are what was named, or what there was before and the defaults.
func candidates(named, was string, defaults []string) []string {
	switch {
	case named != "":
		return []string{named}
	case was != "":
		return append([]string{was}, slices.DeleteFunc(defaults, func(s string) bool { return s == was })...)
	}
	return defaults
}

// claimBridge takes the name of a bridge for as long as this server runs. The claim is a socket whose name lives in the same
// network namespace as the bridge's, and goes with the process. A bridge of a server that does not run now has that one's
// data folder as its alias; its pods may go on, so only who asks for it by name takes it over.
func (c *Claim) claimBridge(ctx context.Context, bridge string, named bool) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", "@tiphys-bridge-"+bridge)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("bridge %s is used by another server%s", bridge, holderOf(ctx, bridge))
	}
	if err != nil {
		return fmt.Errorf("claim bridge %s: %w", bridge, err)
	}
	link, err := netlink.LinkByName(bridge)
	if err == nil && link.Attrs().Alias != "" && link.Attrs().Alias != c.alias() && !named {
		if _, err := os.Stat(link.Attrs().Alias); !errors.Is(err, fs.ErrNotExist) {
			_ = l.Close()
			return fmt.Errorf("bridge %s belongs to the server of %s", bridge, link.Attrs().Alias)
		}
	}
	c.socket = l
	return nil
}

// holderOf names the process that has claimed a bridge.
func holderOf(ctx context.Context, bridge string) string {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", "@tiphys-bridge-"+bridge)
	if err != nil {
		return ""
	}
	defer c.Close()
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return ""
	}
	raw, err := uc.SyscallConn()
	var cred *unix.Ucred
	if err == nil {
		err = raw.Control(func(fd uintptr) { cred, _ = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	}
	if err != nil || cred == nil || cred.Pid == 0 {
		return ""
	}
	return fmt.Sprintf(" (process %d)", cred.Pid)
}

// freeSubnet says which other interface of this machine has an address among the pods' or the Services'.
func freeSubnet(subnet, bridge string) error {
	pods, err := netip.ParsePrefix(subnet)
	if err != nil {
		return nil //nolint:nilerr // the executor says what is wrong with it
	}
	ranges := []netip.Prefix{pods.Masked()}
	if services, err := ServicesOf(subnet); err == nil {
		ranges = append(ranges, services)
	}
	links, err := netlink.LinkList()
	if err != nil {
		return nil //nolint:nilerr // what cannot be looked at is tried
	}
	for _, link := range links {
		if link.Attrs().Name == bridge {
			continue
		}
		addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
		if err != nil {
			continue // it went meanwhile
		}
		for _, a := range addrs {
			ones, _ := a.Mask.Size()
			ip, ok := netip.AddrFromSlice(a.IP.To4())
			if !ok {
				continue
			}
			other := netip.PrefixFrom(ip, ones).Masked()
			for _, r := range ranges {
				if r.Overlaps(other) {
					return fmt.Errorf("%s of interface %s overlaps %s", other, link.Attrs().Name, r)
				}
			}
		}
	}
	return nil
}

// alias marks a bridge as this server's, for others to see while it does not run. An alias has at most 255 bytes.
func (c *Claim) alias() string { return c.data[:min(len(c.data), 255)] }

// Mark puts the alias on the bridge, once it is there.
func (c *Claim) Mark() error {
	link, err := netlink.LinkByName(c.Network.Bridge)
	if err == nil && link.Attrs().Alias != c.alias() {
		err = netlink.LinkSetAlias(link, c.alias())
	}
	if err != nil {
		return fmt.Errorf("mark bridge %s as this server's: %w", c.Network.Bridge, err)
	}
	return nil
}

// serviceBits is the size of the range of Service addresses.
const serviceBits = 24

// ServicesOf gives the range of Service addresses: the first /24 behind the pods' network, which pods reach by their
// default route.
func ServicesOf(subnet string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(subnet)
	if err != nil || !p.Addr().Is4() {
		return netip.Prefix{}, fmt.Errorf("network %q of the pods is not an IPv4 network", subnet)
	}
	a := p.Masked().Addr().As4()
	n := uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
	n += 1 << (32 - p.Bits())
	n &^= 1<<(32-serviceBits) - 1
	next := netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
	if !next.IsPrivate() {
		return netip.Prefix{}, fmt.Errorf("behind network %s of the pods there is no private range for the addresses of Services", subnet)
	}
	return netip.PrefixFrom(next, serviceBits), nil
}
