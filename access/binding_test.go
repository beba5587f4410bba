package access

import (
	"testing"

	"github.com/tiphys/tiphys/failure"
)

// A role counts where it was given and nowhere else, and one role does not take away what another gives.
func TestRolesCountWhereTheyWereGiven(t *testing.T) {
	p := BuiltIn()
	bind := func(texts ...string) Identity {
		var all []Binding
		for _, text := range texts {
			b, err := ParseBinding(text)
			if err != nil {
				t.Fatal(err)
			}
			if b.String() != text {
				t.Errorf("%q is written %q", text, b)
			}
			all = append(all, b)
		}
		id := Identity{Actor: "user:ada", Verified: true}
		id.Role, id.Bindings = Split(all)
		return id
	}
	for _, c := range []struct {
		who                   Identity
		verb                  Verb
		kind, namespace, name string
		want                  bool
	}{
		{bind("developer@shop"), Create, "Application", "shop", "web", true},
		{bind("developer@shop"), Create, "Application", "lab", "web", false},
		{bind("developer@shop"), Get, "Application", "lab", "web", false},
		{bind("developer@shop"), Get, "Secret", "shop", "k", true},
		{bind("developer@shop"), Create, "Secret", "shop", "k", false},
		{bind("developer@shop"), Create, Repository, "", "shop", false},
		{bind("developer@shop"), Get, Ledger, "", "", false},
		{bind("developer@shop-*"), Create, Run, "shop-eu", "", true},
		{bind("developer@shop-*"), Create, Run, "shop", "", false},
		{bind("admin@shop"), Create, "Secret", "shop", "k", true},
		{bind("admin@shop"), Update, Server, "", "", false},
		{bind("admin@shop"), Create, User, "", "eve", false},
		{bind("admin@*"), Update, Server, "", "", false},
		{bind("viewer", "admin@shop"), Get, "Secret", "shop", "k", true}, // what a viewer is denied the other role gives
		{bind("viewer", "admin@shop"), Get, "Secret", "lab", "k", false},
		{bind("viewer", "developer@repository:team/*"), Update, Repository, "", "team/web", true},
		{bind("viewer", "developer@repository:team/*"), Update, Repository, "", "web", false},
		{bind("viewer", "developer@repository:team/*"), Update, MergeRequest, "", "team/web!7", true},
		{bind("viewer", "developer@repository:web"), Update, MergeRequest, "", "webshop!7", false},
		{bind("developer@repository:web"), Update, Image, "", "web/api@latest", true},
		{bind("developer@repository:web"), Update, Image, "", "web@sha256:0", true},
		{bind("developer@repository:web"), Update, Image, "", "webshop/api@latest", false},
		{bind("developer@repository:web"), Create, Run, "web", "", false},
		{bind("developer@repository:web"), Update, Repository, "", "", false},
		{bind("developer"), Get, User, "", "eve", false},
		{bind("viewer"), Get, User, "", "eve", false},
		{bind("admin"), Create, User, "", "eve", true},
	} {
		if err := p.Can(c.who, c.verb, c.kind, c.namespace, c.name); (err == nil) != c.want || err != nil && !failure.Is(err, failure.Refused) {
			t.Errorf("%s %v: %s %s %s/%s: %v, want %t", c.who.Role, c.who.Bindings, c.verb, c.kind, c.namespace, c.name, err, c.want)
		}
	}
	for _, wrong := range []string{"", "root", "developer@", "developer@repository:", "developer@a@b", "developer@a/b", "developer@a b", "step", "@shop"} {
		if b, err := ParseBinding(wrong); !failure.Is(err, failure.Invalid) {
			t.Errorf("%q is %+v, %v", wrong, b, err)
		}
	}
	for namespace, want := range map[string]Role{"shop": Admin, "lab": Viewer, "": Viewer} {
		if got := bind("viewer", "developer@*p", "admin@shop").RoleIn(namespace); got != want {
			t.Errorf("in %q the role is %q, want %q", namespace, got, want)
		}
	}
}

// A token is worth its scopes at each door, and no more.
func TestScopes(t *testing.T) {
	doors := []Door{DoorAPI, DoorGit, DoorImages, DoorMetrics}
	for scope, want := range map[string]string{ // by door: w may write, r may look, - is refused
		"": "wwww", "all": "wwww", "read": "rrrr", "git": "-w--", "images": "--w-", "metrics": "---w", "nonsense": "----",
	} {
		id := Identity{Actor: "user:ada", Role: Developer}
		if scope != "" {
			id.Only = []Scope{Scope(scope)}
		}
		got := ""
		for _, d := range doors {
			at, err := id.At(d)
			switch {
			case err != nil:
				got += "-"
				if at.Role != "" {
					t.Errorf("%s at door %d: a refused identity has a role", scope, d)
				}
			case BuiltIn().Can(at, Update, Repository, "", "x") == nil:
				got += "w"
			case BuiltIn().Can(at, Get, Repository, "", "x") == nil && BuiltIn().Some(at, Create, Self) != nil:
				got += "r"
			}
		}
		if got != want {
			t.Errorf("scope %q: %s, want %s", scope, got, want)
		}
	}
	both, err := Identity{Role: Developer, Only: []Scope{ScopeRead, ScopeGit}}.At(DoorAPI)
	if err != nil || !both.ReadOnly {
		t.Errorf("read and git at the API: %+v %v", both, err)
	}
	if err := CheckScopes([]Scope{"nonsense"}); !failure.Is(err, failure.Invalid) {
		t.Error(err)
	}
	if err := CheckScopes(nil); !failure.Is(err, failure.Invalid) {
		t.Error(err)
	}
}
