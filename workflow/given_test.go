package workflow_test

import (
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiphys/tiphys/budget"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/sensor"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/workflowtest"
)

// hostile draws a value of which much looks like code.
func hostile(t *rapid.T) string {
	pieces := rapid.SliceOfN(rapid.OneOf(
		rapid.SampledFrom([]string{
			"{{workflow.uid}}", "{{=1+1}}", "{{", "}}", "{", "{{inputs.parameters.v}}", "{{workflow.parameters.v}}", "{{=", "{{item}}", "{{ workflow.name }}",
			`"`, "'", `\`, "\n", "`", " ", "$", "{{steps.a.outputs.result}}", "{{nothing.known}}", "}}{{", "true", "1", "null", "é", "{{retries}}",
		}), rapid.StringN(0, 5, -1)), 1, 6).Draw(t, "pieces")
	return strings.Join(pieces, "")
}

// echoes is a workflow whose step "last" gets the value v in its environment; way says by which tag it is handed on.
func echoes(t *testing.T, spec tree, way string) tree {
	t.Helper()
	base := tree{
		"entrypoint": "main",
		"templates": []any{
			tree{"name": "main", "steps": []any{
				[]any{tree{"name": "a", "template": "make"}},
				[]any{tree{"name": "b", "template": "middle", "arguments": tree{"parameters": []any{tree{"name": "v", "value": way}}}}},
			}},
			tree{"name": "middle", "inputs": tree{"parameters": []any{tree{"name": "v"}}}, "dag": tree{"tasks": []any{
				tree{"name": "last", "template": "echo", "arguments": tree{"parameters": []any{tree{"name": "v", "value": "{{inputs.parameters.v}}"}}}},
			}}},
			tree{"name": "echo", "inputs": tree{"parameters": []any{tree{"name": "v"}}}, "container": tree{
				"image": "i", "command": []any{"c"}, "args": []any{"-{{inputs.parameters.v}}-"},
				"env": []any{tree{"name": "V", "value": "{{inputs.parameters.v}}"}},
			}},
			tree{"name": "make", "container": tree{"image": "i", "command": []any{"c"}}, "outputs": tree{"parameters": []any{
				tree{"name": "p", "globalName": "g", "valueFrom": tree{"path": "/p", "default": ""}},
			}}},
		},
	}
	for k, v := range spec {
		base[k] = v
	}
	return tree{"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": tree{"name": "given"}, "spec": base}
}

// received plays a run and gives what its step "echo" found in its environment.
func received(t *rapid.T, wf tree, v string, edit func(*workflow.Submit)) (string, []string) {
	raw, err := json.Marshal(wf)
	if err != nil {
		t.Fatal(err)
	}
	var got *executor.Pod
	w := &workflowtest.World{
		Objects: map[workflow.Ref]json.RawMessage{{Kind: "ConfigMap", Namespace: "default", Name: "cm"}: mustJSON(t, tree{
			"apiVersion": "v1", "kind": "ConfigMap",
			"metadata": tree{"name": "cm", "labels": tree{"workflows.argoproj.io/configmap-type": "Parameter"}}, "data": tree{"k": v},
		})},
		Outcome: func(n workflow.Node, p executor.Pod) workflowtest.Outcome {
			if n.TemplateName == "echo" {
				got = &p
			}
			return workflowtest.Outcome{Result: v, Parameters: map[string]string{"p": v}}
		},
	}
	r, err := w.Submit(raw, edit)
	if err == nil {
		err = r.Finish()
	}
	if err != nil {
		t.Fatalf("%q: %v", v, err)
	}
	if got == nil {
		t.Fatalf("%q: the step did not run: %s %s", v, r.State.Run().Phase, r.State.Run().Message)
	}
	c := got.Pod.Spec.Containers[0]
	for _, e := range c.Env {
		if e.Name == "V" {
			return e.Value, c.Args
		}
	}
	t.Fatalf("the step has no V: %v", c.Env)
	return "", nil
}

func mustJSON(t *rapid.T, v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Whatever looks like a tag in a value that comes from outside of the manifest: the step gets the same bytes. (Argo's
// template.Replace goes over what it has put in, see CVE-2021-37914 and its kin.)
func TestDataIsNeverCode(t *testing.T) {
	argument := func(value any) tree {
		return tree{"arguments": tree{"parameters": []any{tree{"name": "v", "value": value}}}}
	}
	ways := map[string]struct {
		spec tree
		way  string
		edit func(string) func(*workflow.Submit)
	}{
		"a parameter of the submission": {argument("old"), "{{workflow.parameters.v}}", func(v string) func(*workflow.Submit) {
			return func(c *workflow.Submit) { c.Parameters = map[string]string{"v": v} }
		}},
		"a label of the submission": {nil, "{{workflow.labels.l}}", func(v string) func(*workflow.Submit) {
			return func(c *workflow.Submit) { c.Labels = map[string]string{"l": v} }
		}},
		"an annotation of the submission": {nil, "{{workflow.annotations.l}}", func(v string) func(*workflow.Submit) {
			return func(c *workflow.Submit) { c.Annotations = map[string]string{"l": v} }
		}},
		"a result":                  {nil, "{{steps.a.outputs.result}}", nil},
		"an output parameter":       {nil, "{{steps.a.outputs.parameters.p}}", nil},
		"a global output parameter": {nil, "{{workflow.outputs.parameters.g}}", nil},
		"a result by an expression": {nil, "{{=steps.a.outputs.result}}", nil},
		"a ConfigMap":               {tree{"arguments": tree{"parameters": []any{tree{"name": "v", "valueFrom": tree{"configMapKeyRef": tree{"name": "cm", "key": "k"}}}}}}, "{{workflow.parameters.v}}", nil},
		"a parameter of a parameter": {tree{"arguments": tree{"parameters": []any{tree{"name": "u", "value": "old"}, tree{"name": "v", "value": "{{workflow.parameters.u}}"}}}}, "{{workflow.parameters.v}}", func(v string) func(*workflow.Submit) {
			return func(c *workflow.Submit) { c.Parameters = map[string]string{"u": v} }
		}},
	}
	for name, c := range ways {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				v := hostile(rt)
				var edit func(*workflow.Submit)
				if c.edit != nil {
					edit = c.edit(v)
				}
				got, args := received(rt, echoes(t, c.spec, c.way), v, edit)
				if got != v || args[0] != "-"+v+"-" {
					rt.Errorf("%q arrived as %q and %q", v, got, args)
				}
			})
		})
	}
}

// The same for what a sensor puts into a Workflow, wherever it puts it.
func TestDataOfAnEventIsNeverCode(t *testing.T) {
	for name, c := range map[string]struct{ dest, operation, way, before, after string }{
		"an argument":                     {"spec.arguments.parameters.0.value", "", "{{workflow.parameters.v}}", "", ""},
		"a new argument":                  {"spec.arguments.parameters.-1", "", "", "", ""},
		"the end of an argument":          {"spec.arguments.parameters.0.value", "append", "{{workflow.parameters.v}}", "given-", ""},
		"the beginning of an argument":    {"spec.arguments.parameters.0.value", "prepend", "{{workflow.parameters.v}}", "", "given-"},
		"a template":                      {"spec.templates.0.steps.1.0.arguments.parameters.0.value", "", "x", "", ""},
		"the end of a text in a template": {"spec.templates.0.steps.1.0.arguments.parameters.0.value", "append", "{{workflow.name}}-", "given-", ""},
		"a label":                         {"metadata.labels.l", "", "{{workflow.labels.l}}", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				v := hostile(rt)
				p := manifest.TriggerParameter{Src: &manifest.ParameterSource{DependencyName: "d", DataKey: "body.v"}, Dest: c.dest, Operation: c.operation}
				way, data := c.way, any(v)
				if way == "" { // a whole object
					p.Src.UseRawData, way, data = true, "{{workflow.parameters.w}}", tree{"name": "w", "value": v}
				}
				wf := echoes(t, tree{"arguments": tree{"parameters": []any{tree{"name": "v", "value": "{{workflow.name}}-"}}}}, way)
				events := map[string]event.Event{"d": {ID: "e", Data: mustJSON(rt, tree{"body": tree{"v": data}})}}
				raw, given, err := sensor.ApplyParameters(budget.New(), mustJSON(rt, wf), []manifest.TriggerParameter{p}, events)
				if err != nil {
					rt.Fatal(err)
				}
				var applied tree
				if err := json.Unmarshal(raw, &applied); err != nil {
					rt.Fatal(err)
				}
				got, _ := received(rt, applied, v, func(s *workflow.Submit) { s.Given = given })
				want := v
				switch c.operation {
				case "append":
					want = c.before + v
				case "prepend":
					want = v + c.after
				}
				if got != want {
					rt.Errorf("%q arrived as %q, want %q (%v)", v, got, want, given)
				}
			})
		})
	}
}

// A mark that leads nowhere is refused, and ends nothing.
func TestMarksThatDoNotFit(t *testing.T) {
	wf, err := json.Marshal(echoes(t, nil, "x"))
	if err != nil {
		t.Fatal(err)
	}
	for name, g := range map[string]manifest.Given{
		"no path":     {},
		"no field":    {Path: []string{"spec", "nothing", "x"}, To: 1},
		"no item":     {Path: []string{"spec", "templates", "99"}},
		"no text":     {Path: []string{"spec", "templates"}},
		"beyond text": {Path: []string{"spec", "entrypoint"}, To: 99},
	} {
		if _, err := (&workflowtest.World{}).Submit(wf, func(s *workflow.Submit) { s.Given = []manifest.Given{g} }); err == nil {
			t.Errorf("%s: it was taken", name)
		}
	}
}
