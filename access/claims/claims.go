// Package claims has the one record of whom and what a run acts for. It is settled when the run is submitted, from proved events and from
// who declared or asked for the run, and recorded with it. Neither labels nor names in a manifest make claims, and nothing changes them later.
//
// The package is pure: a [Record] is put together by [Record.With], and what consumers ask of it are views: [Record.ActsFor] for what a
// step may do, [Record.Subject] for what a pod may ask for, and [Record.Class] for what is shared with other runs.
package claims

import (
	"cmp"
	"slices"

	"github.com/tiphys/tiphys/access/podpolicy"
)

// Record is whom and what a run acts for. The zero value is nobody's and has the least rights.
type Record struct {
	// Kind is what stands behind the run. Of nobody's nothing proves whom it acts for: it may run pods, and do nothing that others see.
	Kind podpolicy.Kind `json:"kind,omitempty"`
	// Why says why it is nobody's; empty for other kinds.
	Why string `json:"why,omitempty"`

	// Forge is the instance that Repository is of; empty is the built-in remote. A forge that is not declared has a name that no
	// instance has. Both are of the event that the run is about, which is the last of those that led to it.
	Forge      string `json:"forge,omitempty"`
	Repository string `json:"repository,omitempty"`
	// Ref is the full name of the ref that the event was about; empty where no single one can be named.
	Ref    string `json:"ref,omitempty"`
	Commit string `json:"commit,omitempty"`
	// Protected says that whatever had a hand in the run may be changed only as its forge's rules allow.
	Protected bool `json:"protected,omitempty"`
	// MergeRequest is the number of the merge request that had a hand in the run: 0 for none, [Several] if there is none that the run
	// could speak for.
	MergeRequest int `json:"mergeRequest,omitempty"`
	// Fork is the repository that the merge request comes from if that is another one, and "unknown" if the forge did not name it.
	Fork string `json:"fork,omitempty"`
	// Author is who pushed, or who opened the merge request.
	Author Author `json:"author,omitzero"`

	// Hands are all repositories that had a hand in the run, by their names in grants: those of events and that of the manifest.
	Hands []Hand `json:"hands,omitempty"`
	// Role is that of the person who submitted the run, or who may declare the definition that it is made of.
	Role string `json:"role,omitempty"`
	// Origin is whoever declared the definition that the run is made of; empty for a run by hand.
	Origin string `json:"origin,omitempty"`
}

// Several is the number of a merge request where there are several, where it has no number, or where the run is about another repository.
const Several = -1

// UnknownFork stands for a fork that the forge did not name.
const UnknownFork = "unknown"

// Author is a person as the forge of the event knows them.
type Author struct {
	Name string `json:"name,omitempty"`
	// Writes says that the forge lets the author change the repository.
	Writes bool `json:"writes,omitempty"`
}

// Hand is a repository that had a hand in a run.
type Hand struct {
	// Name is the repository's in grants: "harbour" of the built-in remote, "HOST/NAME" elsewhere.
	Name string `json:"name"`
	// Ref is the full ref that counts; empty for none.
	Ref string `json:"ref,omitempty"`
	// Manifest says that only the manifest is from there, at a revision that adds nobody else's change.
	Manifest bool `json:"manifest,omitempty"`
}

// Made says how a run came to be: what its claims are settled from.
type Made struct {
	// Event is the ledger's sequence of the event that the run is about, Events those of all that led to it; 0 and none for a run of no event.
	Event  int64
	Events []int64
	// Source is the URL that the manifest was read from, Revision what was asked of the repository there: a ref, a commit or HEAD, and empty
	// for what is no repository. Both are empty for a manifest of this server.
	Source, Revision string
	// Origin is whoever declared the definition that the run is made of; empty for none.
	Origin string
	// Role is that of the person who submits the run by hand; empty for others.
	Role string
}

// Event is what one proved event says, or an event that nobody proved.
type Event struct {
	// Nobody says that it was not proved, and Why says why.
	Nobody bool
	Why    string
	// Forge and Repository are as in [Record]; Repository is empty for an event that is not of Git. Name is the repository's in grants.
	Forge, Repository, Name string
	Ref, Commit             string
	Protected               bool
	// MergeRequest and Fork are as in [Record].
	MergeRequest int
	Fork         string
	Author       Author
}

// About gives the record of a run by what it is about: the last of the events that led to it.
func (r Record) About(e Event) Record {
	r.Forge, r.Repository, r.Ref, r.Commit = e.Forge, e.Repository, e.Ref, e.Commit
	r.Protected, r.Author = e.Protected && e.MergeRequest == 0, e.Author
	return r.with(e)
}

// With gives the record of a run that another event had a hand in. It never has more rights than before.
func (r Record) With(e Event) Record {
	same := e.Forge == r.Forge && e.Repository == r.Repository && e.MergeRequest == r.MergeRequest
	if e.MergeRequest != 0 && !same {
		// The run has what one merge request says, and is about something else: it speaks for neither.
		e.MergeRequest = Several
	}
	if e.MergeRequest == 0 && r.MergeRequest != 0 {
		e.MergeRequest = r.MergeRequest
	}
	if e.MergeRequest == Several {
		r.Ref, r.Commit = "", ""
	}
	if e.Nobody {
		r.Ref = ""
	}
	r.Protected = r.Protected && (e.Protected || e.Repository == "") && e.MergeRequest == 0 && !e.Nobody
	return r.with(e)
}

func (r Record) with(e Event) Record {
	if e.Nobody {
		r.Kind, r.Why, r.Protected = podpolicy.Nobody, cmp.Or(r.Why, e.Why), false
	}
	if e.MergeRequest != 0 {
		r.MergeRequest, r.Protected = e.MergeRequest, false
	}
	r.Fork = cmp.Or(r.Fork, e.Fork)
	if e.Name != "" {
		r = r.hand(Hand{Name: e.Name, Ref: e.Ref})
	}
	return r
}

// From gives the record of a run whose manifest is from a repository. Own says that it is from the very change that the run is about, from
// the default branch, or from a repository that no event was about; otherwise whoever may change that revision had a hand in the run.
func (r Record) From(name, revision string, own bool) Record {
	if own {
		return r.hand(Hand{Name: name, Manifest: true})
	}
	r.Protected = false
	return r.hand(Hand{Name: name, Ref: cmp.Or(revision, UnknownFork)})
}

// hand adds a repository; one that counts for a ref counts more than one that gave the manifest only.
func (r Record) hand(h Hand) Record {
	r.Hands = slices.Clone(r.Hands)
	for i, known := range r.Hands {
		switch {
		case known.Name != h.Name:
		case h.Manifest || known.Ref == h.Ref && !known.Manifest:
			return r
		case known.Manifest:
			r.Hands[i] = h
			return r
		}
	}
	r.Hands = append(r.Hands, h)
	slices.SortFunc(r.Hands, func(a, b Hand) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Ref, b.Ref)) })
	if r.Kind == podpolicy.Own {
		r.Kind = podpolicy.Repository
	}
	return r
}

// Unproved is the record of a run of which nothing proves whom it acts for.
func Unproved(why string) Record { return Record{Kind: podpolicy.Nobody, Why: why} }
