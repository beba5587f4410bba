package wire

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

	"github.com/tiphys/tiphys/executor/local"
)

// networks is how many bridges and subnets are tried where none was named: tiphys0 with 10.88.0.0/16, tiphys1 with
// 10.90.0.0/16 and so on. The first /24 behind each is for Services (see rangeAfter).
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

// openNetwork chooses the bridge and the addresses of the pods, so that servers beside each other on one machine have their
// own. What was named on the command line is used or refused; otherwise what this data folder had before, or else the
// first that is free.
func (s *Server) openNetwork(ctx context.Context) error {
	if s.o.Network.Disabled {
		return nil
	}
	if err := os.MkdirAll(s.o.Data, 0o700); err != nil {
		return fmt.Errorf("make data folder: %w", err)
	}
	file := filepath.Join(s.o.Data, "network.json")
	var was, is local.Network
	if b, err := os.ReadFile(file); err == nil {
		_ = json.Unmarshal(b, &was) // what cannot be read is chosen anew
	}
	bridges, subnets := candidates(s.o.Network.Bridge, was.Bridge, defaultBridges()), candidates(s.o.Network.Subnet, was.Subnet, defaultSubnets())
	var reasons error
	for _, b := range bridges {
		err := s.claimBridge(ctx, b, s.o.Network.Bridge != "")
		if err == nil {
			is.Bridge = b
			break
		}
		reasons = errors.Join(reasons, err)
	}
	if is.Bridge == "" {
		return fmt.Errorf("the pods need a bridge of their own: %w: name another with --bridge", reasons)
	}
	reasons = nil
	for _, subnet := range subnets {
		err := freeSubnet(subnet, is.Bridge)
		if err == nil {
			is.Subnet = subnet
			break
		}
		reasons = errors.Join(reasons, err)
	}
	if is.Subnet == "" {
		return fmt.Errorf("the pods need addresses of their own: %w: name others with --subnet", reasons)
	}
	s.o.Network.Bridge, s.o.Network.Subnet = is.Bridge, is.Subnet
	if is == was {
		return nil
	}
	b, err := json.Marshal(map[string]string{"bridge": is.Bridge, "subnet": is.Subnet})
	if err == nil {
		err = os.WriteFile(file, append(b, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("note the pods' network: %w", err)
	}
	return nil
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
func (s *Server) claimBridge(ctx context.Context, bridge string, named bool) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", "@tiphys-bridge-"+bridge)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("bridge %s is used by another server%s", bridge, holderOf(ctx, bridge))
	}
	if err != nil {
		return fmt.Errorf("claim bridge %s: %w", bridge, err)
	}
	link, err := netlink.LinkByName(bridge)
	if err == nil && link.Attrs().Alias != "" && link.Attrs().Alias != s.bridgeAlias() && !named {
		if _, err := os.Stat(link.Attrs().Alias); !errors.Is(err, fs.ErrNotExist) {
			_ = l.Close()
			return fmt.Errorf("bridge %s belongs to the server of %s", bridge, link.Attrs().Alias)
		}
	}
	s.closers = append(s.closers, l.Close)
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
	if services, err := rangeAfter(subnet); err == nil {
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

// bridgeAlias marks a bridge as this server's, for others to see while it does not run. An alias has at most 255 bytes.
func (s *Server) bridgeAlias() string {
	if len(s.o.Data) > 255 {
		return s.o.Data[:255]
	}
	return s.o.Data
}

// markBridge puts the alias on the bridge.
func (s *Server) markBridge(bridge string) {
	link, err := netlink.LinkByName(bridge)
	if err == nil && link.Attrs().Alias != s.bridgeAlias() {
		err = netlink.LinkSetAlias(link, s.bridgeAlias())
	}
	if err != nil {
		s.o.Log.Warn("the pods' bridge could not be marked as this server's", "bridge", bridge, "error", err)
	}
}
