// Package promote decides about releases: their numbers, what a partial build takes over, which release an
// Application deploys, and what ran where at any time. It is pure.
package promote

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tiphys/tiphys/deploy"
)

// Annotations on Applications.
const (
	// AnnotationRelease names the release that the Application deploys the newest of: "harbour", or one of them: "harbour#12".
	AnnotationRelease = "tiphys.dev/release"
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

// ParseKey reads a release annotation; number is 0 where it names none.
func ParseKey(text string) (name string, number int64) {
	name, digits, _ := strings.Cut(strings.TrimSpace(text), "#")
	number, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		number = 0
	}
	return name, number
}

// Next is the number of the next release of a name.
func Next(releases []deploy.Release, namespace, name string) int64 {
	highest := int64(0)
	for _, r := range releases {
		if r.Namespace == namespace && r.Name == name {
			highest = max(highest, r.Number)
		}
	}
	return highest + 1
}

// Latest is the newest release of a name that is allowed. Releases of merge requests are none of them.
func Latest(releases []deploy.Release, namespace, name string, allowed func(deploy.Release) bool) (deploy.Release, bool) {
	return newest(releases, func(r deploy.Release) bool {
		return r.Namespace == namespace && r.Name == name && r.MR == 0 && allowed(r)
	})
}

// OfMR is the newest release that was made for a merge request.
func OfMR(releases []deploy.Release, namespace, name string, mr int) (deploy.Release, bool) {
	return newest(releases, func(r deploy.Release) bool { return r.Namespace == namespace && r.Name == name && r.MR == mr })
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

// Choice is what an Application deploys.
type Choice struct {
	// Release is what it deploys, completed; its Commit is the configuration commit.
	Release deploy.Release
	// Key names it for people: "harbour#7", for a preview "harbour#8 on harbour#7".
	Key string
	// Waiting says why there is nothing to deploy yet; empty if there is.
	Waiting string
}

// Choose finds what an Application annotated with a release deploys. The bool is false where it is not annotated and
// follows Git alone.
func Choose(annotations map[string]string, namespace, defaultBranch string, releases []deploy.Release) (Choice, bool) {
	name, number := ParseKey(annotations[AnnotationRelease])
	if name == "" {
		return Choice{}, false
	}
	if mr, err := strconv.Atoi(annotations[AnnotationMR]); err == nil && mr > 0 {
		return preview(annotations, namespace, name, defaultBranch, mr, releases), true
	}
	allowed := Accepts(annotations, defaultBranch)
	if number == 0 {
		r, found := Latest(releases, namespace, name, allowed)
		if !found {
			return Choice{Waiting: fmt.Sprintf("there is no release %s of an accepted branch yet", name)}, true
		}
		return Choice{Release: r, Key: Key(r)}, true
	}
	r, found := newest(releases, func(r deploy.Release) bool {
		return r.Namespace == namespace && r.Name == name && r.Number == number
	})
	switch {
	case !found:
		return Choice{Waiting: fmt.Sprintf("there is no release %s#%d", name, number)}, true
	case r.MR != 0 || !allowed(r):
		return Choice{Waiting: fmt.Sprintf("release %s#%d comes from branch %q, which the application does not accept", name, number, r.Branch)}, true
	}
	return Choice{Release: r, Key: Key(r)}, true
}

func preview(annotations map[string]string, namespace, name, defaultBranch string, mr int, releases []deploy.Release) Choice {
	build, found := OfMR(releases, namespace, name, mr)
	if !found {
		return Choice{Waiting: fmt.Sprintf("merge request %d has not been built yet", mr)}
	}
	var base deploy.Release
	if _, number := ParseKey(annotations[AnnotationBase]); number > 0 {
		base, found = newest(releases, func(r deploy.Release) bool {
			return r.Namespace == namespace && r.Name == name && r.Number == number
		})
	} else {
		base, found = Latest(releases, namespace, name, Accepts(annotations, defaultBranch))
	}
	if !found {
		return Choice{Release: build, Key: Key(build)}
	}
	var selected []string
	if annotations[AnnotationServices] != "" && annotations[AnnotationServices] != "all" {
		selected = strings.FieldsFunc(annotations[AnnotationSelected], func(r rune) bool { return r == ',' })
		if selected == nil {
			selected = []string{}
		}
	}
	return Choice{Release: Merge(build, base, selected), Key: Key(build) + " on " + Key(base)}
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
