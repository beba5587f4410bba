package forge

import (
	"strings"

	"github.com/tidwall/gjson"

	"github.com/tiphys/tiphys/event"
)

// normaliseBitbucket follows Bitbucket Cloud's "Event payloads". A push has one change for each reference.
func normaliseBitbucket(key string, r payload) []*event.Git {
	g := &event.Git{Repo: bitbucketRepo(r.Get("repository")), Sender: bitbucketUser(r.Get("actor"))}
	switch {
	case r.Get("push.changes").IsArray():
		return each(g, r.Get("push.changes"), bitbucketPush)
	case r.Get("commit_status").IsObject():
		s := r.Get("commit_status")
		g.Kind, g.SHA, g.Action = "status", s.Get("commit.hash").String(), ciAction(s.Get("state").String())
		setRef(g, "refs/heads/"+s.Get("refname").String())
		g.Pipeline = &event.Pipeline{ID: s.Get("key").String(), Status: strings.ToLower(s.Get("state").String()),
			URL: s.Get("url").String(), Source: s.Get("name").String()}
	case r.Get("pullrequest").IsObject():
		bitbucketPullRequest(g, key, r)
	default:
		g.Kind = "other"
	}
	return []*event.Git{g}
}

// each gives what every change of a push means, of which all have the same repository and sender. A push without one is an event as well.
func each(common *event.Git, changes gjson.Result, read func(*event.Git, gjson.Result)) []*event.Git {
	var all []*event.Git
	changes.ForEach(func(_, change gjson.Result) bool {
		g := *common
		read(&g, change)
		all = append(all, &g)
		return len(all) <= MaxChanges
	})
	if len(all) == 0 {
		read(common, gjson.Result{})
		return []*event.Git{common}
	}
	return all
}

func bitbucketRepo(p gjson.Result) event.Repo {
	return event.Repo{ID: p.Get("uuid").String(), FullName: p.Get("full_name").String(), WebURL: p.Get("links.html.href").String(),
		CloneHTTP: withSuffix(p.Get("links.html.href").String(), ".git"), Private: p.Get("is_private").Bool(),
		DefaultBranch: p.Get("mainbranch.name").String()}
}

func withSuffix(s, suffix string) string {
	if s == "" {
		return ""
	}
	return s + suffix
}

func bitbucketUser(u gjson.Result) event.Person {
	login := u.Get("username").String()
	if login == "" {
		login = u.Get("nickname").String()
	}
	return event.Person{Login: login, Name: u.Get("display_name").String()}
}

func bitbucketPush(g *event.Git, c gjson.Result) {
	before, after, side := c.Get("old.target.hash").String(), c.Get("new.target.hash").String(), c.Get("new")
	if !side.IsObject() {
		side = c.Get("old")
	}
	prefix := "refs/heads/"
	if side.Get("type").String() == "tag" {
		prefix = "refs/tags/"
	}
	setRef(g, prefix+side.Get("name").String())
	setChange(g, before, after)
	g.Forced = c.Get("forced").Bool()
	g.CommitsTruncated = c.Get("truncated").Bool()
	for _, commit := range c.Get("commits").Array() {
		name, address := rawAuthor(commit.Get("author.raw").String())
		author := bitbucketUser(commit.Get("author.user"))
		author.Name, author.Email = name, address
		g.Commits = append(g.Commits, event.Commit{SHA: commit.Get("hash").String(), Message: commit.Get("message").String(),
			URL: commit.Get("links.html.href").String(), Author: author})
	}
}

// rawAuthor takes "Name <address>" apart.
func rawAuthor(raw string) (name, address string) {
	name, rest, found := strings.Cut(raw, "<")
	if !found {
		return strings.TrimSpace(raw), ""
	}
	return strings.TrimSpace(name), strings.TrimSuffix(strings.TrimSpace(rest), ">")
}

func bitbucketPullRequest(g *event.Git, key string, r payload) {
	p := r.Get("pullrequest")
	pr := &event.PullRequest{Number: int(p.Get("id").Int()), Title: p.Get("title").String(), Body: p.Get("description").String(),
		URL: p.Get("links.html.href").String(), Draft: p.Get("draft").Bool(), SourceBranch: p.Get("source.branch.name").String(),
		TargetBranch: p.Get("destination.branch.name").String(), HeadSHA: p.Get("source.commit.hash").String(),
		BaseSHA: p.Get("destination.commit.hash").String(), MergeSHA: p.Get("merge_commit.hash").String(),
		SourceRepo: p.Get("source.repository.full_name").String(), AuthorTrust: "unknown"}
	pr.Author = bitbucketUser(p.Get("author")).Login
	pr.Fork = p.Get("source").Exists() && pr.SourceRepo != p.Get("destination.repository.full_name").String()
	switch p.Get("state").String() {
	case "MERGED":
		pr.State, pr.Merged = "merged", true
	case "DECLINED", "SUPERSEDED":
		pr.State = "closed"
	default:
		pr.State = "open"
	}
	g.Kind = "pull_request"
	setPR(g, pr)
	switch strings.TrimPrefix(key, "pullrequest:") {
	case "created":
		g.Action = "open"
	case "updated":
		// Bitbucket does not say whether commits or the description changed; both are possible.
		g.Action, g.Actions = "sync", []string{"sync", "edit"}
	case "fulfilled":
		g.Action = "merge"
	case "rejected":
		g.Action = "close"
	case "approved":
		g.Kind, g.Action = "review", "approve"
	case "unapproved", "changes_request_created":
		g.Kind, g.Action = "review", "unapprove"
	case "comment_created", "comment_updated", "comment_deleted":
		g.Kind = "comment"
		g.Action = map[string]string{"pullrequest:comment_created": "create", "pullrequest:comment_updated": "update",
			"pullrequest:comment_deleted": "delete"}[key]
		c := r.Get("comment")
		g.Comment = &event.Comment{ID: c.Get("id").String(), Body: c.Get("content.raw").String(),
			URL: c.Get("links.html.href").String(), Author: bitbucketUser(c.Get("user")).Login}
	default:
		g.Action = "edit"
	}
}

// normaliseBitbucketServer follows Bitbucket Data Center's "Event payload".
func normaliseBitbucketServer(key string, r payload) []*event.Git {
	if key == "" {
		key = r.Get("eventKey").String()
	}
	g := &event.Git{Repo: bitbucketServerRepo(r.Get("repository")), Sender: bitbucketServerUser(r.Get("actor"))}
	switch {
	case r.Get("changes").IsArray():
		return each(g, r.Get("changes"), func(g *event.Git, c gjson.Result) {
			setRef(g, c.Get("refId").String())
			setChange(g, c.Get("fromHash").String(), c.Get("toHash").String())
			// The commits are those of the change whose new tip is the first of them.
			if to := r.Get("toCommit.id").String(); to != "" && to != c.Get("toHash").String() {
				return
			}
			for _, commit := range r.Get("commits").Array() {
				g.Commits = append(g.Commits, event.Commit{SHA: commit.Get("id").String(), Message: commit.Get("message").String(),
					Author: bitbucketServerUser(commit.Get("author"))})
			}
		})
	case r.Get("pullRequest").IsObject():
		bitbucketServerPullRequest(g, key, r)
	default:
		g.Kind = "other"
	}
	return []*event.Git{g}
}

func bitbucketServerRepo(p gjson.Result) event.Repo {
	repo := event.Repo{ID: p.Get("id").String(), Private: !p.Get("public").Bool() && p.Exists()}
	if slug := p.Get("slug").String(); slug != "" {
		repo.FullName = p.Get("project.key").String() + "/" + slug
	}
	repo.WebURL = strings.TrimSuffix(p.Get("links.self.0.href").String(), "/browse")
	repo.CloneHTTP = p.Get(`links.clone.#(name=="http").href`).String()
	repo.CloneSSH = p.Get(`links.clone.#(name=="ssh").href`).String()
	return repo
}

func bitbucketServerUser(u gjson.Result) event.Person {
	return event.Person{Login: u.Get("name").String(), Name: u.Get("displayName").String(), Email: u.Get("emailAddress").String()}
}

func bitbucketServerPullRequest(g *event.Git, key string, r payload) {
	p := r.Get("pullRequest")
	from, to := p.Get("fromRef"), p.Get("toRef")
	g.Repo = bitbucketServerRepo(to.Get("repository"))
	pr := &event.PullRequest{Number: int(p.Get("id").Int()), Title: p.Get("title").String(), Body: p.Get("description").String(),
		URL: p.Get("links.self.0.href").String(), Draft: p.Get("draft").Bool(), SourceBranch: from.Get("displayId").String(),
		TargetBranch: to.Get("displayId").String(), HeadSHA: from.Get("latestCommit").String(),
		BaseSHA: to.Get("latestCommit").String(), MergeSHA: p.Get("properties.mergeCommit.id").String(),
		SourceRepo: bitbucketServerRepo(from.Get("repository")).FullName, AuthorTrust: "unknown",
		Author: bitbucketServerUser(p.Get("author.user")).Login}
	pr.Fork = from.Exists() && pr.SourceRepo != g.Repo.FullName
	switch p.Get("state").String() {
	case "MERGED":
		pr.State, pr.Merged = "merged", true
	case "DECLINED":
		pr.State = "closed"
	default:
		pr.State = "open"
	}
	g.Kind = "pull_request"
	setPR(g, pr)
	switch key {
	case "pr:opened":
		g.Action = "open"
	case "pr:from_ref_updated":
		g.Action, g.Before = "sync", r.Get("previousFromHash").String()
	case "pr:merged":
		g.Action = "merge"
	case "pr:declined", "pr:deleted":
		g.Action = "close"
	case "pr:reviewer:approved":
		g.Kind, g.Action = "review", "approve"
	case "pr:reviewer:unapproved", "pr:reviewer:needs_work":
		g.Kind, g.Action = "review", "unapprove"
	case "pr:comment:added", "pr:comment:edited", "pr:comment:deleted":
		g.Kind = "comment"
		g.Action = map[string]string{"pr:comment:added": "create", "pr:comment:edited": "update", "pr:comment:deleted": "delete"}[key]
		c := r.Get("comment")
		g.Comment = &event.Comment{ID: c.Get("id").String(), Body: c.Get("text").String(), Author: c.Get("author.name").String()}
	case "pr:modified":
		g.Action = "edit"
		// Another target branch is another merge to test.
		if before := r.Get("previousTarget.id").String(); before != "" && before != to.Get("id").String() {
			g.Actions = append(g.Actions, "sync")
		}
	default:
		g.Action = "edit"
	}
}
