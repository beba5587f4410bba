package local_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/executortest"
	"github.com/tiphys/tiphys/executor/local"
	"github.com/tiphys/tiphys/secret"
)

// initBinary is built once for all tests.
var initBinary string

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == serverArg {
		os.Exit(serverMain(os.Args[2:]))
	}
	if len(os.Args) > 1 && os.Args[1] == callsArg {
		os.Exit(callsMain())
	}
	if len(os.Args) > 1 && os.Args[1] == poorArg {
		os.Exit(poorMain(os.Args[2:]))
	}
	dir, err := os.MkdirTemp("", "tiphys-init")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	initBinary = filepath.Join(dir, "tiphys-init")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", initBinary, "github.com/tiphys/tiphys/cmd/tiphys-init")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build tiphys-init: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func needRoot(t testing.TB) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: containers and host views are not tested without root")
	}
}

// open gives an executor of host views, or of containers if there are images.
func open(t testing.TB, dir string, change ...func(*local.Options)) *local.View {
	t.Helper()
	o := local.Options{Dir: dir, Init: initBinary, NoSync: true}
	for _, c := range change {
		c(&o)
	}
	e, err := local.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if o.Images != nil {
		return e.Container()
	}
	return e.Host()
}

func TestHostConformance(t *testing.T) {
	needRoot(t)
	executortest.Run(t, executortest.Setup{
		HostView: true, New: func(t *testing.T, dir string) executor.Named { return open(t, dir).Named() }, Leftovers: leftovers,
	})
}

// rootImages makes an image of this machine's own files: what matters here is not where the files come from.
type rootImages struct{}

func (rootImages) Rootfs(context.Context, string, corev1.PullPolicy, []secret.Value) (local.Image, error) {
	return local.Image{Layers: []string{"/"}, Env: []string{"PATH=/usr/bin:/bin", "FROM_IMAGE=yes"}, WorkingDir: "/work"}, nil
}

// testAddress is one of 256 addresses of this process: tests that run beside these on one machine have others.
func testAddress(n int) string {
	pid := os.Getpid()
	return fmt.Sprintf("100.%d.%d.%d", 64+pid>>8&63, pid&255, n) // of RFC 6598
}

func testNetwork() local.Network {
	return local.Network{Bridge: fmt.Sprint("tytest", os.Getpid()), Subnet: testAddress(0) + "/25"}
}

func withImages(o *local.Options) {
	o.Images = rootImages{}
	o.Network = testNetwork()
}

func TestContainerConformance(t *testing.T) {
	needRoot(t)
	executortest.Run(t, executortest.Setup{
		Image: "any", New: func(t *testing.T, dir string) executor.Named { return open(t, dir, withImages).Named() }, Leftovers: leftovers,
	})
	links, err := netlink.LinkList()
	for errors.Is(err, netlink.ErrDumpInterrupted) { // others make and remove interfaces meanwhile
		links, err = netlink.LinkList()
	}
	if err != nil {
		t.Fatal(err)
	}
	own := testNetwork()
	subnet := netip.MustParsePrefix(own.Subnet).Addr().As4()
	prefix := fmt.Sprintf("tv%02x%02x%02x", subnet[0], subnet[1], subnet[2])
	for _, l := range links {
		if name := l.Attrs().Name; name == own.Bridge || strings.HasPrefix(name, prefix) {
			t.Errorf("interface %s is left", name)
		}
	}
}

// leftovers describes processes, mounts and cgroups that belong to a state folder, and working files.
func leftovers(dir string) string {
	var left []string
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		for _, link := range []string{"cwd", "root"} {
			if at, err := os.Readlink(filepath.Join("/proc", e.Name(), link)); err == nil && strings.HasPrefix(at, dir) {
				left = append(left, "process "+e.Name()+" in "+at)
			}
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mounts")
	for _, line := range strings.Split(string(mounts), "\n") {
		if strings.Contains(line, dir) {
			left = append(left, "mount "+line)
		}
	}
	for _, part := range []string{"live", "trash"} {
		files, _ := os.ReadDir(filepath.Join(dir, part))
		for _, f := range files {
			left = append(left, part+"/"+f.Name())
		}
	}
	// Other servers of this machine have groups, too; a pod's has its attempt's name.
	attempts, _ := os.ReadDir(filepath.Join(dir, "done"))
	for _, a := range attempts {
		groups, _ := filepath.Glob("/sys/fs/cgroup/*/tiphys-" + a.Name())
		left = append(left, groups...)
	}
	return strings.Join(left, "\n")
}
