package definitions_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/control/definitions"
)

// given is what is granted now: namespace and Secret.
func (b *book) given() (all []string) {
	b.Helper()
	grants, err := b.store.SecretGrants(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for _, g := range grants {
		all = append(all, fmt.Sprint(g.To.Namespaces, g.To.Repositories, g.Secrets))
	}
	return all
}

func secretGrant(namespace, spec string) string {
	return "apiVersion: tiphys.dev/v1alpha1\nkind: SecretGrant\nmetadata: {name: g, namespace: " + namespace + "}\nspec: " + spec + "\n"
}

// A grant counts as soon as it is declared, and not any more as soon as it is taken away. One that cannot be read gives nothing, not even
// what it gave before.
func TestGrantsAreThoseOfNow(t *testing.T) {
	b := open(t)
	look := func(want ...string) {
		t.Helper()
		for range 2 { // the second is not read again
			if diff := cmp.Diff(want, b.given()); diff != "" {
				t.Error(diff)
			}
		}
	}
	look()
	b.declare(secretGrant("prod", "{to: {repositories: [harbour]}, secrets: [key]}"))
	look("[prod] [harbour] [key]")
	b.declare(secretGrant("test", "{to: {repositories: [team/*]}, secrets: [a, b]}"))
	look("[prod] [harbour] [key]", "[test] [team/*] [a b]")
	b.declare(secretGrant("prod", "{to: {repositories: harbour}, secrets: [key]}"))
	look("[test] [team/*] [a b]")
	b.declare(secretGrant("prod", "{to: {repositories: []}, secrets: [key]}"))
	look("[test] [team/*] [a b]")
	if err := b.store.Delete(t.Context(), "user:ada", definitions.OriginAPI, "SecretGrant", "test", "g"); err != nil {
		t.Fatal(err)
	}
	look()
}
