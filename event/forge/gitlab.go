package forge

import (
	"github.com/tidwall/gjson"

	"github.com/tiphys/tiphys/event"
)

// normaliseGitLab follows GitLab's "Webhook events" reference. object_kind says what it is, whatever the header
// (system hooks send the same bodies).
func normaliseGitLab(r payload) *event.Git {
	g := &event.Git{Repo: gitlabRepo(r.Get("project")), Sender: gitlabUser(r.Get("user"))}
	kind := r.Get("object_kind").String()
	if kind == "" {
		kind = r.Get("event_name").String()
	}
	switch kind {
	case "push", "tag_push":
		gitlabPush(g, r)
	case "merge_request":
		gitlabMergeRequest(g, r)
	case "note":
		gitlabNote(g, r)
	case "release":
		gitlabRelease(g, r)
	case "pipeline":
		gitlabPipeline(g, r)
	case "build":
		gitlabJob(g, r)
	default:
		g.Kind, g.Action = "other", r.Get("object_attributes.action").String()
	}
	if g.Repo.FullName == "" {
		g.Repo.FullName = r.Get("path_with_namespace").String()
	}
	return g
}

func gitlabRepo(p gjson.Result) event.Repo {
	return event.Repo{
		ID: p.Get("id").String(), FullName: p.Get("path_with_namespace").String(), WebURL: p.Get("web_url").String(),
		CloneHTTP: p.Get("git_http_url").String(), CloneSSH: p.Get("git_ssh_url").String(),
		DefaultBranch: p.Get("default_branch").String(),
		// 0 private, 10 internal, 20 public
		Private: p.Get("visibility_level").Exists() && p.Get("visibility_level").Int() < 20,
	}
}

func gitlabUser(u gjson.Result) event.Person {
	return event.Person{Login: u.Get("username").String(), Name: u.Get("name").String(), Email: email(u.Get("email").String())}
}

func gitlabPush(g *event.Git, r payload) {
	g.Sender = event.Person{Login: r.Get("user_username").String(), Name: r.Get("user_name").String(),
		Email: email(r.Get("user_email").String())}
	setRef(g, r.Get("ref").String())
	setChange(g, r.Get("before").String(), r.Get("after").String())
	// checkout_sha is the commit behind an annotated tag.
	if sha := r.Get("checkout_sha").String(); sha != "" && !g.Deleted {
		g.SHA = sha
	}
	g.Protected = r.Get("ref_protected").Bool()
	g.Commits = gitHubStyleCommits(r.Get("commits"))
	g.CommitsTruncated = r.Get("total_commits_count").Int() > int64(len(g.Commits))
	addFiles(g, r.Get("commits"))
}

// gitlabPR reads object_attributes of a merge request event, or merge_request of another.
func gitlabPR(a gjson.Result) *event.PullRequest {
	p := &event.PullRequest{
		Number: int(a.Get("iid").Int()), Title: a.Get("title").String(), Body: a.Get("description").String(),
		URL: a.Get("url").String(), SourceBranch: a.Get("source_branch").String(),
		TargetBranch: a.Get("target_branch").String(), HeadSHA: a.Get("last_commit.id").String(),
		MergeSHA: a.Get("merge_commit_sha").String(), SourceRepo: a.Get("source.path_with_namespace").String(),
		AuthorTrust: "unknown", Labels: titles(a.Get("labels"), "title"),
	}
	p.Fork = a.Get("source_project_id").Int() != a.Get("target_project_id").Int()
	p.Draft = a.Get("draft").Bool() || a.Get("work_in_progress").Bool()
	switch a.Get("state").String() {
	case "merged":
		p.State, p.Merged = "merged", true
	case "closed":
		p.State = "closed"
	default:
		p.State = "open"
	}
	return p
}

func gitlabMergeRequest(g *event.Git, r payload) {
	a, changes := r.Get("object_attributes"), r.Get("changes")
	p := gitlabPR(a)
	g.Kind, g.PR, g.SHA = "pull_request", p, p.HeadSHA
	g.Ref, g.RefType, g.Branch = "refs/heads/"+p.SourceBranch, "branch", p.SourceBranch
	if labels := r.Get("labels"); labels.Exists() {
		p.Labels = titles(labels, "title")
	}
	if c := changes.Get("labels"); c.Exists() {
		before, after := titles(c.Get("previous"), "title"), titles(c.Get("current"), "title")
		p.LabelsAdded, p.LabelsRemoved = missing(after, before), missing(before, after)
	}
	action := a.Get("action").String()
	// Only author_id is given; the acting user is the author where they are the same or the action is to open.
	if id := r.Get("user.id").Int(); id != 0 && id == a.Get("author_id").Int() || action == "open" {
		p.Author = g.Sender.Login
	}
	switch action {
	case "open", "close", "reopen", "merge":
		g.Action = action
	case "approved", "approval":
		g.Action = "approve"
	case "unapproved", "unapproval":
		g.Action = "unapprove"
	}
	g.Actions = gitlabUpdates(p, a, changes, action == "update" || action == "")
	g.Before = a.Get("oldrev").String()
}

// gitlabUpdates are the things that one update says.
func gitlabUpdates(p *event.PullRequest, attributes, changes gjson.Result, update bool) []string {
	var actions []string
	// Another target branch is another merge to test.
	if attributes.Get("oldrev").String() != "" || changes.Get("target_branch").Exists() {
		actions = append(actions, "sync")
	}
	if before, after, changed := gitlabDraft(changes); changed && before != after {
		actions = append(actions, map[bool]string{true: "draft", false: "ready"}[after])
	}
	if len(p.LabelsAdded) > 0 {
		actions = append(actions, "label")
	}
	if len(p.LabelsRemoved) > 0 {
		actions = append(actions, "unlabel")
	}
	edited := false
	for _, field := range []string{"title", "description", "target_branch", "assignees", "reviewers", "milestone_id"} {
		edited = edited || changes.Get(field).Exists()
	}
	if update && (edited || len(actions) == 0) {
		actions = append(actions, "edit")
	}
	return actions
}

func gitlabDraft(changes gjson.Result) (before, after, changed bool) {
	for _, field := range []string{"draft", "work_in_progress"} {
		if c := changes.Get(field); c.Exists() {
			return c.Get("previous").Bool(), c.Get("current").Bool(), true
		}
	}
	if c := changes.Get("title"); c.Exists() {
		return draftTitle(c.Get("previous").String()), draftTitle(c.Get("current").String()), true
	}
	return false, false, false
}

func gitlabNote(g *event.Git, r payload) {
	a := r.Get("object_attributes")
	g.Kind, g.Action = "comment", a.Get("action").String()
	if g.Action == "" {
		g.Action = "create" // GitLab sent no action before 16.8, and comments on creation only
	}
	g.Comment = &event.Comment{ID: a.Get("id").String(), Body: a.Get("note").String(), URL: a.Get("url").String(),
		Author: g.Sender.Login}
	switch a.Get("noteable_type").String() {
	case "MergeRequest":
		g.PR = gitlabPR(r.Get("merge_request"))
		g.SHA = g.PR.HeadSHA
		g.Ref, g.RefType, g.Branch = "refs/heads/"+g.PR.SourceBranch, "branch", g.PR.SourceBranch
	case "Commit":
		g.SHA = a.Get("commit_id").String()
		g.Commits = gitHubStyleCommits(gjson.Parse("[" + orNull(r.Get("commit").Raw) + "]"))
	}
}

func orNull(raw string) string {
	if raw == "" {
		return "null"
	}
	return raw
}

func gitlabRelease(g *event.Git, r payload) {
	g.Kind, g.Action = "release", r.Get("action").String()
	setRef(g, "refs/tags/"+r.Get("tag").String())
	g.SHA = r.Get("commit.id").String()
	g.Release = &event.Release{Tag: g.Tag, Name: r.Get("name").String(), Body: r.Get("description").String(),
		URL: r.Get("url").String()}
}

func gitlabPipeline(g *event.Git, r payload) {
	a := r.Get("object_attributes")
	g.Kind, g.SHA, g.Action = "pipeline", a.Get("sha").String(), ciAction(a.Get("status").String())
	setRef(g, map[bool]string{true: "refs/tags/", false: "refs/heads/"}[a.Get("tag").Bool()]+a.Get("ref").String())
	g.Pipeline = &event.Pipeline{ID: a.Get("id").String(), Status: a.Get("status").String(), URL: a.Get("url").String(),
		Source: a.Get("source").String()}
	if mr := r.Get("merge_request"); mr.IsObject() {
		g.PR = gitlabPR(mr)
		g.PR.HeadSHA = g.SHA
	}
	g.Commits = gitHubStyleCommits(gjson.Parse("[" + orNull(r.Get("commit").Raw) + "]"))
}

func gitlabJob(g *event.Git, r payload) {
	g.Kind, g.SHA, g.Action = "status", r.Get("sha").String(), ciAction(r.Get("build_status").String())
	setRef(g, map[bool]string{true: "refs/tags/", false: "refs/heads/"}[r.Get("tag").Bool()]+r.Get("ref").String())
	g.Pipeline = &event.Pipeline{ID: r.Get("pipeline_id").String(), Status: r.Get("build_status").String(),
		Source: r.Get("build_name").String()}
	if g.Repo.WebURL == "" {
		g.Repo.WebURL = r.Get("repository.homepage").String()
		g.Repo.ID = r.Get("project_id").String()
	}
}
