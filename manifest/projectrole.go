package manifest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// ProjectRole is a role of an AppProject: what those who have it may do with the project's Applications. Groups are names of people.
type ProjectRole struct {
	Name        string   `json:"name"`
	Description string   `json:"description,omitempty"`
	Policies    []string `json:"policies,omitempty"`
	Groups      []string `json:"groups,omitempty"`
	// JWTTokens are tokens of the role itself in Argo CD, and are refused: people and robots have tokens of their own.
	JWTTokens []json.RawMessage `json:"jwtTokens,omitempty"`
}

// ProjectPolicy is one line of a [ProjectRole].
type ProjectPolicy struct {
	// Logs says that it is about the logs of Applications, and not about the Applications themselves.
	Logs bool
	// Action is get, sync, delete, or * for all of them.
	Action string
	// Object is a pattern of NAMESPACE/NAME, or of NAME; "*" stands for any text.
	Object string
	Deny   bool
}

// The actions of a policy of a project's role.
const (
	ProjectGet    = "get"
	ProjectSync   = "sync"
	ProjectDelete = "delete"
)

// ParseProjectPolicy reads a line as Argo CD writes it: "p, proj:NAME:ROLE, applications, sync, NAME/*, allow". What cannot be given here is an
// error: another resource, and to declare Applications.
func ParseProjectPolicy(project, role, line string) (ProjectPolicy, error) {
	parts := strings.Split(line, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	if len(parts) != 6 || parts[0] != "p" {
		return ProjectPolicy{}, fmt.Errorf("policy %q: write p, proj:%s:%s, applications, ACTION, %s/NAME, allow or deny", line, project, role, project)
	}
	p := ProjectPolicy{Logs: parts[2] == "logs", Action: parts[3], Deny: parts[5] == "deny"}
	object, of := strings.CutPrefix(parts[4], project+"/")
	switch {
	case parts[1] != "proj:"+project+":"+role:
		return p, fmt.Errorf("policy %q is of %s, and the role is proj:%s:%s", line, parts[1], project, role)
	case !of || object == "":
		return p, fmt.Errorf("policy %q: the object %q is not of the project: write %s/NAME", line, parts[4], project)
	case parts[5] != "allow" && !p.Deny:
		return p, fmt.Errorf("policy %q: end it with allow or deny", line)
	case parts[2] != "applications" && !p.Logs:
		return p, fmt.Errorf("policy %q: a role of a project gives applications and logs here, and not %s", line, parts[2])
	case p.Logs && p.Action != ProjectGet && p.Action != "*":
		return p, fmt.Errorf("policy %q: logs can be got", line)
	case !slices.Contains([]string{ProjectGet, ProjectSync, ProjectDelete, "*"}, p.Action):
		return p, fmt.Errorf("policy %q: a role of a project gives get, sync and delete here, and not %s: who declares Applications has a role of the server", line, p.Action)
	}
	p.Object = object
	return p, nil
}

// maxProjectRoles bounds the roles of a project, and the policies and groups of each.
const maxProjectRoles = 100

// roles checks the roles of a project.
func (c *check) roles(project string, roles []ProjectRole) {
	if len(roles) > maxProjectRoles {
		c.fail("spec.roles", fmt.Sprintf("a project has at most %d roles", maxProjectRoles), "")
		return
	}
	for i, role := range roles {
		path := IndexPath("spec.roles", i)
		if role.Name == "" || strings.ContainsAny(role.Name, ",: ") {
			c.fail(path, fmt.Sprintf("%q is no name of a role", role.Name), "use letters, digits and -")
		}
		if len(role.Policies) > maxProjectRoles || len(role.Groups) > maxProjectRoles {
			c.fail(path, fmt.Sprintf("a role has at most %d policies and groups", maxProjectRoles), "")
			continue
		}
		if len(role.JWTTokens) > 0 {
			c.fail(path+".jwtTokens", "tokens of a role are not supported", "add a robot with tiphys user add NAME --robot, and name it under groups")
		}
		for n, line := range role.Policies {
			p, err := ParseProjectPolicy(project, role.Name, line)
			if err != nil {
				c.fail(IndexPath(path+".policies", n), err.Error(), "")
			} else if p.Action == "*" && !p.Logs {
				c.warn(IndexPath(path+".policies", n), "* gives get, sync and delete: who declares Applications has a role of the server", "")
			}
		}
	}
}
