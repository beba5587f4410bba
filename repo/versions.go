package repo

import (
	"context"
	"fmt"
	"strings"

	"github.com/Masterminds/semver/v3"

	"github.com/tiphys/tiphys/repo/git"
)

const (
	// longestConstraint is the most bytes of a constraint, and longestTag of a tag that is looked at.
	longestConstraint = 255
	longestTag        = 255
)

// IsConstraint tells whether a revision stands for one of several versions: "1.*", ">=1 <2", "~1.2", "*". A version itself is
// none: it is the name of a tag or a branch.
func IsConstraint(revision string) bool {
	_, ok := constraintOf(revision)
	return ok
}

func constraintOf(revision string) (*semver.Constraints, bool) {
	if revision == "" || len(revision) > longestConstraint {
		return nil, false
	}
	if _, err := semver.NewVersion(revision); err == nil {
		return nil, false
	}
	c, err := semver.NewConstraint(revision)
	return c, err == nil
}

// Newest gives the tag with the highest version that a constraint allows, by the rules of Argo CD (util/versions, MaxVersion): tags
// that are no versions do not count, a "v" in front makes no difference, and a version before a release counts only where the constraint
// names one. With a prefix only tags that have it count, without it.
func Newest(constraint, prefix string, tags []string) (tag string, found bool) {
	c, ok := constraintOf(constraint)
	if !ok {
		return "", false
	}
	var newest *semver.Version
	for _, t := range tags {
		name, has := strings.CutPrefix(t, prefix)
		if !has || len(name) > longestTag {
			continue
		}
		v, err := semver.NewVersion(name)
		if err == nil && c.Check(v) && (newest == nil || v.GreaterThan(newest)) {
			newest, tag = v, t
		}
	}
	return tag, newest != nil
}

// Tags lists a repository's tags.
func (s *Store) Tags(ctx context.Context, raw string) ([]string, error) {
	if o, name, ok := s.own(raw); ok {
		return o.Tags(ctx, name)
	}
	if err := checkURL(raw); err != nil {
		return nil, err
	}
	f, err := s.leave(ctx, raw)
	if err != nil {
		return nil, err
	}
	defer f.route.Close()
	out, err := f.git.Run(ctx, git.Call{Env: f.env, Args: []string{"ls-remote", "--tags", "--refs", "--", f.url}})
	if err != nil {
		return nil, f.explain(raw, err)
	}
	var tags []string
	for line := range strings.Lines(out) {
		_, ref, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if tag, ok := strings.CutPrefix(ref, "refs/tags/"); ok {
			tags = append(tags, tag)
		}
	}
	return tags, nil
}

// Tags lists the tags of the repository.
func (b Bare) Tags(ctx context.Context) ([]string, error) {
	out, err := b.Git.Read(ctx, b.Dir, "for-each-ref", "--format=%(refname:strip=2)", "refs/tags")
	if err != nil {
		return nil, fmt.Errorf("list tags: %w", err)
	}
	return strings.Fields(out), nil
}
