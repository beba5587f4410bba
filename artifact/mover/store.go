package mover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/artifact/archive"
	"github.com/tiphys/tiphys/manifest"
)

func rawReader(r *manifest.RawArtifact) io.Reader { return strings.NewReader(r.Data) }

// fetchPrefix writes the objects beneath key to a folder dest; notFound is the error if there are none.
func fetchPrefix(ctx context.Context, store artifact.Store, key, dest string, notFound error) error {
	prefix := strings.TrimSuffix(key, "/") + "/"
	infos, err := store.List(ctx, prefix)
	if err != nil {
		return err
	}
	if len(infos) == 0 {
		return notFound
	}
	if err := os.Mkdir(dest, 0o755); err != nil { //nolint:gosec // steps read it as other users
		return fmt.Errorf("make folder: %w", err)
	}
	root, err := os.OpenRoot(dest)
	if err != nil {
		return fmt.Errorf("open folder: %w", err)
	}
	defer func() { _ = root.Close() }()
	for _, info := range infos {
		if err := fetchInto(ctx, store, info.Key, root, strings.TrimPrefix(info.Key, prefix)); err != nil {
			return err
		}
	}
	return nil
}

func fetchInto(ctx context.Context, store artifact.Store, key string, root *os.Root, name string) error {
	r, _, err := store.Get(ctx, key)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return fmt.Errorf("make folder for %s: %w", key, err)
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	_, err = io.Copy(f, archive.ContextReader(ctx, r))
	return errors.Join(err, f.Close())
}

// Save implements [artifact.Mover]. An artifact without a location goes to the default store, to the key
// owner/node/name of the [artifact.Caller], with ".tgz" or ".zip" if it is packed.
func (m *Mover) Save(ctx context.Context, a manifest.Artifact, root, src string) (artifact.Saved, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, m.o.Limits.Timeout, fmt.Errorf("it took longer than %s", m.o.Limits.Timeout))
	defer cancel()
	saved, err := m.save(ctx, a, root, src)
	if errors.Is(err, archive.ErrTooMuch) {
		err = fmt.Errorf("%s: %w: %d bytes, with the holes in files", src, err, m.o.Limits.Save)
	}
	if err != nil {
		return artifact.Saved{}, fmt.Errorf("save artifact %q: %w", a.Name, withCause(ctx, err))
	}
	return saved, nil
}

func (m *Mover) save(ctx context.Context, a manifest.Artifact, root, src string) (artifact.Saved, error) {
	if err := oneLocation(a.ArtifactLocation); err != nil {
		return artifact.Saved{}, err
	}
	switch {
	case a.Git != nil:
		return artifact.Saved{}, fmt.Errorf("%w: git can only be an input; commit and push in the step itself", ErrUnsupported)
	case a.Raw != nil:
		return artifact.Saved{}, fmt.Errorf("%w: raw can only be an input", ErrUnsupported)
	}
	s, err := archive.OpenAs(artifact.OpenerFrom(ctx), root, src)
	if err != nil {
		return artifact.Saved{}, err
	}
	defer func() { _ = s.Close() }()
	s.Limit(m.o.Limits.Save)
	switch {
	case a.HTTP != nil:
		return m.saveHTTP(ctx, a, s)
	case a.S3 != nil:
		return m.saveKey(ctx, a, s)
	case noLocation(a.ArtifactLocation):
		key, err := defaultKey(ctx, a)
		if err != nil {
			return artifact.Saved{}, err
		}
		a.S3 = &manifest.S3Artifact{Key: key}
		return m.saveKey(ctx, a, s)
	}
	return artifact.Saved{}, refuse(a.ArtifactLocation)
}

func noLocation(l manifest.ArtifactLocation) bool {
	return l.GCS == nil && l.Azure == nil && l.OSS == nil && l.HDFS == nil && l.Artifactory == nil && l.Plugin == nil
}

func defaultKey(ctx context.Context, a manifest.Artifact) (string, error) {
	c := artifact.CallerFrom(ctx)
	if c.Owner == "" || c.Node == "" || a.Name == "" {
		return "", errors.New("it has no location, and nobody said whose it is; give it s3 with a key")
	}
	key := c.Owner + "/" + c.Node + "/" + a.Name
	switch {
	case a.Archive != nil && a.Archive.None != nil:
	case a.Archive != nil && a.Archive.Zip != nil:
		key += ".zip"
	default:
		key += ".tgz"
	}
	return key, nil
}

func (m *Mover) saveKey(ctx context.Context, a manifest.Artifact, s *archive.Source) (artifact.Saved, error) {
	store, places, err := m.storeOf(ctx, *a.S3, true)
	if err != nil {
		return artifact.Saved{}, err
	}
	// It is on record where it is, so that whoever reads it by the record reads this and nothing else.
	s3 := *a.S3
	s3.Key = places[0]
	a.S3 = &s3
	if s.IsDir() && a.Archive != nil && a.Archive.None != nil {
		return m.saveTree(ctx, store, a, s)
	}
	var info artifact.Info
	err = encode(ctx, a.Archive, s, func(r io.Reader) error {
		info, err = store.Put(ctx, a.S3.Key, r)
		return err
	})
	if err != nil {
		return artifact.Saved{}, err
	}
	return artifact.Saved{Artifact: a, Digest: info.Digest, Size: info.Size}, nil
}

// saveTree stores each file of a folder under a key of its own, as Argo does with "archive: none". The digest
// is that of the list of keys, digests and sizes.
func (m *Mover) saveTree(ctx context.Context, store artifact.Store, a manifest.Artifact, s *archive.Source) (artifact.Saved, error) {
	saved := artifact.Saved{Artifact: a}
	sum := newListSum()
	err := s.Walk(ctx, func(e archive.Entry) error {
		if e.Info.IsDir() || e.Info.Mode().Type() == fs.ModeSymlink {
			return nil // a link is no file that has a key; Argo leaves it out, too (generatePutTasks in workflow/artifacts/s3/s3.go)
		}
		f, err := e.Open()
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		key := strings.TrimSuffix(a.S3.Key, "/") + "/" + e.Path
		if store == m.o.Store {
			if _, err := artifact.Places(ctx, m.o.Guard, key, true); err != nil {
				return err
			}
		}
		info, err := store.Put(ctx, key, archive.ContextReader(ctx, f))
		if err != nil {
			return err
		}
		saved.Size += info.Size
		sum.add(e.Path, info)
		return nil
	})
	if err != nil {
		return artifact.Saved{}, err
	}
	saved.Digest = sum.digest()
	return saved, nil
}

// encode gives put the encoded source as a stream.
func encode(ctx context.Context, how *manifest.ArchiveStrategy, s *archive.Source, put func(io.Reader) error) error {
	if how != nil && how.None != nil {
		if s.IsDir() {
			return errors.New("a folder cannot be saved here with \"archive: none\"; leave archive out, or use s3 with a key")
		}
		return put(s.Reader())
	}
	pr, pw := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		pw.CloseWithError(pack(ctx, how, pw, s))
	}()
	err := put(pr)
	_ = pr.CloseWithError(errors.New("nobody reads the archive any more"))
	<-done
	return err
}

func pack(ctx context.Context, how *manifest.ArchiveStrategy, w io.Writer, s *archive.Source) error {
	if how != nil && how.Zip != nil {
		return archive.WriteZip(ctx, w, s)
	}
	level := -1
	if how != nil && how.Tar != nil && how.Tar.CompressionLevel != nil {
		level = int(*how.Tar.CompressionLevel)
	}
	return archive.WriteTarGzip(ctx, w, s, level)
}

// setMode gives the artifact the permissions that it asks for.
func setMode(a manifest.Artifact, dest string) error {
	if a.Mode == nil {
		return nil
	}
	mode := fs.FileMode(*a.Mode).Perm() //nolint:gosec // Perm masks it
	info, err := os.Lstat(dest)
	if err != nil {
		return fmt.Errorf("set mode: %w", err)
	}
	if info.IsDir() && a.RecurseMode {
		return chmodAll(dest, mode)
	}
	if err := os.Chmod(dest, mode); err != nil {
		return fmt.Errorf("set mode: %w", err)
	}
	return nil
}

func chmodAll(dest string, mode fs.FileMode) error {
	root, err := os.OpenRoot(dest)
	if err != nil {
		return fmt.Errorf("set mode: %w", err)
	}
	defer func() { _ = root.Close() }()
	var names []string
	err = fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type() != fs.ModeSymlink {
			names = append(names, p)
		}
		return err
	})
	for i := len(names) - 1; i >= 0 && err == nil; i-- {
		err = root.Chmod(names[i], mode)
	}
	if err != nil {
		return fmt.Errorf("set mode: %w", err)
	}
	return nil
}
