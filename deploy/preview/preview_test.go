package preview_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/tiphys/tiphys/deploy/preview"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/manifest"
)

const harbour = `
apiVersion: argoproj.io/v1alpha1
kind: ApplicationSet
metadata:
  name: previews
  namespace: default
  annotations: {tiphys.dev/services: "label:deploy:", tiphys.dev/release: harbour}
spec:
  generators:
  - pullRequest:
      tiphys: {repo: harbour}
      filters: [{targetBranchMatch: ^main$}]
  template:
    metadata: {name: 'harbour-mr-{{number}}', labels: {branch: '{{branch_slug}}'}}
    spec:
      destination: {namespace: 'mr-{{number}}'}
      source: {repoURL: harbour, targetRevision: '{{head_sha}}', path: deploy, kustomize: {patches: [{patch: 'host: mr-{{ number }}.{{ unknown }}'}]}}
`

func set(t testing.TB, text string) manifest.ApplicationSet {
	t.Helper()
	var s manifest.ApplicationSet
	if err := yaml.UnmarshalStrict([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func request(number int, sha string, labels ...string) event.PullRequest {
	return event.PullRequest{Number: number, HeadSHA: sha, SourceBranch: "Fix/It_now", TargetBranch: "main", Labels: labels}
}

func TestPreviewLife(t *testing.T) {
	in := preview.Input{Set: set(t, harbour), Base: "harbour#7", Replies: []preview.Reply{{PullRequests: []event.PullRequest{
		request(1, "aaaa", "deploy:web", "deploy:api", "bug"), {Number: 2, TargetBranch: "other"}}}}}
	out := preview.Expand(in)
	if out.Err != nil || len(out.Applications) != 1 {
		t.Fatal(out)
	}
	a := out.Applications[0]
	want := map[string]string{"tiphys.dev/services": "label:deploy:", "tiphys.dev/services-selected": "api,web", "tiphys.dev/release": "harbour",
		"tiphys.dev/mr": "1", "tiphys.dev/head-sha": "aaaa", "tiphys.dev/base-release": "harbour#7"}
	if diff := cmp.Diff(want, a.Annotations); diff != "" {
		t.Error(diff)
	}
	if a.Name != "harbour-mr-1" || a.Labels["branch"] != "fix-it-now" || a.Spec.Source.TargetRevision != "aaaa" || a.Spec.Destination.Namespace != "mr-1" ||
		a.Spec.Source.Kustomize.Patches[0].Patch != "host: mr-1.{{ unknown }}" || a.Finalizers[0] != preview.ResourcesFinalizer {
		t.Errorf("%+v", a)
	}
	// A label alone moves the services and not the base; a push moves both.
	in.Previous, in.Base = out.Applications, "harbour#8"
	in.Replies[0].PullRequests = []event.PullRequest{request(1, "aaaa", "deploy:worker")}
	a = preview.Expand(in).Applications[0]
	if a.Annotations["tiphys.dev/base-release"] != "harbour#7" || a.Annotations["tiphys.dev/services-selected"] != "worker" {
		t.Error(a.Annotations)
	}
	in.Replies[0].PullRequests = []event.PullRequest{request(1, "bbbb", "deploy:worker")}
	if a = preview.Expand(in).Applications[0]; a.Annotations["tiphys.dev/base-release"] != "harbour#8" {
		t.Error(a.Annotations)
	}
	// An error is not an empty answer; a closed merge request is.
	in.Replies[0] = preview.Reply{Err: errors.New("forge is down")}
	if out = preview.Expand(in); out.Err == nil || len(out.Delete) != 0 || len(out.Applications) != 1 {
		t.Error(out)
	}
	in.Replies[0] = preview.Reply{}
	if out = preview.Expand(in); out.Err != nil || len(out.Delete) != 1 {
		t.Error(out)
	}
}

func TestBrake(t *testing.T) {
	in := preview.Input{Set: set(t, harbour), Replies: []preview.Reply{{}}}
	for n := 1; n <= 4; n++ {
		in.Replies[0].PullRequests = append(in.Replies[0].PullRequests, request(n, "a"))
	}
	in.Previous = preview.Expand(in).Applications
	in.Replies[0].PullRequests = in.Replies[0].PullRequests[:1]
	if out := preview.Expand(in); out.Held == "" || len(out.Delete) != 0 {
		t.Error(out)
	}
	in.Set.Annotations[preview.AnnotationApproved] = "2026"
	if out := preview.Expand(in); out.Held != "" || len(out.Delete) != 3 {
		t.Error(out)
	}
}

func TestGoTemplate(t *testing.T) {
	text := strings.NewReplacer("{{number}}", "{{.number}}", "{{branch_slug}}", `{{ .branch | slugify 6 true }}`, "{{head_sha}}", "{{.head_sha}}",
		"{{ number }}.{{ unknown }}", `{{ normalize .branch }}`, "  generators:", "  goTemplate: true\n  goTemplateOptions: [missingkey=error]\n  generators:").Replace(harbour)
	in := preview.Input{Set: set(t, text), Replies: []preview.Reply{{PullRequests: []event.PullRequest{request(1, "a")}}}}
	out := preview.Expand(in)
	if out.Err != nil {
		t.Fatal(out.Err)
	}
	a := out.Applications[0]
	if a.Labels["branch"] != "fix-it" || a.Spec.Source.Kustomize.Patches[0].Patch != "host: mr-fix-it-now" {
		t.Error(a.Labels, a.Spec.Source.Kustomize.Patches)
	}
	for _, hostile := range []string{`{{ env "HOME" }}`, `{{ getHostByName "x" }}`, `{{ repeat 999999999 "x" }}`, `{{ range until 99999999 }}x{{ end }}`, "{{ .nothing }}"} {
		in.Set.Spec.Template.Metadata.Name = "x" + hostile
		if out := preview.Expand(in); out.Err == nil {
			t.Errorf("%s was allowed", hostile)
		}
	}
}

func TestRefusals(t *testing.T) {
	for want, change := range map[string]func(*manifest.ApplicationSet){
		"templatePatch is not supported":     func(s *manifest.ApplicationSet) { s.Spec.TemplatePatch = "x" },
		"the git generator is not supported": func(s *manifest.ApplicationSet) { s.Spec.Generators[0].Git = []byte("{}") },
		"Helm is not supported yet": func(s *manifest.ApplicationSet) {
			s.Spec.Template.Spec = []byte(`{"destination":{"namespace":"n"},"source":{"repoURL":"x","path":".","helm":{}}}`)
		},
		"is no name for an Application": func(s *manifest.ApplicationSet) { s.Spec.Template.Metadata.Name = "Mr_{{number}}" },
	} {
		s := set(t, harbour)
		change(&s)
		out := preview.Expand(preview.Input{Set: s, Replies: []preview.Reply{{PullRequests: []event.PullRequest{request(1, "a"), request(2, "b")}}}})
		if out.Err == nil || !strings.Contains(out.Err.Error(), want) {
			t.Errorf("got %v, want %q", out.Err, want)
		}
	}
}

// Each element that makes no Application costs only its own (applicationset/controllers, validateGeneratedApplications, which keeps
// what a faulty element made before): the others are made, and the set says which one it is and why.
func TestFaultsOfElements(t *testing.T) {
	named := func(name string) manifest.ApplicationSet {
		s := set(t, strings.NewReplacer("{{number}}", "{{.number}}", "{{branch_slug}}", "{{.branch_slug}}", "{{head_sha}}", "{{.head_sha}}",
			"{{ number }}.{{ unknown }}", "x", "  generators:", "  goTemplate: true\n  generators:").Replace(harbour))
		s.Spec.Template.Metadata.Name = name
		return s
	}
	branch := func(number int, name string) event.PullRequest {
		return event.PullRequest{Number: number, HeadSHA: "a", SourceBranch: name, TargetBranch: "main"}
	}
	for _, c := range []struct {
		what, name string
		before     []event.PullRequest
		requests   []event.PullRequest
		want       string
		fault      string
		deleted    string
	}{
		{"a bad name", "app-{{.branch}}", nil, []event.PullRequest{branch(1, "bots/Update_x"), branch(2, "good")}, "app-good", `merge request 1: template: "app-bots/Update_x" is no name`, ""},
		{"a name with an empty part", "app.{{.branch}}", nil, []event.PullRequest{branch(1, ".x"), branch(2, "good")}, "app.good", "merge request 1", ""},
		{"a template that fails", `app-{{ if eq .branch "bad" }}{{ fail "on purpose" }}{{ end }}{{.number}}`, nil, []event.PullRequest{branch(1, "bad"), branch(2, "good")}, "app-2", "on purpose", ""},
		{"one name twice", "app-{{.branch_slug}}", nil, []event.PullRequest{branch(1, "a/b"), branch(2, "a-b"), branch(3, "c")}, "app-a-b app-c", `merge request 2: two parameter sets give the name "app-a-b"`, ""},
		{"a name that another has", "app-{{.branch_slug}}", []event.PullRequest{branch(2, "a-b")}, []event.PullRequest{branch(3, "a/b"), branch(2, "a-b")}, "app-a-b", "merge request 3: two parameter sets", ""},
		{"a slug of nothing", "app-{{.branch_slug}}", nil, []event.PullRequest{branch(1, "---"), branch(2, "good")}, "app-good", "merge request 1", ""},
		{"what was made before stays", "app-{{.branch}}", []event.PullRequest{branch(1, "one"), branch(2, "two")}, []event.PullRequest{branch(1, "One"), branch(2, "two")}, "app-one app-two", "merge request 1", ""},
		{"what is closed goes all the same", "app-{{.branch}}", []event.PullRequest{branch(1, "one"), branch(2, "two")}, []event.PullRequest{branch(3, "Three"), branch(2, "two")}, "app-two", "merge request 3", "app-one"},
	} {
		in := preview.Input{Set: named(c.name), Replies: []preview.Reply{{PullRequests: c.before}}}
		in.Previous = preview.Expand(in).Applications
		in.Replies[0].PullRequests = c.requests
		out := preview.Expand(in)
		var names []string
		for _, a := range out.Applications {
			names = append(names, a.Name)
			if c.before != nil && a.Name == "app-a-b" && a.Annotations["tiphys.dev/mr"] != "2" {
				t.Errorf("%s: merge request %s took the name", c.what, a.Annotations["tiphys.dev/mr"])
			}
		}
		slices.Sort(names)
		if got := strings.Join(names, " "); out.Err != nil || got != c.want || len(out.Faults) != 1 || !strings.Contains(out.Faults[0], c.fault) || strings.Join(out.Delete, " ") != c.deleted {
			t.Errorf("%s: %s, %v, deleted %v, error %v", c.what, got, out.Faults, out.Delete, out.Err)
		}
	}
	// So with a list, where it cannot be told what an element made that fails: nothing is deleted then.
	s := set(t, "metadata: {name: s}\nspec: {generators: [{list: {elements: [{name: Bad}, {name: good}]}}], template: {metadata: {name: '{{name}}'}, spec: {destination: {namespace: prod}, source: {repoURL: x, path: .}}}}")
	if out := preview.Expand(preview.Input{Set: s}); len(out.Applications) != 1 || len(out.Faults) != 1 || !strings.Contains(out.Faults[0], "element 1 of generator 1") {
		t.Error(out)
	}
	// Many faults are counted and not all told.
	in := preview.Input{Set: named("app-{{.branch}}"), Replies: []preview.Reply{{PullRequests: []event.PullRequest{branch(1, "good")}}}}
	for n := range 50 {
		in.Replies[0].PullRequests = append(in.Replies[0].PullRequests, branch(n+2, strings.Repeat("X", 4000)))
	}
	if out := preview.Expand(in); len(out.Applications) != 1 || len(out.Faults) != 21 || out.Faults[20] != "and 30 more" || len(strings.Join(out.Faults, "")) > 20_000 {
		t.Error(len(out.Applications), out.Faults)
	}
}

// The slugs of github.com/gosimple/slug 1.15 as Argo CD calls it (applicationset/generators/pull_request.go, and
// applicationset/utils, SlugifyName and SanitizeName, with their tests).
func TestSlugs(t *testing.T) {
	for branch, want := range map[string]string{
		"функция":           "funktsiia",
		"Feature_ABC/Ünï.x": "feature-abc-uni-x",
		"feat/a&b@c":        "feat-aandbatc",
		"__x__":             "x",
		"a//b__c--d":        "a-b-c-d",
		"日本語":               "ri-ben-yu",
		"größe/łódź":        "grosse-lodz",
		"🚀":                 "",
		"release/1.2.3":     "release-1-2-3",
		"feat/a+very_long+pull+request+branch+name+that+goes+on+and+on": "feat-a-very-long-pull-request-branch-name-that",
		strings.Repeat("x", 60):        strings.Repeat("x", 50),
		strings.Repeat("x", 50) + "-y": strings.Repeat("x", 50),
		" spaced ":                     "spaced",
	} {
		in := preview.Reply{PullRequests: []event.PullRequest{{Number: 1, SourceBranch: branch, TargetBranch: branch, HeadSHA: "0123456789"}}}
		list, err := preview.Params(manifest.ApplicationSetGenerator{PullRequest: &manifest.PullRequestGenerator{Tiphys: &manifest.PullRequestForge{}}}, in, true, nil)
		if err != nil || list[0]["branch_slug"] != want || list[0]["target_branch_slug"] != want {
			t.Errorf("%s: %v %v, want %s", branch, list, err, want)
		}
		if list[0]["head_short_sha"] != "01234567" || list[0]["head_short_sha_7"] != "0123456" {
			t.Error(list[0])
		}
	}
	for text, want := range map[string]string{
		`{{ slugify .b }}`:              "feat-a-really-long-pull-request-name-to-test-argo",
		`{{ slugify 23 true .b }}`:      "feat-a-really-long-pull",
		`{{ slugify 50 false .b }}`:     "feat-a-really-long-pull-request-name-to-test-argo",
		`{{ slugify 50 true .b }}`:      "feat-a-really-long-pull-request-name-to-test-argo",
		`{{ slugify 9 .b }}`:            "feat-a",
		`{{ slugify 9 false .b }}`:      "feat-a-re",
		`{{ slugify 0 true "a.b" }}`:    "a-b",
		`{{ slugify 3 false "a---b" }}`: "a",
		`{{ slugify "Ünï" }}`:           "n",
		`{{ slugify 5 "Ünï" "x" "y" }}`: "!",
		`{{ slugify "x" true "y" }}`:    "!",
		`{{ slugify -1 "y" }}`:          "!",
		`{{ slugify true "y" }}`:        "!",
		`{{ normalize "Größe_x.Y" }}`:   "gr--e-x.y",
		`{{ normalize "-.x.-" }}`:       "x",
	} {
		got, err := preview.Values(map[string]string{"v": text}, map[string]any{"b": "feat/a_really+long_pull_request_name_to_test_argo_slugification_and_branch_name_shortening_feature"}, true, nil)
		if want == "!" {
			if err == nil {
				t.Errorf("%s: %v", text, got)
			}
			continue
		}
		if err != nil || got["values"].(map[string]any)["v"] != want {
			t.Errorf("%s: %v %v, want %s", text, got["values"], err, want)
		}
	}
}

func FuzzTemplate(f *testing.F) {
	f.Add("{{ .number }}", true)
	f.Add("{{ number }} {{", false)
	f.Fuzz(func(t *testing.T, text string, goTemplate bool) {
		_, _ = preview.Values(map[string]string{"x": text}, map[string]any{"number": "1"}, goTemplate, nil)
	})
}
