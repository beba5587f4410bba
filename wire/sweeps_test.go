package wire

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/artifact/image/pack"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/manifest"
)

// calendar is a clock that begins now, since files have the time of the machine, and that the test moves on by days.
type calendar struct {
	began time.Time
	days  atomic.Int64
}

func (c *calendar) now() time.Time { return c.began.Add(time.Duration(c.days.Load()) * 24 * time.Hour) }

func sweptServer(t *testing.T) (*Server, *calendar) {
	t.Helper()
	c := &calendar{began: time.Now()}
	return opened(t, Options{Now: c.now}), c
}

func put(t *testing.T, s *Server, key, text string) {
	t.Helper()
	if _, err := s.machine.Artifacts.Put(t.Context(), key, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
}

// What a key or a manifest names stays for ever; contents that nobody names go after a day, and no sooner.
func TestSweepOfContents(t *testing.T) {
	s, c := sweptServer(t)
	put(t, s, "run/log", "kept")
	put(t, s, "run/gone", "not kept")
	put(t, s, "other/run", "kept")
	if err := s.machine.Artifacts.Delete(t.Context(), "run/gone"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	keep, err := s.machine.Images.Pack(t.Context(), "shop/api", "v1", pack.Options{Path: file})
	if err != nil {
		t.Fatal(err)
	}
	drop, err := s.machine.Images.Pack(t.Context(), "shop/api", "v2", pack.Options{Path: file, Env: []string{"A=1"}})
	if err == nil {
		err = s.machine.Images.Remove("shop/api", drop)
	}
	if err == nil {
		err = os.MkdirAll(filepath.Join(s.o.Data, "checkouts", "left"), 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, day := range []struct {
		days int64
		want map[string]float64 // removed so far
	}{
		{0, map[string]float64{"artifacts": 0, "images": 0, "checkouts": 0}},
		{2, map[string]float64{"artifacts": 1, "images": 2, "checkouts": 1}},
		{400, map[string]float64{"artifacts": 1, "images": 2, "checkouts": 1}},
	} {
		c.days.Store(day.days)
		s.sweeper.Once(t.Context())
		got := removed(t, s)
		for what, n := range day.want {
			if got[what] != n {
				t.Errorf("after %d days %v %s were removed, want %v", day.days, got[what], what, n)
			}
		}
	}
	for _, key := range []string{"run/log", "other/run"} {
		r, _, err := s.machine.Artifacts.Get(t.Context(), key)
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		if text, err := io.ReadAll(r); err != nil || string(text) != "kept" {
			t.Errorf("%s is %q, %v", key, text, err)
		}
		_ = r.Close()
	}
	if _, err := s.machine.Images.Resolve("shop/api", "v1"); err != nil {
		t.Error(err)
	}
	if r, err := s.machine.Library.Rootfs(t.Context(), RegistryHost+"/shop/api@"+keep, "", nil); err != nil || len(r.Layers) != 1 {
		t.Errorf("the image that is named is whole: %v", err)
	}
	if _, err := s.machine.Images.Resolve("shop/api", drop); !errors.Is(err, artifact.ErrNotFound) {
		t.Error(err)
	}
}

// removed reads the metric as a scrape would.
func removed(t *testing.T, s *Server) map[string]float64 {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(s.sweeper)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if len(m.GetLabel()) == 0 {
				continue
			}
			what := m.GetLabel()[0].GetValue()
			switch f.GetName() {
			case "tiphys_swept_total":
				got[what] = m.GetCounter().GetValue()
			case "tiphys_sweep_failures_total":
				if m.GetCounter().GetValue() > 0 {
					t.Errorf("the sweep of %s failed", what)
				}
			}
		}
	}
	return got
}

// A delivery's id counts once for 30 days; what guards a firing, a slot or a push does for ever.
func TestSweepOfDeliveries(t *testing.T) {
	s, c := sweptServer(t)
	base := event.Event{Namespace: "default", Source: "gitlab", Subject: "tides", Delivery: "https://gitlab.example.org/d1"}
	tick, pushed := base, base
	tick.Source, tick.Delivery = "nightly", "calendar/2026-11-01T03:30:00Z"
	pushed.Source, pushed.Subject, pushed.Delivery = "git", "team/harbour", "tiphys/push/1"
	delivery, eternal := event.DeliveryKey(base), []string{
		event.DeliveryKey(tick), event.DeliveryKey(pushed), event.FiringKey("e1/default/x/t/1"), "run-of/e1/default/x/t/1", "cron/default/nightly/2026",
	}
	claim := func(key string) error {
		return s.machine.Ledger.Write(t.Context(), ledger.On("thing/1"), func(tx ledger.Tx) error {
			_, err := tx.Append(ledger.Draft{Actor: "a", Kind: "thing.noted", Subject: "thing/1", Unique: key})
			return err
		})
	}
	for _, key := range append(eternal, delivery) {
		if err := claim(key); err != nil {
			t.Fatal(err)
		}
	}
	for _, day := range []struct {
		days int64
		free bool
	}{{1, false}, {29, false}, {31, true}, {60, false}, {62, true}} {
		c.days.Store(day.days)
		s.sweeper.Once(t.Context())
		if err := claim(delivery); (err == nil) != day.free || err != nil && !errors.Is(err, ledger.ErrExists) {
			t.Errorf("after %d days the delivery may be counted again: %t (%v), want %t", day.days, err == nil, err, day.free)
		}
		for _, key := range eternal {
			if err := claim(key); !errors.Is(err, ledger.ErrExists) {
				t.Errorf("after %d days %s may be used again: %v", day.days, key, err)
			}
		}
	}
	if rep, err := s.machine.Ledger.Verify(t.Context(), ledger.Check{Rows: true}); err != nil || !rep.Whole() {
		t.Errorf("the ledger is whole: %v %v", rep.Faults, err)
	}
}

// elsewhere is a registry of somebody else with images of one file each.
func elsewhere(t *testing.T, images ...string) string {
	t.Helper()
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(srv.Close)
	host := strings.TrimPrefix(srv.URL, "http://")
	for _, ref := range images {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		_ = w.WriteHeader(&tar.Header{Name: "f", Mode: 0o644, Size: int64(len(ref)), Typeflag: tar.TypeReg})
		_, _ = w.Write([]byte(ref))
		_ = w.Close()
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
		var img v1.Image
		if err == nil {
			img, err = mutate.AppendLayers(empty.Image, layer)
		}
		var to name.Reference
		if err == nil {
			to, err = name.ParseReference(host + "/" + ref)
		}
		if err == nil {
			err = remote.Write(to, img)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return host
}

// Layers stay while a pod runs from them, a week after their last use, and as long as an application or its history names an
// image of another registry.
func TestSweepOfLayers(t *testing.T) {
	s, c := sweptServer(t)
	host := elsewhere(t, "unused:v1", "deployed:v1", "before:v1", "live:v1")
	layer := func(ref string) string {
		t.Helper()
		r, err := s.machine.Library.Rootfs(t.Context(), ref, corev1.PullIfNotPresent, nil)
		if err != nil {
			t.Fatal(err)
		}
		return r.Layers[0]
	}
	pod := startPod(t, s)
	dirs := map[string]string{
		"running": layer(pod.Pod.Spec.Containers[0].Image), "unused": layer(host + "/unused:v1"), "deployed": layer(host + "/deployed:v1"),
		"before": layer(host + "/before:v1"), "of a run": layer(host + "/live:v1"),
	}
	deployed(t, s, host)
	submitWaiting(t, s, host+"/live:v1")
	check := func(days int64, want ...string) {
		t.Helper()
		c.days.Store(days)
		s.sweeper.Once(t.Context())
		removed(t, s)
		for what, dir := range dirs {
			_, err := os.Stat(dir)
			if is := err == nil; is != strings.Contains(strings.Join(want, ","), what) {
				t.Errorf("after %d days the layer that is %s is there: %t", days, what, is)
			}
		}
	}
	check(6, "running", "unused", "deployed", "before", "of a run")
	check(8, "running", "deployed", "before", "of a run")
	stopPod(t, s, pod.ID)
	check(9, "deployed", "before", "of a run")
}

// startPod runs a pod from an image of the built-in registry, which has no other claim to its layer.
func startPod(t *testing.T, s *Server) executor.Pod {
	t.Helper()
	dir := t.TempDir()
	source, binary := filepath.Join(dir, "main.go"), filepath.Join(dir, "app")
	text := "package main\n\nimport (\"os\"; \"os/signal\"; \"syscall\")\n\nfunc main() { c := make(chan os.Signal, 1); signal.Notify(c, syscall.SIGTERM); <-c }\n"
	if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", binary, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: not tested: the layer of a running pod stays; the pod's program cannot be built: %v: %s", err, out)
	}
	if _, err := s.machine.Images.Pack(t.Context(), "shop/wait", "v1", pack.Options{Path: binary, Entrypoint: []string{"/app"}}); err != nil {
		t.Fatal(err)
	}
	pod := executor.Pod{ID: executor.ID{Owner: "test", Node: "wait", Attempt: 1}, Pod: corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "wait", Namespace: "default"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: RegistryHost + "/shop/wait:v1"}}},
	}}
	if err := s.machine.Executors.Start(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	awaitPhase(t, s, executor.Running)
	t.Cleanup(func() { _ = s.machine.Executors.Stop(context.WithoutCancel(t.Context()), pod.ID, 0) })
	return pod
}

func awaitPhase(t *testing.T, s *Server, want executor.Phase) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		select {
		case rep := <-s.machine.Executors.Reports():
			if rep.Phase == want {
				return
			}
			if rep.Phase.Done() {
				t.Fatalf("the pod is %s: %s", rep.Phase, rep.Message)
			}
		case <-ctx.Done():
			t.Fatalf("the pod does not become %s", want)
		}
	}
}

func stopPod(t *testing.T, s *Server, id executor.ID) {
	t.Helper()
	if err := s.machine.Executors.Stop(t.Context(), id, time.Second); err != nil {
		t.Fatal(err)
	}
	awaitPhase(t, s, executor.Failed)
	if err := s.machine.Executors.Acknowledge(t.Context(), id); err != nil {
		t.Fatal(err)
	}
}

// submitWaiting makes a run that waits for a person before a step of an image.
func submitWaiting(t *testing.T, s *Server, ref string) {
	t.Helper()
	objects, diags := manifest.Decode("w.yaml", []byte(`apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: waits}
spec:
  entrypoint: main
  templates:
  - name: main
    steps: [[{name: ask, template: ask}], [{name: go, template: go}]]
  - {name: ask, suspend: {}}
  - {name: go, container: {image: "`+ref+`", command: [/f]}}
`))
	if manifest.Failed(diags) {
		t.Fatal(diags)
	}
	if _, err := s.machine.Runs.Submit(t.Context(), runs.Submission{Object: objects[0]}); err != nil {
		t.Fatal(err)
	}
}

// deployed records an application that runs one image and ran another.
func deployed(t *testing.T, s *Server, host string) {
	t.Helper()
	for _, ref := range []string{host + "/before:v1", host + "/deployed:v1"} {
		images := map[string]string{"x": ref}
		entry := deploy.ApplicationEntry{
			Application: deploy.ApplicationRow{Namespace: "default", Name: "shop", Images: images},
			Deployment:  &deploy.Deployment{Application: "default/shop", Commit: "c", Images: images, Since: s.o.Now()},
		}
		err := s.machine.Ledger.Write(t.Context(), ledger.On("application/default/shop"), func(tx ledger.Tx) error {
			_, err := tx.Append(ledger.Draft{Actor: "a", Kind: deploy.KindSyncFinished, Subject: "application/default/shop", Body: entry})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
