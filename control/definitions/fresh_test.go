package definitions_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tiphys/tiphys/control/definitions"
)

// What a commit declared is seen by whoever it wakes, whether or not the one who wrote it has been told yet.
func TestWhoIsWokenByACommitSeesIt(t *testing.T) {
	b := open(t)
	text := func(n int) string {
		return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: word-%d-}\n", n)
	}
	b.declare(text(0))
	for n := 1; n < 200; n++ {
		woken := b.ledger.Changed()
		declared := make(chan error, 1)
		go func() {
			_, err := b.store.Apply(t.Context(), "user:ada", definitions.OriginAPI, objectsOf(t, text(n)))
			declared <- err
		}()
		if _, _, err := b.store.Look(t.Context(), "ConfigMap", "default", "c"); err != nil { // as it was, which is kept
			t.Fatal(err)
		}
		<-woken
		d, _, err := b.store.Look(t.Context(), "ConfigMap", "default", "c")
		if err != nil || !strings.Contains(string(d.Object), fmt.Sprintf("word-%d-", n)) {
			t.Fatalf("after change %d it is %s %v", n, d.Object, err)
		}
		if err := <-declared; err != nil {
			t.Fatal(err)
		}
	}
}

// The grants that are kept follow the ledger: another handle of it is never told.
func TestGrantsThatAreKeptFollowTheLedger(t *testing.T) {
	b := open(t)
	other := definitions.New(b.ledger, nil, nil)
	granted := func() int {
		t.Helper()
		grants, err := other.SecretGrants(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(grants)
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
