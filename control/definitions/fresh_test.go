package definitions_test

import (
	"strings"
	"testing"

	"github.com/tiphys/tiphys/control/definitions"
)

// What a commit declared is seen by whoever looks after it, whether or not the one who wrote it has been told yet: another handle of the same
// ledger is never told.
func TestWhatIsKeptFollowsTheLedger(t *testing.T) {
	b := open(t)
	other := definitions.New(b.ledger, nil, nil)
	value := func() string {
		t.Helper()
		d, state, err := other.Look(t.Context(), "ConfigMap", "default", "c")
		if err != nil || state != definitions.Present {
			t.Fatal(state, err)
		}
		return string(d.Object)
	}
	granted := func() int {
		t.Helper()
		grants, err := other.SecretGrants(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(grants)
	}
	for _, word := range []string{"first", "second"} {
		b.declare("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: " + word + "}\n")
		for range 2 {
			if got := value(); !strings.Contains(got, word) {
				t.Errorf("after %s it is %s", word, got)
			}
		}
	}
	if n := granted(); n != 0 {
		t.Errorf("%d grants", n)
	}
	b.declare("apiVersion: tiphys.dev/v1alpha1\nkind: SecretGrant\nmetadata: {name: g}\nspec: {to: {repositories: [harbour]}, secrets: [key]}\n")
	for range 2 {
		if n := granted(); n != 1 {
			t.Errorf("%d grants", n)
		}
	}
	if err := b.store.Delete(t.Context(), "user:ada", definitions.OriginAPI, "SecretGrant", "default", "g"); err != nil {
		t.Fatal(err)
	}
	if n := granted(); n != 0 {
		t.Errorf("%d grants after it was deleted", n)
	}
}
