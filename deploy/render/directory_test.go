package render_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/tiphys/tiphys/deploy/render"
	"github.com/tiphys/tiphys/manifest"
)

// cm is a ConfigMap as a document.
func cm(name string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\n"
}

// file is a part of an archive.
func file(name string, content ...string) string {
	return "-- " + name + " --\n" + strings.Join(content, "---\n")
}

func withOptions(t *testing.T, root, options string) render.Source {
	t.Helper()
	var s manifest.ApplicationSource
	if err := yaml.Unmarshal([]byte(options), &s); err != nil {
		t.Fatal(err)
	}
	return render.Source{Root: root, Path: "a", Directory: s.Directory, Kustomize: s.Kustomize, AppName: "shop", Namespace: "prod"}
}

// rendered gives the names of what a source renders to, what is said of it, and what is wrong with it.
func rendered(t *testing.T, s render.Source) (names []string, notes, wrong string) {
	t.Helper()
	r, err := render.Render(t.Context(), s)
	if err != nil {
		return nil, "", err.Error()
	}
	var said, faults []string
	for _, p := range r.Problems {
		if p.Severity == manifest.SeverityError {
			faults = append(faults, p.Error())
		} else {
			said = append(said, p.Error())
		}
	}
	for _, o := range r.Objects {
		names = append(names, o.GetName())
	}
	return names, strings.Join(said, "; "), strings.Join(faults, "; ")
}

// What of a folder is a manifest: argo-cd 3.6, reposerver/repository/repository.go (findManifests, getObjsFromYAMLOrJSON,
// GenerateManifests, mergeSourceParameters) and docs/user-guide/jsonnet.md. Patterns are those of util/glob.
func TestFiles(t *testing.T) {
	type want struct{ names, note, wrong string }
	for _, c := range []struct {
		what, archive, options string
		want                   want
	}{
		// include and exclude
		{"a class", file("a/1-x.yaml", cm("x")) + file("a/y.yaml", cm("y")), `directory: {include: "[0-9]-*.yaml"}`, want{names: "x"}},
		{"a class that is negated", file("a/1-x.yaml", cm("x")) + file("a/y.yaml", cm("y")), `directory: {include: "[!0-9]*"}`, want{names: "y"}},
		{"nested alternatives", file("a/x.yaml", cm("x")) + file("a/y1.yaml", cm("y1")) + file("a/z.yaml", cm("z")), `directory: {exclude: "{x,{y,z}[0-9]}.yaml"}`, want{names: "z"}},
		{"an escaped character", file("a/[x].yaml", cm("x")) + file("a/x.yaml", cm("y")), `directory: {include: '\[x\].yaml'}`, want{names: "x"}},
		{"a star goes over slashes", file("a/b/c/x.yaml", cm("x")), `directory: {recurse: true, include: "b*.yaml"}`, want{names: "x"}},
		{"what is excluded is not included", file("a/x.yaml", cm("x")) + file("a/y.yaml", cm("y")), `directory: {include: "*.yaml", exclude: "x.yaml"}`, want{names: "y"}},
		{"no pattern", file("a/x.yaml", cm("x")), `directory: {include: "[x"}`, want{wrong: "directory.include"}},
		{"nothing is included", file("a/x.yaml", cm("x")), `directory: {include: "*.yml"}`, want{note: "a holds no object (directory.include and exclude leave out all of its 1 files"}},
		{"nothing is there", file("a/notes.txt", "x\n"), `{}`, want{note: "a holds no object (there is no file of manifests"}},
		{"names with other ends", file("a/x.yaml.sealed", cm("x")) + file("a/y.yaml", cm("y")), `directory: {disableExtensionFilter: true, include: "*.sealed"}`, want{names: "x"}},
		// YAML that is no resource
		{"values", file("a/values.yaml", "image: x\n") + file("a/x.yaml", cm("x")), `{}`, want{names: "x", note: "a/values.yaml:1:1: the file is no resource and is passed over"}},
		{"a list", file("a/l.yaml", "- a\n- b\n") + file("a/x.yaml", cm("x")), `{}`, want{names: "x", note: "a/l.yaml:1:1"}},
		{"a text", file("a/l.yml", "hello\n") + file("a/x.yaml", cm("x")), `{}`, want{names: "x", note: "a/l.yml:1:1"}},
		{"no YAML", file("a/t.yaml", "{{ if .Values.x }}\nfoo: [\n") + file("a/x.yaml", cm("x")), `{}`, want{names: "x", note: "a/t.yaml:"}},
		{"no YAML that looks like a resource", file("a/t.yaml", "apiVersion: v1\nkind: X\nmetadata: {\n") + file("a/x.yaml", cm("x")), `{}`, want{wrong: "a/t.yaml:"}},
		{"no kind", file("a/t.yaml", "apiVersion: v1\nmetadata: {name: x}\n"), `{}`, want{note: "a/t.yaml:1:1"}},
		{"no kind, with the words and colons", file("a/t.yaml", "apiVersion: v1\nmetadata:\n  name: x\nspec:\n  kind: y\n"), `{}`, want{wrong: "a/t.yaml:1:1: kind is required"}},
		{"a fault after a resource", file("a/t.yaml", cm("x"), "foo: 1\n"), `{}`, want{wrong: "a/t.yaml:5:1: kind is required"}},
		{"a fault before a resource", file("a/t.yaml", "foo: 1\n", cm("x")), `{}`, want{wrong: "a/t.yaml:1:1: kind is required"}},
		{"nothing but comments", file("a/t.yaml", "# one\n", "# two\n") + file("a/x.yaml", cm("x")), `{}`, want{names: "x"}},
		{"empty documents", file("a/t.yaml", "", "\n", cm("x"), "", "null\n"), `{}`, want{names: "x"}},
		{"an empty file", file("a/t.yaml") + file("a/x.yaml", cm("x")), `{}`, want{names: "x"}},
		{"a byte order mark", file("a/t.yaml", "\ufeff"+cm("x")), `{}`, want{names: "x"}},
		{"a file that says so", file("a/t.yaml", "# +argocd:skip-file-rendering\n"+cm("y")) + file("a/x.yaml", cm("x")), `{}`, want{names: "x"}},
		{"nothing but values", file("a/values.yaml", "image: x\n"), `{}`, want{note: "its files hold nothing that is a resource"}},
		{"a resource without a version", file("a/t.yaml", "kind: ConfigMap\nmetadata:\n  name: x\napiVersion: \n"), `{}`, want{wrong: "apiVersion is required"}},
		// JSON
		{"an object", file("a/x.json", `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}`+"\n"), `{}`, want{names: "x"}},
		{"an object of another kind", file("a/package.json", `{"name": "x", "version": "1"}`+"\n") + file("a/x.yaml", cm("x")), `{}`, want{names: "x", note: "a/package.json"}},
		{"two objects", file("a/x.json", `{"kind": "A", "apiVersion": "v1", "metadata": {"name": "a"}} {"kind": "B"}`+"\n"), `{}`, want{wrong: "more than one object"}},
		{"a list in JSON", file("a/x.json", "[]\n"), `{}`, want{wrong: "a/x.json"}},
		{"no JSON", file("a/x.json", "{\n"), `{}`, want{wrong: "a/x.json: it is no JSON"}},
		// lists
		{"a List", file("a/l.yaml", "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Secret, metadata: {name: s}}, {apiVersion: v1, kind: Secret, metadata: {name: t}}]\n"), `{}`, want{names: "s t"}},
		{"a list of a kind", file("a/l.yaml", "apiVersion: v1\nkind: ConfigMapList\nitems: [{apiVersion: v1, kind: ConfigMap, metadata: {name: s}}]\n"), `{}`, want{names: "s"}},
		{"a list of lists", file("a/l.yaml", "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: ConfigMap, metadata: {name: s}}]}]\n"), `{}`, want{names: "s"}},
		{"a list of nothing", file("a/l.yaml", "apiVersion: v1\nkind: ConfigMapList\nitems: null\n") + file("a/x.yaml", cm("x")), `{}`, want{names: "x"}},
		{"an empty list", file("a/l.yaml", "apiVersion: v1\nkind: List\nitems: []\n") + file("a/x.yaml", cm("x")), `{}`, want{names: "x"}},
		{"an item that is none", file("a/l.yaml", "apiVersion: v1\nkind: ConfigMapList\nitems: [7]\n"), `{}`, want{wrong: "no resource"}},
		// Jsonnet
		{"an object in Jsonnet", file("a/x.jsonnet", `{apiVersion: "v1", kind: "ConfigMap", metadata: {name: "j" + std.toString(1 + 1)}}`+"\n"), `{}`, want{names: "j2"}},
		{"a list in Jsonnet", file("a/x.jsonnet", `[{apiVersion: "v1", kind: "ConfigMap", metadata: {name: n}} for n in ["p", "q"]] + [null]`+"\n"), `{}`, want{names: "p q"}},
		{"a List in Jsonnet", file("a/x.jsonnet", `{apiVersion: "v1", kind: "List", items: [{apiVersion: "v1", kind: "ConfigMap", metadata: {name: "p"}}]}`+"\n"), `{}`, want{names: "p"}},
		{"external variables", file("a/x.jsonnet", `{apiVersion: "v1", kind: "ConfigMap", metadata: {name: std.extVar("n") + std.extVar("c")}}`+"\n"), `directory: {jsonnet: {extVars: [{name: "n", value: "$ARGOCD_APP_NAME"}, {name: c, code: true, value: "1 + 2"}]}}`, want{names: "shop3"}},
		{"arguments", file("a/x.jsonnet", `function(n, c=7) {apiVersion: "v1", kind: "ConfigMap", metadata: {name: n + c}}`+"\n"), `directory: {jsonnet: {tlas: [{name: "n", value: "a$$"}, {name: c, code: true, value: "1 + 2"}]}}`, want{names: "a$3"}},
		{"an import beside it", file("a/x.jsonnet", `(import "lib/n.libsonnet") {apiVersion: "v1"}`+"\n") + file("a/lib/n.libsonnet", `{kind: "ConfigMap", metadata: {name: "i"}}`+"\n"), `{}`, want{names: "i"}},
		{"an import from the repository", file("a/x.jsonnet", `(import "../b/n.libsonnet") {apiVersion: "v1"}`+"\n") + file("b/n.libsonnet", `{kind: "ConfigMap", metadata: {name: "i"}}`+"\n"), `{}`, want{names: "i"}},
		{"an import from a library folder", file("a/x.jsonnet", `(import "n.libsonnet") {apiVersion: "v1", data: {t: importstr "t.txt"}}`+"\n") + file("vendor/n.libsonnet", `{kind: "ConfigMap", metadata: {name: "i"}}`+"\n") + file("vendor/t.txt", "t\n"), `directory: {jsonnet: {libs: [/vendor]}}`, want{names: "i"}},
		{"the last library folder counts", file("a/x.jsonnet", `(import "n.libsonnet") {apiVersion: "v1"}`+"\n") + file("v/n.libsonnet", `{kind: "ConfigMap", metadata: {name: "i"}}`+"\n") + file("w/n.libsonnet", `{kind: "ConfigMap", metadata: {name: "j"}}`+"\n"), `directory: {jsonnet: {libs: [v, w]}}`, want{names: "j"}},
		{"libraries are no manifests", file("a/n.libsonnet", "{}\n") + file("a/x.yaml", cm("x")), `{}`, want{names: "x"}},
		{"a fault in Jsonnet", file("a/x.jsonnet", "{a: error 'why'}\n"), `{}`, want{wrong: "why"}},
		{"no resource in Jsonnet", file("a/x.jsonnet", "{a: 1}\n"), `{}`, want{wrong: "a/x.jsonnet: it makes something else"}},
		{"an import of nothing", file("a/x.jsonnet", "import 'x'\n"), `{}`, want{wrong: "couldn't open import"}},
		{"an import from elsewhere", file("a/x.jsonnet", "{x: importstr '/etc/passwd'}\n"), `{}`, want{wrong: "outside of the repository"}},
		{"an import from above", file("a/x.jsonnet", "{x: importstr '../../secret'}\n"), `{}`, want{wrong: "outside of the repository"}},
		{"an import through a link", file("a/x.jsonnet", "{x: importstr 'l'}\n") + file("a/l", "-> /etc/passwd\n"), `{}`, want{wrong: "a/l is a symbolic link"}},
		{"Jsonnet that never ends", file("a/x.jsonnet", "local f(x) = 1 + f(x); f(1)\n"), `{}`, want{wrong: "max stack frames exceeded"}},
		// what the repository says itself
		{"overrides of the source", file("a/.argocd-source.yaml", "directory: {recurse: true}\npath: b\n") + file("a/b/x.yaml", cm("x")), `{}`, want{names: "x"}},
		{"overrides of the Application", file("a/.argocd-source.yaml", "directory: {recurse: true, exclude: x.yaml}\n") + file("a/.argocd-source-shop.yaml", "directory: {exclude: null}\n") + file("a/.argocd-source-other.yaml", "directory: {recurse: false}\n") + file("a/x.yaml", cm("x")) + file("a/b/y.yaml", cm("y")), `{}`, want{names: "y x"}},
		{"overrides of a tool that there is none of", file("a/.argocd-source.yaml", "helm: {parameters: [{name: x, value: y}]}\n"), `{}`, want{wrong: "a/.argocd-source.yaml: helm: Helm is not supported"}},
		{"overrides that are none", file("a/.argocd-source.yaml", "directory: [\n"), `{}`, want{wrong: "a/.argocd-source.yaml"}},
		{"overrides in a link", file("a/.argocd-source.yaml", "-> /etc/passwd\n"), `{}`, want{wrong: "symbolic link"}},
	} {
		names, notes, wrong := rendered(t, withOptions(t, checkout(t, c.archive), c.options))
		if c.want.wrong != "" {
			if !strings.Contains(wrong, c.want.wrong) {
				t.Errorf("%s: %v, %q; wrong is %q, want %q", c.what, names, notes, wrong, c.want.wrong)
			}
			continue
		}
		if got := strings.Join(names, " "); wrong != "" || got != c.want.names || !strings.Contains(notes, c.want.note) || c.want.note == "" && notes != "" {
			t.Errorf("%s: %q, %q; wrong is %q, want %+v", c.what, got, notes, wrong, c.want)
		}
	}
}

// What takes for ever or makes without end is ended with its process.
func TestHostileJsonnet(t *testing.T) {
	for what, program := range map[string]string{
		"a circle":     "local f(x) = f(x + 1) tailstrict; f(1)",
		"a large text": `std.foldl(function(s, i) s + s, std.range(1, 60), "x")`,
		"a large list": "std.range(1, 1e9)",
	} {
		begin := time.Now()
		s := withOptions(t, checkout(t, file("a/x.jsonnet", program+"\n")), "{}")
		_, err := (render.Child{Timeout: 3 * time.Second, Memory: 256 << 20}).Render(t.Context(), s)
		if took := time.Since(begin); err == nil || took > 20*time.Second {
			t.Errorf("%s: %v after %v", what, err, took)
		}
	}
}

// Patterns and lists whose work multiplies are refused.
func TestHostileFiles(t *testing.T) {
	var many strings.Builder
	for i := range 2000 {
		many.WriteString(file(fmt.Sprintf("a/%s%d.yaml", strings.Repeat("a", 100), i), cm(fmt.Sprint("x", i))))
	}
	dir := checkout(t, many.String())
	begin := time.Now()
	_, _, wrong := rendered(t, withOptions(t, dir, `directory: {exclude: "`+strings.Repeat("{a*,*a}", 500)+`b"}`))
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("it took %v: %s", took, wrong)
	}
	items := strings.Repeat("{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}, ", 20)
	s := withOptions(t, checkout(t, file("a/l.yaml", "apiVersion: v1\nkind: ConfigMapList\nitems: ["+items+"]\n")), "{}")
	s.Limits.Objects = 10
	if _, _, wrong := rendered(t, s); !slices.ContainsFunc([]string{"more than the 10 allowed"}, func(text string) bool { return strings.Contains(wrong, text) }) {
		t.Error(wrong)
	}
}
