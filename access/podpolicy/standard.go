package podpolicy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// check is a control of the standards in its newest version.
type check struct {
	id         policy.CheckID
	restricted bool
	overrides  []policy.CheckID
	judge      policy.CheckPodFn
}

// checks are the library's controls.
func checks() []check {
	var list []check
	for _, c := range policy.DefaultChecks() {
		newest := c.Versions[len(c.Versions)-1]
		list = append(list, check{c.ID, c.Level == api.LevelRestricted, newest.OverrideCheckIDs, newest.CheckPod})
	}
	slices.SortFunc(list, func(a, b check) int { return strings.Compare(string(a.id), string(b.id)) })
	return list
}

// of are the checks of a level. A control of restricted may stand for one of baseline.
func of(list []check, level Level) []check {
	if level == Privileged {
		return nil
	}
	var overridden []policy.CheckID
	if level == Restricted {
		for _, c := range list {
			overridden = append(overridden, c.overrides...)
		}
	}
	return slices.DeleteFunc(slices.Clone(list), func(c check) bool {
		return c.restricted && level != Restricted || slices.Contains(overridden, c.id)
	})
}

// standard holds the pod to the level that is granted to whom it is for.
func (j *judgement) standard() {
	level := j.level(j.wish.For, j.namespace)
	list := of(j.standards, level)
	if j.standards == nil {
		list = of(checks(), level) // the zero policy
	}
	spec := j.judged()
	for _, c := range list {
		result := c.judge(&j.wish.Pod.ObjectMeta, spec)
		if result.Allowed {
			continue
		}
		next := Baseline
		if !c.restricted {
			next = Privileged
		}
		gives := "pods: " + string(next)
		if c.id == "hostNamespaces" && !spec.HostPID && !spec.HostIPC {
			gives = "hostNetwork: true"
		}
		why := result.ForbiddenReason
		if result.ForbiddenDetail != "" {
			why += " (" + result.ForbiddenDetail + ")"
		}
		for _, path := range j.fields(c, spec) {
			j.refuse(path, gives, "%s: the Pod Security Standard %s, which holds for %s, forbids it", why, level, j.wish.For)
		}
	}
	if users := j.wish.Pod.Spec.HostUsers; level != Privileged && users != nil && *users {
		// Kubernetes' standards say nothing of it, since there it is the default. Here a pod has users of its own unless it says otherwise.
		j.refuse("spec.hostUsers", "pods: "+string(Privileged), "users of this machine: a pod has users of its own, and %s holds for %s", level, j.wish.For)
	}
}

// judged is the spec without what relaxes the standards: pods are Linux' own, so that no other operating system lets a pod off, and neither does a
// user namespace, which not every machine can give. A granted host network is left out, too, with its ports, which Kubernetes' defaults name then.
func (j *judgement) judged() *corev1.PodSpec {
	spec := j.wish.Pod.Spec
	spec.OS, spec.HostUsers = nil, nil
	if spec.HostNetwork && j.all(j.wish.For, j.namespace, func(g Grant) bool { return g.HostNetwork }) {
		spec = *spec.DeepCopy()
		spec.HostNetwork = false
		for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
			for i := range containers {
				for p := range containers[i].Ports {
					containers[i].Ports[p].HostPort = 0
				}
			}
		}
	}
	return &spec
}

// places are the fields that a control looks at: of the pod's spec, of each container, of each volume. A * is each item of a list.
type places struct {
	pod, container []string
	volume         bool
	volumeField    string
}

// placesOf are the restricted fields of a control, as Kubernetes documents them.
func placesOf(id policy.CheckID) places {
	security := func(field string) places {
		return places{pod: []string{"securityContext." + field}, container: []string{"securityContext." + field}}
	}
	switch id {
	case "hostNamespaces":
		return places{pod: []string{"hostNetwork", "hostPID", "hostIPC"}}
	case "hostPathVolumes":
		return places{volume: true, volumeField: ".hostPath"}
	case "restrictedVolumes":
		return places{volume: true}
	case "hostPorts":
		return places{container: []string{"ports.*.hostPort"}}
	case "hostProbesAndHostLifecycle":
		var p places
		for _, of := range []string{"livenessProbe", "readinessProbe", "startupProbe", "lifecycle.postStart", "lifecycle.preStop"} {
			p.container = append(p.container, of+".httpGet.host", of+".tcpSocket.host")
		}
		return p
	case "sysctls":
		return places{pod: []string{"securityContext.sysctls"}}
	case "privileged", "procMount", "procMount_restricted", "allowPrivilegeEscalation":
		return places{container: []string{"securityContext." + strings.TrimSuffix(string(id), "_restricted")}}
	case "capabilities_baseline":
		return places{container: []string{"securityContext.capabilities.add"}}
	case "capabilities_restricted":
		return places{container: []string{"securityContext.capabilities"}}
	case "seccompProfile_baseline", "seccompProfile_restricted":
		return security("seccompProfile")
	case "windowsHostProcess":
		return security("windowsOptions.hostProcess")
	case "appArmorProfile", "seLinuxOptions", "runAsNonRoot", "runAsUser":
		return security(string(id))
	}
	return places{}
}

// fields are the paths of what a check refuses. The check itself is asked about parts of the pod, so that its rules stand in one
// place only.
func (j *judgement) fields(c check, spec *corev1.PodSpec) []string {
	at := placesOf(c.id)
	meta := j.wish.Pod.ObjectMeta.DeepCopy()
	if !c.judge(meta, &corev1.PodSpec{}).Allowed {
		return []string{"metadata.annotations"}
	}
	meta.Annotations = nil
	bad := func(s corev1.PodSpec) bool { return !c.judge(meta, &s).Allowed }
	bare := *spec
	bare.InitContainers, bare.Containers, bare.EphemeralContainers, bare.Volumes = nil, nil, nil, nil
	var found []string
	if len(at.pod) > 0 && bad(bare) {
		found = fieldsIn("spec", bare, at.pod)
		if c.restricted {
			return found
		}
		bare.SecurityContext = nil
	}
	if at.volume {
		for i, v := range spec.Volumes {
			if bad(corev1.PodSpec{Volumes: []corev1.Volume{v}}) {
				found = append(found, fmt.Sprintf("spec.volumes[%d]%s", i, at.volumeField))
			}
		}
	}
	each(spec, func(path string, container corev1.Container) {
		bare.Containers = []corev1.Container{container}
		if len(at.container) > 0 && bad(bare) {
			found = append(found, fieldsIn(path, container, at.container)...)
		}
	})
	if len(found) == 0 {
		if len(j.wish.Pod.Annotations) > 0 && !c.judge(&j.wish.Pod.ObjectMeta, spec).Allowed && c.judge(meta, spec).Allowed {
			return []string{"metadata.annotations"}
		}
		return []string{"spec"}
	}
	return found
}

// each calls f with the path of every container of a pod.
func each(spec *corev1.PodSpec, f func(path string, c corev1.Container)) {
	for i, c := range spec.InitContainers {
		f(fmt.Sprintf("spec.initContainers[%d]", i), c)
	}
	for i, c := range spec.Containers {
		f(fmt.Sprintf("spec.containers[%d]", i), c)
	}
	for i, c := range spec.EphemeralContainers {
		f(fmt.Sprintf("spec.ephemeralContainers[%d]", i), corev1.Container(c.EphemeralContainerCommon))
	}
}

// fieldsIn are those of the fields that are set in a value; the first if none is, because it should be.
func fieldsIn(path string, value any, fields []string) []string {
	var tree any
	raw, err := json.Marshal(value)
	if err == nil {
		err = json.Unmarshal(raw, &tree)
	}
	var found []string
	for _, field := range fields {
		if err == nil {
			found = append(found, set(path, tree, strings.Split(field, "."))...)
		}
	}
	if len(found) == 0 {
		return []string{path + "." + fields[0]}
	}
	return found
}

// set gives the path of a field if it has a value.
func set(path string, tree any, field []string) []string {
	if len(field) == 0 {
		return []string{path}
	}
	if field[0] == "*" {
		var found []string
		list, _ := tree.([]any)
		for i, item := range list {
			found = append(found, set(fmt.Sprintf("%s[%d]", path, i), item, field[1:])...)
		}
		return found
	}
	object, _ := tree.(map[string]any)
	if value, there := object[field[0]]; there {
		return set(path+"."+field[0], value, field[1:])
	}
	return nil
}
