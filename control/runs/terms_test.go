package runs_test

import (
	"context"
	"strings"
	"testing"

	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/executor/scripted"
	"github.com/tiphys/tiphys/manifest"
)

// submission reads a manifest.
func submission(t *testing.T, text string) runs.Submission {
	t.Helper()
	objects, diags := manifest.Decode("w.yaml", []byte(text))
	if manifest.Failed(diags) || len(objects) != 1 {
		t.Fatal(diags)
	}
	return runs.Submission{Object: objects[0], Actor: "user:ada"}
}

func judged(t *testing.T) *dock {
	t.Helper()
	d := newDock(t, t.TempDir(), scripted.Options{})
	t.Cleanup(d.close)
	d.reopen(func(o *runs.Options) { o.Validator = runs.Manifests{Objects: o.Objects} })
	return d
}

// What a submission adds is part of the object that is run, so its manifest can name it: the labels of `argo submit -l` and of a
// CronWorkflow's workflowMetadata, and parameters that are only given (ApplySubmitOpts in workflow/util/util.go and
// ConvertCronWorkflowToWorkflow in workflow/common/convert.go of Argo).
func TestAManifestNamesWhatItsSubmissionAdds(t *testing.T) {
	d := judged(t)
	s := submission(t, `
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: named}
spec:
  entrypoint: main
  templates:
  - name: main
    container: {image: i, command: [echo], args: ["{{workflow.labels.stage}} {{workflow.annotations.why}} {{workflow.parameters.colour}}"]}
`)
	s.Labels, s.Annotations, s.Parameters = map[string]string{"stage": "canary"}, map[string]string{"why": "try"}, map[string]string{"colour": "blue"}
	if _, err := d.runs.Submit(context.Background(), s); err != nil {
		t.Error(err)
	}
	s.Labels, s.Name = nil, "unnamed"
	if _, err := d.runs.Submit(context.Background(), s); err == nil || !strings.Contains(err.Error(), "{{workflow.labels.stage}}") {
		t.Errorf("a label that nobody gave: %v", err)
	}
}

// A misspelt field does not keep a run from running, and the run says it (SpecWarning is Argo's type of such conditions).
func TestARunShowsWhatItsManifestWasWarnedOf(t *testing.T) {
	d := judged(t)
	run, err := d.runs.Submit(context.Background(), submission(t, `
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: misspelt}
spec:
  entrypoint: main
  templates:
  - name: main
    container: {image: i, command: [echo], workingDirectory: /tmp}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := `w.yaml:9:44: unknown field "spec.templates[0].container.workingDirectory"`
	for _, c := range run.Conditions {
		if c.Type == "SpecWarning" && strings.HasPrefix(c.Message, want) {
			return
		}
	}
	t.Errorf("no condition %s in %v", want, run.Conditions)
}
