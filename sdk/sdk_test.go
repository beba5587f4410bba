package sdk_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/pipeline"
	"github.com/tiphys/tiphys/sdk"
)

var update = flag.Bool("update", false, "write the declaration file anew")

// TestSameManifest renders each pipeline in three languages. What they must give was written by hand after Argo Workflows' fields.md
// (DAGTask, WorkflowStep, Inputs, Outputs, RetryStrategy, LifecycleHook, CronWorkflowSpec) and Kubernetes' API reference (Container).
func TestSameManifest(t *testing.T) {
	for name, dir := range map[string]string{
		"build": "testdata/build", "letters": "testdata/letters", "nightly": "testdata/nightly", "example": "../examples/pipeline-",
	} {
		file := filepath.Join(dir, "want.json")
		if name == "example" {
			file = "testdata/example.json"
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want := tree(t, raw)
		if _, diags := manifest.Decode("want.json", raw); manifest.Failed(diags) {
			t.Errorf("%s: the manifest has faults: %v", name, diags)
		}
		for _, language := range []string{"ts", "py", "go"} {
			t.Run(name+"/"+language, func(t *testing.T) {
				t.Parallel()
				in := dir
				if name == "example" {
					in += map[string]string{"ts": "ts", "py": "python", "go": "go"}[language]
				}
				got := render(t, language, in)
				if diff := cmp.Diff(want, tree(t, got)); diff != "" {
					t.Errorf("want (-) got (+):\n%s", diff)
				}
				var same bytes.Buffer
				e := json.NewEncoder(&same)
				e.SetEscapeHTML(false)
				if err := e.Encode(tree(t, got)); err != nil || same.String() != string(got) {
					t.Errorf("%v; it is not in the one way, with keys in order: %s", err, got)
				}
			})
		}
	}
}

func tree(t *testing.T, raw []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	return v
}

func render(t *testing.T, language, dir string) []byte {
	t.Helper()
	file := filepath.Join(dir, "pipeline."+language)
	switch language {
	case "ts":
		code, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		out, err := pipeline.Evaluate(t.Context(), pipeline.Source{File: "pipeline.ts", Code: code})
		if err != nil {
			t.Fatal(err)
		}
		return out
	case "py":
		return python(t, file)
	}
	return output(t, exec.CommandContext(t.Context(), "go", "run", file))
}

// python runs a program with the module beside it, by every version that is here and that the module wants to work with.
func python(t *testing.T, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("SKIPPED: the Python module is not tested, there is no python3")
	}
	cmd := exec.CommandContext(t.Context(), "python3", args...)
	cmd.Env = append(os.Environ(), "PYTHONPATH=python", "PYTHONDONTWRITEBYTECODE=1")
	return output(t, cmd)
}

func output(t *testing.T, cmd *exec.Cmd) []byte {
	t.Helper()
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil { // tsc complains on its standard output
		t.Fatalf("%v: %v\n%s%s", cmd.Args, err, errs.String(), out)
	}
	return out
}

// mistakes are the same in each language.
var mistakes = []struct{ name, ts, py, golang, want string }{
	{
		"unknown output", `ci.task("b", say, { args: { text: a.output("x") } });`, `ci.task("b", say, args={"text": a.output("x")})`,
		`ci.Task("b", say, tiphys.TaskOptions{Args: tiphys.Map{{"text", a.Output("x")}}})`, "task a has no output x",
	},
	{
		"two tasks", `ci.task("a", say);`, `ci.task("a", say)`, `ci.Task("a", say)`, "there are two tasks a",
	},
	{
		"another graph's task", `dag("d").task("b", say, { after: a });`, `tiphys.dag("d").task("b", say, after=a)`,
		`d := tiphys.Dag("d"); d.Task("b", say, tiphys.TaskOptions{After: tiphys.All(a)}); ci.Add(d)`, "task b is after a, which is not a task before it",
	},
	{
		"artifact without a place", `ci.task("b", say, { args: { f: "{{tasks.a.outputs.artifacts.f}}" } });`,
		`ci.task("b", say, args={"f": "{{tasks.a.outputs.artifacts.f}}"})`,
		`ci.Task("b", say, tiphys.TaskOptions{Args: tiphys.Map{{"f", "{{tasks.a.outputs.artifacts.f}}"}}})`, "its template has no place for it",
	},
	{
		"after in steps", `steps("s").task("b", say, { after: "x" });`, `tiphys.steps("s").task("b", say, after="x")`,
		`s := tiphys.Steps("s"); s.Task("b", say, tiphys.TaskOptions{After: tiphys.All(a)}); ci.Add(s)`, "steps run one after another anyway",
	},
}

// TestMistakes wants the place in the user's program.
func TestMistakes(t *testing.T) {
	dir := t.TempDir()
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			code := "import { container, dag, steps, workflow } from \"tiphys\";\nconst say = container({ image: \"i\" });\nconst ci = workflow(\"ci\");\nconst a = ci.task(\"a\", say);\nvoid dag, steps;\n\n" + m.ts + "\nexport default ci;"
			_, err := pipeline.Evaluate(t.Context(), pipeline.Source{File: "ci.ts", Code: []byte(code)})
			if err == nil || !strings.HasPrefix(err.Error(), "ci.ts:7:") || !strings.Contains(err.Error(), m.want) {
				t.Errorf("TypeScript: got %v, want ci.ts:7 and %q", err, m.want)
			}
			file := filepath.Join(dir, "ci.py")
			write(t, file, "import tiphys\n\nsay = tiphys.container(\"i\")\nci = tiphys.workflow(\"ci\")\na = ci.task(\"a\", say)\n\n"+m.py+"\ntiphys.main(ci)\n")
			if said := fails(t, "python3", file); !strings.Contains(said, "tiphys.Mistake: "+file+":7: ") || !strings.Contains(said, m.want) {
				t.Errorf("Python: got %s, want %s:7 and %q", said, file, m.want)
			}
		})
	}
	t.Run("go", func(t *testing.T) {
		// All at once: a program in Go goes on after a mistake, and says all of them.
		var body strings.Builder
		for _, m := range mistakes {
			body.WriteString("\t" + m.golang + "\n")
		}
		file := filepath.Join(dir, "ci.go")
		write(t, file, "package main\n\nimport tiphys \"github.com/tiphys/tiphys/sdk/go\"\n\nfunc main() {\n\tsay := tiphys.Container(\"i\")\n\tci := tiphys.NewWorkflow(\"ci\")\n\ta := ci.Task(\"a\", say)\n"+body.String()+"\ttiphys.Main(ci)\n}\n")
		out := fails(t, "go", "run", file)
		for i, m := range mistakes {
			place := fmt.Sprintf("%s:%d: ", file, 9+i)
			said := func(line string) bool { return strings.HasPrefix(line, place) && strings.Contains(line, m.want) }
			if !slices.ContainsFunc(strings.Split(out, "\n"), said) {
				t.Errorf("got %s, want %s and %q", out, place, m.want)
			}
		}
	})
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func fails(t *testing.T, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("SKIPPED: not tested, there is no %s", name)
	}
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "PYTHONPATH=python", "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Errorf("%v succeeded: %s", cmd.Args, out)
	}
	return string(out)
}

// TestDeclarations makes the declaration file of the source again, and checks types of the pipelines with it.
func TestDeclarations(t *testing.T) {
	tsc, err := filepath.Abs("../web/node_modules/.bin/tsc")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(tsc); err != nil {
		t.Skip("SKIPPED: the declaration file is not compared with its source, and types are not checked: there is no tsc, run make ui")
	}
	dir := t.TempDir()
	output(t, exec.CommandContext(t.Context(), tsc, "--declaration", "--emitDeclarationOnly", "--stripInternal", "--strict", "--noUnusedLocals", "--target", "es2022", "--lib", "es2022",
		"--module", "esnext", "--moduleResolution", "bundler", "--outDir", dir, "typescript/tiphys.ts"))
	made, err := os.ReadFile(filepath.Join(dir, "tiphys.d.ts"))
	if err != nil {
		t.Fatal(err)
	}
	want := ambient(string(made))
	if *update {
		write(t, "typescript/tiphys.d.ts", want)
	} else if diff := cmp.Diff(want, sdk.Declarations()); diff != "" {
		t.Errorf("go test ./sdk -run Declarations -update writes it anew:\n%s", diff)
	}
	write(t, filepath.Join(dir, "tiphys.d.ts"), want)
	files := []string{"--noEmit", "--strict", "--target", "es2022", "--lib", "es2022", "--module", "esnext", "--moduleResolution", "bundler", filepath.Join(dir, "tiphys.d.ts")}
	for _, pattern := range []string{"testdata/*/pipeline.ts", "../examples/pipeline-ts/*.ts"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	// What the compiler does not find wrong behind such a comment is an error.
	bad := filepath.Join(dir, "bad.ts")
	write(t, bad, `import { container, workflow } from "tiphys";
// @ts-expect-error there is no image, and a command is a list
export const a = container({ command: 3 });
// @ts-expect-error a task waits for tasks, not for templates
export const b = workflow("x").task("a", "t", { after: container({ image: "i" }) });
`)
	output(t, exec.CommandContext(t.Context(), tsc, append(files, bad)...))
}

// ambient makes a module that no file has to be named for of the compiler's output.
func ambient(made string) string {
	var b strings.Builder
	b.WriteString("// The module \"tiphys\" for editors: keep this file beside the program. It says what is there; the program brings the module along.\n\ndeclare module \"tiphys\" {\n")
	for _, line := range strings.Split(strings.TrimSpace(made), "\n") {
		line = strings.Replace(line, "export declare ", "export ", 1)
		if line == "export {};" || strings.HasPrefix(line, "declare const ") {
			continue
		}
		b.WriteString(strings.TrimRight("  "+strings.ReplaceAll(line, "    ", "  "), " ") + "\n")
	}
	return b.String() + "}\n"
}
