package local_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/local"
	"github.com/tiphys/tiphys/executor/protocol"
)

// podLinks are this machine's sides of the networks of pods in a subnet of 256 addresses.
func podLinks(t *testing.T, subnet string) []string {
	t.Helper()
	links, err := netlink.LinkList()
	for errors.Is(err, netlink.ErrDumpInterrupted) {
		links, err = netlink.LinkList()
	}
	if err != nil {
		t.Fatal(err)
	}
	a := netip.MustParsePrefix(subnet).Addr().As4()
	var names []string
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, fmt.Sprintf("tv%02x%02x%02x", a[0], a[1], a[2])) {
			names = append(names, l.Attrs().Name)
		}
	}
	return names
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); !holds(); {
		if time.Now().After(limit) {
			t.Fatalf("%s: not within %s", what, patience)
		}
		<-time.After(2 * time.Millisecond)
	}
}

// A server that is killed leaves nothing of the networks that it had ready, and at each moment of a start the pod's own is there for
// whoever starts it next, or gone.
func TestNothingIsLeftOfNetworksOfAKilledServer(t *testing.T) {
	needRoot(t)
	for n, point := range []string{"", "network-lease", "shim-start", "shim-order", "shim-launch"} {
		t.Run(point, func(t *testing.T) {
			dir := t.TempDir()
			shared := claimFolder(t, dir)
			network := local.Network{Bridge: fmt.Sprintf("tyk%d-%d", n, os.Getpid()%100000), Subnet: fmt.Sprintf("100.127.%d.0/25", 10+n)}
			p := oncePod(t, shared)
			p.Pod.Spec.Volumes[0].VolumeSource = claimed("shared")
			p.Pod.Spec.Containers[0].Image = "any"
			p.Pod.Spec.Containers[0].VolumeMounts[0].MountPath = "/shared"
			until := ""
			if point == "" {
				until = "Running"
			}
			cmd := server(t, dir, point, p, until, network.Bridge, network.Subnet)
			if point == "" {
				eventually(t, "networks are ready", func() bool { return len(podLinks(t, network.Subnet)) > 1 })
				if err := syscall.Kill(cmd.Process.Pid, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				_ = cmd.Wait()
			}
			eventually(t, "the kernel removes what is ready", func() bool { return len(podLinks(t, network.Subnet)) <= 1 })
			write(t, filepath.Join(shared, "go"))
			e := open(t, dir, withImages, func(o *local.Options) { o.Network = network })
			// The shim of before may give the attempt back after it was asked for: it is started once more then, as controllers do.
			r := executor.Report{Reason: executor.ReasonNotLaunched}
			for r.Reason == executor.ReasonNotLaunched {
				if err := e.Start(t.Context(), p); err != nil {
					t.Fatal(err)
				}
				r = report(t, e, func(r executor.Report) bool { return done(r) || r.Reason == executor.ReasonNotLaunched })
			}
			if r.Phase != executor.Succeeded {
				t.Errorf("%+v", r)
			}
			settleAndCheck(t, e, dir, p.ID)
			if left := podLinks(t, network.Subnet); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
			if _, err := netlink.LinkByName(network.Bridge); err == nil {
				t.Errorf("bridge %s is left", network.Bridge)
			}
		})
	}
}

// The kernel removes the networks of a killed executor a little later. One that is closed before that, and had no pod itself, still
// removes the bridge, which nobody else would.
func TestTheBridgeOfAKilledServerIsRemoved(t *testing.T) {
	needRoot(t)
	network := local.Network{Bridge: fmt.Sprintf("tyi-%d", os.Getpid()%100000), Subnet: "100.127.50.0/25"}
	link := leftNetwork(t, network)
	waited := false
	e := open(t, t.TempDir(), withImages, func(o *local.Options) {
		o.Network, o.Fault = network, func(point string) {
			if point == "network-inherited" && !waited {
				waited = true
				if err := netlink.LinkDel(link); err != nil {
					t.Error(err)
				}
			}
		}
	})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := netlink.LinkByName(network.Bridge); err == nil {
		t.Errorf("bridge %s is left", network.Bridge)
	}
}

// What the kernel has not removed yet at the end is removed by hand, if it was a link of this folder's: a busy kernel may take longer than
// anybody waits.
func TestTheBridgeGoesThoughTheKernelIsLate(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	shared := claimFolder(t, dir)
	network := local.Network{Bridge: fmt.Sprintf("tyl-%d", os.Getpid()%100000), Subnet: "100.127.51.0/25"}
	p := oncePod(t, shared)
	p.Pod.Spec.Volumes[0].VolumeSource = claimed("shared")
	p.Pod.Spec.Containers[0].Image = "any"
	p.Pod.Spec.Containers[0].VolumeMounts[0].MountPath = "/shared"
	cmd := server(t, dir, "", p, "Running", network.Bridge, network.Subnet)
	eventually(t, "networks are ready", func() bool { return len(podLinks(t, network.Subnet)) > 1 })
	holdNetworks(t, cmd.Process.Pid)
	if err := syscall.Kill(cmd.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	write(t, filepath.Join(shared, "go"))
	e := open(t, dir, withImages, func(o *local.Options) { o.Network = network })
	if r := report(t, e, done); r.Phase != executor.Succeeded {
		t.Errorf("%+v", r)
	}
	settleAndCheck(t, e, dir, p.ID)
	if _, err := netlink.LinkByName(network.Bridge); err == nil {
		t.Errorf("bridge %s is left with %v", network.Bridge, podLinks(t, network.Subnet))
	}
}

// holdNetworks keeps the networks that a process has open, so that the kernel does not remove them with it.
func holdNetworks(t *testing.T, pid int) {
	t.Helper()
	held := 0
	names, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if to, err := os.Readlink(name); err != nil || !strings.HasPrefix(to, "net:[") {
			continue
		}
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		held++
	}
	if held == 0 {
		t.Fatalf("process %d has no network open", pid)
	}
}

// leftNetwork is a bridge, and a link to a pod in its subnet, 100.127.50.0/25, as another executor has them.
func leftNetwork(t *testing.T, network local.Network) netlink.Link {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = network.Bridge, net.HardwareAddr{0x0a, 0x58, 100, 127, 50, 1}
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(bridge); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = netlink.LinkDel(bridge) })
	attrs = netlink.NewLinkAttrs()
	attrs.Name = "tv647f3205"
	link := &netlink.Veth{LinkAttrs: attrs, PeerName: "tyi-peer"}
	if err := netlink.LinkAdd(link); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = netlink.LinkDel(link) })
	return link
}

// An executor that is bound to its process has no predecessor whose networks it would wait for: those there are another's.
func TestABoundExecutorWaitsForNobodysNetworks(t *testing.T) {
	needRoot(t)
	network := local.Network{Bridge: fmt.Sprintf("tyw-%d", os.Getpid()%100000), Subnet: "100.127.50.0/25"}
	leftNetwork(t, network)
	e := open(t, t.TempDir(), withImages, func(o *local.Options) {
		o.Network, o.Bound = network, true
		o.Fault = func(point string) {
			if point == "network-inherited" {
				t.Error("it waits for the network of another's pod")
			}
		}
	})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := netlink.LinkByName(network.Bridge); err != nil {
		t.Errorf("another's bridge is gone: %v", err)
	}
}

// A pod may end a moment before its executor is closed, who has not heard of it then. The next executor tells its end, and need not have a
// network for that: so the bridge goes with this one.
func TestTheBridgeGoesWithAPodThatNobodyHeardOf(t *testing.T) {
	needRoot(t)
	network := local.Network{Bridge: fmt.Sprintf("tyu-%d", os.Getpid()%100000), Subnet: "100.127.70.0/25"}
	dir := t.TempDir()
	shared := claimFolder(t, dir)
	e := open(t, dir, withImages, func(o *local.Options) { o.Network = network })
	p := oncePod(t, shared)
	p.Pod.Spec.Volumes[0].VolumeSource = claimed("shared")
	p.Pod.Spec.Containers[0].Image = "any"
	p.Pod.Spec.Containers[0].VolumeMounts[0].MountPath = "/shared"
	if err := e.Start(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	report(t, e, func(r executor.Report) bool { return r.Phase == executor.Running })
	if err := os.Remove(filepath.Join(dir, protocol.NoticeFile)); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(shared, "go"))
	eventually(t, "the pod has left its record", func() bool {
		found, err := filepath.Glob(filepath.Join(dir, "live", "*", protocol.RecordFile))
		return err == nil && len(found) == 1
	})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := netlink.LinkByName(network.Bridge); err == nil {
		t.Errorf("bridge %s is left", network.Bridge)
	}
	e = open(t, dir, withImages, func(o *local.Options) { o.Network = network })
	if r := report(t, e, done); r.Phase != executor.Succeeded {
		t.Errorf("%+v", r)
	}
	settleAndCheck(t, e, dir, p.ID)
}

// Executors of one machine that share a bridge and come and go, each the last one now and then, do not take it from each other.
func TestExecutorsShareABridge(t *testing.T) {
	needRoot(t)
	network := local.Network{Bridge: fmt.Sprintf("tys-%d", os.Getpid()%100000), Subnet: "100.127.60.0/25"}
	var all sync.WaitGroup
	for owner := range 3 {
		all.Go(func() {
			for i := range 15 {
				e := open(t, t.TempDir(), withImages, func(o *local.Options) { o.Network = network })
				p := executor.Pod{ID: executor.ID{Owner: fmt.Sprint("share", owner), Node: "n", Attempt: i}, Main: "main"}
				p.Pod.Spec.Containers = []corev1.Container{{Name: "main", Image: "any", Command: []string{"true"}}}
				if err := e.Start(t.Context(), p); err != nil {
					t.Errorf("executor %d.%d: %v", owner, i, err)
					return
				}
				if r := report(t, e, done); r.Phase != executor.Succeeded {
					t.Errorf("executor %d.%d: %+v", owner, i, r)
					return
				}
				if err := errors.Join(e.Acknowledge(t.Context(), p.ID), e.Close()); err != nil {
					t.Errorf("executor %d.%d: %v", owner, i, err)
					return
				}
			}
		})
	}
	all.Wait()
	if _, err := netlink.LinkByName(network.Bridge); err == nil {
		t.Errorf("bridge %s is left", network.Bridge)
	}
}

// However many pods come and go, no more networks are ready than the pool takes, and in a small subnet none: they would take
// addresses from pods.
func TestReadyNetworksAreBounded(t *testing.T) {
	needRoot(t)
	for n, c := range []struct {
		bits, most int
	}{{25, 4}, {29, 0}} {
		network := local.Network{Bridge: fmt.Sprintf("tyb%d-%d", n, os.Getpid()%100000), Subnet: fmt.Sprintf("100.127.%d.0/%d", 30+n, c.bits)}
		e := open(t, t.TempDir(), withImages, func(o *local.Options) { o.Network = network })
		for i := range 12 {
			p := executor.Pod{ID: executor.ID{Owner: "ready", Node: "n", Attempt: i}, Main: "main"}
			p.Pod.Spec.Containers = []corev1.Container{{Name: "main", Image: "any", Command: []string{"true"}}}
			if err := e.Start(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			if r := report(t, e, done); r.Phase != executor.Succeeded {
				t.Fatalf("%+v", r)
			}
			if err := e.Acknowledge(t.Context(), p.ID); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "pods' networks are gone", func() bool { return len(podLinks(t, network.Subnet)) <= c.most })
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		if left := podLinks(t, network.Subnet); len(left) > 0 {
			t.Errorf("/%d: left: %v", c.bits, left)
		}
		if _, err := netlink.LinkByName(network.Bridge); err == nil {
			t.Errorf("bridge %s is left", network.Bridge)
		}
	}
}

// Whoever removes the bridge takes the routes to networks that are ready with it: pods get others then.
func TestNetworksAreMadeAnewWithTheBridge(t *testing.T) {
	needRoot(t)
	network := local.Network{Bridge: fmt.Sprintf("tyr-%d", os.Getpid()%100000), Subnet: "100.127.40.0/25"}
	e := open(t, t.TempDir(), withImages, func(o *local.Options) { o.Network = network })
	defer func() { _ = e.Close() }()
	defer func() {
		for i := range 2 {
			if err := e.Stop(context.Background(), executor.ID{Owner: "bridge", Node: "n", Attempt: i}, 0); err != nil {
				t.Error(err)
			}
			report(t, e, func(r executor.Report) bool { return r.ID.Attempt == i && r.Phase.Done() })
		}
	}()
	for i := range 2 {
		p := executor.Pod{ID: executor.ID{Owner: "bridge", Node: "n", Attempt: i}, Main: "main"}
		p.Pod.Spec.Containers = []corev1.Container{{Name: "main", Image: "any", Command: []string{"sleep", "1000"}}}
		if err := e.Start(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		r := report(t, e, func(r executor.Report) bool { return r.ID == p.ID && r.Phase == executor.Running })
		routes, err := netlink.RouteGet(net.ParseIP(r.IP))
		if err != nil || len(routes) != 1 {
			t.Fatalf("route to %s: %v %v", r.IP, routes, err)
		}
		link, err := netlink.LinkByIndex(routes[0].LinkIndex)
		if err != nil || !strings.HasPrefix(link.Attrs().Name, "tv") {
			t.Errorf("pod %d, %s, is reached by %v, %v", i, r.IP, link, err)
		}
		eventually(t, "another is ready", func() bool { return len(podLinks(t, network.Subnet)) >= 2*(i+1) })
		if i == 0 {
			bridge, err := netlink.LinkByName(network.Bridge)
			if err == nil {
				err = netlink.LinkDel(bridge)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// claimFolder makes the folder of the claim "shared" of an executor on dir.
func claimFolder(t *testing.T, dir string) string {
	t.Helper()
	shared := filepath.Join(dir, "volumes/claims/default/shared")
	if err := os.MkdirAll(shared, 0o777); err != nil {
		t.Fatal(err)
	}
	return shared
}
