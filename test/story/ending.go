package story

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// tryOut builds and tests the repository as its developer does before a push.
func (w *World) tryOut(ctx context.Context) error {
	began := time.Now()
	for _, args := range [][]string{{"vet", "./..."}, {"test", "./..."}, {"build", "-o", os.DevNull, "./" + w.o.Names.API}} {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = w.Clone
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOTOOLCHAIN=local", "GOPROXY=off", "GOFLAGS=", "GOWORK=off")
		_, err := output(cmd, "go "+strings.Join(args, " "))
		cancel()
		if err != nil {
			return err
		}
	}
	w.tell(began, "", "Ada tests it at her desk")
	return nil
}

// ending takes the definitions away, waits until all that they made is gone, and stops the server.
func (w *World) ending(ctx context.Context) error {
	w.title("The end")
	began := time.Now()
	files, err := filepath.Glob(filepath.Join(w.Config, "*"))
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			return fmt.Errorf("take the definitions away: %w", err)
		}
	}
	if err := w.Within(ctx, time.Minute, "the applications are removed", func(ctx context.Context) error {
		var found items[appPart]
		if err := w.Get(ctx, "", "/api/v1/apps", &found); err != nil {
			return err
		}
		for _, a := range found.Items {
			if !a.Deleted {
				return fmt.Errorf("%s is still there (%s)", a.Name, a.Health.Status)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	if err := w.endRuns(ctx); err != nil {
		return err
	}
	w.Stop()
	if err := w.Clean(ctx, 20*time.Second); err != nil {
		return err
	}
	w.tell(began, "", "the definitions are taken away: all that they made is gone, and the server has stopped")
	return nil
}

// endRuns ends what a visitor started and left: steps outlive the server, which is stopped next.
func (w *World) endRuns(ctx context.Context) error {
	return w.Within(ctx, time.Minute, "the runs that were left are ended", func(ctx context.Context) error {
		var found items[runPart]
		if err := w.Get(ctx, "", "/api/v1/runs?state=Running&state=Pending", &found); err != nil {
			return err
		}
		for _, r := range found.Items {
			if _, err := w.Tiphys(ctx, "terminate", r.Name); err != nil {
				return err
			}
		}
		if len(found.Items) > 0 {
			return fmt.Errorf("%s is still going", found.Items[0].Name)
		}
		return nil
	})
}

// inNamespace tells whether a process is a pod of a Kubernetes namespace, by its shim's arguments or folder.
func (w *World) inNamespace(pid int, namespace string) bool {
	for _, name := range []string{"cmdline", "mountinfo"} {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		if err == nil && strings.Contains(string(data), namespace) {
			return true
		}
	}
	return false
}

func unmarshal(data []byte, into any) error {
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%w in %s", err, firstLine(data))
	}
	return nil
}
