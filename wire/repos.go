package wire

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/tiphys/tiphys/control/apps"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/render"
	targetlocal "github.com/tiphys/tiphys/deploy/target/local"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/pipeline"
	"github.com/tiphys/tiphys/secret"
)

// resolveRepo gives the folder of a repository of the built-in remote.
func (s *Server) resolveRepo(_ context.Context, url string) (string, bool, error) {
	if s.remote == nil {
		return "", false, nil
	}
	dir, ok := s.remote.LocalPath(url)
	return dir, ok, nil
}

// repoFile reads a file of a repository, the built-in remote's or any other.
func (s *Server) repoFile(ctx context.Context, url, revision, path string) ([]byte, error) {
	if name, ok := s.remote.RepositoryOf(url); ok {
		return s.remote.File(ctx, name, revision, path)
	}
	dir, _, release, err := s.checkout(ctx, url, revision)
	if err != nil {
		return nil, err
	}
	defer release()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open checkout: %w", err)
	}
	defer root.Close()
	return root.ReadFile(path)
}

// programs evaluates programs of repositories, a few at a time: each may use hundreds of megabytes.
func (s *Server) programs() func(ctx context.Context, url, revision, path string, input map[string]any) ([]byte, error) {
	const most = 2
	slots := make(chan struct{}, most)
	return func(ctx context.Context, url, revision, path string, input map[string]any) ([]byte, error) {
		if err := pipeline.Evaluable(path); err != nil {
			return nil, err
		}
		dir, _, release, err := s.checkout(ctx, url, revision)
		if err != nil {
			return nil, err
		}
		defer release()
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for other programs: %w", context.Cause(ctx))
		}
		return pipeline.Confined{}.Evaluate(ctx, dir, path, input)
	}
}

// checkoutTimeout bounds a clone of a repository elsewhere.
const checkoutTimeout = 5 * time.Minute

// checkout gives a folder with a repository at a revision.
func (s *Server) checkout(ctx context.Context, url, revision string) (dir, sha string, release func(), err error) {
	parent := filepath.Join(s.o.Data, "checkouts")
	if err := os.MkdirAll(parent, 0o755); err != nil { //nolint:gosec // the renderer is another user
		return "", "", nil, fmt.Errorf("make folder for checkouts: %w", err)
	}
	own, err := os.MkdirTemp(parent, "")
	if err != nil {
		return "", "", nil, fmt.Errorf("make folder for checkout: %w", err)
	}
	release = func() { _ = os.RemoveAll(own) }
	tree := filepath.Join(own, "tree")
	if name, ok := s.remote.RepositoryOf(url); ok {
		sha, err = s.remote.Checkout(ctx, name, revision, tree)
	} else {
		sha, err = clone(ctx, url, revision, tree)
	}
	if err == nil {
		err = os.Chmod(own, 0o755) //nolint:gosec // the renderer is another user
	}
	if err != nil {
		release()
		return "", "", nil, err
	}
	return tree, sha, release, nil
}

// clone fetches one revision of a repository elsewhere with the system's git, which reads no configuration of its user.
func clone(ctx context.Context, url, revision, dest string) (string, error) {
	if strings.HasPrefix(url, "-") || !strings.Contains(url, "://") || strings.HasPrefix(url, "file:") || strings.HasPrefix(url, "ext:") {
		return "", fmt.Errorf("%q is not a repository's http, https, ssh or git URL", url)
	}
	if strings.HasPrefix(revision, "-") {
		return "", fmt.Errorf("%q is not a revision", revision)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, checkoutTimeout, fmt.Errorf("it took longer than %s", checkoutTimeout))
	defer cancel()
	if revision == "" {
		revision = "HEAD"
	}
	steps := [][]string{
		{"init", "-q", dest},
		{"-C", dest, "fetch", "-q", "--depth=1", "--", url, revision},
		{"-C", dest, "-c", "core.symlinks=false", "checkout", "-q", "FETCH_HEAD"},
	}
	for _, args := range steps {
		if out, err := git(ctx, args...); err != nil {
			return "", fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
		}
	}
	out, err := git(ctx, "-C", dest, "rev-parse", "HEAD")
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(out)), os.RemoveAll(filepath.Join(dest, ".git"))
}

func git(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-c", "core.hooksPath=/dev/null", "-c", "protocol.file.allow=never"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0")
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	return out, err
}

// openDeploy opens the target and the controller of applications.
func (s *Server) openDeploy(ctx context.Context) (err error) {
	digestKey, err := secret.RandomKey(filepath.Join(s.o.Data, "keys", "digests.key"), keySize)
	if err != nil {
		return err
	}
	containers := s.machine.Executor.Container()
	s.target, err = targetlocal.Open(ctx, targetlocal.Options{
		Ledger: s.machine.Ledger, Executor: containers, Logs: containers, Commands: containers, Reports: s.reports, Box: s.box, DigestKey: digestKey,
		Names: s.machine.Executor, Front: s.carrier.front, Addresses: s.addresses(), Now: s.o.Now, Log: s.o.Log, Fault: at("target", s.o.Fault),
	})
	if err != nil {
		return err
	}
	s.closers = append(s.closers, s.target.Close)
	s.targets, err = deploy.NewTargets(deploy.Cluster{Place: deploy.Place{Name: deploy.InCluster, Server: deploy.InClusterServer}, Target: s.target, Pods: s.target})
	if err != nil {
		return err
	}
	s.apps = apps.New(apps.Options{
		Ledger: s.machine.Ledger, Targets: s.targets, Render: render.Child{}.Render,
		Definitions: declared{s}, Repositories: repositories{s}, Forges: forges{s}, Front: hosts{s},
		Now: s.o.Now, Log: s.o.Log,
	})
	return nil
}

// What applications ask for, from what this server has.
type (
	declared     struct{ s *Server }
	repositories struct{ s *Server }
	forges       struct{ s *Server }
	hosts        struct{ s *Server }
)

// URL implements apps.Front.
func (f hosts) URL(host string) string { return "http://" + host + ":" + f.s.portNumber() + "/" }

// Checkout implements apps.Repositories.
func (r repositories) Checkout(ctx context.Context, url, revision string) (dir, sha string, release func(), err error) {
	return r.s.checkout(ctx, url, revision)
}

// Wakes implements apps.Forges.
func (forges) Wakes() []string {
	return []string{"mr.opened", "mr.updated", "mr.synced", "mr.labeled", "mr.draft", "mr.ready", "mr.closed", "mr.reopened", "mr.merged"}
}

// List implements apps.Definitions.
func (d declared) List(ctx context.Context, kind string) ([]apps.Definition, error) {
	defs, err := d.s.defs.List(ctx, kind, "")
	if err != nil {
		return nil, err
	}
	out := make([]apps.Definition, 0, len(defs))
	for _, d := range defs {
		out = append(out, apps.Definition{
			Kind: d.Kind, Namespace: d.Namespace, Name: d.Name, Origin: d.Origin, Digest: d.Digest, Object: d.Object, Seq: d.Seq,
		})
	}
	return out, nil
}

// PullRequests implements apps.Forges.
func (f forges) PullRequests(ctx context.Context, kind, repo string, _ manifest.PullRequestForge) ([]event.PullRequest, error) {
	if kind != "tiphys" {
		return nil, fmt.Errorf("the pullRequest generator for %s is understood but not run by this version: mirror the repository to the built-in remote and use tiphys", kind)
	}
	return f.s.remote.PullRequests(ctx, repo)
}

// DefaultBranch implements apps.Repositories.
func (r repositories) DefaultBranch(ctx context.Context, url string) (string, error) {
	name, ok := r.s.remote.RepositoryOf(url)
	if !ok {
		return "main", nil
	}
	repo, err := r.s.remote.Repository(ctx, name)
	if err != nil {
		return "", err
	}
	if repo.DefaultBranch == "" {
		return "", errors.New("the repository has no branch yet")
	}
	return repo.DefaultBranch, nil
}
