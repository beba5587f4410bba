package promote

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/failure"
)

// Wish is one release that an Application's annotation names.
type Wish struct {
	Name string
	// Number is one of them; 0 is the newest.
	Number int64
	// Repository is the one that it is of, a name of the built-in remote or a URL; empty is the Application's own.
	Repository string
}

// String writes the wish as the annotation has it.
func (w Wish) String() string {
	text := w.Name
	if w.Number > 0 {
		text += fmt.Sprintf("#%d", w.Number)
	}
	if w.Repository != "" {
		text += "@" + w.Repository
	}
	return text
}

// maxWishes bounds how many releases one Application deploys.
const maxWishes = 50

// pinnedAt stands between releases and the configuration commit that somebody rolled back to, pinnedOn between a merge request's build and
// the release that completes it.
const (
	pinnedAt = " at "
	pinnedOn = " on "
)

// Wishes reads the annotation [AnnotationRelease], or what somebody rolled back to: the releases, and the configuration commit, empty if
// none is named. There are none where the text is empty.
func Wishes(text string) (wishes []Wish, commit string, err error) {
	text, commit, _ = strings.Cut(strings.TrimSpace(text), pinnedAt)
	if text == "" {
		return nil, commit, nil
	}
	parts := strings.Split(text, ",")
	if len(parts) > maxWishes {
		return nil, "", failure.Invalidf("%s names %d releases and may name %d", AnnotationRelease, len(parts), maxWishes)
	}
	for _, part := range parts {
		part, _, _ = strings.Cut(part, pinnedOn)
		var w Wish
		name, repository, foreign := strings.Cut(strings.TrimSpace(part), "@")
		name, digits, numbered := strings.Cut(name, "#")
		w.Name, w.Repository = name, plain(repository)
		if numbered {
			w.Number, err = strconv.ParseInt(digits, 10, 64)
		}
		if err != nil || numbered && w.Number <= 0 || w.Name == "" || foreign && w.Repository == "" {
			return nil, "", failure.Invalidf("%s: %q names no release: write NAME, NAME#NUMBER or NAME@REPOSITORY", AnnotationRelease, strings.TrimSpace(part))
		}
		if slices.ContainsFunc(wishes, func(o Wish) bool { return o.Name == w.Name && o.Repository == w.Repository }) {
			return nil, "", failure.Invalidf("%s names %s twice", AnnotationRelease, Wish{Name: w.Name, Repository: w.Repository})
		}
		wishes = append(wishes, w)
	}
	return wishes, commit, nil
}

// Own is the wish for releases of the Application's own repository; the zero value if there is none.
func Own(wishes []Wish) Wish {
	for _, w := range wishes {
		if w.Repository == "" {
			return w
		}
	}
	return Wish{}
}

// plain is a repository's name or URL without what it may end with.
func plain(name string) string {
	return strings.TrimSuffix(strings.TrimRight(strings.TrimSpace(name), "/"), ".git")
}

// Permits tells whether a project's annotation [AnnotationRepositories] names a repository. A pattern names a whole group, and a URL none but
// its own host's.
func Permits(annotation, repository string) bool {
	repository = strings.ToLower(plain(repository))
	if strings.Contains(repository, "..") || strings.ContainsAny(repository, "?#%*\\ ") {
		return false // whoever fetches may read it as another repository's
	}
	elsewhere := strings.Contains(repository, "://")
	return slices.ContainsFunc(strings.Split(annotation, ","), func(p string) bool {
		p = strings.ToLower(plain(p))
		if strings.Contains(p, "://") != elsewhere {
			return false
		}
		group, star := strings.CutSuffix(p, "/*")
		if star && group != "" {
			return strings.HasPrefix(repository, group+"/")
		}
		return p != "" && p == repository || p == "*"
	})
}

// Source is the line of releases that a wish is for.
type Source struct {
	Wish Wish
	// DefaultBranch is that of its repository.
	DefaultBranch string
	// Releases are all of the line.
	Releases []deploy.Release
}

// Choice is what an Application deploys.
type Choice struct {
	// Release has the images of all releases together. Its Commit is the configuration commit, empty where none of them is of the Application's
	// own repository: then the configuration follows Git.
	Release deploy.Release
	// Key names it for people: "harbour#7", for a preview "harbour#8 on harbour#7", of several "api#3@fleet/api, web#7@fleet/web".
	Key string
	// Of are the releases that the images are of.
	Of []deploy.ReleaseRef
	// Newest is the last entry that brought any of them.
	Newest int64
	// Waiting says why there is nothing to deploy yet; empty if there is.
	Waiting string
}

// Choose finds what an Application deploys of the releases that it is annotated with. A service is of one of them only: an error says which is
// in two.
func Choose(annotations map[string]string, sources []Source) (Choice, error) {
	var all Choice
	var keys []string
	owner := map[string]string{}
	for i, s := range sources {
		one := s.choose(annotations)
		if one.Waiting != "" {
			return one, nil
		}
		for service := range one.Release.Images {
			if of := owner[service]; of != "" {
				return Choice{}, failure.Invalidf("the service %q is in two releases, %s and %s: let one of them name it otherwise", service, of, one.Key)
			}
			owner[service] = one.Key
		}
		keys = append(keys, one.Key)
		all.Of = append(all.Of, one.Of...)
		all.Newest = max(all.Newest, one.Newest)
		if i == 0 && s.Wish.Repository == "" {
			all.Release = one.Release
			all.Release.Images, all.Release.Sources = maps.Clone(one.Release.Images), maps.Clone(one.Release.Sources)
			continue
		}
		all.add(one.Release, s.Wish.Repository == "")
	}
	for service, source := range all.Release.Sources {
		if source == all.Release.Commit {
			delete(all.Release.Sources, service)
		}
	}
	all.Key = strings.Join(keys, ", ")
	return all, nil
}

// add puts the images of another release to a choice.
func (c *Choice) add(r deploy.Release, own bool) {
	if c.Release.Images == nil {
		c.Release.Images = map[string]string{}
	}
	if c.Release.Sources == nil {
		c.Release.Sources = map[string]string{}
	}
	for service, image := range r.Images {
		c.Release.Images[service] = image
		c.Release.Sources[service] = r.Commit
		if source := r.Sources[service]; source != "" {
			c.Release.Sources[service] = source
		}
	}
	if own && c.Release.Commit == "" {
		c.Release.Commit, c.Release.Branch, c.Release.MR, c.Release.Merged = r.Commit, r.Branch, r.MR, r.Merged
	}
	if c.Release.Actor == "" {
		c.Release.Actor = r.Actor
	}
}

// choose finds what one wish gives.
func (s Source) choose(annotations map[string]string) Choice {
	if mr, err := strconv.Atoi(annotations[AnnotationMR]); err == nil && mr > 0 && s.Wish.Repository == "" {
		return s.preview(annotations, mr)
	}
	allowed := Accepts(annotations, s.DefaultBranch)
	if s.Wish.Number == 0 {
		r, found := Latest(s.Releases, allowed)
		if !found {
			return Choice{Waiting: fmt.Sprintf("there is no release %s of an accepted branch yet", s.Wish)}
		}
		return s.chosen(r)
	}
	r, found := newest(s.Releases, func(r deploy.Release) bool { return r.Number == s.Wish.Number })
	switch {
	case !found:
		return Choice{Waiting: fmt.Sprintf("there is no release %s", s.Wish)}
	case r.MR != 0 || !allowed(r):
		return Choice{Waiting: fmt.Sprintf("release %s comes from branch %q, which the application does not accept", s.Wish, r.Branch)}
	}
	return s.chosen(r)
}

func (s Source) chosen(r deploy.Release) Choice {
	key := Wish{Name: r.Name, Number: r.Number, Repository: s.Wish.Repository}.String()
	return Choice{Release: r, Key: key, Of: []deploy.ReleaseRef{r.Ref()}, Newest: r.Seq}
}

// preview is a merge request's build, completed by the release that it is on.
func (s Source) preview(annotations map[string]string, mr int) Choice {
	build, found := OfMR(s.Releases, mr)
	if !found {
		return Choice{Waiting: fmt.Sprintf("merge request %d has not been built yet", mr)}
	}
	var base deploy.Release
	if pinned, _, err := Wishes(annotations[AnnotationBase]); err == nil && Own(pinned).Number > 0 {
		base, found = newest(s.Releases, func(r deploy.Release) bool { return r.Number == Own(pinned).Number })
	} else {
		base, found = Latest(s.Releases, Accepts(annotations, s.DefaultBranch))
	}
	if !found {
		return s.chosen(build)
	}
	var selected []string
	if annotations[AnnotationServices] != "" && annotations[AnnotationServices] != "all" {
		selected = strings.FieldsFunc(annotations[AnnotationSelected], func(r rune) bool { return r == ',' })
		if selected == nil {
			selected = []string{}
		}
	}
	return Choice{Release: Merge(build, base, selected), Key: Key(build) + pinnedOn + Key(base), Of: []deploy.ReleaseRef{build.Ref(), base.Ref()}, Newest: build.Seq}
}

// PinnedAt is what a rollback to releases holds: them, and the configuration commit that ran with them.
func PinnedAt(key, commit string) string { return key + pinnedAt + commit }
