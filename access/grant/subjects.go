// Package grant finds out of the record what the operator's grants are for: whose a run is, and whose an Application.
package grant

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/ledger"
)

// Addresses tells which repository of the built-in remote a URL names.
type Addresses interface {
	RepositoryOf(raw string) (repo string, ok bool)
}

// Subjects finds out for whom pods are.
type Subjects struct {
	// Own are the addresses of the built-in remote.
	Own    Addresses
	Ledger ledger.Reader
}

// Origins of definitions that the operator made, or somebody over the API.
const (
	originFolder = "folder"
	originAPI    = "api"
)

// Run finds out for whom the pods of a run are, when it is submitted. Origin is that of the definition which submits it, source
// the URL that its manifest is from, events are the sequences of those that led to it, and role is that of the person who
// submits it; each may be empty. An error means that the record cannot be read now.
func (f Subjects) Run(ctx context.Context, origin, source string, events []int64, role access.Role) (podpolicy.Subject, error) {
	s := podpolicy.Subject{Kind: podpolicy.Own, Role: string(role)}
	switch origin {
	case "":
	case originFolder: // the operator's own
		s.Role = string(access.Admin)
	case originAPI: // a developer may declare what submits runs
		s.Role = string(access.Developer)
	default:
		return podpolicy.Subject{Why: "its definition was made by " + origin + "; declare it in the folder of definitions"}, nil
	}
	if source != "" {
		s.Repositories = append(s.Repositories, f.nameOf(source))
	}
	refs := map[string]bool{}
	for _, seq := range events {
		e, err := f.event(ctx, seq)
		if errors.Is(err, ledger.ErrNotFound) {
			return podpolicy.Subject{Why: fmt.Sprintf("event %d that led to it cannot be read any more", seq)}, nil
		}
		if err != nil {
			return podpolicy.Subject{}, fmt.Errorf("find out for whom the run is: %w", err)
		}
		own, proved := forge.Proved(e)
		if !proved {
			return podpolicy.Subject{Why: "nobody proved who sent the event; give the event source " + e.Namespace + "/" + e.Source + " a secret"}, nil
		}
		if e.Git != nil {
			ofGit(&s, e.Git, own)
			refs[e.Git.Ref] = true
		}
	}
	if len(refs) == 1 && s.MergeRequest == 0 {
		for ref := range refs { // there is one
			s.Ref = ref
		}
	}
	if len(s.Repositories) > 0 {
		s.Kind, s.Role = podpolicy.Repository, ""
		slices.Sort(s.Repositories)
		s.Repositories = slices.Compact(s.Repositories)
	}
	return s, nil
}

// event reads an event by its sequence; ErrNotFound if there is none any more.
func (f Subjects) event(ctx context.Context, seq int64) (event.Event, error) {
	entry, err := f.Ledger.Entry(ctx, seq)
	if err != nil {
		return event.Event{}, err
	}
	return event.FromEntry(entry)
}

// ofGit adds what an event of a repository was about; own says that the built-in remote made it.
func ofGit(s *podpolicy.Subject, g *event.Git, own bool) {
	s.Repositories = append(s.Repositories, repositoryOf(g, own))
	if g.PR == nil {
		return
	}
	if s.MergeRequest = g.PR.Number; s.MergeRequest == 0 {
		s.MergeRequest = -1 // one without a number is one all the same
	}
	if g.PR.Fork {
		s.Fork = g.PR.SourceRepo
		if s.Fork == "" {
			s.Fork = "unknown"
		}
	}
}

// Application says for whom the pods of an Application are: the sources are URLs of repositories; mr is the merge request that it is
// a preview of, 0 for none, and fork where that one comes from if it is another repository.
func (f Subjects) Application(name string, sources []string, mr int, fork string) podpolicy.Subject {
	s := podpolicy.Subject{Kind: podpolicy.Application, Name: name, MergeRequest: mr, Fork: fork}
	for _, raw := range sources {
		s.Repositories = append(s.Repositories, f.nameOf(raw))
	}
	slices.Sort(s.Repositories)
	s.Repositories = slices.Compact(s.Repositories)
	return s
}

// repositoryOf names an event's repository as grants do.
func repositoryOf(g *event.Git, own bool) string {
	if own {
		return g.Repo.FullName
	}
	host := g.Instance
	if u, err := url.Parse(host); err == nil && u.Host != "" {
		host = u.Host
	}
	return host + "/" + g.Repo.FullName
}

// nameOf names the repository of a URL as grants do, without a password in it.
func (f Subjects) nameOf(raw string) string {
	if name, ok := f.Own.RepositoryOf(raw); ok {
		return name
	}
	host, path := "", raw
	if strings.Contains(raw, "://") {
		u, err := url.Parse(raw)
		if err != nil {
			return "?" // the error may show a password, and nothing covers this name but *
		}
		host, path = u.Host, u.Path
	} else if at, rest, ok := strings.Cut(raw, ":"); ok { // git@host:path
		host, path = at[strings.LastIndex(at, "@")+1:], rest
	}
	return host + "/" + strings.TrimSuffix(strings.Trim(path, "/"), ".git")
}
