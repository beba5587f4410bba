package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tiphys/tiphys/test/faults"
)

// walks is how many runs are under way when the backup is made; the first two are left out of the release.
const walks = 5

// walk is a run of three steps that leave a mark for each time they are executed. The second waits until it may go.
const walk = `apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: NAME}
spec:
  entrypoint: main
  volumes:
  - name: witness
    hostPath: {path: WITNESS, type: Directory}
  templates:
  - name: main
    steps:
    - - {name: one, template: mark, arguments: {parameters: [{name: n, value: one}]}}
    - - {name: two, template: mark, arguments: {parameters: [{name: n, value: two}]}}
    - - {name: three, template: mark, arguments: {parameters: [{name: n, value: three}]}}
  - name: mark
    inputs: {parameters: [{name: n}]}
    container:
      image: none
      command: [sh, -ec]
      args: ["mktemp -d /witness/NAME.{{inputs.parameters.n}}.XXXXXX; if [ {{inputs.parameters.n}} = two ]; then while [ ! -e /witness/go ]; do sleep 0.1; done; fi"]
      volumeMounts: [{name: witness, mountPath: /witness}]
`

// keep is a test's machine: where things are, and the server that runs.
type keep struct {
	t       *testing.T
	tiphys  string
	dir     string
	witness string
	port    string
	server  *exec.Cmd
	ended   chan error
	// data is the data folder of the server that was started last.
	data string
}

func openKeep(t *testing.T) *keep {
	t.Helper()
	options(t) // skips
	k := &keep{t: t, dir: t.TempDir(), witness: t.TempDir()}
	k.tiphys = filepath.Join(k.dir, "tiphys")
	build(t, k.tiphys, "-tags", "faults,noui", "./cmd/tiphys")
	if err := os.Chmod(k.witness, 0o777); err != nil { //nolint:gosec // steps of any user write it
		t.Fatal(err)
	}
	// The walks note in a folder of this machine what they did.
	if err := os.WriteFile(filepath.Join(k.dir, "server.yaml"), []byte(`apiVersion: tiphys.dev/v1alpha1
kind: ServerConfiguration
executor: host
grants:
- {to: {roles: [admin]}, executors: [host], pods: privileged}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k.port = l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.kill)
	return k
}

// command prepares a command of the program with these variables in its environment.
func (k *keep) command(env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(k.t.Context(), k.tiphys, args...)
	cmd.Dir = k.dir
	cmd.Env = append(append(os.Environ(), "TIPHYS_SERVER="+k.port, "XDG_CONFIG_HOME="+filepath.Join(k.dir, "home")), env...)
	return cmd
}

// run runs a command and gives what it said.
func (k *keep) run(env []string, args ...string) (string, error) {
	out, err := k.command(env, args...).CombinedOutput()
	return string(out), err
}

// must runs a command that succeeds.
func (k *keep) must(args ...string) string {
	k.t.Helper()
	out, err := k.run(nil, args...)
	if err != nil {
		k.t.Fatalf("tiphys %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// serve starts the server of a data folder and waits until it is ready.
func (k *keep) serve(data string, env ...string) {
	k.t.Helper()
	k.data = filepath.Join(k.dir, data)
	k.server = k.command(env, "serve", "--data", data, "--listen", k.port, "--server-config", "server.yaml", "--keeper=false")
	log, err := os.OpenFile(filepath.Join(k.dir, "server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		k.t.Fatal(err)
	}
	k.server.Stdout, k.server.Stderr = log, log
	if err := k.server.Start(); err != nil {
		k.t.Fatal(err)
	}
	_ = log.Close()
	k.ended = make(chan error, 1)
	go func(cmd *exec.Cmd, ended chan error) { ended <- cmd.Wait() }(k.server, k.ended)
	k.within("the server is ready", func() error { _, err := k.get("/readyz"); return err })
}

// kill kills the server with -9 and waits for its end.
func (k *keep) kill() {
	if k.server == nil {
		return
	}
	_ = k.server.Process.Kill()
	<-k.ended
	k.server = nil
}

func (k *keep) get(path string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+k.port+path, nil)
	if err != nil {
		return "", err
	}
	if token, err := os.ReadFile(filepath.Join(k.data, "keys", "admin.token")); err == nil {
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, resp.Status, text)
	}
	return string(text), err
}

// within looks again until what is wanted is so.
func (k *keep) within(what string, look func() error) {
	k.t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		err := look()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			log, _ := os.ReadFile(filepath.Join(k.dir, "server.log"))
			k.t.Fatalf("within a minute it is not so that %s: %v\n%s", what, err, log)
		case <-again.C:
		}
	}
}

// marks counts how often each step of each run was executed: "walk-0.two".
func (k *keep) marks() map[string]int {
	k.t.Helper()
	entries, err := os.ReadDir(k.witness)
	if err != nil {
		k.t.Fatal(err)
	}
	counts := map[string]int{}
	for _, e := range entries {
		if parts := strings.Split(e.Name(), "."); len(parts) == 3 {
			counts[parts[0]+"."+parts[1]]++
		}
	}
	return counts
}

// phases gives how many runs are in which phase.
func (k *keep) phases() (map[string]string, error) {
	text, err := k.get("/api/v1/runs?limit=100")
	if err != nil {
		return nil, err
	}
	var list struct {
		Items []struct {
			Name  string `json:"name"`
			Phase string `json:"phase"`
		} `json:"items"`
	}
	err = json.Unmarshal([]byte(text), &list)
	phases := map[string]string{}
	for _, r := range list.Items {
		phases[r.Name] = r.Phase
	}
	return phases, err
}

func (k *keep) absent(name string) {
	k.t.Helper()
	if _, err := os.Lstat(filepath.Join(k.dir, name)); !errors.Is(err, fs.ErrNotExist) {
		k.t.Errorf("%s is there: %v", name, err)
	}
}

// killed runs a command that dies at a point, and notes the points that it passed.
func (k *keep) killed(point string, args ...string) {
	k.t.Helper()
	out, err := k.run([]string{faults.EnvArmed + "=" + point + ":1"}, args...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		k.t.Fatalf("it did not die at %s: %v\n%s", point, err, out)
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
		k.t.Fatalf("it did not die at %s: %v\n%s", point, err, out)
	}
}

// What a backup says was done is not done again by the server that was restored from it, and what ran after it only for who released it: through
// kills of backup, server, restore, held server and release.
func TestRestoredServerRepeatsNothingUnasked(t *testing.T) {
	k := openKeep(t)
	k.serve("first")
	for i := range walks {
		name := fmt.Sprintf("walk-%d", i)
		file := filepath.Join(k.dir, name+".yaml")
		if err := os.WriteFile(file, []byte(strings.NewReplacer("NAME", name, "WITNESS", k.witness).Replace(walk)), 0o600); err != nil {
			t.Fatal(err)
		}
		k.must("submit", file)
	}
	k.within("every run is in its second step", func() error {
		for i := range walks {
			if n := k.marks()[fmt.Sprintf("walk-%d.two", i)]; n != 1 {
				return fmt.Errorf("walk-%d: %d", i, n)
			}
		}
		return nil
	})

	k.backUpKilled()
	if err := os.WriteFile(filepath.Join(k.witness, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	k.within("the first server ends every run", func() error { return k.all("Succeeded") })
	k.kill()
	k.restoreKilled()

	before := k.marks()
	k.serve("second")
	for range 2 {
		k.kill()
		k.serve("second")
		k.checkHeld()
	}
	k.kill()
	k.releaseKilled()

	k.within("the released server ends every run", func() error {
		phases, err := k.phases()
		if err != nil {
			return err
		}
		for i := range walks {
			want, got := "Succeeded", phases[fmt.Sprintf("walk-%d", i)]
			if i < 2 {
				want = "Failed"
			}
			if got != want {
				return fmt.Errorf("walk-%d is %s and not %s", i, got, want)
			}
		}
		return nil
	})
	after := k.marks()
	for i := range walks {
		again := 1 // what was under way begins again, and what follows it is done, since the release asked for it
		if i < 2 {
			again = 0
		}
		for step, n := range map[string]int{"one": 0, "two": again, "three": again} {
			if key := fmt.Sprintf("walk-%d.%s", i, step); after[key]-before[key] != n {
				t.Errorf("%s was executed %d times after the restore and not %d", key, after[key]-before[key], n)
			}
		}
	}
	if out := k.must("ledger", "verify", "--storage"); !strings.HasPrefix(out, "whole: ") {
		t.Error(out)
	}
}

func (k *keep) all(phase string) error {
	phases, err := k.phases()
	for name, is := range phases {
		if is != phase {
			return fmt.Errorf("%s is %s", name, is)
		}
	}
	return err
}

// backUpKilled makes the backup, after it was killed at each of its points, and once beside a server that is killed.
func (k *keep) backUpKilled() {
	backup := []string{"backup", "--data", "first", "-o", "saved", "--keys", "keys"}
	for _, p := range faults.CommandPoints() {
		if strings.HasPrefix(p.Name, "backup/") {
			k.killed(p.Name, backup...)
			k.absent("saved")
		}
	}
	beside := k.command(nil, "backup", "--data", "first", "-o", "beside", "--without-keys")
	if err := beside.Start(); err != nil {
		k.t.Fatal(err)
	}
	k.kill()
	if err := beside.Wait(); err != nil {
		k.t.Errorf("a backup beside a server that was killed: %v", err)
	}
	k.must("backup", "--verify", "beside")
	k.serve("first")
	k.must(backup...)
	k.must("backup", "--verify", "saved")
	k.absent(".saved.part")
}

// restoreKilled restores the backup, after it was killed at each of its points.
func (k *keep) restoreKilled() {
	restore := []string{"restore", "saved", "--data", "second", "--keys", "keys"}
	for _, p := range faults.CommandPoints() {
		if strings.HasPrefix(p.Name, "restore/") {
			k.killed(p.Name, restore...)
			if p.Name == "restore/placed" {
				// It is whole, and a restore to the same place is refused: have it once more.
				if err := os.RemoveAll(filepath.Join(k.dir, "second")); err != nil {
					k.t.Fatal(err)
				}
			}
			k.absent("second")
		}
	}
	trace := filepath.Join(k.dir, "trace")
	if out, err := k.run([]string{faults.EnvTrace + "=" + trace}, restore...); err != nil {
		k.t.Fatalf("restore: %v\n%s", err, out)
	}
	k.absent("second.restoring")
	passes, err := faults.ReadTrace(trace)
	if err != nil {
		k.t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, p := range faults.CommandPoints() {
		listed[p.Name] = true
	}
	for _, p := range passes {
		if !listed[p.Point] {
			k.t.Errorf("test/faults does not list the point %s", p.Point)
		}
	}
}

// checkHeld sees that the server does nothing, and says what it would do.
func (k *keep) checkHeld() {
	k.t.Helper()
	if text, err := k.get("/readyz"); err != nil || !strings.HasPrefix(text, "ready, and held since ") {
		k.t.Errorf("%v\n%s", err, text)
	}
	plan := k.must("restore", "--plan")
	for i := range walks {
		if want := fmt.Sprintf("run/default/walk-%d: it goes on: these steps were under way and begin again: walk-%d[1].two", i, i); !strings.Contains(plan, want) {
			k.t.Errorf("the plan does not say %q:\n%s", want, plan)
		}
	}
	if out, err := k.run(nil, "submit", "walk-0.yaml"); err == nil || !strings.Contains(out, "held") {
		k.t.Errorf("a submission: %v\n%s", err, out)
	}
	if err := k.all("Running"); err != nil {
		k.t.Errorf("a held server went on: %v", err)
	}
}

// releaseKilled releases the server without two runs; it is killed between all that this records, and asked again.
func (k *keep) releaseKilled() {
	env := []string{
		faults.EnvTrace + "=" + filepath.Join(k.dir, "release"),
		faults.EnvArmed + "=ledger/append run.changed:1,ledger/after-commit run.changed:1,ledger/append server.released:1,ledger/after-commit server.released:1",
	}
	k.serve("second", env...)
	died := 0
	for {
		out, err := k.run(nil, "restore", "--release", "--skip", "run/default/walk-0", "--skip", "run/default/walk-1")
		if err == nil || strings.Contains(out, "it is not held") {
			break
		}
		select {
		case <-k.ended:
			died++
		case <-time.After(time.Minute):
			k.t.Fatalf("the release failed and the server lives: %v\n%s", err, out)
		}
		k.server = nil
		k.serve("second", env...)
	}
	if died != 4 {
		k.t.Errorf("the server died %d times during its release", died)
	}
}
