package repo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/tiphys/tiphys/egress"
	"github.com/tiphys/tiphys/repo/git"
)

// Own is a Git host of whose repositories the folders are here: it is asked for its own URLs, and nothing is fetched.
type Own interface {
	// RepositoryOf tells which of its repositories a URL names.
	RepositoryOf(url string) (name string, ok bool)
	// Resolve turns a branch, tag, commit or HEAD into a commit's full hash.
	Resolve(ctx context.Context, name, revision string) (string, error)
	// Checkout writes the files of a revision into a new folder and returns the commit.
	Checkout(ctx context.Context, name, revision, dest string) (string, error)
	// File reads one file at a revision, at most [MaxFile] bytes.
	File(ctx context.Context, name, revision, path string) ([]byte, error)
	// DefaultBranch gives the name of the branch that HEAD is; empty if the host does not know one.
	DefaultBranch(ctx context.Context, name string) (string, error)
	// Tags lists its tags.
	Tags(ctx context.Context, name string) ([]string, error)
}

// StoreOptions of a Store. Dir and Checkouts are required.
type StoreOptions struct {
	// Dir keeps what was fetched, and Checkouts the checkouts while they are in use.
	Dir, Checkouts string
	// Own are the hosts whose repositories are here, asked in order.
	Own []Own
	// Egress is the way to hosts elsewhere; nil refuses what is to be refused.
	Egress *egress.Client
	// Git is the program's path; empty for the one of the PATH.
	Git string
	// Longest bounds a fetch; 0 means five minutes.
	Longest time.Duration
	Now     func() time.Time
}

// Store reads any Git repository by its URL. What lies elsewhere is fetched once for each commit, into a bare repository
// that is kept for each URL. Create it with Open; methods are safe for concurrent use and end with their context.
type Store struct {
	o   StoreOptions
	git *git.Runner

	mu    sync.Mutex
	locks map[string]*urlLock
}

// urlLock is held by who fetches from a URL; a channel, so that waiting for it ends with a context.
type urlLock struct {
	held  chan struct{}
	users int
}

// defaultLongest bounds a fetch of a repository elsewhere.
const defaultLongest = 5 * time.Minute

// Open returns a store in a folder, which it makes.
func Open(o StoreOptions) (*Store, error) {
	if o.Longest == 0 {
		o.Longest = defaultLongest
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Store{o: o, locks: map[string]*urlLock{}}
	err := errors.Join(
		os.MkdirAll(o.Dir, 0o700),
		os.MkdirAll(o.Checkouts, 0o755), //nolint:gosec // who renders and evaluates checkouts is another user
	)
	if err != nil {
		return nil, fmt.Errorf("open store of repositories: %w", err)
	}
	s.git = git.New(o.Git,
		git.Setting{Key: "protocol.allow", Value: "never"},
		git.Setting{Key: "protocol.http.allow", Value: "always"},
		git.Setting{Key: "protocol.https.allow", Value: "always"},
		git.Setting{Key: "protocol.ssh.allow", Value: "always"},
		git.Setting{Key: "fetch.recurseSubmodules", Value: "false"},
	)
	return s, nil
}

// own finds the host that a URL belongs to.
func (s *Store) own(raw string) (Own, string, bool) {
	for _, o := range s.o.Own {
		if name, ok := o.RepositoryOf(raw); ok {
			return o, name, true
		}
	}
	return nil, "", false
}

// Resolve turns a branch, tag, commit or HEAD (empty is HEAD) into a commit's full hash. An unknown one is ErrNotFound.
func (s *Store) Resolve(ctx context.Context, raw, revision string) (string, error) {
	if o, name, ok := s.own(raw); ok {
		return o.Resolve(ctx, name, revision)
	}
	var sha string
	err := s.with(ctx, raw, revision, func(b Bare) (err error) {
		sha, err = s.fetch(ctx, b, raw, revision)
		return err
	})
	return sha, err
}

// File reads a regular file at a revision, at most MaxFile bytes.
func (s *Store) File(ctx context.Context, raw, revision, path string) ([]byte, error) {
	if o, name, ok := s.own(raw); ok {
		return o.File(ctx, name, revision, path)
	}
	if err := CheckPath(path); err != nil {
		return nil, err
	}
	var content []byte
	err := s.with(ctx, raw, revision, func(b Bare) error {
		sha, err := s.fetch(ctx, b, raw, revision)
		if err == nil {
			content, err = b.File(ctx, sha, path)
		}
		return err
	})
	return content, err
}

// Checkout gives a folder with the files at a revision, readable for other users of the machine, and the commit's full
// hash. The folder stays until release is called.
func (s *Store) Checkout(ctx context.Context, raw, revision string) (dir, sha string, release func(), err error) {
	holder, err := os.MkdirTemp(s.o.Checkouts, "")
	if err != nil {
		return "", "", nil, fmt.Errorf("make folder for checkout: %w", err)
	}
	release = func() { _ = os.RemoveAll(holder) } // what is left is swept
	dir = filepath.Join(holder, "tree")
	if o, name, ok := s.own(raw); ok {
		sha, err = o.Checkout(ctx, name, revision, dir)
	} else {
		err = s.with(ctx, raw, revision, func(b Bare) error {
			sha, err = s.fetch(ctx, b, raw, revision)
			if err == nil {
				err = b.Checkout(ctx, sha, dir)
			}
			return err
		})
	}
	if err == nil {
		err = os.Chmod(holder, 0o755) //nolint:gosec // who renders and evaluates it is another user
	}
	if err != nil {
		release()
		return "", "", nil, err
	}
	return dir, sha, release, nil
}

// DefaultBranch gives the name of the branch that HEAD is.
func (s *Store) DefaultBranch(ctx context.Context, raw string) (string, error) {
	if o, name, ok := s.own(raw); ok {
		branch, err := o.DefaultBranch(ctx, name)
		if err == nil && branch == "" {
			err = fmt.Errorf("%s has no branch yet: %w", name, ErrNotFound)
		}
		return branch, err
	}
	if err := checkURL(raw); err != nil {
		return "", err
	}
	f, err := s.leave(ctx, raw)
	if err != nil {
		return "", err
	}
	defer f.route.Close()
	out, err := f.git.Run(ctx, git.Call{Env: f.env, Args: []string{"ls-remote", "--symref", "--", f.url, "HEAD"}})
	if err != nil {
		return "", f.explain(raw, err)
	}
	for line := range strings.Lines(out) {
		ref, name, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if branch, ok := strings.CutPrefix(ref, "ref: refs/heads/"); ok && name == "HEAD" {
			return branch, nil
		}
	}
	return "", fmt.Errorf("%s has no default branch: %w", Redact(raw), ErrNotFound)
}

// with calls f with the bare repository that is kept for a URL, which nobody else uses meanwhile.
func (s *Store) with(ctx context.Context, raw, revision string, f func(Bare) error) error {
	if err := errors.Join(checkURL(raw), checkRevision(revision)); err != nil {
		return err
	}
	digest := sha256.Sum256([]byte(raw))
	id := hex.EncodeToString(digest[:])
	unlock, err := s.lock(ctx, id)
	if err != nil {
		return fmt.Errorf("wait for another fetch of %s: %w", Redact(raw), err)
	}
	defer unlock()
	b := Bare{Git: s.git, Dir: filepath.Join(s.o.Dir, id)}
	if _, err := os.Stat(filepath.Join(b.Dir, "HEAD")); errors.Is(err, fs.ErrNotExist) {
		if _, err := s.git.Run(ctx, git.Call{Args: []string{"init", "--quiet", "--bare", "--template=", "--", b.Dir}}); err != nil {
			return err
		}
	}
	now := s.o.Now()
	if err := os.Chtimes(b.Dir, now, now); err != nil { // Sweep goes by it
		return fmt.Errorf("note the use of %s: %w", Redact(raw), err)
	}
	return f(b)
}

// lock takes a URL's lock.
func (s *Store) lock(ctx context.Context, id string) (unlock func(), err error) {
	s.mu.Lock()
	l, ok := s.locks[id]
	if !ok {
		l = &urlLock{held: make(chan struct{}, 1)}
		s.locks[id] = l
	}
	l.users++
	s.mu.Unlock()
	leave := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(s.locks, id)
		}
	}
	select {
	case l.held <- struct{}{}:
		return func() { <-l.held; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, context.Cause(ctx)
	}
}

var fullHash = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`) })

// fetch brings a revision into the bare repository and gives its commit. A commit that is there is not fetched again.
func (s *Store) fetch(ctx context.Context, b Bare, raw, revision string) (string, error) {
	if revision == "" {
		revision = "HEAD"
	}
	if fullHash().MatchString(revision) {
		if sha, err := b.commit(ctx, revision); err == nil {
			return sha, nil
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.o.Longest, fmt.Errorf("it took longer than %s", s.o.Longest))
	defer cancel()
	f, err := s.leave(ctx, raw)
	if err != nil {
		return "", err
	}
	defer f.route.Close()
	_, err = f.run(ctx, b, s.o.Longest, "--depth=1", "--", f.url, revision)
	if err != nil && git.ExitCode(err) > 0 && hexPattern().MatchString(revision) {
		// Not every host gives a commit by its hash, and none by the beginning of one: look among all branches and tags.
		if _, err := f.run(ctx, b, s.o.Longest, append(b.deepen(), "--tags", "--", f.url, "+refs/heads/*:refs/heads/*")...); err != nil {
			return "", f.explain(raw, err)
		}
		sha, err := b.commit(ctx, revision)
		if err != nil {
			return "", fmt.Errorf("revision %q of %s: %w", revision, Redact(raw), ErrNotFound)
		}
		return sha, nil
	}
	if err != nil {
		return "", f.explain(raw, err)
	}
	sha, err := b.commit(ctx, "FETCH_HEAD")
	if err != nil {
		return "", fmt.Errorf("revision %q of %s is no commit: %w", revision, Redact(raw), ErrNotFound)
	}
	return sha, nil
}

// deepen is what a fetch of everything needs where a commit was fetched without its history.
func (b Bare) deepen() []string {
	if _, err := os.Stat(filepath.Join(b.Dir, "shallow")); err == nil {
		return []string{"--unshallow"}
	}
	return nil
}

var hexPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-f]{7,64}$`) })

// commit gives the full hash of a commit that is there.
func (b Bare) commit(ctx context.Context, revision string) (string, error) {
	out, err := b.Git.Read(ctx, b.Dir, "rev-parse", "--verify", "--quiet", "--end-of-options", revision+"^{commit}")
	return strings.TrimSpace(out), err
}

// checkRevision refuses what git could take for something else than the name of a branch, tag or commit.
func checkRevision(revision string) error {
	if len(revision) > 255 || strings.HasPrefix(revision, "-") || strings.HasPrefix(revision, "+") || strings.ContainsAny(revision, " \t\n\r\x00~^:?*[\\") || strings.Contains(revision, "..") || strings.Contains(revision, "@{") {
		return fmt.Errorf("%.100q is not a branch, tag or commit: %w", revision, ErrNotFound)
	}
	return nil
}

// Sweep removes what was fetched and not used since a time, and checkouts that a crash left before it. It returns how
// many it removed; what cannot be removed is told and tried the next time.
func (s *Store) Sweep(ctx context.Context, before time.Time) (int64, error) {
	var removed int64
	var errs []error
	for _, parent := range []string{s.o.Dir, s.o.Checkouts} {
		entries, err := os.ReadDir(parent)
		if err != nil {
			return removed, fmt.Errorf("sweep repositories: %w", err)
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil || !info.ModTime().Before(before) {
				continue // it is in use, or went meanwhile
			}
			unlock, err := s.lock(ctx, e.Name())
			if err != nil {
				return removed, err
			}
			gone, err := sweep(filepath.Join(parent, e.Name()), before)
			unlock()
			if err != nil {
				errs = append(errs, err)
			}
			removed += gone
		}
	}
	return removed, errors.Join(errs...)
}

// sweep removes one folder, unless it was used while its lock was waited for.
func sweep(dir string, before time.Time) (int64, error) {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.ModTime().Before(before) {
		return 0, nil
	}
	if err == nil {
		err = os.RemoveAll(dir)
	}
	if err != nil {
		return 0, err
	}
	return 1, nil
}
