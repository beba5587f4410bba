package access

import (
	"fmt"
	"strings"

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

// forges begins the names of images of repositories that are not of the built-in remote, where no repository has that name.
const forges = "forges"

// ImagesOf is the name that the images of a step's repository have or begin with, before a slash: that of the repository, and for one of
// another forge forges/NAMESPACE/FORGE before it, so that two repositories of one name do not write each other's images. It is empty for
// a run by hand, whose images may have any name.
func ImagesOf(c steptoken.Claims) string {
	if c.Repo == "" || c.Forge == "" || c.Forge == builtin {
		return c.Repo
	}
	return strings.ToLower(forges + "/" + c.Forge + "/" + c.Repo)
}

// builtin names the built-in remote among forges.
const builtin = "builtin"

// within holds a step to its claims: what it may do with things of its kinds.
func within(c steptoken.Claims, verb Verb, kind, name string) error {
	if c.Nobody && (kind == Release || kind == Status || kind == Comment || kind == Image && verb != Get) {
		return failure.WithHint(failure.Refusedf("a step of %s may not %s %s: nobody proved who sent the event that made the run", c.Run, verb, kind),
			"give the event source a secret")
	}
	switch kind {
	case Image:
		if verb == Update {
			return pushes(c, name)
		}
		return nil
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

// pushes lets a step push images of its repository; a merge request's may push by digest or by a tag of its own, so that no
// tag that others use moves. A run by hand acts for the person who made it.
func pushes(c steptoken.Claims, name string) error {
	repo, ref, _ := strings.Cut(name, "@")
	own := ImagesOf(c)
	if own == "" {
		return nil
	}
	if repo != "" && repo != own && !strings.HasPrefix(repo, own+"/") {
		return failure.Refusedf("a step of %s may push images named %s or %s/…, not %s", c.Run, own, own, repo)
	}
	if c.MR != 0 && ref != "" && !strings.HasPrefix(ref, "sha256:") && !strings.HasPrefix(ref, fmt.Sprintf("mr-%d-", c.MR)) {
		return failure.Refusedf("a step of merge request %d may push by digest or a tag that begins with mr-%d-, not %q", c.MR, c.MR, ref)
	}
	return nil
}
