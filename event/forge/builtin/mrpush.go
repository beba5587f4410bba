package builtin

import (
	"github.com/tiphys/tiphys/repo/git"

	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/ledger"
)

// settling turns ref changes into entries, keeping track of refs and merge requests from change to change.
type settling struct {
	r      *Remote
	b      *batch
	refs   map[string]string
	mrs    []forge.MergeRequest
	lastMR int
	// opened counts the merge requests that each push has opened.
	opened map[string]int
}

// stepContext is one change with what is known of it.
type stepContext struct {
	refStep
	actor   forge.Actor
	facts   facts
	options mrOptions
	event   cause
}

// step records one change, its event, and what it does to merge requests.
func (s *settling) step(ctx context.Context, step refStep) error {
	f, err := s.r.describe(ctx, s.b.repo, step.Change)
	if err != nil {
		return err
	}
	c := stepContext{refStep: step, facts: f, actor: claimed(f.claim)}
	from, id := cause{}, ""
	if p := step.push; p != nil {
		from, id = cause{seq: p.Seq}, p.ID
		c.options = parseOptions(p.Options)
		if p.Actor != "" {
			c.actor = forge.Actor{Name: p.Actor, Verified: p.Verified}
		}
		if p.Merge != nil {
			from = s.merged(c, *p.Merge, from)
		}
	}
	unique := strings.Join([]string{"ref", s.b.repo.Name, step.Ref, step.Old, step.New, id}, " ")
	if id == "" {
		unique = "" // the same change can be made on disk again; under the lock it is not recorded twice
		id = "disk " + s.r.now().Format("20060102T150405.000000")
	}
	change := refChanged{Repo: s.b.repo.Name, Change: step.Change}
	if step.push != nil {
		change.Push = step.push.ID
	}
	entry := s.b.add(ledger.Draft{
		Actor: c.actor.String(), Kind: kindRefChanged, Subject: "ref/" + s.b.repo.Name + "/" + step.Ref, Body: change, Unique: unique,
	}, from)
	c.event = s.b.pushEvent(c.actor, step.Change, f, id, entry)
	s.refs[step.Ref] = step.New
	if step.New == git.Zero {
		delete(s.refs, step.Ref)
	}
	branch, ok := strings.CutPrefix(step.Ref, "refs/heads/")
	if !ok {
		return nil
	}
	return s.branchChanged(ctx, c, branch)
}

// merged records the merge that a change of the target branch is; the change is then its consequence.
func (s *settling) merged(c stepContext, intent mergeIntent, from cause) cause {
	for i, m := range s.mrs {
		if m.Number != intent.Number || m.State != stateOpen || c.Ref != "refs/heads/"+m.Target {
			continue
		}
		after := m
		after.State, after.MergeSHA, after.MergedBy, after.AutoMerge, after.Override = stateMerged, c.New, c.actor.String(), false, intent.Override
		s.mrs[i] = after
		return s.b.mr(mrStep{actor: c.actor, before: m, after: after, actions: []string{"merge"}, cause: from})
	}
	return from
}

func (s *settling) branchChanged(ctx context.Context, c stepContext, branch string) error {
	for i := range s.mrs {
		if s.mrs[i].State != stateOpen {
			continue
		}
		var step mrStep
		switch branch {
		case s.mrs[i].Source:
			step = s.sourceChanged(ctx, c, s.mrs[i])
		case s.mrs[i].Target:
			step = s.targetChanged(ctx, c, s.mrs[i])
		}
		if len(step.actions) > 0 {
			s.mrs[i] = step.after
			s.b.mr(step)
		}
	}
	if c.New != git.Zero && c.options.create {
		return s.openByOption(ctx, c, branch)
	}
	return ctx.Err()
}

func (s *settling) sourceChanged(ctx context.Context, c stepContext, m forge.MergeRequest) mrStep {
	step := mrStep{actor: c.actor, claim: c.facts.claim, before: m, after: m, cause: c.event}
	if c.New == git.Zero {
		step.after.State = stateClosed
		step.actions = []string{"close"}
		return step
	}
	step.after.HeadSHA = c.New
	o := c.options
	if o.target != "" && openable(m.Source, o.target, s.refs, s.mrs) != nil {
		o.target = "" // the push says so; see pushMessages
	}
	step.actions = append([]string{"sync"}, o.apply(&step.after)...)
	if base := s.refs["refs/heads/"+step.after.Target]; base != "" {
		step.after.BaseSHA = s.r.mergeBase(ctx, m.Repo, base, c.New)
	}
	step.files, step.filesComplete = s.r.mrFiles(ctx, step.after)
	return step
}

// targetChanged closes a merge request whose target is gone and finds out that it was merged by hand: its
// head has come into the target with this change.
func (s *settling) targetChanged(ctx context.Context, c stepContext, m forge.MergeRequest) mrStep {
	step := mrStep{actor: c.actor, claim: c.facts.claim, before: m, after: m, cause: c.event}
	switch {
	case c.New == git.Zero:
		step.after.State = stateClosed
		step.actions = []string{"close"}
	case c.Old != git.Zero && s.r.isAncestor(ctx, m.Repo, m.HeadSHA, c.New) && !s.r.isAncestor(ctx, m.Repo, m.HeadSHA, c.Old):
		step.after.State, step.after.MergeSHA, step.after.MergedBy = stateMerged, c.New, c.actor.String()
		step.actions = []string{"merge"}
	}
	return step
}

// openByOption opens the merge request that a push asked for, if it can be opened and is not open.
func (s *settling) openByOption(ctx context.Context, c stepContext, branch string) error {
	o := c.options
	n := forge.NewMR{
		Repo: s.b.repo.Name, Source: branch, Target: o.target, Title: o.title, Body: o.description, Labels: o.labels,
		Draft: o.draft, RemoveSource: o.removeSource, Squash: o.squash,
	}
	if n.Target == "" {
		n.Target = s.b.repo.DefaultBranch
	}
	if openable(n.Source, n.Target, s.refs, s.mrs) != nil || s.opened[c.push.ID] >= maxOptionMRs {
		return nil //nolint:nilerr // the push says so; see pushMessages
	}
	m, err := s.r.opened(ctx, s.b, c.actor, c.facts.claim, n, c.New, s.refs["refs/heads/"+n.Target], s.lastMR+1, c.event)
	if err != nil {
		return err
	}
	s.lastMR++
	if s.opened == nil {
		s.opened = map[string]int{}
	}
	s.opened[c.push.ID]++
	if o.autoMerge {
		after := m
		after.AutoMerge = true
		s.b.mr(mrStep{actor: c.actor, before: m, after: after, actions: []string{"edit"}, cause: c.event})
		m = after
	}
	s.mrs = append(s.mrs, m)
	return nil
}

// pushMessages are the lines that the person who pushes sees.
func (r *Remote) pushMessages(ctx context.Context, repo string, changes []Change, options []string) []string {
	o := parseOptions(options)
	lines := o.warnings
	info, err1 := r.Repository(ctx, repo)
	open, err2 := r.ListMRs(ctx, repo, stateOpen)
	refs, err3 := r.knownRefs(ctx, repo)
	if err1 != nil || err2 != nil || err3 != nil {
		return lines // the push succeeded; the messages are a courtesy
	}
	for _, c := range changes {
		branch, ok := strings.CutPrefix(c.Ref, "refs/heads/")
		if !ok || c.New == git.Zero {
			continue
		}
		lines = append(lines, branchMessages(branch, info, o, open, refs)...)
		if len(lines) > 50 {
			return append(lines[:50], "...")
		}
	}
	return lines
}

func branchMessages(branch string, repo forge.Repository, o mrOptions, open []forge.MergeRequest, refs map[string]string) []string {
	var lines []string
	for _, m := range open {
		if m.Source == branch {
			lines = append(lines, fmt.Sprintf("View merge request !%d for %s:", m.Number, branch), "  "+m.URL)
		}
	}
	target := o.target
	if target == "" {
		target = repo.DefaultBranch
	}
	switch {
	case len(lines) > 0 && (o.target == "" || slices.ContainsFunc(open, func(m forge.MergeRequest) bool { return m.Source == branch && m.Target == o.target })):
	case o.create || len(lines) > 0:
		if err := openable(branch, target, refs, open); err != nil {
			lines = append(lines, "warning: "+err.Error())
		} else if len(lines) == 0 {
			lines = append(lines, fmt.Sprintf("warning: a push opens at most %d merge requests; open one for %s by itself", maxOptionMRs, branch))
		}
	case o.any():
		lines = append(lines, "warning: there is no merge request for "+branch+"; add -o merge_request.create")
	case branch != repo.DefaultBranch && refs["refs/heads/"+repo.DefaultBranch] != "":
		lines = append(lines, "To open a merge request for "+branch+", push with -o merge_request.create")
	}
	return lines
}

// actorOf is on whose behalf the methods of forge.Forge write; see [forge.WithBy].
func actorOf(ctx context.Context) forge.Actor {
	by := forge.ByOf(ctx)
	return forge.Actor{Name: by.Actor, Verified: by.Verified}
}

func causeOf(ctx context.Context) cause { return cause{seq: forge.ByOf(ctx).Cause} }

// commentEvent is the event of a comment that a person wrote.
func (b *batch) commentEvent(actor forge.Actor, m forge.MergeRequest, c forge.Comment, from cause) {
	pr := pullRequest(m)
	g := event.Git{
		Kind: "comment", Action: "create", Actions: []string{"create"}, Ref: "refs/heads/" + m.Source, RefType: "branch", Branch: m.Source, SHA: m.HeadSHA,
		PR: &pr, Comment: &event.Comment{ID: c.ID, Body: c.Body, Author: actor.Login(), URL: m.URL, Association: pr.AuthorTrust}, Sender: sender(actor, event.Person{}),
	}
	body := map[string]any{
		"object_kind": "note", "project": b.project(), "user": map[string]any{"username": actor.Login()},
		"object_attributes": map[string]any{"id": c.ID, "note": c.Body, "noteable_type": "MergeRequest", "action": "create", "url": m.URL},
		"merge_request": map[string]any{"iid": m.Number, "source_branch": m.Source, "target_branch": m.Target,
			"last_commit": map[string]any{"id": m.HeadSHA}},
	}
	b.event(actor, g, body, fmt.Sprintf("%s !%d comment %s", b.repo.Name, m.Number, c.ID), from)
}
