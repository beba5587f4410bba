package repo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/tiphys/tiphys/repo/git"
)

// Limits of a checkout.
const (
	maxCheckoutFiles = 500_000
	maxCheckoutBytes = 4 << 30
	maxLinkHops      = 40 // as Linux
)

// Checkout writes the files of a commit into dest, a folder that is empty or does not exist, byte for byte as they are in
// Git: no attributes are applied. Symbolic links that lead outside, and paths that would, are refused with [ErrUnsafe]
// before anything is written. Submodules become empty folders. The context bounds it.
func (b Bare) Checkout(ctx context.Context, sha, dest string) error {
	entries, err := b.Tree(ctx, sha, "")
	if err != nil {
		return err
	}
	if err := checkEntries(entries); err != nil {
		return err
	}
	if err := os.MkdirAll(dest, 0o755); err != nil { //nolint:gosec // who renders and evaluates it is another user
		return err
	}
	root, err := os.OpenRoot(dest)
	if err != nil {
		return err
	}
	defer root.Close()
	w := &treeWriter{root: root, links: map[string]string{}}
	if err := b.eachBlob(ctx, entries, w.write); err != nil {
		return err
	}
	return w.writeLinks()
}

// checkEntries looks at what can be known without reading any file.
func checkEntries(entries []Entry) error {
	var total int64
	for _, e := range entries {
		total += e.Size
		if !filepath.IsLocal(e.Path) || path.Clean(e.Path) != e.Path {
			return fmt.Errorf("path %q: %w", e.Path, ErrUnsafe)
		}
		for part := range strings.SplitSeq(e.Path, "/") {
			if strings.EqualFold(part, ".git") {
				return fmt.Errorf("path %q: a folder of a repository cannot be called .git: %w", e.Path, ErrUnsafe)
			}
		}
		if e.Mode == ModeLink && e.Size > 4096 {
			return fmt.Errorf("symbolic link %q: its target is too long: %w", e.Path, ErrUnsafe)
		}
	}
	if len(entries) > maxCheckoutFiles || total > maxCheckoutBytes {
		return fmt.Errorf("%d files with %d bytes are too many; the limits are %d files and %d bytes", len(entries), total, maxCheckoutFiles, int64(maxCheckoutBytes))
	}
	return nil
}

// eachBlob gives the content of every entry to fn, links first so that they can be judged before files are written.
func (b Bare) eachBlob(ctx context.Context, entries []Entry, fn func(Entry, io.Reader) error) error {
	var ordered []Entry
	for _, links := range []bool{true, false} {
		for _, e := range entries {
			if (e.Mode == ModeLink) == links {
				ordered = append(ordered, e)
			}
		}
	}
	var in strings.Builder
	for _, e := range ordered {
		if e.Mode != ModeModule {
			in.WriteString(e.SHA + "\n")
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := b.Git.Command(ctx, git.Call{Dir: b.Dir, Args: []string{"cat-file", "--batch"}})
	stderr := git.NewBuffer(4 << 10)
	cmd.Stdin, cmd.Stderr = strings.NewReader(in.String()), stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = readBlobs(bufio.NewReaderSize(pipe, 64<<10), ordered, fn)
	if err != nil {
		cancel()
		_ = cmd.Wait() // ended by the line above; the first error is the one to tell
		return err
	}
	return git.Describe(ctx, "cat-file", cmd.Wait(), stderr.String())
}

func readBlobs(from *bufio.Reader, entries []Entry, fn func(Entry, io.Reader) error) error {
	for _, e := range entries {
		if e.Mode == ModeModule {
			if err := fn(e, strings.NewReader("")); err != nil {
				return err
			}
			continue
		}
		line, err := from.ReadString('\n')
		if err != nil {
			return fmt.Errorf("read %s: %w", e.Path, err)
		}
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != e.SHA || f[1] != "blob" {
			return fmt.Errorf("read %s: git says %q", e.Path, strings.TrimSpace(line))
		}
		size, err := strconv.ParseInt(f[2], 10, 64)
		if err != nil {
			return fmt.Errorf("read %s: %w", e.Path, err)
		}
		blob := io.LimitReader(from, size)
		if err := fn(e, blob); err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, blob); err != nil {
			return fmt.Errorf("read %s: %w", e.Path, err)
		}
		if _, err := from.Discard(1); err != nil {
			return fmt.Errorf("read %s: %w", e.Path, err)
		}
	}
	return nil
}

// treeWriter writes files below a root, and the links at the end: no file is ever written through one.
type treeWriter struct {
	root    *os.Root
	links   map[string]string
	checked bool
}

func (w *treeWriter) write(e Entry, content io.Reader) error {
	if e.Mode == ModeLink {
		target, err := io.ReadAll(content)
		if err != nil {
			return fmt.Errorf("read %s: %w", e.Path, err)
		}
		w.links[e.Path] = string(target)
		return nil
	}
	if err := w.check(); err != nil {
		return err
	}
	if e.Mode == ModeModule {
		return w.root.MkdirAll(e.Path, 0o755)
	}
	if err := w.root.MkdirAll(path.Dir(e.Path), 0o755); err != nil {
		return err
	}
	mode := os.FileMode(0o644)
	if e.Mode == ModeExecutable {
		mode = 0o755
	}
	f, err := w.root.OpenFile(e.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}

// check judges the links once all of them are known.
func (w *treeWriter) check() error {
	if w.checked {
		return nil
	}
	w.checked = true
	for link, target := range w.links {
		if err := follow(w.links, link); err != nil {
			return fmt.Errorf("symbolic link %q to %q: %w", link, target, err)
		}
	}
	return nil
}

func (w *treeWriter) writeLinks() error {
	if err := w.check(); err != nil {
		return err
	}
	for link, target := range w.links {
		if err := w.root.MkdirAll(path.Dir(link), 0o755); err != nil {
			return err
		}
		if err := w.root.Symlink(target, link); err != nil {
			return err
		}
	}
	return nil
}

// follow walks a link as the kernel would, other links included: cleaning the target's text is not enough,
// because ".." after a link goes up from where that link leads.
func follow(links map[string]string, link string) error {
	rest := strings.Split(link, "/")
	var at []string
	for hops := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if len(at) == 0 {
				return ErrUnsafe
			}
			at = at[:len(at)-1]
			continue
		}
		at = append(at, part)
		target, ok := links[strings.Join(at, "/")]
		if !ok {
			continue
		}
		if hops++; hops > maxLinkHops {
			return nil // a loop: it leads nowhere, which does no harm
		}
		if path.IsAbs(target) || strings.ContainsRune(target, 0) {
			return ErrUnsafe
		}
		at = at[:len(at)-1]
		rest = append(strings.Split(target, "/"), rest...)
	}
	return nil
}
