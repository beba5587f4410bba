package workflow

import (
	"fmt"
	"net/textproto"
	"time"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow/expression"
)

// asks reports whether a leaf waits for an answer instead of a pod. Nobody but the engine watches over its deadline: a
// pod's is the executor's business, and that of the whole run has a timer of its own.
func (n *node) asks() bool { return n.pod != nil && (n.Type == NodeHTTP || n.pod.Asks) }

// request asks for the request of an http template.
func (t *turn) request(n *node, typed *manifest.Template, pod *podStart) {
	t.effect(Request{Node: n.ID, Attempt: pod.Attempt, HTTP: *typed.HTTP})
	t.watchDeadline(n, pod)
}

func (t *turn) watchDeadline(n *node, pod *podStart) {
	if run := t.s.deadline(); pod.Deadline != nil && (run == nil || pod.Deadline.Before(*run)) {
		t.effect(SetTimer{Key: "node/" + n.ID, At: *pod.Deadline})
	}
}

// Response is the answer to a [Request].
type Response struct {
	Status  int
	Headers map[string][]string
	Body    string
	// Error says that there was no answer, or none that could be read.
	Error string
	// StartedAt and FinishedAt frame the exchange, UTC.
	StartedAt, FinishedAt time.Time
}

// Answer says what an answer means to the node that asked, as the agent of Argo Workflows 4.1 does: the body is the
// result whatever the answer; without a successCondition an answer of 2xx is a success; no answer, and a condition
// that cannot be evaluated, are failures of the node and not errors.
func Answer(e Request, resp Response) executor.Report {
	r := executor.Report{
		ID: executor.ID{Node: e.Node, Attempt: e.Attempt}, Phase: executor.Failed, StartedAt: resp.StartedAt, FinishedAt: resp.FinishedAt,
	}
	if resp.Error != "" {
		r.Message = resp.Error
		return r
	}
	condition := e.HTTP.SuccessCondition
	if condition == "" {
		r.Result = &resp.Body
		if resp.Status >= 200 && resp.Status < 300 {
			r.Phase = executor.Succeeded
		} else {
			r.Message = fmt.Sprintf("received non-2xx response code: %d", resp.Status)
		}
		return r
	}
	o := expression.Options{Now: resp.FinishedAt, Seed: resp.FinishedAt.UnixNano()}
	good, err := expression.New().EvalBool(condition, responseScope(e.HTTP, resp), o)
	switch {
	case err != nil:
		r.Message = "successCondition: " + err.Error()
		return r
	case good:
		r.Phase = executor.Succeeded
	default:
		r.Message = fmt.Sprintf("successCondition '%s' evaluated false", condition)
	}
	r.Result = &resp.Body
	return r
}

// responseScope is what a successCondition can name (reference of variables, HTTP templates). Headers that come from
// a Secret are not among the request's.
func responseScope(h manifest.HTTPTemplate, resp Response) expression.Values {
	sent := headers{}
	for _, x := range h.Headers {
		if x.ValueFrom == nil {
			sent[x.Name] = []string{x.Value}
		}
	}
	body := []byte(h.Body)
	if h.BodyFrom != nil {
		body = h.BodyFrom.Bytes
	}
	return expression.Values{
		"request.method": h.Method, "request.url": h.URL, "request.body": h.Body, "request.bodyBytes": body, "request.headers": sent,
		"response.statusCode": resp.Status, "response.body": resp.Body, "response.headers": headers(resp.Headers),
	}
}

// headers are HTTP headers with the methods that conditions written for Argo call on them.
type headers map[string][]string

// Get gives the first value of a header; empty if there is none.
func (h headers) Get(name string) string { return textproto.MIMEHeader(h).Get(name) }

// Values gives all values of a header.
func (h headers) Values(name string) []string { return textproto.MIMEHeader(h).Values(name) }
