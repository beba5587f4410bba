// Package grant names repositories as the operator's grants do, and says for whom the pods of an Application are.
package grant

import (
	"net/url"
	"slices"
	"strings"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/event"
)

// Addresses tells which repository of the built-in remote a URL names.
type Addresses interface {
	RepositoryOf(raw string) (repo string, ok bool)
}

// Names gives repositories the names that grants use: "harbour" of the built-in remote, "HOST/NAME" elsewhere.
type Names struct {
	// Own are the addresses of the built-in remote.
	Own Addresses
}

// Application says for whom the pods of an Application are: the sources are URLs of repositories; mr is the merge request that it is
// a preview of, 0 for none, and fork where that one comes from if it is another repository.
func (n Names) Application(name string, sources []string, mr int, fork string) podpolicy.Subject {
	s := podpolicy.Subject{Kind: podpolicy.Application, Name: name, MergeRequest: mr, Fork: fork}
	for _, raw := range sources {
		s.Repositories = append(s.Repositories, n.Of(raw))
	}
	slices.Sort(s.Repositories)
	s.Repositories = slices.Compact(s.Repositories)
	return s
}

// Sent names an event's repository; own says that the built-in remote made the event.
func (Names) Sent(g *event.Git, own bool) string {
	if own {
		return g.Repo.FullName
	}
	host := g.Instance
	if u, err := url.Parse(host); err == nil && u.Host != "" {
		host = u.Host
	}
	return host + "/" + g.Repo.FullName
}

// Of names the repository of a URL, without a password in it.
func (n Names) Of(raw string) string {
	if name, ok := n.Own.RepositoryOf(raw); ok {
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
