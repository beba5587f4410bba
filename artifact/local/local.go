// Package local is the artifact store in a folder of this machine.
//
// Contents are kept once, by digest (artifact/blob); a key is a small file that names a digest. A segment of a
// key becomes a folder "+segment" and the last one a file "=segment", so that "a" and "a/b" can both be keys,
// which object stores allow and file systems do not.
package local

import (
	"context"
	"crypto/rand"
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
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/artifact/blob"
)

// Options of a store.
type Options struct {
	// MaxObject limits one object, in bytes; 0 for no limit.
	MaxObject int64
	// Unsynced leaves it to the kernel when objects reach the disk; for stores that nobody needs after a crash.
	Unsynced bool
	// Now is the clock; time.Now if nil.
	Now func() time.Time
}

// Store is an [artifact.Store] in a folder.
type Store struct {
	root  *os.Root
	dir   string
	blobs *blob.Folder
	opt   Options
	// names guards the tree of keys: adding a name and removing an empty folder exclude each other, and a sweep
	// excludes readers between a key and its blob.
	names sync.RWMutex
}

var _ artifact.Store = (*Store)(nil)

// Open opens the store in dir, and makes it if it is not there.
func Open(dir string, o Options) (*Store, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make artifact store: %w", err)
	}
	blobs, err := blob.Open(filepath.Join(dir, "blobs"), blob.Options{MaxSize: o.MaxObject, Unsynced: o.Unsynced})
	if err != nil {
		return nil, fmt.Errorf("open artifact store: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		_ = blobs.Close()
		return nil, fmt.Errorf("open artifact store: %w", err)
	}
	s := &Store{root: root, dir: dir, blobs: blobs, opt: o}
	for _, sub := range []string{"keys", "tmp"} {
		if err := root.MkdirAll(sub, 0o700); err != nil {
			_ = s.Close()
			return nil, fmt.Errorf("make artifact store: %w", err)
		}
	}
	return s, nil
}

// Close releases the folder; readers that are open go on.
func (s *Store) Close() error { return errors.Join(s.root.Close(), s.blobs.Close()) }

// Put implements [artifact.Store].
func (s *Store) Put(ctx context.Context, key string, r io.Reader) (artifact.Info, error) {
	if err := artifact.CheckKey(key); err != nil {
		return artifact.Info{}, err
	}
	b, err := s.blobs.Put(ctx, r)
	if err != nil {
		return artifact.Info{}, fmt.Errorf("put artifact %s: %w", key, err)
	}
	info := artifact.Info{Key: key, Digest: b.Digest, Size: b.Size, Time: s.opt.Now().UTC()}
	if err := s.name(info); err != nil {
		return artifact.Info{}, fmt.Errorf("put artifact %s: %w", key, err)
	}
	return info, nil
}

// name lets the key of info point to its blob.
func (s *Store) name(info artifact.Info) error {
	body, err := json.Marshal(info)
	if err != nil {
		return err
	}
	tmp := path.Join("tmp", rand.Text())
	if err := s.writeFile(tmp, body); err != nil {
		_ = s.root.Remove(tmp)
		return blob.Explain(err, s.dir)
	}
	file := keyFile(info.Key)
	s.names.Lock()
	err = s.root.MkdirAll(path.Dir(file), 0o700)
	if err == nil {
		err = s.root.Rename(tmp, file)
	}
	s.names.Unlock()
	if err != nil {
		_ = s.root.Remove(tmp)
		return blob.Explain(err, s.dir)
	}
	return s.syncUp(path.Dir(file))
}

func (s *Store) writeFile(name string, body []byte) error {
	f, err := s.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(body)
	if err == nil && !s.opt.Unsynced {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncUp syncs a folder and those above it, since any of them may be new.
func (s *Store) syncUp(dir string) error {
	if s.opt.Unsynced {
		return nil
	}
	for ; dir != "."; dir = path.Dir(dir) {
		d, err := s.root.Open(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a Delete of the same key was faster
		}
		if err != nil {
			return fmt.Errorf("sync keys: %w", err)
		}
		err = errors.Join(d.Sync(), d.Close())
		if err != nil {
			return fmt.Errorf("sync keys: %w", err)
		}
	}
	return nil
}

// Get implements [artifact.Store]. The reader ends with an error instead of io.EOF if the bytes on disk are
// not those that were put.
func (s *Store) Get(_ context.Context, key string) (io.ReadCloser, artifact.Info, error) {
	if err := artifact.CheckKey(key); err != nil {
		return nil, artifact.Info{}, err
	}
	s.names.RLock()
	defer s.names.RUnlock()
	info, err := s.info(keyFile(key))
	if err != nil {
		return nil, artifact.Info{}, notFound(key, err)
	}
	f, err := s.blobs.Open(info.Digest)
	if err != nil {
		return nil, artifact.Info{}, fmt.Errorf("get artifact %s: %w", key, err)
	}
	return &verified{f: f, hash: sha256.New(), info: info}, info, nil
}

// Stat implements [artifact.Store].
func (s *Store) Stat(_ context.Context, key string) (artifact.Info, error) {
	if err := artifact.CheckKey(key); err != nil {
		return artifact.Info{}, err
	}
	info, err := s.info(keyFile(key))
	if err != nil {
		return artifact.Info{}, notFound(key, err)
	}
	return info, nil
}

func notFound(key string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("artifact %s: %w", key, artifact.ErrNotFound)
	}
	return fmt.Errorf("look up artifact %s: %w", key, err)
}

func (s *Store) info(file string) (artifact.Info, error) {
	body, err := s.root.ReadFile(file)
	if err != nil {
		return artifact.Info{}, err
	}
	var info artifact.Info
	if err := json.Unmarshal(body, &info); err != nil {
		return artifact.Info{}, fmt.Errorf("read key file %s: %w", filepath.Join(s.dir, file), err)
	}
	return info, nil
}

// List implements [artifact.Store]. The prefix need not end at a slash.
func (s *Store) List(ctx context.Context, prefix string) ([]artifact.Info, error) {
	start := "keys"
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		if err := artifact.CheckKey(prefix[:i]); err != nil {
			return nil, fmt.Errorf("list artifacts: %w", err)
		}
		start = keyFolder(prefix[:i])
	}
	var found []artifact.Info
	err := fs.WalkDir(s.root.FS(), start, func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the folder is not there, or went while we looked
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || d.IsDir() {
			return err
		}
		if !strings.HasPrefix(fileKey(p), prefix) {
			return nil
		}
		info, err := s.info(p)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		found = append(found, info)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list artifacts: %w", err)
	}
	slices.SortFunc(found, func(a, b artifact.Info) int { return strings.Compare(a.Key, b.Key) })
	return found, nil
}

// Delete implements [artifact.Store]. It removes the key at once; the content goes with the next [Store.Sweep]
// if no other key has it.
func (s *Store) Delete(_ context.Context, key string) error {
	if err := artifact.CheckKey(key); err != nil {
		return err
	}
	file := keyFile(key)
	s.names.Lock()
	defer s.names.Unlock()
	err := s.root.Remove(file)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("delete artifact %s: %w", key, err)
	}
	for dir := path.Dir(file); dir != "keys"; dir = path.Dir(dir) {
		if s.root.Remove(dir) != nil {
			break // not empty
		}
	}
	return nil
}

// Sweep removes contents that no key names and that were written at least grace ago; younger ones may belong to
// a Put that has not named its content yet, possibly in another process. It also removes what crashes left behind.
func (s *Store) Sweep(ctx context.Context, grace time.Duration) (artifact.Swept, error) {
	before := s.opt.Now().Add(-grace)
	var swept artifact.Swept
	named, err := s.named(ctx)
	var old []blob.Blob
	if err == nil {
		err = s.blobs.Each(ctx, func(b blob.Blob) error {
			if !named[b.Digest] && b.Time.Before(before) {
				old = append(old, b)
			}
			return nil
		})
	}
	if err == nil && len(old) > 0 {
		swept, err = s.removeUnnamed(ctx, old, before)
	}
	if err == nil {
		err = s.blobs.RemoveLeftovers(before)
	}
	if err != nil {
		return swept, fmt.Errorf("sweep artifacts: %w", err)
	}
	return swept, s.removeLeftovers(before)
}

// removeUnnamed removes contents that still no key names, and that nobody wrote again meanwhile. Only for this do writers
// wait, and not while all is looked through.
func (s *Store) removeUnnamed(ctx context.Context, blobs []blob.Blob, before time.Time) (swept artifact.Swept, err error) {
	s.names.Lock()
	defer s.names.Unlock()
	named, err := s.named(ctx)
	if err != nil {
		return swept, err
	}
	for _, b := range blobs {
		now, err := s.blobs.Stat(b.Digest)
		if errors.Is(err, artifact.ErrNotFound) || err == nil && (named[b.Digest] || !now.Time.Before(before)) {
			continue
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

// named gives the digests that keys name.
func (s *Store) named(ctx context.Context) (map[string]bool, error) {
	all, err := s.List(ctx, "")
	if err != nil {
		return nil, err
	}
	named := make(map[string]bool, len(all))
	for _, info := range all {
		named[info.Digest] = true
	}
	return named, nil
}

func (s *Store) removeLeftovers(before time.Time) error {
	entries, err := fs.ReadDir(s.root.FS(), "tmp")
	if err != nil {
		return fmt.Errorf("sweep temporary files: %w", err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.ModTime().Before(before) {
			_ = s.root.Remove(path.Join("tmp", e.Name()))
		}
	}
	return nil
}

// keyFolder is the folder that holds the keys beneath key.
func keyFolder(key string) string {
	return path.Join("keys", "+"+strings.ReplaceAll(key, "/", "/+"))
}

// keyFile is the file that names the digest of key.
func keyFile(key string) string {
	i := strings.LastIndexByte(key, '/')
	if i < 0 {
		return path.Join("keys", "="+key)
	}
	return path.Join(keyFolder(key[:i]), "="+key[i+1:])
}

// fileKey undoes keyFile.
func fileKey(file string) string {
	segments := strings.Split(strings.TrimPrefix(file, "keys/"), "/")
	for i, s := range segments {
		segments[i] = s[1:]
	}
	return strings.Join(segments, "/")
}

// verified reads an object and compares its digest at the end.
type verified struct {
	f    *os.File
	hash hash.Hash
	info artifact.Info
	bad  error
}

func (v *verified) Read(p []byte) (int, error) {
	if v.bad != nil {
		return 0, v.bad
	}
	n, err := v.f.Read(p)
	v.hash.Write(p[:n])
	if errors.Is(err, io.EOF) && "sha256:"+hex.EncodeToString(v.hash.Sum(nil)) != v.info.Digest {
		v.bad = fmt.Errorf("get artifact %s: %w: the file on disk is damaged", v.info.Key, blob.ErrMismatch)
		err = v.bad
	}
	return n, err
}

func (v *verified) Close() error { return v.f.Close() }
