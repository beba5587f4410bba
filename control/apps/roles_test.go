package apps_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/control/apps"
	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/ledger"
)

// reads counts what is listed of a ledger.
type reads struct {
	ledger.Ledger
	lists atomic.Int64
}

func (r *reads) List(ctx context.Context, q ledger.Query) ([]ledger.Row, error) {
	r.lists.Add(1)
	return r.Ledger.List(ctx, q)
}

// What the roles of projects give follows what is declared at once, and nothing is listed again for a request.
func TestRolesFollowTheLedger(t *testing.T) {
	w := newWorld(t)
	l := &reads{Ledger: w.ledger}
	roles := apps.NewRoles(definitions.New(l, nil, nil), l)
	project := func(group string) {
		w.define(fmt.Sprintf("{apiVersion: argoproj.io/v1alpha1, kind: AppProject, metadata: {name: fleet}, spec: {sourceRepos: ['*'], destinations: [{server: '*', namespace: '*'}], roles: [{name: crew, groups: [%s], policies: ['p, proj:fleet:crew, applications, get, fleet/*, allow']}]}}", group))
	}
	app := func(name, project string) {
		w.define(fmt.Sprintf("{apiVersion: argoproj.io/v1alpha1, kind: Application, metadata: {name: %s}, spec: {project: %s, source: {repoURL: 'http://h/x.git', path: .}, destination: {server: 'https://kubernetes.default.svc', namespace: prod}}}", name, project))
		w.await("it is on record", func() bool { return w.app(name).Spec.Project == project })
	}
	has := func(person string, want ...string) {
		t.Helper()
		m, err := roles.Of(t.Context(), person)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(m.Applications))); diff != "" {
			t.Errorf("%s: %s", person, diff)
		}
	}
	has("ada")
	project("ada")
	has("ada")
	app("one", "fleet")
	app("two", "default")
	has("ada", "default/one")
	has("grace")
	project("grace")
	has("ada")
	has("grace", "default/one")
	app("two", "fleet")
	has("grace", "default/one", "default/two")
	app("one", "default")
	has("grace", "default/two")
	before := l.lists.Load()
	for range 20 {
		has("grace", "default/two")
		has("ada")
	}
	if n := l.lists.Load() - before; n != 0 {
		t.Errorf("rows were listed %d times", n)
	}
}
