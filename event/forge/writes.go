package forge

import "github.com/tiphys/tiphys/event"

// Trusted tells whether what a forge says of somebody means that he may write to the repository: as a merge request has it, or in GitHub's
// own word for the author of a comment.
func Trusted(association string) bool {
	switch association {
	case "member", "collaborator":
		return true
	}
	word := trust(association)
	return word == "member" || word == "collaborator"
}

// Writes tells whether the author of a merge request may write to its repository: the forge says so, or the branch is known to be of the
// repository itself, which takes pushes of those who may only. An event that does not say where the branch is, a comment on GitHub, shows nothing.
func Writes(pr event.PullRequest) bool {
	return Trusted(pr.AuthorTrust) || !pr.Fork && pr.SourceRepo != ""
}
