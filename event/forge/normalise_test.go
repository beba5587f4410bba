package forge_test

// Expected values are written from GitLab's "Webhook events" reference and docs of the other forges; the larger
// comparison with go-scm's normalised payloads is in test/conformance.

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/secret"
)

func gitlabBody(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "testdata", "gitlab", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// normalise gives the one meaning of a delivery.
func normalise(host string, h http.Header, body []byte) (*event.Git, error) {
	all, err := forge.Normalise(host, h, body)
	if err != nil {
		return nil, err
	}
	if len(all) != 1 {
		return nil, fmt.Errorf("the delivery has %d meanings", len(all))
	}
	return all[0], nil
}

// A review that was edited is no new one, one that was dismissed is no approval any more (GitHub, webhook events and payloads,
// pull_request_review). Another target branch is another merge to test: GitHub's pull_request "edited" with changes.base, Gitea's with changes.ref
// (modules/structs/hook.go, ChangesPayload), GitLab's merge request event with changes.target_branch.
func TestActions(t *testing.T) {
	review := func(action, state string) string {
		return `{"action":"` + action + `","review":{"id":7,"state":"` + state + `"},"pull_request":{"number":3,"head":{"ref":"f"},"base":{"ref":"main"}},"repository":{"full_name":"o/r"}}`
	}
	change := func(changes string) string {
		return `{"action":"edited","changes":` + changes + `,"pull_request":{"number":3,"head":{"ref":"f","sha":"s"},"base":{"ref":"main"}},"repository":{"full_name":"o/r"}}`
	}
	github, gitea := "X-Github-Event", "X-Gitea-Event"
	for name, c := range map[string]struct {
		host, header, event, body, kind string
		actions                         []string
	}{
		"review":                               {forge.GitHub, github, "pull_request_review", review("submitted", "commented"), "review", []string{"create"}},
		"review that approves":                 {forge.GitHub, github, "pull_request_review", review("submitted", "approved"), "review", []string{"approve"}},
		"review edited":                        {forge.GitHub, github, "pull_request_review", review("edited", "commented"), "review", []string{"update"}},
		"approval edited":                      {forge.GitHub, github, "pull_request_review", review("edited", "approved"), "review", []string{"update"}},
		"review dismissed":                     {forge.GitHub, github, "pull_request_review", review("dismissed", "dismissed"), "review", []string{"unapprove"}},
		"title":                                {forge.GitHub, github, "pull_request", change(`{"title":{"from":"x"}}`), "pull_request", []string{"edit"}},
		"target branch":                        {forge.GitHub, github, "pull_request", change(`{"base":{"ref":{"from":"old"},"sha":{"from":"a"}}}`), "pull_request", []string{"sync", "edit"}},
		"target branch, Gitea":                 {forge.Gitea, gitea, "pull_request", change(`{"ref":{"from":"old"}}`), "pull_request", []string{"sync", "edit"}},
		"target branch, GitLab":                {forge.GitLab, "", "", `{"object_kind":"merge_request","project":{"path_with_namespace":"o/r"},"object_attributes":{"iid":3,"action":"update","target_branch":"main"},"changes":{"target_branch":{"previous":"old","current":"main"}}}`, "pull_request", []string{"sync", "edit"}},
		"description, GitLab":                  {forge.GitLab, "", "", `{"object_kind":"merge_request","project":{"path_with_namespace":"o/r"},"object_attributes":{"iid":3,"action":"update"},"changes":{"description":{"previous":"a","current":"b"}}}`, "pull_request", []string{"edit"}},
		"target branch, Bitbucket Data Center": {forge.BitbucketServer, "X-Event-Key", "pr:modified", `{"previousTarget":{"id":"refs/heads/old"},"pullRequest":{"id":3,"toRef":{"id":"refs/heads/main","displayId":"main"},"fromRef":{"id":"refs/heads/f","displayId":"f"}}}`, "pull_request", []string{"sync", "edit"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := http.Header{}
			if c.header != "" {
				h.Set(c.header, c.event)
			}
			g, err := normalise(c.host, h, []byte(c.body))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.actions, g.Actions); diff != "" || g.Kind != c.kind || g.Action != c.actions[0] {
				t.Errorf("%s %s %s", g.Kind, g.Action, diff)
			}
		})
	}
}

// One push of several references has a meaning for each (Bitbucket Cloud, event payloads, repo:push: changes has one element for each
// reference; Bitbucket Data Center, repo:refs_changed).
func TestSeveralChanges(t *testing.T) {
	cloud := `{"repository":{"full_name":"team/shop"},"actor":{"nickname":"ada"},"push":{"changes":[
		{"new":{"type":"branch","name":"feature","target":{"hash":"b0"}},"commits":[{"hash":"b0","message":"one"}]},
		{"new":{"type":"tag","name":"v1","target":{"hash":"a0"}},"old":null},
		{"new":null,"old":{"type":"branch","name":"gone","target":{"hash":"c0"}}}]}}`
	server := `{"repository":{"slug":"shop","project":{"key":"team"}},"actor":{"name":"ada"},"toCommit":{"id":"b0"},"commits":[{"id":"b0","message":"one"}],"changes":[
		{"refId":"refs/heads/feature","fromHash":"0000","toHash":"b0"},
		{"refId":"refs/tags/v1","fromHash":"0000","toHash":"a0"},
		{"refId":"refs/heads/gone","fromHash":"c0","toHash":"0000"}]}`
	for host, body := range map[string]string{forge.Bitbucket: cloud, forge.BitbucketServer: server} {
		all, err := forge.Normalise(host, http.Header{"X-Event-Key": {"repo:push"}}, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, g := range all {
			got = append(got, fmt.Sprintf("%s %s %s %s %d %s %s", g.Kind, g.Action, g.Ref, g.SHA, len(g.Commits), g.Sender.Login, g.Repo.FullName))
		}
		want := []string{"push create refs/heads/feature b0 1 ada team/shop", "tag create refs/tags/v1 a0 0 ada team/shop", "push delete refs/heads/gone  0 ada team/shop"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", host, diff)
		}
		many := strings.Repeat(`{"new":{"type":"branch","name":"x","target":{"hash":"b"}}},`, forge.MaxChanges)
		if _, err := forge.Normalise(forge.Bitbucket, http.Header{}, []byte(`{"push":{"changes":[`+many+`{}]}}`)); !errors.Is(err, forge.ErrPayload) {
			t.Errorf("too many changes: %v", err)
		}
	}
}

func TestNormaliseGitLab(t *testing.T) {
	type meaning struct {
		Kind, Action   string
		Actions        []string
		Ref, SHA       string
		Number         int
		Added, Removed []string
		Sender         string
	}
	const a, b, tip = "3f1c9a7be2d54806918f7a6c0b2e4d8f5a93c110", "8d20f4c6a1b97e3350d4e8c2f7a619b05c3e7d42", ""
	branch := "refs/heads/quieter-alarms"
	for name, want := range map[string]meaning{
		"push":                 {Kind: "push", Action: "update", Actions: []string{"update"}, Ref: "refs/heads/main", SHA: b, Sender: "ilse"},
		"tag":                  {Kind: "tag", Action: "create", Actions: []string{"create"}, Ref: "refs/tags/v1.4.0", SHA: b, Sender: "ilse"},
		"new_branch":           {Kind: "push", Action: "create", Actions: []string{"create"}, Ref: branch, SHA: a, Sender: "ilse"},
		"delete_branch":        {Kind: "push", Action: "delete", Actions: []string{"delete"}, Ref: branch, SHA: tip, Sender: "ilse"},
		"merge_request_open":   {Kind: "pull_request", Action: "open", Actions: []string{"open"}, Ref: branch, SHA: a, Number: 23, Sender: "ilse"},
		"merge_request_update": {Kind: "pull_request", Action: "sync", Actions: []string{"sync", "ready", "edit"}, Ref: branch, SHA: b, Number: 23, Sender: "ilse"},
		"merge_request_label": {Kind: "pull_request", Action: "label", Actions: []string{"label", "unlabel"}, Ref: branch, SHA: b, Number: 23,
			Added: []string{"deploy:web"}, Removed: []string{"deploy:api"}, Sender: "mattis"},
		"merge_request_close": {Kind: "pull_request", Action: "close", Actions: []string{"close"}, Ref: branch, SHA: b, Number: 23, Sender: "ilse"},
		"merge_request_merge": {Kind: "pull_request", Action: "merge", Actions: []string{"merge"}, Ref: branch, SHA: b, Number: 23, Sender: "mattis"},
		"comment":             {Kind: "comment", Action: "create", Actions: []string{"create"}, Ref: branch, SHA: a, Number: 23, Sender: "mattis"},
	} {
		t.Run(name, func(t *testing.T) {
			g, err := normalise(forge.GitLab, http.Header{}, gitlabBody(t, name))
			if err != nil {
				t.Fatal(err)
			}
			got := meaning{Kind: g.Kind, Action: g.Action, Actions: g.Actions, Ref: g.Ref, SHA: g.SHA, Sender: g.Sender.Login}
			if g.PR != nil {
				got.Number, got.Added, got.Removed = g.PR.Number, g.PR.LabelsAdded, g.PR.LabelsRemoved
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("meaning (-want +got):\n%s", diff)
			}
			if g.Repo.FullName != "lantern-works/tidewatch" || g.Instance != "https://gitlab.example.org" || !g.Repo.Private {
				t.Errorf("repository %+v at %q", g.Repo, g.Instance)
			}
			if g.Sender.Email != "" {
				t.Errorf("a redacted address became %q", g.Sender.Email)
			}
		})
	}
	push, err := normalise(forge.GitLab, http.Header{}, gitlabBody(t, "push"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"alarm/old.go", "alarm/text.go", "gauge/gauge.go", "gauge/retry.go"}, push.ChangedFiles); diff != "" {
		t.Errorf("changed files:\n%s", diff)
	}
	if !push.ChangedFilesComplete || !push.Protected || len(push.Commits) != 2 {
		t.Errorf("push is %+v", push)
	}
}

func TestDetectGiteaBeforeGitHub(t *testing.T) {
	h := http.Header{}
	h.Set("X-GitHub-Event", "push")
	if got := forge.Detect(h); got != forge.GitHub {
		t.Errorf("got %q", got)
	}
	h.Set("X-Gitea-Event", "push")
	if got := forge.Detect(h); got != forge.Gitea {
		t.Errorf("got %q", got)
	}
}

func TestForkWithoutHeadRepository(t *testing.T) {
	body := []byte(`{"action":"closed","number":4,"repository":{"full_name":"a/b"},"pull_request":{"number":4,"merged":true,"state":"closed",
		"author_association":"NONE","merge_commit_sha":"abc","head":{"ref":"x","sha":"s","repo":null},"base":{"ref":"main","repo":{"full_name":"a/b"}}}}`)
	h := http.Header{"X-Github-Event": {"pull_request"}}
	g, err := normalise(forge.GitHub, h, body)
	if err != nil {
		t.Fatal(err)
	}
	if !g.PR.Fork || g.Action != "merge" || g.PR.State != "merged" || g.PR.AuthorTrust != "none" || g.PR.MergeSHA != "abc" {
		t.Errorf("got %+v with action %s", g.PR, g.Action)
	}
}

func sign(key, body string) []byte {
	m := hmac.New(sha256.New, []byte(key))
	m.Write([]byte(body))
	return m.Sum(nil)
}

func TestVerify(t *testing.T) {
	now := time.Unix(1_790_000_000, 0)
	body := `{"a":1}`
	stamp := strconv.FormatInt(now.Unix(), 10)
	old := strconv.FormatInt(now.Add(-6*time.Minute).Unix(), 10)
	value := func(s string) *secret.Value { v := secret.New(s); return &v }
	hexOf := func(key string) string { return hex.EncodeToString(sign(key, body)) }
	standard := func(stamp string) string {
		return "v1," + base64.StdEncoding.EncodeToString(sign("key", "id1."+stamp+"."+body))
	}
	whsec := "whsec_" + base64.StdEncoding.EncodeToString([]byte("key"))
	for name, c := range map[string]struct {
		forge   string
		header  map[string]string
		secrets forge.Secrets
		method  string // empty: refused
	}{
		"nothing asked":         {forge: forge.GitHub, method: "none"},
		"gitlab token":          {forge.GitLab, map[string]string{"X-Gitlab-Token": "t"}, forge.Secrets{Token: value("t")}, "token"},
		"gitlab wrong token":    {forge.GitLab, map[string]string{"X-Gitlab-Token": "u"}, forge.Secrets{Token: value("t")}, ""},
		"gitlab no token":       {forge.GitLab, nil, forge.Secrets{Token: value("t")}, ""},
		"gitlab empty secret":   {forge.GitLab, nil, forge.Secrets{Token: value("")}, ""},
		"github":                {forge.GitHub, map[string]string{"X-Hub-Signature-256": "sha256=" + hexOf("k")}, forge.Secrets{HMAC: value("k")}, "hmac-sha256"},
		"github wrong key":      {forge.GitHub, map[string]string{"X-Hub-Signature-256": "sha256=" + hexOf("l")}, forge.Secrets{HMAC: value("k")}, ""},
		"github sha1 only":      {forge.GitHub, map[string]string{"X-Hub-Signature": "sha1=00"}, forge.Secrets{HMAC: value("k")}, ""},
		"gitea":                 {forge.Gitea, map[string]string{"X-Gitea-Signature": hexOf("k")}, forge.Secrets{HMAC: value("k")}, "hmac-sha256"},
		"gitea empty secret":    {forge.Gitea, map[string]string{"X-Gitea-Signature": hexOf("")}, forge.Secrets{HMAC: value("")}, ""},
		"gitea empty signature": {forge.Gitea, map[string]string{"X-Hub-Signature-256": "sha256="}, forge.Secrets{HMAC: value("k")}, ""},
		"bitbucket":             {forge.Bitbucket, map[string]string{"X-Hub-Signature": "sha256=" + hexOf("k")}, forge.Secrets{HMAC: value("k")}, "hmac-sha256"},
		"bearer":                {"", map[string]string{"Authorization": "Bearer b"}, forge.Secrets{Bearer: value("b")}, "token"},
		"basic is not bearer":   {"", map[string]string{"Authorization": "Basic b"}, forge.Secrets{Bearer: value("b")}, ""},
		"own header in base64": {"", map[string]string{"X-Sum": base64.StdEncoding.EncodeToString(sign("k", body))},
			forge.Secrets{HMAC: value("k"), HMACHeader: "X-Sum"}, "hmac-sha256"},
		"standard": {forge.GitLab, map[string]string{"webhook-id": "id1", "webhook-timestamp": stamp, "webhook-signature": "v1,AAAA " + standard(stamp)},
			forge.Secrets{Signing: value(whsec)}, "standard-webhooks"},
		"standard too old": {forge.GitLab, map[string]string{"webhook-id": "id1", "webhook-timestamp": old, "webhook-signature": standard(old)},
			forge.Secrets{Signing: value(whsec)}, ""},
		"standard other time": {forge.GitLab, map[string]string{"webhook-id": "id1", "webhook-timestamp": stamp, "webhook-signature": standard(old)},
			forge.Secrets{Signing: value(whsec)}, ""},
		"token is not enough where signing is asked": {forge.GitLab, map[string]string{"X-Gitlab-Token": "t"},
			forge.Secrets{Token: value("t"), Signing: value(whsec)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := http.Header{}
			for k, v := range c.header {
				h.Set(k, v)
			}
			method, err := forge.Verify(c.forge, h, []byte(body), c.secrets, now)
			if method != c.method || (err == nil) != (c.method != "") {
				t.Errorf("got %q, %v; want %q", method, err, c.method)
			}
			if err != nil && !errors.Is(err, forge.ErrSignature) {
				t.Errorf("error %v is not ErrSignature", err)
			}
		})
	}
}

func TestDeliveryIDIsTheSameForARepetitionOnly(t *testing.T) {
	h := http.Header{}
	h.Set("X-Gitlab-Event-UUID", "chain")
	a := forge.DeliveryID(forge.GitLab, h, "https://g", []byte("1"))
	if b := forge.DeliveryID(forge.GitLab, h, "https://g", []byte("2")); a == b {
		t.Errorf("two events of one chain have the id %q", a)
	}
	if b := forge.DeliveryID(forge.GitLab, h, "https://g", []byte("1")); a != b {
		t.Errorf("a repetition has another id: %q, %q", a, b)
	}
}

// TestNormaliseInProportion gives long lists, each with nothing of the other: work that grows with the square of a
// delivery's length would take minutes here.
func TestNormaliseInProportion(t *testing.T) {
	const entries = 150_000
	var before, after, commits strings.Builder
	for i := range entries {
		fmt.Fprintf(&before, `{"title":"a%d"},`, i)
		fmt.Fprintf(&after, `{"title":"b%d"},`, i)
		fmt.Fprintf(&commits, `{"id":"%d","added":["%d"]},`, i, i)
	}
	list := func(b *strings.Builder) string { return "[" + strings.TrimSuffix(b.String(), ",") + "]" }
	for name, body := range map[string]string{
		"labels":  `{"object_kind":"merge_request","changes":{"labels":{"previous":` + list(&before) + `,"current":` + list(&after) + `}}}`,
		"commits": `{"object_kind":"push","ref":"refs/heads/a","commits":` + list(&commits) + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			g, err := normalise(forge.GitLab, http.Header{}, []byte(body))
			if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begin); took > 20*time.Second {
				t.Errorf("%d bytes took %s", len(body), took)
			}
			if name == "labels" && (len(g.PR.LabelsAdded) != entries || len(g.PR.LabelsRemoved) != entries) {
				t.Errorf("%d labels added, %d removed, want %d", len(g.PR.LabelsAdded), len(g.PR.LabelsRemoved), entries)
			}
		})
	}
}

// FuzzNormalise: run it with -fuzzminimizetime 100x. Go's fuzzer spends up to a minute on making each new input shorter,
// during which it executes nothing else and seems to be stuck.
func FuzzNormalise(f *testing.F) {
	for _, name := range []string{"push", "tag", "merge_request_update", "comment"} {
		f.Add("gitlab", "", gitlabBody(f, name))
	}
	f.Add("github", "pull_request", []byte(`{"pull_request":{"head":null}}`))
	f.Add("bitbucket", "repo:push", []byte(`{"push":{"changes":[{}]}}`))
	f.Add("bitbucketserver", "pr:opened", []byte(`{"pullRequest":{}}`))
	f.Fuzz(func(t *testing.T, host, name string, body []byte) {
		h := http.Header{"X-Github-Event": {name}, "X-Gitea-Event": {name}, "X-Event-Key": {name}}
		all, err := forge.Normalise(host, h, body)
		if (len(all) == 0) == (err == nil) || len(all) > forge.MaxChanges {
			t.Fatalf("got %v, %v", all, err)
		}
		for _, g := range all {
			if g.Kind == "" {
				t.Fatal("no kind")
			}
		}
	})
}
