package manifest

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"
)

func one(t *testing.T, text string) Object {
	t.Helper()
	objects, diagnostics := Decode("wf.yaml", []byte(text))
	if Failed(diagnostics) || len(objects) != 1 {
		t.Fatalf("got %d objects, %v", len(objects), diagnostics)
	}
	return objects[0]
}

const hello = `apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {generateName: hello-, namespace: ci}
spec:
  entrypoint: main
  templates:
  - name: main
    steps:
    - - {name: a, template: leaf, withItems: [1.10, "x", {k: v}, [1, 2]]}
    - {name: b, template: leaf}
  - name: leaf
    daemon: yes
    activeDeadlineSeconds: "{{inputs.parameters.t}}"
    container:
      image: alpine
      command: [sh, -c]
      args: ["echo {{inputs.parameters.text}}"]
      ports: "{{inputs.parameters.ports}}"
      resources: {limits: {memory: "{{inputs.parameters.mem}}", cpu: 2}}
    inputs:
      parameters:
      - {name: t, value: 0123}
      - {name: v, value: 1.10}
      - {name: on, value: yes}
      - {name: b, value: true}
      - {name: map, value: {a: 1}}
      artifacts:
      - {name: g, path: /g, mode: 0644, gcs: {bucket: b, key: k}}
`

func TestDecodeWorkflow(t *testing.T) {
	o := one(t, hello)
	if o.GenerateName != "hello-" || o.Namespace != "ci" || o.Kind != "Workflow" {
		t.Errorf("envelope: %+v", o)
	}
	var wf Workflow
	if d := o.Into(&wf); len(d) > 0 {
		t.Fatal(d)
	}
	main, leaf := wf.Spec.Templates[0], wf.Spec.Templates[1]
	want := WithItems{json.Number("1.10"), "x", map[string]any{"k": "v"}, []any{json.Number("1"), json.Number("2")}}
	if diff := cmp.Diff(want, main.Steps[0][0].WithItems); diff != "" {
		t.Error(diff)
	}
	if len(main.Steps) != 2 || main.Steps[1][0].Name != "b" {
		t.Errorf("a single step is not a group: %+v", main.Steps)
	}
	if !*leaf.Daemon || leaf.ActiveDeadlineSeconds.Text() != "{{inputs.parameters.t}}" {
		t.Errorf("leaf: %+v", leaf)
	}
	if cpu := leaf.Container.Resources.Limits[corev1.ResourceCPU]; cpu.Value() != 2 {
		t.Errorf("cpu: %v", cpu)
	}
	var values []string
	for _, p := range leaf.Inputs.Parameters {
		values = append(values, p.Value.Text())
	}
	if diff := cmp.Diff([]string{"83", "1.10", "yes", "true", `{"a":1}`}, values); diff != "" {
		t.Error(diff)
	}
	artifact := leaf.Inputs.Artifacts[0]
	if *artifact.Mode != 0o644 || artifact.GCS.Fields["bucket"] != "b" {
		t.Errorf("artifact: %+v", artifact)
	}
	if leaf.Tree.Lookup("container.ports").Text() != "{{inputs.parameters.ports}}" {
		t.Error("the template does not keep its tree")
	}
}

// The fields that hold tags are typed once the tags are replaced.
func TestDecodeAfterSubstitution(t *testing.T) {
	raw := `{"name":"x","container":{"image":"i","ports":[{"containerPort":"80"}],"args":"[\"a\",\"b\"]","tty":"true"},
		"daemon":"false","priority":"7","nodeSelector":{"n":4}}`
	tpl, err := DecodeTemplate([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	if tpl.Container.Ports[0].ContainerPort != 80 || !tpl.Container.TTY || *tpl.Daemon || *tpl.Priority != 7 ||
		tpl.NodeSelector["n"] != "4" || !cmp.Equal(tpl.Container.Args, []string{"a", "b"}) {
		t.Errorf("got %+v", tpl)
	}
	if _, err := DecodeTemplate([]byte(`{"container":{"image":"i","tty":"{{x}}"}}`)); err == nil {
		t.Error("a tag that is left in a boolean is accepted")
	}
}

func TestDecodeDiagnostics(t *testing.T) {
	const head = "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\n"
	for _, c := range []struct{ name, text, want string }{
		// Argo's words for the schema error: conformance case malformed-workflow.
		{"list", head + "spec:\n  arguments:\n    parameters:\n      name: x\n", `wf.yaml:6:7: .spec.arguments.parameters: expected list, got map`},
		{"number for string", head + "spec: {entrypoint: 1}\n", `wf.yaml:3:20: .spec.entrypoint: expected string, got number "1" (put it in quotes)`},
		{"text for boolean", head + "spec: {suspend: 'true'}\n", `wf.yaml:3:17: .spec.suspend: expected boolean, got string "true"`},
		{"case", head + "spec: {entryPoint: x}\n", `wf.yaml:3:8: unknown field "spec.entryPoint" (it is read as "entrypoint")`},
		{"quantity", head + "spec:\n  templates:\n  - name: a\n    container: {resources: {limits: {cpu: many}}}\n",
			`wf.yaml:6:43: .spec.templates[0].container.resources.limits.cpu: "many" is not valid: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'`},
		{"duplicate", head + "spec: {entrypoint: a, entrypoint: b}\n", `wf.yaml:3:23: key "entrypoint" is already set in line 3`},
		{"syntax", head + "spec: [\n", `wf.yaml:3:1: read yaml: did not find expected node content`},
		{"no kind", "apiVersion: v1\n", `wf.yaml:1:1: kind is required`},
		{"scalar", "hello\n", `wf.yaml:1:1: a manifest must be a map with apiVersion and kind, got a string`},
		{"second document", head + "---\n" + head + "spec: {suspend: 3}\n", `wf.yaml:6:17: .spec.suspend: expected boolean, got number "3"`},
		{"json", `{"apiVersion":"v1","kind":"Workflow","spec":{"suspend": "x"}}`, `wf.yaml:1:57: .spec.suspend: expected boolean, got string "x"`},
		{"duplicate in json", `{"kind":"a",` + "\n" + `"kind":"b"}`, `wf.yaml:2:1: key "kind" is already set in line 1`},
		{"depth", head + "spec: " + strings.Repeat("[", 200) + strings.Repeat("]", 200), `wf.yaml:3:106: manifest is nested more than 100 levels deep`},
		{"alias cycle", head + "spec: &a [*a]\n", `wf.yaml:3:11: manifest is nested more than 100 levels deep`},
	} {
		t.Run(c.name, func(t *testing.T) {
			objects, diagnostics := Decode("wf.yaml", []byte(c.text))
			for _, o := range objects {
				diagnostics = append(diagnostics, o.Into(&Workflow{})...)
			}
			if len(diagnostics) != 1 || diagnostics[0].Error() != c.want {
				t.Errorf("got  %v\nwant %s", diagnostics, c.want)
			}
		})
	}
}

func TestStrictMakesUnknownFieldsErrors(t *testing.T) {
	o := one(t, "apiVersion: v1\nkind: Workflow\nspec: {foo: 1, containerRuntimeExecutor: pns}\n")
	diagnostics := o.IntoWith(&Workflow{}, DecodeOptions{Strict: true})
	if len(diagnostics) != 2 || diagnostics[0].Severity != SeverityError || diagnostics[1].Severity != SeverityWarning {
		t.Errorf("got %v", diagnostics)
	}
}

func TestBombIsRefusedQuickly(t *testing.T) {
	var b strings.Builder
	b.WriteString("apiVersion: v1\nkind: x\na0: &a0 [x,x,x,x,x,x,x,x,x,x]\n")
	for i := 1; i < 30; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 10), ","))
	}
	start := time.Now()
	_, diagnostics := Decode("bomb.yaml", []byte(b.String()))
	if !Failed(diagnostics) || !strings.Contains(diagnostics[0].Message, "aliases") {
		t.Errorf("got %v", diagnostics)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	_, diagnostics = Decode("big.yaml", make([]byte, 5<<20))
	if !Failed(diagnostics) || !strings.Contains(diagnostics[0].Message, "more than the 4194304 allowed") {
		t.Errorf("got %v", diagnostics)
	}
}

// What costs much to read is small to write: each of these has less than 4 MiB. One that is read in a time that grows with the
// square of its size takes minutes here, and the test ends by its deadline.
func TestLargeFiles(t *testing.T) {
	fill := func(text string) string { return strings.Repeat(text, (4<<20-4096)/len(text)) }
	var keys, chain strings.Builder
	for i := range 150_000 {
		fmt.Fprintf(&keys, "  k%d: 1\n", i)
	}
	for i := range 60_000 {
		fmt.Fprintf(&chain, "a%d: &a%d {<<: *a%d, k%d: 1}\n", i+1, i+1, i, i)
	}
	for name, c := range map[string]struct{ text, want string }{
		"keys of metadata twice": {"apiVersion: v1\nkind: x\nmetadata:\n" + keys.String() + keys.String(), "is already set"},
		"merged again and again": {"a: &a {b: 1}\nc:\n" + fill("  <<: *a\n"), "aliases"},
		"a list of merges":       {"a: &a {b: 1}\nc:\n  <<: [" + fill("*a, ") + "*a]\n", "aliases"},
		"merges in a list":       {"a: &a {b: 1}\nc: [" + fill("{<<: *a},") + "]\n", "aliases"},
		"merges of merges":       {"a0: &a0 {k: 1}\n" + chain.String(), "nested more than"},
		"very many documents":    {fill("---\na: 1\n"), "is required"},
		"a merge of no map":      {"c:\n" + fill("  <<: 1\n"), "wants a map"},
		"lists in each other":    {"a: " + fill("[") + "\n", ""},
		"maps in each other":     {"a: " + fill("{a: ") + "\n", ""},
		"blocks in each other":   {nested("a:", 2500), ""},
		"lists in blocks":        {"a:\n" + fill("- ") + "1\n", ""},
		"JSON in each other":     {`{"a":` + fill("[") + "1", ""},
		"JSON objects":           {fill(`{"a":`) + "1", ""},
		"a number without end":   {"apiVersion: v1\nkind: x\nn: " + fill("9") + "\n", ""},
		"an exponent":            {"apiVersion: v1\nkind: x\nn: 1e999999999\nm: 0x" + fill("f") + "\n", ""},
		"many huge numbers":      {"apiVersion: v1\nkind: x\nn: [" + fill("1e999999,") + "1]\n", ""},
		"digits parted":          {"apiVersion: v1\nkind: x\nn: " + fill("9_") + "9\n", ""},
		"a key without end":      {fill("k") + ": 1\n", ""},
		"a key asked for":        {"? " + fill("k") + "\n: 1\n", ""},
		"keys asked for":         {fill("? "), ""},
		"long keys":              {fill(strings.Repeat("k", 1000) + "? : 1\n"), ""},
		"tags":                   {"a: " + fill("!!str "), ""},
		"anchors":                {"a: " + fill("&a "), ""},
		"names of anchors":       {"a: &" + fill("a") + " 1\n", ""},
		"directives":             {fill("%TAG !a! tag:a,2000:\n") + "---\na: 1\n", ""},
		"colons":                 {fill("a: "), ""},
		"colons without space":   {"a: " + fill(":a") + "\n", ""},
		"quotes":                 {"a: " + fill(`"" `), ""},
		"escapes":                {"a: \"" + fill(`\U0001F600`) + "\"\n", ""},
		"folded":                 {"a: >\n" + fill("  a\n\n"), ""},
		"comments":               {fill("#\n") + "a: 1\n", ""},
		"comments of values":     {fill("a: # b\n# c\n"), ""},
		"commas":                 {"a: [" + fill(","), ""},
		"times":                  {"apiVersion: v1\nkind: x\nn: [" + fill("2001-01-01 00:00:00.00 -5,") + "1]\n", ""},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, diagnostics := Decode("large.yaml", []byte(c.text))
		runtime.ReadMemStats(&after)
		if made := after.TotalAlloc - before.TotalAlloc; made > 1200<<20 || after.StackSys > 64<<20 {
			t.Errorf("%s: %d MiB were allocated, and the stacks have %d", name, made>>20, after.StackSys>>20)
		}
		if c.want != "" && len(diagnostics) == 0 || len(diagnostics) > 0 && !strings.Contains(diagnostics[0].Message, c.want) {
			t.Errorf("%s: %v", name, diagnostics[:min(1, len(diagnostics))])
		}
		for _, d := range diagnostics {
			if len(d.Message) > 5000 {
				t.Errorf("%s: the fault has %d bytes", name, len(d.Message))
				break
			}
		}
		if len(diagnostics) > 1100 {
			t.Errorf("%s: %d faults are told", name, len(diagnostics))
		}
	}
}

// nested is blocks in blocks, each deeper by a space.
func nested(line string, levels int) string {
	var b strings.Builder
	for i := range levels {
		b.WriteString(strings.Repeat(" ", i) + line + "\n")
	}
	return b.String()
}

func TestMergeKeysAndLists(t *testing.T) {
	objects, diagnostics := Decode("l.yaml", []byte(`
kind: List
apiVersion: v1
x: &base {a: 1, b: 2}
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: one}, data: {<<: *base, b: 3}}
- {apiVersion: v1, kind: Secret, metadata: {name: two}}
`))
	if len(diagnostics) > 0 || len(objects) != 2 || objects[1].Name != "two" {
		t.Fatal(objects, diagnostics)
	}
	if got := string(objects[0].Tree.Get("data").JSON()); got != `{"b":3,"a":1}` {
		t.Error(got)
	}
}

func TestTreePaths(t *testing.T) {
	o := one(t, "apiVersion: v1\nkind: x\nmetadata:\n  labels:\n    a.b/c: v\nspec:\n  l:\n  - script: |\n      echo {{x}}\n")
	if got := o.Tree.Lookup(`metadata.labels["a.b/c"]`).Text(); got != "v" {
		t.Error(got)
	}
	if got := JoinPath("metadata.labels", "a.b/c"); got != `metadata.labels["a.b/c"]` {
		t.Error(got)
	}
	if o.Tree.Lookup("spec.l[1]") != nil || o.Tree.Lookup("spec.l[0].script.x") != nil {
		t.Error("found what is not there")
	}
	if got := o.Tree.Position("spec.l[0].nope").String(); got != "wf.yaml:8:5" {
		t.Error(got)
	}
	if got := o.Tree.Lookup("spec.l[0].script").Find("{{x}}").String(); got != "wf.yaml:9:12" {
		t.Error(got)
	}
}

func TestLoadFolder(t *testing.T) {
	const doc = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\n"
	fsys := fstest.MapFS{
		"d/b.yml":         {Data: []byte(fmt.Sprintf(doc, "b"))},
		"d/a/a.yaml":      {Data: []byte(fmt.Sprintf(doc, "a"))},
		"d/.git/no.yaml":  {Data: []byte("[")},
		"d/README.md":     {Data: []byte("[")},
		"single/one.json": {Data: []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"}}`)},
	}
	objects, diagnostics, err := Load(fsys, "d", "single/one.json")
	if err != nil || len(diagnostics) > 0 || len(objects) != 3 {
		t.Fatal(objects, diagnostics, err)
	}
	if objects[0].Name+objects[1].Name+objects[2].Name != "abc" {
		t.Error(objects)
	}
	if _, _, err := Load(fsys, "nope"); err == nil {
		t.Error("a missing folder is no error")
	}
}

// jsonValue draws what JSON can hold.
func jsonValue(depth int) *rapid.Generator[any] {
	scalars := rapid.OneOf(
		rapid.Just[any](nil), rapid.Just[any](true),
		rapid.Map(rapid.String(), func(s string) any { return s }),
		rapid.Map(rapid.Int64(), func(n int64) any { return json.Number(fmt.Sprint(n)) }))
	if depth == 0 {
		return scalars
	}
	inner := jsonValue(depth - 1)
	return rapid.OneOf(scalars,
		rapid.Map(rapid.SliceOfN(inner, 0, 4), func(l []any) any { return l }),
		rapid.Map(rapid.MapOfN(rapid.String(), inner, 0, 4), func(m map[string]any) any { return m }))
}

func TestTreeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := jsonValue(3).Draw(t, "value")
		tree, err := NewTree(value)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseTree(tree.JSON())
		if err != nil {
			t.Fatal(err)
		}
		if !tree.Equal(again) {
			t.Fatalf("%s is not %s", tree.JSON(), again.JSON())
		}
		if diff := cmp.Diff(value, again.Value()); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(hello))
	f.Add([]byte(`{"kind":"x","apiVersion":"v1","metadata":{"name":"a"},"spec":{"a":[1,null,true]}}`))
	f.Add([]byte("a: &a [*a]\n<<: *a"))
	f.Fuzz(func(t *testing.T, data []byte) {
		objects, _ := Decode("f", data)
		for _, o := range objects {
			again, err := ParseTree(o.Tree.JSON())
			if err != nil {
				t.Fatalf("%s: %v", o.Tree.JSON(), err)
			}
			if !again.Equal(o.Tree) {
				t.Fatalf("%s", o.Tree.JSON())
			}
			o.Into(&Workflow{})
			o.Into(&CronWorkflow{})
		}
	})
}
