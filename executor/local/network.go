package local

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/protocol"
)

const (
	defaultBridge = "tiphys0"
	defaultSubnet = "10.88.0.0/16"
	addressFile   = "address" // of an attempt: its address and the index of its interface
)

// Network configures the pods' own network.
type Network struct {
	// Bridge is the interface with this machine's address among the pods; "tiphys0" if empty. Pods are not ports of it,
	// of which a bridge takes 1,023: each has a link of its own to this machine, which routes between them.
	Bridge string
	// Subnet is an IPv4 network; "10.88.0.0/16" if empty. The bridge has its first address. Forwarding is switched on, and
	// pods leave under this machine's address.
	Subnet string
	// Disabled refuses pods with a network of their own.
	Disabled bool
}

// network connects pods to this machine, each by a pair of interfaces with a route to its one address. The bridge, which
// has this machine's address there, is made when it is first needed.
type network struct {
	o       Network
	log     *slog.Logger
	fault   func(string)
	subnet  netip.Prefix
	invalid error

	mu     sync.Mutex
	ready  bool
	last   netip.Addr
	leases map[string]lease // by attempt
}

type lease struct {
	addr  netip.Addr
	index int // of the interface on this machine's side; 0 on record before it is made
}

func newNetwork(o Network, log *slog.Logger, fault func(string)) *network {
	if o.Bridge == "" {
		o.Bridge = defaultBridge
	}
	if o.Subnet == "" {
		o.Subnet = defaultSubnet
	}
	n := &network{o: o, log: log, fault: fault, leases: map[string]lease{}}
	prefix, err := netip.ParsePrefix(o.Subnet)
	switch {
	case o.Disabled:
		n.invalid = errors.New("it is switched off")
	case err != nil:
		n.invalid = fmt.Errorf("subnet: %w", err)
	case !prefix.Addr().Is4() || prefix.Bits() > 29:
		n.invalid = fmt.Errorf("subnet %s: an IPv4 network of 8 addresses or more is needed", o.Subnet)
	case len(o.Bridge) > 15:
		n.invalid = fmt.Errorf("bridge %s: the name is longer than 15 characters", o.Bridge)
	default:
		n.subnet = prefix.Masked()
	}
	return n
}

// usable says why pods cannot have a network of their own, or nil.
func (n *network) usable() error { return n.invalid }

func (n *network) gatewayAddr() netip.Addr { return n.subnet.Addr().Next() }

// gateway is this machine's address on the bridge.
func (n *network) gateway() string {
	if n.invalid != nil {
		return ""
	}
	return n.gatewayAddr().String()
}

// up makes the bridge.
func (n *network) up() error {
	if n.ready {
		return nil
	}
	if n.invalid != nil {
		return n.invalid
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = n.o.Bridge
	// Without one of its own it has the lowest of those connected, and another each time that a pod comes or goes.
	attrs.HardwareAddr = hardware(n.gatewayAddr())
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make bridge %s: %w", n.o.Bridge, err)
	}
	link, err := netlink.LinkByName(n.o.Bridge)
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", n.o.Bridge, err)
	}
	if link.Type() != "bridge" {
		return fmt.Errorf("interface %s is there and is no bridge: name another one", n.o.Bridge)
	}
	if link.Attrs().HardwareAddr.String() != attrs.HardwareAddr.String() {
		if err := netlink.LinkSetHardwareAddr(link, attrs.HardwareAddr); err != nil {
			return fmt.Errorf("hardware address of bridge %s: %w", n.o.Bridge, err)
		}
	}
	if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: n.ipNet(n.gatewayAddr())}); err != nil {
		return fmt.Errorf("address of bridge %s: %w", n.o.Bridge, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("switch on bridge %s: %w", n.o.Bridge, err)
	}
	// Pods of an earlier version are ports of the bridge and look for their neighbours there.
	if err := switchOn(n.o.Bridge, "proxy_arp"); err != nil {
		return err
	}
	n.ready = true
	if err := masquerade(n.table(), n.subnet); err != nil {
		n.log.Warn("pods cannot reach beyond this machine", "error", err)
	}
	return nil
}

// switchOn switches on a setting of an interface.
func switchOn(link, name string) error {
	if err := os.WriteFile(filepath.Join("/proc/sys/net/ipv4/conf", link, name), []byte("1"), 0o600); err != nil {
		return fmt.Errorf("set %s of interface %s: %w", name, link, err)
	}
	return nil
}

// table is the nf_tables table that belongs to the bridge.
func (n *network) table() string { return "tiphys-" + n.o.Bridge }

func (n *network) ipNet(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(n.subnet.Bits(), 32)}
}

// interfaceName is derived from the address, so that no two executors on this machine lease the same one.
func interfaceName(prefix string, a netip.Addr) string {
	b := a.As4()
	return fmt.Sprintf("%s%02x%02x%02x%02x", prefix, b[0], b[1], b[2], b[3])
}

// hardware is the hardware address that goes with an address. Whoever has the address next has the same one: neighbours
// remember the pair for half a minute and more.
func hardware(a netip.Addr) net.HardwareAddr {
	b := a.As4()
	return net.HardwareAddr{0x0a, 0x58, b[0], b[1], b[2], b[3]}
}

// mark is the hardware address of this machine's side of an attempt's pair of interfaces, by which it is known as the
// attempt's own.
func mark(dir string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(dir))
	return append(net.HardwareAddr{0x0a}, sum[:5]...)
}

// lease takes a free address for an attempt: whoever makes the pair of interfaces that is named after an
// address has it. What is about to be made is on record before, so that a later executor knows it for its own.
func (n *network) lease(name, dir string) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.up(); err != nil {
		return "", err
	}
	if _, err := netlink.LinkByName(n.o.Bridge); err != nil {
		// Somebody removed it: another executor that used it, too, and is closed, or the machine's owner.
		n.ready = false
		if err := n.up(); err != nil {
			return "", err
		}
	}
	size := 1 << (32 - n.subnet.Bits())
	addr := n.last
	for range size {
		if addr = addr.Next(); !addr.IsValid() || !n.subnet.Contains(addr) {
			addr = n.gatewayAddr().Next()
		}
		if !n.subnet.Contains(addr.Next()) {
			continue // the broadcast address
		}
		if err := writeLease(dir, lease{addr: addr}); err != nil {
			return "", err
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.HardwareAddr = interfaceName("tv", addr), mark(dir)
		err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: interfaceName("tp", addr), PeerHardwareAddr: hardware(addr)})
		if errors.Is(err, unix.EEXIST) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("make interface: %w", err)
		}
		n.fault("network-lease")
		link, err := netlink.LinkByName(attrs.Name)
		if err != nil {
			return "", fmt.Errorf("find interface: %w", err)
		}
		n.last = addr
		l := lease{addr, link.Attrs().Index}
		n.leases[name] = l
		return addr.String(), writeLease(dir, l)
	}
	return "", &executor.TransientError{Err: fmt.Errorf("no address is free in %s", n.subnet)}
}

func writeLease(dir string, l lease) error {
	return os.WriteFile(filepath.Join(dir, addressFile), fmt.Appendf(nil, "%s %d\n", l.addr, l.index), 0o600)
}

// join moves a leased interface into the network of a pod's first process.
func (n *network) join(name string, pid int) error {
	n.mu.Lock()
	l, ok := n.leases[name]
	n.mu.Unlock()
	if !ok {
		return errors.New("the pod has no address")
	}
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	peer, err := netlink.LinkByName(interfaceName("tp", l.addr))
	if err != nil {
		return err
	}
	if err := netlink.LinkSetNsFd(peer, int(ns)); err != nil {
		return err
	}
	inside, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer inside.Close()
	outside, err := netlink.LinkByIndex(l.index)
	if err != nil {
		return err
	}
	if err := n.configure(inside, l, outside.Attrs().HardwareAddr); err != nil {
		return err
	}
	return n.route(l, outside)
}

// route leads to the pod, and to nobody else behind that interface: what comes from there under another address is dropped.
// Both sides know each other's hardware address for good, because a machine remembers no more than some hundred neighbours
// that it has to ask for.
func (n *network) route(l lease, outside netlink.Link) error {
	if err := netlink.LinkSetUp(outside); err != nil {
		return err
	}
	if err := switchOn(outside.Attrs().Name, "rp_filter"); err != nil {
		return err
	}
	if err := netlink.NeighSet(neighbour(outside, l.addr, hardware(l.addr))); err != nil {
		return err
	}
	return netlink.RouteReplace(&netlink.Route{
		LinkIndex: outside.Attrs().Index, Dst: host(l.addr), Scope: netlink.SCOPE_LINK, Src: n.gatewayAddr().AsSlice(),
	})
}

func neighbour(link netlink.Link, a netip.Addr, at net.HardwareAddr) *netlink.Neigh {
	return &netlink.Neigh{
		LinkIndex: link.Attrs().Index, Family: unix.AF_INET, State: netlink.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: at,
	}
}

// host is the network of one address.
func host(a netip.Addr) *net.IPNet { return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)} }

// configure gives the pod its address, and this machine as its one neighbour.
func (n *network) configure(h *netlink.Handle, l lease, outside net.HardwareAddr) error {
	link, err := h.LinkByName(interfaceName("tp", l.addr))
	if err != nil {
		return err
	}
	if err := h.LinkSetName(link, "eth0"); err != nil {
		return err
	}
	if err := h.AddrAdd(link, &netlink.Addr{IPNet: host(l.addr)}); err != nil {
		return err
	}
	if err := h.LinkSetUp(link); err != nil {
		return err
	}
	gateway := n.gatewayAddr()
	if err := h.NeighSet(neighbour(link, gateway, outside)); err != nil {
		return err
	}
	index := link.Attrs().Index
	if err := h.RouteAdd(&netlink.Route{LinkIndex: index, Dst: host(gateway), Scope: netlink.SCOPE_LINK}); err != nil {
		return err
	}
	return h.RouteAdd(&netlink.Route{LinkIndex: index, Gw: gateway.AsSlice()})
}

// recall finds the lease of an attempt that an earlier executor started.
func (n *network) recall(name, dir string) string {
	data, err := os.ReadFile(filepath.Join(dir, addressFile))
	if err != nil || n.invalid != nil {
		return ""
	}
	var text string
	var l lease
	if _, err := fmt.Sscan(string(data), &text, &l.index); err != nil {
		return ""
	}
	if l.addr, err = netip.ParseAddr(text); err != nil {
		return ""
	}
	if l.index == 0 {
		link, err := netlink.LinkByName(interfaceName("tv", l.addr))
		if err != nil || link.Attrs().HardwareAddr.String() != mark(dir).String() {
			return "" // nothing was made, or somebody else has that address
		}
		l.index = link.Attrs().Index
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.leases[name] = l
	return l.addr.String()
}

// release gives an address back. The index tells this lease's interface from a later one of the same name.
func (n *network) release(name string) {
	n.mu.Lock()
	l, ok := n.leases[name]
	delete(n.leases, name)
	n.mu.Unlock()
	if !ok {
		return
	}
	// The name keeps the address from others until the kernel is through, so the lock need not.
	if link, err := netlink.LinkByIndex(l.index); err == nil && link.Attrs().Name == interfaceName("tv", l.addr) {
		_ = netlink.LinkDel(link)
	}
}

// leadsToPod reports whether an interface leads to a pod of this network, of another executor maybe.
func (n *network) leadsToPod(name string) bool {
	var b [4]byte
	if _, err := fmt.Sscanf(name, "tv%02x%02x%02x%02x", &b[0], &b[1], &b[2], &b[3]); err != nil {
		return false
	}
	return n.subnet.Contains(netip.AddrFrom4(b))
}

// down removes the bridge if there is no pod that reaches this machine by its address.
func (n *network) down() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.ready || len(n.leases) > 0 {
		return
	}
	n.ready = false
	bridge, err := netlink.LinkByName(n.o.Bridge)
	if err != nil {
		return
	}
	links, err := netlink.LinkList()
	if err != nil {
		return
	}
	for _, l := range links {
		if l.Attrs().MasterIndex == bridge.Attrs().Index || n.leadsToPod(l.Attrs().Name) {
			return
		}
	}
	_ = netlink.LinkDel(bridge)
	_ = unmasquerade(n.table())
}

// NetworkInfo tells where pods are.
type NetworkInfo struct{ Bridge, Subnet, Gateway string }

// Network tells where pods are, and makes the bridge if it is not there yet, so that its address can be
// listened on.
func (e *Executor) Network() (NetworkInfo, error) {
	e.network.mu.Lock()
	defer e.network.mu.Unlock()
	if err := e.network.up(); err != nil {
		return NetworkInfo{}, fmt.Errorf("network of the pods: %w", err)
	}
	return NetworkInfo{Bridge: e.network.o.Bridge, Subnet: e.network.subnet.String(), Gateway: e.network.gateway()}, nil
}

// network gives the pod its address and its name files.
func (b *builder) network(order *protocol.Spec) error {
	if b.a.host {
		return nil
	}
	if !b.spec.HostNetwork {
		b.e.network.release(b.a.name) // of an earlier launch that came to nothing
		ip, err := b.e.network.lease(b.a.name, b.a.dir)
		if err != nil {
			return fmt.Errorf("network: %w", err)
		}
		b.a.mu.Lock()
		b.a.ip = ip
		b.a.mu.Unlock()
		order.Network, order.AwaitGo = true, true
	}
	if err := b.e.beginHosts(b.a); err != nil {
		return err
	}
	if err := b.writeFile("hostname", b.hostname()+"\n"); err != nil {
		return err
	}
	return b.writeFile("resolv.conf", b.resolvConf())
}

func (b *builder) writeFile(name, text string) error {
	return os.WriteFile(filepath.Join(b.a.workFolder(), name), []byte(text), 0o644)
}

// resolvConf is this machine's, or what the pod says. A name server on loopback cannot be reached from a pod's
// own network; systemd-resolved keeps the real ones beside it.
func (b *builder) resolvConf() string {
	data, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		data = nil
	}
	if strings.Contains(string(data), "nameserver 127.") && !b.spec.HostNetwork {
		if upstream, err := os.ReadFile("/run/systemd/resolve/resolv.conf"); err == nil {
			data = upstream
		}
	}
	text := string(data)
	c := b.spec.DNSConfig
	if b.spec.DNSPolicy == "None" {
		text = ""
	}
	if c == nil {
		return text
	}
	for _, s := range c.Nameservers {
		text += "nameserver " + s + "\n"
	}
	if len(c.Searches) > 0 {
		text += "search " + strings.Join(c.Searches, " ") + "\n"
	}
	for _, o := range c.Options {
		text += "options " + o.Name
		if o.Value != nil {
			text += ":" + *o.Value
		}
		text += "\n"
	}
	return text
}
