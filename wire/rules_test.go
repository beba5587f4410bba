package wire

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
	"github.com/tiphys/tiphys/manifest"
)

const goodSource = `apiVersion: argoproj.io/v1alpha1
kind: EventSource
metadata: {name: in}
spec:
  webhook:
    one: {endpoint: /a}
`

// TestRefusedDefinitions: what is not run is refused wherever a definition comes in, with its place: by lint, by apply,
// and in the folder, where the last good set stays (docs/compatibility.md).
func TestRefusedDefinitions(t *testing.T) {
	ctx := t.Context()
	l, err := sqlite.Open(ctx, sqlite.Options{Path: filepath.Join(t.TempDir(), "l.db"), Projections: []ledger.Projection{definitions.Projection{}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	rules, err := Rules(nil)
	if err != nil {
		t.Fatal(err)
	}
	store := definitions.New(l, nil, rules)
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	folder := definitions.NewFolder(dir, store, nil)
	write("a.yaml", goodSource)
	if _, err := folder.Load(ctx); err != nil {
		t.Fatal(err)
	}
	const head = "apiVersion: argoproj.io/v1alpha1\nkind: "
	for name, c := range map[string]struct{ text, want string }{
		"a source": {goodSource + "  kafka: {k: {url: x}}\n", `7:10: event source type "kafka" is understood but not run by this version`},
		"a filter": {strings.Replace(goodSource, "/a", `/a, filter: {expression: "a =="}`, 1), "6:46: "},
		"a trigger": {head + "Sensor\nmetadata: {name: s}\nspec:\n  dependencies: [{name: a, eventSourceName: in, eventName: one}]\n" +
			"  triggers:\n  - template: {name: t, email: {}}\n", `7:32: trigger type "email" is understood but not run by this version`},
		"a template": {head + "WorkflowTemplate\nmetadata: {name: w}\nspec:\n  templates:\n  - name: t\n    resource: {action: get, manifest: x}\n",
			"7:15: needs Kubernetes: a resource template cannot run on this machine"},
		"a forge": {"apiVersion: tiphys.dev/v1alpha1\nkind: Forge\nmetadata: {name: f}\nspec:\n  type: gitlab\n  url: https://forge.example\n",
			`5:9: forge type "gitlab" is not run by this version`},
		"a schedule": {head + "CronWorkflow\nmetadata: {name: c}\nspec:\n  schedules: ['@daily']\n  workflowSpec:\n    entrypoint: t\n" +
			"    templates: [{name: t, plugin: {x: {}}}]\n", "8:35: needs Kubernetes: a plugin template cannot run on this machine"},
	} {
		t.Run(name, func(t *testing.T) {
			objects, _ := manifest.Decode("b.yaml", []byte(c.text))
			if err := manifest.FirstError(rules.Lint(objects, false)); err == nil || !strings.HasPrefix(err.Error(), "b.yaml:"+c.want) {
				t.Errorf("lint says %v, want b.yaml:%s", err, c.want)
			}
			if _, err := store.Apply(ctx, "user:ada", definitions.OriginAPI, objects); err == nil || !strings.HasPrefix(err.Error(), "b.yaml:"+c.want) {
				t.Errorf("apply says %v, want b.yaml:%s", err, c.want)
			}
			write("a.yaml", c.text)
			if _, err := folder.Load(ctx); err == nil || !strings.Contains(err.Error(), "a.yaml:"+c.want) {
				t.Errorf("the folder says %v, want a.yaml:%s", err, c.want)
			}
			defs, err := store.List(ctx, "EventSource", "")
			if err != nil || len(defs) != 1 || defs[0].Key() != "EventSource/default/in" || strings.Contains(string(defs[0].Object), "kafka") {
				t.Errorf("the last good set did not stay: %v, %v", defs, err)
			}
		})
	}
}
