package trust

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/test/story"
)

// hub is GitHub as a sender of deliveries.
type hub struct {
	t *testing.T
	w *story.World
	n int
}

func (h *hub) send(kind, body string) {
	h.t.Helper()
	h.n++
	sum := hmac.New(sha256.New, []byte("of-the-hub"))
	sum.Write([]byte(body))
	code, out, err := h.w.Request(h.t.Context(), http.MethodPost, "", "/webhooks/default/hub/requests", map[string]string{
		"Content-Type": "application/json", "X-GitHub-Event": kind, "X-GitHub-Delivery": fmt.Sprint("d", h.n),
		"X-Hub-Signature-256": "sha256=" + hex.EncodeToString(sum.Sum(nil)),
	}, []byte(body))
	if err != nil || code != http.StatusOK {
		h.t.Fatalf("%d %s %v", code, out, err)
	}
}

// request is a pull request of a fork at a commit.
func (h *hub) request(action, sha string) {
	h.send("pull_request", fmt.Sprintf(`{"action":%q,"number":4,"repository":{"id":1,"full_name":"fleet/harbour","default_branch":"main"},"sender":{"login":"mallory"},
"pull_request":{"number":4,"title":"Free berths","state":"open","user":{"login":"mallory"},"author_association":"NONE","updated_at":%q,
"head":{"ref":"free","sha":%q,"repo":{"id":2,"full_name":"mallory/harbour"}},"base":{"ref":"main","sha":"%s","repo":{"id":1,"full_name":"fleet/harbour"}}}}`, action, h.clock(0), sha, strings.Repeat("0", 40)))
}

// clock is GitHub's: a minute passes from one delivery to the next.
func (h *hub) clock(ago time.Duration) string {
	return time.Date(2026, 1, 2, 3, h.n, 0, 0, time.UTC).Add(-ago).Format(time.RFC3339)
}

// comment is one on the pull request, which was written some time before it was delivered.
func (h *hub) comment(by, association, body string, ago time.Duration) {
	h.send("issue_comment", fmt.Sprintf(`{"action":"created","repository":{"id":1,"full_name":"fleet/harbour","default_branch":"main"},"sender":{"login":%[1]q},
"issue":{"number":4,"title":"Free berths","state":"open","user":{"login":"mallory"},"author_association":"NONE","pull_request":{"url":"x"}},
"comment":{"id":%[4]d,"body":%[3]q,"user":{"login":%[1]q},"author_association":%[2]q,"created_at":%[5]q}}`, by, association, body, h.n, h.clock(ago)))
}

// The pipeline of a stranger's merge request ran at once, and what somebody had approved once ran for every later commit.
func TestApprovalEndsWithItsCommit(t *testing.T) {
	w := server(t, granted("'*'"))
	apply(t, w, "hub.yaml", `apiVersion: argoproj.io/v1alpha1
kind: EventSource
metadata: {name: hub}
spec: {github: {requests: {webhook: {port: "12000", endpoint: /hub, method: POST}, webhookSecret: {name: hub, key: secret}, events: ["*"], repositories: [{owner: x, names: [y]}]}}}
---
{apiVersion: v1, kind: Secret, metadata: {name: hub}, stringData: {secret: of-the-hub}}
---
apiVersion: argoproj.io/v1alpha1
kind: Sensor
metadata: {name: hub}
spec:
  dependencies: [{name: request, eventSourceName: hub, eventName: requests, filters: {data: [{path: git.kind, type: string, value: ["^pull_request$"]}]}}]
  triggers:
  - template:
      name: main
      argoWorkflow:
        operation: submit
        source:
          resource: {apiVersion: argoproj.io/v1alpha1, kind: Workflow, metadata: {generateName: stranger-, annotations: {tiphys.dev/executor: container}}, spec: {entrypoint: main, suspend: true, templates: [{name: main, container: {image: x, command: [y]}}]}}
`)
	h := &hub{t: t, w: w}
	first, second := strings.Repeat("1", 40), strings.Repeat("2", 40)
	settled := func(what string, runs int, says string) {
		t.Helper()
		err := w.Within(t.Context(), 30*time.Second, what, func(ctx context.Context) error {
			var list struct {
				Items []ranRun `json:"items"`
			}
			if err := w.Get(ctx, "", "/api/v1/runs", &list); err != nil {
				return err
			}
			all, err := said(ctx, w)
			if err != nil || len(list.Items) != runs || !strings.Contains(all, says) {
				return fmt.Errorf("%d runs, %w: %s", len(list.Items), err, all)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	h.request("opened", first)
	settled("it waits", 0, "may not write to the repository: somebody who may has to approve commit 1111111111")
	h.comment("mallory", "NONE", "/ok-to-test", 0)
	h.comment("ada", "MEMBER", "looks fine", 0)
	h.request("edited", first)
	settled("a stranger's own word is none", 0, "by the comment /ok-to-test there")
	h.comment("ada", "MEMBER", "/ok-to-test", 0)
	settled("it runs", 1, "the comment approves commit "+first)
	h.request("synchronize", second)
	settled("a push waits anew", 1, "has to approve commit 2222222222")
	h.comment("ada", "MEMBER", "/ok-to-test", 90*time.Second)
	settled("what was pushed after the comment was written is not approved by it", 1, "the comment approves nothing: the commit that waits was pushed after it")
	var events struct {
		Items []struct {
			ID  string `json:"id"`
			Git struct {
				PR struct {
					HeadSHA string `json:"headSHA"`
				} `json:"pr"`
			} `json:"git"`
		} `json:"items"`
	}
	if err := w.Get(t.Context(), "", "/api/v1/events", &events); err != nil {
		t.Fatal(err)
	}
	for _, e := range events.Items {
		if e.Git.PR.HeadSHA != first {
			continue
		}
		if out, err := w.Tiphys(t.Context(), "approve", e.ID); err == nil || !strings.Contains(err.Error(), "has moved to commit 2222222222") {
			t.Fatalf("an old commit was approved: %s %v", out, err)
		}
	}
	for _, e := range events.Items {
		if e.Git.PR.HeadSHA == second {
			if out, err := w.Tiphys(t.Context(), "approve", e.ID); err != nil {
				t.Fatalf("%s %v", out, err)
			}
			break
		}
	}
	settled("the second commit runs", 2, "2222222222")
}
