package podpolicy

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tiphys/tiphys/manifest"
)

func inNamespace(ns string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: "p", Namespace: ns} }

const head = "apiVersion: tiphys.dev/v1alpha1\nkind: ServerConfiguration\n"

func tryRead(text string) ([]Grant, []manifest.Diagnostic) {
	objects, diags := manifest.Decode("server.yaml", []byte(head+text))
	if len(objects) != 1 || manifest.Failed(diags) {
		return nil, diags
	}
	if grants := objects[0].Tree.Get("grants"); grants != nil {
		return Read(grants, "grants")
	}
	return nil, nil
}

// read reads the list of grants that a hint shows.
func read(t *testing.T, list string) []Grant {
	t.Helper()
	grants, diags := tryRead("grants: " + list + "\n")
	if manifest.Failed(diags) {
		t.Fatal(list, diags)
	}
	return grants
}

func TestReadGrants(t *testing.T) {
	got := read(t, `
- to: {repositories: [harbour.git, gitlab.example.org/team/*], refs: [refs/heads/main], namespaces: [ci-*], mergeRequests: true}
  pods: privileged
  executors: [host]
  hostNetwork: true
  secrets: [deploy-*]
  claims: [cache]
  serviceAccounts: [deployer]
- {to: {roles: [admin]}, pods: restricted}`)
	want := []Grant{
		{To: To{Repositories: []string{"harbour", "gitlab.example.org/team/*"}, Refs: []string{"refs/heads/main"}, Namespaces: []string{"ci-*"}, MergeRequests: true},
			Pods: Privileged, Executors: []string{"host"}, HostNetwork: true, Secrets: []string{"deploy-*"}, Claims: []string{"cache"}, ServiceAccounts: []string{"deployer"}},
		{To: To{Roles: []string{"admin"}}, Pods: Restricted},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// What cannot be meant is refused where it stands, so that a grant never gives more, or something else, than was written.
func TestReadGrantsRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"grants: {hostRepos: [x]}":                                                           "server.yaml:3:9: grants: it must be a list",
		"grants: [null]":                                                                     "server.yaml:3:10: grants[0]: it must be a map",
		"grants: [harbour]":                                                                  "server.yaml:3:10: ",
		"grants: [{pods: baseline}]":                                                         "server.yaml:3:10: grants[0]: it names nobody",
		"grants: [{to: {}, pods: baseline}]":                                                 "server.yaml:3:15: grants[0].to: it names nobody",
		"grants: [{to: {roles: [admin]}}]":                                                   "server.yaml:3:10: grants[0]: it gives nothing",
		"grants: [{to: {roles: [root]}, pods: baseline}]":                                    `server.yaml:3:24: grants[0].to.roles[0]: there is no role "root"`,
		"grants: [{to: {roles: [admin]}, pods: open}]":                                       `server.yaml:3:39: grants[0].pods: there is no level "open"`,
		"grants: [{to: {roles: [admin]}, pod: baseline}]":                                    `server.yaml:3:33: `,
		"grants: [{to: {repository: [a]}, pods: baseline}]":                                  `server.yaml:3:16: `,
		"grants: [{to: {roles: admin}, pods: baseline}]":                                     `server.yaml:3:23: `,
		"grants: [{to: {repositories: ['https://h/a']}, pods: baseline}]":                    "server.yaml:3:31: grants[0].to.repositories[0]: \"https://h/a\" is a URL",
		"grants: [{to: {repositories: ['te*m']}, pods: baseline}]":                           "a * may stand alone",
		"grants: [{to: {repositories: ['*/x']}, pods: baseline}]":                            "a * may stand alone",
		"grants: [{to: {repositories: ['**']}, pods: baseline}]":                             "a * may stand alone",
		"grants: [{to: {repositories: ['']}, pods: baseline}]":                               "an empty name",
		"grants: [{to: {repositories: [a], refs: [main]}, pods: baseline}]":                  `"main" is no full ref`,
		"grants: [{to: {namespaces: [a], refs: [refs/heads/main]}, pods: baseline}]":         "none is named",
		"grants: [{to: {namespaces: [a], mergeRequests: true}, pods: baseline}]":             "none is named",
		"grants: [{to: {namespaces: ['*a']}, pods: baseline}]":                               `"*a" is no name`,
		"grants: [{to: {namespaces: [a]}, secrets: ['']}]":                                   `"" is no name`,
		"grants: [{to: {namespaces: [a]}, hostNetwork: 1}]":                                  "server.yaml:3:47: ",
		"grants: [" + strings.Repeat("{to: {roles: [admin]}, pods: baseline}, ", 1001) + "]": "at most 1000 grants",
	} {
		grants, diags := tryRead(text + "\n")
		err := manifest.FirstError(diags)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: %v, want %s", text, err, want)
		}
		if grants != nil {
			t.Errorf("%.80s: it is refused and gives %v", text, grants)
		}
	}
}

// Whatever the file holds, reading it ends with grants or with an error that has a place, and what was read gives somebody something.
func FuzzGrants(f *testing.F) {
	f.Add("grants: [{to: {repositories: [a], refs: [refs/heads/*], mergeRequests: true}, pods: privileged, executors: [host]}]")
	f.Add("grants: [{to: {roles: [admin], namespaces: ['*']}, secrets: [a*], claims: [b], serviceAccounts: [c], hostNetwork: true}]")
	f.Add("grants: {hostRepos: [a]}")
	f.Add("grants: [[], {}, 1, null]")
	f.Fuzz(func(t *testing.T, text string) {
		grants, diags := tryRead(text)
		for _, d := range diags {
			if d.Severity == manifest.SeverityError && d.Position.File == "" {
				t.Errorf("%v has no place", d)
			}
		}
		for _, g := range grants {
			if len(g.gives()) == 0 || len(g.To.Repositories)+len(g.To.Namespaces)+len(g.To.Roles) == 0 {
				t.Errorf("%+v gives nothing, or to nobody", g)
			}
			if New(g).level(Subject{}, "default") == Privileged {
				t.Errorf("%+v gives nobody something", g)
			}
		}
	})
}
