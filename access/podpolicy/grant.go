package podpolicy

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Level is a level of the Pod Security Standards (https://kubernetes.io/docs/concepts/security/pod-security-standards/).
type Level string

// The levels, from the narrowest.
const (
	Restricted Level = "restricted"
	Baseline   Level = "baseline"
	Privileged Level = "privileged"
)

// rank orders levels: more may do more.
func (l Level) rank() int { return slices.Index([]Level{Restricted, Baseline, Privileged}, l) }

// Grant is what the operator gives to some pods. Of the levels the first grant that is for a pod and names one counts; of
// everything else a pod has what any grant for it gives.
type Grant struct {
	To To `json:"to"`
	// Pods is the level that holds for these pods; empty says nothing about it.
	Pods Level `json:"pods,omitempty"`
	// Executors are those that pods may use though they need a grant: "host", with which a pod sees the files of its machine.
	Executors []string `json:"executors,omitempty"`
	// HostNetwork lets pods share the network of their machine (spec.hostNetwork), beyond what the level says.
	HostNetwork bool `json:"hostNetwork,omitempty"`
	// Secrets, Claims and ServiceAccounts are names in the pod's namespace; a * at the end stands for anything.
	Secrets         []string `json:"secrets,omitempty"`
	Claims          []string `json:"claims,omitempty"`
	ServiceAccounts []string `json:"serviceAccounts,omitempty"`
	// Containers are the limits of containers, see [Policy.Limit].
	Containers *Containers `json:"containers,omitempty"`
}

// To says whom a grant is for: whoever matches all that is named, and of each list one item. At least one of Repositories,
// Namespaces and Roles is named.
type To struct {
	// Repositories: "harbour" of the built-in remote, "gitlab.example.org/fleet/harbour" elsewhere; "fleet/*" is everything
	// below, "*" every repository. If several had a hand in a pod each of them must be named.
	Repositories []string `json:"repositories,omitempty"`
	// Refs are full refs of these repositories: "refs/heads/main", "refs/tags/*".
	Refs []string `json:"refs,omitempty"`
	// Namespaces are those of the pods; a * at the end stands for anything.
	Namespaces []string `json:"namespaces,omitempty"`
	// Roles are those of whoever submitted a run of no repository: "admin", "developer", "viewer".
	Roles []string `json:"roles,omitempty"`
	// MergeRequests extends the grant to merge requests of these repositories. Forks never have one.
	MergeRequests bool `json:"mergeRequests,omitempty"`
}

// covers tells whether the grant is for a subject in a namespace; repo is the one of its repositories that is asked about, empty if
// it has none.
func (t To) covers(s Subject, namespace, repo string) bool {
	return t.about(s, namespace, repo) && s.never() == "" && (s.MergeRequest == 0 || t.MergeRequests)
}

// about is covers without regard to merge requests, forks and what nobody proved: a grant that takes rights away holds for them, too.
func (t To) about(s Subject, namespace, repo string) bool {
	return (len(t.Repositories) == 0 || repo != "" && slices.ContainsFunc(t.Repositories, func(p string) bool { return covers(p, repo) })) &&
		(len(t.Refs) == 0 || s.Ref != "" && matches(t.Refs, s.Ref)) &&
		(len(t.Namespaces) == 0 || matches(t.Namespaces, namespace)) &&
		(len(t.Roles) == 0 || s.Role != "" && slices.Contains(t.Roles, s.Role))
}

// covers tells whether a pattern of repositories is for one. Names are compared without regard to case, as forges do. A name that
// whoever fetches may read as another repository's (team/../other) is covered by "*" alone.
func covers(pattern, name string) bool {
	pattern, name = strings.ToLower(pattern), strings.ToLower(name)
	below, group := strings.CutSuffix(pattern, "*")
	plain := path.Clean(name) == name && !strings.ContainsAny(name, "?#%@\\ ")
	return pattern == "*" || plain && (pattern == name || group && strings.HasPrefix(name, below) && len(name) > len(below))
}

// matches tells whether one of the patterns is the name, or begins it where the pattern ends with a star.
func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		start, star := strings.CutSuffix(p, "*")
		return p == name || star && strings.HasPrefix(name, start)
	})
}

// all tells whether grants give something for each of the subject's repositories, or, if it has none, for the subject.
func (p Policy) all(s Subject, namespace string, gives func(Grant) bool) bool {
	if s.Kind == Operator {
		return true
	}
	for _, repo := range s.asked() {
		if !slices.ContainsFunc(p.grants, func(g Grant) bool { return gives(g) && g.To.covers(s, namespace, repo) }) {
			return false
		}
	}
	return true
}

// asked are the repositories that are asked about one by one; one without a name if there are none.
func (s Subject) asked() []string {
	if len(s.Repositories) == 0 {
		return []string{""}
	}
	return s.Repositories
}

// level is the one that holds: for each repository that of the first grant which is for it, and of these the narrowest.
func (p Policy) level(s Subject, namespace string) Level {
	if s.Kind == Operator {
		return Privileged
	}
	lowest := Privileged
	for _, repo := range s.asked() {
		level := Baseline
		for _, g := range p.grants {
			if g.Pods != "" && g.To.about(s, namespace, repo) && (g.Pods != Privileged || g.To.covers(s, namespace, repo)) {
				level = g.Pods
				break
			}
		}
		if level.rank() < lowest.rank() {
			lowest = level
		}
	}
	return lowest
}

// wanted says which grant would allow something, as the operator would write it, or why there is none.
func wanted(s Subject, namespace, gives string) string {
	if never := s.never(); never != "" {
		return never
	}
	to := "namespaces: [" + namespace + "]"
	switch {
	case len(s.Repositories) > 0:
		to = "repositories: [" + strings.Join(s.Repositories, ", ") + "]"
	case s.Role != "":
		to = "roles: [" + s.Role + "]"
	}
	if s.MergeRequest != 0 {
		to += ", mergeRequests: true"
	}
	text := fmt.Sprintf("the operator may grant it in the server's configuration file: grants: [{to: {%s}, %s}]", to, gives)
	if strings.HasPrefix(gives, "secrets:") && len(s.Repositories) > 0 {
		text = "an administrator may grant it by a SecretGrant, or " + text
	}
	return text
}
