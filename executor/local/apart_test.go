package local_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/datafolder"
	"github.com/tiphys/tiphys/executor/local"
)

func apart(t *testing.T, o func(*local.Options)) *local.View {
	t.Helper()
	return open(t, t.TempDir(), func(l *local.Options) {
		l.Network, l.Apart = testNetwork(), true
		o(l)
	})
}

// TestHostViewsApart: a step of the host executor on a server has a network of its own. It reaches neither what listens on this machine's loopback nor the
// sockets without a file (abstract ones) of other programs, and reaches what pods reach.
func TestHostViewsApart(t *testing.T) {
	needRoot(t)
	world := beyond(t) + ":8000"
	loopback, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer loopback.Close()
	name := fmt.Sprintf("@tiphys-test-%d", os.Getpid())
	abstract, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	defer abstract.Close()
	program := `python3 -c '
import socket, sys
for address in sys.argv[1:]:
    try:
        if address.startswith("@"):
            socket.socket(socket.AF_UNIX).connect("\0" + address[1:])
        else:
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=3).close()
        print("reached")
    except OSError:
        print("refused")
' ` + strings.Join([]string{loopback.Addr().String(), name, world}, " ")
	e := apart(t, func(*local.Options) {})
	for _, c := range []struct {
		machine bool
		want    string
	}{{false, "refused\nrefused\nreached"}, {true, "reached\nreached\nreached"}} {
		p := shell(t, program)
		p.ID.Node, p.Pod.Spec.HostNetwork = fmt.Sprint(t.Name(), c.machine), c.machine
		r := run(t, e, p)
		if r.Result == nil {
			t.Fatalf("%+v", r)
		}
		if diff := cmp.Diff(c.want, *r.Result); diff != "" {
			t.Errorf("with the machine's network %v: %s", c.machine, diff)
		}
	}
}

// TestHostViewsHaveNames: the names of Services, this machine's own and its name servers are there.
func TestHostViewsHaveNames(t *testing.T) {
	needRoot(t)
	e := apart(t, func(*local.Options) {})
	if err := e.SetHosts(map[string][]string{"10.89.0.9": {"api.prod.svc.cluster.local"}}); err != nil {
		t.Fatal(err)
	}
	r := run(t, e, shell(t, `grep -c api.prod.svc /etc/hosts; grep -c localhost /etc/hosts; grep -q nameserver /etc/resolv.conf && echo asks`))
	if r.Result == nil || !strings.HasPrefix(*r.Result, "1\n") || !strings.HasSuffix(*r.Result, "asks") {
		t.Errorf("%+v", r)
	}
}

// TestHostViewsHideCredentials: what lets somebody in elsewhere is hidden from steps of a server, whoever's it is, files and folders alike, and so are the
// data folders of other servers. `tiphys run` shows them.
func TestHostViewsHideCredentials(t *testing.T) {
	needRoot(t)
	home, err := os.MkdirTemp("/home", "tiphys-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	other, err := os.MkdirTemp("/var", "tiphys-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(other) })
	if err := datafolder.Register(other); err != nil {
		t.Fatal(err)
	}
	files := []string{
		home + "/.ssh/id_ed25519", home + "/.netrc", home + "/.git-credentials", home + "/.aws/credentials", home + "/.kube/config", home + "/.docker/config.json",
		home + "/.config/tiphys/tokens", home + "/.config/gh/hosts.yml", home + "/.npmrc", other + "/ledger.db",
	}
	for _, f := range append(files, home+"/.profile") {
		if err := os.MkdirAll(filepath.Dir(f), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f, []byte("of-the-crown\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	script := "cat " + strings.Join(append(files, home+"/.profile"), " ") + " 2>/dev/null | grep -c of-the-crown"
	for name, want := range map[string]string{"server": "1", "run": fmt.Sprint(len(files) + 1)} {
		e := apart(t, func(o *local.Options) { o.Apart = name == "server" })
		r := run(t, e, shell(t, script))
		if r.Result == nil || *r.Result != want {
			t.Errorf("%s shows %+v, want %s files", name, r.Result, want)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
