package builtin

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/tiphys/tiphys/failure"
)

// Folders of Options.Dir that are no repositories; their names cannot be those of one.
const (
	hooksFolder     = ".hooks"
	trashFolder     = ".deleted"
	emptyRepository = ".empty.git"
)

// mrRefs is where the heads of merge requests are kept, so that they outlive their branches; as GitLab does.
const mrRefs = "refs/merge-requests"

// ErrName says that a name of a repository, branch or file cannot be used.
var ErrName = failure.New(failure.Invalid, "name is not allowed")

// Patterns are compiled when they are first needed: git starts this program twice for each push.
var segmentPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$`) })

// reserved are where images are that are of no repository here, but of other forges' and of namespaces (access.ImagesOf): a repository of such a name,
// or below it, would have the same.
func reserved(name string) bool {
	return strings.EqualFold(name, "forges") || strings.EqualFold(name, "namespaces")
}

// CheckName reports whether a repository may have this name: "name" or "owner/name", each of letters, digits,
// ".", "_" and "-", not starting with "." or "-", and not ending with "." or with ".git" or ".lock".
func CheckName(name string) error {
	parts := strings.Split(name, "/")
	if len(parts) > 2 {
		return fmt.Errorf("repository %q: use name or owner/name: %w", name, ErrName)
	}
	if reserved(parts[0]) {
		return fmt.Errorf("repository %q: the name %s is for images that are of no repository here: %w", name, parts[0], ErrName)
	}
	for _, p := range parts {
		lower := strings.ToLower(p)
		if !segmentPattern().MatchString(p) || strings.Contains(p, "..") || strings.HasSuffix(p, ".") ||
			strings.HasSuffix(lower, ".git") || strings.HasSuffix(lower, ".lock") {
			return fmt.Errorf("repository %q: use letters, digits, '.', '_' and '-': %w", name, ErrName)
		}
	}
	return nil
}

// dir is the folder of a repository whose name was checked.
func (r *Remote) dir(repo string) string {
	return filepath.Join(r.opt.Dir, filepath.FromSlash(repo)+".git")
}

// checkBranch follows git-check-ref-format(1), and allows no leading dash.
func checkBranch(name string) error {
	bad := name == "" || len(name) > 250 || name == "@" || name == "HEAD" || strings.HasPrefix(name, "-") ||
		strings.HasSuffix(name, ".") || strings.Contains(name, "..") || strings.Contains(name, "@{") ||
		strings.ContainsAny(name, " ~^:?*[\\\x7f")
	for _, c := range name {
		bad = bad || c < 0x20
	}
	for _, part := range strings.Split(name, "/") {
		bad = bad || part == "" || strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".lock")
	}
	if bad {
		return fmt.Errorf("branch %q: %w", name, ErrName)
	}
	return nil
}

// checkRef allows the refs that may be pushed: branches, tags and notes.
func checkRef(ref string) error {
	for _, prefix := range []string{"refs/heads/", "refs/tags/", "refs/notes/"} {
		if rest, ok := strings.CutPrefix(ref, prefix); ok {
			return checkBranch(rest)
		}
	}
	return fmt.Errorf("ref %q: only branches, tags and notes can be pushed: %w", ref, ErrName)
}

var shaPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-f]{40}$`) })

// URL is the address to clone a repository from.
func (r *Remote) URL(repo string) string { return r.opt.BaseURL + "/git/" + repo + ".git" }

// mrURL is the address of a merge request's page.
func (r *Remote) mrURL(repo string, number int) string {
	return fmt.Sprintf("%s/mrs/%s/%d", r.opt.BaseURL, repo, number)
}

// StableHost is a host name that means this remote whatever its port, for URLs in manifests that are kept in Git:
// http://tiphys.localhost/git/NAME.git.
const StableHost = "tiphys.localhost"

// RepositoryOf tells which of this remote's repositories a clone URL names. Any loopback name stands for any other, and HTTP for HTTPS: the
// port speaks both, or a proxy in front does.
func (r *Remote) RepositoryOf(raw string) (string, bool) {
	u, err := url.Parse(raw)
	base, err2 := url.Parse(r.opt.BaseURL)
	if err != nil || err2 != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", false
	}
	same := strings.EqualFold(u.Host, StableHost) || strings.EqualFold(u.Host, base.Host) ||
		loopback(u.Hostname()) && loopback(base.Hostname()) && u.Port() == base.Port() ||
		r.named(u.Hostname()) && (u.Port() == "" || u.Port() == base.Port())
	rest, ok := strings.CutPrefix(u.Path, strings.TrimRight(base.Path, "/")+"/git/")
	name := strings.TrimSuffix(strings.TrimRight(rest, "/"), ".git")
	if !same || !ok || CheckName(name) != nil {
		return "", false
	}
	return name, true
}

// named tells the names from elsewhere.
func (r *Remote) named(host string) bool {
	return slices.ContainsFunc(r.opt.Names, func(name string) bool { return strings.EqualFold(name, host) })
}

// Folder is that of the bare repository that a clone URL of this remote names; ok is false for one that is elsewhere.
func (r *Remote) Folder(_ context.Context, raw string) (dir string, ok bool, err error) {
	name, ok := r.RepositoryOf(raw)
	if !ok {
		return "", false, nil
	}
	return r.dir(name), true, nil
}

func loopback(host string) bool {
	host = strings.ToLower(host)
	return host == "localhost" || host == "::1" || strings.HasPrefix(host, "127.") || strings.HasSuffix(host, ".localhost")
}
