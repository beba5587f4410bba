package workflow_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tiphys/tiphys/executor/local"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/workflowtest"
)

const cronLimited = `apiVersion: argoproj.io/v1alpha1
kind: CronWorkflow
metadata: {name: w}
spec:
  successfulJobsHistoryLimit: 3
  schedules: ["* * * * *"]
  workflowSpec:
    entrypoint: main
    hostNetwork: true
    nodeSelector: {a: b}
    archiveLogs: false
    templates:
    - name: main
      nodeSelector: {a: b}
      steps:
      - - name: one
          inline:
            nodeSelector: {a: b}
            inputs:
              artifacts:
              - {name: in, path: /in, s3: {bucket: b, key: k}}
            container: {image: i, readinessProbe: {tcpSocket: {port: 80}}}
      - name: two
        template: other
    - name: other
      resource: {action: get, manifest: x}
      outputs: {parameters: [{name: p, valueFrom: {jqFilter: .}}]}
`

// TestCheck: what is refused and what has no effect have their place (docs/compatibility.md has the lists); a field that
// has no effect is said once, and "false" says nothing.
func TestCheck(t *testing.T) {
	objects, diagnostics := manifest.Decode("w.yaml", []byte(cronLimited))
	if err := manifest.FirstError(diagnostics); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range workflow.Check(objects[0], local.Fields()) {
		got = append(got, string(d.Severity)+" "+d.Error())
	}
	const listed = " has no effect on this machine (docs/compatibility.md lists what has)"
	want := []string{
		"warning w.yaml:5:31: spec.successfulJobsHistoryLimit" + listed,
		"warning w.yaml:10:19: spec.workflowSpec.nodeSelector" + listed,
		"warning w.yaml:14:21: spec.workflowSpec.templates[0].nodeSelector" + listed,
		"warning w.yaml:22:51: spec.workflowSpec.templates[0].steps[0][0].inline.container.readinessProbe" + listed,
		"error w.yaml:21:52: there is no driver for an s3 store of one's own: bucket cannot be used (use s3 with only a key, which is the built-in store)",
		"error w.yaml:27:62: jqFilter belongs to resource templates, which need Kubernetes (write the value to a file and take it with valueFrom.path)",
		"error w.yaml:26:17: needs Kubernetes: a resource template cannot run on this machine (use a container or script template)",
	}
	sortLines := cmp.Transformer("set", func(l []string) map[string]bool {
		m := map[string]bool{}
		for _, s := range l {
			m[s] = true
		}
		return m
	})
	if diff := cmp.Diff(want, got, sortLines); diff != "" || len(got) != len(want) {
		t.Errorf("%s\n%s", diff, strings.Join(got, "\n"))
	}
}

// TestPodFieldsHaveEffect: what the page lists as working comes to the executor and is not called without effect.
func TestPodFieldsHaveEffect(t *testing.T) {
	const text = `apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: w}
spec:
  entrypoint: main
  hostNetwork: true
  dnsPolicy: None
  dnsConfig: {nameservers: [10.1.2.3]}
  imagePullSecrets: [{name: s}]
  hostAliases: [{ip: 10.0.0.9, hostnames: [a]}]
  securityContext: {runAsUser: 7}
  serviceAccountName: argo
  templates:
  - name: main
    hostAliases: [{ip: 10.0.0.8, hostnames: [b]}]
    container: {image: i}
`
	w := &workflowtest.World{}
	var got executor.Pod
	w.Outcome = func(_ workflow.Node, p executor.Pod) workflowtest.Outcome { got = p; return workflowtest.Outcome{} }
	wf, _, err := w.Load("w.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	r, err := w.Submit(wf, func(c *workflow.Submit) { c.Platform = local.Fields() })
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Finish(); err != nil {
		t.Fatal(err)
	}
	s := got.Pod.Spec
	if !s.HostNetwork || s.DNSPolicy != "None" || s.DNSConfig.Nameservers[0] != "10.1.2.3" || s.ImagePullSecrets[0].Name != "s" ||
		len(s.HostAliases) != 2 || *s.SecurityContext.RunAsUser != 7 {
		t.Errorf("the pod is %+v", s)
	}
	want := []workflow.Condition{{Type: "NoEffect", Status: "True", Message: "spec.serviceAccountName has no effect on this machine"}}
	if diff := cmp.Diff(want, r.State.Run().Conditions); diff != "" {
		t.Error(diff)
	}
}

// TestRefusedAtSubmission: the engine refuses the same as lint does, with the place of what stands around the field
// where it knows no better.
func TestRefusedAtSubmission(t *testing.T) {
	text := strings.Replace(cronLimited[:strings.Index(cronLimited, "    hostNetwork")], "CronWorkflow", "Workflow", 1)
	text = strings.Replace(text, "  workflowSpec:\n    entrypoint: main\n", "  entrypoint: main\n  templates:\n  - name: main\n    data: {source: {artifactPaths: {git: {repo: x}}}}\n", 1)
	text = strings.Replace(text, "  successfulJobsHistoryLimit: 3\n  schedules: [\"* * * * *\"]\n", "", 1)
	w := &workflowtest.World{}
	wf, positions, err := w.Load("w.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Submit(wf, func(c *workflow.Submit) { c.Positions = positions })
	const want = "w.yaml:7:5: data.source.artifactPaths: only a folder of the built-in store can be listed: give it s3 with a key and nothing else"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// What a run shows of its manifest's warnings is bounded, in number and in size.
func TestWarningsAreBounded(t *testing.T) {
	w := &workflowtest.World{}
	wf, _, err := w.Load("wf.yaml", []byte("apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nmetadata: {name: w}\nspec: {entrypoint: main, templates: [{name: main, container: {image: i}}]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := w.Submit(wf, func(c *workflow.Submit) {
		for range 300 {
			c.Warnings = append(c.Warnings, manifest.Diagnostic{Severity: manifest.SeverityWarning, Message: strings.Repeat("é", 10_000)})
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	conditions := r.State.Run().Conditions
	if len(conditions) != 21 || conditions[20].Message != "there are 280 more warnings: tiphys lint shows all" {
		t.Errorf("%d conditions, the last %v", len(conditions), conditions[len(conditions)-1])
	}
	for _, c := range conditions {
		if len(c.Message) > 1010 || !utf8.ValidString(c.Message) || c.Type != "SpecWarning" {
			t.Errorf("a condition of %d bytes, type %s", len(c.Message), c.Type)
		}
	}
}
