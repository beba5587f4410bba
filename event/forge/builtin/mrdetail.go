package builtin

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/tiphys/tiphys/event/forge"
)

// maxDetailCommits is the most commits shown of one merge request.
const maxDetailCommits = 200

// GetMR gives one merge request with commits, files, conflicts, comments and statuses. For one that is merged
// or closed, commits and files are those it had.
func (r *Remote) GetMR(ctx context.Context, repo string, number int) (forge.MRDetail, error) {
	m, err := r.MR(ctx, repo, number)
	if err != nil {
		return forge.MRDetail{}, err
	}
	d := forge.MRDetail{MergeRequest: m, Commits: []forge.LoggedCommit{}, Files: []forge.FileStat{}}
	if d.Comments, err = r.Comments(ctx, repo, number); err != nil {
		return d, err
	}
	if d.Statuses, err = r.Statuses(ctx, repo, m.HeadSHA); err != nil {
		return d, err
	}
	info, err := r.Repository(ctx, repo)
	switch {
	case errors.Is(err, forge.ErrNotFound):
		d.Reason = "the repository was deleted"
		return d, nil
	case err != nil:
		return d, err
	}
	base := m.BaseSHA
	if m.State == stateOpen {
		if target, err := r.Resolve(ctx, repo, "refs/heads/"+m.Target); err == nil {
			base = r.mergeBase(ctx, repo, target, m.HeadSHA)
			if err := r.judge(ctx, info, &d, target); err != nil {
				return d, err
			}
		}
	} else {
		d.Reason = "it is " + m.State
	}
	revs := []string{m.HeadSHA}
	if base != "" {
		revs = append(revs, "^"+base)
	}
	if d.Commits, err = r.commits(ctx, repo, maxDetailCommits, revs...); err != nil {
		return d, err
	}
	if base != "" {
		d.Files, err = r.diffStat(ctx, repo, base, m.HeadSHA)
	}
	return d, err
}

// judge finds out whether a merge request could be merged.
func (r *Remote) judge(ctx context.Context, repo forge.Repository, d *forge.MRDetail, target string) error {
	switch {
	case d.Draft:
		d.Reason = "it is a draft"
		return nil
	case r.isAncestor(ctx, d.Repo, d.HeadSHA, target):
		d.Reason = d.Source + " has nothing that " + d.Target + " does not have"
		return nil
	}
	_, conflicts, err := r.mergeTree(ctx, d.Repo, target, d.HeadSHA)
	if err != nil {
		return err
	}
	d.Conflicts, d.Mergeable = conflicts, len(conflicts) == 0
	if !d.Mergeable {
		d.Reason = "it conflicts with " + d.Target
		return nil
	}
	if d.Reason, err = r.blocked(ctx, repo, d.MergeRequest); d.Reason != "" {
		d.Mergeable, d.Blocked = false, true
	}
	return err
}

func (r *Remote) diffStat(ctx context.Context, repo, from, to string) ([]forge.FileStat, error) {
	out, err := r.git.Read(ctx, r.dir(repo), "diff-tree", "-r", "-z", "--numstat", "--no-renames", from, to)
	if err != nil {
		return nil, fmt.Errorf("compare commits of %s: %w", repo, err)
	}
	stats := []forge.FileStat{}
	for line := range strings.SplitSeq(strings.TrimSuffix(out, "\x00"), "\x00") {
		f := strings.SplitN(line, "\t", 3)
		if len(f) != 3 {
			continue
		}
		s := forge.FileStat{Path: strings.ToValidUTF8(f[2], "\uFFFD"), Binary: f[0] == "-"}
		if !s.Binary {
			s.Added, _ = strconv.Atoi(f[0]) // git writes numbers here
			s.Removed, _ = strconv.Atoi(f[1])
		}
		stats = append(stats, s)
		if len(stats) == maxEventFiles {
			break
		}
	}
	return stats, nil
}
