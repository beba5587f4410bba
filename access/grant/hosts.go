// Package grant has what the operator of the machine grants on the command line, and nobody who may only declare things.
package grant

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/ledger"
)

// HostRepos are the repositories whose runs may use the host executor, which runs commands with this machine's files.
// "harbour" is a repository of the built-in remote, "gitlab.example.org/fleet/harbour" one elsewhere; "fleet/*" is
// everything below, and "*" every repository. Forks are refused whatever is here.
type HostRepos []string

// ParseHostRepos checks names and patterns.
func ParseHostRepos(patterns []string) (HostRepos, error) {
	var out HostRepos
	for _, p := range patterns {
		for name := range strings.SplitSeq(p, ",") {
			name = strings.Trim(strings.TrimSpace(name), "/")
			before, _, star := strings.Cut(name, "*")
			switch {
			case name == "":
				continue
			case strings.Contains(name, "://"):
				return nil, fmt.Errorf("%q is a URL: write the repository's name, or HOST/NAME for one that is not of the built-in remote", name)
			case star && name != "*" && (!strings.HasSuffix(name, "/*") || before+"*" != name):
				return nil, fmt.Errorf("%q: a * may stand alone or as the last part of a name (team/*)", name)
			}
			out = append(out, strings.TrimSuffix(name, ".git"))
		}
	}
	return out, nil
}

// all reports whether every repository was opted in.
func (h HostRepos) all() bool {
	for _, p := range h {
		if p == "*" {
			return true
		}
	}
	return false
}

// allows tells whether a repository was opted in. Names are compared without regard to case, as forges do. A name that
// whoever fetches may read as another repository's (team/../other) is covered by "*" alone.
func (h HostRepos) allows(name string) bool {
	name = strings.ToLower(name)
	plain := path.Clean(name) == name && !strings.ContainsAny(name, "?#%@\\ ")
	for _, p := range h {
		p = strings.ToLower(p)
		below, group := strings.CutSuffix(p, "*")
		if p == "*" {
			return true
		}
		if plain && (p == name || group && strings.HasPrefix(name, below) && len(name) > len(below)) {
			return true
		}
	}
	return false
}

const (
	useContainer = "run it in containers (annotation tiphys.dev/executor: container)"
	hostIs       = "the host executor runs commands with this machine's files, and "
)

// Addresses tells which repository of the built-in remote a URL names.
type Addresses interface {
	RepositoryOf(raw string) (repo string, ok bool)
}

// Hosts decides which runs may use the host executor, and says what would let others.
type Hosts struct {
	Repos HostRepos
	// Own are the addresses of the built-in remote.
	Own    Addresses
	Ledger ledger.Reader
}

// Origins of definitions that the operator made, or somebody who may do anything.
const (
	originFolder = "folder"
	originAPI    = "api"
)

// Refuse says why a run may not use the host executor. What people submit, and what the operator's definitions start
// without a repository, may: whoever can do that has this machine anyway.
func (h Hosts) Refuse(ctx context.Context, origin, source string, events []int64) (reason, hint string) {
	if origin != "" && origin != originFolder && origin != originAPI && !h.Repos.all() {
		return hostIs + "this definition was made by " + origin, "declare it in the folder of definitions, or " + useContainer
	}
	if source != "" {
		if reason, hint = h.optedIn(h.sourceName(source)); reason != "" {
			return reason, hint
		}
	}
	for _, seq := range events {
		if reason, hint = h.refuseEvent(ctx, seq); reason != "" {
			return reason, hint
		}
	}
	return "", ""
}

func (h Hosts) refuseEvent(ctx context.Context, seq int64) (reason, hint string) {
	entry, err := h.Ledger.Entry(ctx, seq)
	var e event.Event
	if err == nil {
		e, err = event.FromEntry(entry)
	}
	if errors.Is(err, ledger.ErrNotFound) {
		return hostIs + fmt.Sprintf("event %d that led to this run cannot be read any more", seq), useContainer
	}
	if err != nil {
		return hostIs + "the event cannot be read: " + err.Error(), useContainer
	}
	if e.Git == nil {
		return "", ""
	}
	if pr := e.Git.PR; pr != nil && pr.Fork {
		return hostIs + fmt.Sprintf("merge request %d comes from a fork (%s)", pr.Number, pr.SourceRepo), useContainer
	}
	if (e.Verified == "" || e.Verified == forge.VerifiedNone) && (e.Type != "git" || e.Git.Forge != forge.TypeBuiltin) && !h.Repos.all() {
		return hostIs + "nobody proved who sent this event",
			"give the event source " + e.Namespace + "/" + e.Source + " a secret, or " + useContainer
	}
	return h.optedIn(eventRepo(e.Git))
}

func (h Hosts) optedIn(repo string) (reason, hint string) {
	if h.Repos.allows(repo) {
		return "", ""
	}
	return hostIs + "repository " + repo + " was not given them", "start the server with --host-repos " + repo + ", or " + useContainer
}

// eventRepo names an event's repository as --host-repos does.
func eventRepo(g *event.Git) string {
	if g.Forge == forge.TypeBuiltin {
		return g.Repo.FullName
	}
	host := g.Instance
	if u, err := url.Parse(host); err == nil && u.Host != "" {
		host = u.Host
	}
	return host + "/" + g.Repo.FullName
}

// sourceName names the repository of a URL as --host-repos does, without a password in it.
func (h Hosts) sourceName(raw string) string {
	if name, ok := h.Own.RepositoryOf(raw); ok {
		return name
	}
	host, path := "", raw
	if strings.Contains(raw, "://") {
		u, err := url.Parse(raw)
		if err != nil {
			return "?" // the error may show a password, and nothing covers this name
		}
		host, path = u.Host, u.Path
	} else if at, rest, ok := strings.Cut(raw, ":"); ok { // git@host:path
		host, path = at[strings.LastIndex(at, "@")+1:], rest
	}
	return host + "/" + strings.TrimSuffix(strings.Trim(path, "/"), ".git")
}
