package builtin

import (
	"github.com/tiphys/tiphys/repo/git"

	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
)

// Limits of a merge request's texts, in bytes.
const (
	maxTitle  = 500
	maxBody   = 64 << 10
	maxLabel  = 100
	maxLabels = 100
)

// mrChanged is the body of the mr entries.
type mrChanged struct {
	forge.MergeRequest
	Action        string   `json:"action"`
	Actions       []string `json:"actions"`
	Before        string   `json:"before,omitempty"` // the head before
	LabelsAdded   []string `json:"labelsAdded,omitempty"`
	LabelsRemoved []string `json:"labelsRemoved,omitempty"`
}

// pullRequest is the merge request in the form that is the same for every forge.
func pullRequest(m forge.MergeRequest) event.PullRequest {
	trust := "unknown"
	if m.Verified {
		trust = "member"
	}
	return event.PullRequest{
		Number: m.Number, Title: m.Title, Body: m.Body, URL: m.URL, State: m.State, Draft: m.Draft, Merged: m.State == stateMerged,
		SourceBranch: m.Source, TargetBranch: m.Target, HeadSHA: m.HeadSHA, BaseSHA: m.BaseSHA, MergeSHA: m.MergeSHA,
		SourceRepo: m.Repo, Author: forge.Actor{Name: m.Author}.Login(), AuthorTrust: trust, Labels: slices.Clone(m.Labels),
	}
}

// actionOrder is from the strongest action to the weakest (reference: argo-events 5.3), and the entry of each.
var actionOrder = []struct{ action, kind string }{
	{"merge", "mr.merged"}, {"close", "mr.closed"}, {"reopen", "mr.reopened"}, {"open", "mr.opened"}, {"sync", "mr.synced"},
	{"approve", "mr.approved"}, {"ready", "mr.ready"}, {"draft", "mr.draft"}, {"label", "mr.labeled"}, {"unlabel", "mr.labeled"}, {"edit", "mr.updated"},
}

// mrStep is one change of one merge request.
type mrStep struct {
	actor         forge.Actor
	claim         event.Person
	before, after forge.MergeRequest
	actions       []string
	files         []string // changed against the base, where known
	filesComplete bool
	cause         cause
}

// mr adds the entry of a merge request's change and, caused by it, its event. It returns the entry.
func (b *batch) mr(s mrStep) cause {
	action, kind := strongest(s.actions)
	m := &s.after
	m.Updated = b.r.now()
	if m.State != stateOpen && m.Closed.IsZero() {
		m.Closed = m.Updated
	}
	changed := mrChanged{
		MergeRequest: *m, Action: action, Actions: s.actions, Before: s.before.HeadSHA,
		LabelsAdded: difference(m.Labels, s.before.Labels), LabelsRemoved: difference(s.before.Labels, m.Labels),
	}
	entry := b.add(ledger.Draft{Actor: s.actor.String(), Kind: kind, Subject: fmt.Sprintf("mr/%s/%d", m.Repo, m.Number), Body: changed}, s.cause)
	if m.State == stateOpen {
		b.heads[m.Number] = m.HeadSHA
	}
	pr := pullRequest(*m)
	pr.LabelsAdded, pr.LabelsRemoved = changed.LabelsAdded, changed.LabelsRemoved
	g := event.Git{
		Kind: "pull_request", Action: action, Actions: s.actions, Ref: "refs/heads/" + m.Source, RefType: "branch", Branch: m.Source,
		SHA: m.HeadSHA, PR: &pr, ChangedFiles: s.files, ChangedFilesComplete: s.filesComplete, Sender: sender(s.actor, s.claim),
	}
	if s.before.HeadSHA != m.HeadSHA {
		g.Before = s.before.HeadSHA
	}
	b.event(s.actor, g, b.mrBody(*m, action, g.Before, s.actor), b.mrUnique(*m, action), entry)
	return entry
}

// mrUnique tells the events of one merge request apart: by time and place in the batch, which is written once.
func (b *batch) mrUnique(m forge.MergeRequest, action string) string {
	return fmt.Sprintf("%s !%d %s %s %d", b.repo.Name, m.Number, action, m.Updated.Format(time.RFC3339Nano), len(b.items))
}

// mrBody has the fields of GitLab's merge request webhook that sensors commonly look at.
func (b *batch) mrBody(m forge.MergeRequest, action, before string, actor forge.Actor) map[string]any {
	gitlab := map[string]string{"sync": "update", "edit": "update", "label": "update", "unlabel": "update", "draft": "update", "ready": "update"}
	attributes := map[string]any{
		"iid": m.Number, "title": m.Title, "description": m.Body, "state": strings.Replace(m.State, stateOpen, "opened", 1), "action": action,
		"source_branch": m.Source, "target_branch": m.Target, "url": m.URL, "draft": m.Draft, "last_commit": map[string]any{"id": m.HeadSHA},
		"merge_commit_sha": m.MergeSHA,
	}
	if a := gitlab[action]; a != "" {
		attributes["action"] = a
	}
	if before != "" {
		attributes["oldrev"] = before
	}
	labels := []map[string]any{}
	for _, l := range m.Labels {
		labels = append(labels, map[string]any{"title": l})
	}
	return map[string]any{
		"object_kind": "merge_request", "event_type": "merge_request", "project": b.project(),
		"user": map[string]any{"username": actor.Login()}, "object_attributes": attributes, "labels": labels,
	}
}

func strongest(actions []string) (action, kind string) {
	for _, a := range actionOrder {
		if slices.Contains(actions, a.action) {
			return a.action, a.kind
		}
	}
	return "edit", "mr.updated"
}

// keepHeads points refs/merge-requests/N/head at the heads, so that no branch need exist to fetch them.
func (r *Remote) keepHeads(ctx context.Context, repo string, heads map[int]string) error {
	if len(heads) == 0 {
		return nil
	}
	var in strings.Builder
	for number, sha := range heads {
		fmt.Fprintf(&in, "update %s/%d/head %s\n", mrRefs, number, sha)
	}
	_, err := r.git.Run(ctx, git.Call{Dir: r.dir(repo), Args: []string{"update-ref", "--stdin"}, Stdin: []byte(in.String())})
	if err != nil {
		return fmt.Errorf("keep heads of merge requests of %s: %w", repo, err)
	}
	return nil
}

// ListMRs lists merge requests, newest first; repo and state (open, closed, merged) restrict if not empty.
func (r *Remote) ListMRs(ctx context.Context, repo, state string) ([]forge.MergeRequest, error) {
	q := ledger.Query{Table: tableMR, Owner: repo}
	if state != "" {
		q.States = []string{state}
	}
	all := []forge.MergeRequest{}
	err := r.each(ctx, q, func(row ledger.Row) error {
		var m forge.MergeRequest
		if err := json.Unmarshal(row.Body, &m); err != nil {
			return err
		}
		all = append(all, m)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list merge requests: %w", err)
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].Repo == all[j].Repo && all[i].Number > all[j].Number })
	return all, nil
}

// mergedLook bounds how many merged requests are looked at for one that made a commit: the newest ones.
const mergedLook = 200

// MergedAs gives the number of the merge request whose merge made a commit; 0 for a commit of another kind.
func (r *Remote) MergedAs(ctx context.Context, repo, sha string) (int, error) {
	rows, err := r.ledger.List(ctx, ledger.Query{Table: tableMR, Owner: repo, States: []string{stateMerged}, Limit: mergedLook})
	if err != nil {
		return 0, fmt.Errorf("find the merge request of %s: %w", sha, err)
	}
	for _, row := range rows {
		var m forge.MergeRequest
		if err := json.Unmarshal(row.Body, &m); err != nil {
			return 0, fmt.Errorf("decode merge request %s: %w", row.Key, err)
		}
		if m.MergeSHA == sha {
			return m.Number, nil
		}
	}
	return 0, nil
}

// MR gives one merge request; forge.ErrNotFound if there is none.
func (r *Remote) MR(ctx context.Context, repo string, number int) (forge.MergeRequest, error) {
	var m forge.MergeRequest
	if err := r.row(ctx, tableMR, mrKey(repo, number), &m); err != nil {
		return m, fmt.Errorf("merge request %s#%d: %w", repo, number, err)
	}
	return m, nil
}

// OpenMR opens a merge request. There is at most one open for the same two branches. An actor without a name is the one that
// the newest commit names.
func (r *Remote) OpenMR(ctx context.Context, actor forge.Actor, n forge.NewMR) (forge.MergeRequest, error) {
	unlock, err := r.lock(ctx, n.Repo)
	if err != nil {
		return forge.MergeRequest{}, err
	}
	defer unlock()
	repo, err := r.Repository(ctx, n.Repo)
	if err != nil {
		return forge.MergeRequest{}, err
	}
	if n.Target == "" {
		n.Target = repo.DefaultBranch
	}
	refs, err := r.knownRefs(ctx, n.Repo)
	if err != nil {
		return forge.MergeRequest{}, err
	}
	open, err := r.ListMRs(ctx, n.Repo, stateOpen)
	if err != nil {
		return forge.MergeRequest{}, err
	}
	if err := openable(n.Source, n.Target, refs, open); err != nil {
		return forge.MergeRequest{}, err
	}
	b := r.newBatch(repo)
	var claim event.Person
	if actor.Name == "" {
		list, err := r.commits(ctx, n.Repo, 1, refs["refs/heads/"+n.Source])
		if err != nil {
			return forge.MergeRequest{}, err
		}
		if len(list) == 1 {
			claim = list[0].Committer
			actor = claimed(claim)
		}
	}
	m, err := r.opened(ctx, b, actor, claim, n, refs["refs/heads/"+n.Source], refs["refs/heads/"+n.Target], repo.LastMR+1, causeOf(ctx))
	if err != nil {
		return forge.MergeRequest{}, err
	}
	if err := b.write(ctx); err != nil {
		return forge.MergeRequest{}, err
	}
	return m, r.keepHeads(ctx, n.Repo, b.heads)
}

// openable says why no merge request of these branches can be open.
func openable(source, target string, refs map[string]string, open []forge.MergeRequest) error {
	switch {
	case source == "":
		return failure.Invalidf("open merge request: name a source branch: %w", ErrRefused)
	case source == target:
		return failure.Invalidf("open merge request: source and target are both %s: %w", source, ErrRefused)
	case refs["refs/heads/"+source] == "":
		return failure.Invalidf("open merge request: there is no branch %q; push it first: %w", source, ErrRefused)
	case refs["refs/heads/"+target] == "":
		return failure.Invalidf("open merge request: there is no target branch %q: %w", target, ErrRefused)
	}
	for _, m := range open {
		if m.State == stateOpen && m.Source == source && m.Target == target {
			return fmt.Errorf("open merge request: !%d is open for %s into %s: %w", m.Number, source, target, ErrRefused)
		}
	}
	return nil
}

// opened adds a new merge request to a batch.
func (r *Remote) opened(ctx context.Context, b *batch, actor forge.Actor, claim event.Person, n forge.NewMR, head, target string, number int, from cause) (forge.MergeRequest, error) {
	m := forge.MergeRequest{
		Repo: n.Repo, Number: number, Title: cut(strings.TrimSpace(n.Title), maxTitle), Body: cut(n.Body, maxBody), URL: r.mrURL(n.Repo, number), State: stateOpen,
		Source: n.Source, Target: n.Target, HeadSHA: head, Author: actor.Name, Verified: actor.Verified, Created: r.now(),
		Draft: n.Draft || draftTitle(n.Title), RemoveSource: n.RemoveSource, Squash: n.Squash,
	}
	relabel(&m, n.Labels, nil)
	if m.Title == "" {
		m.Title = n.Source
		if list, err := r.commits(ctx, n.Repo, 1, head); err == nil && len(list) == 1 {
			if first, _, _ := strings.Cut(list[0].Message, "\n"); first != "" {
				m.Title = cut(first, maxTitle)
			}
		}
	}
	m.BaseSHA = r.mergeBase(ctx, n.Repo, target, head)
	files, complete := r.mrFiles(ctx, m)
	if err := ctx.Err(); err != nil {
		return m, err
	}
	b.mr(mrStep{actor: actor, claim: claim, before: forge.MergeRequest{}, after: m, actions: []string{"open"}, files: files, filesComplete: complete, cause: from})
	return m, nil
}

// mrFiles are the files that a merge request changes against its base.
func (r *Remote) mrFiles(ctx context.Context, m forge.MergeRequest) ([]string, bool) {
	files, complete, err := r.changedFiles(ctx, m.Repo, m.BaseSHA, m.HeadSHA)
	if err != nil {
		r.log.Warn("list files of merge request", "repository", m.Repo, "number", m.Number, "error", err)
		return nil, false
	}
	return files, complete
}

// EditMR changes a merge request that is open.
func (r *Remote) EditMR(ctx context.Context, actor forge.Actor, repo string, number int, e forge.MREdit) (forge.MergeRequest, error) {
	return r.changeMR(ctx, actor, repo, number, func(m *forge.MergeRequest, refs map[string]string, open []forge.MergeRequest) ([]string, error) {
		if m.State != stateOpen {
			return nil, fmt.Errorf("edit merge request !%d: it is %s: %w", number, m.State, ErrRefused)
		}
		o := mrOptions{labels: e.AddLabels, unlabels: e.RemoveLabels}
		if e.Title != nil && strings.TrimSpace(*e.Title) != "" {
			o.title, o.titleSet = cut(strings.TrimSpace(*e.Title), maxTitle), true
		}
		if e.Body != nil {
			o.description, o.descriptionSet = cut(*e.Body, maxBody), true
		}
		if e.Draft != nil {
			o.draft, o.ready = *e.Draft, !*e.Draft
		}
		if e.Target != nil && *e.Target != m.Target {
			if err := openable(m.Source, *e.Target, refs, open); err != nil {
				return nil, err
			}
			o.target = *e.Target
		}
		actions := o.apply(m)
		for _, f := range []struct{ to, value *bool }{{&m.RemoveSource, e.RemoveSource}, {&m.AutoMerge, e.AutoMerge}} {
			if f.value != nil && *f.to != *f.value {
				*f.to = *f.value
				actions = append(actions, "edit")
			}
		}
		return slices.Compact(actions), nil
	})
}

// CloseMR closes a merge request without merging it; closing a closed one changes nothing.
func (r *Remote) CloseMR(ctx context.Context, actor forge.Actor, repo string, number int) (forge.MergeRequest, error) {
	return r.changeMR(ctx, actor, repo, number, func(m *forge.MergeRequest, _ map[string]string, _ []forge.MergeRequest) ([]string, error) {
		switch m.State {
		case stateClosed:
			return nil, nil
		case stateMerged:
			return nil, fmt.Errorf("close merge request !%d: it is merged: %w", number, ErrRefused)
		}
		m.State = stateClosed
		return []string{"close"}, nil
	})
}

// ReopenMR opens a closed merge request again, at where its source branch stands now.
func (r *Remote) ReopenMR(ctx context.Context, actor forge.Actor, repo string, number int) (forge.MergeRequest, error) {
	return r.changeMR(ctx, actor, repo, number, func(m *forge.MergeRequest, refs map[string]string, open []forge.MergeRequest) ([]string, error) {
		switch m.State {
		case stateOpen:
			return nil, nil
		case stateMerged:
			return nil, fmt.Errorf("reopen merge request !%d: it is merged; open another: %w", number, ErrRefused)
		}
		if err := openable(m.Source, m.Target, refs, open); err != nil {
			return nil, err
		}
		m.State, m.Closed, m.HeadSHA = stateOpen, time.Time{}, refs["refs/heads/"+m.Source]
		return []string{"reopen"}, nil
	})
}

// changeMR carries out one decision about one merge request under the repository's lock. No actions: nothing changed.
func (r *Remote) changeMR(ctx context.Context, actor forge.Actor, name string, number int,
	decide func(*forge.MergeRequest, map[string]string, []forge.MergeRequest) ([]string, error)) (forge.MergeRequest, error) {
	unlock, err := r.lock(ctx, name)
	if err != nil {
		return forge.MergeRequest{}, err
	}
	defer unlock()
	repo, err := r.Repository(ctx, name)
	if err != nil {
		return forge.MergeRequest{}, err
	}
	before, err := r.MR(ctx, name, number)
	if err != nil {
		return forge.MergeRequest{}, err
	}
	refs, err1 := r.knownRefs(ctx, name)
	open, err2 := r.ListMRs(ctx, name, stateOpen)
	if err := errors.Join(err1, err2); err != nil {
		return forge.MergeRequest{}, err
	}
	after := before
	actions, err := decide(&after, refs, open)
	if err != nil || len(actions) == 0 {
		return before, err
	}
	step := mrStep{actor: actor, before: before, after: after, actions: actions, cause: causeOf(ctx)}
	if after.State == stateOpen {
		step.after.BaseSHA = r.mergeBase(ctx, name, refs["refs/heads/"+after.Target], after.HeadSHA)
		step.files, step.filesComplete = r.mrFiles(ctx, step.after)
	}
	b := r.newBatch(repo)
	b.mr(step)
	if err := b.write(ctx); err != nil {
		return forge.MergeRequest{}, err
	}
	if err := r.keepHeads(ctx, name, b.heads); err != nil {
		return forge.MergeRequest{}, err
	}
	return r.MR(ctx, name, number)
}

var _ forge.Forge = (*Remote)(nil)
