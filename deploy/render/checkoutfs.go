package render

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/filesys"
)

var errReadOnly = errors.New("the checkout cannot be changed")

// checkoutFS shows a checkout to the kustomize library as a file system whose root is the checkout.
type checkoutFS struct {
	t *tree
	// changed replaces the content of files, by name relative to the root.
	changed map[string][]byte
}

var _ filesys.FileSystem = (*checkoutFS)(nil)

func relative(name string) string {
	name = strings.TrimPrefix(path.Clean("/"+filepath.ToSlash(name)), "/")
	if name == "" {
		return "."
	}
	return name
}

func (c *checkoutFS) Create(string) (filesys.File, error) { return nil, errReadOnly }
func (c *checkoutFS) Mkdir(string) error                  { return errReadOnly }
func (c *checkoutFS) MkdirAll(string) error               { return errReadOnly }
func (c *checkoutFS) RemoveAll(string) error              { return errReadOnly }
func (c *checkoutFS) WriteFile(string, []byte) error      { return errReadOnly }
func (c *checkoutFS) Open(name string) (filesys.File, error) {
	return nil, fmt.Errorf("open %s: %w", name, errors.ErrUnsupported)
}

func (c *checkoutFS) IsDir(name string) bool {
	info, err := c.t.root.Stat(relative(name))
	return err == nil && info.IsDir()
}

func (c *checkoutFS) Exists(name string) bool { return c.t.exists(relative(name)) }

func (c *checkoutFS) ReadDir(name string) ([]string, error) {
	entries, err := c.t.list(relative(name))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// CleanedAbs resolves links, which is what kustomize's load restriction compares.
func (c *checkoutFS) CleanedAbs(name string) (filesys.ConfirmedDir, string, error) {
	resolved, err := c.t.resolve(relative(name))
	if err != nil {
		return "", "", err
	}
	info, err := c.t.root.Stat(resolved)
	if err != nil {
		return "", "", fmt.Errorf("%s is not in the repository", relative(name))
	}
	absolute := path.Join("/", resolved)
	if info.IsDir() {
		return filesys.ConfirmedDir(absolute), "", nil
	}
	return filesys.ConfirmedDir(path.Dir(absolute)), path.Base(absolute), nil
}

func (c *checkoutFS) Glob(pattern string) ([]string, error) {
	names, err := fs.Glob(c.t.root.FS(), relative(pattern))
	if err != nil {
		return nil, fmt.Errorf("match %s: %w", pattern, err)
	}
	for i, name := range names {
		names[i] = path.Join("/", name)
	}
	return names, nil
}

func (c *checkoutFS) ReadFile(name string) ([]byte, error) {
	name = relative(name)
	data, changed := c.changed[name]
	if !changed {
		var err error
		if data, err = c.t.read(name); err != nil {
			return nil, err
		}
	}
	if slices.Contains(kustomizationNames, path.Base(name)) {
		if err := inspect(c.t, name, data); err != nil {
			return nil, err
		}
	}
	return data, nil
}

func (c *checkoutFS) Walk(name string, walk filepath.WalkFunc) error {
	err := fs.WalkDir(c.t.root.FS(), relative(name), func(at string, entry fs.DirEntry, err error) error {
		if err != nil {
			return walk(path.Join("/", at), nil, err)
		}
		info, err := entry.Info()
		return walk(path.Join("/", at), info, err)
	})
	if err != nil {
		return fmt.Errorf("walk %s: %w", name, err)
	}
	return nil
}
