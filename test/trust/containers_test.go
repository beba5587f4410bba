package trust

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/initbin"
	"github.com/tiphys/tiphys/executor/local"
	"github.com/tiphys/tiphys/secret"
)

// machineImage is an image of this machine's own files.
type machineImage struct{}

func (machineImage) Rootfs(context.Context, string, corev1.PullPolicy, []secret.Value) (local.Image, error) {
	return local.Image{Layers: []string{"/"}, Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}}, nil
}

// containers is an executor of containers whose pods have users of their own.
func containers(t *testing.T) (e *local.View, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: containers are not attacked without root")
	}
	init, err := initbin.Path(t.TempDir())
	if errors.Is(err, initbin.ErrMissing) {
		t.Skip("SKIPPED: containers are not attacked: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(t.TempDir(), "executor")
	machine, err := local.New(local.Options{
		Dir: dir, Init: init, NoSync: true, Images: machineImage{},
		Network: local.Network{Bridge: fmt.Sprintf("tytr%d", os.Getpid()%100000), Subnet: "100.127.90.0/25"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := machine.Close(); err != nil {
			t.Error(err)
		}
	})
	c, err := machine.Container().Capabilities(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !c.Can[executor.AbilityUserNamespaces] {
		t.Skip("SKIPPED: containers are not attacked: ", c.Why[executor.AbilityUserNamespaces])
	}
	return machine.Container(), dir
}

// attack has a script run as root of a container, with what change says, and gives what it printed.
func attack(t *testing.T, e *local.View, script string, change func(*corev1.PodSpec)) string {
	t.Helper()
	p := executor.Pod{ID: executor.ID{Owner: "mallory", Node: t.Name() + script}, Main: "main"}
	p.Pod.Name, p.Pod.Namespace = "pod", "default"
	p.Pod.Spec.Containers = []corev1.Container{{Name: "main", Image: "any", Command: []string{"sh", "-c", script}}}
	p.Outputs.Result = true
	if change != nil {
		change(&p.Pod.Spec)
	}
	if err := e.Start(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	limit := time.After(time.Minute)
	for {
		select {
		case r := <-e.Reports():
			if r.ID != p.ID || !r.Phase.Done() {
				continue
			}
			if err := e.Acknowledge(t.Context(), p.ID); err != nil {
				t.Fatal(err)
			}
			if r.Result == nil {
				t.Fatalf("%+v", r)
			}
			return *r.Result
		case <-limit:
			t.Fatal("the pod does not end")
		}
	}
}

// Root in a container tried to be root on the machine. Each line prints "breached" where it got through.
func TestRootInAContainerBreaksOut(t *testing.T) {
	e, _ := containers(t)
	try := func(command string) string { return "(" + command + ") >/dev/null 2>&1 && echo breached; true" }
	python := func(program string) string { return "python3 -c '" + program + "'" }
	for name, script := range map[string]string{
		"mount a file system":              try("mount -t tmpfs none /mnt"),
		"mount the machine's disk":         try(`d=$(awk '$2 == "/" {print $1}' /proc/mounts | tail -1); mknod /disk b 254 0; mount /disk /mnt || head -c1 /disk | grep -q .`),
		"remount what is read-only":        try("mount -o remount,rw,bind /proc/sys"),
		"namespaces of one's own":          try("unshare --mount true") + "; " + try("unshare --user --map-root-user true"),
		"settings of the machine":          try("echo '|/x' > /proc/sys/kernel/core_pattern") + "; " + try("echo 1 > /proc/sys/kernel/panic") + "; " + try("echo b > /proc/sysrq-trigger") + "; " + try("echo x > /sys/kernel/uevent_helper"),
		"the machine's processors":         try("echo 0 > /sys/devices/system/cpu/cpu1/online"),
		"the kernel's log":                 try("dmesg | grep -q ."),
		"the kernel's memory":              try("head -c1 /dev/mem | grep -q .") + "; " + try("head -c1 /proc/kcore | grep -q ."),
		"modules":                          try("modprobe dummy"),
		"the machine's name and clock":     try("hostname taken") + "; " + try("date -s 2001-01-01"),
		"the first process' files":         try("ls /proc/1/root/") + "; " + try("ls /proc/1/fd/") + "; " + try("cat /proc/1/environ") + "; " + try("echo x >> /proc/1/exe"),
		"CVE-2019-5736":                    `printf '#!/proc/self/exe\n' > /s; chmod 755 /s; /s >/dev/null 2>&1; ` + try("printf x >> /.tiphys/bin/tiphys"),
		"CVE-2016-9962":                    python(`import ctypes; l = ctypes.CDLL(None, use_errno=True); print("breached" if l.ptrace(16, 1, 0, 0) == 0 else "", end="")`),
		"CVE-2014-9357, keys":              python(`import ctypes; l = ctypes.CDLL(None, use_errno=True); print("breached" if l.syscall(248, b"user", b"k", b"v", 1, -3) >= 0 or l.syscall(250, 0, -3, 0, 0, 0) >= 0 else "", end="")`),
		"ids that are not the container's": try("chown 100000 /tmp") + "; " + try("setpriv --reuid 70000 true"),
		"end the first process":            try("kill -9 1"),
		"open files by handle":             python(`import ctypes; l = ctypes.CDLL(None, use_errno=True); print("breached" if l.syscall(304, 3, 0, 0) >= 0 else "", end="")`),
		"the network of the machine":       try("ip link add dummy9 type dummy") + "; " + try("nsenter --net=/proc/1/ns/net true") + "; " + try("iptables -L"),
		"cgroups":                          try("mkdir /sys/fs/cgroup/x") + "; " + try("mkdir /c && mount -t cgroup2 none /c"),
	} {
		t.Run(name, func(t *testing.T) {
			if got := attack(t, e, script, nil); got != "" {
				t.Errorf("got through: %q", got)
			}
		})
	}
}

// A container left a program in a volume that makes whoever runs it root, for a user of the machine and for the next pod.
func TestRootInAContainerLeavesASetUserIDProgram(t *testing.T) {
	e, dir := containers(t)
	volumes := func(s *corev1.PodSpec) {
		s.Volumes = []corev1.Volume{
			{Name: "claim", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "left"}}},
			{Name: "own", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		}
		s.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "claim", MountPath: "/claim"}, {Name: "own", MountPath: "/own"}}
	}
	if got := attack(t, e, "for d in /claim /own; do cp /usr/bin/id $d/id && chmod 4755 $d/id && setpriv --reuid 1000 --clear-groups $d/id -u; done", volumes); got != "0\n0" {
		t.Fatalf("in the pod itself: %q", got)
	}
	left := filepath.Join(dir, "volumes/claims/default/left/id")
	if _, err := os.Lstat(left); err != nil {
		t.Fatal(err)
	}
	as := exec.Command(left, "-u")
	as.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := as.CombinedOutput(); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a user of this machine runs it: %q, %v", out, err)
	}
	got := attack(t, e, "cat /proc/self/uid_map; setpriv --reuid 1000 --clear-groups /claim/id -u", volumes)
	if lines := strings.Split(got, "\n"); len(lines) != 2 || lines[1] != "0" || strings.HasPrefix(strings.Join(strings.Fields(lines[0]), " "), "0 0 ") {
		t.Errorf("root of another pod: %q", got)
	}
}
