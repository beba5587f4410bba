package render_test

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy/render"
)

const web = `
-- a/web.yaml --
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: %s}]}
-- a/more/kustomization.yaml --
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
commonAnnotations: {more: "yes"}
-- a/most/kustomization.yml --
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
commonAnnotations: {most: "yes"}
`

// seen gives what kustomize options change of a Deployment: what is not there is left out.
func seen(o *unstructured.Unstructured) string {
	var parts []string
	add := func(name string, fields ...string) {
		if v, ok, _ := unstructured.NestedFieldNoCopy(o.Object, fields...); ok {
			parts = append(parts, name+"="+strings.TrimPrefix(fmt.Sprint(v), "map"))
		}
	}
	parts = append(parts, o.GetName()+"/"+o.GetNamespace())
	add("n", "spec", "replicas")
	add("l", "metadata", "labels")
	add("t", "spec", "template", "metadata", "labels")
	add("s", "spec", "selector", "matchLabels")
	add("a", "metadata", "annotations")
	return strings.Join(parts, " ")
}

// The forms of "kustomize edit set image", which Argo CD calls (util/kustomize/kustomize.go): kustomize 5.8,
// commands/edit/set/setimage.go with its tests, and api/internal/image.Split for names with ports.
func TestKustomizeImages(t *testing.T) {
	const digest = "sha256:24a0c4b4a4c0eb97a1aabb8e29f18e917d05abfe1b7a7c07857230879ce7d3d3"
	const given = `{name: web, newName: r.localhost/files, newTag: v1}`
	for _, c := range []struct{ image, images, options, want string }{
		{"web", "", "web:v2", "web:v2"},
		{"web:v1", "", "web@" + digest, "web@" + digest},
		{"web:v1", "", "web:v2@" + digest, "web:v2@" + digest},
		{"web:v1", "", "web=r.localhost:5000/x/files:v2", "r.localhost:5000/x/files:v2"},
		{"web:v1", "", "web=r.localhost:5000/x/files", "r.localhost:5000/x/files:v1"},
		{"web:v1", "", "web=files@" + digest, "files@" + digest},
		{"web:v1", "", "web=files:v2@" + digest, "files:v2@" + digest},
		{"r.localhost:5000/web:v1", "", "r.localhost:5000/web:v2", "r.localhost:5000/web:v2"},
		{"r.localhost:5000/web:v1", "", "r.localhost:5000/web=files", "files:v1"},
		{"web", given, "web=*:v2", "r.localhost/files:v2"},
		{"web", given, "web=*:*", "r.localhost/files:v1"},
		{"web", given, "web=other:*", "other:v1"},
		{"web", given, "web=*@" + digest, "r.localhost/files@" + digest},
		{"web", `{name: web, newName: files, digest: "` + digest + `"}`, "web=other@*", "other@" + digest},
		{"web", `{name: web, newName: files, newTag: v1, digest: "` + digest + `"}`, "web=*:v2@*", "files:v2@" + digest},
		{"web:v1", "", "web=*:v2", "web:v2"}, // nothing is there to be kept
		{"web:v1", "", "web:*", "web:v1"},
		{"web:v1", given, "web:v2", "web:v2"},
		{"web:v1", given, "other:v2", "r.localhost/files:v1"},
		{"web:v1", "", "web:$ARGOCD_APP_NAME", "web:shop"},
		{"web:v1", "", "web:v2, web:v3", "web:v3"},
		{"web:v1", "", "web", "! web: "},
		{"web:v1", "", "'=x:v1'", "web:v1"},
		{"web:v1", "", "':v1'", "! :v1: "},
	} {
		dir := checkout(t, fmt.Sprintf(web, c.image)+file("a/kustomization.yaml", "resources: [web.yaml]\nimages: ["+c.images+"]\n"))
		r, err := render.Render(t.Context(), withOptions(t, dir, `kustomize: {images: [`+c.options+`]}`))
		if why, fails := strings.CutPrefix(c.want, "! "); fails {
			if err == nil || !strings.Contains(err.Error(), strings.TrimSuffix(why, ": ")) {
				t.Errorf("%s over %s: %v, want an error of %s", c.options, c.images, err, why)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s over %s and {%s}: %v", c.options, c.image, c.images, err)
		} else if got := images(r.Objects[0])[0]; got != c.want {
			t.Errorf("%s over %s and {%s}: %s, want %s", c.options, c.image, c.images, got, c.want)
		}
	}
}

// The other options: util/kustomize/kustomize.go of argo-cd 3.6, and of kustomize 5.8 commands/edit/add/addmetadata.go and
// commands/edit/set/setreplicas.go.
func TestKustomizeOptions(t *testing.T) {
	const plain = "t=[app:web] s=[app:web]"
	for _, c := range []struct{ kustomization, options, want string }{
		{"", "{namePrefix: p-, nameSuffix: -s}", "p-web-s/prod n=1 " + plain},
		{"namePrefix: old-", "{namePrefix: p-}", "p-web/prod n=1 " + plain},
		{"namespace: old", "{namespace: new}", "web/new n=1 " + plain},
		{"", "{replicas: [{name: web, count: 3}]}", "web/prod n=3 " + plain},
		{"", `{replicas: [{name: web, count: "4"}]}`, "web/prod n=4 " + plain},
		{"replicas: [{name: web, count: 2}]", "{replicas: [{name: web, count: 3}]}", "web/prod n=3 " + plain},
		{"", `{replicas: [{name: web, count: 4x}]}`, "! 4x"},
		{"", "{commonLabels: {l: v}}", "web/prod n=1 l=[l:v] t=[app:web l:v] s=[app:web l:v]"},
		{"", "{commonLabels: {l: $ARGOCD_APP_NAME}}", "web/prod n=1 l=[l:shop] t=[app:web l:shop] s=[app:web l:shop]"},
		{"commonLabels: {l: w}", "{commonLabels: {l: v}}", "! label l"},
		{"commonLabels: {l: w}", "{commonLabels: {l: v}, forceCommonLabels: true}", "web/prod n=1 l=[l:v] t=[app:web l:v] s=[app:web l:v]"},
		{"", "{commonLabels: {l: v}, labelWithoutSelector: true}", "web/prod n=1 l=[l:v] " + plain},
		{"", "{commonLabels: {l: v}, labelWithoutSelector: true, labelIncludeTemplates: true}", "web/prod n=1 l=[l:v] t=[app:web l:v] s=[app:web]"},
		{"", "{commonLabels: {l: v}, labelIncludeTemplates: true}", "! labelWithoutSelector"},
		{"labels: [{pairs: {l: w}}]", "{commonLabels: {l: v}, labelWithoutSelector: true}", "! label l"},
		{"labels: [{pairs: {l: w}}]", "{commonLabels: {l: v}, labelWithoutSelector: true, forceCommonLabels: true}", "web/prod n=1 l=[l:v] " + plain},
		{"labels: [{pairs: {m: w}}]", "{commonLabels: {l: v}, labelWithoutSelector: true}", "web/prod n=1 l=[l:v m:w] " + plain},
		{"", "{commonAnnotations: {l: $ARGOCD_APP_NAME}}", "web/prod n=1 " + plain + " a=[l:$ARGOCD_APP_NAME]"},
		{"", "{commonAnnotations: {l: $ARGOCD_APP_NAME}, commonAnnotationsEnvsubst: true}", "web/prod n=1 " + plain + " a=[l:shop]"},
		{"commonAnnotations: {l: w}", "{commonAnnotations: {l: v}}", "! annotation l"},
		{"commonAnnotations: {l: w}", "{commonAnnotations: {l: v}, forceCommonAnnotations: true}", "web/prod n=1 " + plain + " a=[l:v]"},
		{"", "{patches: [{patch: '- {op: replace, path: /spec/replicas, value: 7}', target: {kind: Deployment}}]}", "web/prod n=7 " + plain},
		{"patches: [{patch: '- {op: replace, path: /spec/replicas, value: 5}', target: {kind: Deployment}}]", "{patches: [{patch: '- {op: add, path: /metadata/labels, value: {x: why}}', target: {name: web}}]}", "web/prod n=5 l=[x:why] " + plain},
		{"", "{components: [more]}", "web/prod n=1 " + plain + " a=[more:yes]"},
		{"components: [more]", "{components: [more, most]}", "web/prod n=1 " + plain + " a=[more:yes most:yes]"},
		{"", "{components: ['mo*']}", "web/prod n=1 " + plain + " a=[more:yes most:yes]"},
		{"", "{components: [none]}", "! none"},
		{"", "{components: [none, more, neither, most], ignoreMissingComponents: true}", "web/prod n=1 " + plain + " a=[more:yes most:yes]"},
		{"", "{components: [none], ignoreMissingComponents: true}", "web/prod n=1 " + plain},
		{"", "{components: [../../x], ignoreMissingComponents: true}", "! outside of the repository"},
		{"", "{components: ['https://example.org/x'], ignoreMissingComponents: true}", "web/prod n=1 " + plain},
		{"patches: x", "{patches: [{patch: '[]'}]}", "! patches"},
	} {
		dir := checkout(t, fmt.Sprintf(web, "web")+file("a/kustomization.yaml", "resources: [web.yaml]\n"+c.kustomization+"\n"))
		r, err := render.Render(t.Context(), withOptions(t, dir, "kustomize: "+c.options))
		if why, fails := strings.CutPrefix(c.want, "! "); fails {
			if err == nil || !strings.Contains(err.Error(), why) {
				t.Errorf("%s over %q: %v, want an error of %q", c.options, c.kustomization, err, why)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s over %q: %v", c.options, c.kustomization, err)
		} else if got := seen(r.Objects[0]); got != c.want {
			t.Errorf("%s over %q:\n%s\n%s", c.options, c.kustomization, got, c.want)
		}
	}
}
