// Package mover brings artifacts in front of steps and takes them away: from and to the default store, raw
// text, Git repositories and HTTP.
package mover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/artifact/archive"
	"github.com/tiphys/tiphys/egress"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/secret"
)

// ErrUnsupported says that a location is of a kind that cannot be moved to or from here.
var ErrUnsupported = failure.New(failure.Invalid, "unsupported artifact location")

// Options of a mover. Only Store is required.
type Options struct {
	// Store is the default repository: where artifacts with nothing but a key are.
	Store artifact.Store
	// Secrets are those that locations name; nil for none.
	Secrets Secrets
	// Guard is asked before a key of the default store is read or written; ctx has the [artifact.Caller].
	// nil: every key may be.
	Guard artifact.Guard
	// OtherStore returns the store for an S3 location with an endpoint or bucket of its own. nil: such
	// locations are refused.
	OtherStore func(ctx context.Context, s3 manifest.S3Artifact) (artifact.Store, error)
	// Own are the repositories of this machine, which are read without HTTP; nil for none.
	Own Repositories
	// GitCommand is the git to run; "git" if empty.
	GitCommand string
	// KnownHosts is the file of SSH host keys; the system's own if empty.
	KnownHosts string
	// Egress reaches other hosts, by HTTP and for git; nil refuses what is to be refused.
	Egress *egress.Client
	// TempDir is for what is not an artifact yet; the system's own if empty.
	TempDir string
	Limits  Limits
}

// Secrets reads Secrets.
type Secrets interface {
	// Secret gives one key of a Secret. The error is of kind failure.NotFound if there is none.
	Secret(ctx context.Context, namespace, name, key string) (secret.Value, error)
}

// Repositories are those that have a folder on this machine.
type Repositories interface {
	// Folder gives the bare folder of the repository that a URL names; ok is false for one that is elsewhere. It refuses what the
	// [artifact.Caller] in ctx may not read.
	Folder(ctx context.Context, url string) (dir string, ok bool, err error)
}

// Limits of one artifact.
type Limits struct {
	// Unpack limits what archives may become.
	Unpack archive.Limits
	// Download limits what is fetched by HTTP, in bytes; 0 for 32 GiB.
	Download int64
	// Save limits what is read of one output artifact, before it is packed, in bytes; 0 for 32 GiB. Holes count as what they are read as.
	Save int64
	// Timeout limits one Fetch or Save; 0 for 30 minutes.
	Timeout time.Duration
}

// Mover is an [artifact.Mover].
type Mover struct {
	o    Options
	http *egress.Transport
}

var _ artifact.Mover = (*Mover)(nil)

// New returns a mover.
func New(o Options) *Mover {
	if o.GitCommand == "" {
		o.GitCommand = "git"
	}
	if o.Limits.Download <= 0 {
		o.Limits.Download = 32 << 30
	}
	if o.Limits.Save <= 0 {
		o.Limits.Save = 32 << 30
	}
	if o.Limits.Timeout <= 0 {
		o.Limits.Timeout = 30 * time.Minute
	}
	return &Mover{o: o, http: o.Egress.Transport(egress.HTTP{Answer: answerTime})}
}

// Fetch implements [artifact.Mover]. As in Argo, an archive is recognised by its content and unpacked unless the
// artifact says "archive: none", and one that holds a single file or folder becomes dest itself.
func (m *Mover) Fetch(ctx context.Context, a manifest.Artifact, dest string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, m.o.Limits.Timeout, fmt.Errorf("it took longer than %s", m.o.Limits.Timeout))
	defer cancel()
	err := m.fetch(ctx, a, dest)
	if err == nil {
		err = setMode(a, dest)
	}
	if err != nil {
		return fmt.Errorf("fetch artifact %q: %w", a.Name, withCause(ctx, err))
	}
	return nil
}

func withCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}

func (m *Mover) fetch(ctx context.Context, a manifest.Artifact, dest string) error {
	if !filepath.IsAbs(dest) {
		return fmt.Errorf("the path %q is not absolute", dest)
	}
	if _, err := os.Lstat(dest); err == nil {
		return fmt.Errorf("there is something at %s already", dest)
	}
	if err := oneLocation(a.ArtifactLocation); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dest), 0o755); err != nil { //nolint:gosec // steps read it as other users
		return fmt.Errorf("make folder: %w", err)
	}
	if a.SubPath == "" {
		return m.fetchWhole(ctx, a, dest)
	}
	return m.fetchPart(ctx, a, dest)
}

func (m *Mover) fetchWhole(ctx context.Context, a manifest.Artifact, dest string) error {
	switch {
	case a.S3 != nil:
		return m.fetchKey(ctx, a, dest)
	case a.Raw != nil:
		return m.materialise(ctx, a, rawReader(a.Raw), dest)
	case a.HTTP != nil:
		return m.fetchHTTP(ctx, a, dest)
	case a.Git != nil:
		return m.fetchGit(ctx, a.Git, dest)
	}
	return refuse(a.ArtifactLocation)
}

// fetchPart fetches what lies at SubPath within the artifact.
func (m *Mover) fetchPart(ctx context.Context, a manifest.Artifact, dest string) error {
	sub := a.SubPath
	a.SubPath = ""
	if a.S3 != nil {
		// In Argo the sub path is appended to the key. What was saved as one archive has no such key.
		inner := a
		s3 := *a.S3
		s3.Key += "/" + sub
		inner.S3 = &s3
		if err := m.fetchKey(ctx, inner, dest); !errors.Is(err, artifact.ErrNotFound) {
			return err
		}
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dest), ".part-")
	if err != nil {
		return fmt.Errorf("make temporary folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	if err := m.fetchWhole(ctx, a, filepath.Join(tmp, "whole")); err != nil {
		return err
	}
	root, err := os.OpenRoot(filepath.Join(tmp, "whole"))
	if err != nil {
		return fmt.Errorf("sub path %q of an artifact that is not a folder: %w", sub, err)
	}
	defer func() { _ = root.Close() }()
	part, err := archive.Open(root.Name(), sub)
	if err != nil {
		return fmt.Errorf("sub path: %w", err)
	}
	defer func() { _ = part.Close() }()
	return archive.Copy(ctx, part, dest)
}

// oneLocation makes sure that at most one location is given.
func oneLocation(l manifest.ArtifactLocation) error {
	n := 0
	for _, given := range []bool{
		l.S3 != nil, l.Git != nil, l.HTTP != nil, l.Raw != nil, l.GCS != nil, l.Azure != nil, l.OSS != nil,
		l.HDFS != nil, l.Artifactory != nil, l.Plugin != nil,
	} {
		if given {
			n++
		}
	}
	if n > 1 {
		return errors.New("it has more than one location; keep one of s3, git, http and raw")
	}
	return nil
}

// refuse says what to do about a location that has no driver.
func refuse(l manifest.ArtifactLocation) error {
	var kind string
	switch {
	case l.GCS != nil:
		kind = "gcs"
	case l.Azure != nil:
		kind = "azure"
	case l.OSS != nil:
		kind = "oss"
	case l.HDFS != nil:
		kind = "hdfs"
	case l.Artifactory != nil:
		kind = "artifactory"
	case l.Plugin != nil:
		kind = "plugin"
	default:
		return fmt.Errorf("%w: it has no location; give it s3 (with only a key), git, http or raw", ErrUnsupported)
	}
	return fmt.Errorf("%w: %s; use s3 with only a key, which is the default store, or http", ErrUnsupported, kind)
}

// storeOf returns the store of an S3 location, and the keys under which what it names may be, after asking for leave.
func (m *Mover) storeOf(ctx context.Context, s3 manifest.S3Artifact, write bool) (artifact.Store, []string, error) {
	if s3.Endpoint != "" || s3.Bucket != "" {
		if m.o.OtherStore == nil {
			return nil, nil, fmt.Errorf("%w: s3 with its own endpoint or bucket (%s%s); leave only the key, and the default store is used",
				ErrUnsupported, s3.Endpoint, "/"+s3.Bucket)
		}
		other, err := m.o.OtherStore(ctx, s3)
		return other, []string{s3.Key}, err
	}
	places, err := artifact.Places(ctx, m.o.Guard, s3.Key, write)
	return m.o.Store, places, err
}

// fetchKey fetches an object, or all objects beneath a key, which become a folder.
func (m *Mover) fetchKey(ctx context.Context, a manifest.Artifact, dest string) error {
	store, places, err := m.storeOf(ctx, *a.S3, false)
	if err != nil {
		return err
	}
	missing := fmt.Errorf("%s: %w", a.S3.Key, artifact.ErrNotFound)
	for _, key := range places {
		r, _, err := store.Get(ctx, key)
		if errors.Is(err, artifact.ErrNotFound) {
			if missing = fetchPrefix(ctx, store, key, dest, err); errors.Is(missing, artifact.ErrNotFound) {
				continue
			}
			return missing
		}
		if err != nil {
			return err
		}
		defer func() { _ = r.Close() }()
		return m.materialise(ctx, a, r, dest)
	}
	return missing
}

// materialise writes a stream to dest, unpacked if it is an archive.
func (m *Mover) materialise(ctx context.Context, a manifest.Artifact, r io.Reader, dest string) error {
	br := archive.NewReader(r)
	kind := archive.Plain
	if a.Archive == nil || a.Archive.None == nil {
		kind = archive.Detect(br)
	}
	switch kind {
	case archive.TarKind:
		return archive.Tar(ctx, br, dest, m.o.Limits.Unpack)
	case archive.TarGzip:
		z, err := archive.Gunzip(br)
		if err != nil {
			return err
		}
		if err := archive.Tar(ctx, z, dest, m.o.Limits.Unpack); err != nil {
			return err
		}
		return drain(ctx, br)
	case archive.ZipKind:
		return m.unzip(ctx, br, dest)
	}
	return archive.WriteFile(ctx, br, dest, 0o644)
}

// drain reads what follows an archive, so that a store which checks digests at the end gets to its check.
func drain(ctx context.Context, r io.Reader) error {
	if _, err := io.Copy(io.Discard, archive.ContextReader(ctx, r)); err != nil {
		return fmt.Errorf("read to the end: %w", err)
	}
	return nil
}

func (m *Mover) unzip(ctx context.Context, r io.Reader, dest string) error {
	tmp, size, err := m.spool(ctx, r)
	if err != nil {
		return err
	}
	defer func() { _ = tmp.Close() }()
	return archive.Zip(ctx, tmp, size, dest, m.o.Limits.Unpack)
}

// spool writes a stream to a temporary file that has no name any more.
func (m *Mover) spool(ctx context.Context, r io.Reader) (*os.File, int64, error) {
	tmp, err := os.CreateTemp(m.o.TempDir, "artifact-")
	if err != nil {
		return nil, 0, fmt.Errorf("make temporary file: %w", err)
	}
	_ = os.Remove(tmp.Name())
	n, err := io.Copy(tmp, archive.ContextReader(ctx, r))
	if err == nil {
		_, err = tmp.Seek(0, io.SeekStart)
	}
	if err != nil {
		_ = tmp.Close()
		return nil, 0, fmt.Errorf("write temporary file: %w", err)
	}
	return tmp, n, nil
}

// secretOf returns the Secret's key that sel names; an optional one that is not there is the zero Value.
func (m *Mover) secretOf(ctx context.Context, sel *corev1.SecretKeySelector) (secret.Value, error) {
	if sel == nil {
		return secret.Value{}, nil
	}
	ns := artifact.CallerFrom(ctx).Namespace
	if m.o.Secrets == nil {
		return secret.Value{}, fmt.Errorf("secret %s/%s: there are no Secrets here", ns, sel.Name)
	}
	v, err := m.o.Secrets.Secret(ctx, ns, sel.Name, sel.Key)
	if err != nil && sel.Optional != nil && *sel.Optional && failure.Is(err, failure.NotFound) {
		return secret.Value{}, nil
	}
	if err != nil {
		return secret.Value{}, fmt.Errorf("secret %s/%s, key %s: %w", ns, sel.Name, sel.Key, err)
	}
	return v, nil
}
