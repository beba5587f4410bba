package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tiphys/tiphys/test/story"
)

// diskSize is enough for the line and little more, in bytes.
const diskSize = 160 << 20

// smallDisk puts the data folder of a line on a disk of its own.
func smallDisk(t *testing.T, l *line) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: not tested: a full disk; it needs root to mount a small one")
	}
	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tiphys-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d", diskSize)); err != nil {
		t.Fatalf("mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("nobody uses the disk any more: %v", err)
			_ = syscall.Unmount(dir, syscall.MNT_DETACH)
		}
	})
	l.w.Data = filepath.Join(dir, "data")
}

// fill takes all the room that is left on the data folder's disk, and what is given back there, until the returned function is called: pods
// that have ended are still being removed.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(filepath.Dir(dir), "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	top := func() {
		block := make([]byte, 1<<20)
		for len(block) > 0 {
			if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
				block = block[:len(block)/2]
			} else if err != nil {
				t.Error(err)
				return
			}
		}
	}
	top()
	enough, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		for again := time.NewTicker(5 * time.Millisecond); ; {
			select {
			case <-enough:
				again.Stop()
				return
			case <-again.C:
				top()
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(enough)
		<-over
		if err := errors.Join(f.Close(), os.Remove(path)); err != nil {
			t.Error(err)
		}
	})
}

// saysFull tells whether an error says to its reader that the disk is full.
func saysFull(text string) bool {
	text = strings.ToLower(text)
	return strings.Contains(text, "no space left") || strings.Contains(text, "is full") || strings.Contains(text, "free some space")
}

func TestFullDisk(t *testing.T) {
	o := lineOptions{Options: options(t), name: "barge"}
	o.Out = &lines{t: t}
	o.service = filepath.Join(t.TempDir(), "service")
	build(t, o.service, "-ldflags", "-s -w", "./test/e2e/testdata/service")
	l := openLine(t, o)
	smallDisk(t, l)
	defer l.close()
	tides, err := os.ReadFile(filepath.Join(root, "examples", "harbour", "tiphys", "tides.yaml"))
	if err == nil {
		err = os.WriteFile(filepath.Join(l.w.Config, "tides.yaml"), tides, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	if err := l.w.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := l.push(ctx); err != nil {
		t.Fatal(err)
	}
	waiter(t, l.w, "waiter", filepath.Join(l.witness, "go"))
	free := fill(t, l.w.Data)
	defer free()
	// What runs goes on, and what is there can be read.
	for _, ask := range []struct{ host, path string }{{"", "/healthz"}, {"", "/api/v1/runs"}, {"prod.barge.localhost", "/"}} {
		if err := l.w.Get(ctx, ask.host, ask.path, nil); err != nil {
			t.Errorf("with a full disk: %v", err)
		}
	}
	if err := l.w.Get(ctx, "", "/readyz", nil); err == nil || !saysFull(err.Error()) {
		t.Errorf("it says that it is not ready: %v", err)
	}
	// A step ends meanwhile.
	if err := os.WriteFile(filepath.Join(l.witness, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	deliver := func() (int, error) {
		code, data, err := l.w.Request(ctx, http.MethodPost, "", "/webhooks/default/gitlab/tides", map[string]string{
			"X-Gitlab-Event": "Push Hook", "X-Gitlab-Token": "tides-of-the-demo", "X-Gitlab-Event-UUID": "full", "Content-Type": "application/json",
		}, []byte(`{"object_kind":"push","ref":"refs/heads/main"}`))
		return code, errors.Join(err, fmt.Errorf("it was answered %d %s", code, data))
	}
	refused := map[string]func() error{
		"push": func() error {
			return errors.Join(l.git(ctx, []string{"switch", "-q", "-C", "full"}, []string{"commit", "-q", "--allow-empty", "-m", "Nothing"}, []string{"push", "-q", "origin", "full"}))
		},
		"submit": func() error { return submitted(ctx, l.w, "late") },
	}
	// Whoever delivers is a stranger, and is told to come back and no more.
	if code, err := deliver(); code != http.StatusServiceUnavailable {
		t.Errorf("a delivery that is nowhere: %v", err)
	}
	for what, do := range refused {
		err := do()
		t.Logf("%s: %v", what, err)
		if err == nil || !saysFull(err.Error()) {
			t.Errorf("%s: nobody is told that the disk is full: %v", what, err)
		}
	}
	lives(t, l.w)
	free()
	if d := ended(ctx, t, l.w, "waiter"); d.Run.Phase != "Succeeded" {
		t.Errorf("a run goes on when there is room again: %+v", d)
	}
	// What was refused is taken now.
	for what, do := range map[string]func() error{
		"push": func() error {
			return l.git(ctx, []string{"push", "-q", "origin", "full"}, []string{"switch", "-q", "main"})
		},
		"submit": func() error { return submitted(ctx, l.w, "late") },
		"deliver": func() error {
			if code, err := deliver(); code != http.StatusOK {
				return err
			}
			return nil
		},
	} {
		if err := do(); err != nil {
			t.Errorf("%s, with room again: %v", what, err)
		}
	}
	if d := ended(ctx, t, l.w, "late"); d.Run.Phase != "Succeeded" {
		t.Errorf("%+v", d)
	}
	for _, act := range []func(context.Context) error{l.mergeRequest, l.merge, func(ctx context.Context) error { return hogs(ctx, t, l.w) }, l.tearDown} {
		if err := act(ctx); err != nil {
			t.Fatal(err)
		}
	}
	closing(ctx, t, l.w)
}

// hogs are steps that take all of the disk: with files of their own, and with their logs. The server must get room again
// without anybody's help.
func hogs(ctx context.Context, t *testing.T, w *story.World) error {
	t.Helper()
	for _, hog := range []struct{ name, command, phase, log string }{
		{"files", "dd if=/dev/zero of=/big bs=1M count=1000", "Failed", "No space left on device"},
		{"words", "yes 01234567890123456789012345678901234567890123456789012345678901234567890123456789 | head -c 300000000", "Succeeded", "the disk is almost full"},
	} {
		path := filepath.Join(w.Dir, hog.name+".yaml")
		text := fmt.Sprintf("{apiVersion: argoproj.io/v1alpha1, kind: Workflow, metadata: {name: %s}, spec: {entrypoint: m, templates: [{name: m, script: "+
			"{image: 'docker.io/library/alpine:3', command: [sh, -e], source: %q}}]}}", hog.name, hog.command)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
		if _, err := w.Tiphys(ctx, "submit", path); err != nil {
			return err
		}
		if d := ended(ctx, t, w, hog.name); d.Run.Phase != hog.phase {
			t.Errorf("a step that takes the whole disk for its %s is %s: %+v", hog.name, hog.phase, d)
		}
		if out, err := w.Tiphys(ctx, "logs", hog.name, "--tail", "5"); err != nil || !strings.Contains(out, hog.log) {
			t.Errorf("its log says %q: %v %.300s", hog.log, err, out)
		}
		err := w.Within(ctx, limit, "there is room again", func(ctx context.Context) error { return submitted(ctx, w, "after-"+hog.name) })
		if err != nil {
			return err
		}
	}
	return nil
}

// closing stops a server that is not to have ended before, and looks at what it leaves.
func closing(ctx context.Context, t *testing.T, w *story.World) {
	t.Helper()
	w.Stop()
	log, err := os.ReadFile(filepath.Join(w.Dir, "server.log"))
	if err != nil || strings.Count(string(log), "Tiphys is at") != 1 {
		t.Errorf("the server lived all the time: %v\n%s", err, log)
	}
	led, err := whole(ctx, w)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(led.Close(), w.Clean(ctx, 20*time.Second)); err != nil {
		t.Error(err)
	}
}

// waiter submits a run of two steps, the first of which waits for a file.
func waiter(t *testing.T, w *story.World, name, file string) {
	t.Helper()
	text := fmt.Sprintf(`apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: %s}
spec:
  entrypoint: main
  volumes: [{name: witness, hostPath: {path: %s, type: Directory}}]
  templates:
  - name: main
    steps:
    - - {name: wait, template: wait}
    - - {name: after, template: after, arguments: {parameters: [{name: said, value: "{{steps.wait.outputs.result}}"}]}}
  - name: wait
    script:
      image: docker.io/library/alpine:3
      command: [sh, -e]
      volumeMounts: [{name: witness, mountPath: /witness}]
      source: |
        mkdir /witness/up
        until [ -e /witness/%s ]; do sleep 0.05; done
        echo done
  - name: after
    inputs: {parameters: [{name: said}]}
    script:
      image: docker.io/library/alpine:3
      command: [sh, -e]
      volumeMounts: [{name: witness, mountPath: /witness}]
      source: |
        mkdir /witness/after-{{inputs.parameters.said}}
`, name, filepath.Dir(file), filepath.Base(file))
	path := filepath.Join(w.Dir, name+".yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := w.Tiphys(t.Context(), "submit", path); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	err := w.Within(t.Context(), limit, "the first step is up", func(context.Context) error {
		_, err := os.Stat(filepath.Join(filepath.Dir(file), "up"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// detail is a run and its nodes.
type detail struct {
	Run   runPart
	Nodes []nodePart
}

// ended waits for the end of a run.
func ended(ctx context.Context, t *testing.T, w *story.World, name string) detail {
	t.Helper()
	var d detail
	err := w.Within(ctx, 40*time.Second, "run "+name+" ends", func(ctx context.Context) error {
		if err := w.Get(ctx, "", "/api/v1/runs/default/"+name, &d); err != nil {
			return err
		}
		switch d.Run.Phase {
		case "", "Pending", "Running":
			return fmt.Errorf("%+v", d)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return d
}

// submitted submits the smallest run.
func submitted(ctx context.Context, w *story.World, name string) error {
	path := filepath.Join(w.Dir, name+".yaml")
	text := `{apiVersion: argoproj.io/v1alpha1, kind: Workflow, metadata: {name: ` + name +
		`}, spec: {entrypoint: m, templates: [{name: m, container: {image: "docker.io/library/alpine:3", command: ["true"]}}]}}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	_, err := w.Tiphys(ctx, "submit", path)
	return err
}
