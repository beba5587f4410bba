package forge

import (
	"strings"

	"github.com/tidwall/gjson"

	"github.com/tiphys/tiphys/event"
)

// normaliseGitHub follows GitHub's "Webhook events and payloads". Gitea and Forgejo send nearly the same; where
// they do not, both forms are read. name is empty where no header said what it is. fine is Gitea's finer name.
func normaliseGitHub(forge, name, fine string, r payload) *event.Git {
	repo, sender := r.Get("repository"), r.Get("sender")
	g := &event.Git{Repo: githubRepo(repo), Sender: githubUser(sender)}
	if name == "" {
		name = githubGuess(r)
	}
	switch {
	case name == "push":
		githubPush(g, r)
	case name == "create" || name == "delete":
		githubRefEvent(g, name, r)
	case name == "pull_request_review_comment":
		githubComment(g, r, "comment")
	case name == "pull_request_review", strings.HasPrefix(name, "pull_request_approved"),
		strings.HasPrefix(name, "pull_request_rejected"), name == "pull_request_comment" && r.Get("review").Exists():
		githubReview(g, r)
	case name == "pull_request_comment", name == "issue_comment", name == "commit_comment":
		githubComment(g, r, "comment")
	case strings.HasPrefix(name, "pull_request"):
		githubPullRequest(forge, g, fine, r)
	case name == "release":
		githubRelease(g, r)
	case name == "workflow_run", name == "check_run", name == "check_suite", name == "status",
		name == "workflow_job", name == "deployment_status":
		githubStatus(g, name, r)
	case name == "deployment":
		g.Kind, g.Action, g.SHA = "other", "create", r.Get("deployment.sha").String()
		setRef(g, "refs/heads/"+r.Get("deployment.ref").String())
	case name == "merge_group":
		g.Kind, g.Action, g.SHA = "other", r.Get("action").String(), r.Get("merge_group.head_sha").String()
		setRef(g, r.Get("merge_group.head_ref").String())
		g.Before = r.Get("merge_group.base_sha").String()
	default:
		g.Kind, g.Action = "other", r.Get("action").String()
	}
	return g
}

// githubGuess tells from the keys of a body what it is.
func githubGuess(r payload) string {
	for _, c := range []struct{ key, name string }{
		{"comment", "issue_comment"}, {"review", "pull_request_review"}, {"pull_request", "pull_request"},
		{"release", "release"}, {"workflow_run", "workflow_run"}, {"check_run", "check_run"}, {"issue", "issues"},
		{"commits", "push"}, {"state", "status"},
	} {
		if r.Get(c.key).Exists() {
			return c.name
		}
	}
	return ""
}

func githubRepo(p gjson.Result) event.Repo {
	full := p.Get("full_name").String()
	if full == "" && p.Get("name").String() != "" {
		full = p.Get("owner.login").String() + "/" + p.Get("name").String()
	}
	return event.Repo{ID: p.Get("id").String(), FullName: full, WebURL: p.Get("html_url").String(),
		CloneHTTP: p.Get("clone_url").String(), CloneSSH: p.Get("ssh_url").String(),
		DefaultBranch: p.Get("default_branch").String(), Private: p.Get("private").Bool()}
}

func githubUser(u gjson.Result) event.Person {
	login := u.Get("login").String()
	if login == "" {
		login = u.Get("username").String()
	}
	name := u.Get("name").String()
	if name == "" {
		name = u.Get("full_name").String()
	}
	return event.Person{Login: login, Name: name, Email: u.Get("email").String()}
}

func githubPush(g *event.Git, r payload) {
	setRef(g, r.Get("ref").String())
	setChange(g, r.Get("before").String(), r.Get("after").String())
	g.Forced = r.Get("forced").Bool()
	// An annotated tag's own object stands in "after"; the commit is the head commit.
	if sha := r.Get("head_commit.id").String(); sha != "" && !g.Deleted && g.RefType == "tag" {
		g.SHA = sha
	}
	if g.Sender.Login == "" {
		g.Sender = githubUser(r.Get("pusher"))
	}
	g.Commits = gitHubStyleCommits(r.Get("commits"))
	// GitHub lists at most 2048 commits, Gitea as many as it is configured to and the total.
	g.CommitsTruncated = len(g.Commits) >= 2048 || r.Get("total_commits").Int() > int64(len(g.Commits))
	addFiles(g, r.Get("commits"))
}

// githubRefEvent is create or delete of a branch or tag: a second word about what a push says too, for hooks
// that are not told of pushes. GitHub gives no hash.
func githubRefEvent(g *event.Git, action string, r payload) {
	g.Kind, g.Action = r.Get("ref_type").String(), action
	prefix := "refs/heads/"
	if g.Kind == "tag" {
		prefix = "refs/tags/"
	}
	if g.Kind != "tag" && g.Kind != "branch" {
		g.Kind = "other" // a repository
		return
	}
	ref := r.Get("ref").String()
	if !strings.HasPrefix(ref, "refs/") {
		ref = prefix + ref
	}
	setRef(g, ref)
	g.Created, g.Deleted = action == "create", action == "delete"
	g.SHA = r.Get("sha").String()
}

func githubPR(forge string, p gjson.Result) *event.PullRequest {
	pr := &event.PullRequest{
		Number: int(p.Get("number").Int()), Title: p.Get("title").String(), Body: p.Get("body").String(),
		URL: p.Get("html_url").String(), Draft: p.Get("draft").Bool(), Merged: p.Get("merged").Bool(),
		SourceBranch: p.Get("head.ref").String(), TargetBranch: p.Get("base.ref").String(),
		HeadSHA: p.Get("head.sha").String(), BaseSHA: p.Get("base.sha").String(),
		SourceRepo: p.Get("head.repo.full_name").String(), Author: githubUser(p.Get("user")).Login,
		AuthorTrust: trust(p.Get("author_association").String()), Labels: titles(p.Get("labels"), "name"),
		Updated: timeOf(p.Get("updated_at")),
	}
	pr.State = p.Get("state").String()
	if pr.Merged {
		pr.State, pr.MergeSHA = "merged", p.Get("merge_commit_sha").String()
	}
	if p.Get("head.repo_id").Exists() {
		pr.Fork = p.Get("head.repo_id").Int() != p.Get("base.repo_id").Int()
	} else {
		// head.repo is null where the fork was deleted.
		pr.Fork = p.Get("head").Exists() && pr.SourceRepo != p.Get("base.repo.full_name").String()
	}
	if forge == Gitea {
		pr.Draft = pr.Draft || draftTitle(pr.Title)
	}
	return pr
}

func trust(association string) string {
	switch association {
	case "OWNER", "MEMBER":
		return "member"
	case "COLLABORATOR":
		return "collaborator"
	case "CONTRIBUTOR":
		return "contributor"
	case "NONE", "FIRST_TIMER", "FIRST_TIME_CONTRIBUTOR", "MANNEQUIN":
		return "none"
	}
	return "unknown"
}

func setPR(g *event.Git, pr *event.PullRequest) {
	g.PR, g.SHA = pr, pr.HeadSHA
	if pr.SourceBranch != "" {
		g.Ref, g.RefType, g.Branch = "refs/heads/"+pr.SourceBranch, "branch", pr.SourceBranch
	}
}

func githubPullRequest(forge string, g *event.Git, fine string, r payload) {
	p := r.Get("pull_request")
	g.Kind = "pull_request"
	setPR(g, githubPR(forge, p))
	if g.PR.Number == 0 {
		g.PR.Number = int(r.Get("number").Int())
	}
	action := r.Get("action").String()
	label := r.Get("label.name").String()
	switch action {
	case "opened":
		g.Action = "open"
	case "reopened":
		g.Action = "reopen"
	case "synchronize", "synchronized":
		g.Action, g.Before = "sync", r.Get("before").String()
	case "closed":
		g.Action = "close"
		if g.PR.Merged {
			g.Action = "merge"
		}
	case "labeled", "label_updated":
		// Gitea does not say which label.
		g.Action, g.PR.LabelsAdded = "label", nonEmpty(label)
	case "unlabeled", "label_cleared":
		g.Action, g.PR.LabelsRemoved = "unlabel", nonEmpty(label)
	case "converted_to_draft":
		g.Action = "draft"
	case "ready_for_review":
		g.Action = "ready"
	case "reviewed":
		g.Kind = "review"
		g.Action = reviewAction(fine)
	default:
		g.Action = "edit"
	}
	// Another target branch is another merge to test. GitHub and Gitea name the change differently.
	if action == "edited" && (r.Get("changes.base").Exists() || r.Get("changes.ref").Exists()) {
		g.Actions = append(g.Actions, "sync")
	}
	if action == "edited" && forge == Gitea {
		if from := r.Get("changes.title.from"); from.Exists() && draftTitle(from.String()) != g.PR.Draft {
			g.Actions = append(g.Actions, map[bool]string{true: "draft", false: "ready"}[g.PR.Draft])
		}
	}
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

func reviewAction(state string) string {
	switch {
	case strings.Contains(state, "approved"):
		return "approve"
	case strings.Contains(state, "rejected"), strings.Contains(state, "changes_requested"), strings.Contains(state, "dismissed"):
		return "unapprove"
	}
	return "create"
}

func githubReview(g *event.Git, r payload) {
	setPR(g, githubPR("", r.Get("pull_request")))
	v := r.Get("review")
	g.Kind, g.Action = "review", reviewAction(strings.ToLower(v.Get("state").String()+v.Get("type").String()))
	switch r.Get("action").String() {
	case "edited": // its words, not its judgement
		g.Action = "update"
	case "dismissed":
		g.Action = "unapprove"
	}
	g.Comment = &event.Comment{ID: v.Get("id").String(), Body: v.Get("body").String() + v.Get("content").String(),
		Author: v.Get("user.login").String(), URL: v.Get("html_url").String(), Association: v.Get("author_association").String()}
}

func githubComment(g *event.Git, r payload, kind string) {
	g.Kind = kind
	g.Action = map[string]string{"created": "create", "edited": "update", "deleted": "delete"}[r.Get("action").String()]
	c := r.Get("comment")
	g.Comment = &event.Comment{ID: c.Get("id").String(), Body: c.Get("body").String(), URL: c.Get("html_url").String(),
		Author: githubUser(c.Get("user")).Login, Association: c.Get("author_association").String(), Created: timeOf(c.Get("created_at"))}
	if p := r.Get("pull_request"); p.IsObject() {
		setPR(g, githubPR("", p))
		return
	}
	issue := r.Get("issue")
	if !issue.Get("pull_request").IsObject() && !r.Get("is_pull").Bool() {
		g.SHA = c.Get("commit_id").String()
		return
	}
	// A comment on the whole says nothing of the branches or the head commit.
	g.PR = &event.PullRequest{Number: int(issue.Get("number").Int()), Title: issue.Get("title").String(),
		Body: issue.Get("body").String(), URL: issue.Get("html_url").String(), State: issue.Get("state").String(),
		Draft: issue.Get("draft").Bool(), Author: githubUser(issue.Get("user")).Login,
		AuthorTrust: trust(issue.Get("author_association").String()), Labels: titles(issue.Get("labels"), "name")}
}

func githubRelease(g *event.Git, r payload) {
	v := r.Get("release")
	g.Kind = "release"
	action := r.Get("action").String()
	g.Action = map[string]string{"created": "create", "published": "create", "released": "create", "prereleased": "create",
		"edited": "update", "updated": "update", "unpublished": "update", "deleted": "delete"}[action]
	setRef(g, "refs/tags/"+v.Get("tag_name").String())
	g.Release = &event.Release{Tag: v.Get("tag_name").String(), Name: v.Get("name").String(), Body: v.Get("body").String(),
		Draft: v.Get("draft").Bool(), Prerelease: v.Get("prerelease").Bool(), URL: v.Get("html_url").String()}
}

func githubStatus(g *event.Git, name string, r payload) {
	g.Kind = "status"
	v := r.Get(name)
	if name == "status" {
		v = r.whole
	}
	if name == "workflow_run" {
		g.Kind = "pipeline"
	}
	if name == "deployment_status" {
		v = gjson.Parse(orNull(v.Raw))
		g.SHA = r.Get("deployment.sha").String()
	}
	state := v.Get("conclusion").String()
	if state == "" {
		state = v.Get("status").String()
	}
	if state == "" {
		state = v.Get("state").String()
	}
	for _, key := range []string{"head_sha", "sha", "commit.id"} {
		if g.SHA == "" {
			g.SHA = v.Get(key).String()
		}
	}
	if branch := v.Get("head_branch").String(); branch != "" {
		setRef(g, "refs/heads/"+branch)
	} else if branch := v.Get("check_suite.head_branch").String(); branch != "" {
		setRef(g, "refs/heads/"+branch)
	}
	source := v.Get("event").String()
	for _, key := range []string{"context", "name"} {
		if source == "" {
			source = v.Get(key).String()
		}
	}
	target := v.Get("html_url").String()
	if target == "" {
		target = v.Get("target_url").String()
	}
	g.Action = ciAction(state)
	g.Pipeline = &event.Pipeline{ID: v.Get("id").String(), Status: state, URL: target, Source: source}
	if number := v.Get("pull_requests.0.number").Int(); number != 0 {
		g.PR = &event.PullRequest{Number: int(number), HeadSHA: v.Get("pull_requests.0.head.sha").String(),
			SourceBranch: v.Get("pull_requests.0.head.ref").String(), TargetBranch: v.Get("pull_requests.0.base.ref").String(),
			AuthorTrust: "unknown"}
	}
}
