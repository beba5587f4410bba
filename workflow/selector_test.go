package workflow_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/workflowtest"
)

const approvals = `
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: w}
spec:
  entrypoint: main
  templates:
  - name: main
    dag:
      tasks:
      - {name: a, templateRef: {name: lib, template: wait}, arguments: {parameters: [{name: who, value: ada}]}}
      - {name: b, templateRef: {name: lib, template: other}, arguments: {parameters: [{name: who, value: ben}]}}
      - {name: c, template: own}
  - name: own
    suspend: {}
---
apiVersion: argoproj.io/v1alpha1
kind: WorkflowTemplate
metadata: {name: lib}
spec:
  templates:
  - name: wait
    inputs: {parameters: [{name: who}]}
    suspend: {}
  - name: other
    inputs: {parameters: [{name: who}]}
    suspend: {}
`

// TestNodeFieldSelector: the fields and operators of Argo Workflows docs, node-field-selector.md.
func TestNodeFieldSelector(t *testing.T) {
	for selector, want := range map[string]string{
		"displayName=a":                                  "a",
		"displayName==a":                                 "a",
		"displayName!=a":                                 "b c",
		"name=w.b":                                       "b",
		"metadata.name=w.b":                              "b",
		"templateName=own":                               "c",
		"phase=Running":                                  "a b c",
		"type=Suspend, displayName = c":                  "c",
		"templateRef.name=lib":                           "a b",
		"templateRef.template=other":                     "b",
		"templateRef.name!=lib":                          "c",
		"inputs.parameters.who.value=ada":                "a",
		"inputs.parameters.who.value!=ada":               "b c",
		"templateRef.name=lib,inputs.parameters.x.value": "node selector \"inputs.parameters.x.value\": want field=value",
		"inputs.parameters.who=ada":                      "node selector: field \"inputs.parameters.who\" is not known",
		"displayName=z":                                  "resume: no suspended node matches \"displayName=z\"",
	} {
		w := &workflowtest.World{}
		wf, _, err := w.Load("w.yaml", []byte(approvals))
		if err != nil {
			t.Fatal(err)
		}
		r, err := w.Submit(wf, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = r.Until("all wait", func(*workflow.State) bool {
			c, ok := r.Node("c")
			return ok && c.Phase == workflow.Running
		})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		err = r.Control(workflow.Control{Verb: workflow.Resume, Nodes: selector})
		for _, name := range []string{"a", "b", "c"} {
			if n, _ := r.Node(name); n.Phase.Done() {
				got = append(got, name)
			}
		}
		if err != nil {
			got = []string{err.Error()}
		}
		if diff := cmp.Diff(want, strings.Join(got, " ")); diff != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %s", selector, diff)
		}
	}
}
