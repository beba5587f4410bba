package validate

import (
	"slices"
	"strings"
	"testing"
)

// every has each variable of docs/variables.md of Argo where it belongs (reference 1.9).
const every = `apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: w, labels: {l: x}, annotations: {a: x}}
spec:
  entrypoint: main
  onExit: bye
  priority: 1
  serviceAccountName: robot
  arguments: {parameters: [{name: p, value: v}]}
  templates:
  - name: main
    inputs: {parameters: [{name: p}]}
    steps:
    - - {name: server, template: server}
      - {name: one, template: leaf, arguments: {parameters: [{name: p, value: "{{steps.name}} {{node.name}} {{inputs.parameters}} {{inputs.parameters.p}}"}]}}
      - {name: many, template: leaf, withItems: [{k: 1}], arguments: {parameters: [{name: p, value: "{{item}} {{item.k}} {{pod.name}} {{retries}}"}]}}
    - - name: use
        template: show
        when: "{{steps.one.status}} == Succeeded"
        arguments:
          parameters:
          - name: x
            value: >-
              {{steps.server.ip}} {{steps.one.id}} {{steps.one.exitCode}} {{steps.one.startedAt}} {{steps.one.finishedAt}} {{steps.one.hostNodeName}}
              {{steps.one.outputs.result}} {{steps.one.outputs.parameters.o}} {{steps.many.outputs.result}} {{steps.many.outputs.parameters}}
              {{steps.many.outputs.parameters.o}} {{workflow.outputs.parameters.g}}
          artifacts: [{name: f, from: "{{steps.one.outputs.artifacts.f}}"}]
      - {name: graph, template: graph, hooks: {running: {template: server, expression: steps.graph.status == "Running"}}}
  - name: graph
    dag:
      tasks:
      - {name: server, template: server}
      - {name: one, template: leaf, arguments: {parameters: [{name: p, value: "{{tasks.name}}"}]}}
      - {name: many, template: leaf, withParam: "[1]", arguments: {parameters: [{name: p, value: "{{item}}"}]}}
      - name: use
        template: show
        depends: server && one && many
        arguments:
          parameters:
          - name: x
            value: >-
              {{tasks.server.ip}} {{tasks.one.id}} {{tasks.one.status}} {{tasks.one.exitCode}} {{tasks.one.startedAt}} {{tasks.one.finishedAt}} {{tasks.one.hostNodeName}}
              {{tasks.one.outputs.result}} {{tasks.one.outputs.parameters.o}} {{tasks.many.outputs.result}} {{tasks.many.outputs.parameters}} {{tasks.many.outputs.parameters.o}}
          artifacts: [{name: f, from: "{{tasks.one.outputs.artifacts.f}}"}]
  - name: server
    daemon: true
    container: {image: i, command: [c]}
  - name: leaf
    retryStrategy: {limit: 1, expression: "lastRetry.exitCode != '2' && lastRetry.status == 'Failed' && asInt(lastRetry.duration) < 3 && lastRetry.message != ''"}
    inputs: {parameters: [{name: p}]}
    container:
      image: i
      command: [c]
      args:
      - "{{workflow.name}} {{workflow.namespace}} {{workflow.mainEntrypoint}} {{workflow.serviceAccountName}} {{workflow.uid}} {{workflow.priority}} {{workflow.duration}} {{workflow.scheduledTime}}"
      - "{{workflow.parameters}} {{workflow.parameters.json}} {{workflow.parameters.p}} {{workflow.labels.json}} {{workflow.labels.l}} {{workflow.annotations.json}} {{workflow.annotations.a}}"
      - "{{workflow.creationTimestamp}} {{workflow.creationTimestamp.RFC3339}} {{workflow.creationTimestamp.s}} {{workflow.creationTimestamp.Y}}"
      - "{{pod.name}} {{node.name}} {{retries}} {{lastRetry.exitCode}} {{lastRetry.status}} {{lastRetry.duration}} {{lastRetry.message}} {{outputs.parameters.o.path}} {{outputs.artifacts.f.path}}"
    outputs:
      parameters: [{name: o, globalName: g, valueFrom: {path: /o}}]
      artifacts: [{name: f, path: /f}]
  - name: show
    inputs: {parameters: [{name: x}], artifacts: [{name: f, path: /f}]}
    container: {image: i, command: [c], args: ["{{inputs.artifacts.f.path}} {{=inputs.parameters.x}}"]}
  - name: bye
    container: {image: i, command: [c], args: ["{{workflow.status}} {{workflow.failures}} {{workflow.duration}} {{workflow.outputs.parameters.g}}"]}
`

func TestEveryVariableIsKnownWhereItBelongs(t *testing.T) {
	if found := check(t, every, Options{}); len(found) > 0 {
		t.Error(strings.Join(found, "\n"))
	}
}

// A variable is not known where it does not belong, though it is somewhere else.
func TestVariablesHaveTheirPlaces(t *testing.T) {
	for _, c := range []struct{ in, by string }{
		{"{{steps.server.ip}}", "{{steps.use.id}}"},
		{"{{steps.server.ip}}", "{{tasks.server.ip}}"},
		{"{{steps.server.ip}}", "{{item.k}}"},
		{"{{tasks.server.ip}}", "{{steps.server.ip}}"},
		{"{{tasks.server.ip}}", "{{tasks.use.status}}"},
		{"{{tasks.server.ip}}", "{{tasks.one.ip}}"},
		{"{{inputs.artifacts.f.path}}", "{{outputs.artifacts.f.path}}"},
		{"{{inputs.artifacts.f.path}}", "{{inputs.parameters.p}}"},
		{"{{workflow.status}} {{workflow.failures}}", "{{workflow.parameters.q}}"},
		{"{{workflow.outputs.parameters.g}}\"]", "{{workflow.outputs.parameters.h}}\"]"},
		{"{{pod.name}} {{node.name}} {{retries}} {{lastRetry.exitCode}}", "{{outputs.parameters.q.path}}"},
	} {
		if !strings.Contains(every, c.in) {
			t.Fatal(c.in)
		}
		found := check(t, strings.Replace(every, c.in, c.by, 1), Options{})
		tag := strings.TrimSuffix(c.by, "\"]")
		if !slices.ContainsFunc(found, func(f string) bool {
			return strings.HasPrefix(f, "error ") && strings.Contains(f, "failed to resolve "+tag)
		}) {
			t.Errorf("%s is taken in place of %s: %v", c.by, c.in, found)
		}
	}
}
