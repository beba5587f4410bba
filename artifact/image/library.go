package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/artifact/archive"
	"github.com/tiphys/tiphys/egress"
	"github.com/tiphys/tiphys/secret"
)

// LibraryOptions of a [Library]. Store and Layers are required.
type LibraryOptions struct {
	// Store is the built-in registry's, and remembers what was pulled.
	Store *Store
	// Layers is the folder of unpacked layers.
	Layers string
	// LocalHosts are names of the built-in registry, such as "registry.localhost" or "127.0.0.1:2746": images of
	// these hosts are in Store and nowhere else.
	LocalHosts []string
	// Mirrors are tried, in order, before a registry itself: host → "mirror.example/prefix" or "http://127.0.0.1:5000".
	// Plain HTTP is spoken with a mirror that says so, and with this machine; with nobody else.
	Mirrors map[string][]string
	// AuthorizeLocal says whether the caller in ctx may read a repository of the built-in registry by a tag or digest. nil: it may.
	AuthorizeLocal func(ctx context.Context, repo, version string) error
	// Egress reaches registries, and mirrors without asking, since the operator names those; nil refuses what is to be refused.
	Egress *egress.Client
	// ResolveTimeout is how long it may take to find an image, all mirrors together; 0 for 45 s.
	ResolveTimeout time.Duration
	// StallTimeout is how long a download may go without a byte; 0 for a minute.
	StallTimeout time.Duration
	// Limits of one unpacked layer.
	Limits archive.Limits
	// Unsynced leaves it to the kernel when layers reach the disk.
	Unsynced bool
	// Now is the clock; time.Now if nil.
	Now func() time.Time
}

// Library finds images, in the built-in registry or elsewhere, and unpacks them. It is safe for concurrent use, and
// several processes may share its folders.
type Library struct {
	o         LibraryOptions
	transport *egress.Transport

	mu    sync.Mutex
	locks map[string]*layerLock
	// sweeping is held for the moments in which a layer is noted as used, or taken away because it is not.
	sweeping sync.Mutex
}

// NewLibrary returns a library.
func NewLibrary(o LibraryOptions) (*Library, error) {
	if o.ResolveTimeout <= 0 {
		o.ResolveTimeout = 45 * time.Second
	}
	if o.StallTimeout <= 0 {
		o.StallTimeout = time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	layers, err := filepath.Abs(o.Layers)
	if err == nil {
		o.Layers = layers
		err = os.MkdirAll(filepath.Join(layers, "sha256"), 0o711) //nolint:gosec // steps of other users enter it
	}
	if err != nil {
		return nil, fmt.Errorf("make folder of layers: %w", err)
	}
	transport := o.Egress.Transport(egress.HTTP{Trusted: mirrorHosts(o.Mirrors, false), Answer: answerTime})
	return &Library{o: o, transport: transport, locks: map[string]*layerLock{}}, nil
}

// Config is what an image says about how to execute it.
type Config struct {
	Entrypoint   []string          `json:"entrypoint,omitempty"`
	Cmd          []string          `json:"cmd,omitempty"`
	Env          []string          `json:"env,omitempty"` // "NAME=value"
	User         string            `json:"user,omitempty"`
	WorkingDir   string            `json:"workingDir,omitempty"`
	ExposedPorts []string          `json:"exposedPorts,omitempty"` // "8080/tcp", sorted
	Labels       map[string]string `json:"labels,omitempty"`
	StopSignal   string            `json:"stopSignal,omitempty"`
}

// Rootfs is an unpacked image.
type Rootfs struct {
	// Layers are absolute paths of folders, the topmost first, as overlayfs wants its lowerdir.
	Layers []string
	Config Config
	// Digest is what the reference names: "sha256:…" of an image's manifest or of an index.
	Digest string
}

// Image is an image that was found.
type Image struct {
	Digest string // as in Rootfs
	Config Config
	layers []layer
}

// layer is one layer and where to get it.
type layer struct {
	digest string // of the compressed bytes
	diffID string // of the tar
	size   int64
	open   func(ctx context.Context) (io.ReadCloser, error)
}

// Rootfs pulls an image as the policy says and unpacks what is not unpacked yet.
func (l *Library) Rootfs(ctx context.Context, ref string, policy corev1.PullPolicy, pullSecrets []secret.Value) (Rootfs, error) {
	img, err := l.Pull(ctx, ref, policy, pullSecrets)
	if err != nil {
		return Rootfs{}, err
	}
	r := Rootfs{Config: img.Config, Digest: img.Digest, Layers: make([]string, len(img.layers))}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(3)
	for i, one := range img.layers {
		group.Go(func() error {
			dir, err := l.layer(gctx, one)
			r.Layers[len(img.layers)-1-i] = dir
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return Rootfs{}, fmt.Errorf("unpack image %s: %w", ref, err)
	}
	// The same layer twice is one folder, which overlayfs does not take twice.
	var unique []string
	for _, dir := range r.Layers {
		if !slices.Contains(unique, dir) {
			unique = append(unique, dir)
		}
	}
	r.Layers = unique
	return r, nil
}

// Pull finds an image: in the built-in registry if the reference has one of its hosts, or has no host and is there;
// else in the registry that it names, or a mirror of it. The empty policy is Kubernetes' default, with one
// difference: an image that is here already is used if its registry cannot be reached.
func (l *Library) Pull(ctx context.Context, ref string, policy corev1.PullPolicy, pullSecrets []secret.Value) (Image, error) {
	img, err := l.pull(ctx, ref, policy, pullSecrets)
	if err != nil {
		return Image{}, fmt.Errorf("pull image %s: %w", ref, err)
	}
	return img, nil
}

func (l *Library) pull(ctx context.Context, ref string, policy corev1.PullPolicy, pullSecrets []secret.Value) (Image, error) {
	if repo, version, must := l.localName(ref); repo != "" {
		img, err := l.local(ctx, repo, version)
		if must || !errors.Is(err, artifact.ErrNotFound) {
			return img, err
		}
	}
	return l.remote(ctx, ref, policy, pullSecrets)
}

// localName splits a reference into repository and tag or digest if it can be one of the built-in registry. must says
// that it cannot be anybody else's.
func (l *Library) localName(ref string) (repo, version string, must bool) {
	name := ref
	host, rest, ok := strings.Cut(ref, "/")
	if ok && (strings.ContainsAny(host, ".:") || host == "localhost") {
		if !slices.Contains(l.o.LocalHosts, host) {
			return "", "", false
		}
		name, must = rest, true
	}
	repo, version = name, "latest"
	if before, digest, ok := strings.Cut(name, "@"); ok {
		repo, version = before, digest
		repo, _, _ = strings.Cut(repo, ":")
	} else if before, tag, ok := strings.Cut(name, ":"); ok {
		repo, version = before, tag
	}
	if CheckRepo(repo) != nil && !must {
		return "", "", false
	}
	return repo, version, must
}

func (l *Library) local(ctx context.Context, repo, version string) (Image, error) {
	m, err := l.o.Store.Resolve(repo, version)
	if err != nil {
		return Image{}, err
	}
	if l.o.AuthorizeLocal != nil {
		if err := l.o.AuthorizeLocal(ctx, repo, version); err != nil {
			return Image{}, err
		}
	}
	digest := m.Digest
	if index, err := v1.ParseIndexManifest(strings.NewReader(string(m.Body))); err == nil && len(index.Manifests) > 0 {
		found := false
		for _, d := range index.Manifests {
			if d.Platform != nil && d.Platform.Satisfies(platform()) {
				if m, err = l.o.Store.Resolve(repo, d.Digest.String()); err != nil {
					return Image{}, err
				}
				found = true
				break
			}
		}
		if !found {
			return Image{}, fmt.Errorf("it is not made for %s", platform())
		}
	}
	return l.describe(digest, m.Body, func(digest string) ([]byte, error) {
		return l.o.Store.blobs.ReadAll(digest, maxManifest)
	}, func(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
		return l.o.Store.OpenBlob(repo, d.Digest.String())
	})
}

func platform() v1.Platform { return v1.Platform{OS: "linux", Architecture: runtime.GOARCH} }

// describe reads manifest and configuration.
func (l *Library) describe(digest string, body []byte, read func(digest string) ([]byte, error),
	open func(context.Context, v1.Descriptor) (io.ReadCloser, error),
) (Image, error) {
	m, err := v1.ParseManifest(strings.NewReader(string(body)))
	if err != nil {
		return Image{}, fmt.Errorf("read manifest: %w", err)
	}
	raw, err := read(m.Config.Digest.String())
	if err != nil {
		return Image{}, fmt.Errorf("read the image's configuration: %w", err)
	}
	var c v1.ConfigFile
	if err := json.Unmarshal(raw, &c); err != nil {
		return Image{}, fmt.Errorf("read the image's configuration: %w", err)
	}
	if len(c.RootFS.DiffIDs) != len(m.Layers) {
		return Image{}, fmt.Errorf("the image has %d layers, its configuration tells of %d; is it an image at all?",
			len(m.Layers), len(c.RootFS.DiffIDs))
	}
	img := Image{Digest: digest, Config: configOf(c.Config)}
	for i, d := range m.Layers {
		img.layers = append(img.layers, layer{
			digest: d.Digest.String(), diffID: c.RootFS.DiffIDs[i].String(), size: d.Size,
			open: func(ctx context.Context) (io.ReadCloser, error) { return open(ctx, d) },
		})
	}
	return img, nil
}

func configOf(c v1.Config) Config {
	out := Config{
		Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env, User: c.User, WorkingDir: c.WorkingDir,
		Labels: c.Labels, StopSignal: c.StopSignal,
	}
	for p := range c.ExposedPorts {
		out.ExposedPorts = append(out.ExposedPorts, p)
	}
	slices.Sort(out.ExposedPorts)
	return out
}
