package definitions_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/control"
	"github.com/tiphys/tiphys/control/definitions"
)

// A folder that cannot be loaded says so until it can be; nobody has to read the log for it.
func TestFolderThatCannotBeLoaded(t *testing.T) {
	b := open(t)
	dir := t.TempDir()
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("kind: [")
	f := definitions.NewFolder(dir, b.store, slog.New(slog.DiscardHandler))
	loaded := make(chan error, 16)
	f.Loaded = func(_ definitions.Change, err error) { loaded <- err }
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	await := func(fails bool) {
		t.Helper()
		for deadline := time.After(time.Minute); ; {
			select {
			case err := <-loaded:
				if (err != nil) == fails {
					return
				}
			case <-deadline:
				t.Fatal("the folder is not loaded")
			}
		}
	}
	await(true)
	if h := f.Health(); h.State != control.Waiting || !strings.Contains(h.Reason, "a.yaml:1") {
		t.Errorf("%+v", h)
	}
	write("{apiVersion: v1, kind: ConfigMap, metadata: {name: chart, namespace: default}, data: {a: b}}")
	await(false)
	if h := f.Health(); h != (control.Health{}) {
		t.Errorf("%+v", h)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
