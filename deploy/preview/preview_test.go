package preview_test

import (
	"errors"
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
		"put what tells them apart":     func(s *manifest.ApplicationSet) { s.Spec.Template.Metadata.Name = "same" },
	} {
		s := set(t, harbour)
		change(&s)
		out := preview.Expand(preview.Input{Set: s, Replies: []preview.Reply{{PullRequests: []event.PullRequest{request(1, "a"), request(2, "b")}}}})
		if out.Err == nil || !strings.Contains(out.Err.Error(), want) {
			t.Errorf("got %v, want %q", out.Err, want)
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
