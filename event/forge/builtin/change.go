package builtin

import (
	"github.com/tiphys/tiphys/repo/git"

	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/forge"
)

// Limits of what an event says of a push; the rest is in Git.
const (
	maxEventCommits = 20 // as GitLab's webhooks
	maxEventFiles   = 1000
	maxEventMessage = 2000
)

// eventID makes a short id of what is unique about an event.
func eventID(unique string) string {
	sum := sha256.Sum256([]byte(unique))
	return "git-" + hex.EncodeToString(sum[:12])
}

// facts are what Git knows about a ref change.
type facts struct {
	commit    string // the commit that the ref leads to; empty if deleted
	forced    bool
	commits   []forge.LoggedCommit // oldest first
	truncated bool
	files     []string
	complete  bool
	claim     event.Person // the committer
}

// describe asks Git about a change. What cannot be found out is left out: an event without details is better
// than none, and a repository that was changed on disk may lack objects.
func (r *Remote) describe(ctx context.Context, repo forge.Repository, c Change) (facts, error) {
	var f facts
	if c.New == git.Zero {
		return f, nil
	}
	var err error
	if strings.HasPrefix(c.Ref, "refs/heads/") {
		f, err = r.describeBranch(ctx, repo, c)
	} else {
		f, err = r.describeTag(ctx, repo, c)
	}
	if err != nil {
		if ctx.Err() != nil {
			return facts{}, err
		}
		r.log.Warn("describe ref change", "repository", repo.Name, "ref", c.Ref, "sha", c.New, "error", err)
		return facts{commit: c.New, truncated: true}, nil
	}
	if len(f.commits) > 0 {
		f.claim = f.commits[len(f.commits)-1].Committer
		return f, nil
	}
	head, err := r.commits(ctx, repo.Name, 1, f.commit)
	if err == nil && len(head) == 1 {
		f.claim = head[0].Committer
	}
	return f, nil
}

func (r *Remote) describeBranch(ctx context.Context, repo forge.Repository, c Change) (facts, error) {
	f := facts{commit: c.New}
	base, known := c.Old, true
	if c.Old == git.Zero {
		base = ""
		if def := "refs/heads/" + repo.DefaultBranch; def != c.Ref {
			base = r.mergeBase(ctx, repo.Name, def, c.New)
		}
	} else {
		var err error
		if f.forced, known, err = r.rewritten(ctx, repo.Name, c.Old, c.New); err != nil {
			return f, err
		}
	}
	if !known {
		f.truncated = true
		return f, nil
	}
	revs := []string{c.New}
	if base != "" {
		revs = append(revs, "^"+base)
	}
	list, err := r.commits(ctx, repo.Name, maxEventCommits+1, revs...)
	if err != nil {
		return f, err
	}
	if f.truncated = len(list) > maxEventCommits; f.truncated {
		list = list[:maxEventCommits]
	}
	for i := len(list) - 1; i >= 0; i-- {
		f.commits = append(f.commits, list[i])
	}
	f.files, f.complete, err = r.changedFiles(ctx, repo.Name, base, c.New)
	return f, err
}

func (r *Remote) describeTag(ctx context.Context, repo forge.Repository, c Change) (facts, error) {
	f := facts{forced: c.Old != git.Zero}
	out, err := r.git.Read(ctx, r.dir(repo.Name), "rev-parse", "--verify", "--quiet", c.New+"^{commit}")
	if err != nil {
		return f, err
	}
	f.commit = strings.TrimSpace(out)
	f.commits, err = r.commits(ctx, repo.Name, 1, f.commit)
	return f, err
}

// rewritten reports whether after does not contain before, and whether before is known at all.
func (r *Remote) rewritten(ctx context.Context, repo, before, after string) (forced, known bool, err error) {
	_, err = r.git.Read(ctx, r.dir(repo), "merge-base", "--is-ancestor", before, after)
	switch git.ExitCode(err) {
	case 1:
		return true, true, nil
	case 128:
		return true, false, nil
	}
	return false, true, err
}

// isAncestor reports whether b contains a; false if either is not known.
func (r *Remote) isAncestor(ctx context.Context, repo, a, b string) bool {
	_, err := r.git.Read(ctx, r.dir(repo), "merge-base", "--is-ancestor", a, b)
	return err == nil
}

// mergeBase is the best common ancestor, or empty.
func (r *Remote) mergeBase(ctx context.Context, repo, a, b string) string {
	out, err := r.git.Read(ctx, r.dir(repo), "merge-base", a, b)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(out)
}

// changedFiles lists the paths in which two commits differ; all paths of the second if the first is empty.
func (r *Remote) changedFiles(ctx context.Context, repo, from, to string) (files []string, complete bool, err error) {
	args := []string{"ls-tree", "-r", "-z", "--name-only", "--full-tree", to}
	if from != "" {
		args = []string{"diff-tree", "-r", "-z", "--name-only", "--no-renames", from, to}
	}
	out, err := r.git.Read(ctx, r.dir(repo), args...)
	if err != nil {
		return nil, false, err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(out, "\x00"), "\x00") {
		if name == "" {
			continue
		}
		if len(files) == maxEventFiles {
			return files, false, nil
		}
		files = append(files, strings.ToValidUTF8(name, "\uFFFD"))
	}
	return files, true, nil
}

// commits reads commits, newest first. The revisions are full hashes, with ^ in front of what to leave out.
func (r *Remote) commits(ctx context.Context, repo string, limit int, revs ...string) ([]forge.LoggedCommit, error) {
	return r.commitsWith(ctx, repo, nil, limit, revs...)
}

func (r *Remote) commitsWith(ctx context.Context, repo string, env []string, limit int, revs ...string) ([]forge.LoggedCommit, error) {
	args := []string{"log", "-z", "-n", strconv.Itoa(limit), "--format=tformat:%H%x00%an%x00%ae%x00%cn%x00%ce%x00%ct%x00%B"}
	out, err := r.git.Run(ctx, git.Call{Dir: r.dir(repo), Args: append(append(args, revs...), "--"), Env: env})
	if err != nil {
		return nil, fmt.Errorf("read commits of %s: %w", repo, err)
	}
	const fields = 7
	parts := strings.Split(strings.ToValidUTF8(out, "\uFFFD"), "\x00")
	var list []forge.LoggedCommit
	for ; len(parts) >= fields; parts = parts[fields:] {
		seconds, err := strconv.ParseInt(parts[5], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read commits of %s: time %q of %s: %w", repo, parts[5], parts[0], err)
		}
		list = append(list, forge.LoggedCommit{
			Commit: event.Commit{
				SHA: parts[0], Message: cut(strings.TrimRight(parts[6], "\n"), maxEventMessage),
				Author: event.Person{Name: parts[1], Email: parts[2]},
				URL:    r.opt.BaseURL + "/repositories/" + repo + "/commits/" + parts[0],
			},
			Time:      time.Unix(seconds, 0).UTC(),
			Committer: event.Person{Name: parts[3], Email: parts[4]},
		})
	}
	return list, nil
}

// cut shortens a text to at most n bytes, not within a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

// claimed is the actor that a commit names: worth only as much as the word of who pushed it.
func claimed(p event.Person) forge.Actor {
	name := p.Name
	if name == "" {
		name = p.Email
	}
	if name == "" {
		return forge.Actor{}
	}
	return forge.Actor{Name: "user:" + cut(strings.Join(strings.Fields(name), " "), 100)}
}

// pushEvent is the normalised form of a branch or tag change.
func (b *batch) pushEvent(actor forge.Actor, c Change, f facts, push string, from cause) cause {
	g := event.Git{
		Kind: "push", Action: "update", Ref: c.Ref, RefType: "branch", SHA: f.commit, Before: c.Old, Forced: f.forced,
		CommitsTruncated: f.truncated, ChangedFiles: f.files, ChangedFilesComplete: f.complete, Sender: sender(actor, f.claim),
	}
	switch {
	case c.Old == git.Zero:
		g.Action, g.Created, g.Before = "create", true, ""
	case c.New == git.Zero:
		g.Action, g.Deleted, g.SHA = "delete", true, ""
	}
	g.Actions = []string{g.Action}
	objectKind := "push"
	if tag, ok := strings.CutPrefix(c.Ref, "refs/tags/"); ok {
		g.Kind, g.RefType, g.Tag, objectKind = "tag", "tag", tag, "tag_push"
	} else if branch, ok := strings.CutPrefix(c.Ref, "refs/heads/"); ok {
		_, protected := b.repo.Protection(c.Ref)
		g.Branch, g.Protected = branch, protected
	} else {
		g.Kind, g.RefType = "other", ""
	}
	var checkout any
	if !g.Deleted {
		checkout = f.commit
	}
	for _, commit := range f.commits {
		g.Commits = append(g.Commits, commit.Commit)
	}
	body := map[string]any{
		"object_kind": objectKind, "event_name": objectKind, "ref": c.Ref, "before": c.Old, "after": c.New, "checkout_sha": checkout,
		"ref_protected": g.Protected, "user_username": g.Sender.Login, "user_name": g.Sender.Name, "user_email": g.Sender.Email,
		"project": b.project(), "total_commits_count": len(g.Commits), "commits": g.Commits,
	}
	unique := strings.Join([]string{b.repo.Name, c.Ref, c.Old, c.New, push}, " ")
	return b.event(actor, g, body, unique, from)
}

// sender is the person behind an actor; a committer's name and address are added only where they are the claim itself.
func sender(actor forge.Actor, claim event.Person) event.Person {
	p := event.Person{Login: actor.Login()}
	if !actor.Verified {
		p.Name, p.Email = claim.Name, claim.Email
	}
	return p
}
