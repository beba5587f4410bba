package wire

import (
	"context"
	"fmt"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/artifact/image"
	"github.com/tiphys/tiphys/executor/local"
	"github.com/tiphys/tiphys/secret"
)

// RegistryHost is the built-in registry's name in image references.
const RegistryHost = "registry.localhost"

// images gives the executor the root file systems of the library.
type images struct{ library *image.Library }

// Rootfs implements local.Images.
func (i images) Rootfs(ctx context.Context, ref string, pull corev1.PullPolicy, credentials []secret.Value) (local.Image, error) {
	r, err := i.library.Rootfs(ctx, ref, pull, credentials)
	if err != nil {
		return local.Image{}, err
	}
	return local.Image{
		Layers: r.Layers, Entrypoint: r.Config.Entrypoint, Cmd: r.Config.Cmd, Env: r.Config.Env,
		User: r.Config.User, WorkingDir: r.Config.WorkingDir,
	}, nil
}

// openImages opens the built-in registry's store and the library of unpacked layers.
func (m *Machine) openImages(o MachineOptions) (err error) {
	dir := filepath.Join(m.scratch, "images")
	if m.Images, err = image.OpenStore(dir, image.StoreOptions{Unsynced: o.Ephemeral}); err != nil {
		return fmt.Errorf("open images: %w", err)
	}
	mirrors := map[string][]string{}
	for host, url := range o.Mirrors {
		mirrors[host] = append(mirrors[host], url)
	}
	m.layers = o.Layers
	if m.layers == "" {
		m.layers = filepath.Join(m.scratch, "layers")
	}
	m.Library, err = image.NewLibrary(image.LibraryOptions{
		Store: m.Images, Layers: m.layers, LocalHosts: append([]string{RegistryHost}, o.Registries...), Egress: o.Egress, Mirrors: mirrors, AuthorizeLocal: o.MayPull, Unsynced: o.Ephemeral, Now: o.Now,
	})
	return err
}
