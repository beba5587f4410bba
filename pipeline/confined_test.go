package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/tiphys/tiphys/pipeline"
)

// TestMain lets the test binary be the confined process.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "__evaluate" {
		if err := pipeline.Main(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// repository lays out a txtar archive where anybody can read it; a file whose content is "-> target" becomes a link.
func repository(t *testing.T, archive string) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range txtar.Parse([]byte(archive)).Files {
		name := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, link := strings.CutPrefix(string(f.Data), "-> "); link {
			err = os.Symlink(strings.TrimSpace(target), name)
		} else {
			err = os.WriteFile(name, f.Data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// confined has room for the race detector.
func confined() pipeline.Confined {
	if raced {
		return pipeline.Confined{Memory: 4 << 30}
	}
	return pipeline.Confined{}
}

func TestConfined(t *testing.T) {
	dir := repository(t, "-- ci/main.ts --\nimport { workflow } from \"tiphys\";\nimport { n } from \"../lib\";\nimport text from \"./step.sh\";\n"+
		"export default (c) => workflow(\"ci-\", { labels: { n: String(n), text, at: c.time, branch: c.git.branch } });\n"+
		"-- lib/index.ts --\nexport const n = 3;\n-- ci/step.sh --\necho <&>\n-- ci/again.ts --\n-> main.ts\n")
	input := map[string]any{"time": "2024-02-29T12:00:00Z", "git": map[string]any{"branch": "main"}}
	want := `{"apiVersion":"argoproj.io/v1alpha1","kind":"Workflow","metadata":{"generateName":"ci-","labels":` +
		`{"at":"2024-02-29T12:00:00Z","branch":"main","n":"3","text":"echo <&>\n"}},"spec":{}}` + "\n"
	for _, file := range []string{"ci/main.ts", "ci/again.ts"} {
		got, err := confined().Evaluate(t.Context(), dir, file, input)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("%s: %s", file, diff)
		}
	}
}

// TestHostilePrograms has what a merge request of a stranger may try. Each is told to its author, and this process lives.
func TestHostilePrograms(t *testing.T) {
	if raced {
		t.Skip("SKIPPED: hostile programs are not tried under the race detector, whose own memory is more than they may have")
	}
	secret := filepath.Join(t.TempDir(), "secret.ts")
	if err := os.WriteFile(secret, []byte("export default 'the secret'"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TIPHYS_TEST_SECRET", "the secret")
	deep := strings.Repeat("(", 2_000_000) + strings.Repeat(")", 2_000_000)
	for name, c := range map[string]struct{ code, want string }{
		"endless loop":        {"let n = 0;\nfor (;;) n++;\nexport default n", "main.ts:2:"},
		"endless built-in":    {`export default "x".repeat(60).match(/^(x+)+\1y$/)`, "main.ts: the program was stopped: it took longer than 3s"},
		"endless promises":    {"const f = async () => { for (;;) await 1; }; export default f()", "main.ts"},
		"memory by strings":   {`let s = "x"; for (;;) s += s; export default s`, "its limit of 160 MiB of memory"},
		"memory by lists":     {`const a: any[] = []; for (;;) a.push(new Array(1 << 22).fill(1)); export default a`, "main.ts"},
		"memory at once":      {`export default { kind: "Workflow", a: "x".repeat(2 ** 34) }`, "main.ts"},
		"recursion":           {"export default function f(n: number): any { return [f(n + 1)]; }", "calls are nested deeper than 2000"},
		"recursion in sort":   {"export default function f(): any { return [1, 2].sort(() => f()); }", "main.ts"},
		"nested data":         {`let a: any = {kind: "Workflow"}; for (let i = 0; i < 3e6; i++) a = {a}; a.kind = "Workflow"; export default a`, "main.ts"},
		"nested code":         {"export default " + deep, "main.ts"},
		"nested JSON":         {`export default JSON.parse("[".repeat(5e6) + "]".repeat(5e6))`, "main.ts"},
		"100 MB":              {`export default { kind: "Workflow", a: Array(100).fill("x".repeat(1 << 20)) }`, "main.ts: the"}, // manifest has too many bytes, or program ran too long,
		"100 MB thrown":       {`throw new Error("x".repeat(100 << 20))`, "main.ts"},
		"above":               {`import x from "../../../etc/passwd"; export default x`, "outside of the folder"},
		"absolute":            {`import x from "/etc/passwd"; export default x`, "absolute path"},
		"linked":              {`import x from "./linked"; export default x`, "leads outside of the folder"},
		"linked text":         {`import x from "./passwd.txt"; export default x`, "leads outside of the folder"},
		"folder linked":       {`import x from "./up/secret"; export default x`, "leads outside of the folder"},
		"environment":         {`export default { kind: process.env.TIPHYS_TEST_SECRET }`, "ReferenceError: process is not defined"},
		"process by function": {`export default { kind: new Function("return process")() }`, "process is not defined"},
		"required":            {`export default { kind: (globalThis as any).require("fs") }`, "TypeError"},
		"node":                {`import { execSync } from "node:child_process"; export default execSync("id")`, "is a module of Node"},
		"dynamic import":      {`export default async () => (await import("/etc/passwd")).default`, "absolute path"},
		"source map":          {"export default { kind: 1 }\n//# sourceMappingURL=/etc/passwd\n", "kind 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := repository(t, "-- linked.ts --\n-> "+secret+"\n-- passwd.txt --\n-> /etc/passwd\n-- up --\n-> "+filepath.Dir(secret)+"\n")
			if err := os.WriteFile(filepath.Join(dir, "main.ts"), []byte(c.code), 0o644); err != nil {
				t.Fatal(err)
			}
			started := time.Now()
			limit := 12 * time.Second
			if strings.HasPrefix(name, "endless") || name == "memory by lists" {
				limit = 3 * time.Second
			}
			made, err := pipeline.Confined{Timeout: limit, Memory: 160 << 20}.Evaluate(t.Context(), dir, "main.ts", nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %.200s, %.600v; want an error with %q", made, err, c.want)
			}
			t.Logf("%.300s", err)
			var place *pipeline.Error
			if !errors.As(err, &place) {
				t.Errorf("%v is not said to be the program's mistake", err)
			}
			if len(err.Error()) > 8<<10 || strings.Contains(err.Error(), "the secret") || strings.Contains(err.Error(), "root:") {
				t.Errorf("the message says too much: %.300s", err)
			}
			if took := time.Since(started); took > 25*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// TestProgramItself may be no link to the outside, and only of the languages that are evaluated.
func TestProgramItself(t *testing.T) {
	dir := repository(t, "-- a.ts --\n-> /etc/passwd\n-- b.py --\nprint(1)\n-- c.ts/x --\n")
	for file, want := range map[string]string{
		"a.ts": "it leads outside of the repository", "b.py": "evaluates TypeScript and JavaScript only", "c.ts": "it is not a file", "d.ts": "no such file",
		"../a.ts": "outside of the repository", "run.sh": "evaluates TypeScript and JavaScript only",
	} {
		_, err := confined().Evaluate(t.Context(), dir, file, nil)
		var place *pipeline.Error
		if !errors.As(err, &place) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", file, err, want)
		}
	}
}

// TestConfinedIsStopped tells a limit of ours from the end of what we wait for.
func TestConfinedIsStopped(t *testing.T) {
	dir := repository(t, "-- a.ts --\nfor (;;);\n")
	_, err := pipeline.Confined{Timeout: 300 * time.Millisecond, Memory: confined().Memory}.Evaluate(t.Context(), dir, "a.ts", nil)
	var place *pipeline.Error
	if !errors.As(err, &place) || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("got %v, want the program's mistake", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := confined().Evaluate(ctx, dir, "a.ts", nil); !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &place) {
		t.Errorf("got %v, want the deadline, which is not the program's mistake", err)
	}
	if _, err := confined().Evaluate(t.Context(), filepath.Join(dir, "missing"), "a.ts", nil); err == nil || errors.As(err, &place) {
		t.Errorf("got %v, want an error that is not the program's mistake", err)
	}
}
