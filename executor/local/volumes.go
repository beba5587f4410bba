package local

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/protocol"
	"github.com/tiphys/tiphys/secret"
)

func (b *builder) addVolumes(order *protocol.Spec) error {
	group := 0
	if p := b.spec.SecurityContext; p != nil && p.FSGroup != nil {
		group = int(*p.FSGroup)
	}
	for i := range b.spec.Volumes {
		v := &b.spec.Volumes[i]
		w, err := b.volume(v, i)
		if err != nil {
			return fmt.Errorf("volume %s: %w", v.Name, err)
		}
		w.Name, w.Group = v.Name, group
		b.volumes[v.Name] = w
		order.Volumes = append(order.Volumes, w)
	}
	return nil
}

func (b *builder) volume(v *corev1.Volume, i int) (protocol.Volume, error) {
	switch {
	case v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumMemory:
		var size int64
		if v.EmptyDir.SizeLimit != nil {
			size = v.EmptyDir.SizeLimit.Value()
		}
		return protocol.Volume{Size: size}, nil
	case v.EmptyDir != nil, v.Ephemeral != nil:
		return b.privateFolder(i)
	case v.HostPath != nil:
		return hostPath(v.HostPath)
	case v.PersistentVolumeClaim != nil:
		return b.claim(v.PersistentVolumeClaim.ClaimName)
	}
	files, err := b.files(v)
	if err != nil {
		return protocol.Volume{}, err
	}
	return protocol.Volume{Files: files, Live: changes(v)}, nil
}

// changes reports whether what is in a volume follows objects while the pod runs.
func changes(v *corev1.Volume) bool {
	return v.ConfigMap != nil || v.Secret != nil || v.DownwardAPI != nil || v.Projected != nil
}

// fileName refuses names that lead out of the volume, and those of the links by which its files change, as Kubernetes does
// (pkg/volume/util/atomic_writer.go, validatePath).
func fileName(path string) error {
	if !filepath.IsLocal(path) || strings.HasPrefix(path, "..") {
		return fmt.Errorf("path %q leads out of the volume, or begins with two dots", path)
	}
	return nil
}

func (b *builder) privateFolder(i int) (protocol.Volume, error) {
	dir := filepath.Join(b.a.workFolder(), fmt.Sprintf("volume%d", i))
	return protocol.Volume{Path: dir}, b.sharedFolder(dir, b.root)
}

// sharedFolder makes a folder that every user in the pod may write to, as emptyDir is in Kubernetes. root is who owns it.
func (b *builder) sharedFolder(dir string, root int) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if root != 0 {
		if err := os.Chown(dir, root, root); err != nil {
			return err
		}
	}
	if p := b.spec.SecurityContext; p != nil && p.FSGroup != nil {
		if err := os.Chown(dir, -1, root+int(*p.FSGroup)); err != nil {
			return err
		}
		return os.Chmod(dir, 0o777|os.ModeSetgid)
	}
	return os.Chmod(dir, 0o777)
}

// claim finds the folder that stands for a PersistentVolumeClaim; one that nobody declared is made when it is first used.
func (b *builder) claim(name string) (protocol.Volume, error) {
	claim := executor.Claim{Namespace: namespaceOf(b.pod), Name: name}
	for _, c := range b.pod.Claims {
		if c.Name == name {
			claim = c
		}
	}
	// On disk it has the ids of the inside, so that pods with different ranges see the same owners.
	dir, made, err := b.e.ensureClaim(claim)
	if err != nil || !made {
		return protocol.Volume{Path: dir, Inside: true}, err
	}
	return protocol.Volume{Path: dir, Inside: true}, b.sharedFolder(dir, 0)
}

// hostPath checks or makes what the volume's type says (Kubernetes' HostPathType).
func hostPath(h *corev1.HostPathVolumeSource) (protocol.Volume, error) {
	kind := corev1.HostPathUnset
	if h.Type != nil {
		kind = *h.Type
	}
	if !filepath.IsAbs(h.Path) {
		return protocol.Volume{}, fmt.Errorf("hostPath %q is not absolute", h.Path)
	}
	switch kind {
	case corev1.HostPathDirectoryOrCreate:
		if err := os.MkdirAll(h.Path, 0o755); err != nil {
			return protocol.Volume{}, err
		}
	case corev1.HostPathFileOrCreate:
		f, err := os.OpenFile(h.Path, os.O_CREATE|os.O_RDONLY, 0o644)
		if err != nil {
			return protocol.Volume{}, err
		}
		_ = f.Close()
	}
	st, err := os.Stat(h.Path)
	if errors.Is(err, os.ErrNotExist) && kind == corev1.HostPathUnset {
		// Container runtimes make the folder then.
		return protocol.Volume{Path: h.Path}, os.MkdirAll(h.Path, 0o755)
	}
	if err != nil {
		return protocol.Volume{}, err
	}
	wrong := false
	switch kind {
	case corev1.HostPathDirectory, corev1.HostPathDirectoryOrCreate:
		wrong = !st.IsDir()
	case corev1.HostPathFile, corev1.HostPathFileOrCreate:
		wrong = !st.Mode().IsRegular()
	case corev1.HostPathSocket:
		wrong = st.Mode()&os.ModeSocket == 0
	}
	if wrong {
		return protocol.Volume{}, fmt.Errorf("hostPath type check failed: %s is not a %s", h.Path, kind)
	}
	return protocol.Volume{Path: h.Path}, nil
}

// files gives the content of a volume that is made of objects.
func (b *builder) files(v *corev1.Volume) ([]protocol.File, error) {
	files := []protocol.File{}
	var err error
	switch {
	case v.ConfigMap != nil:
		s := v.ConfigMap
		files, err = b.objectFiles("ConfigMap", s.Name, s.Items, s.DefaultMode, s.Optional)
	case v.Secret != nil:
		s := v.Secret
		files, err = b.objectFiles("Secret", s.SecretName, s.Items, s.DefaultMode, s.Optional)
	case v.DownwardAPI != nil:
		files, err = b.downward(v.DownwardAPI.Items, v.DownwardAPI.DefaultMode)
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			var more []protocol.File
			switch {
			case s.ConfigMap != nil:
				more, err = b.objectFiles("ConfigMap", s.ConfigMap.Name, s.ConfigMap.Items, v.Projected.DefaultMode, s.ConfigMap.Optional)
			case s.Secret != nil:
				more, err = b.objectFiles("Secret", s.Secret.Name, s.Secret.Items, v.Projected.DefaultMode, s.Secret.Optional)
			case s.DownwardAPI != nil:
				more, err = b.downward(s.DownwardAPI.Items, v.Projected.DefaultMode)
			}
			if err != nil {
				return nil, err
			}
			files = append(files, more...)
		}
	default:
		return nil, errors.New("this kind of volume is not supported on this machine")
	}
	if files == nil {
		files = []protocol.File{}
	}
	return files, err
}

func (b *builder) objectFiles(kind, name string, items []corev1.KeyToPath, mode *int32, optional *bool) ([]protocol.File, error) {
	data, err := b.object(kind, name, optional)
	if err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return allFiles(data, fileMode(nil, mode))
	}
	var files []protocol.File
	for _, item := range items {
		value, ok := data[item.Key]
		if !ok {
			if optional != nil && *optional {
				continue
			}
			return nil, missingError(fmt.Sprintf("references non-existent key %s in %s %q", item.Key, kind, name))
		}
		if err := fileName(item.Path); err != nil {
			return nil, err
		}
		files = append(files, protocol.File{Path: item.Path, Data: []byte(value.Reveal()), Mode: fileMode(item.Mode, mode)})
	}
	return files, nil
}

func allFiles(data map[string]secret.Value, mode uint32) ([]protocol.File, error) {
	var files []protocol.File
	for _, key := range sortedKeys(data) {
		if err := fileName(key); err != nil {
			return nil, err
		}
		files = append(files, protocol.File{Path: key, Data: []byte(data[key].Reveal()), Mode: mode})
	}
	return files, nil
}

// fileMode is the item's mode, or the volume's, or Kubernetes' default of 0644.
func fileMode(item, volume *int32) uint32 {
	switch {
	case item != nil:
		return uint32(*item) & 0o777
	case volume != nil:
		return uint32(*volume) & 0o777
	}
	return 0o644
}

func (b *builder) downward(items []corev1.DownwardAPIVolumeFile, mode *int32) ([]protocol.File, error) {
	var files []protocol.File
	for _, item := range items {
		if err := fileName(item.Path); err != nil {
			return nil, err
		}
		var text string
		var err error
		switch {
		case item.FieldRef != nil:
			text, err = b.field(item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil && len(b.spec.Containers) > 0:
			text, err = b.resource(&b.spec.Containers[0], item.ResourceFieldRef)
		}
		if err != nil {
			return nil, err
		}
		files = append(files, protocol.File{Path: item.Path, Data: []byte(text), Mode: fileMode(item.Mode, mode)})
	}
	return files, nil
}
