package manifest_test

import (
	"strings"
	"testing"

	"github.com/tiphys/tiphys/manifest"
)

// A policy that cannot be given is refused with its place, and not passed over: whoever wrote it counts on it.
func TestRolesOfAProject(t *testing.T) {
	for role, want := range map[string]string{
		`{name: crew, policies: ["p, proj:fleet:crew, applications, sync, fleet/*, allow"], groups: [ada]}`:            "",
		`{name: crew, policies: ["p,proj:fleet:crew,applications,get,fleet/prod/api,deny"]}`:                           "",
		`{name: crew, policies: ["p, proj:fleet:crew, logs, get, fleet/*, allow"]}`:                                    "",
		`{name: crew, policies: ["p, proj:fleet:crew, applications, *, fleet/*, allow"]}`:                              "warning: * gives get, sync and delete",
		`{name: crew, policies: ["p, proj:fleet:other, applications, sync, fleet/*, allow"]}`:                          "error: policy",
		`{name: crew, policies: ["p, proj:palace:crew, applications, sync, fleet/*, allow"]}`:                          "error: policy",
		`{name: crew, policies: ["p, proj:fleet:crew, applications, sync, palace/*, allow"]}`:                          "is not of the project",
		`{name: crew, policies: ["p, proj:fleet:crew, applications, sync, fleet, allow"]}`:                             "is not of the project",
		`{name: crew, policies: ["p, proj:fleet:crew, applications, sync, */*, allow"]}`:                               "is not of the project",
		`{name: crew, policies: ["p, proj:fleet:crew, applications, create, fleet/*, allow"]}`:                         "gives get, sync and delete here, and not create",
		`{name: crew, policies: ["p, proj:fleet:crew, applications, action/apps/Deployment/restart, fleet/*, allow"]}`: "and not action/apps",
		`{name: crew, policies: ["p, proj:fleet:crew, repositories, get, fleet/*, allow"]}`:                            "and not repositories",
		`{name: crew, policies: ["p, proj:fleet:crew, logs, delete, fleet/*, allow"]}`:                                 "logs can be got",
		`{name: crew, policies: ["p, proj:fleet:crew, applications, sync, fleet/*, maybe"]}`:                           "end it with allow or deny",
		`{name: crew, policies: ["g, ada, proj:fleet:crew"]}`:                                                          "write p, proj:fleet:crew",
		`{name: crew, jwtTokens: [{iat: 1535390316}]}`:                                                                 "tokens of a role are not supported",
		`{name: "a b"}`: "is no name of a role",
	} {
		objects, diags := manifest.Decode("p.yaml", []byte("apiVersion: argoproj.io/v1alpha1\nkind: AppProject\nmetadata: {name: fleet}\nspec:\n  roles:\n  - "+role+"\n"))
		if len(objects) == 1 {
			found, _ := manifest.Check(objects[0])
			diags = append(diags, found...)
		}
		var said []string
		for _, d := range diags {
			if d.Position.Line != 6 {
				t.Errorf("%s: %v has no place", role, d)
			}
			said = append(said, string(d.Severity)+": "+d.Message)
		}
		if all := strings.Join(said, "; "); (want == "") != (all == "") || !strings.Contains(all, want) {
			t.Errorf("%s: %q, want %q", role, all, want)
		}
	}
}
