package local_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/executor"
)

// callsArg has the test's program make system calls and print what comes of them.
const callsArg = "make-system-calls"

// callsMain makes calls that container engines refuse by their default profile, with arguments with which root would not get EPERM. The first
// three reached the machine's keyrings from a container.
func callsMain() int {
	say := func(name string, e error) {
		if errno, ok := e.(unix.Errno); ok && errno != 0 {
			fmt.Printf("%s %s\n", name, unix.ErrnoName(errno))
			return
		}
		fmt.Printf("%s done\n", name)
	}
	raw := func(name string, trap, a, b, c uintptr) {
		_, _, e := unix.RawSyscall(trap, a, b, c)
		say(name, e)
	}
	_, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_USER_KEYRING, true)
	say("keyctl", err)
	_, err = unix.AddKey("user", "tiphys", []byte("x"), unix.KEY_SPEC_PROCESS_KEYRING)
	say("add_key", err)
	_, err = unix.RequestKey("user", "tiphys", "", unix.KEY_SPEC_PROCESS_KEYRING)
	say("request_key", err)
	say("unshare a user namespace", unix.Unshare(unix.CLONE_NEWUSER))
	say("unshare a mount namespace", unix.Unshare(unix.CLONE_NEWNS))
	say("unshare files", unix.Unshare(unix.CLONE_FILES))
	raw("clone3", unix.SYS_CLONE3, 0, 0, 0)
	raw("bpf", unix.SYS_BPF, ^uintptr(0), 0, 0)
	raw("userfaultfd", unix.SYS_USERFAULTFD, ^uintptr(0), 0, 0)
	raw("perf_event_open", unix.SYS_PERF_EVENT_OPEN, 0, 0, 0)
	raw("io_uring_setup", unix.SYS_IO_URING_SETUP, 0, 0, 0)
	raw("open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT, 0, 0, 0)
	raw("personality that is not listed", unix.SYS_PERSONALITY, 0x0040000, 0, 0)
	raw("personality of linux", unix.SYS_PERSONALITY, 0, 0, 0)
	raw("socket to a hypervisor", unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM, 0)
	raw("socket", unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0)
	raw("no such call", 0x3fff, 0, 0, 0)
	return 0
}

// callsPod runs callsMain in a container.
func callsPod(t *testing.T) executor.Pod {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := shell(t, "")
	p.Pod.Spec.Volumes = []corev1.Volume{{Name: "test", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: filepath.Dir(program)}}}}
	p.Pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "test", MountPath: "/test"}}
	p.Pod.Spec.Containers[0].Command = []string{"/test/" + filepath.Base(program), callsArg}
	return p
}

// TestSystemCalls: what the default profile of container engines refuses is refused (moby/profiles, seccomp/default.json), and an unconfined
// or privileged container is told by the kernel. clone3 is ENOSYS so that libraries take clone instead.
func TestSystemCalls(t *testing.T) {
	needRoot(t)
	e := open(t, t.TempDir(), withImages)
	const refused = `keyctl EPERM
add_key EPERM
request_key EPERM
unshare a user namespace EPERM
unshare a mount namespace EPERM
unshare files EPERM
clone3 ENOSYS
bpf EPERM
userfaultfd EPERM
perf_event_open EPERM
io_uring_setup EPERM
open_by_handle_at EPERM
personality that is not listed EPERM
personality of linux done
socket to a hypervisor EPERM
socket done
no such call EPERM
`
	for name, set := range map[string]func(*corev1.PodSpec){
		"as it is": func(*corev1.PodSpec) {},
		"by name": func(s *corev1.PodSpec) {
			s.SecurityContext = &corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined}}
			s.Containers[0].SecurityContext = &corev1.SecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}}
		},
		"without capabilities": func(s *corev1.PodSpec) {
			s.Containers[0].SecurityContext = &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := callsPod(t)
			set(&p.Pod.Spec)
			r := run(t, e, p)
			if r.Phase != executor.Succeeded || r.Result == nil {
				t.Fatalf("%+v", r)
			}
			if diff := cmp.Diff(refused, *r.Result+"\n"); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("unconfined", func(t *testing.T) {
		p := callsPod(t)
		p.Pod.Spec.SecurityContext = &corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined}}
		if r := run(t, e, p); r.Result == nil || !strings.Contains(*r.Result, "keyctl done\n") {
			t.Errorf("%+v", r)
		}
	})
	t.Run("of the node", func(t *testing.T) {
		p := callsPod(t)
		file := "mine.json"
		p.Pod.Spec.SecurityContext = &corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost, LocalhostProfile: &file}}
		if problems, err := e.Check(t.Context(), p); err != nil || len(problems) != 1 || problems[0].Path != "spec.securityContext.seccompProfile" || !problems[0].Fatal {
			t.Errorf("%v, %v", problems, err)
		}
	})
}
