package forge_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/event/forge/forgetest"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/secret"
)

// declared are declarations, and a Secret with the token.
type declared []forge.Declaration

func (d declared) Forges(context.Context) ([]forge.Declaration, error) { return d, nil }

func (declared) Secret(_ context.Context, namespace, name, key string) (secret.Value, error) {
	if namespace != "ci" || name != "lab" || key != "token" {
		return secret.Value{}, errors.New("there is no such secret")
	}
	return secret.New(forgetest.ScriptedToken), nil
}

func declare(name, url string) forge.Declaration {
	d := forge.Declaration{Namespace: "ci", Name: name, Digest: "1"}
	d.Spec = manifest.ForgeSpec{Type: "scripted", URL: url, Token: &corev1.SecretKeySelector{Key: "token"}}
	d.Spec.Token.Name = "lab"
	return d
}

func registry(t *testing.T, s *forgetest.Scripted, list ...forge.Declaration) *forge.Forges {
	t.Helper()
	own := forge.Instance{Name: forge.Builtin, Type: forge.TypeBuiltin, URL: "http://localhost:2746", Addresses: forge.Host("http://localhost:2746/git"), Local: true}
	f, err := forge.NewForges(own, []forge.Type{s}, declared(list), declared(list), http.DefaultClient)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Several forges of one type are told apart by name, by the URL of a repository and by the address of their API; what they are asked has the
// credentials of their own declaration.
func TestInstances(t *testing.T) {
	a, b := forgetest.NewScripted(t), forgetest.NewScripted(t)
	f := registry(t, a, declare("a", a.URL), declare("b", b.URL+"/sub"), declare("c", b.URL))
	for raw, want := range map[string]string{
		"http://localhost:2746/git/harbour.git": "builtin harbour",
		a.URL + "/team/harbour.git":             "ci/a team/harbour",
		a.URL + "/team/harbour":                 "ci/a team/harbour",
		b.URL + "/sub/team/x.git":               "ci/b team/x",
		b.URL + "/subteam/x.git":                "ci/c subteam/x",
		"https://elsewhere.example/team/x.git":  "none",
		a.URL + "/team/../x.git":                "none",
		a.URL:                                   "none",
	} {
		got := "none"
		in, repo, err := f.Of(t.Context(), raw)
		if err == nil {
			got = in.Name + " " + repo
		} else if !errors.Is(err, forge.ErrNotFound) {
			t.Errorf("%s: %v", raw, err)
		}
		if got != want {
			t.Errorf("%s is of %s, want %s", raw, got, want)
		}
	}
	in, err := f.Instance(t.Context(), "ci/a")
	if err != nil {
		t.Fatal(err)
	}
	if list, err := in.Forge.PullRequests(t.Context(), "team/harbour"); err != nil || len(list) != 1 {
		t.Errorf("with the credentials of the declaration: %v, %v", list, err)
	}
	if _, err := f.Asked(t.Context(), "scripted", ""); failure.KindOf(err) != failure.Invalid {
		t.Errorf("one of three forges, and nothing says which: %v", err)
	}
	if in, err := f.Asked(t.Context(), "scripted", a.URL+"/"); err != nil || in.Name != "ci/a" {
		t.Errorf("the one at an address: %s, %v", in.Name, err)
	}
	if in, err := f.Sent(t.Context(), "scripted", strings.TrimPrefix(a.URL, "http://")); err != nil || in.Name != "ci/a" {
		t.Errorf("the one that sent an event: %s, %v", in.Name, err)
	}
	if _, err := f.Sent(t.Context(), "gitlab", a.URL); !errors.Is(err, forge.ErrNotFound) {
		t.Errorf("one of another type: %v", err)
	}
	for _, ssh := range []string{"git@forge.example:team/x.git", "ssh://git@forge.example:2222/team/x.git"} {
		if repo, ok := forge.Host("https://forge.example").RepositoryOf(ssh); !ok || repo != "team/x" {
			t.Errorf("%s is %q", ssh, repo)
		}
	}
}

// A declaration that cannot be used concerns itself alone.
func TestABadDeclarationConcernsOnlyItself(t *testing.T) {
	s := forgetest.NewScripted(t)
	broken := forge.Declaration{Namespace: "ci", Name: "broken", Problem: errors.New("no text")}
	other := declare("other", "https://other.example")
	other.Spec.Type = "unknown"
	f := registry(t, s, broken, other, declare("good", s.URL))
	for _, name := range []string{"ci/broken", "ci/other"} {
		if _, err := f.Instance(t.Context(), name); failure.KindOf(err) != failure.Stalled {
			t.Errorf("%s: %v", name, err)
		}
	}
	if in, err := f.Instance(t.Context(), "ci/good"); err != nil || in.Name != "ci/good" {
		t.Errorf("%s, %v", in.Name, err)
	}
	states, err := f.States(t.Context())
	if err != nil || len(states) != 4 || states[0].Problem+states[3].Problem != "" || states[1].Problem == "" || states[2].Problem == "" {
		t.Errorf("%+v, %v", states, err)
	}
}

// What is wrong with a declaration has its place.
func TestCheck(t *testing.T) {
	s := forgetest.NewScripted(t)
	const head = "apiVersion: tiphys.dev/v1alpha1\nkind: Forge\nmetadata: {name: lab}\nspec:\n"
	for text, want := range map[string]string{
		"  type: scripted\n  url: https://a.example\n  token: {name: lab, key: token}\n": "",
		"  type: gitlab\n  url: https://a.example\n":                                     "5:9",
		"  type: scripted\n  url: https://u:p@a.example\n  token: {name: a, key: b}\n":   "6:8",
		"  type: scripted\n  url: a.example\n  token: {name: a, key: b}\n":               "6:8",
		"  type: scripted\n  url: https://a.example\n  token: {key: b}\n":                "7:10",
		"  type: scripted\n  url: https://a.example\n":                                   "5:3",
		"  url: https://a.example\n":                                                     "5:3",
	} {
		objects, _ := manifest.Decode("f.yaml", []byte(head+text))
		got := ""
		found, _ := manifest.Check(objects[0])
		for _, d := range append(found, forge.Check([]forge.Type{s}, objects[0])...) {
			if d.Severity == manifest.SeverityError {
				d.Position.File = ""
				got += d.Position.String()
			}
		}
		if got != want {
			t.Errorf("%q: wrong at %q, want %q", text, got, want)
		}
	}
}
