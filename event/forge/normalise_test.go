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
			g, err := forge.Normalise(forge.GitLab, http.Header{}, gitlabBody(t, name))
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
	push, err := forge.Normalise(forge.GitLab, http.Header{}, gitlabBody(t, "push"))
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
	g, err := forge.Normalise(forge.GitHub, h, body)
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
			g, err := forge.Normalise(forge.GitLab, http.Header{}, []byte(body))
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
		g, err := forge.Normalise(host, h, body)
		if (g == nil) == (err == nil) {
			t.Fatalf("got %v, %v", g, err)
		}
		if g != nil && g.Kind == "" {
			t.Fatal("no kind")
		}
	})
}
