package pipeline_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/pipeline"
)

func evaluate(t *testing.T, code string, files fstest.MapFS, input map[string]any) (string, error) {
	t.Helper()
	out, err := pipeline.Evaluate(t.Context(), pipeline.Source{File: "ci/main.ts", Code: []byte(code), FS: files, Input: input})
	return string(out), err
}

// TestValues shows the canonical form, and what a program may compute from.
func TestValues(t *testing.T) {
	input := map[string]any{"time": "2024-02-29T23:30:00+02:00", "branch": "<main>"}
	files := fstest.MapFS{"shared/name.ts": {Data: []byte(`export const name = "x";`)}, "ci/data.json": {Data: []byte(`{"n": 3}`)}}
	tests := map[string]struct{ code, want string }{
		"sorted, unescaped": {`export default {kind: "Workflow", b: "<&>", a: [1, 2.5, null, undefined], c: undefined}`, `{"a":[1,2.5,null,null],"b":"<&>","kind":"Workflow"}`},
		"function of input": {`export default (ctx: {branch: string}) => ({kind: "Workflow", b: ctx.branch})`, `{"b":"<main>","kind":"Workflow"}`},
		"promise":           {`export default async () => ({kind: "Workflow", n: await Promise.resolve(1)})`, `{"kind":"Workflow","n":1}`},
		"imports":           {`import {name} from "../shared/name.js"; import d from "./data.json"; export default {kind: "Workflow", name, n: d.n}`, `{"kind":"Workflow","n":3,"name":"x"}`},
		"newer syntax":      {`class A { #n = 1; static { } get n() { return this.#n ?? 0 } }; let m = null; m ??= new A(); export default {kind: "Workflow", n: m?.n}`, `{"kind":"Workflow","n":1}`},
		"clock":             {`const d = new Date(); export default {kind: "Workflow", at: d.toISOString(), h: d.getHours(), z: d.getTimezoneOffset(), same: d.getTime() === Date.now()}`, `{"at":"2024-02-29T21:30:00.000Z","h":21,"kind":"Workflow","same":true,"z":0}`},
		"dates are UTC":     {`export default {kind: "Workflow", a: new Date(2020, 6, 1).toJSON(), b: new Date("2020-07-01T10:00").toJSON(), c: ` + "`${new Date(0)}`" + `}`, `{"a":"2020-07-01T00:00:00.000Z","b":"2020-07-01T10:00:00.000Z","c":"Thu, 01 Jan 1970 00:00:00 GMT","kind":"Workflow"}`},
		"no environment":    {`export default {kind: "Workflow", has: [typeof process, typeof Buffer, typeof fetch, typeof setTimeout, typeof console]}`, `{"has":["undefined","undefined","undefined","undefined","undefined"],"kind":"Workflow"}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := evaluate(t, test.code, files, input)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want+"\n", got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSameBytes(t *testing.T) {
	code := `export default () => ({kind: "Workflow", at: new Date(), random: [Math.random(), Math.random()], keys: [...new Set([3, 1, 2])]})`
	first, err := evaluate(t, code, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if again, err := evaluate(t, code, nil, nil); err != nil || again != first {
			t.Fatalf("evaluated again: %s, %v; first: %s", again, err, first)
		}
	}
	if other, err := evaluate(t, code, nil, map[string]any{"commit": "1"}); err != nil || other == first {
		t.Errorf("another input has the same random numbers: %s, %v", other, err)
	}
}

// TestBuilders covers what the example does not use.
func TestBuilders(t *testing.T) {
	got, err := evaluate(t, `import { container, script, workflow } from "tiphys";
const t = script("python", "print(1)", { command: ["python"], name: "main", retryStrategy: { limit: 2 } });
export default workflow("w", { labels: { a: "b" }, templates: [{ name: "x", suspend: {} }], entrypoint: "x" })
  .step("one", t)
  .step("x", container({ image: "i", env: { N: 1 } }), { after: "one.Failed", when: "true", withItems: [1, "a"], args: { n: 2 } })
  .step("three", "x");`, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"apiVersion":"argoproj.io/v1alpha1","kind":"Workflow","metadata":{"labels":{"a":"b"},"name":"w"},"spec":{"entrypoint":"x","templates":[` +
		`{"dag":{"tasks":[{"name":"one","template":"main-2"},` +
		`{"arguments":{"parameters":[{"name":"n","value":"2"}]},"depends":"one.Failed","name":"x","template":"x-2","when":"true","withItems":[1,"a"]},` +
		`{"name":"three","template":"x"}]},"name":"main"},` +
		`{"name":"main-2","retryStrategy":{"limit":2},"script":{"command":["python"],"image":"python","source":"print(1)"}},` +
		`{"container":{"env":[{"name":"N","value":"1"}],"image":"i"},"inputs":{"parameters":[{"name":"n"}]},"name":"x-2"},` +
		`{"name":"x","suspend":{}}]}}` + "\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestMistakes(t *testing.T) {
	files := fstest.MapFS{"ci/bad.ts": {Data: []byte("\n\nexport function f() {\n  return (undefined as any).x;\n}\n")}}
	tests := map[string]struct{ code, want string }{
		"syntax":         {"const a = 1;\nconst = 2;", "ci/main.ts:2:7: "},
		"builtin":        {`import "node:fs"`, `ci/main.ts:1:8: "node:fs" is a module of Node`},
		"builtin path":   {`import {x} from "fs/promises"; export default x`, `"fs/promises" is a module of Node`},
		"required":       {`export default require("child_process")`, `"child_process" is a module of Node`},
		"url":            {`import "https://example.com/x.ts"`, "programs use no network"},
		"absolute":       {`import "/etc/passwd"`, "absolute path"},
		"package":        {`import "lodash"`, `there is no package "lodash"`},
		"outside":        {`import "../../secret"`, "outside of the folder"},
		"missing":        {`import "./missing"`, "ci/main.ts:1:8: there is no file ci/missing: tried ci/missing, ci/missing.ts"},
		"thrown":         {"const n: number = 1;\n\nexport default () => {\n  throw new TypeError(\"no\" + n);\n}", "ci/main.ts:4:9: TypeError: no1"},
		"thrown beside":  {`import {f} from "./bad"; export default f()`, "ci/bad.ts:4:"},
		"of a builder":   {"import { container, workflow } from \"tiphys\";\nconst w = workflow(\"x\");\nw.step(\"a\", container({image: \"i\"}), {after: \"b\"});\nexport default w", "ci/main.ts:3:8: Error: task a is after b"},
		"rejected":       {`export default async () => { throw new Error("later") }`, "ci/main.ts: Error: later"},
		"never":          {`export default new Promise(() => {})`, "never happens"},
		"recursion":      {"export default function f(): any {\n  return [f()];\n}", "ci/main.ts:2:"},
		"no export":      {`const a = 1`, "no default export"},
		"not an object":  {`export default 3`, "not an object"},
		"undefined":      {`export default () => {}`, "not an object"},
		"another kind":   {`export default {kind: "Pod"}`, "kind Pod, not Workflow"},
		"cycle":          {`const a: any = {kind: "Workflow"}; a.a = a; export default a`, "TypeError"},
		"too much":       {`export default {kind: "Workflow", a: "x".repeat(9 << 20)}`, "more than 8388608"},
		"date of a zone": {`export default {kind: "Workflow", a: new Date("July 1 2020")}`, "has no zone"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if raced && name == "too much" {
				t.Skip("SKIPPED: under the race detector it takes longer than a program may run")
			}
			out, err := evaluate(t, test.code, files, nil)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %q, %v; want an error with %q", out, err, test.want)
			}
			var place *pipeline.Error
			if !errors.As(err, &place) {
				t.Errorf("%v is not an Error with a place", err)
			}
		})
	}
}

func TestEndlessLoopIsInterrupted(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := pipeline.Evaluate(ctx, pipeline.Source{File: "loop.ts", Code: []byte("let n = 0;\nfor (;;) n++;\nexport default n")})
	if err == nil || !strings.HasPrefix(err.Error(), "loop.ts:2:") {
		t.Errorf("got %v, want an error at loop.ts:2", err)
	}
}

func FuzzEvaluate(f *testing.F) {
	f.Add(`import { workflow } from "tiphys"; export default workflow("a")`)
	f.Add(`export default (c) => c.x.y`)
	f.Fuzz(func(t *testing.T, code string) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		out, err := pipeline.Evaluate(ctx, pipeline.Source{File: "f.ts", Code: []byte(code)})
		if err == nil && !json.Valid(out) {
			t.Errorf("not JSON: %s", out)
		}
	})
}
