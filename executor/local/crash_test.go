package local_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/local"
	"github.com/tiphys/tiphys/executor/protocol"
)

const (
	serverArg = "be-a-server"
	patience  = 30 * time.Second
)

// serverMain is a process that owns an executor, so that it can be killed: it starts the pod that it is given,
// says what happens, and dies by its own hand at the fault point that it is told.
func serverMain(args []string) int {
	dir, init, point := args[0], args[1], args[2]
	o := local.Options{Dir: dir, Init: init, Fault: func(p string) {
		if p == point {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}}
	containers := len(args) > 3
	if containers {
		o.Images, o.Network = rootImages{}, local.Network{Bridge: args[3], Subnet: args[4]}
	}
	machine, err := local.New(o)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	e := machine.Host()
	if containers {
		e = machine.Container()
	}
	var p executor.Pod
	if err := json.NewDecoder(os.Stdin).Decode(&p); err != nil {
		fmt.Println(err)
		return 1
	}
	if err := e.Start(context.Background(), p); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("on record")
	for r := range e.Reports() {
		fmt.Println(r.Phase)
		if r.Phase.Done() {
			_ = e.Acknowledge(context.Background(), r.ID)
		}
	}
	return 0
}

// server starts such a process in a process group of its own and waits for a line of its output.
func server(t *testing.T, dir, point string, p executor.Pod, until string, network ...string) *exec.Cmd {
	t.Helper()
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], append([]string{serverArg, dir, initBinary, point}, network...)...)
	cmd.Stdin = strings.NewReader(string(data))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	for until != "" && lines.Scan() {
		if lines.Text() == until {
			break
		}
	}
	if until == "" {
		_ = cmd.Wait()
	}
	return cmd
}

// oncePod fails if it is run twice, and ends when the file go appears in the shared folder.
func oncePod(t *testing.T, shared string) executor.Pod {
	t.Helper()
	p := executor.Pod{ID: executor.ID{Owner: "crash", Node: t.Name()}, Main: "main"}
	p.Pod.Name, p.Pod.Namespace = "pod", "default"
	p.Pod.Spec.Containers = []corev1.Container{{
		Name: "main", Command: []string{"sh", "-c", "set -eC; echo once > /shared/once; while [ ! -e /shared/go ]; do sleep 0.02; done; echo finished"},
		VolumeMounts: []corev1.VolumeMount{{Name: "shared", MountPath: "/shared"}},
	}}
	p.Pod.Spec.Volumes = []corev1.Volume{{Name: "shared", VolumeSource: corev1.VolumeSource{
		HostPath: &corev1.HostPathVolumeSource{Path: shared},
	}}}
	p.Outputs.Result = true
	return p
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func report(t *testing.T, e *local.View, want func(executor.Report) bool) executor.Report {
	t.Helper()
	limit := time.After(patience)
	for {
		select {
		case r := <-e.Reports():
			if want(r) {
				return r
			}
		case <-limit:
			t.Fatal("no such report")
		}
	}
}

func done(r executor.Report) bool { return r.Phase.Done() }

func settleAndCheck(t *testing.T, e *local.View, dir string, id executor.ID) {
	t.Helper()
	if err := e.Acknowledge(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	// The kernel ends what was a shim's when the shim is gone, but not before that.
	left := leftovers(dir)
	for limit := time.Now().Add(patience); left != "" && time.Now().Before(limit); left = leftovers(dir) {
		<-time.After(5 * time.Millisecond)
	}
	if left != "" {
		t.Errorf("left behind:\n%s", left)
	}
}

func TestServerKilled(t *testing.T) {
	needRoot(t)
	for _, whole := range []bool{false, true} {
		t.Run(fmt.Sprintf("process group %v", whole), func(t *testing.T) {
			dir, shared := t.TempDir(), t.TempDir()
			p := oncePod(t, shared)
			cmd := server(t, dir, "", p, "Running")
			target := cmd.Process.Pid
			if whole {
				target = -target
			}
			if err := syscall.Kill(target, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			e := open(t, dir)
			write(t, filepath.Join(shared, "go"))
			if r := report(t, e, done); r.Phase != executor.Succeeded || r.Result == nil || *r.Result != "finished" {
				t.Errorf("%+v", r)
			}
			settleAndCheck(t, e, dir, p.ID)
		})
	}
}

// The server dies at each of its fault points; whoever comes next orders the pod again, as the outbox would.
func TestFaultPoints(t *testing.T) {
	needRoot(t)
	for _, point := range []string{"pod-record", "shim-start", "shim-order", "shim-launch", "exit-record", "acknowledge", "acknowledge-half", "acknowledged"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			dir, shared := t.TempDir(), t.TempDir()
			p := oncePod(t, shared)
			write(t, filepath.Join(shared, "go"))
			server(t, dir, point, p, "")
			e := open(t, dir)
			if err := e.Start(context.Background(), p); err != nil {
				t.Fatal(err)
			}
			r := report(t, e, done)
			if r.Phase != executor.Succeeded || r.Result == nil || *r.Result != "finished" {
				t.Errorf("%+v", r)
			}
			settleAndCheck(t, e, dir, p.ID)
		})
	}
}

// An attempt that is on record but was never launched says so and goes on when it is started again.
func TestOnRecordButNotLaunched(t *testing.T) {
	needRoot(t)
	dir, shared := t.TempDir(), t.TempDir()
	p := oncePod(t, shared)
	write(t, filepath.Join(shared, "go"))
	e := open(t, dir)
	if err := e.Start(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	report(t, e, done)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	// What a server leaves that dies between the two.
	live := attemptFolder(t, dir)
	for _, name := range []string{protocol.ShimFile, protocol.RecordFile, protocol.ReportFile} {
		_ = os.Remove(filepath.Join(live, name))
	}
	_ = os.Remove(filepath.Join(shared, "once"))
	e = open(t, dir)
	r := report(t, e, func(executor.Report) bool { return true })
	if r.Phase != executor.Pending || r.Reason != executor.ReasonNotLaunched {
		t.Errorf("%+v", r)
	}
	if err := e.Start(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	if r := report(t, e, done); r.Phase != executor.Succeeded {
		t.Errorf("%+v", r)
	}
	settleAndCheck(t, e, dir, p.ID)
}

func attemptFolder(t *testing.T, dir string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "live", "*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("attempts: %v %v", found, err)
	}
	return found[0]
}

func shimOf(t *testing.T, dir string) (file string, s protocol.Shim) {
	t.Helper()
	file = filepath.Join(attemptFolder(t, dir), protocol.ShimFile)
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return file, s
}

func TestShimKilled(t *testing.T) {
	needRoot(t)
	for _, away := range []bool{false, true} {
		t.Run(fmt.Sprintf("while away %v", away), func(t *testing.T) {
			dir, shared := t.TempDir(), t.TempDir()
			p := oncePod(t, shared)
			e := open(t, dir)
			if err := e.Start(context.Background(), p); err != nil {
				t.Fatal(err)
			}
			report(t, e, func(r executor.Report) bool { return r.Phase == executor.Running })
			_, s := shimOf(t, dir)
			if away {
				if err := e.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if err := syscall.Kill(s.PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if away {
				for limit := time.Now().Add(patience); s.Alive() && time.Now().Before(limit); {
					<-time.After(time.Millisecond)
				}
				e = open(t, dir)
			}
			if r := report(t, e, done); r.Phase != executor.Error || r.Reason != executor.ReasonLost {
				t.Errorf("%+v", r)
			}
			settleAndCheck(t, e, dir, p.ID)
		})
	}
}

// After a reboot the pid and even the start time may be somebody else's; the boot id is not.
func TestReboot(t *testing.T) {
	needRoot(t)
	dir, shared := t.TempDir(), t.TempDir()
	p := oncePod(t, shared)
	e := open(t, dir)
	if err := e.Start(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	report(t, e, func(r executor.Report) bool { return r.Phase == executor.Running })
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	file, s := shimOf(t, dir)
	_ = syscall.Kill(s.PID, syscall.SIGKILL)
	self, err := protocol.Self()
	if err != nil {
		t.Fatal(err)
	}
	self.Boot = "00000000-0000-0000-0000-000000000000"
	data, err := json.Marshal(self)
	if err == nil {
		err = os.WriteFile(file, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	e = open(t, dir)
	if r := report(t, e, done); r.Phase != executor.Error || r.Reason != executor.ReasonLost {
		t.Errorf("%+v", r)
	}
	settleAndCheck(t, e, dir, p.ID)
}

// A shim gives an attempt back of which it has run nothing, because the pod's network went away with the server. The next server may see
// it before it does; the attempt is not lost then.
func TestAttemptThatIsGivenBackIsNotLost(t *testing.T) {
	needRoot(t)
	dir, shared := t.TempDir(), t.TempDir()
	p := oncePod(t, shared)
	server(t, dir, "shim-start", p, "")
	folders, err := filepath.Glob(filepath.Join(dir, "live", "*"))
	if err != nil || len(folders) != 1 {
		t.Fatal(folders, err)
	}
	shim := exec.Command("sleep", "1000")
	if err := shim.Start(); err != nil {
		t.Fatal(err)
	}
	end := sync.OnceFunc(func() {
		_ = shim.Process.Kill()
		_ = shim.Wait()
	})
	defer end()
	self, err := protocol.Self()
	if err != nil {
		t.Fatal(err)
	}
	self.PID = shim.Process.Pid
	if self.Start, err = protocol.StartTime(self.PID); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(self)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(folders[0], protocol.ShimFile)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	e := open(t, dir)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	end()
	if r := report(t, e, func(executor.Report) bool { return true }); r.Phase != executor.Pending || r.Reason != executor.ReasonNotLaunched {
		t.Fatalf("%+v", r)
	}
	write(t, filepath.Join(shared, "go"))
	if err := e.Start(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if r := report(t, e, done); r.Phase != executor.Succeeded {
		t.Errorf("%+v", r)
	}
	settleAndCheck(t, e, dir, p.ID)
}
