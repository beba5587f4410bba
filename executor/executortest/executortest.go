// Package executortest is the suite that every executor runs.
package executortest

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/secret"
)

// patience is the deadline of every wait.
const patience = 30 * time.Second

// Setup says how to make what is tested.
type Setup struct {
	// New opens an executor on a state folder; the suite closes it.
	New func(t *testing.T, dir string) executor.Named
	// Image is what the suite's pods name. HostView says that they see this machine's own files instead, under a layer of
	// their own.
	Image    string
	HostView bool
	// Bound says that pods end with their executor, so nothing is asked of one that comes after it.
	Bound bool
	// Only names the cases to run where another suite of the same executor has the rest; all if empty.
	Only []string
	// Leftovers describes what must not be there once all pods are acknowledged and the
	// executor is closed; may be nil.
	Leftovers func(dir string) string
}

// Run runs the suite.
func Run(t *testing.T, s Setup) {
	list := cases()
	for _, name := range s.Only {
		if !slices.ContainsFunc(list, func(c testCase) bool { return c.name == name }) {
			t.Errorf("there is no case %q", name)
		}
	}
	for _, c := range list {
		if s.Bound && c.outlives || len(s.Only) > 0 && !slices.Contains(s.Only, c.name) {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			b := &bench{T: t, setup: s, dir: t.TempDir(), seen: map[executor.ID][]executor.Report{}}
			b.open()
			t.Cleanup(b.close)
			c.test(b)
			b.close()
			if s.Leftovers != nil {
				b.leftovers()
			}
		})
	}
}

// bench is one executor on one folder.
type bench struct {
	*testing.T
	setup  Setup
	dir    string
	ex     executor.Named
	isOpen bool
	seen   map[executor.ID][]executor.Report
	next   atomic.Int64
}

func (b *bench) open() { b.ex, b.isOpen = b.setup.New(b.T, b.dir), true }

func (b *bench) close() {
	if !b.isOpen {
		return
	}
	if err := b.ex.Executor.Close(); err != nil {
		b.Errorf("close: %v", err)
	}
	b.isOpen = false
}

func (b *bench) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	b.Cleanup(cancel)
	return ctx
}

// pod makes a pod with one container, main, that runs a shell script.
func (b *bench) pod(script string) executor.Pod {
	n := b.next.Add(1)
	p := executor.Pod{
		ID:   executor.ID{Owner: "suite", Node: fmt.Sprintf("%s-%d", strings.ReplaceAll(b.Name(), "/", "-"), n)},
		Main: "main",
	}
	p.Pod.Name, p.Pod.Namespace = "pod", "default"
	p.Pod.Spec.Containers = []corev1.Container{{Name: "main", Image: b.setup.Image, Command: []string{"sh", "-c", script}}}
	return p
}

func (b *bench) start(p executor.Pod) {
	b.Helper()
	if err := b.ex.Start(b.context(), p); err != nil {
		b.Fatalf("start: %v", err)
	}
}

// await reads reports until one of this pod satisfies want.
func (b *bench) await(id executor.ID, what string, want func(executor.Report) bool) executor.Report {
	b.Helper()
	for _, r := range b.seen[id] {
		if want(r) {
			return r
		}
	}
	limit := time.After(patience)
	for {
		select {
		case r, ok := <-b.ex.Reports():
			if !ok {
				b.Fatalf("reports ended while waiting for %s", what)
			}
			b.seen[r.ID] = append(b.seen[r.ID], r)
			if r.ID == id && want(r) {
				return r
			}
		case <-limit:
			b.Fatalf("no report that %s; had %+v", what, b.seen[id])
		}
	}
}

func (b *bench) running(id executor.ID) {
	b.Helper()
	b.await(id, "it runs", func(r executor.Report) bool { return r.Phase == executor.Running })
}

func (b *bench) final(id executor.ID) executor.Report {
	b.Helper()
	return b.await(id, "it ended", func(r executor.Report) bool { return r.Phase.Done() })
}

// run runs a pod to its end and acknowledges it.
func (b *bench) run(p executor.Pod) executor.Report {
	b.Helper()
	b.start(p)
	r := b.final(p.ID)
	b.acknowledge(p.ID)
	return r
}

func (b *bench) acknowledge(id executor.ID) {
	b.Helper()
	if err := b.ex.Acknowledge(b.context(), id); err != nil {
		b.Fatalf("acknowledge: %v", err)
	}
}

func (b *bench) log(id executor.ID, o executor.LogOptions) string {
	b.Helper()
	r, err := b.ex.Logs.Logs(b.context(), id, "main", o)
	if err != nil {
		b.Fatalf("logs: %v", err)
	}
	defer func() { _ = r.Close() }()
	data, err := io.ReadAll(r)
	if err != nil {
		b.Fatalf("read log: %v", err)
	}
	return string(data)
}

func (b *bench) leftovers() {
	b.Helper()
	limit := time.Now().Add(patience)
	for {
		left := b.setup.Leftovers(b.dir)
		if left == "" {
			return
		}
		if time.Now().After(limit) {
			b.Fatalf("left behind:\n%s", left)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// check compares phase, exit code and message.
func (b *bench) check(r executor.Report, phase executor.Phase, code int, message string) {
	b.Helper()
	if r.Phase != phase || r.ExitCode == nil || *r.ExitCode != code || r.Message != message {
		got := -1
		if r.ExitCode != nil {
			got = *r.ExitCode
		}
		b.Errorf("got %s, code %d, reason %q, message %q; want %s, code %d, message %q", r.Phase, got, r.Reason, r.Message, phase, code, message)
	}
}

// mounted brings a folder of this machine to path in the pod.
func mounted(p *executor.Pod, path, source string) {
	const name = "shared"
	p.Pod.Spec.Volumes = append(p.Pod.Spec.Volumes, corev1.Volume{
		Name: name, VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: source}},
	})
	c := &p.Pod.Spec.Containers[0]
	c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: name, MountPath: path})
}

func fileParameter(name, path string) manifest.Parameter {
	return manifest.Parameter{Name: name, ValueFrom: &manifest.ValueFrom{Path: path}}
}

func exists(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}

func quantity(text string) *resource.Quantity {
	q := resource.MustParse(text)
	return &q
}

func secrets(values ...string) []secret.Value {
	var list []secret.Value
	for _, v := range values {
		list = append(list, secret.New(v))
	}
	return list
}
