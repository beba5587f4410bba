// Package repo reads Git repositories at a commit, whatever their URL: sensors, pipelines and applications ask it for files
// and checkouts. [Bare] reads one bare repository on this machine; [Store] knows which that is for a URL, and fetches what
// lies elsewhere.
package repo

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/repo/git"
)

// Errors of this room, wrapped with what was asked.
var (
	// ErrNotFound says that there is no such repository, revision or file.
	ErrNotFound = failure.New(failure.NotFound, "not found in the repository")
	// ErrUnsafe says that a repository holds a path or a link that leads outside of it.
	ErrUnsafe = failure.New(failure.Invalid, "leads outside the repository")
	// ErrTooLarge says that something is larger than is read.
	ErrTooLarge = failure.New(failure.TooLarge, "too large")
)

// MaxFile is the most bytes of one file that File reads.
const MaxFile = 4 << 20

// Bare is a bare repository in a folder.
type Bare struct {
	Git *git.Runner
	Dir string
}

// Entry is one file, link or submodule of a commit.
type Entry struct {
	Mode, SHA, Path string
	// Size is in bytes; 0 for what is not a blob.
	Size int64
}

// Modes of entries, as Git writes them.
const (
	ModeFile       = "100644"
	ModeExecutable = "100755"
	ModeLink       = "120000"
	ModeModule     = "160000"
)

// Tree lists the entry at a path, or everything in a commit if the path is empty.
func (b Bare) Tree(ctx context.Context, sha, path string) ([]Entry, error) {
	args := []string{"ls-tree", "-z", "-l", "--full-tree"}
	if path == "" {
		args = append(args, "-r", sha)
	} else {
		args = append(args, sha, "--", path)
	}
	out, err := b.Git.Read(ctx, b.Dir, args...)
	if err != nil {
		return nil, fmt.Errorf("list files at %.10s: %w", sha, err)
	}
	var all []Entry
	for line := range strings.SplitSeq(strings.TrimSuffix(out, "\x00"), "\x00") {
		meta, name, ok := strings.Cut(line, "\t")
		f := strings.Fields(meta)
		if !ok || len(f) != 4 {
			if line == "" {
				continue
			}
			return nil, fmt.Errorf("list files at %.10s: git answered what cannot be read", sha)
		}
		size, err := strconv.ParseInt(f[3], 10, 64)
		if err != nil {
			size = 0 // "-" for what is no blob
		}
		all = append(all, Entry{Mode: f[0], SHA: f[2], Path: name, Size: size})
	}
	return all, nil
}

// File reads a regular file of a commit, at most MaxFile bytes. Errors are [ErrNotFound] and [ErrTooLarge].
func (b Bare) File(ctx context.Context, sha, path string) ([]byte, error) {
	if err := CheckPath(path); err != nil {
		return nil, err
	}
	entries, err := b.Tree(ctx, sha, path)
	if err != nil {
		return nil, err
	}
	where := fmt.Sprintf("file %s at %.10s", path, sha)
	if len(entries) != 1 || entries[0].Path != path {
		return nil, fmt.Errorf("%s: %w", where, ErrNotFound)
	}
	switch e := entries[0]; {
	case e.Mode != ModeFile && e.Mode != ModeExecutable:
		return nil, fmt.Errorf("%s: it is not a regular file: %w", where, ErrNotFound)
	case e.Size > MaxFile:
		return nil, fmt.Errorf("%s: it is larger than %d bytes: %w", where, MaxFile, ErrTooLarge)
	}
	out, err := b.Git.Read(ctx, b.Dir, "cat-file", "blob", entries[0].SHA)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	return []byte(out), nil
}

// CheckPath allows a path that stays inside a repository.
func CheckPath(path string) error {
	if path == "" || len(path) > 4096 || strings.ContainsRune(path, 0) || !filepath.IsLocal(path) || filepath.ToSlash(filepath.Clean(path)) != path {
		return fmt.Errorf("file %q: use a path inside the repository, without '..': %w", path, ErrUnsafe)
	}
	return nil
}
