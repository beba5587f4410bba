package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/protocol"
	"github.com/tiphys/tiphys/secret"
)

const (
	scriptVolume = "tiphys-script"
	scriptFolder = "/argo/staging"
	scriptPath   = scriptFolder + "/script" // where Argo stages it
	clientFolder = "/.tiphys/bin"
	// Host views have a /run in memory, where it costs less.
	hostClientFolder = "/run/.tiphys/bin"
	socketFolder     = "/run/tiphys"
	standardPath     = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// prepare brings together all that the pod needs and writes the shim's order.
func (a *attempt) prepare(ctx context.Context) (*protocol.Spec, error) {
	if err := executor.Refused(a.e.check(a.pod, a.host)); err != nil {
		return nil, err
	}
	if err := a.setAside(); err != nil {
		return nil, err
	}
	if err := os.Mkdir(a.workFolder(), 0o711); err != nil {
		return nil, err
	}
	b := &builder{a: a, e: a.e, pod: &a.pod, spec: &a.pod.Pod.Spec, volumes: map[string]protocol.Volume{}}
	order := &protocol.Spec{
		Hostname: b.hostname(), Work: a.workFolder(), Root: filepath.Join(a.e.o.Dir, rootFolder), Hide: a.hide(), Bound: a.e.o.Bound,
		Deadline: a.pod.Deadline, Grace: a.grace(), Result: a.pod.Outputs.Result, Hold: len(a.pod.Outputs.Artifacts) > 0,
		LogLimit: a.e.o.LogLimit, NoSync: a.e.o.NoSync, Files: map[string]string{},
	}
	if a.e.o.Bound {
		order.Dir = a.dir
	} else {
		order.Name = a.name
	}
	if a.e.o.Scratch != "" {
		order.LogSpill, order.LogKeep = a.spillFolder(), a.e.logKeep()
	}
	for _, p := range a.pod.Outputs.Parameters {
		if p.ValueFrom != nil && p.ValueFrom.Path != "" {
			order.Files[p.Name] = p.ValueFrom.Path
		}
	}
	for _, v := range append([]secret.Value{a.pod.Token}, a.pod.Mask...) {
		if !v.IsZero() {
			order.Mask = append(order.Mask, v.Reveal())
		}
	}
	if err := b.network(order); err != nil {
		return nil, err
	}
	if err := b.addVolumes(order); err != nil {
		return nil, err
	}
	if err := b.addContainers(ctx, order); err != nil {
		return nil, err
	}
	order.Descriptors = a.e.descriptors()
	order.OOMScore, order.Processes = oomScore(b.spec, a.e.memory), a.e.o.Processes
	var err error
	if order.Cgroups, err = a.e.cgroups.create(a.name, b.limits()); err != nil {
		return nil, err
	}
	return order, nil
}

// builder turns a pod into an order.
type builder struct {
	a       *attempt
	e       *Executor
	pod     *executor.Pod
	spec    *corev1.PodSpec
	volumes map[string]protocol.Volume
	root    int // the user of this machine that is root in the pod
}

func (b *builder) hostname() string {
	name := b.spec.Hostname
	if name == "" {
		name = b.pod.Pod.Name
	}
	if b.a.host && b.spec.Hostname == "" || name == "" {
		return b.e.host
	}
	return strings.Trim(name[:min(len(name), 63)], "-.")
}

func (b *builder) addContainers(ctx context.Context, order *protocol.Spec) error {
	for i := range b.spec.InitContainers {
		c := &b.spec.InitContainers[i]
		kind := protocol.KindInit
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			kind = protocol.KindSidecar
		}
		if err := b.add(ctx, order, c, kind); err != nil {
			return fmt.Errorf("container %s: %w", c.Name, err)
		}
	}
	for i := range b.spec.Containers {
		c := &b.spec.Containers[i]
		kind := protocol.KindMain
		if b.pod.Main != "" && c.Name != b.pod.Main || len(b.pod.Set) > 0 {
			kind = protocol.KindSidecar
		}
		if slices.Contains(b.pod.Set, c.Name) {
			kind = protocol.KindMain
		}
		if err := b.add(ctx, order, c, kind); err != nil {
			return fmt.Errorf("container %s: %w", c.Name, err)
		}
	}
	return nil
}

func (b *builder) add(ctx context.Context, order *protocol.Spec, c *corev1.Container, kind string) error {
	image, err := b.image(ctx, c)
	if err != nil {
		return &failure{executor.ReasonImage, err}
	}
	env, err := b.environment(c, image)
	if err != nil {
		return err
	}
	w := protocol.Container{
		Name: c.Name, Kind: kind, Layers: image.Layers, Host: b.a.host, Env: env.list(), Dir: c.WorkingDir,
		Args: b.command(c, image, env),
	}
	if w.Dir == "" {
		w.Dir = image.WorkingDir
	}
	b.secure(&w, c, image)
	if !b.a.host && !w.Privileged && !seccompOff(b.spec.SecurityContext, c.SecurityContext) {
		if w.Filter, err = b.e.profiles.of(w.Capabilities); err != nil {
			return err
		}
	}
	if err := b.mounts(&w, c, env); err != nil {
		return err
	}
	if c.Name == b.pod.Main {
		if b.pod.Script != nil {
			order.Volumes = append(order.Volumes, protocol.Volume{Name: scriptVolume, Files: []protocol.File{{
				Path: "script", Data: []byte(b.pod.Script.Source), Mode: 0o755,
			}}})
			w.Mounts = append(w.Mounts, protocol.Mount{Volume: scriptVolume, Path: scriptFolder, ReadOnly: true})
		}
		if err := b.inputs(ctx, &w); err != nil {
			return &failure{executor.ReasonInput, err}
		}
	}
	if slices.Contains(b.pod.Set, c.Name) {
		w.Aside, w.After, w.Again, w.AgainWait = c.Name != b.pod.Main, b.pod.After[c.Name], b.pod.Again, b.pod.AgainWait
	}
	order.Containers = append(order.Containers, w)
	return nil
}

func (b *builder) image(ctx context.Context, c *corev1.Container) (Image, error) {
	if b.a.host {
		var image Image
		if b.e.o.HostCommand != nil {
			image.Entrypoint, image.Cmd = b.e.o.HostCommand(c.Image)
		}
		path := b.e.o.HostPath
		if path == "" {
			path = standardPath
		}
		image.Env = []string{"PATH=" + path}
		if home, err := os.UserHomeDir(); err == nil && errors.Is(b.e.users.usable(), errNoMachine) {
			image.Env = append(image.Env, "HOME="+home) // root is the user whose home that is; root's own is not to be seen
		}
		return image, nil
	}
	if b.e.o.Images == nil {
		return Image{}, errors.New("images are not available here: use the host executor")
	}
	var credentials []secret.Value
	for _, s := range b.spec.ImagePullSecrets {
		data := b.pod.Resolve["Secret/"+b.pod.Pod.Namespace+"/"+s.Name]
		if v := data[corev1.DockerConfigJsonKey]; !v.IsZero() {
			credentials = append(credentials, v)
		}
	}
	image, err := b.e.o.Images.Rootfs(b.asCaller(ctx), c.Image, c.ImagePullPolicy, credentials)
	if err != nil {
		return image, fmt.Errorf("image %s: %w", c.Image, err)
	}
	return image, nil
}

// command follows Kubernetes: command replaces the image's entry point and drops its command, args replaces its
// command.
func (b *builder) command(c *corev1.Container, image Image, env *environment) []string {
	var args []string
	switch {
	case len(c.Command) > 0:
		args = env.expandAll(append(append(args, c.Command...), c.Args...))
	case len(c.Args) > 0:
		args = append(append(args, image.Entrypoint...), env.expandAll(c.Args)...)
	default:
		args = append(append(args, image.Entrypoint...), image.Cmd...)
	}
	if c.Name == b.pod.Main && b.pod.Script != nil {
		args = append(args, scriptPath)
	}
	return args
}

// secure sets the user and the privileges; a container's own settings win over the pod's.
func (b *builder) secure(w *protocol.Container, c *corev1.Container, image Image) {
	w.User = image.User
	w.Capabilities = defaultCapabilities()
	var user, group *int64
	if p := b.spec.SecurityContext; p != nil {
		user, group = p.RunAsUser, p.RunAsGroup
		w.NonRoot = p.RunAsNonRoot != nil && *p.RunAsNonRoot
		for _, g := range p.SupplementalGroups {
			w.Groups = append(w.Groups, uint32(g))
		}
		if p.FSGroup != nil {
			w.Groups = append(w.Groups, uint32(*p.FSGroup))
		}
	}
	if s := c.SecurityContext; s != nil {
		if s.RunAsUser != nil {
			user = s.RunAsUser
		}
		if s.RunAsGroup != nil {
			group = s.RunAsGroup
		}
		if s.RunAsNonRoot != nil {
			w.NonRoot = *s.RunAsNonRoot
		}
		w.Privileged = s.Privileged != nil && *s.Privileged
		w.NoNewPrivs = s.AllowPrivilegeEscalation != nil && !*s.AllowPrivilegeEscalation && !w.Privileged
		w.ReadOnly = s.ReadOnlyRootFilesystem != nil && *s.ReadOnlyRootFilesystem
		w.Capabilities = changeCapabilities(w.Capabilities, s.Capabilities)
	}
	if user != nil {
		w.User = strconv.FormatInt(*user, 10)
	}
	if group != nil {
		name, _, _ := strings.Cut(w.User, ":")
		if name == "" {
			name = "0"
		}
		w.User = name + ":" + strconv.FormatInt(*group, 10)
	}
}

// clientFolder is where the steps' client is; it is in every container's PATH.
func (b *builder) clientFolder() string {
	if b.a.host {
		return hostClientFolder
	}
	return clientFolder
}

// mounts lists what a container sees beside its root file system.
func (b *builder) mounts(w *protocol.Container, c *corev1.Container, env *environment) error {
	if b.a.host {
		for path, source := range b.e.o.HostFiles {
			w.Mounts = append(w.Mounts, protocol.Mount{Source: source, Path: path, ReadOnly: true})
		}
	}
	if !b.a.host || b.a.ownNetwork() {
		for _, name := range []string{"hosts", "hostname", "resolv.conf"} {
			w.Mounts = append(w.Mounts, protocol.Mount{Source: filepath.Join(b.a.workFolder(), name), Path: "/etc/" + name})
		}
	}
	w.Mounts = append(w.Mounts, protocol.Mount{Source: b.e.o.Init, Path: b.clientFolder() + "/tiphys", ReadOnly: true})
	if b.e.o.Socket != "" {
		w.Mounts = append(w.Mounts, protocol.Mount{Source: b.e.o.Socket, Path: socketFolder, ReadOnly: true})
	}
	for _, m := range c.VolumeMounts {
		v, ok := b.volumes[m.Name]
		if !ok {
			return fmt.Errorf("volume mount %s: there is no volume %q", m.MountPath, m.Name)
		}
		mount := protocol.Mount{Volume: m.Name, Path: m.MountPath, SubPath: m.SubPath, ReadOnly: m.ReadOnly || v.Files != nil}
		if m.SubPathExpr != "" {
			mount.SubPath = env.expand(m.SubPathExpr)
		}
		if mount.SubPath != "" && !filepath.IsLocal(mount.SubPath) {
			return fmt.Errorf("volume mount %s: subPath %q leads out of the volume", m.MountPath, mount.SubPath)
		}
		w.Mounts = append(w.Mounts, mount)
	}
	return nil
}
