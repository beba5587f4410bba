package mover

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/artifact/archive"
	"github.com/tiphys/tiphys/egress"
	"github.com/tiphys/tiphys/manifest"
)

var (
	// scpURL is user@host:path, which git takes for SSH.
	scpURL  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9._-]+@[A-Za-z0-9._-]+:[^-].*$`) })
	wholeID = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`) })
)

// clone is one git artifact on its way to dest.
type clone struct {
	git  *gitRunner
	a    *manifest.GitArtifact
	from string // URL or folder to fetch from
	dest string
}

// fetchGit clones. As in Argo, a revision is checked out detached; without one, the branch or the remote's own.
func (m *Mover) fetchGit(ctx context.Context, a *manifest.GitArtifact, dest string) error {
	if err := checkGit(a); err != nil {
		return err
	}
	from, local, err := m.repo(ctx, a.Repo)
	if err != nil {
		return err
	}
	if !local {
		from = withoutPassword(from) // which would be seen among git's arguments
	}
	route, err := m.o.Egress.Route(egress.For(ctx, "git.repo"))
	if err != nil {
		return err
	}
	defer route.Close()
	runner, err := m.newGitRunner(ctx, a, from, local, route)
	if err != nil {
		return err
	}
	defer runner.close()
	c := &clone{git: runner, a: a, from: from, dest: dest}
	if err := route.Explain(c.run(ctx)); err != nil {
		_ = os.RemoveAll(dest)
		return fmt.Errorf("clone %s: %w", redactRepo(a.Repo), err)
	}
	return nil
}

func (m *Mover) repo(ctx context.Context, repo string) (from string, local bool, err error) {
	if m.o.Own != nil {
		dir, ok, err := m.o.Own.Folder(ctx, repo)
		if err != nil {
			return "", false, fmt.Errorf("clone %s: %w", redactRepo(repo), err)
		}
		if ok {
			return dir, true, nil
		}
	}
	if scpURL().MatchString(repo) {
		return repo, false, nil
	}
	u, err := url.Parse(repo)
	if err == nil && u.Host != "" && !strings.HasPrefix(u.Host, "-") {
		switch u.Scheme {
		case "http", "https", "ssh":
			return repo, false, nil
		}
	}
	return "", false, fmt.Errorf("the repository %q cannot be cloned; its URL must begin with https://, http:// or ssh://, or be user@host:path",
		redactRepo(repo))
}

func redactRepo(repo string) string {
	if scpURL().MatchString(repo) {
		return repo
	}
	return redact(repo)
}

// checkGit refuses what git could take for an option.
func checkGit(a *manifest.GitArtifact) error {
	for _, v := range append([]string{a.Repo, a.Revision, a.Branch}, a.Fetch...) {
		if strings.HasPrefix(v, "-") || strings.ContainsAny(v, "\x00\n\r") {
			return fmt.Errorf("git: %q must not begin with a dash or have line breaks", v)
		}
	}
	if a.SingleBranch && a.Branch == "" {
		return errors.New("git: singleBranch needs branch") // Argo says so too
	}
	return nil
}

func (c *clone) run(ctx context.Context) error {
	if _, err := c.git.run(ctx, "", "init", "--quiet", "--template=", "--", c.dest); err != nil {
		return err
	}
	if _, err := c.git.run(ctx, c.dest, "remote", "add", "--", "origin", withoutPassword(c.a.Repo)); err != nil {
		return err
	}
	commit, err := c.find(ctx)
	if err != nil {
		return err
	}
	if len(c.a.Fetch) > 0 {
		if err := c.fetch(ctx, c.a.Fetch...); err != nil {
			return err
		}
	}
	if err := c.checkout(ctx, commit); err != nil {
		return err
	}
	if !c.a.DisableSubmodules {
		if err := c.submodules(ctx); err != nil {
			return err
		}
	}
	return checkTree(c.dest)
}

func withoutPassword(repo string) string {
	u, err := url.Parse(repo)
	if err != nil || u.User == nil || u.Host == "" {
		return repo
	}
	if _, ok := u.User.Password(); ok {
		u.User = nil
	}
	return u.String()
}

// target is what to check out.
type target struct {
	commit string
	branch string // the branch to be on, or empty for a detached head
}

// find fetches what is needed and says what to check out.
func (c *clone) find(ctx context.Context) (target, error) {
	switch {
	case c.a.SingleBranch:
		if err := c.fetch(ctx, branchSpec(c.a.Branch)); err != nil {
			return target{}, err
		}
		if c.a.Revision == "" {
			return c.resolve(ctx, c.a.Branch, true)
		}
	case c.a.Depth != nil && *c.a.Depth > 0 && c.a.Revision != "":
		return c.findShallow(ctx, c.a.Revision)
	default:
		if err := c.fetch(ctx, branchSpec("*"), "+refs/tags/*:refs/tags/*"); err != nil {
			return target{}, err
		}
	}
	branch := c.a.Branch
	if c.a.Revision == "" && branch == "" {
		var err error
		if branch, err = c.defaultBranch(ctx); err != nil {
			return target{}, err
		}
	}
	if c.a.Revision == "" {
		return c.resolve(ctx, branch, true)
	}
	t, err := c.resolve(ctx, c.a.Revision, false)
	if err == nil {
		return t, nil
	}
	return c.findByName(ctx, c.a.Revision, err)
}

// findShallow fetches nothing but the revision.
func (c *clone) findShallow(ctx context.Context, revision string) (target, error) {
	if wholeID().MatchString(revision) {
		return c.findByName(ctx, revision, nil)
	}
	refs, err := c.git.run(ctx, "", "ls-remote", "--", c.from, "refs/heads/"+revision, "refs/tags/"+revision)
	if err != nil {
		return target{}, err
	}
	var spec string
	switch {
	case strings.Contains(refs, "refs/heads/"+revision+"\n"):
		spec = branchSpec(revision)
	case strings.Contains(refs, "refs/tags/"+revision+"\n"):
		spec = "+refs/tags/" + revision + ":refs/tags/" + revision
	default:
		return c.findByName(ctx, revision, nil)
	}
	if err := c.fetch(ctx, spec); err != nil {
		return target{}, err
	}
	return c.resolve(ctx, revision, false)
}

// findByName asks the remote for a commit or reference that no branch or tag led to; before is why it is needed.
func (c *clone) findByName(ctx context.Context, revision string, before error) (target, error) {
	if !wholeID().MatchString(revision) && !strings.HasPrefix(revision, "refs/") {
		if before == nil {
			before = fmt.Errorf("there is no branch, tag or commit %q", revision)
		}
		return target{}, before
	}
	if err := c.fetch(ctx, "+"+revision+":refs/tiphys/revision"); err != nil {
		return target{}, fmt.Errorf("there is no branch, tag or commit %q: %w", revision, err)
	}
	return c.resolve(ctx, "refs/tiphys/revision", false)
}

func branchSpec(b string) string { return "+refs/heads/" + b + ":refs/remotes/origin/" + b }

func (c *clone) fetch(ctx context.Context, specs ...string) error {
	args := []string{"fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head"}
	if c.a.Depth != nil && *c.a.Depth > 0 {
		args = append(args, "--depth", strconv.FormatUint(*c.a.Depth, 10))
	}
	_, err := c.git.run(ctx, c.dest, append(append(args, "--", c.from), specs...)...)
	return err
}

func (c *clone) defaultBranch(ctx context.Context) (string, error) {
	out, err := c.git.run(ctx, "", "ls-remote", "--symref", "--", c.from, "HEAD")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(out) {
		if rest, ok := strings.CutPrefix(line, "ref: refs/heads/"); ok {
			name, _, _ := strings.Cut(rest, "\t")
			return name, nil
		}
	}
	return "", errors.New("the remote names no default branch, perhaps it is empty; give a revision")
}

// resolve finds the commit of a revision among what was fetched.
func (c *clone) resolve(ctx context.Context, revision string, branch bool) (target, error) {
	for _, name := range []string{"refs/remotes/origin/" + revision, "refs/tags/" + revision, revision} {
		out, err := c.git.run(ctx, c.dest, "rev-parse", "--verify", "--quiet", "--end-of-options", name+"^{commit}")
		if err != nil {
			continue
		}
		t := target{commit: strings.TrimSpace(out)}
		if branch {
			t.branch = revision
		}
		return t, nil
	}
	if err := ctx.Err(); err != nil {
		return target{}, err
	}
	return target{}, fmt.Errorf("there is no branch, tag or commit %q", revision)
}

func (c *clone) checkout(ctx context.Context, t target) error {
	args := []string{"checkout", "--quiet", "--force", "--no-recurse-submodules"}
	if t.branch != "" {
		args = append(args, "-B", t.branch)
	} else {
		args = append(args, "--detach")
	}
	_, err := c.git.run(ctx, c.dest, append(args, t.commit)...)
	if err != nil {
		return err
	}
	if t.branch == "" {
		return nil
	}
	_, err = c.git.run(ctx, c.dest, "branch", "--quiet", "--set-upstream-to", "origin/"+t.branch, t.branch)
	return err
}

func (c *clone) submodules(ctx context.Context) error {
	info, err := os.Lstat(filepath.Join(c.dest, ".gitmodules"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || !info.Mode().IsRegular() {
		return fmt.Errorf("%w: .gitmodules is not a file", archive.ErrUnsafe)
	}
	// What may be fetched from this machine was the repository itself, not what it names.
	_, err = c.git.without("file").run(ctx, c.dest, "submodule", "--quiet", "update", "--init", "--recursive", "--force", "--checkout")
	return err
}

// checkTree refuses a working tree with links that lead out of it.
func checkTree(dest string) error {
	root, err := os.OpenRoot(dest)
	if err != nil {
		return fmt.Errorf("look at the clone: %w", err)
	}
	defer func() { _ = root.Close() }()
	return fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("look at the clone: %w", err)
		}
		if p == ".git" && d.IsDir() {
			return fs.SkipDir
		}
		if d.Type() != fs.ModeSymlink {
			return nil
		}
		to, err := root.Readlink(p)
		if err != nil {
			return fmt.Errorf("look at the clone: %w", err)
		}
		return archive.CheckLink(p, to)
	})
}

var errNoGit = fmt.Errorf("%w: git is not installed; install git 2.38 or newer", artifact.ErrNotFound)
