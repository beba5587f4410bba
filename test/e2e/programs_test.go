package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/test/story"
)

// program is a file of the pushed repository, and what comes of a trigger that takes its workflow from it: an error, or nothing if it runs.
type program struct{ file, text, want string }

func programs() []program {
	return []program{
		{"good.ts", `import { script, workflow } from "tiphys";
import { words } from "./words";
export default (c) => {
  const w = workflow("good-");
  w.task("say", script("docker.io/library/alpine:3", "echo " + words + " of " + c.git.branch + " at " + c.git.sha.length), {});
  return w;
};`, ""},
		{"loop.ts", "let n = 0;\nfor (;;) n++;\nexport default n", "ci/loop.ts:2:"},
		{"memory.ts", `let s = "x"; for (;;) s += s; export default s`, "limit of 384 MiB of memory"},
		{"deep.ts", "export default function f(): any { return [f()]; }", "calls are nested deeper"},
		{"above.ts", `import x from "../../../etc/passwd"; export default x`, "outside of the folder"},
		{"process.ts", `export default { kind: process.env.PATH }`, "ReferenceError: process is not defined"},
		{"much.ts", `export default { kind: "Workflow", a: Array(100).fill("x".repeat(1 << 20)) }`, "ci/much.ts: the"}, // manifest has too many bytes, or program ran too long,
		{"print.py", "print('{}')", "evaluates TypeScript and JavaScript only"},
	}
}

// TestProgramsOfARepository has a trigger for each program of a pushed commit: one runs, the others are told to whoever looks at the
// event, and the server lives.
func TestProgramsOfARepository(t *testing.T) {
	w := server(t)
	triggers := ""
	for _, p := range programs() {
		triggers += fmt.Sprintf(`  - template:
      name: %s
      argoWorkflow:
        operation: submit
        source: {git: {url: "http://tiphys.localhost/git/fort.git", filePath: ci/%s, ref: refs/heads/main}}
    parameters: [{src: {dependencyName: change, dataKey: git.sha}, dest: argoWorkflow.source.git.ref}]
`, strings.ReplaceAll(p.file, ".", "-"), p.file)
	}
	apply(t, w, "programs.yaml", `apiVersion: argoproj.io/v1alpha1
kind: Sensor
metadata: {name: programs}
spec:
  dependencies: [{name: change, eventSourceName: git, eventName: fort}]
  triggers:
`+triggers)
	if err := push(t, w, "fort", writePrograms); err != nil {
		t.Fatal(err)
	}
	var event struct {
		Firings []struct{ Trigger, Result, Error, State string } `json:"firings"`
	}
	err := w.Within(t.Context(), time.Minute, "each program is evaluated or refused", func(ctx context.Context) error {
		var events struct {
			Items []struct{ ID string } `json:"items"`
		}
		if err := w.Get(ctx, "", "/api/v1/events", &events); err != nil || len(events.Items) != 1 {
			return fmt.Errorf("there are %d events: %w", len(events.Items), err)
		}
		if err := w.Get(ctx, "", "/api/v1/events/"+events.Items[0].ID, &event); err != nil {
			return err
		}
		done := 0
		for _, f := range event.Firings {
			if f.Error+f.Result != "" {
				done++
			}
		}
		if done != len(programs()) {
			return fmt.Errorf("%d of %d are settled", done, len(programs()))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range programs() {
		for _, f := range event.Firings {
			if f.Trigger != strings.ReplaceAll(p.file, ".", "-") {
				continue
			}
			t.Logf("%s: %s%s", p.file, f.Result, f.Error)
			if p.want == "" && f.Result == "" || !strings.Contains(f.Error, p.want) {
				t.Errorf("%s: got %q %q, want %q", p.file, f.Result, f.Error, p.want)
			}
			if p.want == "" {
				ran(t, w, strings.TrimPrefix(f.Result, "run/default/"))
			}
		}
	}
	wrong := filepath.Join(w.Dir, "wrong.ts")
	if err := os.WriteFile(wrong, []byte("import { container, workflow } from \"tiphys\";\nconst ci = workflow(\"ci-\");\n"+
		"ci.task(\"a\", container({ image: \"i\" }), { args: { t: \"{{tasks.nowhere.outputs.result}}\" } });\nexport default ci;\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := w.Tiphys(t.Context(), "submit", wrong); err == nil || !strings.Contains(err.Error(), "wrong.ts:3:") {
		t.Errorf("the server's error names the place in the program: %s %v", out, err)
	}
	lives(t, w)
	if left, err := filepath.Glob(filepath.Join(w.Dir, "data", "checkouts", "*")); err != nil || len(left) > 0 {
		t.Errorf("checkouts are left: %v %v", left, err)
	}
}

func writePrograms(dir string) error {
	if err := os.Mkdir(filepath.Join(dir, "ci"), 0o755); err != nil { //nolint:gosec // a folder of a repository
		return err
	}
	for _, p := range append(programs(), program{file: "words.ts", text: `export const words = "a program"`}) {
		if err := os.WriteFile(filepath.Join(dir, "ci", p.file), []byte(p.text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func ran(t *testing.T, w *story.World, name string) {
	t.Helper()
	var log string
	err := w.Within(t.Context(), 30*time.Second, "the program's run says what it was told", func(ctx context.Context) (err error) {
		log, err = w.Tiphys(ctx, "logs", name)
		if err == nil && !strings.Contains(log, "a program of main at 40") {
			err = fmt.Errorf("it says %s", log)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
