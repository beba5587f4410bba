package render

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
)

// tree reads a checkout within limits. Names are relative to the root, with slashes. It is used by one goroutine.
type tree struct {
	ctx    context.Context
	root   *os.Root
	limits Limits
	files  int
	bytes  int64
	// first is the first refusal: a library that swallows the error of a read does not hide it.
	first error
}

func (t *tree) refuse(format string, args ...any) error {
	err := fmt.Errorf(format+": %w", append(args, errRefused)...)
	if t.first == nil {
		t.first = err
	}
	return err
}

func (t *tree) refusal() error { return t.first }

// folder resolves the source's path.
func (t *tree) folder(name string) (string, error) {
	dir := path.Clean(strings.TrimPrefix(name, "./"))
	if strings.HasPrefix(name, "/") || escapes(dir) {
		return "", t.refuse("path %q leaves the repository", name)
	}
	dir, err := t.resolve(dir)
	if err != nil {
		return "", err
	}
	info, err := t.root.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("the repository has no folder %q", name)
	case err != nil:
		return "", fmt.Errorf("open folder %q: %w", name, err)
	case !info.IsDir():
		return "", fmt.Errorf("path %q is a file; name the folder that it is in", name)
	}
	return dir, nil
}

func escapes(name string) bool { return name == ".." || strings.HasPrefix(name, "../") }

// resolve follows symbolic links by hand, so that one that leaves the checkout is named in the error. The
// reads that follow go through os.Root, which is what keeps them inside. A missing file is no error.
func (t *tree) resolve(name string) (string, error) {
	todo := strings.Split(path.Clean(name), "/")
	done, links := ".", 0
	for len(todo) > 0 {
		next := path.Join(done, todo[0])
		todo = todo[1:]
		if escapes(next) {
			return "", t.refuse("%s leaves the repository", name)
		}
		info, err := t.root.Lstat(next)
		if err != nil || info.Mode()&fs.ModeSymlink == 0 {
			done = next
			continue
		}
		target, err := t.root.Readlink(next)
		if err != nil {
			return "", fmt.Errorf("read link %s: %w", next, err)
		}
		if links++; links > 40 {
			return "", t.refuse("%s is a circle of symbolic links", name)
		}
		if path.IsAbs(target) || escapes(path.Join(done, target)) {
			return "", t.refuse("%s is a symbolic link to %q, outside of the repository", next, target)
		}
		todo = append(strings.Split(path.Clean(target), "/"), todo...)
	}
	return done, nil
}

func (t *tree) exists(name string) bool {
	_, err := t.root.Stat(name)
	return err == nil
}

// The names of a kustomization file, in kustomize's order.
var kustomizationNames = []string{"kustomization.yaml", "kustomization.yml", "Kustomization"}

func (t *tree) kustomization(dir string) string {
	for _, name := range kustomizationNames {
		if file := path.Join(dir, name); t.exists(file) {
			return file
		}
	}
	return ""
}

// read reads one regular file within the limits.
func (t *tree) read(name string) ([]byte, error) {
	if err := t.ctx.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	resolved, err := t.resolve(name)
	if err != nil {
		return nil, err
	}
	if t.files++; t.files > t.limits.Files {
		return nil, t.refuse("read %s: more than %d files", name, t.limits.Files)
	}
	// Non-blocking, because a named pipe would keep the open waiting for ever.
	f, err := t.root.OpenFile(resolved, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: not a regular file", name)
	}
	data, err := io.ReadAll(io.LimitReader(f, t.limits.FileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(data)) > t.limits.FileBytes {
		return nil, t.refuse("%s is larger than the %d bytes allowed", name, t.limits.FileBytes)
	}
	if t.bytes += int64(len(data)); t.bytes > t.limits.TotalBytes {
		return nil, t.refuse("read %s: the source is larger than the %d bytes allowed", name, t.limits.TotalBytes)
	}
	return data, nil
}

// maxEntries is the most that one folder may hold.
const maxEntries = 20_000

// list gives the names in a folder, sorted.
func (t *tree) list(dir string) ([]fs.DirEntry, error) {
	resolved, err := t.resolve(dir)
	if err != nil {
		return nil, err
	}
	f, err := t.root.Open(resolved)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", show(dir), err)
	}
	defer func() { _ = f.Close() }()
	entries, err := f.ReadDir(maxEntries + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("list %s: %w", show(dir), err)
	}
	if len(entries) > maxEntries {
		return nil, t.refuse("list %s: more than %d files", show(dir), maxEntries)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}
