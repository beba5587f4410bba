// Package podpolicy judges a pod as it would run: after templates, patches and defaults, by the rights of whom it is for. How
// far a pod may reach is said by Kubernetes' Pod Security Standards, whose rules come from k8s.io/pod-security-admission; which
// level holds, and which Secrets, claims, service accounts and executors a pod may name, follows from the operator's grants.
//
// The package is pure: a [Subject] and a pod go in, problems come out, each with its field and the grant that would allow it.
package podpolicy

import (
	"fmt"
	"strings"
)

// Kind is what stands behind a pod. It decides what the pod may name without a grant.
type Kind string

// The kinds.
const (
	// Nobody is the zero value: a pod of which nothing is known or proved. It may run within the baseline and name nothing, and
	// no grant is for it.
	Nobody Kind = ""
	// Operator is who runs the program at their own desk (tiphys run): the pod has that person's rights.
	Operator Kind = "operator"
	// Own is a run of no repository: a person's, or a definition's. It may name what is in its own namespace, as in Argo.
	Own Kind = "own"
	// Repository is a run that repositories had a hand in. What it names needs a grant.
	Repository Kind = "repository"
	// Application is a pod that an Application deploys. It may name what is in its own namespace, where its target knows what is whose.
	Application Kind = "application"
)

// Subject is for whom a pod is. It is found out of the record when a run is submitted or an Application is looked at, never of
// what a manifest says of itself. The zero value has the least rights.
type Subject struct {
	Kind Kind `json:"kind,omitempty"`
	// Why says why it is nobody's; empty for other kinds.
	Why string `json:"why,omitempty"`
	// Repositories are those that had a hand in the pod, as grants name them: a grant has to be for each of them.
	Repositories []string `json:"repositories,omitempty"`
	// Ref is the full ref that a repository's change was on; empty if there is not one ref.
	Ref string `json:"ref,omitempty"`
	// Role is that of the person who submitted a run, or who may declare the definition that it is made of; empty for neither.
	Role string `json:"role,omitempty"`
	// MergeRequest is the number of the merge request that had a hand in the pod; 0 for none.
	MergeRequest int `json:"mergeRequest,omitempty"`
	// Fork is the repository that the merge request comes from, if that is another one; empty if not.
	Fork string `json:"fork,omitempty"`
	// Name is the Application's: namespace/name.
	Name string `json:"name,omitempty"`
}

// String names the subject in a refusal.
func (s Subject) String() string {
	repos := "repository " + strings.Join(s.Repositories, " and ")
	if len(s.Repositories) > 1 {
		repos = "repositories " + strings.Join(s.Repositories, " and ")
	}
	request := fmt.Sprintf("merge request %d", s.MergeRequest)
	if s.MergeRequest < 0 {
		request = "a merge request"
	}
	switch {
	case s.Kind == Nobody:
		return "a run that acts for nobody"
	case s.Kind == Operator:
		return "the operator"
	case s.Fork != "":
		return fmt.Sprintf("%s of %s, which comes from a fork (%s)", request, repos, s.Fork)
	case s.Kind == Application && s.MergeRequest != 0:
		return fmt.Sprintf("application %s of %s of %s", s.Name, request, repos)
	case s.Kind == Application:
		return "application " + s.Name + " of " + repos
	case s.MergeRequest != 0:
		return fmt.Sprintf("%s of %s", request, repos)
	case s.Kind == Repository:
		return repos
	case s.Role != "":
		return "a run of the role " + s.Role
	}
	return "a run of no repository"
}

// never says why no grant at all can be for the subject; empty if one can.
func (s Subject) never() string {
	switch {
	case s.Kind == Nobody && s.Why != "":
		return "nothing can be granted to it: " + s.Why
	case s.Kind == Nobody:
		return "nothing can be granted to it: nothing proves whom it acts for"
	case s.Fork != "":
		return "nothing can be granted to a fork"
	}
	return ""
}
