package podpolicy

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/manifest"
)

// Whom a grant is for, and whom not, by what the operator wrote.
func TestWhomAGrantIsFor(t *testing.T) {
	harbour := Subject{Kind: Repository, Repositories: []string{"harbour"}, Ref: "refs/heads/main"}
	with := func(change func(*Subject)) Subject {
		s := harbour
		s.Repositories = slices.Clone(s.Repositories)
		change(&s)
		return s
	}
	mr := with(func(s *Subject) { s.MergeRequest = 7 })
	fork := with(func(s *Subject) { s.MergeRequest, s.Fork = 7, "mallory/harbour" })
	for _, c := range []struct {
		what string
		to   To
		s    Subject
		ns   string
		want bool
	}{
		{"its repository", To{Repositories: []string{"harbour"}}, harbour, "default", true},
		{"whatever the case", To{Repositories: []string{"Harbour"}}, harbour, "default", true},
		{"another repository", To{Repositories: []string{"harbour2"}}, harbour, "default", false},
		{"a namesake elsewhere", To{Repositories: []string{"gitlab.example.org/harbour"}}, harbour, "default", false},
		{"every repository", To{Repositories: []string{"*"}}, harbour, "default", true},
		{"every repository is not none", To{Repositories: []string{"*"}}, Subject{Kind: Own}, "default", false},
		{"a group", To{Repositories: []string{"team/*"}}, with(func(s *Subject) { s.Repositories[0] = "team/sub/x" }), "default", true},
		{"not the group itself", To{Repositories: []string{"team/*"}}, with(func(s *Subject) { s.Repositories[0] = "team" }), "default", false},
		{"not a longer name", To{Repositories: []string{"team/*"}}, with(func(s *Subject) { s.Repositories[0] = "teams/x" }), "default", false},
		{"not out of the group", To{Repositories: []string{"team/*"}}, with(func(s *Subject) { s.Repositories[0] = "team/../other" }), "default", false},
		{"not out of it, escaped", To{Repositories: []string{"team/*"}}, with(func(s *Subject) { s.Repositories[0] = "team/%2e%2e/other" }), "default", false},
		{"not with a query", To{Repositories: []string{"team/*"}}, with(func(s *Subject) { s.Repositories[0] = "team/x?of=other" }), "default", false},
		{"its ref", To{Repositories: []string{"harbour"}, Refs: []string{"refs/heads/main"}}, harbour, "default", true},
		{"another ref", To{Repositories: []string{"harbour"}, Refs: []string{"refs/tags/*"}}, harbour, "default", false},
		{"no ref", To{Repositories: []string{"harbour"}, Refs: []string{"*"}}, with(func(s *Subject) { s.Ref = "" }), "default", false},
		{"its namespace", To{Namespaces: []string{"ci"}}, harbour, "ci", true},
		{"another namespace", To{Namespaces: []string{"ci"}}, harbour, "default", false},
		{"namespaces by their beginning", To{Namespaces: []string{"ci-*"}}, harbour, "ci-1", true},
		{"both must be", To{Repositories: []string{"harbour"}, Namespaces: []string{"ci"}}, harbour, "default", false},
		{"its role", To{Roles: []string{"admin"}}, Subject{Kind: Own, Role: "admin"}, "default", true},
		{"another role", To{Roles: []string{"admin"}}, Subject{Kind: Own, Role: "developer"}, "default", false},
		{"a repository has no role", To{Roles: []string{"admin"}}, harbour, "default", false},
		{"a merge request", To{Repositories: []string{"harbour"}}, mr, "default", false},
		{"a merge request, by name", To{Repositories: []string{"harbour"}, MergeRequests: true}, mr, "default", true},
		{"a merge request, by namespace", To{Namespaces: []string{"*"}}, mr, "default", false},
		{"a fork", To{Repositories: []string{"*"}, MergeRequests: true}, fork, "default", false},
		{"nobody", To{Namespaces: []string{"*"}}, Subject{}, "default", false},
	} {
		got := New(Grant{To: c.to, Executors: []string{"host"}}).Judge(Wish{For: c.s, Pod: &corev1.Pod{ObjectMeta: inNamespace(c.ns)}, Executor: "host"})
		if (len(got) == 0) != c.want {
			t.Errorf("%s: granted %t, want %t: %v", c.what, len(got) == 0, c.want, got)
		}
	}
}

// Of the levels the first that is for the pod counts; several repositories have the least of theirs; what takes rights away holds for
// merge requests, forks and nobody as well.
func TestWhichLevelHolds(t *testing.T) {
	ns := func(name string, level Level) Grant { return Grant{To: To{Namespaces: []string{name}}, Pods: level} }
	repo := func(name string, level Level) Grant { return Grant{To: To{Repositories: []string{name}}, Pods: level} }
	a, both := Subject{Kind: Repository, Repositories: []string{"a"}}, Subject{Kind: Repository, Repositories: []string{"a", "b"}}
	fork := Subject{Kind: Repository, Repositories: []string{"a"}, MergeRequest: 1, Fork: "m/a"}
	for _, c := range []struct {
		what   string
		grants []Grant
		s      Subject
		want   Level
	}{
		{"nothing", nil, a, Baseline},
		{"first", []Grant{ns("prod", Restricted), repo("a", Privileged)}, a, Restricted},
		{"first, the other way", []Grant{repo("a", Privileged), ns("prod", Restricted)}, a, Privileged},
		{"each of several", []Grant{repo("a", Privileged)}, both, Baseline},
		{"all of several", []Grant{repo("a", Privileged), repo("b", Privileged)}, both, Privileged},
		{"the least of several", []Grant{repo("a", Privileged), repo("b", Restricted)}, both, Restricted},
		{"a fork is passed over", []Grant{repo("a", Privileged)}, fork, Baseline},
		{"a fork is restricted, too", []Grant{repo("a", Privileged), ns("prod", Restricted)}, fork, Restricted},
		{"nobody is restricted, too", []Grant{ns("prod", Restricted)}, Subject{}, Restricted},
		{"nobody has no more", []Grant{ns("prod", Privileged)}, Subject{}, Baseline},
		{"the operator", []Grant{ns("prod", Restricted)}, Subject{Kind: Operator}, Privileged},
	} {
		if got := New(c.grants...).level(c.s, "prod"); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
}

// named is a pod that names one thing of each kind, in every way.
const named = `
metadata: {namespace: ci}
spec:
  serviceAccountName: deployer
  imagePullSecrets: [{name: s-pull}]
  initContainers:
  - {name: i, env: [{name: A, valueFrom: {secretKeyRef: {name: s-init, key: k}}}]}
  containers:
  - name: c
    envFrom: [{configMapRef: {name: fine}}, {secretRef: {name: s-from}}]
    env: [{name: A, value: x}, {name: B, valueFrom: {secretKeyRef: {name: s-env, key: k, optional: true}}}]
  ephemeralContainers:
  - {name: e, env: [{name: A, valueFrom: {secretKeyRef: {name: s-eph, key: k}}}]}
  volumes:
  - {name: a, secret: {secretName: s-vol}}
  - {name: b, projected: {sources: [{configMap: {name: fine}}, {secret: {name: s-proj}}]}}
  - {name: c, persistentVolumeClaim: {claimName: cache}}
  - {name: d, persistentVolumeClaim: {claimName: run-work}}
  - {name: e, csi: {driver: d, nodePublishSecretRef: {name: s-csi}}}
  - {name: f, azureFile: {secretName: s-azure, shareName: s}}
  - {name: g, cephfs: {monitors: [m], secretRef: {name: s-ceph}}}
`

func namedWish(t *testing.T, s Subject) Wish {
	w := Wish{For: s, Pod: pod(t, named), Claims: []string{"run-work"}}
	var a manifest.Artifact
	objects, diags := manifest.Decode("a", []byte(`{apiVersion: v1, kind: X, metadata: {name: x}, a: {name: a,
  s3: {key: k, accessKeySecret: {name: s-s3, key: k}}, git: {repo: r, passwordSecret: {name: s-git, key: k}},
  http: {url: u, headers: [{name: h, valueFrom: {secretKeyRef: {name: s-http, key: k}}}], auth: {basicAuth: {usernameSecret: {name: s-auth, key: k}}}}}}`))
	if manifest.Failed(diags) || manifest.Failed(manifest.DecodeTree(objects[0].Tree.Get("a"), &a, manifest.DecodeOptions{Strict: true})) {
		t.Fatal(diags)
	}
	w.Inputs, w.Outputs = []manifest.Artifact{a}, []manifest.Artifact{{Name: "o", ArtifactLocation: manifest.ArtifactLocation{S3: &manifest.S3Artifact{
		SecretKeySecret: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "s-out"}}}}}}
	return w
}

// Everything that a pod names is judged, by whom the pod is for.
func TestWhatAPodNames(t *testing.T) {
	// Every way to name a Secret, by what names it.
	ways := map[string]string{
		"spec.initContainers[0].env[0].valueFrom.secretKeyRef.name":       "s-init",
		"spec.containers[0].envFrom[1].secretRef.name":                    "s-from",
		"spec.containers[0].env[1].valueFrom.secretKeyRef.name":           "s-env",
		"spec.ephemeralContainers[0].env[0].valueFrom.secretKeyRef.name":  "s-eph",
		"spec.volumes[0].secret.secretName":                               "s-vol",
		"spec.volumes[1].projected.sources[1].secret.name":                "s-proj",
		"spec.volumes[4].csi.nodePublishSecretRef.name":                   "s-csi",
		"spec.volumes[5].azureFile.secretName":                            "s-azure",
		"spec.volumes[6].cephfs.secretRef.name":                           "s-ceph",
		"inputs.artifacts[0].s3.accessKeySecret.name":                     "s-s3",
		"inputs.artifacts[0].git.passwordSecret.name":                     "s-git",
		"inputs.artifacts[0].http.headers[0].valueFrom.secretKeyRef.name": "s-http",
		"inputs.artifacts[0].http.auth.basicAuth.usernameSecret.name":     "s-auth",
		"outputs.artifacts[0].s3.secretKeySecret.name":                    "s-out",
	}
	others := map[string]string{"spec.serviceAccountName": "deployer", "spec.volumes[2].persistentVolumeClaim.claimName": "cache"}
	pull := map[string]string{"spec.imagePullSecrets[0].name": "s-pull"}
	join := func(maps ...map[string]string) map[string]string {
		all := map[string]string{}
		for _, m := range maps {
			for k, v := range m {
				all[k] = v
			}
		}
		return all
	}
	repo := Subject{Kind: Repository, Repositories: []string{"harbour"}}
	mr := Subject{Kind: Repository, Repositories: []string{"harbour"}, MergeRequest: 7}
	everything := Grant{To: To{Repositories: []string{"harbour"}}, Secrets: []string{"s-*"}, Claims: []string{"cache"}, ServiceAccounts: []string{"*"}}
	extended := everything
	extended.To.MergeRequests = true
	for _, c := range []struct {
		what   string
		s      Subject
		grants []Grant
		want   map[string]string
	}{
		{"a run of no repository has its namespace's", Subject{Kind: Own}, nil, nil},
		{"an application has its namespace's", Subject{Kind: Application, Repositories: []string{"harbour"}}, nil, nil},
		{"the operator", Subject{Kind: Operator}, nil, nil},
		{"nobody", Subject{}, []Grant{everything}, join(ways, others, pull)},
		{"a repository", repo, nil, join(ways, others)},
		{"a repository that was given all", repo, []Grant{everything}, nil},
		{"its merge request", mr, []Grant{everything}, join(ways, others)},
		{"its merge request, by name", mr, []Grant{extended}, nil},
		{"a fork", Subject{Kind: Repository, Repositories: []string{"harbour"}, MergeRequest: 7, Fork: "m/h"}, []Grant{extended}, join(ways, others, pull)},
		{"two repositories, one given", Subject{Kind: Repository, Repositories: []string{"harbour", "b"}}, []Grant{everything}, join(ways, others)},
		{"one Secret", repo, []Grant{{To: To{Repositories: []string{"harbour"}}, Secrets: []string{"s-env"}, Claims: []string{"cache"}, ServiceAccounts: []string{"deployer"}}},
			func() map[string]string {
				rest := join(ways)
				delete(rest, "spec.containers[0].env[1].valueFrom.secretKeyRef.name")
				return rest
			}()},
	} {
		t.Run(c.what, func(t *testing.T) {
			got := map[string]string{}
			for _, p := range New(c.grants...).Judge(namedWish(t, c.s)) {
				_, name, _ := strings.Cut(p.Message, `"`)
				got[p.Path], _, _ = strings.Cut(name, `"`)
				if !strings.Contains(p.Hint, "["+got[p.Path]+"]") && !strings.Contains(p.Hint, "nothing can be granted") {
					t.Errorf("the hint does not name the grant: %s", p)
				}
			}
			if c.want == nil {
				c.want = map[string]string{}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A refusal says what to write, and what is written so is then allowed.
func TestWhatTheHintSaysHelps(t *testing.T) {
	for _, s := range []Subject{
		{Kind: Repository, Repositories: []string{"harbour"}},
		{Kind: Repository, Repositories: []string{"harbour", "gitlab.example.org/team/a"}, MergeRequest: 3},
		{Kind: Own, Role: "developer"},
		{Kind: Own},
	} {
		p := pod(t, "{metadata: {namespace: ci}, spec: {hostNetwork: true, serviceAccountName: sa, containers: [{name: c, securityContext: {privileged: true}, env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}]}]}}")
		var grants []Grant
		for range 5 {
			problems := New(grants...).Judge(Wish{For: s, Pod: p, Executor: "host"})
			if len(problems) == 0 {
				break
			}
			_, text, found := strings.Cut(problems[0].Hint, "grants: ")
			if !found {
				t.Fatalf("%s: no grant is named: %v", s, problems[0])
			}
			grants = append(grants, read(t, text)...)
		}
		if left := New(grants...).Judge(Wish{For: s, Pod: p, Executor: "host"}); len(left) > 0 {
			t.Errorf("%s: after all that was said: %v", s, left)
		}
	}
}
