package wire

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/executor/local"
)

// inOwnNetwork plays the test again in a process with a network namespace of its own, where the defaults are free
// whatever runs on this machine. It reports whether this is that process.
func inOwnNetwork(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: not tested: network namespaces and bridges need root")
	}
	if os.Getenv("TIPHYS_TEST_NETWORK") == t.Name() {
		lo, err := netlink.LinkByName("lo")
		if err == nil {
			err = netlink.LinkSetUp(lo)
		}
		if err != nil {
			t.Fatal(err)
		}
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=60s") //nolint:gosec // this very program
	cmd.Env = append(os.Environ(), "TIPHYS_TEST_NETWORK="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// serverOf opens a server with the defaults of the command line.
func serverOf(t *testing.T, data string, n local.Network) (*Server, error) {
	t.Helper()
	return Open(t.Context(), Options{Data: data, Listen: "127.0.0.1:0", Network: n, Log: slog.New(slog.DiscardHandler)})
}

// serviceOf has a Service made and gives its address.
func serviceOf(t *testing.T, s *Server) string {
	t.Helper()
	object := &unstructured.Unstructured{}
	text := "{apiVersion: v1, kind: Service, metadata: {name: shop, namespace: prod}, spec: {selector: {app: shop}, ports: [{port: 80}]}}"
	if err := yaml.Unmarshal([]byte(text), &object.Object); err != nil {
		t.Fatal(err)
	}
	if _, err := s.target.Apply(t.Context(), object, deploy.ApplyOptions{Application: "prod/shop"}); err != nil {
		t.Fatal(err)
	}
	var address string
	deadline := time.After(10 * time.Second)
	for {
		live, err := s.target.Get(t.Context(), deploy.KeyOf(object))
		if err != nil {
			t.Fatal(err)
		}
		if address = live.GetAnnotations()["target.tiphys.dev/address"]; address != "" {
			return address
		}
		select {
		case <-s.target.Changes():
		case <-deadline:
			t.Fatal("the Service gets no address")
		}
	}
}

// answers reports whether something listens at a Service's address.
func answers(t *testing.T, address string) bool {
	t.Helper()
	d := net.Dialer{Timeout: 5 * time.Second}
	c, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort(address, "80"))
	if err == nil {
		_ = c.Close()
	}
	return err == nil
}

// Two servers with the defaults each get a bridge, pods' addresses and Services' addresses of their own, and keep them.
func TestTwoServersOnOneMachine(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	dir := [2]string{t.TempDir(), t.TempDir()}
	var servers [2]*Server
	var networks [2]local.Network
	var services [2]string
	for i := range servers {
		s, err := serverOf(t, dir[i], local.Network{})
		if err != nil {
			t.Fatal(err)
		}
		servers[i], networks[i], services[i] = s, s.o.Network, serviceOf(t, s)
	}
	if networks[0].Bridge == networks[1].Bridge || networks[0].Subnet == networks[1].Subnet || services[0] == services[1] {
		t.Errorf("the servers share something: %+v, %v", networks, services)
	}
	if networks[0].Bridge != "tiphys0" || networks[0].Subnet != "10.88.0.0/16" {
		t.Errorf("the first has the defaults of the documents: %+v", networks[0])
	}
	for _, address := range services {
		if !answers(t, address) {
			t.Errorf("nothing answers at %s", address)
		}
	}
	// A third that insists on what another has is refused and told what to do.
	for _, c := range []struct {
		n    local.Network
		want string
	}{
		{local.Network{Bridge: networks[1].Bridge}, "--bridge"},
		{local.Network{Subnet: "10.88.4.0/24"}, "--subnet"},
		{local.Network{Subnet: "10.87.0.0/16"}, "--subnet"}, // whose Services would be among the first server's pods
	} {
		s, err := serverOf(t, t.TempDir(), c.n)
		if err == nil {
			err = errors.Join(errors.New("it is taken"), s.Close())
		}
		if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v is refused with %s: %v", c.n, c.want, err)
		}
		t.Log(err)
	}
	// Each finds its own again, in whichever order they come back, and takes nothing of the other's with it.
	if err := servers[0].Close(); err != nil {
		t.Fatal(err)
	}
	if !answers(t, services[1]) {
		t.Errorf("the end of one takes the other's Service along")
	}
	if err := servers[1].Close(); err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{1, 0} {
		s, err := serverOf(t, dir[i], local.Network{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		if !cmp.Equal(s.o.Network, networks[i]) || serviceOf(t, s) != services[i] {
			t.Errorf("server %d had %+v and now has %+v", i, networks[i], s.o.Network)
		}
	}
}

// A bridge that another server's pods are still connected to is left alone while that server is away.
func TestServerLeavesTheBridgeOfOneThatIsAway(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	away, gone := t.TempDir(), "/nowhere/at/all"
	for i, alias := range []string{away, gone} {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = fmt.Sprintf("tiphys%d", i)
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			t.Fatal(err)
		}
		link, err := netlink.LinkByName(attrs.Name)
		if err == nil {
			err = netlink.LinkSetAlias(link, alias)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := serverOf(t, t.TempDir(), local.Network{})
	if err != nil {
		t.Fatal(err)
	}
	if s.o.Network.Bridge != "tiphys1" { // of a folder that is no more
		t.Errorf("it takes %+v", s.o.Network)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	// By name it can be taken over.
	if s, err = serverOf(t, t.TempDir(), local.Network{Bridge: "tiphys0"}); err != nil || s.o.Network.Bridge != "tiphys0" {
		t.Errorf("it is taken over: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
