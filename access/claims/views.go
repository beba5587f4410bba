package claims

import (
	"slices"

	"github.com/tiphys/tiphys/access/podpolicy"
)

// ActsFor is the view of a record that says what a run's steps may act for. The zero value is of a run that a person or a schedule of
// this server made: it acts for no repository.
type ActsFor struct {
	// Forge is the instance that Repo is of; empty is the built-in remote. A forge that is not declared has a name that no instance has.
	Forge string `json:"forge,omitempty"`
	Repo  string `json:"repo,omitempty"`
	// Ref is the full name of the ref, empty where several events speak for different ones.
	Ref    string `json:"ref,omitempty"`
	Commit string `json:"commit,omitempty"`
	// MR is the number of the merge request, 0 for none and [Several] for one that the run cannot speak for; Fork says that it comes from
	// another repository.
	MR   int  `json:"mr,omitempty"`
	Fork bool `json:"fork,omitempty"`
	// Protected says that Ref may be changed only as the forge's rules allow.
	Protected bool `json:"protected,omitempty"`
	// Nobody says that nobody proved who sent an event that led to the run: it may run pods, and do nothing that others see.
	Nobody bool `json:"nobody,omitempty"`
}

// ActsFor says what the run's steps may act for.
func (r Record) ActsFor() ActsFor {
	return ActsFor{
		Forge: r.Forge, Repo: r.Repository, Ref: r.Ref, Commit: r.Commit, MR: r.MergeRequest, Fork: r.Fork != "",
		Protected: r.Protected, Nobody: r.Kind == podpolicy.Nobody,
	}
}

// Subject says for whom the run's pods are.
func (r Record) Subject() podpolicy.Subject {
	switch r.Kind {
	case podpolicy.Nobody:
		return podpolicy.Subject{Why: r.Why}
	case podpolicy.Operator:
		return podpolicy.Subject{Kind: podpolicy.Operator}
	}
	s := podpolicy.Subject{Kind: r.Kind, MergeRequest: r.MergeRequest, Fork: r.Fork}
	if len(r.Hands) == 0 {
		s.Role = r.Role
	}
	refs := map[string]bool{}
	for _, h := range r.Hands {
		s.Repositories = append(s.Repositories, h.Name)
		if !h.Manifest {
			refs[h.Ref] = true
		}
	}
	slices.Sort(s.Repositories)
	s.Repositories = slices.Compact(s.Repositories)
	if len(refs) == 1 && r.MergeRequest == 0 {
		for ref := range refs { // there is one
			s.Ref = ref
		}
	}
	return s
}

// FromParts is the record of a run that was submitted when it was kept in two parts, of which the first may be missing. Its views are
// these parts again, or have less: what was nobody's in one part is so in both.
func FromParts(acts ActsFor, pods podpolicy.Subject) Record {
	r := Record{
		Kind: pods.Kind, Why: pods.Why, Forge: acts.Forge, Repository: acts.Repo, Ref: acts.Ref, Commit: acts.Commit,
		Protected: acts.Protected, MergeRequest: acts.MR, Fork: pods.Fork, Role: pods.Role,
	}
	if acts.Nobody {
		r.Kind, r.Protected = podpolicy.Nobody, false
	}
	if r.MergeRequest == 0 && pods.MergeRequest != 0 {
		r.MergeRequest, r.Protected = pods.MergeRequest, false
	}
	if r.Fork == "" && acts.Fork {
		r.Fork = UnknownFork
	}
	for _, name := range pods.Repositories {
		r.Hands = append(r.Hands, Hand{Name: name, Ref: pods.Ref})
	}
	return r
}
