package local

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/tiphys/tiphys/executor"
)

// A pod's network costs the kernel some milliseconds, and more where much is going on, so some are ready before a pod asks for one. A
// network that is ready belongs to this process alone, by a descriptor: when the process ends, however it does, the kernel removes the
// network and its interfaces. In use it belongs to the pod's processes in the same way.

const (
	// poolSize is how many networks are ready at most: as many as pods have lately found missing.
	poolSize = 4
	// poolIdle is how long they wait for a pod.
	poolIdle = time.Minute
	// leaveTime is how long the kernel may take to remove a link with its network, before it is removed by hand.
	leaveTime = time.Second
)

// readyNetwork is a network with its address and its route to this machine, and nobody in it.
type readyNetwork struct {
	lease
	space netns.NsHandle
	// users is the user namespace that the network belongs to; none for a pod with the users of this machine.
	users userRange
}

// pool has networks that are ready: for pods with users of their own, or for those with the users of this machine.
type pool struct {
	own  bool
	size int

	mu   sync.Mutex
	list []readyNetwork
	// want is how many are to be ready. One more is with each pod that finds none.
	want    int
	filling bool
	closed  bool
	idle    *time.Timer
}

// take gives a network that is ready, and has others made.
func (p *pool) take(n *network) (r readyNetwork, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.size == 0 || p.closed {
		return r, false
	}
	if ok = len(p.list) > 0; ok {
		r, p.list = p.list[0], p.list[1:]
	} else {
		p.want = min(p.want+1, p.size)
	}
	p.begin(n)
	return r, ok
}

// ahead has the first network made before a pod asks for it.
func (p *pool) ahead(n *network) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.size == 0 || p.closed || p.want > 0 {
		return
	}
	p.want = 1
	p.begin(n)
}

// begin has networks made beside everything else, and given back if no pod comes for them.
func (p *pool) begin(n *network) {
	if p.idle == nil {
		p.idle = time.AfterFunc(poolIdle, func() { p.rest(n) })
	} else {
		p.idle.Reset(poolIdle)
	}
	if !p.filling {
		p.filling = true
		n.work.Go(func() { p.fill(n) })
	}
}

// rest gives back what no pod has come for.
func (p *pool) rest(n *network) {
	p.mu.Lock()
	p.want = 0
	p.mu.Unlock()
	p.drain(n)
}

// fill makes networks until there are enough. If one cannot be had the next pod makes its own, and says why if that fails, too.
func (p *pool) fill(n *network) {
	for {
		p.mu.Lock()
		if p.closed || len(p.list) >= p.want {
			p.filling = false
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		r, err := n.prepare(p.own)
		p.mu.Lock()
		if err != nil {
			p.filling = false
			p.mu.Unlock()
			return
		}
		p.list = append(p.list, r)
		p.mu.Unlock()
	}
}

// drain gives back what is ready for pods of either kind.
func (n *network) drain() {
	n.ready.drain(n)
	n.plain.drain(n)
}

// poolOf has the networks of pods with users of their own, or of the others.
func (n *network) poolOf(own bool) *pool {
	if own {
		return &n.ready
	}
	return &n.plain
}

// drain gives back what is ready.
func (p *pool) drain(n *network) {
	p.mu.Lock()
	list := p.list
	p.list = nil
	p.mu.Unlock()
	for _, r := range list {
		n.abandon(r)
	}
}

// close gives back what is ready, and has nothing made any more.
func (p *pool) close(n *network) {
	p.mu.Lock()
	p.closed = true
	if p.idle != nil {
		p.idle.Stop()
	}
	p.mu.Unlock()
	p.drain(n)
}

// prepare makes a network, on the bridge that is there then.
func (n *network) prepare(own bool) (r readyNetwork, err error) {
	unlock, err := n.ensureUp()
	if err != nil {
		return r, err
	}
	defer unlock()
	return n.connect(own)
}

// newSpaces makes a network namespace, and for a pod with users of its own the user namespace that it belongs to.
func (n *network) newSpaces(own bool) (netns.NsHandle, userRange, error) {
	if own {
		r, space, err := n.users.make()
		return netns.NsHandle(space), r, err
	}
	space, err := newSpace()
	return space, userRange{}, err
}

// connect makes a network, of a user namespace if the pod is to have users of its own. Whoever makes the interface that is named after an address has the address, on the whole machine.
func (n *network) connect(own bool) (r readyNetwork, err error) {
	if r.space, r.users, err = n.newSpaces(own); err != nil {
		return r, fmt.Errorf("make a network: %w", err)
	}
	defer func() {
		if err != nil {
			n.abandon(r)
		}
	}()
	size := 1 << (32 - n.subnet.Bits())
	for range size {
		r.addr = n.nextAddr()
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.HardwareAddr, attrs.Group = interfaceName(r.addr), outsideHardware(r.addr), n.group
		// The other end begins its life in the pod's network: to move it there would take longer than all the rest.
		err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerHardwareAddr: hardware(r.addr), PeerNamespace: netlink.NsFd(int(r.space))})
		if errors.Is(err, unix.EEXIST) {
			continue
		}
		if err != nil {
			return r, fmt.Errorf("make interface: %w", err)
		}
		if r.index, err = interfaceIndex(attrs.Name); err != nil {
			return r, fmt.Errorf("find interface: %w", err)
		}
		if err := n.configure(r); err != nil {
			return r, fmt.Errorf("connect a network: %w", err)
		}
		return r, n.route(r.lease)
	}
	r.lease = lease{}
	return r, &executor.TransientError{Err: fmt.Errorf("no address is free in %s", n.subnet)}
}

// ensureUp makes the bridge, again if somebody removed it: another executor that used it, too, and is closed, or the machine's owner.
// The routes to what was ready went with its address, so that is given back then. Until unlock is called no other executor removes it;
// an interface that leads to a pod keeps it afterwards.
func (n *network) ensureUp() (unlock func(), err error) {
	unlock, err = n.lockBridge(false)
	if err != nil {
		return nil, &executor.TransientError{Err: err}
	}
	again, err := n.upAgain()
	if again {
		n.drain()
	}
	if err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

func (n *network) upAgain() (again bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.up(); err != nil {
		return false, err
	}
	// One that was made anew by another is not the same.
	if index, err := interfaceIndex(n.o.Bridge); err != nil || index != n.bridge {
		n.isUp = false
		return true, n.up()
	}
	return false, nil
}

// interfaceIndex is the number of an interface. The kernel tells it for a fraction of what it costs to describe the interface.
func interfaceIndex(name string) (int, error) {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(socket) }()
	if err := unix.IoctlIfreq(socket, unix.SIOCGIFINDEX, request); err != nil {
		return 0, err
	}
	return int(request.Uint32()), nil
}

// nextAddr goes round the addresses of the subnet, without the first, the bridge's and the last.
func (n *network) nextAddr() netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		n.last = n.last.Next()
		if !n.last.IsValid() || !n.subnet.Contains(n.last) || !n.subnet.Contains(n.last.Next()) {
			n.last = n.gatewayAddr()
			continue
		}
		return n.last
	}
}

// newSpace makes a network namespace with nothing in it.
func newSpace() (netns.NsHandle, error) {
	// A thread that cannot come back ends with its goroutine.
	type made struct {
		space netns.NsHandle
		err   error
	}
	out := make(chan made, 1)
	go func() {
		runtime.LockOSThread()
		ours, err := netns.Get()
		if err != nil {
			runtime.UnlockOSThread()
			out <- made{-1, err}
			return
		}
		defer func() { _ = ours.Close() }()
		space, err := netns.New()
		if back := netns.Set(ours); back == nil {
			runtime.UnlockOSThread()
		}
		out <- made{space, err}
	}()
	m := <-out
	return m.space, m.err
}

// outsideHardware is the hardware address of this machine's side of a pod's pair of interfaces.
func outsideHardware(a netip.Addr) net.HardwareAddr {
	h := hardware(a)
	h[1]++
	return h
}

// configure gives a network its address, and this machine as its one neighbour.
func (n *network) configure(r readyNetwork) error {
	h, err := netlink.NewHandleAt(r.space, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	link, err := h.LinkByName("eth0")
	if err != nil {
		return err
	}
	if err := h.AddrAdd(link, &netlink.Addr{IPNet: host(r.addr)}); err != nil {
		return err
	}
	if err := h.LinkSetUp(link); err != nil {
		return err
	}
	gateway := n.gatewayAddr()
	if err := h.NeighSet(neighbour(link, gateway, outsideHardware(r.addr))); err != nil {
		return err
	}
	index := link.Attrs().Index
	if err := h.RouteAdd(&netlink.Route{LinkIndex: index, Dst: host(gateway), Scope: netlink.SCOPE_LINK}); err != nil {
		return err
	}
	return h.RouteAdd(&netlink.Route{LinkIndex: index, Gw: gateway.AsSlice()})
}

// abandon gives back a network that no pod has.
func (n *network) abandon(r readyNetwork) {
	if r.space > 0 {
		_ = r.space.Close()
	}
	r.users.close()
	if r.index != 0 {
		n.leaves(r.lease)
	}
}

// release gives the network of an attempt back, if it has one. The kernel removes it with the last process in it.
func (n *network) release(name string) {
	n.mu.Lock()
	l, ok := n.leases[name]
	delete(n.leases, name)
	n.closeHandle(name)
	if ok && n.isUp && n.wall.broken == nil {
		if err := n.wall.leave(l.pod); err != nil {
			n.log.Warn("an address stays in its namespace until the network is made anew", "address", l.addr, "error", err)
			n.isUp = false
		}
	}
	n.mu.Unlock()
	if ok {
		n.leaves(l)
	}
}

// leaves has a link looked at a little later, in case the kernel does not remove it by itself. The link keeps the address from others
// until then.
func (n *network) leaves(l lease) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.leaving = append(n.leaving, l)
	if n.sweeping == nil {
		n.sweeping = time.AfterFunc(leaveTime, n.sweepLater)
	}
}

// sweepLater is sweep, unless the executor is being closed, which does it itself.
func (n *network) sweepLater() {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return
	}
	n.work.Add(1)
	n.mu.Unlock()
	defer n.work.Done()
	n.sweep()
}

// sweep removes the links of networks that should be gone.
func (n *network) sweep() {
	n.mu.Lock()
	list := n.leaving
	n.leaving, n.sweeping = nil, nil
	n.mu.Unlock()
	var links []netlink.Link
	for _, l := range list {
		if link := l.link(); link != nil {
			links = append(links, link)
		}
	}
	removeLinks(links)
}

// leavingGroup is the group of links (ip-link(8)) that are about to be removed. Whoever finds one in it may remove it.
const leavingGroup = 0x74697068

// removeLinks removes interfaces together: for each removal the kernel waits until no processor uses what goes. Some may have
// gone meanwhile.
func removeLinks(links []netlink.Link) {
	if len(links) == 0 {
		return
	}
	for _, link := range links {
		if err := netlink.LinkSetGroup(link, leavingGroup); err != nil {
			_ = netlink.LinkDel(link)
		}
	}
	req := nl.NewNetlinkRequest(unix.RTM_DELLINK, unix.NLM_F_ACK)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(leavingGroup)))
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err == nil {
		return
	}
	for _, link := range links {
		_ = netlink.LinkDel(link)
	}
}

// link is the interface of a lease; nil if it is gone. The index tells it from a later one of the same name.
func (l lease) link() netlink.Link {
	link, err := netlink.LinkByIndex(l.index)
	switch {
	case errors.As(err, new(netlink.LinkNotFoundError)):
		return nil
	case err != nil: // that it cannot be told does not say that it is gone
		return &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: l.index}}
	case link.Attrs().Name != interfaceName(l.addr):
		return nil
	}
	return link
}

// giveBack gives back all that no pod has.
func (n *network) giveBack() {
	n.ready.close(n)
	n.plain.close(n)
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.work.Wait()
	n.drain() // what was made in the meantime
	n.mu.Lock()
	for name := range n.handed {
		n.closeHandle(name)
	}
	n.mu.Unlock()
	n.sweep()
}

// inheritWait is how long the kernel may take, on a busy machine, to remove the networks of an executor that was killed a moment ago.
const inheritWait = 5 * time.Second

// inherit takes up what an earlier executor has left: its bridge, and links that are not known to be of this folder and may be about to go.
func (n *network) inherit() {
	if n.invalid != nil {
		return
	}
	bridge, err := netlink.LinkByName(n.o.Bridge)
	if err != nil || bridge.Attrs().HardwareAddr.String() != hardware(n.gatewayAddr()).String() {
		return // there is none, or it is somebody else's
	}
	links, err := allLinks()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.recalled = true
	if err != nil {
		return // what is not known of is not waited for
	}
	for _, l := range links {
		if n.leadsToPod(l.Attrs().Name) && l.Attrs().Group != n.group {
			n.inherited = append(n.inherited, l.Attrs().Index)
		}
	}
}

// awaitInherited waits until the kernel has removed what an earlier executor has left, for a while: another one's pods have links, too.
func (n *network) awaitInherited() {
	n.mu.Lock()
	list := n.inherited
	if len(n.leases) > 0 {
		list = nil // the bridge stays
	}
	n.mu.Unlock()
	for limit := time.Now().Add(inheritWait); len(list) > 0 && time.Now().Before(limit); {
		if _, err := netlink.LinkByIndex(list[0]); errors.As(err, new(netlink.LinkNotFoundError)) {
			list = list[1:]
			continue
		}
		n.fault("network-inherited")
		<-time.After(2 * time.Millisecond)
	}
}

// removeBridge removes the bridge if no pod reaches this machine by its address, at the end of all else. That it stays for another reason
// is said.
func (n *network) removeBridge() {
	n.awaitInherited()
	if why := n.tryRemoveBridge(); why != nil {
		n.log.Warn("the pods' bridge stays: the next server removes it, or ip link del", "bridge", n.o.Bridge, "reason", why)
	}
}

func (n *network) tryRemoveBridge() error {
	unlock, err := n.lockBridge(true)
	if err != nil {
		return err
	}
	defer unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.isUp && !n.recalled || len(n.leases) > 0 {
		return nil
	}
	n.isUp, n.recalled = false, false
	bridge, err := netlink.LinkByName(n.o.Bridge)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return err
	}
	links, err := allLinks()
	if err != nil {
		return err
	}
	var own []netlink.Link
	for _, l := range links {
		switch {
		case n.leadsToPod(l.Attrs().Name) && l.Attrs().Group == n.group:
			own = append(own, l) // of a pod that is gone; the kernel, which removes it with its network, may be late
		case l.Attrs().MasterIndex == bridge.Attrs().Index || n.leadsToPod(l.Attrs().Name):
			return fmt.Errorf("interface %s leads to a pod of another executor, or is about to go", l.Attrs().Name)
		}
	}
	removeLinks(own)
	// In this order: another executor that makes the bridge anew at this moment makes the table after it.
	_ = n.wall.remove()
	return netlink.LinkDel(bridge)
}

// listTries is how often interfaces are listed while others come and go.
const listTries = 100

// allLinks lists the interfaces of this machine. The kernel breaks a list off when one comes or goes meanwhile.
func allLinks() ([]netlink.Link, error) {
	links, err := netlink.LinkList()
	for tries := 1; errors.Is(err, netlink.ErrDumpInterrupted) && tries < listTries; tries++ {
		links, err = netlink.LinkList()
	}
	return links, err
}
