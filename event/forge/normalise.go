package forge

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/failure"
)

// Names of the forges that are understood.
const (
	GitLab          = "gitlab"
	GitHub          = "github"
	Gitea           = "gitea"
	Bitbucket       = "bitbucket"
	BitbucketServer = "bitbucketserver"
)

// ErrPayload says that a delivery's body is not what the forge sends.
var ErrPayload = failure.New(failure.Invalid, "payload not understood")

// Detect tells from the headers which forge sent a delivery; empty if none that is known. Gitea and Forgejo
// send GitHub's headers too, so they are looked for first.
func Detect(h http.Header) string {
	key := h.Get("X-Event-Key")
	switch {
	case h.Get("X-Gitea-Event") != "", h.Get("X-Forgejo-Event") != "", h.Get("X-Gogs-Event") != "":
		return Gitea
	case h.Get("X-Gitlab-Event") != "":
		return GitLab
	case h.Get("X-GitHub-Event") != "":
		return GitHub
	case strings.HasPrefix(key, "pr:"), key == "repo:refs_changed", strings.HasPrefix(key, "mirror:"),
		key == "diagnostics:ping":
		return BitbucketServer
	case key != "":
		return Bitbucket
	}
	return ""
}

// EventName is what the forge itself calls the event, from the headers; empty if they do not say.
func EventName(forge string, h http.Header) string {
	switch forge {
	case GitLab:
		return h.Get("X-Gitlab-Event")
	case GitHub:
		return h.Get("X-GitHub-Event")
	case Gitea:
		for _, name := range []string{"X-Gitea-Event", "X-Forgejo-Event", "X-Gogs-Event"} {
			if v := h.Get(name); v != "" {
				return v
			}
		}
	case Bitbucket, BitbucketServer:
		return h.Get("X-Event-Key")
	}
	return ""
}

// MaxChanges is how many changes one delivery may have.
const MaxChanges = 100

// Normalise says what a delivery means, in the same words for every forge: once, or for each change if it has several. body is JSON, taken out of
// its form where the forge sends one. Events that have no meaning of their own here get the kind "other". The error wraps [ErrPayload].
func Normalise(forge string, h http.Header, body []byte) ([]*event.Git, error) {
	if !json.Valid(body) { // bounded in depth, unlike gjson's
		return nil, fmt.Errorf("normalise %s delivery: body is not json: %w", forge, ErrPayload)
	}
	return NormaliseValid(forge, h, body)
}

// NormaliseValid is [Normalise] for a body that is known to be valid JSON.
func NormaliseValid(forge string, h http.Header, body []byte) ([]*event.Git, error) {
	whole := gjson.ParseBytes(body)
	if !whole.IsObject() {
		return nil, fmt.Errorf("normalise %s delivery: body is not an object: %w", forge, ErrPayload)
	}
	root := payloadOf(whole)
	name := EventName(forge, h)
	var all []*event.Git
	switch forge {
	case GitLab:
		g := normaliseGitLab(root)
		if instance := h.Get("X-Gitlab-Instance"); instance != "" {
			g.Instance = strings.TrimSuffix(instance, "/")
		}
		all = append(all, g)
	case GitHub, Gitea:
		all = append(all, normaliseGitHub(forge, name, h.Get("X-Gitea-Event-Type"), root))
	case Bitbucket:
		all = normaliseBitbucket(name, root)
	case BitbucketServer:
		all = normaliseBitbucketServer(name, root)
	default:
		return nil, fmt.Errorf("normalise delivery: forge %q is not known: %w", forge, ErrPayload)
	}
	if len(all) > MaxChanges {
		return nil, fmt.Errorf("normalise %s delivery: it has more than %d changes: %w", forge, MaxChanges, ErrPayload)
	}
	for _, g := range all {
		g.Forge = forge
		if g.Instance == "" {
			g.Instance = instanceOf(g.Repo.WebURL)
		}
		if g.Kind == "" {
			g.Kind = "other"
		}
		settleActions(g)
	}
	return all, nil
}

// strengths orders the actions of a merge request; what is not listed comes last.
func strengths() []string {
	return []string{"merge", "close", "reopen", "open", "sync", "ready", "draft", "label", "unlabel",
		"approve", "unapprove", "edit"}
}

func rank(action string) int {
	if i := slices.Index(strengths(), action); i >= 0 {
		return i
	}
	return len(strengths())
}

// settleActions orders Actions with the strongest first and makes it the Action.
func settleActions(g *event.Git) {
	if g.Action != "" && !slices.Contains(g.Actions, g.Action) {
		g.Actions = append([]string{g.Action}, g.Actions...)
	}
	slices.SortStableFunc(g.Actions, func(a, b string) int { return rank(a) - rank(b) })
	g.Actions = slices.Compact(g.Actions)
	if len(g.Actions) > 0 {
		g.Action = g.Actions[0]
	}
}

func instanceOf(web string) string {
	u, err := url.Parse(web)
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// allZero reports whether a hash stands for "nothing".
func allZero(sha string) bool { return strings.Trim(sha, "0") == "" }

// setRef fills the ref fields from a full ref.
func setRef(g *event.Git, ref string) {
	g.Ref = ref
	switch {
	case strings.HasPrefix(ref, "refs/tags/"):
		g.RefType, g.Tag = "tag", strings.TrimPrefix(ref, "refs/tags/")
	case strings.HasPrefix(ref, "refs/heads/"):
		g.RefType, g.Branch = "branch", strings.TrimPrefix(ref, "refs/heads/")
	}
}

// setChange fills what a change of a ref from one hash to another means.
func setChange(g *event.Git, before, after string) {
	g.Kind = "push"
	if g.RefType == "tag" {
		g.Kind = "tag"
	}
	g.Created, g.Deleted = allZero(before), allZero(after)
	if !g.Created {
		g.Before = before
	}
	if !g.Deleted {
		g.SHA = after
	}
	switch {
	case g.Deleted:
		g.Action = "delete"
	case g.Created:
		g.Action = "create"
	default:
		g.Action = "update"
	}
}

// addFiles collects the changed files of all commits, in order and once each.
func addFiles(g *event.Git, commits gjson.Result) {
	seen := map[string]bool{}
	for _, c := range commits.Array() {
		for _, list := range []string{"added", "modified", "removed"} {
			for _, f := range c.Get(list).Array() {
				if name := f.String(); name != "" && !seen[name] {
					seen[name] = true
					g.ChangedFiles = append(g.ChangedFiles, name)
				}
			}
		}
	}
	slices.Sort(g.ChangedFiles)
	// A new branch is listed against nothing, a forced one against a commit that is not its ancestor.
	g.ChangedFilesComplete = len(commits.Array()) > 0 && !g.CommitsTruncated && !g.Created && !g.Deleted && !g.Forced
}

// gitHubStyleCommits are commits as GitLab, GitHub and Gitea write them.
func gitHubStyleCommits(list gjson.Result) []event.Commit {
	var commits []event.Commit
	for _, c := range list.Array() {
		commits = append(commits, event.Commit{
			SHA: c.Get("id").String(), Message: c.Get("message").String(), URL: c.Get("url").String(),
			Author: event.Person{Login: c.Get("author.username").String(), Name: c.Get("author.name").String(),
				Email: email(c.Get("author.email").String())},
		})
	}
	return commits
}

// email drops what forges write where they do not give an address.
func email(s string) string {
	if s == "[REDACTED]" {
		return ""
	}
	return s
}

func titles(list gjson.Result, key string) []string {
	var out []string
	for _, l := range list.Array() {
		if t := l.Get(key).String(); t != "" {
			out = append(out, t)
		}
	}
	return out
}

// missing are the entries of a that are not in b. A sender decides how long the lists are.
func missing(a, b []string) []string {
	in := make(map[string]bool, len(b))
	for _, s := range b {
		in[s] = true
	}
	var out []string
	for _, s := range a {
		if !in[s] {
			out = append(out, s)
		}
	}
	return out
}

// draftTitle reports whether a title marks a draft, as GitLab and Gitea read it.
func draftTitle(title string) bool {
	t := strings.ToLower(strings.TrimSpace(title))
	for _, prefix := range []string{"draft:", "[draft]", "(draft)", "wip:", "[wip]"} {
		if strings.HasPrefix(t, prefix) {
			return true
		}
	}
	return false
}

// ciAction gives the action of a pipeline's or status' state.
func ciAction(state string) string {
	switch strings.ToLower(state) {
	case "success", "successful", "passed":
		return "success"
	case "failed", "failure", "error", "timed_out", "startup_failure":
		return "failed"
	case "running", "pending", "created", "inprogress", "in_progress", "queued", "preparing", "requested",
		"waiting_for_resource":
		return "running"
	}
	return ""
}
