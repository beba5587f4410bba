package local_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/local"
)

// dialing is a pod that tries to reach addresses over TCP, and says of each whether it did.
func dialing(t *testing.T, node, namespace string, addresses ...string) executor.Pod {
	t.Helper()
	p := shell(t, `python3 -c '
import socket, sys
for address in sys.argv[1:]:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=3).close()
        print(address, "reached")
    except OSError:
        print(address, "refused")
' `+strings.Join(addresses, " "))
	p.ID.Node, p.Pod.Namespace = t.Name()+node, namespace
	return p
}

// listening is a pod that takes connections on port 8080 until it is stopped.
func listening(t *testing.T, node, namespace string) executor.Pod {
	t.Helper()
	p := shell(t, `exec python3 -m http.server 8080 --directory /etc`)
	p.ID.Node, p.Pod.Namespace = t.Name()+node, namespace
	return p
}

// TestWhatPodsReach: of the machine the ports that they are given, of other pods those of their namespace, no metadata of a cloud, and the
// rest of the world. It holds after a restart, too, for pods that go on. With an open network everything is reached, which shows that
// something listens everywhere.
func TestWhatPodsReach(t *testing.T) {
	needRoot(t)
	world := beyond(t) + ":8000"
	const metadata = "169.254.169.254:8000"
	for _, all := range []bool{true, false} {
		t.Run(fmt.Sprintf("open %v", all), func(t *testing.T) {
			network := testNetwork()
			dir := t.TempDir()
			given, taken := listener(t), listener(t)
			network.Open, network.Ports = all, []uint16{port(given)}
			e := openWith(t, dir, network)
			info, err := e.Network()
			if err != nil {
				t.Fatal(err)
			}
			near, far := listening(t, "near", "ours"), listening(t, "far", "theirs")
			nearIP, farIP := started(t, e, near), started(t, e, far)
			machine := func(l net.Listener) string { return fmt.Sprintf("%s:%d", info.Gateway, port(l)) }
			targets := []string{world, metadata, machine(given), machine(taken), nearIP + ":8080", farIP + ":8080"}
			want := []string{"reached", "refused", "reached", "refused", "reached", "refused"}
			check := func(when string) {
				t.Helper()
				var text []string
				for i, target := range targets {
					if all {
						want[i] = "reached"
					}
					text = append(text, target+" "+want[i])
				}
				r := run(t, e, dialing(t, when, "ours", targets...))
				if r.Result == nil {
					t.Fatalf("%s: %+v", when, r)
				}
				if diff := cmp.Diff(strings.Join(text, "\n"), *r.Result); diff != "" {
					t.Errorf("%s: %s", when, diff)
				}
			}
			check("at first")
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			e = openWith(t, dir, network)
			check("after a restart")
			for _, p := range []executor.Pod{near, far} {
				if err := e.Stop(t.Context(), p.ID, 0); err != nil {
					t.Fatal(err)
				}
				report(t, e, func(r executor.Report) bool { return r.ID == p.ID && r.Phase.Done() })
				if err := e.Acknowledge(t.Context(), p.ID); err != nil {
					t.Fatal(err)
				}
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func openWith(t *testing.T, dir string, network local.Network) *local.View {
	t.Helper()
	return open(t, dir, withImages, func(o *local.Options) { o.Network = network })
}

func listener(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func port(l net.Listener) uint16 { return l.Addr().(*net.TCPAddr).AddrPort().Port() }

// started starts a pod that listens, and gives its address once somebody can reach it.
func started(t *testing.T, e *local.View, p executor.Pod) string {
	t.Helper()
	if err := e.Start(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	ip := report(t, e, func(r executor.Report) bool { return r.ID == p.ID && r.Phase == executor.Running && r.IP != "" }).IP
	eventually(t, "it listens", func() bool { return reaches(ip + ":8080") })
	return ip
}

// reaches says whether this machine itself can connect to an address.
func reaches(address string) bool {
	c, err := net.Dial("tcp4", address)
	return err == nil && c.Close() == nil
}
