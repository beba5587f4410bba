package workflow

import (
	"encoding/json"
	"fmt"
	"path"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/yaml"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/manifest"
)

// Pod gives the pod of a node's attempt, from the rendered template that was recorded when it began. Names, labels
// and environment are Argo's. Token, Resolve and Mask are the caller's to fill in.
func Pod(s *State, nodeID string, attempt int) (executor.Pod, error) {
	n := s.node(nodeID)
	if n == nil || n.pod == nil || n.Type != NodePod || n.asks() {
		return executor.Pod{}, fmt.Errorf("make pod: run %s has no pod node %q", s.run.Name, nodeID)
	}
	var tm manifest.Template
	if err := json.Unmarshal(n.pod.Template, &tm); err != nil {
		return executor.Pod{}, fmt.Errorf("make pod of node %s: %w", nodeID, err)
	}
	b := podBuilder{s: s, n: n, tm: &tm}
	spec, err := b.spec()
	if err != nil {
		return executor.Pod{}, fmt.Errorf("make pod of node %s: %w", nodeID, err)
	}
	pod := executor.Pod{
		ID:   executor.ID{Owner: s.run.UID, Node: nodeID, Attempt: attempt},
		For:  s.For(),
		Pod:  corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: b.meta(), Spec: spec},
		Main: "main", Inputs: b.inputs(), Outputs: b.outputs(), Claims: b.claims(spec.Volumes), Env: b.env(),
	}
	if tm.Script != nil && tm.Script.Source != "" { // without a source it is a container, as in Argo
		pod.Script = &executor.Script{Source: tm.Script.Source}
	}
	if tm.ContainerSet != nil {
		pod.Main = mainOfSet(tm.ContainerSet)
		if err := orderSet(&pod, tm.ContainerSet); err != nil {
			return executor.Pod{}, fmt.Errorf("make pod of node %s: %w", nodeID, err)
		}
	}
	if n.pod.Deadline != nil {
		pod.Deadline = *n.pod.Deadline
	}
	return pod, nil
}

// podBuilder makes one pod.
type podBuilder struct {
	s  *State
	n  *node
	tm *manifest.Template
}

func (b podBuilder) meta() metav1.ObjectMeta {
	m := metav1.ObjectMeta{
		Name: b.s.podName(b.n), Namespace: b.s.run.Namespace, Labels: map[string]string{}, Annotations: map[string]string{},
	}
	if p := b.s.spec.PodMetadata; p != nil {
		sc := &scope{s: b.s, now: b.s.run.CreatedAt}
		for k, v := range p.Labels {
			m.Labels[k] = textOr(v, sc)
		}
		for k, v := range p.Annotations {
			m.Annotations[k] = textOr(v, sc)
		}
	}
	for k, v := range b.tm.Metadata.Labels {
		m.Labels[k] = v
	}
	for k, v := range b.tm.Metadata.Annotations {
		m.Annotations[k] = v
	}
	m.Labels["workflows.argoproj.io/workflow"] = b.s.run.Name
	m.Labels["workflows.argoproj.io/completed"] = "false"
	if b.n.Exit {
		m.Labels["workflows.argoproj.io/on-exit"] = "true"
	}
	m.Annotations["workflows.argoproj.io/node-name"] = b.n.Name
	m.Annotations["workflows.argoproj.io/node-id"] = b.n.ID
	return m
}

func textOr(text string, sc *scope) string {
	if done, err := substituteText(text, sc); err == nil {
		return done
	}
	return text
}

// spec gives the pod spec: containers of the template, volumes of template and run, and the run's placement fields.
func (b podBuilder) spec() (corev1.PodSpec, error) {
	w, tm := &b.s.spec, b.tm
	spec := corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyNever, ServiceAccountName: first(tm.ServiceAccountName, w.ServiceAccountName),
		NodeSelector: w.NodeSelector, Affinity: w.Affinity, Tolerations: append(append([]corev1.Toleration(nil), w.Tolerations...), tm.Tolerations...),
		SchedulerName: first(tm.SchedulerName, w.SchedulerName), PriorityClassName: first(tm.PriorityClassName, w.PodPriorityClassName),
		ImagePullSecrets: w.ImagePullSecrets, SecurityContext: w.SecurityContext, DNSConfig: w.DNSConfig,
		HostAliases:                  append(append([]corev1.HostAlias(nil), w.HostAliases...), tm.HostAliases...),
		AutomountServiceAccountToken: w.AutomountServiceAccountToken, Priority: w.PodPriority, Resources: w.PodResources,
		ResourceClaims: append(append([]corev1.PodResourceClaim(nil), w.ResourceClaims...), tm.ResourceClaims...),
	}
	if tm.NodeSelector != nil {
		spec.NodeSelector = tm.NodeSelector
	}
	if tm.Affinity != nil {
		spec.Affinity = tm.Affinity
	}
	if tm.SecurityContext != nil {
		spec.SecurityContext = tm.SecurityContext
	}
	if tm.PodResources != nil {
		spec.Resources = tm.PodResources
	}
	if w.HostNetwork != nil {
		spec.HostNetwork = *w.HostNetwork
	}
	if w.DNSPolicy != nil {
		spec.DNSPolicy = *w.DNSPolicy
	}
	b.containers(&spec)
	if err := b.volumes(&spec); err != nil {
		return spec, err
	}
	return b.patched(spec)
}

func first(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}

func (b podBuilder) containers(spec *corev1.PodSpec) {
	tm := b.tm
	var mainMounts []corev1.VolumeMount
	switch {
	case tm.Container != nil:
		c := *tm.Container
		c.Name = "main"
		mainMounts = c.VolumeMounts
		spec.Containers = append(spec.Containers, c)
	case tm.Script != nil:
		c := tm.Script.Container
		c.Name = "main"
		mainMounts = c.VolumeMounts
		spec.Containers = append(spec.Containers, c)
	case tm.ContainerSet != nil:
		for _, k := range tm.ContainerSet.Containers {
			c := k.Container
			c.VolumeMounts = append(append([]corev1.VolumeMount(nil), tm.ContainerSet.VolumeMounts...), c.VolumeMounts...)
			spec.Containers = append(spec.Containers, c)
		}
	}
	mirror := func(u manifest.UserContainer) corev1.Container {
		c := u.Container
		if u.MirrorVolumeMounts != nil && *u.MirrorVolumeMounts {
			c.VolumeMounts = append(append([]corev1.VolumeMount(nil), c.VolumeMounts...), mainMounts...)
		}
		return c
	}
	for _, u := range tm.InitContainers {
		spec.InitContainers = append(spec.InitContainers, mirror(u))
	}
	for _, u := range tm.Sidecars {
		spec.Containers = append(spec.Containers, mirror(u))
	}
	vars := []corev1.EnvVar{
		{Name: "ARGO_CONTAINER_NAME", Value: "main"}, {Name: "ARGO_NODE_ID", Value: b.n.ID}, {Name: "ARGO_POD_NAME", Value: b.s.podName(b.n)},
		{Name: "ARGO_WORKFLOW_NAME", Value: b.s.run.Name}, {Name: "ARGO_WORKFLOW_UID", Value: b.s.run.UID},
		{Name: "ARGO_TEMPLATE_NAME", Value: b.n.TemplateName}, {Name: "ARGO_INCLUDE_SCRIPT_OUTPUT", Value: strconv.FormatBool(b.wantsResult())},
	}
	for i := range spec.Containers {
		own := append([]corev1.EnvVar(nil), vars...)
		own[0].Value = spec.Containers[i].Name
		spec.Containers[i].Env = append(own, spec.Containers[i].Env...)
	}
}

// volumes gathers the volumes of the template, among them those of the run that it mounts, and those of the claim templates
// that it mounts.
func (b podBuilder) volumes(spec *corev1.PodSpec) error {
	tm := *b.tm
	if err := b.s.mountRunVolumes(b.n, &tm); err != nil { // of entries from before they were recorded with the template
		return err
	}
	seen := map[string]bool{}
	for _, v := range tm.Volumes {
		if !seen[v.Name] {
			seen[v.Name] = true
			spec.Volumes = append(spec.Volumes, v)
		}
	}
	mounted := b.s.mounts(&tm)
	for _, c := range b.s.spec.VolumeClaimTemplates {
		if seen[c.Name] || !mounted.has(c.Name) {
			continue
		}
		claim := &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claimName(b.s.run.Name, c.Name)}
		spec.Volumes = append(spec.Volumes, corev1.Volume{Name: c.Name, VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: claim}})
	}
	return nil
}

// claims are those of the pod's claims that are made from the run's claim templates, and so are the run's.
func (b podBuilder) claims(volumes []corev1.Volume) []executor.Claim {
	var out []executor.Claim
	for _, v := range volumes {
		if v.PersistentVolumeClaim == nil {
			continue
		}
		name := v.PersistentVolumeClaim.ClaimName
		for _, c := range b.s.spec.VolumeClaimTemplates {
			if name == claimName(b.s.run.Name, c.Name) {
				out = append(out, executor.Claim{Namespace: b.s.run.Namespace, Name: name, Owner: b.s.run.UID, Spec: c.Spec})
			}
		}
	}
	return out
}

// patched applies podSpecPatch of run and template, JSON or YAML, as a strategic merge patch.
func (b podBuilder) patched(spec corev1.PodSpec) (corev1.PodSpec, error) {
	run := b.s.spec.PodSpecPatch
	if run != "" {
		sc := &scope{s: b.s, now: b.s.run.CreatedAt, inputs: b.n.Inputs, self: b.n}
		done, err := substituteText(run, sc)
		if err != nil {
			return spec, err
		}
		run = done
	}
	for _, patch := range [...]string{run, b.tm.PodSpecPatch} {
		if patch == "" {
			continue
		}
		raw, err := yaml.YAMLToJSON([]byte(patch))
		if err != nil {
			return spec, fmt.Errorf("read podSpecPatch: %w", err)
		}
		var tree any
		if err := json.Unmarshal(raw, &tree); err != nil {
			return spec, fmt.Errorf("read podSpecPatch: %w", err)
		}
		if err := manifest.CheckQuantities(tree); err != nil {
			return spec, fmt.Errorf("read podSpecPatch: %w", err)
		}
		before, err := json.Marshal(spec)
		if err != nil {
			return spec, fmt.Errorf("apply podSpecPatch: %w", err)
		}
		after, err := strategicpatch.StrategicMergePatch(before, raw, corev1.PodSpec{})
		if err != nil {
			return spec, fmt.Errorf("apply podSpecPatch: %w", err)
		}
		var next corev1.PodSpec
		if err := json.Unmarshal(after, &next); err != nil {
			return spec, fmt.Errorf("apply podSpecPatch: %w", err)
		}
		spec = next
	}
	return spec, nil
}

func (b podBuilder) inputs() []manifest.Artifact {
	if b.n.Inputs == nil {
		return nil
	}
	return b.n.Inputs.Artifacts
}

// wantsResult reports whether standard output is to be kept as the result. Argo looks whether somebody refers to it;
// here it is always kept, because whoever refers to it may only become known later.
func (b podBuilder) wantsResult() bool {
	if b.tm.ContainerSet != nil {
		return mainOfSet(b.tm.ContainerSet) == "main"
	}
	return true
}

func (b podBuilder) outputs() executor.Outputs {
	o := executor.Outputs{Result: b.wantsResult()}
	for _, p := range b.tm.Outputs.Parameters {
		if p.ValueFrom != nil && p.ValueFrom.Path != "" {
			o.Parameters = append(o.Parameters, p)
		}
	}
	for _, a := range b.tm.Outputs.Artifacts {
		o.Artifacts = append(o.Artifacts, b.placed(a))
	}
	return o
}

// placed gives an output artifact its place in the default store, where it names none: archiveLocation's key, or
// run/pod, and the artifact's name with the ending of its encoding.
func (b podBuilder) placed(a manifest.Artifact) manifest.Artifact {
	if hasLocation(a.ArtifactLocation) {
		return a
	}
	ending := ".tgz"
	if a.Archive != nil {
		switch {
		case a.Archive.None != nil:
			ending = ""
		case a.Archive.Zip != nil:
			ending = ".zip"
		case a.Archive.Tar != nil && a.Archive.Tar.CompressionLevel != nil && *a.Archive.Tar.CompressionLevel == 0:
			ending = ".tar"
		}
	}
	base := path.Join(b.s.run.Name, b.s.podName(b.n))
	if l := b.tm.ArchiveLocation; l != nil {
		if l.S3 != nil {
			s3 := *l.S3
			if s3.Key != "" {
				base = s3.Key
			}
			s3.Key = path.Join(base, a.Name+ending)
			a.S3 = &s3
			return a
		}
	}
	a.S3 = &manifest.S3Artifact{Key: path.Join(base, a.Name+ending)}
	return a
}

func (b podBuilder) env() map[string]string {
	return map[string]string{
		"TIPHYS_RUN": b.s.run.Name, "TIPHYS_NAMESPACE": b.s.run.Namespace, "TIPHYS_NODE": b.n.ID, "TIPHYS_NODE_NAME": b.n.Name,
	}
}

// mainOfSet is the container of a set whose outputs count: "main", or none.
func mainOfSet(set *manifest.ContainerSetTemplate) string {
	for _, c := range set.Containers {
		if c.Name == "main" {
			return "main"
		}
	}
	return ""
}

// orderSet tells the executor of a container set: its containers, their dependencies and retries.
func orderSet(pod *executor.Pod, set *manifest.ContainerSetTemplate) error {
	for _, c := range set.Containers {
		pod.Set = append(pod.Set, c.Name)
		if len(c.Dependencies) > 0 {
			if pod.After == nil {
				pod.After = map[string][]string{}
			}
			pod.After[c.Name] = c.Dependencies
		}
	}
	if r := text(set.RetryStrategy["retries"]); r != "" {
		n, err := strconv.Atoi(r)
		if err != nil {
			return fmt.Errorf("containerSet.retryStrategy.retries %q is not a number", r)
		}
		pod.Again = n
	}
	if d := text(set.RetryStrategy["duration"]); d != "" {
		wait, err := parseDuration(d)
		if err != nil {
			return fmt.Errorf("containerSet.retryStrategy.duration: %w", err)
		}
		pod.AgainWait = wait
	}
	return nil
}
