// Package pack makes an OCI image of a folder or a static binary. It imports the standard library only, because
// it is part of the small binary that steps run.
//
// The same input gives the same digest: entries are sorted, belong to root and have no time, and the image says
// nothing about when or where it was made.
package pack

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
)

// The media types of what is packed, from the OCI image specification 1.1.
const (
	ManifestType = "application/vnd.oci.image.manifest.v1+json"
	ConfigType   = "application/vnd.oci.image.config.v1+json"
	LayerType    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// Options of an image.
type Options struct {
	// Path is a folder, whose contents become the root, or a file, which becomes /NAME.
	Path string
	// Entrypoint is what the image executes. For a file it is the file if empty.
	Entrypoint []string
	Cmd        []string
	Env        []string // "NAME=value"
	Labels     map[string]string
	WorkingDir string
	User       string
	// Ports are exposed ports: "8080/tcp".
	Ports []string
	// Arch is the architecture; that of this program if empty.
	Arch string
}

// Descriptor names a blob.
type Descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

// Image is a packed image.
type Image struct {
	Layer    Descriptor
	Config   []byte
	Manifest []byte
	// Digest is that of the manifest, and so of the image.
	Digest string
	// file holds the layer.
	file *os.File
}

// OpenLayer returns the layer from its beginning; one reader at a time.
func (i *Image) OpenLayer() io.Reader { return io.NewSectionReader(i.file, 0, i.Layer.Size) }

// ConfigDescriptor names the configuration.
func (i *Image) ConfigDescriptor() Descriptor {
	return Descriptor{ConfigType, digest(i.Config), int64(len(i.Config))}
}

// Close removes the layer's temporary file.
func (i *Image) Close() error { return i.file.Close() }

type config struct {
	Architecture string         `json:"architecture"`
	OS           string         `json:"os"`
	Config       runtimeConfig  `json:"config"`
	RootFS       rootFS         `json:"rootfs"`
	History      []historyEntry `json:"history"`
}

type runtimeConfig struct {
	User         string              `json:"User,omitempty"`
	ExposedPorts map[string]struct{} `json:"ExposedPorts,omitempty"`
	Env          []string            `json:"Env,omitempty"`
	Entrypoint   []string            `json:"Entrypoint,omitempty"`
	Cmd          []string            `json:"Cmd,omitempty"`
	WorkingDir   string              `json:"WorkingDir,omitempty"`
	Labels       map[string]string   `json:"Labels,omitempty"`
}

type rootFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"`
}

type historyEntry struct {
	CreatedBy string `json:"created_by"`
}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        Descriptor   `json:"config"`
	Layers        []Descriptor `json:"layers"`
}

// Build packs an image. The layer is in a temporary file without a name until [Image.Close].
func Build(o Options) (*Image, error) {
	info, err := os.Stat(o.Path)
	if err != nil {
		return nil, fmt.Errorf("pack image: %w", err)
	}
	if info.Mode().IsRegular() {
		if err := checkStatic(o.Path); err != nil {
			return nil, err
		}
		if len(o.Entrypoint) == 0 {
			o.Entrypoint = []string{"/" + filepath.Base(o.Path)}
		}
	} else if !info.IsDir() {
		return nil, fmt.Errorf("pack image: %s is neither a folder nor a file", o.Path)
	}
	for _, e := range o.Env {
		if name, _, ok := strings.Cut(e, "="); !ok || name == "" {
			return nil, fmt.Errorf("pack image: the variable %q is not of the form NAME=value", e)
		}
	}
	img := &Image{}
	diffID, err := img.writeLayer(o.Path, info.IsDir())
	if err == nil {
		err = img.describe(o, diffID)
	}
	if err != nil {
		if img.file != nil {
			_ = img.file.Close()
		}
		return nil, fmt.Errorf("pack image: %w", err)
	}
	return img, nil
}

func (i *Image) describe(o Options, diffID string) error {
	c := config{
		Architecture: o.Arch, OS: "linux",
		Config: runtimeConfig{
			User: o.User, Env: o.Env, Entrypoint: o.Entrypoint, Cmd: o.Cmd, WorkingDir: o.WorkingDir, Labels: o.Labels,
		},
		RootFS:  rootFS{"layers", []string{diffID}},
		History: []historyEntry{{"tiphys image pack"}},
	}
	if c.Architecture == "" {
		c.Architecture = runtime.GOARCH
	}
	for _, p := range o.Ports {
		if c.Config.ExposedPorts == nil {
			c.Config.ExposedPorts = map[string]struct{}{}
		}
		c.Config.ExposedPorts[p] = struct{}{}
	}
	var err error
	if i.Config, err = json.Marshal(c); err != nil {
		return err
	}
	i.Manifest, err = json.Marshal(manifest{2, ManifestType, i.ConfigDescriptor(), []Descriptor{i.Layer}})
	i.Digest = digest(i.Manifest)
	return err
}

func digest(b []byte) string {
	s := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(s[:])
}

func sumOf(h hash.Hash) string { return "sha256:" + hex.EncodeToString(h.Sum(nil)) }

// writeLayer packs the files and returns the digest of the layer before compression.
func (i *Image) writeLayer(name string, folder bool) (diffID string, err error) {
	if i.file, err = os.CreateTemp("", "layer-"); err != nil {
		return "", err
	}
	_ = os.Remove(i.file.Name())
	compressed, plain := sha256.New(), sha256.New()
	z := gzip.NewWriter(io.MultiWriter(i.file, compressed))
	t := tar.NewWriter(io.MultiWriter(z, plain))
	if folder {
		err = addFolder(t, name)
	} else {
		err = addFile(t, filepath.Dir(name), filepath.Base(name), filepath.Base(name))
	}
	if err := errors.Join(err, t.Close(), z.Close()); err != nil {
		return "", err
	}
	size, err := i.file.Seek(0, io.SeekEnd)
	i.Layer = Descriptor{LayerType, sumOf(compressed), size}
	return sumOf(plain), err
}

// addFolder packs what is in dir; fs.WalkDir goes in order of name.
func addFolder(t *tar.Writer, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	return fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == "." {
			return err
		}
		if strings.HasPrefix(path.Base(p), ".wh.") {
			return fmt.Errorf("%s: a name that begins with .wh. means a removal in an image", p)
		}
		return addEntry(t, root, p, d)
	})
}

func addEntry(t *tar.Writer, root *os.Root, p string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	h := &tar.Header{Name: p, Mode: modeOf(info.Mode()), Format: tar.FormatPAX}
	switch d.Type() {
	case fs.ModeDir:
		h.Typeflag, h.Name = tar.TypeDir, p+"/"
		return t.WriteHeader(h)
	case fs.ModeSymlink:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = root.Readlink(p); err != nil {
			return err
		}
		return t.WriteHeader(h)
	case 0:
		f, err := root.Open(p)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		return copyFile(t, h, f)
	}
	return nil // sockets, pipes and devices are not contents
}

// modeOf keeps the bits that matter to whoever runs it, and not the umask of whoever built it: what the owner may
// do, everybody may, except write.
func modeOf(m fs.FileMode) int64 {
	mode := int64(0o644)
	if m.IsDir() || m&0o100 != 0 {
		mode = 0o755
	}
	if m&fs.ModeSticky != 0 && m.IsDir() {
		mode = 0o1777
	}
	if m&fs.ModeSymlink != 0 {
		mode = 0o777
	}
	return mode
}

func addFile(t *tar.Writer, dir, name, as string) error {
	f, err := os.Open(filepath.Join(dir, name)) //nolint:gosec // the user names it
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return copyFile(t, &tar.Header{Name: as, Mode: 0o755, Format: tar.FormatPAX}, f)
}

func copyFile(t *tar.Writer, h *tar.Header, f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	h.Typeflag, h.Size = tar.TypeReg, info.Size()
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(t, io.NewSectionReader(f, 0, h.Size))
	if err == nil && n != h.Size {
		err = fmt.Errorf("%s was shortened while it was read", h.Name)
	}
	return err
}
