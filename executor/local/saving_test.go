package local_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/local"
	"github.com/tiphys/tiphys/manifest"
)

// A step left a file with a hole of which the saving would take minutes; it was stopped meanwhile, and ends then.
func TestSavingArtifactsObeysStop(t *testing.T) {
	needRoot(t)
	var begun sync.Once
	ended := make(chan struct{})
	e := open(t, t.TempDir(), withImages, withStore(t), func(o *local.Options) {
		o.Grace = time.Millisecond
		o.Fault = func(point string) {
			if point == "exit-record" {
				begun.Do(func() { close(ended) })
			}
		}
	})
	defer func() { _ = e.Close() }()
	p := shell(t, "truncate -s 31G /hole")
	p.Outputs.Artifacts = []manifest.Artifact{key("hole", "/hole", "run/hole.tgz")}
	if err := e.Start(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	<-ended
	if err := e.Stop(context.Background(), p.ID, 0); err != nil {
		t.Fatal(err)
	}
	r := report(t, e, func(r executor.Report) bool { return r.ID == p.ID && r.Phase.Done() })
	if r.Phase != executor.Failed || r.Reason != executor.ReasonStopped || len(r.Saved) != 0 {
		t.Errorf("%s %s %q, saved %v", r.Phase, r.Reason, r.Message, r.Saved)
	}
}

// parameter has an output parameter read from a file.
func parameter(name, path string) manifest.Parameter {
	return manifest.Parameter{Name: name, ValueFrom: &manifest.ValueFrom{Path: path}}
}

// What a step leaves where its outputs are wanted is read with its own rights: a link to what it may not read gives nothing, nor does what is no file.
func TestOutputsAreReadAsTheStepsUser(t *testing.T) {
	needRoot(t)
	paths := map[string]string{
		"own": "/out/own", "link": "/out/link", "secret": "/out/secret", "shadow": "/out/shadow", "fifo": "/out/fifo", "device": "/out/zero", "log": "/proc/kmsg", "first": "/proc/1/environ",
		"others": "/out/others", "folder": "/out", "escape": "/out/escape",
	}
	script := `mkdir -p /out; cd /out; echo mine > own; ln -s own link; ln -s /etc/shadow shadow; ln -s /secret secret; mkfifo fifo; ln -s /dev/zero zero; ln -s ../../../../../../etc/hostname escape; true`
	for name, c := range map[string]struct {
		user            int64
		host, hostUsers bool
		script          string
		missing         []string
	}{
		"user":                 {1000, false, false, script, []string{"device", "fifo", "first", "folder", "log", "others", "secret", "shadow"}},
		"user of this machine": {1000, false, true, script, []string{"device", "fifo", "first", "folder", "log", "others", "secret", "shadow"}},
		"user on the machine":  {1000, true, false, script, []string{"device", "fifo", "first", "folder", "log", "others", "secret", "shadow"}},
		"root":                 {0, false, false, script + "; echo secret > /secret; chmod 600 /secret; echo theirs > others; chown 1000 others; chmod 600 others", []string{"device", "fifo", "first", "folder", "log"}},
		// Whoever is root of this machine by a grant sees the environment of our init, which holds nothing.
		"root of this machine": {0, false, true, script + "; echo secret > /secret; chmod 600 /secret; echo theirs > others; chown 1000 others; chmod 600 others", []string{"device", "fifo", "folder", "log"}},
	} {
		t.Run(name, func(t *testing.T) {
			e := open(t, t.TempDir(), withImages)
			if c.host {
				e = e.Host()
			}
			defer func() { _ = e.Close() }()
			p := shell(t, c.script)
			p.Pod.Spec.HostUsers = &c.hostUsers
			if !c.hostUsers {
				p.Pod.Spec.HostUsers = nil
			}
			p.Pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: &c.user, RunAsGroup: &c.user}
			// The folder is made by root, and the step may write to it.
			p.Pod.Spec.Volumes = []corev1.Volume{{Name: "out", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
			p.Pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "out", MountPath: "/out"}}
			for name, path := range paths {
				p.Outputs.Parameters = append(p.Outputs.Parameters, parameter(name, path))
			}
			r := run(t, e, p)
			if diff := cmp.Diff(c.missing, r.Missing); diff != "" {
				t.Errorf("%s %s: %s\n%s", r.Phase, r.Message, diff, fmt.Sprint(r.Parameters))
			}
			if r.Parameters["own"] != "mine" || r.Parameters["link"] != "mine" {
				t.Errorf("%v", r.Parameters)
			}
		})
	}
}

// What is saved of a step is read with the rights of its user: neither a link nor a folder gives it what only another user may read, and what is
// no file is not waited for.
func TestArtifactsAreReadAsTheStepsUser(t *testing.T) {
	needRoot(t)
	script := `mkdir -p /out/tree/below; cd /out; echo mine > own; echo mine > tree/below/own; ln -s /etc/shadow tree/link; ln -s own link
ln -s /etc/shadow shadow; mkfifo fifo; mkfifo tree/fifo; ln -s /dev/zero zero; ln -s /proc/1/environ first
mkdir closed; echo hidden > closed/a; true`
	for name, c := range map[string]struct {
		user            int64
		host, hostUsers bool
	}{
		"user": {1000, false, false}, "user of this machine": {1000, false, true}, "user on the machine": {1000, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			e := open(t, t.TempDir(), withImages, withStore(t))
			if c.host {
				e = e.Host()
			}
			defer func() { _ = e.Close() }()
			for path, want := range map[string]string{
				"/out/own": "", "/out/link": "", "/out/tree": "", "/out/shadow": "permission denied", "/etc/shadow": "permission denied",
				"/out/fifo": "neither a file nor a folder", "/out/zero": "neither a file nor a folder", "/out/first": "permission denied",
				"/proc/1/environ": "permission denied", "/root": "permission denied", "/out/none": "no such file",
			} {
				p := shell(t, script)
				p.ID.Node = t.Name() + path
				p.Pod.Spec.HostUsers = &c.hostUsers
				if !c.hostUsers {
					p.Pod.Spec.HostUsers = nil
				}
				p.Pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: &c.user, RunAsGroup: &c.user}
				p.Pod.Spec.Volumes = []corev1.Volume{{Name: "out", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
				p.Pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "out", MountPath: "/out"}}
				p.Outputs.Artifacts = []manifest.Artifact{key("a", path, "run/a.tgz")}
				r := run(t, e, p)
				if (r.Phase == executor.Succeeded) != (want == "") || !strings.Contains(r.Message, want) || (len(r.Saved) == 1) != (want == "") {
					t.Errorf("%s: %s %q, saved %d, want %q", path, r.Phase, r.Message, len(r.Saved), want)
				}
			}
		})
	}
}
