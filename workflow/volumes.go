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
	if len(list) == 0 {
		return nil
	}
	mounted := s.mounts(tm)
	for _, v := range list {
		volume, err := s.runVolume(n, tm, mounted, asMap(v))
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
func (s *State) runVolume(n *node, tm *manifest.Template, mounted mounted, tree map[string]any) (*corev1.Volume, error) {
	sc := &scope{s: s, now: s.run.CreatedAt, inputs: n.Inputs, self: n, boundary: s.node(n.BoundaryID), outer: true}
	name, err := substituteText(text(tree["name"]), sc)
	if err != nil {
		return nil, fmt.Errorf("spec.volumes: %w", err)
	}
	if !mounted.has(name) || slices.ContainsFunc(tm.Volumes, func(v corev1.Volume) bool { return v.Name == name }) {
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

// mounted are the volumes that the containers of a template mount, and the patches of its pod.
type mounted struct {
	names   map[string]bool
	patches string
}

// has reports whether a volume is mounted. A patch that says its name may mount it.
func (m mounted) has(volume string) bool {
	return m.names[volume] || strings.Contains(m.patches, volume)
}

func (s *State) mounts(tm *manifest.Template) mounted {
	m := mounted{names: map[string]bool{}, patches: s.spec.PodSpecPatch + "\n" + tm.PodSpecPatch}
	add := func(c corev1.Container) {
		for _, mount := range c.VolumeMounts {
			m.names[mount.Name] = true
		}
		for _, device := range c.VolumeDevices {
			m.names[device.Name] = true
		}
	}
	switch {
	case tm.Container != nil:
		add(*tm.Container)
	case tm.Script != nil:
		add(tm.Script.Container)
	case tm.ContainerSet != nil:
		add(corev1.Container{VolumeMounts: tm.ContainerSet.VolumeMounts})
		for _, c := range tm.ContainerSet.Containers {
			add(c.Container)
		}
	}
	for _, c := range append(slices.Clone(tm.InitContainers), tm.Sidecars...) {
		add(c.Container)
	}
	return m
}
