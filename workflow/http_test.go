package workflow_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow"
)

// TestAnswer follows the agent of Argo Workflows (executor/agent.go) and the list of variables that a successCondition
// can name (docs/variables.md, "HTTP Templates"): 2xx is the default; the body is the result in either case; what
// cannot be asked or evaluated fails the node.
func TestAnswer(t *testing.T) {
	body := "ok"
	secret := &manifest.HTTPHeaderSource{}
	request := manifest.HTTPTemplate{
		Method: "POST", URL: "http://a.test/x", Body: "sent",
		Headers: []manifest.HTTPHeader{{Name: "X-One", Value: "1"}, {Name: "X-Secret", ValueFrom: secret}},
	}
	failed := func(result *string, message string) executor.Report {
		return executor.Report{Phase: executor.Failed, Result: result, Message: message}
	}
	good := executor.Report{Phase: executor.Succeeded, Result: &body}
	for _, c := range []struct {
		name, condition string
		status          int
		fault           string
		want            executor.Report
	}{
		{"2xx", "", 204, "", good},
		{"3xx is not a success", "", 304, "", failed(&body, "received non-2xx response code: 304")},
		{"4xx", "", 404, "", failed(&body, "received non-2xx response code: 404")},
		{"no answer", "", 0, "connection refused", failed(nil, "connection refused")},
		{"no answer, condition", "true", 0, "connection refused", failed(nil, "connection refused")},
		{"a condition makes a 404 good", "response.statusCode == 404", 404, "", good},
		{"a condition makes a 200 bad", `response.body contains "no"`, 200, "", failed(&body, `successCondition 'response.body contains "no"' evaluated false`)},
		{"response headers", `response.headers["X-Left"][0] == "5" && response.headers.Get("x-left") == "5"`, 200, "", good},
		{"request", `request.method == "POST" && request.url == "http://a.test/x" && request.body == "sent"`, 200, "", good},
		{"request body as bytes", `len(request.bodyBytes) == 4`, 200, "", good},
		{"request headers", `request.headers["X-One"][0] == "1"`, 200, "", good},
		{"secrets are not shown", `"X-Secret" in request.headers`, 200, "", failed(&body, `successCondition '"X-Secret" in request.headers' evaluated false`)},
		{"functions", `asInt("1") + 199 == response.statusCode && sprig.trim(" a ") == "a"`, 200, "", good},
		{"not a boolean", `response.statusCode`, 200, "", failed(nil, `successCondition: evaluate "response.statusCode": want true or false, got int 200`)},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := workflow.Request{Node: "n", Attempt: 1, HTTP: request}
			e.HTTP.SuccessCondition = c.condition
			c.want.ID = executor.ID{Node: "n", Attempt: 1}
			got := workflow.Answer(e, workflow.Response{
				Status: c.status, Headers: map[string][]string{"X-Left": {"5"}}, Body: body, Error: c.fault,
				FinishedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
			})
			got.FinishedAt = time.Time{}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
