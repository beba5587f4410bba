package local

import (
	"fmt"
	"iter"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/executor"
)

// checker collects what of a pod cannot be had.
type checker struct {
	e        *Executor
	pod      executor.Pod
	host     bool
	problems []executor.Problem
}

func (c *checker) fatal(path, format string, args ...any) {
	c.problems = append(c.problems, executor.Problem{Path: path, Message: fmt.Sprintf(format, args...), Fatal: true})
}

func (c *checker) note(path, message string) {
	c.problems = append(c.problems, executor.Problem{Path: path, Message: message})
}

// check is View.Check.
func (e *Executor) check(p executor.Pod, host bool) []executor.Problem {
	c := &checker{e: e, pod: p, host: host}
	spec := &p.Pod.Spec
	if len(spec.Containers) == 0 {
		c.fatal("spec.containers", "the pod has no container")
	}
	if p.Main != "" && !hasContainer(spec.Containers, p.Main) {
		c.fatal("spec.containers", "there is no container %q", p.Main)
	}
	if p.ID.Node == "" || p.ID.Owner == "" || p.ID.Attempt < 0 {
		c.fatal("id", "an attempt needs an owner, a node and a number")
	}
	names := map[string]bool{}
	for path, container := range containers(spec) {
		if names[container.Name] || container.Name == "" {
			c.fatal(path+".name", "a container needs a name of its own")
		}
		names[container.Name] = true
		c.container(path, container)
	}
	if s := spec.SecurityContext; s != nil {
		c.seccomp("spec.securityContext", s.SeccompProfile)
	}
	c.volumes(spec)
	c.hostUsers(spec)
	c.podFields(spec)
	c.limits(spec)
	return c.problems
}

func hasContainer(list []corev1.Container, name string) bool {
	for i := range list {
		if list[i].Name == name {
			return true
		}
	}
	return false
}

func (c *checker) container(path string, s *corev1.Container) {
	if c.host {
		known := c.e.o.HostCommand != nil
		if known {
			entrypoint, cmd := c.e.o.HostCommand(s.Image)
			known = len(entrypoint)+len(cmd) > 0
		}
		if len(s.Command) == 0 && !known && (c.pod.Script == nil || s.Name != c.pod.Main) {
			c.fatal(path+".command", "the host executor does not look at images, so it cannot know the command of %s: name it in command", s.Image)
		}
	} else if s.Image == "" {
		c.fatal(path+".image", "the container has no image")
	}
	if s.WorkingDir != "" && !filepath.IsAbs(s.WorkingDir) {
		c.fatal(path+".workingDir", "must be an absolute path")
	}
	for i, m := range s.VolumeMounts {
		field := fmt.Sprintf("%s.volumeMounts[%d]", path, i)
		if !filepath.IsAbs(m.MountPath) && m.MountPath != "" {
			c.note(field+".mountPath", "taken as absolute")
		}
		if m.MountPath == "" || filepath.Clean(m.MountPath) == "/" {
			c.fatal(field+".mountPath", "cannot be the root folder")
		}
		if m.MountPropagation != nil && *m.MountPropagation != corev1.MountPropagationNone {
			c.note(field+".mountPropagation", "mounts do not propagate")
		}
	}
	if len(s.VolumeDevices) > 0 {
		c.fatal(path+".volumeDevices", "block devices are not supported on this machine")
	}
	if s.TTY || s.Stdin {
		c.note(path+".stdin", "standard input is empty and there is no terminal")
	}
	if s.Lifecycle != nil {
		c.note(path+".lifecycle", "hooks are not run; SIGTERM is sent at the end")
	}
	for name := range s.Resources.Limits {
		if name != corev1.ResourceCPU && name != corev1.ResourceMemory && name != corev1.ResourceEphemeralStorage {
			c.fatal(path+".resources.limits", "%s is not available on this machine", name)
		}
	}
	c.security(path+".securityContext", s.SecurityContext)
}

func (c *checker) security(path string, s *corev1.SecurityContext) {
	if s == nil {
		return
	}
	if s.SELinuxOptions != nil {
		c.note(path+".seLinuxOptions", "has no effect")
	}
	if s.AppArmorProfile != nil {
		c.note(path+".appArmorProfile", "has no effect")
	}
	c.seccomp(path, s.SeccompProfile)
	if s.Capabilities != nil {
		known := capabilityNumbers()
		for _, name := range s.Capabilities.Add {
			n := strings.TrimPrefix(strings.ToUpper(string(name)), "CAP_")
			if _, ok := known[n]; !ok && n != "ALL" {
				c.fatal(path+".capabilities.add", "there is no capability %s", name)
			}
		}
	}
}

func (c *checker) seccomp(path string, p *corev1.SeccompProfile) {
	if p != nil && p.Type == corev1.SeccompProfileTypeLocalhost {
		c.fatal(path+".seccompProfile", "profiles that lie on the node are not read: without one a container has that of container engines (RuntimeDefault)")
	}
}

func (c *checker) volumes(spec *corev1.PodSpec) {
	for i := range spec.Volumes {
		v := &spec.Volumes[i]
		path := fmt.Sprintf("spec.volumes[%d]", i)
		switch {
		case v.EmptyDir != nil:
			if v.EmptyDir.SizeLimit != nil && v.EmptyDir.Medium != corev1.StorageMediumMemory {
				c.note(path+".emptyDir.sizeLimit", "has no effect on disk")
			}
		case v.Ephemeral != nil:
			c.note(path+".ephemeral", "is a folder of the pod, as emptyDir is")
		case v.PersistentVolumeClaim != nil:
			if err := claimName(namespaceOf(&c.pod), v.PersistentVolumeClaim.ClaimName); err != nil {
				c.fatal(path+".persistentVolumeClaim", "%v", err)
			}
		case v.Projected != nil:
			for j, s := range v.Projected.Sources {
				if s.ServiceAccountToken != nil || s.ClusterTrustBundle != nil {
					c.note(fmt.Sprintf("%s.projected.sources[%d]", path, j), "there are no service account tokens on this machine: the file is not there")
				}
			}
		case v.HostPath != nil, v.ConfigMap != nil, v.Secret != nil, v.DownwardAPI != nil:
		default:
			c.fatal(path, "volume %s: this kind of volume is not supported on this machine", v.Name)
		}
	}
}

func (c *checker) podFields(spec *corev1.PodSpec) {
	for _, f := range []struct {
		set  bool
		path string
	}{
		{len(spec.NodeSelector) > 0, "spec.nodeSelector"},
		{spec.Affinity != nil, "spec.affinity"},
		{spec.RuntimeClassName != nil, "spec.runtimeClassName"},
		{spec.SchedulerName != "" && spec.SchedulerName != corev1.DefaultSchedulerName, "spec.schedulerName"},
	} {
		if f.set {
			c.note(f.path, "has no effect: there is one machine")
		}
	}
	if spec.HostPID || spec.HostIPC {
		c.fatal("spec.hostPID", "a pod always has process and IPC namespaces of its own")
	}
	if len(spec.ResourceClaims) > 0 {
		c.fatal("spec.resourceClaims", "devices cannot be claimed on this machine")
	}
	if (!c.host || c.e.apartByNetwork()) && !c.e.sharesNetwork(spec) {
		if err := c.e.network.usable(); err != nil {
			c.fatal("spec.hostNetwork", "pods cannot have a network of their own here: %v: set hostNetwork to share this machine's", err)
		}
	}
	if !c.host && c.e.o.Images == nil {
		c.fatal("spec.containers", "images are not available here: use the host executor")
	}
}

func (c *checker) limits(spec *corev1.PodSpec) {
	l := podLimits(spec)
	if l.memory > 0 && !c.e.cgroups.memory.there() {
		c.note("spec.containers[].resources.limits.memory", "has no effect: this process may not make memory cgroups")
	}
	if l.milli > 0 && !c.e.cgroups.cpu.there() {
		c.note("spec.containers[].resources.limits.cpu", "has no effect: this process may not make cpu cgroups")
	}
}

// containers yields a pod's containers with their paths, in the order in which they begin.
func containers(spec *corev1.PodSpec) iter.Seq2[string, *corev1.Container] {
	return func(yield func(string, *corev1.Container) bool) {
		for i := range spec.InitContainers {
			if !yield(fmt.Sprintf("spec.initContainers[%d]", i), &spec.InitContainers[i]) {
				return
			}
		}
		for i := range spec.Containers {
			if !yield(fmt.Sprintf("spec.containers[%d]", i), &spec.Containers[i]) {
				return
			}
		}
	}
}
