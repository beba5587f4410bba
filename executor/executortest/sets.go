package executortest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/manifest"
)

// containerSet follows Argo's containerSet templates: a container starts after those that it depends on and is left
// out if one of them failed (examples/container-set-template), and is run again in the same pod
// (functional/TestContainerSetRetryFail).
func containerSet(b *bench) {
	set := func(a, main string) executor.Pod {
		p := b.pod(main)
		p.Pod.Spec.Volumes = []corev1.Volume{{Name: "work", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		mounts := []corev1.VolumeMount{{Name: "work", MountPath: "/desk"}}
		p.Pod.Spec.Containers[0].VolumeMounts = mounts
		p.Pod.Spec.Containers = append(p.Pod.Spec.Containers, corev1.Container{
			Name: "a", Image: b.setup.Image, VolumeMounts: mounts, Command: []string{"sh", "-c", a},
		})
		p.Set, p.After = []string{"a", "main"}, map[string][]string{"main": {"a"}}
		p.Outputs = executor.Outputs{Result: true}
		return p
	}
	p := set("sleep 0.1; echo of a; echo x > /desk/x", "cat /desk/x")
	r := b.run(p)
	b.check(r, executor.Succeeded, 0, "")
	if deref(r.Result) != "x" {
		b.Errorf("result %q, want that of main", deref(r.Result))
	}
	r = b.run(set("exit 3", "echo must not run"))
	b.check(r, executor.Failed, 3, "a: Error (exit code 3)")
	if len(r.Containers) != 1 {
		b.Errorf("main was run: %+v", r.Containers)
	}
	again := "test -e /desk/x || { touch /desk/x; exit 1; }"
	p = set(again, "true")
	p.Again, p.AgainWait = 1, 10*time.Millisecond
	b.check(b.run(p), executor.Succeeded, 0, "")
	p = set("exit 4", "true")
	p.Again = 2
	b.check(b.run(p), executor.Failed, 4, "a: Error (exit code 4)")
	// Main ends first, and the pod with the last of the set.
	p = set("sleep 0.2; echo late > /desk/x", "true")
	p.After = nil
	p.Outputs.Parameters = []manifest.Parameter{{Name: "x", ValueFrom: &manifest.ValueFrom{Path: "/desk/x"}}}
	r = b.run(p)
	b.check(r, executor.Succeeded, 0, "")
	if r.Parameters["x"] != "late" {
		b.Errorf("parameters %v, want what was written last", r.Parameters)
	}
}

// setPod is a pod whose containers are a set: name and script of each, in this order. All of them share /desk and the
// folder that is given as /shared.
func (b *bench) setPod(shared string, scripts ...[2]string) executor.Pod {
	p := b.pod("")
	desk := corev1.Volume{Name: "desk", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}
	out := corev1.Volume{Name: "shared", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: shared}}}
	p.Pod.Spec.Volumes = []corev1.Volume{desk, out}
	p.Pod.Spec.Containers, p.Main = nil, ""
	for _, s := range scripts {
		p.Pod.Spec.Containers = append(p.Pod.Spec.Containers, corev1.Container{
			Name: s[0], Image: b.setup.Image, Command: []string{"sh", "-c", s[1]},
			VolumeMounts: []corev1.VolumeMount{{Name: "desk", MountPath: "/desk"}, {Name: "shared", MountPath: "/shared"}},
		})
		p.Set = append(p.Set, s[0])
		if s[0] == "main" {
			p.Main = "main"
		}
	}
	return p
}

func (b *bench) read(path string) string {
	b.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		b.Error(err)
	}
	return string(data)
}

// Argo's containers of a set form a graph: "a container starts when those that it depends on have ended" (Argo
// Workflows docs, container-set-template.md; examples/container-set-template/graph-workflow.yaml is such a diamond).
func setOrder(b *bench) {
	shared := b.TempDir()
	say := func(name string) [2]string {
		return [2]string{name, "echo begin " + name + " >> /desk/order; sleep 0.1; echo end " + name + " >> /desk/order; cp /desk/order /shared/"}
	}
	p := b.setPod(shared, say("d"), say("c"), say("b"), say("a")) // the graph orders them, not the list
	p.After = map[string][]string{"d": {"b", "c"}, "b": {"a"}, "c": {"a"}}
	b.check(b.run(p), executor.Succeeded, 0, "")
	lines := strings.Split(strings.TrimSpace(b.read(filepath.Join(shared, "order"))), "\n")
	at := map[string]int{}
	for i, l := range lines {
		at[l] = i
	}
	for _, pair := range [][2]string{
		{"end a", "begin b"}, {"end a", "begin c"}, {"end b", "begin d"}, {"end c", "begin d"}, {"begin c", "end b"}, {"begin b", "end c"},
	} {
		if at[pair[0]] > at[pair[1]] || len(lines) != 8 {
			b.Errorf("%q is not before %q: %v", pair[0], pair[1], lines)
		}
	}
}

// One container's failure is the pod's; what depends on it is left out, what does not runs to its end: they are
// containers of one Kubernetes pod, and its wait container waits for all of them.
func setFailures(b *bench) {
	shared := b.TempDir()
	p := b.setPod(shared,
		[2]string{"bad", "exit 7"}, [2]string{"after", "touch /shared/after"}, [2]string{"later", "touch /shared/later"},
		[2]string{"beside", "sleep 0.2; touch /shared/beside; exit 9"})
	p.After = map[string][]string{"after": {"bad"}, "later": {"after"}}
	r := b.run(p)
	b.check(r, executor.Failed, 7, "bad: Error (exit code 7)")
	ended := map[string]int32{}
	for _, c := range r.Containers {
		if c.State.Terminated != nil {
			ended[c.Name] = c.State.Terminated.ExitCode
		}
	}
	if fmt.Sprint(ended) != "map[bad:7 beside:9]" {
		b.Errorf("ended: %v", ended)
	}
	entries, _ := os.ReadDir(shared)
	if len(entries) != 1 || entries[0].Name() != "beside" {
		b.Errorf("wrote %v, want only what does not depend on the failed one", entries)
	}
	p = b.setPod(shared, [2]string{"main", "true"}, [2]string{"lost", ""})
	p.Pod.Spec.Containers[1].Command = []string{"/no/such/program"}
	p.After = map[string][]string{"main": {"lost"}}
	r = b.run(p)
	if r.Phase != executor.Failed || r.ExitCode == nil || *r.ExitCode != 64 || !strings.HasPrefix(r.Message, "lost: Error (exit code 64): ") {
		b.Errorf("a command that is not there: %s %v %q", r.Phase, r.ExitCode, r.Message)
	}
}

// Only the container that failed is run again, with what it and others left on volumes (Argo Workflows docs,
// fields.md, ContainerSetRetryStrategy: "retries: Nbr of retries", "duration: the time between each retry").
func setRetries(b *bench) {
	shared := b.TempDir()
	p := b.setPod(shared,
		[2]string{"once", "echo run >> /shared/once"},
		[2]string{"flaky", `echo run >> /shared/flaky; date +%s%N >> /shared/times; test "$(wc -l < /shared/flaky)" -ge 3`},
		[2]string{"next", "echo run >> /shared/next"})
	p.After = map[string][]string{"flaky": {"once"}, "next": {"flaky"}}
	p.Again, p.AgainWait = 3, 150*time.Millisecond
	b.check(b.run(p), executor.Succeeded, 0, "")
	for name, want := range map[string]int{"once": 1, "flaky": 3, "next": 1} {
		if got := strings.Count(b.read(filepath.Join(shared, name)), "run"); got != want {
			b.Errorf("%s ran %d times, want %d", name, got, want)
		}
	}
	var times [3]int64
	_, _ = fmt.Sscan(b.read(filepath.Join(shared, "times")), &times[0], &times[1], &times[2])
	if wait := time.Duration(times[1] - times[0]); wait < p.AgainWait {
		b.Errorf("ran again after %s", wait)
	}
}

// Stopping reaches all containers, ends the wait for another try, and begins none that has not begun. So does a deadline.
func setEnds(b *bench) {
	shared := b.TempDir()
	trap := func(name string) [2]string {
		return [2]string{name, "trap 'touch /shared/stopped-" + name + "; exit 3' TERM; touch /shared/" + name + "; while :; do sleep 0.02; done"}
	}
	p := b.setPod(shared, trap("a"), trap("b"), [2]string{"c", "touch /shared/c"}, [2]string{"again", "touch /shared/again; exit 1"})
	p.After = map[string][]string{"c": {"a"}}
	p.Again, p.AgainWait = 5, time.Hour
	b.start(p)
	for limit := time.Now().Add(patience); ; <-time.After(5 * time.Millisecond) {
		if entries, _ := os.ReadDir(shared); len(entries) == 3 {
			break
		} else if time.Now().After(limit) {
			b.Fatalf("only %v", entries)
		}
	}
	if err := b.ex.Stop(b.context(), p.ID, 20*time.Second); err != nil {
		b.Fatal(err)
	}
	r := b.final(p.ID)
	b.acknowledge(p.ID)
	if r.Phase != executor.Failed || r.Reason != executor.ReasonStopped {
		b.Errorf("%s %s %s", r.Phase, r.Reason, r.Message)
	}
	for _, name := range []string{"stopped-a", "stopped-b"} {
		if _, err := os.Stat(filepath.Join(shared, name)); err != nil {
			b.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(shared, "c")); err == nil {
		b.Error("a container began after the stop")
	}
	p = b.setPod(b.TempDir(), [2]string{"a", "sleep 1000"}, [2]string{"b", "true"})
	p.After = map[string][]string{"b": {"a"}}
	p.Deadline = time.Now().Add(300 * time.Millisecond)
	r = b.run(p)
	if r.Phase != executor.Failed || r.Reason != executor.ReasonDeadline {
		b.Errorf("after the deadline: %s %s %s", r.Phase, r.Reason, r.Message)
	}
}

// "As with the container and script templates, inputs and outputs can only be loaded and saved from a container named
// main" (Argo Workflows docs, container-set-template.md). Each container has a log of its own.
func setOutputs(b *bench) {
	shared := b.TempDir()
	p := b.setPod(shared, [2]string{"a", "echo of a; echo a > /out"}, [2]string{"main", "echo of main; echo main > /out"})
	p.After = map[string][]string{"main": {"a"}}
	p.Outputs = executor.Outputs{Result: true, Parameters: []manifest.Parameter{fileParameter("out", "/out"), fileParameter("none", "/none")}}
	r := b.run(p)
	b.check(r, executor.Succeeded, 0, "")
	if deref(r.Result) != "of main" || r.Parameters["out"] != "main" || len(r.Missing) != 1 || r.Missing[0] != "none" {
		b.Errorf("result %q, parameters %v, missing %v", deref(r.Result), r.Parameters, r.Missing)
	}
	for _, name := range []string{"a", "main"} {
		log, err := b.ex.Logs.Logs(b.context(), p.ID, name, executor.LogOptions{})
		if err != nil {
			b.Fatal(err)
		}
		buf := make([]byte, 100)
		n, _ := log.Read(buf)
		_ = log.Close()
		if got := string(buf[:n]); got != "of "+name+"\n" {
			b.Errorf("log of %s: %q", name, got)
		}
	}
	p = b.setPod(shared, [2]string{"a", "echo of a"}, [2]string{"b", "echo of b"})
	r = b.run(p)
	b.check(r, executor.Succeeded, 0, "")
	if r.Result != nil {
		b.Errorf("without a main container the result is %q", *r.Result)
	}
}
