package plan

import (
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/budget"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/manifest"
)

// PermitApplication says why a project does not allow an Application's sources or destination. As Argo CD's documents have
// it: what no entry allows is refused, and an entry with "!" in front denies whatever others allow. The patterns are
// globs, in URLs with "/" between segments: * stays within one, ** does not.
func PermitApplication(p manifest.AppProject, a manifest.ApplicationSpec, at deploy.Place) error {
	for _, s := range a.SourceList() {
		if !permitsRepo(p.Spec.SourceRepos, s.RepoURL) {
			return fmt.Errorf("project %s does not allow the repository %s: add it to spec.sourceRepos, or use another project", p.Name, s.RepoURL)
		}
	}
	if !permitsNamespace(p.Spec.Destinations, at, a.Destination.Namespace) {
		return fmt.Errorf("project %s does not allow the destination %s, namespace %q: add it to spec.destinations, or use another project",
			p.Name, at.Server, a.Destination.Namespace)
	}
	return nil
}

// PermitNamespace says why a project, declared in one namespace, does not take an Application of another. As in Argo CD
// (docs, "Applications in any namespace") its own are always welcome, others if spec.sourceNamespaces has theirs: globs,
// or regular expressions between slashes.
func PermitNamespace(p manifest.AppProject, home, application string) error {
	if application == home || slices.ContainsFunc(p.Spec.SourceNamespaces, func(pattern string) bool {
		if n := len(pattern); n > 2 && pattern[0] == '/' && pattern[n-1] == '/' {
			return found(pattern[1:n-1], application)
		}
		return glob(pattern, application, false)
	}) {
		return nil
	}
	return fmt.Errorf("project %s is declared in namespace %q and takes no Applications of namespace %q: add it to spec.sourceNamespaces, or use another project",
		p.Name, home, application)
}

// Narrow is the project of an Application whose own is not declared, and of one that is made from a merge request besides its own: any
// repository, the destination's namespace, and of kinds without a namespace nothing but that namespace.
func Narrow(a manifest.ApplicationSpec) manifest.AppProject {
	p := manifest.AppProject{Spec: manifest.AppProjectSpec{SourceRepos: []string{"*"}}}
	p.Name = "default (built in)"
	p.Spec.Destinations = []manifest.Destination{{Server: "*", Namespace: a.Destination.Namespace}}
	p.Spec.ClusterResourceWhitelist = []manifest.ProjectResource{{Kind: "Namespace", Name: a.Destination.Namespace}}
	return p
}

// maxRefused is how many objects one refusal names.
const maxRefused = 10

// PermitObjects says which of the rendered objects a project does not allow: by its lists of kinds, or because they lie in
// another namespace than its destinations have. As in Argo CD no kind without namespace is allowed unless it is listed, every
// other kind is unless there is a list, and a denial beats any allow.
func PermitObjects(p manifest.AppProject, at deploy.Place, objects []*unstructured.Unstructured, namespaced func(*unstructured.Unstructured) bool) error {
	var refused []string
	for _, o := range objects {
		if why := refusedKind(p, at, o, namespaced(o)); why != "" {
			refused = append(refused, fmt.Sprintf("%s %s: %s", o.GetKind(), o.GetName(), why))
		}
	}
	if len(refused) == 0 {
		return nil
	}
	rest := ""
	if n := len(refused) - maxRefused; n > 0 {
		refused, rest = refused[:maxRefused], fmt.Sprintf("; and %d more", n)
	}
	return fmt.Errorf("project %s does not allow what would be deployed: %s%s", p.Name, strings.Join(refused, "; "), rest)
}

func refusedKind(p manifest.AppProject, at deploy.Place, o *unstructured.Unstructured, namespaced bool) string {
	if !namespaced {
		switch {
		case !listsKind(p.Spec.ClusterResourceWhitelist, o):
			return "a kind without namespace has to be in spec.clusterResourceWhitelist"
		case listsKind(p.Spec.ClusterResourceBlacklist, o):
			return "spec.clusterResourceBlacklist denies it"
		}
		return ""
	}
	switch allowed := p.Spec.NamespaceResourceWhitelist; {
	case allowed != nil && !listsKind(allowed, o):
		return "it is not in spec.namespaceResourceWhitelist"
	case listsKind(p.Spec.NamespaceResourceBlacklist, o):
		return "spec.namespaceResourceBlacklist denies it"
	case !permitsNamespace(p.Spec.Destinations, at, o.GetNamespace()):
		return fmt.Sprintf("spec.destinations does not have its namespace %q", o.GetNamespace())
	}
	return ""
}

// listsKind looks for an object's kind and name in a list, whose patterns are those of path.Match: they have no alternatives, and
// "^" negates a class (pkg/apis/application/v1alpha1, isNamedResourceInList).
func listsKind(list []manifest.ProjectResource, o *unstructured.Unstructured) bool {
	gvk := o.GroupVersionKind()
	matches := func(pattern, text string) bool {
		ok, err := path.Match(pattern, text)
		return ok && err == nil
	}
	for _, r := range list {
		if matches(r.Group, gvk.Group) && matches(r.Kind, gvk.Kind) && (r.Name == "" || matches(r.Name, o.GetName())) {
			return true
		}
	}
	return false
}

func permitsRepo(patterns []string, repo string) bool {
	repo = normalURL(repo)
	allowed := false
	for _, pattern := range patterns {
		pattern, deny := strings.CutPrefix(pattern, "!")
		if deny && unreadable(pattern) {
			return false
		}
		if pattern != "*" && !glob(normalURL(pattern), repo, true) {
			continue
		}
		if deny {
			return false
		}
		allowed = true
	}
	return allowed
}

// normalURL makes the ways to write one repository the same: case, ".git", and the two forms of SSH.
func normalURL(raw string) string {
	s := strings.ToLower(strings.TrimSpace(raw))
	if !strings.Contains(s, "://") {
		if host, path, ok := strings.Cut(s, ":"); ok && strings.Contains(host, "@") {
			s = host + "/" + path
		}
	}
	s = strings.TrimSuffix(strings.TrimRight(strings.TrimPrefix(s, "ssh://"), "/"), ".git")
	if u, err := url.Parse(s); err == nil && u.User != nil && u.Scheme != "" {
		u.User = nil // a password in it names no other repository
		s = u.String()
	}
	return s
}

// permitsNamespace asks for a destination that is the cluster, by either name, and has the namespace.
func permitsNamespace(list []manifest.Destination, at deploy.Place, namespace string) bool {
	allowed := false
	for _, d := range list {
		server, denyServer := strings.CutPrefix(d.Server, "!")
		name, denyName := strings.CutPrefix(d.Name, "!")
		ns, denyNamespace := strings.CutPrefix(d.Namespace, "!")
		if denyServer && unreadable(server) || denyName && unreadable(name) || denyNamespace && unreadable(ns) {
			return false
		}
		byServer, byName := glob(server, at.Server, false), glob(name, at.Name, false)
		cluster, here := byServer || byName, glob(ns, namespace, false)
		switch {
		case !cluster || !here:
		case denyServer && byServer, denyName && byName, denyNamespace:
			return false
		default:
			allowed = true
		}
	}
	return allowed
}

// MatchesHost tells whether a pattern of host names is for one: a glob, without regard to case.
func MatchesHost(pattern, host string) bool {
	return glob(strings.ToLower(pattern), strings.ToLower(host), false)
}

// glob matches a whole text, by the rules of Argo CD's util/glob. With segments a * stops at "/", and ** does not. What is no
// pattern matches nothing.
func glob(pattern, text string, segments bool) bool {
	if segments {
		return budget.MatchGlob(pattern, text, '/')
	}
	return budget.MatchGlob(pattern, text)
}

// unreadable tells whether a pattern is none. One that is to deny then denies everything, because nobody knows what it was to deny.
func unreadable(pattern string) bool {
	_, err := budget.ParseGlob(pattern)
	return err != nil
}

// found tells whether a regular expression is found in a text. What is none is found in nothing.
func found(expression, text string) bool {
	re, err := budget.ParsePattern(expression)
	if err != nil {
		return false
	}
	ok, err := re.Match(budget.New(), text)
	return ok && err == nil
}
