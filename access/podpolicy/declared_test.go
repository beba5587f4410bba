package podpolicy

import (
	"context"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/manifest"
)

// declares are grants that somebody declared.
type declares struct {
	grants []Grant
	err    error
}

func (d *declares) SecretGrants(context.Context) ([]Grant, error) { return d.grants, d.err }

// A declared grant counts from the moment it is there to the moment it is gone, in its own namespace, and for no merge request or fork unless
// it says so.
func TestDeclaredGrants(t *testing.T) {
	d := &declares{}
	policy := New(Grant{To: To{Repositories: []string{"harbour"}}, Secrets: []string{"of-the-file"}}).With(d)
	refused := func(s Subject, namespace, secret string) bool {
		t.Helper()
		now, err := policy.Now(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		pod := &corev1.Pod{Spec: corev1.PodSpec{ImagePullSecrets: nil, Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: secret}}}}}}
		pod.Namespace = namespace
		judged := len(now.Judge(Wish{For: s, Pod: pod})) > 0
		if header := len(now.Header(s, namespace, "x", secret)) > 0; header != judged {
			t.Errorf("a header is judged %v, a pod %v", header, judged)
		}
		return judged
	}
	main := Subject{Kind: Repository, Repositories: []string{"harbour"}, Ref: "refs/heads/main"}
	request, fork, topic := main, main, main
	request.MergeRequest, fork.MergeRequest, fork.Fork, topic.Ref = 7, 7, "mallory/harbour", "refs/heads/topic"
	if !refused(main, "prod", "key") || refused(main, "prod", "of-the-file") {
		t.Error("without a declaration")
	}
	grant := func(to manifest.SecretGrantTo) {
		t.Helper()
		g, diags := SecretGrant("prod", manifest.SecretGrantSpec{To: to, Secrets: []string{"key"}})
		if len(diags) > 0 {
			t.Fatal(diags)
		}
		d.grants = []Grant{g}
	}
	grant(manifest.SecretGrantTo{Repositories: []string{"/harbour.git"}, Refs: []string{"refs/heads/main"}})
	for what, c := range map[string]struct {
		s                 Subject
		namespace, secret string
		want              bool
	}{
		"the ref": {main, "prod", "key", false}, "another namespace": {main, "test", "key", true}, "another Secret": {main, "prod", "key2", true},
		"another ref": {topic, "prod", "key", true}, "a merge request": {request, "prod", "key", true}, "a fork": {fork, "prod", "key", true},
		"nobody": {Subject{}, "prod", "key", true}, "with another repository": {Subject{Kind: Repository, Repositories: []string{"harbour", "b"}, Ref: main.Ref}, "prod", "key", true},
	} {
		if got := refused(c.s, c.namespace, c.secret); got != c.want {
			t.Errorf("%s: refused %v, want %v", what, got, c.want)
		}
	}
	grant(manifest.SecretGrantTo{Repositories: []string{"harbour"}, MergeRequests: true})
	if refused(request, "prod", "key") || !refused(fork, "prod", "key") {
		t.Error("merge requests were given it, and forks have none")
	}
	d.grants = nil
	if !refused(main, "prod", "key") {
		t.Error("it was taken away")
	}
	if len(policy.Judge(Wish{For: main, Pod: &corev1.Pod{}})) > 0 {
		t.Error("a pod that names nothing is refused")
	}
	d.err = errors.New("the disk is gone")
	if _, err := policy.Now(t.Context()); !errors.Is(err, d.err) {
		t.Errorf("what cannot be read is %v", err)
	}
}

// What cannot be what was meant is an error with its place.
func TestCheckSecretGrant(t *testing.T) {
	for text, want := range map[string]string{
		`{to: {repositories: [harbour]}, secrets: [a]}`:                 "",
		`{to: {repositories: ["https://h/x"]}, secrets: [a]}`:           "is a URL",
		`{to: {repositories: ["a*b"]}, secrets: [a]}`:                   "a * may stand alone",
		`{to: {repositories: [harbour], refs: [main]}, secrets: [a]}`:   "is no full ref",
		`{to: {repositories: [harbour]}, secrets: ["a*b"]}`:             "is no name",
		`{to: {repositories: [harbour]}, secrets: [""]}`:                "is no name",
		`{to: {repositories: []}, secrets: [a]}`:                        "names nobody",
		`{to: {repositories: [harbour]}, secrets: []}`:                  "gives nothing",
		`{to: {repositories: [harbour], roles: [admin]}, secrets: [a]}`: "unknown field",
	} {
		objects, diags := manifest.Decode("g.yaml", []byte("apiVersion: tiphys.dev/v1alpha1\nkind: SecretGrant\nmetadata: {name: g}\nspec: "+text+"\n"))
		if len(objects) == 1 {
			found, _ := manifest.Check(objects[0])
			diags = append(append(diags, found...), CheckSecretGrant(objects[0])...)
		}
		var said []string
		for _, d := range diags {
			if d.Position.Line != 4 {
				t.Errorf("%s: %v has no place", text, d)
			}
			said = append(said, d.Message)
		}
		all := strings.Join(said, "; ")
		if (want == "") != (all == "") || !strings.Contains(all, want) {
			t.Errorf("%s: %q, want %q", text, all, want)
		}
	}
}
