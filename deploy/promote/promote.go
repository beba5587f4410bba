// Package promote decides about releases: what a partial build takes over, which releases an Application deploys, and what ran where at
// any time. It is pure.
package promote

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/tiphys/tiphys/deploy"
)

// Annotations on Applications.
const (
	// AnnotationRelease names the releases that the Application deploys, separated by commas. "harbour" is the newest of its own repository
	// of that name, "harbour#12" one of them, and "api@fleet/api" or "api#3@https://git.example.org/fleet/api" those of another repository,
	// which its AppProject has to name. Each has images of its own.
	AnnotationRelease = "tiphys.dev/release"
	// AnnotationRepositories is on an AppProject, and lists the repositories whose releases its Applications may take beside those of their
	// own: names of the built-in remote, "fleet/*" and "*" among them, and URLs of others, separated by commas.
	AnnotationRepositories = "tiphys.dev/release-repositories"
	// AnnotationBranches lists the branches whose releases it accepts, globs separated by commas. Without it only the
	// default branch's are.
	AnnotationBranches = "tiphys.dev/release-branches"
	// AnnotationMR is the merge request of a preview.
	AnnotationMR = "tiphys.dev/mr"
	// AnnotationFork is on a preview of a merge request that comes from another repository, and names it.
	AnnotationFork = "tiphys.dev/fork"
	// AnnotationServices says which services a preview takes from its merge request: "label:PREFIX" for those named
	// by a label, or "all".
	AnnotationServices = "tiphys.dev/services"
	// AnnotationSelected are the services that a preview takes from its merge request, as they were at its last push.
	AnnotationSelected = "tiphys.dev/services-selected"
	// AnnotationBase is the release that the others come from, pinned at opening and at each push.
	AnnotationBase = "tiphys.dev/base-release"
)

// Key is name#number.
func Key(r deploy.Release) string { return fmt.Sprintf("%s#%d", r.Name, r.Number) }

// Latest is the newest of the releases of a line that is allowed. Releases of merge requests are none of them.
func Latest(releases []deploy.Release, allowed func(deploy.Release) bool) (deploy.Release, bool) {
	return newest(releases, func(r deploy.Release) bool { return r.MR == 0 && allowed(r) })
}

// OfMR is the newest release of a line that was made for a merge request.
func OfMR(releases []deploy.Release, mr int) (deploy.Release, bool) {
	return newest(releases, func(r deploy.Release) bool { return r.MR == mr })
}

func newest(releases []deploy.Release, is func(deploy.Release) bool) (deploy.Release, bool) {
	var found deploy.Release
	there := false
	for _, r := range releases {
		if is(r) && (!there || r.Number > found.Number) {
			found, there = r, true
		}
	}
	return found, there
}

// Accepts is the policy of an Application: which branches its releases may come from. Those of the default branch have to be of runs that acted
// for it while it was protected, whatever the Application names besides.
func Accepts(annotations map[string]string, defaultBranch string) func(deploy.Release) bool {
	patterns := strings.Split(annotations[AnnotationBranches], ",")
	if annotations[AnnotationBranches] == "" {
		patterns = []string{defaultBranch}
	}
	return func(r deploy.Release) bool {
		if r.Unprotected && r.Branch == defaultBranch {
			return false
		}
		return slices.ContainsFunc(patterns, func(pattern string) bool {
			ok, err := path.Match(strings.TrimSpace(pattern), r.Branch)
			return err == nil && ok && r.Branch != ""
		})
	}
}

// Merge completes a partial build: the selected services from it, all others from the base. Services that only the
// build has are new and taken too. Sources says where each image's commit is another than the release's own.
func Merge(build, base deploy.Release, selected []string) deploy.Release {
	merged := build
	merged.Images, merged.Sources = map[string]string{}, map[string]string{}
	for service, image := range base.Images {
		merged.Images[service] = image
		if source := cmp.Or(base.Sources[service], base.Commit); source != build.Commit {
			merged.Sources[service] = source
		}
	}
	for service, image := range build.Images {
		if _, there := base.Images[service]; there && selected != nil && !slices.Contains(selected, service) {
			continue
		}
		merged.Images[service] = image
		delete(merged.Sources, service)
		if source := build.Sources[service]; source != "" && source != build.Commit {
			merged.Sources[service] = source
		}
	}
	return merged
}

// At gives what ran at a time: of each application the deployment that was open then, deleted applications too,
// sorted by application. A zero time means now.
func At(deployments []deploy.Deployment, when time.Time) []deploy.Deployment {
	found := map[string]deploy.Deployment{}
	for _, d := range deployments {
		open := d.Until.IsZero()
		if !when.IsZero() {
			open = !d.Since.After(when) && (d.Until.IsZero() || d.Until.After(when))
		}
		if have, there := found[d.Application]; open && (!there || d.Seq > have.Seq) {
			found[d.Application] = d
		}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b deploy.Deployment) int { return strings.Compare(a.Application, b.Application) })
}
