package access

import (
	"fmt"
	"strings"

	"github.com/tiphys/tiphys/access/claims"
	"github.com/tiphys/tiphys/access/steptoken"
	"github.com/tiphys/tiphys/failure"
)

// Names of what steps ask for.

// CommitName names a release or a status by what it is of: REPOSITORY@COMMIT.
func CommitName(repo, commit string) string { return repo + "@" + commit }

// ImageName names an image by repository and tag or digest; ref is empty where it is not known yet.
func ImageName(repo, ref string) string { return repo + "@" + ref }

// MergeRequestName names a merge request: REPOSITORY!NUMBER.
func MergeRequestName(repo string, number int) string { return fmt.Sprintf("%s!%d", repo, number) }

// ArtifactName names an artifact by the run that keeps it and its key.
func ArtifactName(uid, key string) string { return uid + "/" + key }

// forges begins the names of images of repositories that are not of the built-in remote, and namespaces those of runs for events that nobody proved.
// No repository has these names.
const (
	forges     = "forges"
	namespaces = "namespaces"
)

// ImagesOf is the name that the images of a step's repository have or begin with, before a slash: that of the repository, and for one of
// another forge forges/NAMESPACE/FORGE before it, so that two repositories of one name do not write each other's images. A run for an event that
// nobody proved has the name namespaces/NAMESPACE. It is empty for a run by hand, whose images may have any name.
func ImagesOf(c steptoken.Claims) string {
	if c.Nobody {
		return strings.ToLower(namespaces + "/" + before(c.Run, "/"))
	}
	if c.Repo == "" || c.Forge == "" || c.Forge == builtin {
		return c.Repo
	}
	return strings.ToLower(forges + "/" + c.Forge + "/" + c.Repo)
}

// builtin names the built-in remote among forges.
const builtin = "builtin"

// within holds a step to its claims: what it may do with things of its kinds.
func within(c steptoken.Claims, verb Verb, kind, name string) error {
	if c.Nobody && (kind == Release || kind == Status || kind == Comment) {
		return failure.WithHint(failure.Refusedf("a step of %s may not %s %s: nobody proved who sent the event that made the run", c.Run, verb, kind),
			"give the event source a secret")
	}
	switch kind {
	case Image:
		repo, ref, _ := strings.Cut(name, "@")
		if c.Nobody {
			return ofNamespace(c, repo)
		}
		if verb == Update {
			return pushes(c, repo, ref)
		}
		return Pulls(ActsFor(c), repo, ref)
	case Artifact:
		if owner, key, _ := strings.Cut(name, "/"); owner != c.UID {
			return failure.Refusedf("artifact %s belongs to another run", key)
		}
		return nil
	case Release:
		return ofCommit(c, name, "release commit %s, not %s", "this run was not made for a commit of a repository, so that nothing can be released from it", "leave --commit out")
	case Status:
		return ofCommit(c, name, "set the status of commit %s only, not of %s",
			"this run was not made for a commit of a repository, so that there is no status to set", "leave --repo and --sha out")
	case Comment:
		if c.MR <= 0 || name != MergeRequestName(c.Repo, c.MR) {
			return failure.WithHint(failure.Refusedf("a step of %s may comment on its own merge request only", c.Run), "leave --mr out, and run for a merge request")
		}
		return nil
	case Attempt:
		return nil
	}
	return failure.Refusedf("a step of %s may not %s %s %s", c.Run, verb, kind, name)
}

// ofCommit holds a step to the commit that its run was made for.
func ofCommit(c steptoken.Claims, name, may, none, hint string) error {
	if c.Repo == "" || c.Commit == "" {
		return failure.WithHint(failure.New(failure.Refused, none), "let a push start the run")
	}
	if own := CommitName(c.Repo, c.Commit); name != own {
		return failure.WithHint(failure.Refusedf("a step of "+c.Run+" may "+may, own, name), hint)
	}
	return nil
}

// ActsFor is what a step's token says of what its run acts for.
func ActsFor(c steptoken.Claims) claims.ActsFor {
	return claims.ActsFor{Forge: c.Forge, Repo: c.Repo, Ref: c.Ref, Commit: c.Commit, MR: c.MR, Protected: c.Protected, Nobody: c.Nobody}
}

// digestPrefix begins the digests of images; what has one is what it is, whoever wrote it.
const digestPrefix = "sha256:"

// Tags of images that were not built for a protected ref begin so.
const (
	requestTags = "mr-"
	branchTags  = "branch-"
)

// tagsOf is how the tags that a run may push begin; empty where it may push any but those of the others.
func tagsOf(a claims.ActsFor) string {
	switch {
	case a.MR != 0:
		return fmt.Sprintf("%s%d-", requestTags, a.MR)
	case a.Repo != "" && !a.Protected:
		return branchTags
	}
	return ""
}

// ofNamespace holds a step for an event that nobody proved to the images of its namespace.
func ofNamespace(c steptoken.Claims, repo string) error {
	own := ImagesOf(c)
	if repo == "" || repo == own || strings.HasPrefix(repo, own+"/") {
		return nil
	}
	return failure.WithHint(failure.Refusedf("a step of %s may push and pull images named %s or %s/…, not %s: nobody proved who sent the event that made the run", c.Run, own, own, repo),
		"give the event source a secret")
}

// pushes lets a step push images of its repository. Only a protected ref moves tags that others use; other branches and merge requests push
// by digest, or tags of their own. A run by hand acts for the person who made it.
func pushes(c steptoken.Claims, repo, ref string) error {
	own := ImagesOf(c)
	if own == "" {
		return nil
	}
	if repo != "" && repo != own && !strings.HasPrefix(repo, own+"/") {
		return failure.Refusedf("a step of %s may push images named %s or %s/…, not %s", c.Run, own, own, repo)
	}
	if ref == "" || strings.HasPrefix(ref, digestPrefix) {
		return nil
	}
	prefix := tagsOf(ActsFor(c))
	switch {
	case c.MR != 0 && !strings.HasPrefix(ref, prefix):
		return failure.Refusedf("a step of merge request %d may push by digest or a tag that begins with %s, not %q", c.MR, prefix, ref)
	case !strings.HasPrefix(ref, prefix):
		return failure.WithHint(failure.Refusedf("a step of %s, which is not protected, may push by digest or a tag that begins with %s, not %q", c.Ref, prefix, ref),
			"protect the ref in its repository, or tag the image so")
	case prefix == "" && (strings.HasPrefix(ref, requestTags) || strings.HasPrefix(ref, branchTags)):
		return failure.Refusedf("tags that begin with %s or %s are those of merge requests and unprotected branches: use another than %q", requestTags, branchTags, ref)
	}
	return nil
}

// Pulls says whether a run may pull an image of the built-in registry by a tag: a protected ref reads no tag that others may push, and others
// read their own of these. The caller may be no run at all.
func Pulls(a claims.ActsFor, repo, ref string) error {
	if a.Repo == "" && a.MR == 0 && !a.Nobody || !strings.HasPrefix(ref, requestTags) && !strings.HasPrefix(ref, branchTags) {
		return nil
	}
	own := ImagesOf(steptoken.Claims{Forge: a.Forge, Repo: a.Repo})
	if prefix := tagsOf(a); !a.Nobody && prefix != "" && strings.HasPrefix(ref, prefix) && (repo == own || strings.HasPrefix(repo, own+"/")) {
		return nil
	}
	return failure.WithHint(failure.Refusedf("image %s:%s was written by a run with other rights", repo, ref),
		"a protected ref reads what protected refs wrote, and a merge request what it or they wrote; name the image by its digest to have exactly that one")
}
