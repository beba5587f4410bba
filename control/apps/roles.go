package apps

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/manifest"
)

// Roles tells what people have by the roles of AppProjects. Its methods are safe for concurrent use.
type Roles struct {
	Definitions definitions.Reader
	Ledger      ledger.Reader
}

// Of gives somebody's membership; nothing for who is in no group. A project that cannot be read gives nobody anything, and takes nothing.
func (r Roles) Of(ctx context.Context, person string) (access.Membership, error) {
	var m access.Membership
	if person == "" {
		return m, nil
	}
	projects, err := definitions.All[manifest.AppProject](ctx, r.Definitions, "")
	if err != nil {
		return m, fmt.Errorf("read the roles of projects: %w", err)
	}
	for _, p := range projects {
		for _, role := range p.Value.Spec.Roles {
			if !slices.Contains(role.Groups, person) {
				continue
			}
			for _, line := range role.Policies {
				if rule, ok := ruleOf(p.Name, role.Name, line); ok {
					m.Rules = append(m.Rules, rule)
				}
			}
		}
	}
	if len(m.Rules) == 0 {
		return m, nil
	}
	m.Applications = map[string]string{}
	for row, err := range ledger.Each(ctx, r.Ledger, ledger.Query{Table: deploy.TableApplication}) {
		if err != nil {
			return access.Membership{}, fmt.Errorf("read applications: %w", err)
		}
		var a deploy.ApplicationRow
		if err := json.Unmarshal(row.Body, &a); err != nil {
			continue // it is nobody's by a role until it can be read
		}
		project := projectOf(a.Spec)
		if slices.ContainsFunc(m.Rules, func(r access.ProjectRule) bool { return r.Project == project }) {
			m.Applications[row.Key] = project
		}
	}
	return m, nil
}

// ruleOf is a line of a role; false for one that does not say what can be given, which was refused when it was declared.
func ruleOf(project, role, line string) (access.ProjectRule, bool) {
	p, err := manifest.ParseProjectPolicy(project, role, line)
	rule := access.ProjectRule{Project: project, Role: role, Kind: "Application", Action: p.Action, Object: p.Object, Deny: p.Deny}
	if p.Logs {
		rule.Kind = access.ApplicationLog
	}
	return rule, err == nil
}
