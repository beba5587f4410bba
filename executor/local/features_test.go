package local_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	artifactlocal "github.com/tiphys/tiphys/artifact/local"
	"github.com/tiphys/tiphys/artifact/mover"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/local"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/secret"
)

func shell(t *testing.T, script string) executor.Pod {
	p := executor.Pod{ID: executor.ID{Owner: "features", Node: t.Name() + script}, Main: "main"}
	p.Pod.Name, p.Pod.Namespace = "pod", "default"
	p.Pod.Spec.Containers = []corev1.Container{{Name: "main", Image: "any", Command: []string{"sh", "-c", script}}}
	p.Outputs.Result = true
	return p
}

func run(t *testing.T, e *local.View, p executor.Pod) executor.Report {
	t.Helper()
	if err := e.Start(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	r := report(t, e, func(r executor.Report) bool { return r.ID == p.ID && r.Phase.Done() })
	if err := e.Acknowledge(context.Background(), p.ID); err != nil {
		t.Fatal(err)
	}
	return r
}

func result(t *testing.T, r executor.Report, want string) {
	t.Helper()
	if r.Phase != executor.Succeeded || r.Result == nil || *r.Result != want {
		got := "nothing"
		if r.Result != nil {
			got = *r.Result
		}
		t.Errorf("%s %s %q: result %q, want %q", r.Phase, r.Reason, r.Message, got, want)
	}
}

func key(name, path, object string) manifest.Artifact {
	return manifest.Artifact{Name: name, Path: path, ArtifactLocation: manifest.ArtifactLocation{S3: &manifest.S3Artifact{Key: object}}}
}

func TestArtifacts(t *testing.T) {
	needRoot(t)
	for _, host := range []bool{true, false} {
		t.Run(fmt.Sprintf("host %v", host), func(t *testing.T) {
			store, err := artifactlocal.Open(t.TempDir(), artifactlocal.Options{})
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			e := open(t, dir, withImages, func(o *local.Options) {
				o.Mover = mover.New(mover.Options{Store: store, TempDir: t.TempDir()})
			})
			if host {
				e = e.Host()
			}
			p := shell(t, `mkdir -p /out/deep; echo one > /out/a; echo two > /out/deep/b; ln -s a /out/link; echo single > /single; ln -s /out/../single /way`)
			p.Outputs.Artifacts = []manifest.Artifact{
				key("tree", "/out", "run/tree.tgz"), key("way", "/way", "run/way.tgz"),
				{Name: "maybe", Path: "/none", Optional: true, ArtifactLocation: key("", "", "run/none").ArtifactLocation},
			}
			r := run(t, e, p)
			if r.Phase != executor.Succeeded || len(r.Saved) != 2 || len(r.Missing) != 1 || r.Missing[0] != "maybe" {
				t.Fatalf("%+v", r)
			}
			mode := int32(0o640)
			p = shell(t, `cat /in/a /in/deep/b /volume/x/way /raw; stat -c %a /raw; echo new > /in/new`)
			p.Inputs = []manifest.Artifact{
				key("tree", "/in", "run/tree.tgz"), key("way", "/volume/x/way", "run/way.tgz"),
				{Name: "raw", Path: "/raw", Mode: &mode, ArtifactLocation: manifest.ArtifactLocation{Raw: &manifest.RawArtifact{Data: "raw\n"}}},
			}
			p.Pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
			p.Pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/volume"}}
			result(t, run(t, e, p), "one\ntwo\nsingle\nraw\n640")

			p = shell(t, "true")
			p.Outputs.Artifacts = []manifest.Artifact{key("gone", "/gone", "run/gone.tgz")}
			if r := run(t, e, p); r.Phase != executor.Error || r.Reason != executor.ReasonOutput || !strings.Contains(r.Message, "/gone: no such file") {
				t.Errorf("missing artifact: %+v", r)
			}
			p = shell(t, "echo never")
			p.Inputs = []manifest.Artifact{key("gone", "/in", "no/such/key")}
			if r := run(t, e, p); r.Phase != executor.Error || r.Reason != executor.ReasonInput {
				t.Errorf("missing input: %+v", r)
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			if left := leftovers(dir); left != "" {
				t.Errorf("left behind:\n%s", left)
			}
		})
	}
}

// Artifacts of a pod that ended while nobody was there, or just when the next executor came, are saved by that one: the shim
// holds its files.
func TestArtifactsSavedByTheNextExecutor(t *testing.T) {
	needRoot(t)
	store, err := artifactlocal.Open(t.TempDir(), artifactlocal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		dir, shared := t.TempDir(), t.TempDir()
		with := func(o *local.Options) { o.Mover = mover.New(mover.Options{Store: store, TempDir: t.TempDir()}) }
		p := oncePod(t, shared)
		p.Outputs.Artifacts = []manifest.Artifact{key("once", "/shared/once", "run/once.tgz")}
		e := open(t, dir, with)
		if err := e.Start(context.Background(), p); err != nil {
			t.Fatal(err)
		}
		report(t, e, func(r executor.Report) bool { return r.Phase == executor.Running })
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(shared, "go"))
		time.Sleep(time.Duration(3*i) * time.Millisecond)
		e = open(t, dir, with)
		if r := report(t, e, done); r.Phase != executor.Succeeded || len(r.Saved) != 1 {
			t.Errorf("%d ms later: %+v", 3*i, r)
		}
		settleAndCheck(t, e, dir, p.ID)
	}
}

// A pod is killed before the server when memory is out, and cannot take all processes of the machine: a fork bomb ends where its own pod ends.
func TestPodsAreBounded(t *testing.T) {
	needRoot(t)
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor); err != nil || major < 6 || major == 6 && minor < 14 {
		t.Skipf("SKIPPED: Linux %s counts processes for the whole machine", unix.ByteSliceToString(name.Release[:]))
	}
	before, err := os.ReadFile("/proc/sys/kernel/pid_max")
	if err != nil {
		t.Fatal(err)
	}
	e := open(t, t.TempDir(), withImages, func(o *local.Options) { o.Processes = 400 })
	defer func() { _ = e.Close() }()
	result(t, run(t, e, shell(t, "cat /proc/self/oom_score_adj /proc/sys/kernel/pid_max")), "1000\n400")
	bomb := shell(t, `python3 -c '
import os, signal, time
n = 0
try:
    for n in range(1000):
        if os.fork() == 0:
            signal.pause()
except OSError as e:
    print(e.strerror, 100 < n < 400)'`)
	result(t, run(t, e, bomb), "Resource temporarily unavailable True")
	after, err := os.ReadFile("/proc/sys/kernel/pid_max")
	if err != nil || string(after) != string(before) {
		t.Errorf("the machine's own bound was %s and is %s (%v)", before, after, err)
	}
}

func TestPodsReachEachOther(t *testing.T) {
	needRoot(t)
	e := open(t, t.TempDir(), withImages)
	defer func() { _ = e.Close() }()
	server := shell(t, "exec python3 -m http.server 8000 --directory /etc")
	server.Pod.Name, server.Pod.Namespace = "web", "port"
	if err := e.Start(context.Background(), server); err != nil {
		t.Fatal(err)
	}
	r := report(t, e, func(r executor.Report) bool { return r.Phase == executor.Running })
	if r.IP == "" {
		t.Fatal("no address is reported")
	}
	fetch := `python3 -c '
import socket, sys, time, urllib.request
for _ in range(200):
    try:
        print(urllib.request.urlopen("http://web:8000/hostname", timeout=5).read().decode().strip()); break
    except OSError as e: last = e; time.sleep(0.05)
else: sys.exit(str(last))'`
	client := shell(t, fetch)
	client.Pod.Name, client.Pod.Namespace = "client", "port"
	if err := e.Start(context.Background(), client); err != nil {
		t.Fatal(err)
	}
	report(t, e, func(r executor.Report) bool { return r.ID == client.ID && r.Phase == executor.Running })
	// The name is given while the client runs, which finds it by its bare name because the namespace is its own.
	if err := e.SetHosts(map[string][]string{r.IP: {"web.port.svc.cluster.local"}, "192.0.2.7": {"web.elsewhere.svc.cluster.local"}}); err != nil {
		t.Fatal(err)
	}
	result(t, report(t, e, func(r executor.Report) bool { return r.ID == client.ID && r.Phase.Done() }), "web")
	if err := e.Stop(context.Background(), server.ID, 0); err != nil {
		t.Fatal(err)
	}
	report(t, e, func(r executor.Report) bool { return r.ID == server.ID && r.Phase.Done() })
	for _, id := range []executor.ID{server.ID, client.ID} {
		if err := e.Acknowledge(context.Background(), id); err != nil {
			t.Fatal(err)
		}
	}
}

// beyond is a web server in a network that knows nothing of the pods': an answer reaches a pod only if the pod
// came under this machine's address. It returns the server's address.
func beyond(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("python3", "-m", "http.server", "8000", "--directory", "/etc")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Skipf("SKIPPED: a server in a network of its own cannot be started here: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = fmt.Sprint("tyout", os.Getpid())
	check(netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "tiphysout1", PeerNamespace: netlink.NsPid(cmd.Process.Pid)}))
	here, err := netlink.LinkByName(attrs.Name)
	check(err)
	t.Cleanup(func() { _ = netlink.LinkDel(here) })
	address, err := netlink.ParseAddr(testAddress(129) + "/25")
	check(err)
	check(netlink.AddrAdd(here, address))
	check(netlink.LinkSetUp(here))
	ns, err := netns.GetFromPid(cmd.Process.Pid)
	check(err)
	defer func() { _ = ns.Close() }()
	h, err := netlink.NewHandleAt(ns)
	check(err)
	defer h.Close()
	there, err := h.LinkByName("tiphysout1")
	check(err)
	address, err = netlink.ParseAddr(testAddress(130) + "/25")
	check(err)
	check(h.AddrAdd(there, address))
	check(h.LinkSetUp(there))
	// What a cloud has at this address is not there for pods.
	metadata, err := netlink.ParseAddr("169.254.169.254/32")
	check(err)
	check(h.AddrAdd(there, metadata))
	check(netlink.RouteReplace(&netlink.Route{LinkIndex: here.Attrs().Index, Dst: metadata.IPNet, Scope: netlink.SCOPE_LINK}))
	eventually(t, "the server beyond answers", func() bool {
		c, err := net.DialTimeout("tcp4", testAddress(130)+":8000", time.Second)
		return err == nil && c.Close() == nil
	})
	return testAddress(130)
}

func TestPodsReachBeyond(t *testing.T) {
	needRoot(t)
	address := beyond(t)
	e := open(t, t.TempDir(), withImages, func(o *local.Options) { o.Log = slog.New(slog.NewTextHandler(t.Output(), nil)) })
	defer func() { _ = e.Close() }()
	p := shell(t, `python3 -c '
import sys, time, urllib.request
for _ in range(1000):
    try:
        print(len(urllib.request.urlopen("http://`+address+`:8000/hostname", timeout=2).read()) > 0); break
    except OSError as e: last = e; time.sleep(0.05)
else: sys.exit(str(last))'`)
	result(t, run(t, e, p), "True")
}

// Kubernetes' rules of command and args, and the image's own configuration.
func TestImageConfiguration(t *testing.T) {
	needRoot(t)
	image := local.Image{
		Layers: []string{"/"}, Entrypoint: []string{"/bin/echo", "entry"}, Cmd: []string{"cmd"},
		Env: []string{"PATH=/bin:/usr/bin", "FROM_IMAGE=yes"}, User: "nobody", WorkingDir: "/made/for/it",
	}
	e := open(t, t.TempDir(), withImages, func(o *local.Options) { o.Images = fixedImage(image) })
	defer func() { _ = e.Close() }()
	for name, c := range map[string]struct {
		command, args []string
		want          string
	}{
		"neither": {nil, nil, "entry cmd"}, "args": {nil, []string{"args"}, "entry args"},
		"command": {[]string{"/bin/echo", "command"}, nil, "command"},
		"both":    {[]string{"/bin/echo", "command"}, []string{"args"}, "command args"},
	} {
		p := shell(t, name)
		p.Pod.Spec.Containers[0].Command, p.Pod.Spec.Containers[0].Args = c.command, c.args
		result(t, run(t, e, p), c.want)
	}
	result(t, run(t, e, shell(t, `id -un; pwd; echo $FROM_IMAGE; touch here && echo writable`)), "nobody\n/made/for/it\nyes\nwritable")
	p := shell(t, `id -u; id -g; id -G`)
	user, group := int64(1234), int64(2345)
	p.Pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: &user, RunAsGroup: &group, SupplementalGroups: []int64{7}}
	result(t, run(t, e, p), "1234\n2345\n2345 7")
}

type fixedImage local.Image

func (i fixedImage) Rootfs(context.Context, string, corev1.PullPolicy, []secret.Value) (local.Image, error) {
	return local.Image(i), nil
}

// What a pod must not reach of this machine.
func TestConfinement(t *testing.T) {
	needRoot(t)
	secretFile := "/proc/sys/kernel/core_pattern"
	for _, host := range []bool{true, false} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "server-secret"), []byte("hidden"), 0o600); err != nil {
			t.Fatal(err)
		}
		e := open(t, dir, withImages)
		if host {
			e = e.Host()
		}
		for name, script := range map[string]string{
			"proc is read-only": "! echo x 2>/dev/null > " + secretFile, "no mount": "! mount -t tmpfs none /mnt 2>/dev/null",
			"no device": "! mknod /d b 254 0 2>/dev/null || ! cat /d 2>/dev/null", "own processes": `test "$(ls -d /proc/[0-9]* | wc -l)" -lt 10`,
			"client": "command -v tiphys >/dev/null", "no kernel memory": "! head -c1 /proc/kcore 2>/dev/null | grep -q .",
		} {
			if r := run(t, e, shell(t, script)); r.Phase != executor.Succeeded {
				t.Errorf("host %v: %s: %+v", host, name, r)
			}
		}
		if host {
			p := shell(t, "cat "+filepath.Join(dir, "server-secret"))
			if r := run(t, e, p); r.Phase != executor.Failed {
				t.Errorf("the data folder is seen: %+v", r)
			}
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMemoryLimit(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	e := open(t, dir)
	p := shell(t, "head -c 200000000 /dev/zero | tail")
	p.Pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{
		corev1.ResourceMemory: resource.MustParse("40Mi"), corev1.ResourceCPU: resource.MustParse("1500m"),
	}
	problems, err := e.Check(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		if strings.Contains(problem.Path, "memory") {
			_ = e.Close()
			t.Skip("SKIPPED: limits on memory are not tested: ", problem.Message)
		}
	}
	r := run(t, e, p)
	if r.Phase != executor.Failed || r.ExitCode == nil || *r.ExitCode == 0 {
		t.Errorf("%+v", r)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if left := leftovers(dir); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
}

// A step that writes without end costs neither memory nor its own success.
func TestLogLimit(t *testing.T) {
	needRoot(t)
	e := open(t, t.TempDir(), func(o *local.Options) { o.LogLimit = 1 << 20 })
	defer func() { _ = e.Close() }()
	p := shell(t, "head -c 100000000 /dev/zero | tr '\\0' 'x' | fold -w 999; echo end")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r := run(t, e, p)
	runtime.ReadMemStats(&after)
	if r.Phase != executor.Succeeded || r.Result == nil || !strings.HasSuffix(*r.Result, "xend") || len(*r.Result) > 256<<10 {
		t.Errorf("%s %s", r.Phase, r.Message)
	}
	if grown := int64(after.TotalAlloc - before.TotalAlloc); grown > 16<<20 {
		t.Errorf("this process allocated %d bytes", grown)
	}
	if c := r.Containers[0].State.Terminated; c == nil || !strings.Contains(c.Message, "bytes of log were dropped") {
		t.Errorf("%+v", c)
	}
	log, err := e.Logs(context.Background(), p.ID, "main", executor.LogOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	data, err := io.ReadAll(log)
	if err != nil || len(data) > 1<<20+1000 || !bytes.Contains(data, []byte("log cut here")) {
		t.Errorf("%d bytes of log, %v", len(data), err)
	}
}

func TestSecondExecutorIsRefused(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	e := open(t, dir)
	defer func() { _ = e.Close() }()
	if _, err := local.New(local.Options{Dir: dir, Init: initBinary}); err == nil || !strings.Contains(err.Error(), "another tiphys") {
		t.Errorf("got %v", err)
	}
}
