package local

import (
	"crypto/sha256"
	"encoding/binary"
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
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/netpolicy"
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
	// Ahead has the first pod's network made while everything else is still being prepared.
	Ahead bool
	// Shared gives pods this machine's network, whatever they say, where none can be made for them.
	Shared bool `json:"-"`
	// Disabled refuses pods with a network of their own.
	Disabled bool
	// Open lets pods reach whatever this machine reaches, and the machine; without it see firewall.go.
	Open bool `json:"-"`
	// Bare filters nothing, so that pods cannot be held to NetworkPolicies either. It is for pods of whoever types at this machine, and goes with Open.
	Bare bool `json:"-"`
	// Ports are those of this machine that pods may reach by TCP.
	Ports []uint16 `json:"-"`
}

// network connects pods to this machine, each by a pair of interfaces with a route to its one address. The bridge, which
// has this machine's address there, is made when it is first needed.
type network struct {
	o Network
	// group is that of the links that executors on this folder make (ip-link(8)), by which the next one knows them.
	group   uint32
	log     *slog.Logger
	fault   func(string)
	subnet  netip.Prefix
	wall    *firewall
	held    held
	invalid error

	// ready has the networks of pods with users of their own, plain those of the others.
	ready, plain pool
	users        *users

	mu   sync.Mutex
	isUp bool
	// bridge is its index while it is up.
	bridge int
	// recalled says that an earlier executor has left a bridge, or pods that have a network here.
	recalled bool
	// inherited are the indexes of links that were there at the start, of pods of another executor or of an earlier version of this one.
	inherited []int
	last      netip.Addr
	leases    map[string]lease        // by attempt
	handed    map[string]readyNetwork // of attempts that have not opened theirs yet
	// leaving are links of pods that have ended, which the kernel removes with their network.
	leaving  []lease
	sweeping *time.Timer
	// closed says that nothing more is made or removed in the background, work is what is.
	closed bool
	work   sync.WaitGroup
}

type lease struct {
	addr  netip.Addr
	index int // of the interface on this machine's side; 0 on record before it is made
	// pod is who has it, as policies see it; the zero value before one does.
	pod netpolicy.Pod
}

func newNetwork(o Network, dir string, users *users, log *slog.Logger, fault func(string)) *network {
	if o.Bridge == "" {
		o.Bridge = defaultBridge
	}
	if o.Subnet == "" {
		o.Subnet = defaultSubnet
	}
	n := &network{o: o, held: held{file: filepath.Join(dir, policiesFile)}, group: linkGroup(dir), users: users, log: log, fault: fault, leases: map[string]lease{}, handed: map[string]readyNetwork{}}
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
		n.wall = newFirewall(o, n.subnet)
		n.wall.plan = n.held.read()
		size := min(poolSize, 1<<(32-prefix.Bits())/16)
		n.ready.own, n.ready.size, n.plain.size = true, size, size
	}
	return n
}

// linkGroup is the group of a folder's links: neither that of all other links, which is 0, nor that of those that are about to go.
func linkGroup(dir string) uint32 {
	sum := sha256.Sum256([]byte(dir))
	if g := binary.BigEndian.Uint32(sum[:]); g != 0 && g != leavingGroup {
		return g
	}
	return 1
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
	if n.isUp {
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
	if err := n.putWall(); err != nil {
		return err
	}
	n.isUp, n.bridge = true, link.Attrs().Index
	return nil
}

// putWall tells the kernel what pods may reach.
func (n *network) putWall() error {
	var pods []netpolicy.Pod
	for _, l := range n.leases {
		pods = append(pods, l.pod)
	}
	err := n.wall.put(pods)
	if err == nil {
		if !n.wall.bare {
			n.wall.broken = nil
		}
		return nil
	}
	if err = fmt.Errorf("what pods may reach cannot be said to the kernel: %w", err); !n.o.Open || n.held.any() {
		return err
	}
	n.log.Warn("pods cannot reach beyond this machine", "error", err)
	n.wall.broken = err
	return nil
}

// switchOn switches on a setting of an interface.
func switchOn(link, name string) error {
	if err := os.WriteFile(filepath.Join("/proc/sys/net/ipv4/conf", link, name), []byte("1"), 0o600); err != nil {
		return fmt.Errorf("set %s of interface %s: %w", name, link, err)
	}
	return nil
}

func (n *network) ipNet(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(n.subnet.Bits(), 32)}
}

// interfaceName is derived from the address, so that no two executors on this machine lease the same one.
func interfaceName(a netip.Addr) string {
	b := a.As4()
	return fmt.Sprintf("tv%02x%02x%02x%02x", b[0], b[1], b[2], b[3])
}

// hardware is the hardware address that goes with an address. Whoever has the address next has the same one: neighbours
// remember the pair for half a minute and more.
func hardware(a netip.Addr) net.HardwareAddr {
	b := a.As4()
	return net.HardwareAddr{0x0a, 0x58, b[0], b[1], b[2], b[3]}
}

// mark is the hardware address of this machine's side of an attempt's pair of interfaces, by which servers until 0.1.0 knew it as the
// attempt's own before its index was on record.
func mark(dir string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(dir))
	return append(net.HardwareAddr{0x0a}, sum[:5]...)
}

// lease gives an attempt a network: one that is ready, or one that is made for it. That it is the attempt's is on record before the
// attempt has it.
func (n *network) lease(name string, pod *executor.Pod, dir string, own bool) (r readyNetwork, err error) {
	unlock, err := n.ensureUp()
	if err != nil {
		return r, err
	}
	defer unlock()
	r, ok := n.poolOf(own).take(n)
	if !ok {
		if r, err = n.connect(own); err != nil {
			return r, err
		}
	}
	n.fault("network-lease")
	if err := writeLease(dir, r.lease); err != nil {
		n.abandon(r)
		return r, err
	}
	r.pod = seen(r.addr, pod)
	n.mu.Lock()
	if err = n.enter(r.pod); err == nil {
		n.leases[name], n.handed[name] = r.lease, r
	}
	n.mu.Unlock()
	if err != nil {
		n.abandon(r)
		return r, err
	}
	return r, nil
}

// enter has a pod judged as what it is.
func (n *network) enter(pod netpolicy.Pod) error {
	if n.held.unknown != nil {
		return &executor.TransientError{Err: n.held.unknown}
	}
	if n.wall.broken == nil {
		return n.wall.enter(pod)
	}
	return nil // with an open network, which needs no filter
}

// handedOver closes this process's own handle of a network that its pod has.
func (n *network) handedOver(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closeHandle(name)
}

func (n *network) closeHandle(name string) {
	if r, ok := n.handed[name]; ok {
		_ = r.space.Close()
		r.users.close()
		delete(n.handed, name)
	}
}

func writeLease(dir string, l lease) error {
	return os.WriteFile(filepath.Join(dir, addressFile), fmt.Appendf(nil, "%s %d\n", l.addr, l.index), 0o600)
}

// route leads to the pod, and to nobody else behind that interface: what comes from there under another address is dropped.
// Both sides know each other's hardware address for good, because a machine remembers no more than some hundred neighbours
// that it has to ask for.
func (n *network) route(l lease) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Index = interfaceName(l.addr), l.index
	outside := &netlink.Veth{LinkAttrs: attrs}
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

// recall finds the lease of an attempt that an earlier executor started.
func (n *network) recall(name string, pod *executor.Pod, dir string) string {
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
		link, err := netlink.LinkByName(interfaceName(l.addr))
		if err != nil || link.Attrs().HardwareAddr.String() != mark(dir).String() {
			return "" // nothing was made, or somebody else has that address
		}
		l.index = link.Attrs().Index
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	l.pod = seen(l.addr, pod)
	n.leases[name], n.recalled = l, true
	return l.addr.String()
}

// leadsToPod reports whether an interface leads to a pod of this network, of another executor maybe.
func (n *network) leadsToPod(name string) bool {
	var b [4]byte
	if _, err := fmt.Sscanf(name, "tv%02x%02x%02x%02x", &b[0], &b[1], &b[2], &b[3]); err != nil {
		return false
	}
	return n.subnet.Contains(netip.AddrFrom4(b))
}

// NetworkInfo tells where pods are.
type NetworkInfo struct {
	Bridge, Subnet, Gateway string
	// Filtered says that what pods reach is filtered: by NetworkPolicies at least, if the network is open. Calls of pods are carried under
	// their own addresses then (see firewall_carried.go).
	Filtered bool
}

// Network tells where pods are, and makes the bridge if it is not there yet, so that its address can be
// listened on.
func (e *Executor) Network() (NetworkInfo, error) {
	unlock, err := e.network.lockBridge(false) // before mu, as everywhere
	if err != nil {
		return NetworkInfo{}, err
	}
	defer unlock()
	e.network.mu.Lock()
	defer e.network.mu.Unlock()
	if err := e.network.up(); err != nil {
		return NetworkInfo{}, fmt.Errorf("network of the pods: %w", err)
	}
	return NetworkInfo{Bridge: e.network.o.Bridge, Subnet: e.network.subnet.String(), Gateway: e.network.gateway(), Filtered: e.network.wall.broken == nil}, nil
}

// machineAddress is where others of this machine's network reach a pod that is on it itself.
const machineAddress = "127.0.0.1"

// network gives the pod its address and its name files.
func (b *builder) network(order *protocol.Spec) error {
	if !b.a.ownNetwork() {
		b.a.mu.Lock()
		b.a.ip = machineAddress
		b.a.mu.Unlock()
	}
	if b.a.host && !b.a.ownNetwork() {
		return nil
	}
	if b.a.ownNetwork() {
		b.e.network.release(b.a.name) // of an earlier launch that came to nothing
		r, err := b.e.network.lease(b.a.name, b.pod, b.a.dir, b.e.ownUsers(b.spec, b.a.host))
		if err != nil {
			return fmt.Errorf("network: %w", err)
		}
		b.a.mu.Lock()
		b.a.ip = r.addr.String()
		b.a.mu.Unlock()
		b.root = int(r.users.first)
		order.Network, order.NetworkPath, order.Users = true, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(r.space)), r.users.order()
	}
	if err := b.e.beginHosts(b.a); err != nil {
		return err
	}
	if err := b.give(filepath.Join(b.a.workFolder(), "hosts"), 0); err != nil {
		return err
	}
	if err := b.writeFile("hostname", b.hostname()+"\n"); err != nil {
		return err
	}
	return b.writeFile("resolv.conf", b.resolvConf())
}

// ownNetwork says that an attempt's pod has a network of its own.
func (a *attempt) ownNetwork() bool {
	return !a.e.sharesNetwork(&a.pod.Pod.Spec) && (!a.host || a.e.apartByNetwork())
}

func (b *builder) writeFile(name, text string) error {
	path := filepath.Join(b.a.workFolder(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return err
	}
	return b.give(path, 0)
}

// give makes a file or folder that is the pod's alone its root's and the group's.
func (b *builder) give(path string, group int) error {
	if b.root == 0 {
		return nil
	}
	return os.Lchown(path, b.root, b.root+group)
}

// resolvConf is this machine's, or what the pod says. A name server on loopback cannot be reached from a pod's
// own network; systemd-resolved keeps the real ones beside it.
func (b *builder) resolvConf() string {
	data, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		data = nil
	}
	if strings.Contains(string(data), "nameserver 127.") && !b.e.sharesNetwork(b.spec) {
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
