package local_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/local"
	"github.com/tiphys/tiphys/manifest"
)

// saver saves artifacts nowhere, and does something when it does.
type saver struct{ then func() }

func (saver) Fetch(context.Context, manifest.Artifact, string) error { return nil }

func (s saver) Save(_ context.Context, a manifest.Artifact, _, src string) (artifact.Saved, error) {
	if _, err := os.Stat(src); err != nil {
		return artifact.Saved{}, err
	}
	s.then()
	return artifact.Saved{Artifact: a}, nil
}

// fill takes all that is left on a disk; what it returns gives it back.
func fill(t *testing.T, disk string) (free func()) {
	t.Helper()
	path := filepath.Join(disk, "full")
	f, err := os.Create(path)
	if err != nil {
		t.Error(err)
		return func() {}
	}
	for size := 1 << 20; size > 0; size /= 2 {
		for {
			if _, err := f.Write(make([]byte, size)); err != nil {
				break
			}
		}
	}
	_ = f.Close()
	return func() { _ = os.Remove(path) }
}

// A disk that is full when a pod's artifacts were saved costs neither the step its success nor the artifacts their names: the pod is held
// until the report is kept, by the next server if this one is stopped first.
func TestADiskThatIsFullWhenArtifactsWereSaved(t *testing.T) {
	needRoot(t)
	for _, stopped := range []bool{false, true} {
		disk := smallDisk(t, 16<<20)
		dir := filepath.Join(disk, "pods")
		var free func()
		saved := make(chan struct{})
		var once sync.Once
		e := open(t, dir, func(o *local.Options) {
			o.Mover = saver{func() { once.Do(func() { free = fill(t, disk); close(saved) }) }}
		})
		p := shell(t, "echo cargo > /cargo")
		p.Outputs.Artifacts = []manifest.Artifact{{Name: "cargo", Path: "/cargo"}}
		if err := e.Start(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		<-saved
		eventually(t, "it is shown", func() bool { return e.Trouble() != "" })
		if stopped {
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
		}
		free()
		if stopped {
			e = open(t, dir, func(o *local.Options) { o.Mover = saver{func() {}} })
		}
		r := report(t, e, done)
		if r.Phase != executor.Succeeded || len(r.Saved) != 1 || e.Trouble() != "" {
			t.Errorf("stopped %v: %+v, %q", stopped, r, e.Trouble())
		}
		if err := e.Acknowledge(t.Context(), p.ID); err != nil {
			t.Error(err)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A lock that is held for a moment, as by a child which a killed server was about to make, is waited for.
func TestALockThatIsHeldForAMoment(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	first := open(t, dir)
	released := make(chan error, 1)
	go func() {
		<-time.After(50 * time.Millisecond)
		released <- first.Close()
	}()
	second := open(t, dir)
	if err := <-released; err != nil {
		t.Error(err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
}
