package conformance

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/manifest"
)

// eventCorpus finds the folder with the expectations taken from upstream, or skips loudly.
func eventCorpus(t *testing.T, folder string) string {
	t.Helper()
	root := os.Getenv("TIPHYS_CONFORMANCE")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared", "conformance")
	}
	dir := filepath.Join(root, "events", folder)
	if _, err := os.Stat(filepath.Join(dir, "index.json")); err != nil {
		t.Skipf("SKIPPED: no conformance corpus at %s; set TIPHYS_CONFORMANCE to its folder", dir)
	}
	return dir
}

func readCases[T any](t *testing.T, dir string) []T {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []T
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	return cases
}

type manifestCase struct {
	ID     string `json:"id"`
	File   string `json:"file"`
	Expect struct {
		Valid         bool   `json:"valid"`
		ErrorContains string `json:"errorContains"`
	} `json:"expect"`
}

// TestEventManifests: Sensors and EventSources that argo-events accepts or refuses.
func TestEventManifests(t *testing.T) {
	dir := eventCorpus(t, "manifests")
	cases := readCases[manifestCase](t, dir)
	passed := 0
	for _, c := range cases {
		data, err := os.ReadFile(filepath.Join(dir, c.File))
		if err != nil {
			t.Fatal(err)
		}
		objects, diagnostics := manifest.Decode(c.File, data)
		for _, o := range objects {
			var found []manifest.Diagnostic
			switch o.Kind {
			case "Sensor":
				_, found = manifest.LoadSensor(o)
			case "EventSource":
				_, found = manifest.LoadEventSource(o)
			}
			diagnostics = append(diagnostics, found...)
		}
		first := manifest.FirstError(diagnostics)
		switch {
		case c.Expect.Valid && first != nil:
			t.Errorf("%s: refused: %v", c.ID, first)
		case !c.Expect.Valid && first == nil:
			t.Errorf("%s: accepted, want refused", c.ID)
		case !c.Expect.Valid && !anyContains(diagnostics, c.Expect.ErrorContains):
			t.Errorf("%s: %v does not contain %q", c.ID, first, c.Expect.ErrorContains)
		default:
			passed++
		}
	}
	t.Logf("events/manifests: %d/%d", passed, len(cases))
}

func anyContains(diagnostics []manifest.Diagnostic, text string) bool {
	for _, d := range diagnostics {
		if d.Severity == manifest.SeverityError && strings.Contains(d.Error(), text) {
			return true
		}
	}
	return false
}

type webhookCase struct {
	ID          string            `json:"id"`
	Forge       string            `json:"forge"`
	Header      map[string]string `json:"header"`
	PayloadFile string            `json:"payloadFile"`
	Golden      string            `json:"golden"`
}

// TestEventWebhooks: forge payloads and what go-scm makes of them, compared by meaning.
func TestEventWebhooks(t *testing.T) {
	dir := eventCorpus(t, "webhooks")
	passed, total := map[string]int{}, map[string]int{}
	for _, c := range readCases[webhookCase](t, dir) {
		total[c.Forge]++
		if faults := webhookFaults(t, dir, c); len(faults) > 0 {
			t.Errorf("%s: %s", c.ID, strings.Join(faults, "; "))
			continue
		}
		passed[c.Forge]++
	}
	var scores []string
	for _, name := range []string{"gitlab", "github", "gitea", "bitbucket", "bitbucketserver"} {
		scores = append(scores, fmt.Sprintf("%s %d/%d", name, passed[name], total[name]))
	}
	t.Logf("events/webhooks: %s", strings.Join(scores, ", "))
}

func webhookFaults(t *testing.T, dir string, c webhookCase) []string {
	t.Helper()
	body, err := os.ReadFile(filepath.Join(dir, c.PayloadFile))
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	for k, v := range c.Header {
		h.Set(k, v)
	}
	if len(h) > 0 && forge.Detect(h) != c.Forge {
		return []string{"detected as " + forge.Detect(h)}
	}
	all, err := forge.Normalise(c.Forge, h, body)
	if err != nil {
		return []string{err.Error()}
	}
	g := all[0]
	if g.Repo.FullName == "" {
		return []string{"no repository"}
	}
	if c.Golden == "" {
		return nil
	}
	golden, err := os.ReadFile(filepath.Join(dir, c.Golden))
	if err != nil {
		t.Fatal(err)
	}
	return compareGolden(c, g, gjson.ParseBytes(golden))
}

// firstOf is the first of the paths that says something. Goldens spell keys in two ways.
func firstOf(r gjson.Result, paths ...string) string {
	for _, p := range paths {
		if v := r.Get(p).String(); v != "" && v != "0" && !strings.HasPrefix(v, "{") {
			return v
		}
	}
	return ""
}

func compareGolden(c webhookCase, g *event.Git, want gjson.Result) []string {
	var faults []string
	check := func(what, got, want string) {
		if want != "" && got != want {
			faults = append(faults, fmt.Sprintf("%s is %q, want %q", what, got, want))
		}
	}
	check("repository", g.Repo.FullName, firstOf(want, "Repo.Namespace", "repo.namespace")+"/"+firstOf(want, "Repo.Name", "repo.name"))
	if c.Forge == "bitbucket" {
		faults = nil // full_name's case differs from name's
		check("repository", strings.ToLower(g.Repo.FullName), strings.ToLower(firstOf(want, "Repo.Namespace")+"/"+firstOf(want, "Repo.Name")))
	}
	check("default branch", g.Repo.DefaultBranch, map[bool]string{true: firstOf(want, "Repo.Branch", "repo.branch")}[strings.HasPrefix(c.Forge, "git")])
	if ref := firstOf(want, "Ref"); strings.HasPrefix(ref, "refs/") {
		check("ref", g.Ref, ref)
	}
	if name := firstOf(want, "Ref.Name"); name != "" {
		check("ref name", g.Branch+g.Tag, name)
	}
	sha := firstOf(want, "Ref.Sha", "After", "commit.sha", "Commit.Sha", "Sha")
	switch {
	case g.Deleted && strings.Trim(sha, "0") == "":
		check("sha", g.SHA, "")
	case g.Deleted:
		check("sha before", g.Before, sha)
	default:
		check("sha", g.SHA, sha)
	}
	check("action", g.Action, wantAction(g, want.Get("Action").String()))
	sender := firstOf(want, "Sender.Login", "sender.login")
	check("sender", g.Sender.Login, sender)
	pr := want.Get("PullRequest")
	if pr.Get("Number").Int() == 0 {
		pr = want.Get("Issue.PullRequest")
	}
	if pr.Get("Number").Int() != 0 && g.PR == nil {
		return append(faults, "no pull request")
	}
	if pr.Get("Number").Int() != 0 && g.Kind != "pipeline" { // go-scm takes the id for the number there
		check("number", strconv.Itoa(g.PR.Number), pr.Get("Number").String())
		check("title", g.PR.Title, pr.Get("Title").String())
		check("head", g.PR.HeadSHA, pr.Get("Sha").String())
		check("source", g.PR.SourceBranch, pr.Get("Source").String())
		check("target", g.PR.TargetBranch, pr.Get("Target").String())
		check("base", g.PR.BaseSHA, pr.Get("Base.Sha").String())
		if c.Forge != "gitlab" { // go-scm puts the acting user there
			check("author", g.PR.Author, pr.Get("Author.Login").String())
		}
		check("merged", strconv.FormatBool(g.PR.Merged), strconv.FormatBool(pr.Get("Merged").Bool()))
	}
	if want.Get("Comment").Exists() {
		if g.Comment == nil {
			return append(faults, "no comment")
		}
		check("comment", g.Comment.ID, want.Get("Comment.ID").String())
		check("comment body", g.Comment.Body, want.Get("Comment.Body").String())
	}
	if want.Get("Release").Exists() {
		check("release", g.Release.Tag, want.Get("Release.Tag").String())
		check("release name", g.Release.Name, want.Get("Release.Title").String())
	}
	return faults
}

func wantAction(g *event.Git, action string) string {
	if g.Kind == "other" {
		return ""
	}
	return map[string]string{"opened": "open", "closed": "close", "merged": "merge", "reopened": "reopen",
		"synchronized": "sync", "review_ready": "ready", "created": "create", "deleted": "delete", "edited": "update",
		"released": "create", "unpublished": "update", "updated": "edit"}[action]
}
