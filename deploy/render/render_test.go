package render_test

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
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy/render"
	"github.com/tiphys/tiphys/manifest"
)

// TestMain lets the test binary be the child.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "__render" {
		if err := render.Main(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// checkout lays out a txtar archive; a file whose content is "-> target" becomes a link.
func checkout(t *testing.T, archive string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
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

const harbour = `
-- base/kustomization.yaml --
resources: [api.yaml]
-- base/api.yaml --
apiVersion: apps/v1
kind: Deployment
metadata: {name: api}
spec:
  template:
    spec:
      initContainers: [{name: wait, image: "harbour/api:1"}]
      containers: [{name: api, image: "harbour/api:1"}, {name: side, image: "r.example.org:5000/harbour/web@sha256:aa"}]
-- overlays/prod/kustomization.yaml --
resources: [../../base]
namePrefix: old-
configMapGenerator:
- name: settings
  literals: [color=blue]
-- plain/a.yaml --
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
---
apiVersion: v1
kind: Namespace
metadata: {name: ns}
-- plain/b.json --
{"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "b", "namespace": "own"}}]}
-- plain/deeper/c.yml --
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
-- plain/notes.txt --
not a manifest
-- plain/skipped.yaml --
# +argocd:skip-file-rendering
nonsense: [
`

func names(objects []*unstructured.Unstructured) []string {
	var found []string
	for _, o := range objects {
		found = append(found, o.GetKind()+" "+o.GetNamespace()+"/"+o.GetName())
	}
	return found
}

func images(o *unstructured.Unstructured) []string {
	var found []string
	for _, list := range []string{"initContainers", "containers"} {
		items, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", list)
		for _, item := range items {
			found = append(found, item.(map[string]any)["image"].(string))
		}
	}
	return found
}

func TestDirectory(t *testing.T) {
	dir := checkout(t, harbour)
	for name, c := range map[string]struct {
		options *manifest.DirectorySource
		want    []string
	}{
		"flat":    {nil, []string{"ConfigMap app/a", "Namespace /ns", "Secret own/b"}},
		"recurse": {&manifest.DirectorySource{Recurse: true}, []string{"ConfigMap app/a", "Namespace /ns", "Secret own/b", "ConfigMap app/c"}},
		"include": {&manifest.DirectorySource{Recurse: true, Include: "{b.json,*.yml}"}, []string{"Secret own/b", "ConfigMap app/c"}},
		"exclude": {&manifest.DirectorySource{Recurse: true, Exclude: "deeper/*"}, []string{"ConfigMap app/a", "Namespace /ns", "Secret own/b"}},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := render.Render(t.Context(), render.Source{Root: dir, Path: "plain", Directory: c.options, Namespace: "app"})
			if err != nil || len(r.Problems) > 0 {
				t.Fatal(err, r.Problems)
			}
			if diff := cmp.Diff(c.want, names(r.Objects)); diff != "" || r.Tool != render.ToolDirectory {
				t.Error(r.Tool, diff)
			}
		})
	}
}

func TestKustomize(t *testing.T) {
	dir := checkout(t, harbour)
	r, err := render.Render(t.Context(), render.Source{Root: dir, Path: "overlays/prod", Namespace: "app",
		Kustomize: &manifest.KustomizeSource{NamePrefix: "new-", Images: []string{"harbour/api:7"}, CommonLabels: map[string]string{"l": "v"},
			Replicas: []manifest.KustomizeCount{{Name: "api", Count: "3"}},
			Patches:  []manifest.KustomizePatch{{Patch: "- {op: add, path: /metadata/annotations, value: {x: why}}", Target: &manifest.KustomizeTarget{Kind: "Deployment"}}}},
		Images: map[string]string{"web": "r/harbour/web@sha256:bb", "nobody": "x"}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Tool != render.ToolKustomize || len(r.Objects) != 2 {
		t.Fatal(r.Tool, names(r.Objects))
	}
	d := r.Objects[0]
	if diff := cmp.Diff([]string{"harbour/api:7", "harbour/api:7", "r/harbour/web@sha256:bb"}, images(d)); diff != "" {
		t.Error(diff)
	}
	replicas, _, _ := unstructured.NestedInt64(d.Object, "spec", "replicas")
	if d.GetName() != "new-api" || replicas != 3 || d.GetLabels()["l"] != "v" || d.GetAnnotations()["x"] != "why" {
		t.Error(d.Object)
	}
	if diff := cmp.Diff([]string{"nobody"}, r.Unused); diff != "" {
		t.Error(diff)
	}
}

func TestOverride(t *testing.T) {
	for _, c := range []struct {
		image  string
		images map[string]string
		want   string
	}{
		{"harbour/api:1", map[string]string{"api": "reg/harbour/api@sha256:1"}, "reg/harbour/api@sha256:1"},
		{"harbour/api", map[string]string{"api": "a", "harbour/api": "b"}, "b"},
		{"reg:5000/harbour/api:2", map[string]string{"reg:5000/harbour/api": "c", "harbour/api": "b"}, "c"},
		{"reg.example.org/harbour/api@sha256:00", map[string]string{"harbour/api:9": "b"}, "b"},
		{"reg.example.org/harbour/api:9", map[string]string{"api": "sha256:11"}, "reg.example.org/harbour/api@sha256:11"},
		{"harbour/apis", map[string]string{"api": "a"}, "harbour/apis"},
		{"postgres:16", map[string]string{"api": "a"}, "postgres:16"},
	} {
		o := map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"image": c.image}}}}
		render.Override(o, c.images, map[string]bool{})
		if got := o["spec"].(map[string]any)["containers"].([]any)[0].(map[string]any)["image"]; got != c.want {
			t.Errorf("%s with %v: got %s, want %s", c.image, c.images, got, c.want)
		}
	}
}

// Hostile sources, after CVE-2022-24348, -24730, -24731 (traversal), -24904, -31036 (links) and
// GHSA-6gcg-hp2x-q54h's kind: each is refused, in both places, with the file's name.
func TestRefuses(t *testing.T) {
	for name, c := range map[string]struct{ path, archive, want string }{
		"path above":       {"../x", "", `path "../x" leaves the repository`},
		"absolute path":    {"/etc", "", `path "/etc" leaves the repository`},
		"linked file":      {"a", "-- a/x.yaml --\n-> /etc/passwd\n", "a/x.yaml is a symbolic link"},
		"linked above":     {"a", "-- a/x.yaml --\n-> ../../secret\n", "a/x.yaml is a symbolic link"},
		"linked folder":    {"a", "-- a --\n-> /etc\n", "a is a symbolic link"},
		"circle":           {"a", "-- a/x.yaml --\n-> y.yaml\n-- a/y.yaml --\n-> x.yaml\n", "circle"},
		"base above":       {"a", "-- a/kustomization.yaml --\nresources: [../../etc]\n", "outside of the repository"},
		"absolute base":    {"a", "-- a/kustomization.yaml --\nresources: [/etc/passwd]\n", "outside of the repository"},
		"remote base":      {"a", "-- a/kustomization.yaml --\nresources: ['https://example.org/x.yaml']\n", "is remote"},
		"remote git":       {"a", "-- a/kustomization.yaml --\nresources: ['github.com/x/y//z?ref=main']\n", "is remote"},
		"chart":            {"a", "-- a/kustomization.yaml --\nhelmCharts: [{name: x}]\n", "helmCharts is not supported"},
		"sibling file":     {"a", "-- s.yaml --\na: b\n-- a/kustomization.yaml --\nresources: [../s.yaml]\n", "s.yaml"},
		"linked generator": {"a", "-- a/f --\n-> /etc/passwd\n-- a/kustomization.yaml --\nconfigMapGenerator: [{name: x, files: [f]}]\n", "a/f is a symbolic link"},
		"linked base":      {"a", "-- a/b --\n-> /etc\n-- a/kustomization.yaml --\nresources: [b]\n", "a/b is a symbolic link"},
	} {
		t.Run(name, func(t *testing.T) {
			s := render.Source{Root: checkout(t, c.archive), Path: c.path}
			for where, f := range map[string]func(context.Context, render.Source) (render.Result, error){
				"here": render.Render, "child": render.Child{}.Render,
			} {
				_, err := f(t.Context(), s)
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s: got %v, want %q", where, err, c.want)
				}
				if name != "sibling file" && !render.Refused(err) {
					t.Errorf("%s: not a refusal: %v", where, err)
				}
			}
		})
	}
}

func TestLimits(t *testing.T) {
	dir := checkout(t, harbour)
	for want, l := range map[string]render.Limits{
		"larger than the 10 bytes":   {FileBytes: 10},
		"the source is larger":       {TotalBytes: 100},
		"more than 1 files":          {Files: 1},
		"3 objects, more than the 2": {Objects: 2},
	} {
		if _, err := render.Render(t.Context(), render.Source{Root: dir, Path: "plain", Limits: l}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestChildGivesTheSame(t *testing.T) {
	s := render.Source{Root: checkout(t, harbour), Path: "overlays/prod", Namespace: "app", Images: map[string]string{"api": "x@sha256:1"}}
	here, err := render.Render(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	there, err := render.Child{}.Render(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(here, there); diff != "" {
		t.Error(diff)
	}
}

func TestChildIsStopped(t *testing.T) {
	s := render.Source{Root: checkout(t, harbour), Path: "plain"}
	if _, err := (render.Child{Timeout: time.Nanosecond}).Render(t.Context(), s); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline", err)
	}
	many := strings.Repeat("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n", 60_000)
	s = render.Source{Root: checkout(t, "-- a/x.yaml --\n"+many), Path: "a"}
	if _, err := (render.Child{Memory: 16 << 20}).Render(t.Context(), s); err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("got %v, want the limit of memory", err)
	}
}

func TestProblemsHavePositions(t *testing.T) {
	dir := checkout(t, "-- a/x.yaml --\napiVersion: v1\nkind: ConfigMap\n---\nfoo: [\n")
	r, err := render.Render(t.Context(), render.Source{Root: dir, Path: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if !manifest.Failed(r.Problems) || r.Problems[0].Position.File != "a/x.yaml" || r.Problems[0].Position.Line == 0 {
		t.Error(r.Problems)
	}
}

func FuzzDirectory(f *testing.F) {
	f.Add([]byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "x.yaml"), data, 0o644); err != nil {
			t.Fatal(err)
		}
		_, _ = render.Render(t.Context(), render.Source{Root: dir, Images: map[string]string{"a": "b"}})
	})
}
