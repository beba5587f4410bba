package podpolicy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tiphys/tiphys/manifest"
)

// maxGrants bounds the grants of a server: each pod is held against all of them.
const maxGrants = 1000

// Read reads the list of grants of the server's configuration file; path is where it stands in it. What is unknown, or cannot
// be what was meant, is an error with its place.
func Read(tree *manifest.Tree, path string) ([]Grant, []manifest.Diagnostic) {
	var r reader
	if tree.Kind() != manifest.KindList {
		r.refuse(tree, path, "it must be a list", "write each grant as an item: - to: {repositories: [harbour]}, and below it what is given")
		return nil, r.diags
	}
	if tree.Len() > maxGrants {
		r.refuse(tree, path, fmt.Sprintf("a server has at most %d grants", maxGrants), "name groups (team/*) instead of single repositories")
		return nil, r.diags
	}
	grants := make([]Grant, tree.Len())
	for i, item := range tree.Items() {
		place := manifest.IndexPath(path, i)
		if item.Kind() != manifest.KindMap {
			r.refuse(item, place, fmt.Sprintf("it must be a map, not a %s", item.Kind()), "write - to: {repositories: [harbour]}, and below it what is given")
			continue
		}
		for _, d := range manifest.DecodeTree(item, &grants[i], manifest.DecodeOptions{Strict: true}) {
			if d.Path == "" {
				d.Path = place
			} else {
				d.Path = place + "." + d.Path
			}
			r.diags = append(r.diags, d)
		}
		r.grant(item, place, &grants[i])
	}
	if manifest.Failed(r.diags) {
		return nil, r.diags
	}
	return grants, r.diags
}

// reader checks grants.
type reader struct {
	diags []manifest.Diagnostic
}

func (r *reader) refuse(t *manifest.Tree, path, message, hint string) {
	r.diags = append(r.diags, manifest.Diagnostic{Position: t.Here(), Severity: manifest.SeverityError, Path: path, Message: path + ": " + message, Hint: hint})
}

// at gives a field of a grant and its path; the grant itself if it is not written.
func at(t *manifest.Tree, path, field string) (*manifest.Tree, string) {
	if found := t.Lookup(field); found != nil {
		return found, path + "." + field
	}
	return t, path
}

func (r *reader) grant(t *manifest.Tree, path string, g *Grant) {
	r.to(t, path, &g.To)
	if g.Pods != "" && g.Pods.rank() < 0 {
		where, p := at(t, path, "pods")
		r.refuse(where, p, fmt.Sprintf("there is no level %q", g.Pods), "the levels are restricted, baseline and privileged")
	}
	r.names(t, path, "executors", g.Executors)
	r.names(t, path, "secrets", g.Secrets)
	r.names(t, path, "claims", g.Claims)
	r.names(t, path, "serviceAccounts", g.ServiceAccounts)
	r.containers(t, path, g.Containers)
	if len(g.gives()) == 0 {
		r.refuse(t, path, "it gives nothing", "write pods, executors, hostNetwork, secrets, claims, serviceAccounts or containers")
	}
}

func (r *reader) to(t *manifest.Tree, path string, to *To) {
	whole, wholePath := at(t, path, "to")
	if len(to.Repositories)+len(to.Namespaces)+len(to.Roles) == 0 {
		r.refuse(whole, wholePath, "it names nobody", "name repositories, namespaces or roles; \"*\" stands for all repositories, or all namespaces")
	} else if (len(to.Refs) > 0 || to.MergeRequests) && len(to.Repositories) == 0 {
		r.refuse(whole, wholePath, "refs and mergeRequests are of repositories, and none is named", "name them; \"*\" stands for all")
	}
	for i, name := range to.Repositories {
		plain, err := repository(name)
		if err != nil {
			where, p := at(t, path, fmt.Sprintf("to.repositories[%d]", i))
			r.refuse(where, p, err.Error(), "NAME is a repository of the built-in remote, HOST/NAME one of another forge, GROUP/* everything below, * all")
			continue
		}
		to.Repositories[i] = plain
	}
	for i, ref := range to.Refs {
		if ref != "*" && !strings.HasPrefix(ref, "refs/") {
			where, p := at(t, path, fmt.Sprintf("to.refs[%d]", i))
			r.refuse(where, p, fmt.Sprintf("%q is no full ref", ref), "write refs/heads/main, refs/tags/* and the like")
		}
	}
	for i, role := range to.Roles {
		if !slices.Contains([]string{"admin", "developer", "viewer"}, role) {
			where, p := at(t, path, fmt.Sprintf("to.roles[%d]", i))
			r.refuse(where, p, fmt.Sprintf("there is no role %q", role), "the roles of people are admin, developer and viewer")
		}
	}
	r.names(t, path, "to.namespaces", to.Namespaces)
	r.names(t, path, "to.refs", to.Refs)
}

// names checks names that may end with a star.
func (r *reader) names(t *manifest.Tree, path, field string, names []string) {
	for i, name := range names {
		if name == "" || strings.Contains(strings.TrimSuffix(name, "*"), "*") {
			where, p := at(t, path, fmt.Sprintf("%s[%d]", field, i))
			r.refuse(where, p, fmt.Sprintf("%q is no name", name), "a * may stand at the end only")
		}
	}
}

// repository checks a name or pattern of repositories, and gives it without what it may begin or end with.
func repository(name string) (string, error) {
	name = strings.Trim(strings.TrimSpace(name), "/")
	before, _, star := strings.Cut(name, "*")
	switch {
	case name == "":
		return "", errors.New("an empty name is no repository")
	case strings.Contains(name, "://"):
		return "", fmt.Errorf("%q is a URL", name)
	case star && name != "*" && (!strings.HasSuffix(name, "/*") || before+"*" != name):
		return "", fmt.Errorf("%q: a * may stand alone or as the last part of a name", name)
	}
	return strings.TrimSuffix(name, ".git"), nil
}
