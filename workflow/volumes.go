package workflow

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/manifest"
)

// mountRunVolumes puts those volumes of the run that a template mounts into the template, as they are now: a volume may name the
// outputs of steps, which are there by then (resolveReferences in workflow/controller/steps.go of Argo). A volume that
// nobody mounts is not part of a pod, as in Argo, so its tags need not have a value.
func (s *State) mountRunVolumes(n *node, tm *manifest.Template) error {
	if !hasPod(tm) {
		return nil
	}
	spec := asMap(s.cache.manifest["spec"])
	list, _ := spec["volumes"].([]any)
	for _, v := range list {
		volume, err := s.runVolume(n, tm, asMap(v))
		if err != nil {
			return err
		}
		if volume != nil {
			tm.Volumes = append(tm.Volumes, *volume)
		}
	}
	return nil
}

// runVolume gives a volume of the run if the template mounts it and has none of that name itself.
func (s *State) runVolume(n *node, tm *manifest.Template, tree map[string]any) (*corev1.Volume, error) {
	sc := &scope{s: s, now: s.run.CreatedAt, inputs: n.Inputs, self: n, boundary: s.node(n.BoundaryID), outer: true}
	name, err := substituteText(text(tree["name"]), sc)
	if err != nil {
		return nil, fmt.Errorf("spec.volumes: %w", err)
	}
	if !s.mounts(tm, name) || slices.ContainsFunc(tm.Volumes, func(v corev1.Volume) bool { return v.Name == name }) {
		return nil, nil
	}
	done, err := substitute(tree, sc)
	if err != nil {
		return nil, fmt.Errorf("spec.volumes: volume %s: %w", name, err)
	}
	var volume corev1.Volume
	if err := decodeValue(done, &volume); err != nil {
		return nil, fmt.Errorf("spec.volumes: volume %s: %w", name, err)
	}
	return &volume, nil
}

func hasPod(tm *manifest.Template) bool {
	return tm.Container != nil || tm.Script != nil || tm.ContainerSet != nil
}

// mounts reports whether a container of a template mounts a volume. A patch that says its name may.
func (s *State) mounts(tm *manifest.Template, volume string) bool {
	var all []corev1.VolumeMount
	var devices []corev1.VolumeDevice
	add := func(c corev1.Container) {
		all, devices = append(all, c.VolumeMounts...), append(devices, c.VolumeDevices...)
	}
	switch {
	case tm.Container != nil:
		add(*tm.Container)
	case tm.Script != nil:
		add(tm.Script.Container)
	case tm.ContainerSet != nil:
		all = append(all, tm.ContainerSet.VolumeMounts...)
		for _, c := range tm.ContainerSet.Containers {
			add(c.Container)
		}
	}
	for _, c := range append(slices.Clone(tm.InitContainers), tm.Sidecars...) {
		add(c.Container)
	}
	return slices.ContainsFunc(all, func(m corev1.VolumeMount) bool { return m.Name == volume }) ||
		slices.ContainsFunc(devices, func(d corev1.VolumeDevice) bool { return d.Name == volume }) ||
		strings.Contains(s.spec.PodSpecPatch+tm.PodSpecPatch, volume)
}
