package plan

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/manifest"
)

// here is the cluster that destinations are held against.
var here = deploy.Place{Name: deploy.InCluster, Server: deploy.InClusterServer}

func project(t *testing.T, spec string) manifest.AppProject {
	t.Helper()
	var p manifest.AppProject
	if err := yaml.Unmarshal([]byte("metadata: {name: team}\nspec: "+spec), &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// Argo CD's documents, projects.md and app_project_types.go: an allow is needed, a deny beats it, the empty list allows
// nothing; * stays between slashes and ** does not; URLs are compared without case, ".git" and the form of SSH.
func TestProjectSources(t *testing.T) {
	for _, c := range []struct {
		repos, repo string
		want        bool
	}{
		{`[]`, "https://git.example.org/team/a", false},
		{`["*"]`, "https://git.example.org/team/a", true},
		{`["https://git.example.org/team/a"]`, "https://git.example.org/team/a.git", true},
		{`["https://git.example.org/team/a.git"]`, "https://GIT.example.org/Team/a", true},
		{`["https://git.example.org/team/a"]`, "https://git.example.org/team/ab", false},
		{`["https://git.example.org/team/*"]`, "https://git.example.org/team/a", true},
		{`["https://git.example.org/team/*"]`, "https://git.example.org/team/sub/a", false},
		{`["https://git.example.org/team/**"]`, "https://git.example.org/team/sub/a", true},
		{`["*", "!https://git.example.org/team/**"]`, "https://git.example.org/team/sub/a", false},
		{`["!https://git.example.org/team/**", "*"]`, "https://git.example.org/team/sub/a", false},
		{`["!https://git.example.org/team/**", "*"]`, "https://git.example.org/other/a", true},
		{`["!https://git.example.org/team/**"]`, "https://git.example.org/other/a", false},
		{`["git@git.example.org:team/a.git"]`, "ssh://git@git.example.org/team/a", true},
		{`["https://git.example.org/{team,crew}/a"]`, "https://git.example.org/crew/a", true},
		{`["https://git.example.org/[a-c]?"]`, "https://git.example.org/bx", true},
		{`["https://git.example.org/[!a-c]x"]`, "https://git.example.org/bx", false},
		{`["https://git.example.org/{team,{crew,gang}[0-9]}/a"]`, "https://git.example.org/gang7/a", true},
		{`["https://git.example.org/te\\?m/a"]`, "https://git.example.org/team/a", false},
		{`["https://git.example.org/team/a,b"]`, "https://git.example.org/team/a,b", true},
		{`["*", "!https://git.example.org/[s-u]*/{a,b}"]`, "https://git.example.org/team/b", false},
		{`["*", "!https://git.example.org/[x"]`, "https://git.example.org/y", false},
		{`["https://git.example.org/(.*"]`, "https://git.example.org/x", false},
		{`["https://git.example.org/[x"]`, "https://git.example.org/x", false},
	} {
		p := project(t, `{sourceRepos: `+c.repos+`, destinations: [{server: "*", namespace: "*"}]}`)
		err := PermitApplication(p, manifest.ApplicationSpec{Source: &manifest.ApplicationSource{RepoURL: c.repo}}, here)
		if (err == nil) != c.want {
			t.Errorf("%s with %s: %v, want %t", c.repos, c.repo, err, c.want)
		}
		if err != nil && (!strings.Contains(err.Error(), "sourceRepos") || !strings.Contains(err.Error(), "team")) {
			t.Errorf("the refusal does not say what to write: %v", err)
		}
	}
	// Every one of several sources counts.
	p := project(t, `{sourceRepos: ["https://a/*"], destinations: [{server: "*", namespace: "*"}]}`)
	if err := PermitApplication(p, manifest.ApplicationSpec{Sources: []manifest.ApplicationSource{{RepoURL: "https://a/x"}, {RepoURL: "https://b/x"}}}, here); err == nil {
		t.Error("the second source is not looked at")
	}
}

// As IsDestinationPermitted of app_project_types.go: server or name, and namespace; a "!" before any of them denies.
func TestProjectDestinations(t *testing.T) {
	for _, c := range []struct {
		destinations, namespace string
		want                    bool
	}{
		{`[]`, "prod", false},
		{`[{server: https://kubernetes.default.svc, namespace: prod}]`, "prod", true},
		{`[{server: https://kubernetes.default.svc, namespace: prod}]`, "production", false},
		{`[{name: in-cluster, namespace: "prod*"}]`, "production", true},
		{`[{server: "*", namespace: "*"}]`, "anything", true},
		{`[{namespace: prod}]`, "prod", false},
		{`[{server: https://elsewhere.example.org, namespace: prod}]`, "prod", false},
		{`[{server: "*", namespace: "*"}, {server: "*", namespace: "!kube-*"}]`, "kube-system", false},
		{`[{server: "*", namespace: "*"}, {server: "*", namespace: "!kube-*"}]`, "prod", true},
		{`[{server: "*", namespace: "*"}, {server: "!https://kubernetes.default.svc", namespace: "*"}]`, "prod", false},
		{`[{server: "*", namespace: "*"}, {server: "!https://kubernetes.default.svc", namespace: kube-system}]`, "prod", true},
		{`[{server: "*", namespace: "*"}, {name: "!in-cluster", namespace: "*"}]`, "prod", false},
		{`[{server: "*", namespace: "!kube-*"}]`, "prod", false},
		{`[{server: "*", namespace: "*"}, {server: "*", namespace: "![x"}]`, "prod", false},
		{`[{server: "*", namespace: "team-[a-c]"}]`, "team-b", true},
		{`[{server: "*", namespace: "team-[!a-c]"}]`, "team-b", false},
		{`[{server: "*", namespace: "{dev,{qa,uat}-?}"}]`, "uat-1", true},
		{`[{server: "*", namespace: "*"}, {server: "*", namespace: "!{kube,sys}-*"}]`, "sys-x", false},
	} {
		p := project(t, `{sourceRepos: ["*"], destinations: `+c.destinations+`}`)
		err := PermitApplication(p, manifest.ApplicationSpec{Source: &manifest.ApplicationSource{RepoURL: "https://x/y"},
			Destination: manifest.Destination{Server: here.Server, Namespace: c.namespace}}, here)
		if (err == nil) != c.want {
			t.Errorf("%s with namespace %s: %v, want %t", c.destinations, c.namespace, err, c.want)
		}
	}
}

// As IsGroupKindNamePermitted of app_project_types.go: no list of kinds with a namespace allows all of them, an empty one none;
// kinds without namespace must be listed; a deny beats any allow.
func TestProjectKinds(t *testing.T) {
	objects := map[string]string{
		"Deployment": "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: prod}}",
		"Secret":     "{apiVersion: v1, kind: Secret, metadata: {name: key, namespace: prod}}",
		"elsewhere":  "{apiVersion: v1, kind: ConfigMap, metadata: {name: x, namespace: kube-system}}",
		"Namespace":  "{apiVersion: v1, kind: Namespace, metadata: {name: prod}}",
		"Role":       "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: admin}}",
	}
	for _, c := range []struct{ spec, allowed string }{
		{`{}`, "Deployment Secret"},
		{`{namespaceResourceWhitelist: []}`, ""},
		{`{namespaceResourceWhitelist: [{group: apps, kind: "*"}]}`, "Deployment"},
		{`{namespaceResourceWhitelist: [{group: "", kind: "*"}]}`, "Secret"},
		{`{namespaceResourceBlacklist: [{group: "", kind: Secret}]}`, "Deployment"},
		{`{namespaceResourceWhitelist: [{group: "*", kind: "*"}], namespaceResourceBlacklist: [{group: "*", kind: "S*"}]}`, "Deployment"},
		{`{clusterResourceWhitelist: [{group: "", kind: Namespace}]}`, "Deployment Secret Namespace"},
		{`{clusterResourceWhitelist: [{group: "", kind: Namespace, name: "pro*"}]}`, "Deployment Secret Namespace"},
		{`{clusterResourceWhitelist: [{group: "", kind: Namespace, name: "test*"}]}`, "Deployment Secret"},
		{`{clusterResourceWhitelist: [{group: "*", kind: "*"}]}`, "Deployment Secret Namespace Role"},
		{`{clusterResourceWhitelist: [{group: "*", kind: "*"}], clusterResourceBlacklist: [{group: "*.k8s.io", kind: "*"}]}`, "Deployment Secret Namespace"},
		{`{clusterResourceBlacklist: [{group: "", kind: Namespace}]}`, "Deployment Secret"},
	} {
		p := project(t, c.spec)
		p.Spec.Destinations = []manifest.Destination{{Server: "*", Namespace: "prod"}}
		for name, text := range objects {
			o := &unstructured.Unstructured{}
			if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
				t.Fatal(err)
			}
			namespaced := func(o *unstructured.Unstructured) bool {
				return o.GetKind() != "Namespace" && o.GetKind() != "ClusterRole"
			}
			err := PermitObjects(p, here, []*unstructured.Unstructured{o}, namespaced)
			if want := strings.Contains(c.allowed, name); (err == nil) != want {
				t.Errorf("%s with %s: %v, want %t", c.spec, name, err, want)
			}
			if err != nil && !strings.Contains(err.Error(), o.GetKind()+" "+o.GetName()) {
				t.Errorf("the refusal does not name the object: %v", err)
			}
		}
	}
}

func FuzzGlob(f *testing.F) {
	for _, p := range []string{"*", "a/**", "{a,b", "}", "[", "[]", "[^]]", "a\\", "é*", "{{,}}"} {
		f.Add(p, "a/b")
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if !glob(text, text, true) {
			t.Errorf("%q does not match itself", text)
		}
		_ = glob(pattern, text, true)
		if strings.Contains(text, "/") && glob("*", text, true) && text != "*" {
			t.Errorf("* matches %q", text)
		}
	})
}

// Argo CD's documents, "Applications in any namespace": the control plane's namespace is always permitted, which here is the
// project's own; other namespaces are where spec.sourceNamespaces has them, by globs or /regular expressions/.
func TestProjectNamespaces(t *testing.T) {
	for _, c := range []struct {
		namespaces, home, application string
		want                          bool
	}{
		{`[]`, "argocd", "argocd", true},
		{`[]`, "argocd", "team-a", false},
		{`["team-a"]`, "argocd", "team-a", true},
		{`["team-a"]`, "argocd", "argocd", true},
		{`["team-*"]`, "argocd", "team-a", true},
		{`["team-*"]`, "argocd", "a-team-a", false},
		{`["*"]`, "argocd", "anything", true},
		{`["/^(red|blue)-team$/"]`, "argocd", "blue-team", true},
		{`["/^(red|blue)-team$/"]`, "argocd", "green-team", false},
		{`["/(/"]`, "argocd", "team-a", false},
	} {
		p := project(t, `{sourceNamespaces: `+c.namespaces+`}`)
		err := PermitNamespace(p, c.home, c.application)
		if (err == nil) != c.want {
			t.Errorf("%s, %s in %s: %v, want %t", c.namespaces, c.application, c.home, err, c.want)
		}
		if err != nil && !strings.Contains(err.Error(), "spec.sourceNamespaces") {
			t.Errorf("the refusal does not say what to write: %v", err)
		}
	}
}
