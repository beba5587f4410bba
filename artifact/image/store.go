// Package image keeps OCI images: the built-in registry's store and its HTTP interface, pulling from other
// registries, and unpacking of layers to folders that an overlay file system can be mounted of.
package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"crypto/rand"

	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/artifact/blob"
	"github.com/tiphys/tiphys/artifact/image/pack"
	"github.com/tiphys/tiphys/failure"
)

// maxManifest is the largest manifest, in bytes; the distribution specification asks for at least 4 MiB.
const maxManifest = 4 << 20

var (
	repoName = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	})
	tagName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`) })
)

// Store keeps the repositories of the built-in registry in a folder.
//
// Blobs are kept once; what belongs to a repository is a small file in repos/NAME, with "+" for the slashes:
// tags/TAG has a manifest's digest, manifests/HEX its media type, and blobs/HEX is there if the blob was pushed to
// this repository, because to know a digest is not to have a right to what it names.
type Store struct {
	root  *os.Root
	blobs *blob.Folder
	opt   StoreOptions
	// naming keeps a sweep away between the look at what a manifest names and the name of the manifest itself.
	naming sync.RWMutex
}

// StoreOptions of a store.
type StoreOptions struct {
	// MaxBlob limits one layer, in bytes; 0 for 10 GiB.
	MaxBlob int64
	// Unsynced leaves it to the kernel when bytes reach the disk.
	Unsynced bool
}

// OpenStore opens the store in dir, and makes it if it is not there.
func OpenStore(dir string, o StoreOptions) (*Store, error) {
	if o.MaxBlob <= 0 {
		o.MaxBlob = 10 << 30
	}
	blobs, err := blob.Open(filepath.Join(dir, "blobs"), blob.Options{MaxSize: o.MaxBlob, Unsynced: o.Unsynced})
	if err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		_ = blobs.Close()
		return nil, fmt.Errorf("open image store: %w", err)
	}
	s := &Store{root: root, blobs: blobs, opt: o}
	for _, sub := range []string{"repos", "tmp", "pulled"} {
		if err := root.MkdirAll(sub, 0o700); err != nil {
			_ = s.Close()
			return nil, fmt.Errorf("make image store: %w", err)
		}
	}
	return s, nil
}

// Close releases the folder.
func (s *Store) Close() error { return errors.Join(s.root.Close(), s.blobs.Close()) }

// CheckRepo says why name cannot be a repository's, or nil.
func CheckRepo(name string) error {
	if len(name) > 200 || !repoName().MatchString(name) {
		return fmt.Errorf("%q is not a repository name: small letters, digits, and single . _ - between them, at most 200 bytes", name)
	}
	return nil
}

func repoFile(repo, kind, name string) (string, error) {
	if err := CheckRepo(repo); err != nil {
		return "", err
	}
	return path.Join("repos", strings.ReplaceAll(repo, "/", "+"), kind, name), nil
}

// Manifest is the manifest of an image or an index.
type Manifest struct {
	Digest    string
	MediaType string
	Body      []byte
}

// Resolve finds a manifest by tag or digest; the error wraps [artifact.ErrNotFound] if there is none.
func (s *Store) Resolve(repo, ref string) (Manifest, error) {
	m, err := s.resolve(repo, ref)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, artifact.ErrNotFound) {
		return Manifest{}, fmt.Errorf("image %s: %w", join(repo, ref), artifact.ErrNotFound)
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("image %s: %w", join(repo, ref), err)
	}
	return m, nil
}

func join(repo, ref string) string {
	if strings.HasPrefix(ref, "sha256:") {
		return repo + "@" + ref
	}
	return repo + ":" + ref
}

func (s *Store) resolve(repo, ref string) (Manifest, error) {
	digest := ref
	if _, err := blob.Hex(ref); err != nil {
		if !tagName().MatchString(ref) {
			return Manifest{}, fmt.Errorf("%q is neither a tag nor a digest", ref)
		}
		file, err := repoFile(repo, "tags", ref)
		if err != nil {
			return Manifest{}, err
		}
		b, err := s.root.ReadFile(file)
		if err != nil {
			return Manifest{}, err
		}
		digest = string(b)
	}
	hex, err := blob.Hex(digest)
	if err != nil {
		return Manifest{}, err
	}
	file, err := repoFile(repo, "manifests", hex)
	if err != nil {
		return Manifest{}, err
	}
	mediaType, err := s.root.ReadFile(file)
	if err != nil {
		return Manifest{}, err
	}
	body, err := s.blobs.ReadAll(digest, maxManifest)
	if err != nil {
		return Manifest{}, err
	}
	return Manifest{Digest: digest, MediaType: string(mediaType), Body: body}, nil
}

// errBlobUnknown says that a manifest names what was not pushed.
var errBlobUnknown = errors.New("it names a blob or manifest that was not pushed to this repository")

// references is what a manifest or an index names.
type references struct {
	MediaType string      `json:"mediaType"`
	Config    *reference  `json:"config"`
	Layers    []reference `json:"layers"`
	Manifests []reference `json:"manifests"`
}

type reference struct {
	MediaType string   `json:"mediaType"`
	Digest    string   `json:"digest"`
	URLs      []string `json:"urls"`
}

// PutManifest stores a manifest under ref, a tag or its digest. What it names must be there already.
func (s *Store) PutManifest(ctx context.Context, repo, ref, mediaType string, body []byte) (Manifest, error) {
	m := Manifest{Digest: blob.Sum(body), MediaType: mediaType, Body: body}
	var refs references
	if err := json.Unmarshal(body, &refs); err != nil {
		return m, failure.Invalidf("read manifest: %w", err)
	}
	if m.MediaType == "" {
		m.MediaType = refs.MediaType
	}
	t := types.MediaType(m.MediaType)
	if !t.IsImage() && !t.IsIndex() {
		return m, failure.Invalidf("a manifest of the type %q is not kept here; push an OCI or Docker image", m.MediaType)
	}
	if _, err := blob.Hex(ref); err == nil && ref != m.Digest {
		return m, fmt.Errorf("%w: expected %s, got %s", blob.ErrMismatch, ref, m.Digest)
	} else if err != nil && !tagName().MatchString(ref) {
		return m, failure.Invalidf("%q is neither a tag nor a digest", ref)
	}
	// A sweep must not take away what was found to be there.
	s.naming.RLock()
	defer s.naming.RUnlock()
	if err := s.checkReferences(repo, refs); err != nil {
		return m, err
	}
	if _, err := s.blobs.PutAs(ctx, strings.NewReader(string(body)), m.Digest); err != nil {
		return m, err
	}
	if err := s.mark(repo, "manifests", strings.TrimPrefix(m.Digest, "sha256:"), m.MediaType); err != nil {
		return m, err
	}
	if ref == m.Digest {
		return m, nil
	}
	return m, s.mark(repo, "tags", ref, m.Digest)
}

func (s *Store) checkReferences(repo string, refs references) error {
	need := slices.Clone(refs.Layers)
	if refs.Config != nil {
		need = append(need, *refs.Config)
	}
	for _, r := range need {
		if len(r.URLs) > 0 {
			continue // a layer that lives elsewhere
		}
		if !s.HasBlob(repo, r.Digest) {
			return fmt.Errorf("%w: %s", errBlobUnknown, r.Digest)
		}
	}
	for _, r := range refs.Manifests {
		hex, err := blob.Hex(r.Digest)
		if err != nil {
			return failure.Mark(failure.Invalid, err)
		}
		if !s.marked(repo, "manifests", hex) {
			return fmt.Errorf("%w: %s", errBlobUnknown, r.Digest)
		}
	}
	return nil
}

// HasBlob reports whether a blob was pushed to a repository.
func (s *Store) HasBlob(repo, digest string) bool {
	hex, err := blob.Hex(digest)
	if err != nil || !s.marked(repo, "blobs", hex) {
		return false
	}
	_, err = s.blobs.Stat(digest)
	return err == nil
}

// OpenBlob opens a blob of a repository; the error wraps [artifact.ErrNotFound] if it has no such blob.
func (s *Store) OpenBlob(repo, digest string) (*os.File, error) {
	if !s.HasBlob(repo, digest) {
		return nil, fmt.Errorf("blob %s of %s: %w", digest, repo, artifact.ErrNotFound)
	}
	return s.blobs.Open(digest)
}

// PutBlob stores a blob in a repository if its digest is the one that is wanted.
func (s *Store) PutBlob(ctx context.Context, repo, digest string, r io.Reader) error {
	hex, err := blob.Hex(digest)
	if err != nil {
		return err
	}
	if _, err := s.blobs.PutAs(ctx, r, digest); err != nil {
		return err
	}
	return s.mark(repo, "blobs", hex, "")
}

// Tags lists the tags of a repository in order; the error wraps [artifact.ErrNotFound] if there is no such repository.
func (s *Store) Tags(repo string) ([]string, error) {
	dir, err := repoFile(repo, "tags", "")
	if err != nil {
		return nil, err
	}
	entries, err := fs.ReadDir(s.root.FS(), dir)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := s.root.Stat(path.Dir(dir)); err == nil {
			return []string{}, nil
		}
		return nil, fmt.Errorf("repository %s: %w", repo, artifact.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("list tags: %w", err)
	}
	tags := make([]string, 0, len(entries))
	for _, e := range entries {
		tags = append(tags, e.Name())
	}
	return tags, nil
}

// Repositories lists the names of all repositories in order.
func (s *Store) Repositories() ([]string, error) {
	entries, err := fs.ReadDir(s.root.FS(), "repos")
	if err != nil {
		return nil, fmt.Errorf("list repositories: %w", err)
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, strings.ReplaceAll(e.Name(), "+", "/"))
	}
	slices.Sort(names)
	return names, nil
}

// Pack packs an image, stores it in repo under tag (none if empty) and returns its digest.
func (s *Store) Pack(ctx context.Context, repo, tag string, o pack.Options) (string, error) {
	img, err := pack.Build(o)
	if err != nil {
		return "", err
	}
	defer func() { _ = img.Close() }()
	if err := s.PutBlob(ctx, repo, img.Layer.Digest, img.OpenLayer()); err != nil {
		return "", err
	}
	if err := s.PutBlob(ctx, repo, img.ConfigDescriptor().Digest, strings.NewReader(string(img.Config))); err != nil {
		return "", err
	}
	if tag == "" {
		tag = img.Digest
	}
	_, err = s.PutManifest(ctx, repo, tag, pack.ManifestType, img.Manifest)
	return img.Digest, err
}

// Remove takes a manifest and the tags that point to it out of a repository. Its blobs go with the next
// [Store.Sweep] if nothing else names them.
func (s *Store) Remove(repo, digest string) error {
	hex, err := blob.Hex(digest)
	if err != nil {
		return err
	}
	tags, err := s.Tags(repo)
	if err != nil {
		return err
	}
	for _, tag := range tags {
		file, _ := repoFile(repo, "tags", tag)
		if b, err := s.root.ReadFile(file); err == nil && string(b) == digest {
			if err := s.root.Remove(file); err != nil {
				return fmt.Errorf("remove tag: %w", err)
			}
		}
	}
	file, _ := repoFile(repo, "manifests", hex)
	if err := s.root.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove manifest: %w", err)
	}
	return nil
}

// Sweep removes blobs that no manifest names and that were written before t, so that a push that is under way,
// whose manifest comes last, is left alone.
func (s *Store) Sweep(ctx context.Context, t time.Time) (artifact.Swept, error) {
	var swept artifact.Swept
	named, err := s.named()
	var old []blob.Blob
	if err == nil {
		err = s.blobs.Each(ctx, func(b blob.Blob) error {
			if !named[b.Digest] && b.Time.Before(t) {
				old = append(old, b)
			}
			return nil
		})
	}
	if err == nil && len(old) > 0 {
		swept, err = s.removeUnnamed(ctx, old)
	}
	if err == nil {
		err = s.blobs.RemoveLeftovers(t)
	}
	if err != nil {
		return swept, fmt.Errorf("sweep images: %w", err)
	}
	return swept, nil
}

// removeUnnamed removes blobs that still nobody names. Only for this do pushes wait, and not while all is looked through.
func (s *Store) removeUnnamed(ctx context.Context, blobs []blob.Blob) (swept artifact.Swept, err error) {
	s.naming.Lock()
	defer s.naming.Unlock()
	named, err := s.named()
	if err != nil {
		return swept, err
	}
	for _, b := range blobs {
		if err := ctx.Err(); err != nil {
			return swept, err
		}
		now, err := s.blobs.Stat(b.Digest)
		if errors.Is(err, artifact.ErrNotFound) || err == nil && (named[b.Digest] || !now.Time.Equal(b.Time)) {
			continue // it is named now, or was written again to be named next
		}
		if err == nil {
			err = s.blobs.Remove(b.Digest)
		}
		if err != nil {
			return swept, err
		}
		swept.Count++
		swept.Bytes += b.Size
	}
	return swept, nil
}

// named collects the digests that manifests of any repository, and pulled images, name.
func (s *Store) named() (map[string]bool, error) {
	named := map[string]bool{}
	add := func(digest string) error {
		named[digest] = true
		body, err := s.blobs.ReadAll(digest, maxManifest)
		if errors.Is(err, artifact.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		var refs references
		if err := json.Unmarshal(body, &refs); err != nil {
			return err
		}
		for _, r := range append(refs.Layers, refs.Manifests...) {
			named[r.Digest] = true
		}
		if refs.Config != nil {
			named[refs.Config.Digest] = true
		}
		return nil
	}
	repos, err := fs.Glob(s.root.FS(), "repos/*/manifests/*")
	if err != nil {
		return nil, err
	}
	for _, m := range repos {
		if err := add("sha256:" + path.Base(m)); err != nil {
			return nil, err
		}
	}
	return named, s.eachPulled(func(p pulled) error {
		named[p.Digest] = true
		return add(p.Manifest)
	})
}

func (s *Store) marked(repo, kind, name string) bool {
	file, err := repoFile(repo, kind, name)
	if err != nil {
		return false
	}
	_, err = s.root.Lstat(file)
	return err == nil
}

// mark writes a small file of a repository in one step.
func (s *Store) mark(repo, kind, name, body string) error {
	file, err := repoFile(repo, kind, name)
	if err != nil {
		return err
	}
	return s.writeFile(file, []byte(body))
}

func (s *Store) writeFile(file string, body []byte) error {
	tmp := path.Join("tmp", rand.Text())
	f, err := s.root.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", file, blob.Explain(err, s.root.Name()))
	}
	_, err = f.Write(body)
	if err == nil && !s.opt.Unsynced {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = s.root.MkdirAll(path.Dir(file), 0o700)
	}
	if err == nil {
		err = s.root.Rename(tmp, file)
	}
	if err == nil && !s.opt.Unsynced {
		err = s.syncUp(path.Dir(file))
	}
	if err != nil {
		_ = s.root.Remove(tmp)
		return fmt.Errorf("write %s: %w", file, blob.Explain(err, s.root.Name()))
	}
	return nil
}

func (s *Store) syncUp(dir string) error {
	for ; dir != "."; dir = path.Dir(dir) {
		d, err := s.root.Open(dir)
		if err != nil {
			return err
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			return err
		}
	}
	return nil
}
