// Package e2e plays the whole program: the demo's story, again with other names, and again while the server is killed;
// and what hostile or careless users send. It needs root, Go and Git, and TIPHYS_E2E=1.
package e2e

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/test/story"
)

// root is the repository, seen from this folder.
const root = "../.."

// options play the demo's story with the program that `make build` made.
func options(t *testing.T) story.Options {
	t.Helper()
	if os.Getenv("TIPHYS_E2E") == "" {
		t.Skip("SKIPPED: set TIPHYS_E2E=1 to play the whole program; make test-e2e does")
	}
	tiphys := filepath.Join(root, "bin", "tiphys")
	if other := os.Getenv("TIPHYS_BIN"); other != "" {
		tiphys = other
	}
	if _, err := os.Stat(tiphys); err != nil {
		t.Fatalf("build the program first (make build): %v", err)
	}
	return story.Options{
		Tiphys: tiphys, Sample: filepath.Join(root, "examples", "harbour"),
		Deliveries: filepath.Join(root, "event", "testdata", "gitlab"), Out: &lines{t: t},
		Egress: []string{"127.0.0.0/8"}, // registries of tests are on loopback
		Grants: []string{
			"{to: {repositories: [fort], mergeRequests: true}, executors: [host]}",
			// Steps leave folders outside of their pods, which count what was done.
			"{to: {repositories: ['*'], mergeRequests: true}, pods: privileged}", "{to: {roles: [admin]}, pods: privileged}",
		},
	}
}

// lines writes whole lines to a test's log.
type lines struct {
	t    *testing.T
	rest []byte
}

func (l *lines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, whole := bytes.Cut(l.rest, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		if len(line) > 0 {
			l.t.Log(string(line))
		}
		l.rest = rest
	}
}

func play(t *testing.T, o story.Options) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	if err := story.Play(ctx, o); err != nil {
		t.Fatal(err)
	}
}

func TestStory(t *testing.T) {
	o := options(t)
	o.Stay = func(ctx context.Context, w *story.World) error {
		if err := w.Once(ctx); err != nil {
			return err
		}
		// As after a reboot nothing runs but the server; it starts again what should run, and deploys nothing anew.
		if err := w.PowerCut(); err != nil {
			return err
		}
		if err := w.ProductionRuns(ctx); err != nil {
			return err
		}
		return w.Once(ctx)
	}
	play(t, o)
}

// Nothing in the program knows the harbour: the same holds of a repository and services of other names.
func TestStoryOfAnotherRepository(t *testing.T) {
	o := options(t)
	o.Names = story.Names{Repo: "orchard", API: "stock", Web: "shop", Worker: "picker"}
	play(t, o)
}

func TestStoryWhileTheServerIsKilled(t *testing.T) {
	o := options(t)
	witness := t.TempDir()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // moments, not secrets
	o.Rough = true
	o.Edit = func(dir string) error { return witnessed(dir, witness) }
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended, kills := make(chan struct{}), 0
	o.Began = func(w *story.World) {
		go func() {
			defer close(ended)
			for {
				wait := time.NewTimer(time.Duration(random.IntN(3000)) * time.Millisecond)
				select {
				case <-ctx.Done():
					wait.Stop()
					return
				case <-wait.C:
				}
				// Every third kill ends the whole process group, as a terminal that is closed does.
				if err := w.KillAndRestart(kills%3 == 2); err != nil {
					return
				}
				kills++
			}
		}()
	}
	o.Stay = func(ctx context.Context, w *story.World) error {
		stop()
		<-ended
		return w.Once(ctx)
	}
	play(t, o)
	t.Logf("the server was killed %d times", kills)
	if kills < 3 {
		t.Errorf("the server was killed %d times only", kills)
	}
}

// witnessed lets every step that does something leave a folder that it makes exclusively: a step that is repeated fails.
func witnessed(dir, witness string) error {
	commit := "{{workflow.parameters.commit}}"
	for _, file := range []string{"pipeline.yaml", "mr.yaml"} {
		path := filepath.Join(dir, "ci", file)
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		text := string(data)
		for _, change := range []struct{ old, replacement string }{
			{"  entrypoint: pipeline\n", fmt.Sprintf("  entrypoint: pipeline\n  volumes:\n  - name: witness\n    hostPath: {path: %s, type: Directory}\n", witness)},
			{"      command: [sh, -ec]\n", "      command: [sh, -ec]\n      volumeMounts: [{name: witness, mountPath: /witness}]\n"},
			{"      command: [sh, -e]\n", "      command: [sh, -e]\n      volumeMounts: [{name: witness, mountPath: /witness}]\n"},
			{"        go vet ./...\n", "        mkdir /witness/test-" + commit + "\n        go vet ./...\n"},
			{"        version=$(git", "        mkdir /witness/build-$SERVICE-" + commit + "\n        version=$(git"},
			{"        set --\n", "        mkdir /witness/release-" + commit + "\n        set --\n"},
		} {
			if !strings.Contains(text, change.old) {
				return fmt.Errorf("%s has no %q", path, change.old)
			}
			text = strings.ReplaceAll(text, change.old, change.replacement)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil { //nolint:gosec // a file of the repository
			return err
		}
	}
	return nil
}
