package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/test/story"
)

// server starts a server on a stage of its own; afterwards nothing of it may be left.
func server(t *testing.T) *story.World {
	t.Helper()
	o := options(t)
	w, err := story.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		w.Stop()
		if err := w.Clean(ctx, 20*time.Second); err != nil && !t.Failed() {
			t.Error(err)
		}
		if err := w.Close(ctx, !t.Failed()); err != nil {
			t.Error(err)
		}
	})
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

// lives checks that the server answers, and at once.
func lives(t *testing.T, w *story.World) {
	t.Helper()
	began := time.Now()
	if err := w.Get(t.Context(), "", "/api/v1/runs", nil); err != nil {
		t.Errorf("the server lives on: %v", err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the server took %s to answer", took)
	}
}

func TestDeliveryOf100MB(t *testing.T) {
	w := server(t)
	body := append(append([]byte(`{"object_kind":"push","message":"`), bytes.Repeat([]byte("x"), 100<<20)...), `"}`...)
	code, data, err := w.Request(t.Context(), http.MethodPost, "", "/webhooks/default/gitlab/tides",
		map[string]string{"X-Gitlab-Event": "Push Hook", "X-Gitlab-Token": "tides-of-the-demo", "Content-Type": "application/json"}, body)
	// The connection may be closed before all is sent; what is answered must be that it is too large.
	if err == nil && (code != http.StatusRequestEntityTooLarge || !strings.Contains(string(data), "bytes")) {
		t.Errorf("a body of 100 MB was answered %d: %.200s", code, data)
	}
	lives(t, w)
	var events struct {
		Items []json.RawMessage `json:"items"`
	}
	if err := w.Get(t.Context(), "", "/api/v1/events", &events); err != nil || len(events.Items) > 0 {
		t.Errorf("it is no event: %v, %d events", err, len(events.Items))
	}
}

// bomb grows by ten with each line.
func bomb() string {
	var b strings.Builder
	b.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n")
	for i := 1; i < 12; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 10), ","))
	}
	b.WriteString("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\n")
	return b.String()
}

func TestManifestBomb(t *testing.T) {
	w := server(t)
	file := filepath.Join(w.Dir, "bomb.yaml")
	if err := os.WriteFile(file, []byte(bomb()), 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	out, err := w.Tiphys(t.Context(), "apply", file)
	if err == nil {
		t.Errorf("a manifest bomb was applied: %s", out)
	} else if !strings.Contains(err.Error(), "bomb.yaml:") && !strings.Contains(err.Error(), "alias") {
		t.Errorf("the refusal names place or reason: %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	lives(t, w)
	// In the folder of definitions it is reported, and what was there before stays.
	if err := os.WriteFile(filepath.Join(w.Config, "bomb.yaml"), []byte(bomb()), 0o600); err != nil {
		t.Fatal(err)
	}
	err = w.Within(t.Context(), 10*time.Second, "the log names bomb.yaml", func(context.Context) error {
		log, err := os.ReadFile(filepath.Join(w.Dir, "server.log"))
		if err == nil && !strings.Contains(string(log), "bomb.yaml") {
			err = fmt.Errorf("it does not: %s", log)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	var defs struct {
		Items []json.RawMessage `json:"items"`
	}
	if err := w.Get(t.Context(), "", "/api/v1/definitions", &defs); err != nil || len(defs.Items) != 8 {
		t.Errorf("the last good definitions stay: %v, there are %d", err, len(defs.Items))
	}
}

// submit runs a container's shell script on the host executor and waits for its end.
func submit(t *testing.T, w *story.World, name, spec, script string, limit time.Duration, act func()) (phase, message string) {
	t.Helper()
	file := filepath.Join(w.Dir, name+".yaml")
	text := fmt.Sprintf(`apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: %s}
spec:
  entrypoint: main
%s
  templates:
  - name: main
    container:
      image: docker.io/library/alpine:3
      command: [sh, -c, %q]
`, name, spec, script)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Tiphys(t.Context(), "submit", file); err != nil {
		t.Fatal(err)
	}
	if act != nil {
		act()
	}
	var d struct {
		Run struct {
			Phase   string `json:"phase"`
			Message string `json:"message"`
		} `json:"run"`
	}
	err := w.Within(t.Context(), limit, "run "+name+" ends", func(ctx context.Context) error {
		if err := w.Get(ctx, "", "/api/v1/runs/default/"+name, &d); err != nil {
			return err
		}
		if d.Run.Phase == "Running" || d.Run.Phase == "Pending" || d.Run.Phase == "" {
			return fmt.Errorf("it is %q", d.Run.Phase)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return d.Run.Phase, d.Run.Message
}

func TestStepThatIgnoresSIGTERM(t *testing.T) {
	w := server(t)
	phase, message := submit(t, w, "deaf", "", "trap '' TERM; echo up; while :; do sleep 1; done", 50*time.Second, func() {
		err := w.Within(t.Context(), 10*time.Second, "the step is up", func(ctx context.Context) error {
			out, err := w.Tiphys(ctx, "logs", "deaf")
			if err == nil && !strings.Contains(out, "up") {
				err = fmt.Errorf("its log is %q", out)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Tiphys(t.Context(), "terminate", "deaf"); err != nil {
			t.Fatal(err)
		}
	})
	if phase != "Failed" {
		t.Errorf("a terminated run is Failed: it is %s (%s)", phase, message)
	}
	// A deadline gives the step its grace period first; both are over after a few seconds.
	phase, message = submit(t, w, "deaf-and-late", "  activeDeadlineSeconds: 2\n  podSpecPatch: '{\"terminationGracePeriodSeconds\": 2}'",
		"trap '' TERM; while :; do sleep 1; done", 20*time.Second, nil)
	if phase != "Failed" {
		t.Errorf("a run beyond its deadline is Failed: it is %s (%s)", phase, message)
	}
	lives(t, w) // The cleanup finds a process that is left.
}

func TestStepThatWritesAGigabyteOfLog(t *testing.T) {
	w := server(t)
	phase, message := submit(t, w, "loud", "", "yes 0123456789012345678901234567890123456789012345678901234567890123456789 | head -c 1073741824; echo; echo the end", 4*time.Minute, nil)
	t.Logf("the run is %s %s", phase, message)
	if phase != "Succeeded" {
		t.Errorf("it is %s: %s", phase, message)
	}
	// A gigabyte is kept; of what is beyond it the log says that it is dropped.
	out, err := w.Tiphys(t.Context(), "logs", "loud", "--tail", "1")
	if err != nil || !strings.Contains(out, "the limit of") {
		t.Errorf("the log says that it was cut: %v, %.200s", err, out)
	}
	lives(t, w)
}

// push makes a repository of a name with one commit of what fill put there, and pushes it.
func push(t *testing.T, w *story.World, repo string, fill func(dir string) error) error {
	t.Helper()
	dir := filepath.Join(w.Dir, "repo-"+repo)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	git := func(args ...string) error {
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Dir = dir
		cmd.Env = w.GitEnv("Mallory", "m@example.org")
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	for _, step := range []func() error{
		func() error { return git("init", "-q", "-b", "main") },
		func() error { return fill(dir) },
		func() error { return git("add", "-A") },
		func() error { return git("commit", "-q", "--allow-empty", "-m", "Harmless") },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	return git("push", "-q", w.URL+"/git/"+repo+".git", "HEAD:refs/heads/main")
}

// A repository whose files point outside of it gives a clear error where the user looks, and nothing of what it points at.
func TestRepositoryThatPointsOutside(t *testing.T) {
	w := server(t)
	for name, files := range map[string]func(dir string) error{
		"link":   func(dir string) error { return os.Symlink("/etc/passwd", filepath.Join(dir, "deployment.yaml")) },
		"folder": func(dir string) error { return os.Symlink("/etc", filepath.Join(dir, "more")) },
		"kustomize": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte("resources: [../../../../../../../../etc/passwd]\n"), 0o600)
		},
		"remote": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte("resources: ['https://127.0.0.1:1/x.yaml']\n"), 0o600)
		},
		"bomb": func(dir string) error { return os.WriteFile(filepath.Join(dir, "bomb.yaml"), []byte(bomb()), 0o600) },
	} {
		if err := push(t, w, name, files); err != nil {
			t.Fatal(err)
		}
		path := map[string]string{"folder": "more"}[name]
		if path == "" {
			path = "."
		}
		app := fmt.Sprintf(`apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: hostile-%s}
spec:
  project: default
  source: {repoURL: "http://tiphys.localhost/git/%s.git", targetRevision: main, path: %q}
  destination: {server: https://kubernetes.default.svc, namespace: hostile}
  syncPolicy: {automated: {}}
`, name, name, path)
		file := filepath.Join(w.Dir, name+".yaml")
		if err := os.WriteFile(file, []byte(app), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Tiphys(t.Context(), "apply", file); err != nil {
			t.Fatal(err)
		}
		var text string
		err := w.Within(t.Context(), 20*time.Second, "application hostile-"+name+" says what is wrong", func(ctx context.Context) error {
			var d struct {
				App struct {
					Sync    string `json:"sync"`
					Message string `json:"message"`
				} `json:"app"`
			}
			if err := w.Get(ctx, "", "/api/v1/apps/default/hostile-"+name, &d); err != nil {
				return err
			}
			if err := w.Get(ctx, "", "/api/v1/apps/default/hostile-"+name, &text); err != nil {
				return err
			}
			if d.App.Message == "" || d.App.Sync == "Synced" {
				return fmt.Errorf("it says nothing: %.300s", text)
			}
			t.Logf("%s: %s", name, d.App.Message)
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		if strings.Contains(text, "root:x:") {
			t.Errorf("%s: /etc/passwd was read: %.500s", name, text)
		}
	}
	lives(t, w)
}

// A tree with an entry named .. is refused when it is pushed.
func TestPushOfDotDot(t *testing.T) {
	w := server(t)
	err := push(t, w, "dotdot", func(dir string) error {
		script := `blob=$(echo evil | git hash-object -w --stdin)
inner=$(printf '100644 blob %s\tevil\n' "$blob" | git mktree)
tree=$(printf '040000 tree %s\t..\n' "$inner" | git mktree)
commit=$(git -c user.name=m -c user.email=m commit-tree -m evil "$tree")
git push -q "$0" "$commit:refs/heads/evil"`
		cmd := exec.CommandContext(t.Context(), "sh", "-ec", script, w.URL+"/git/dotdot.git")
		cmd.Dir, cmd.Env = dir, w.GitEnv("Mallory", "m@example.org")
		out, err := cmd.CombinedOutput()
		if err == nil {
			return fmt.Errorf("a tree with .. was taken: %s", out)
		}
		t.Logf("refused: %s", out)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	lives(t, w)
}
