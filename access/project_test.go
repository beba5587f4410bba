package access_test

import (
	"testing"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/ledger"
)

// The rules are those of Argo CD's projects (https://argo-cd.readthedocs.io/en/stable/user-guide/projects/#project-roles), as docs/security.md says
// what of them is given.
func TestRolesOfProjects(t *testing.T) {
	policy := access.BuiltIn()
	rule := func(kind, action, object string, deny bool) access.ProjectRule {
		return access.ProjectRule{Project: "fleet", Role: "crew", Kind: kind, Action: action, Object: object, Deny: deny}
	}
	applications := map[string]string{"prod/api": "fleet", "prod/web": "fleet", "prod/crown": "palace"}
	for _, c := range []struct {
		what           string
		role           access.Role
		rules          []access.ProjectRule
		verb           access.Verb
		kind, ns, name string
		want           bool
	}{
		{"what a rule allows", "", []access.ProjectRule{rule("Application", "sync", "*", false)}, access.Sync, "Application", "prod", "api", true},
		{"another verb", "", []access.ProjectRule{rule("Application", "sync", "*", false)}, access.Get, "Application", "prod", "api", false},
		{"every verb that can be given", "", []access.ProjectRule{rule("Application", "*", "*", false)}, access.Delete, "Application", "prod", "api", true},
		{"to declare is none of them", "", []access.ProjectRule{rule("Application", "*", "*", false)}, access.Create, "Application", "prod", "api", false},
		{"nor to change", "", []access.ProjectRule{rule("Application", "*", "*", false)}, access.Update, "Application", "prod", "api", false},
		{"another project", "", []access.ProjectRule{rule("Application", "*", "*", false)}, access.Get, "Application", "prod", "crown", false},
		{"an Application that is not there", "", []access.ProjectRule{rule("Application", "*", "*", false)}, access.Get, "Application", "prod", "none", false},
		{"by its name", "", []access.ProjectRule{rule("Application", "get", "ap*", false)}, access.Get, "Application", "prod", "api", true},
		{"by another name", "", []access.ProjectRule{rule("Application", "get", "ap*", false)}, access.Get, "Application", "prod", "web", false},
		{"by namespace and name", "", []access.ProjectRule{rule("Application", "get", "prod/*", false)}, access.Get, "Application", "prod", "web", true},
		{"another kind", "", []access.ProjectRule{rule("Application", "*", "*", false)}, access.Get, "Secret", "prod", "api", false},
		{"a run of that name", "", []access.ProjectRule{rule("ApplicationLog", "get", "*", false)}, access.Get, access.Log, "prod", "api", false},
		{"its log", "", []access.ProjectRule{rule("ApplicationLog", "get", "*", false)}, access.Get, access.ApplicationLog, "prod", "api", true},
		{"a log is not the Application", "", []access.ProjectRule{rule("ApplicationLog", "get", "*", false)}, access.Get, "Application", "prod", "api", false},
		{"a denial beats another rule", "", []access.ProjectRule{rule("Application", "*", "*", false), rule("Application", "sync", "api", true)}, access.Sync, "Application", "prod", "api", false},
		{"and only what it names", "", []access.ProjectRule{rule("Application", "*", "*", false), rule("Application", "sync", "api", true)}, access.Sync, "Application", "prod", "web", true},
		{"a denial beats a role of the server", access.Developer, []access.ProjectRule{rule("Application", "sync", "*", true)}, access.Sync, "Application", "prod", "api", false},
		{"and not of another project", access.Developer, []access.ProjectRule{rule("Application", "sync", "*", true)}, access.Sync, "Application", "prod", "crown", true},
	} {
		id := access.Identity{Actor: "user:ada", Person: "ada", Role: c.role, Member: access.Membership{Rules: c.rules, Applications: applications}}
		if got := policy.Can(id, c.verb, c.kind, c.ns, c.name) == nil; got != c.want {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
	id := access.Identity{Actor: "user:ada", Person: "ada", Member: access.Membership{Rules: []access.ProjectRule{rule("Application", "get", "*", false)}, Applications: applications}}
	for key, want := range map[string]bool{"prod/api": true, "prod/crown": false} {
		if got := policy.Sight(id).Sees(ledger.Row{Table: "application", Key: key}); got != want {
			t.Errorf("%s is seen: %v", key, got)
		}
	}
	if policy.Sight(id).Sees(ledger.Row{Table: "object", Key: "/Secret:prod/x", Owner: "prod/api"}) || policy.Sight(id).Sees(ledger.Row{Table: "run", Key: "prod/api"}) {
		t.Error("a Secret of the Application, or a run of its name, is seen")
	}
	if policy.Some(id, access.Get, "Application") != nil || policy.Some(id, access.Get, "Secret") == nil || policy.Some(id, access.Sync, "Application") == nil {
		t.Error("what lists are asked")
	}
	id.ReadOnly = true
	if id.Member.Rules[0].Action = "*"; policy.Can(id, access.Sync, "Application", "prod", "api") == nil {
		t.Error("a token that may only look syncs")
	}
	other := id
	other.Member.Applications = map[string]string{"prod/api": "palace"}
	if id.Same(other) || !id.Same(id) {
		t.Error("an Application that is of another project now is another right")
	}
}
